"""The work that every contender does, so that only the machinery around it differs.

Three pieces: a step that costs nothing (``successor``), a model call that costs what a small served
model costs (``SerialModel``), and a tensor that is expensive to copy (``tensor``). Starting points
are never handed out twice (``starts``): whoever remembers results has nothing to remember, so what
is timed is a computed step and not a look-up.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Think = Callable[[Any], Any]
"""One step: the newest value of the context in, the next value out."""

MEBIBYTE = 1024 * 1024


def successor(text: str) -> str:
    """The trivial step: read the newest text, write the number that follows it.

    Counting makes the work checkable: ``n`` steps from ``"100"`` end at ``str(100 + n)``, so a
    contender that skips, repeats or forgets a step is caught (see ``expect``).
    """
    return str(int(text) + 1)


_starts: Iterator[int] = itertools.count(1_000_000, 10_000)


def starts() -> str:
    """A starting text that no run of this process has had, 10,000 numbers away from the last."""
    return str(next(_starts))


def expect(start: str, steps: int, end: str) -> None:
    """Raise unless ``end`` is what ``steps`` real steps make of ``start``."""
    if end != str(int(start) + steps):
        raise AssertionError(f"{steps} steps from {start} must end at {int(start) + steps}: {end}")


class SerialModel:
    """A stand-in for a served model: one call at a time, ``base_s + each_s * samples`` seconds.

    The wait is a busy one under a lock: a model on one device takes its calls one after the other,
    and ``time.sleep`` is too coarse for tens of microseconds. It also keeps the interpreter busy,
    so an engine gets no free time behind the model's back. It waits for processor time, so that a
    call costs the same whoever else uses the machine.
    """

    def __init__(self, base_s: float = 1e-3, each_s: float = 10e-6) -> None:
        self.base_s, self.each_s = base_s, each_s
        self.batches: list[int] = []  # size of each call, in order
        self._one_at_a_time = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> list[str]:
        with self._one_at_a_time:
            until = time.thread_time() + self.base_s + self.each_s * len(texts)
            self.batches.append(len(texts))
            answers = [successor(text) for text in texts]
            while time.thread_time() < until:
                pass
        return answers

    def one(self, text: str) -> str:
        """The same model for a framework that hands over one sample at a time."""
        return self([text])[0]

    @property
    def calls(self) -> int:
        """How many calls the model took."""
        return len(self.batches)

    def fill(self, max_batch: int) -> float:
        """Mean share of ``max_batch`` that a call carried, 0 to 1; 0.0 before the first call."""
        return sum(self.batches) / (len(self.batches) * max_batch) if self.batches else 0.0


def tensor(mebibytes: int = 12, seed: int = 0) -> np.ndarray:
    """``(mebibytes * 256, 1024)`` float32 of noise: nothing can compress it to look good."""
    noise = np.random.default_rng(seed).standard_normal((mebibytes * 256, 1024), dtype=np.float32)
    assert noise.nbytes == mebibytes * MEBIBYTE
    return noise
