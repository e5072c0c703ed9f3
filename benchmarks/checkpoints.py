"""What unroller adds to a checkpoint's own calls, and what it saves: a Llava of 26 M random parameters.

    python benchmarks/checkpoints.py [--quick] [--json PATH]

*Share*: thinking and an answer for problems one by one and 16 together. Processor time is counted in three
parts: the model's own forward passes, the rest of the backend (pictures, tokens, templates, which a script
has as well), and unroller outside the backend.

*Memory*: four steps of thinking over a context of some 2,000 tokens, once with the keys and values of what
was read kept, once without.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Contender, Race, Report, arguments

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from tiny.chat_models import llava, saved

from primitives.backends.hf_vlm import HFVLM
from unroller import Call, Executor, Problem

WRITTEN = 16
KEPT, AFRESH = "kept", "read again"


def checkpoint(folder: Path) -> Path:
    """Sizes between a toy and a model that takes minutes here."""
    from transformers import LlavaForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()

    small, parts = llava(longest=4096)
    config: Any = small.config
    sizes = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "head_dim": 64}
    for name, value in (sizes | {"num_attention_heads": 8, "num_key_value_heads": 4}).items():
        setattr(config.text_config, name, value)
    return saved(folder, (LlavaForConditionalGeneration(config), parts))


def problem(seed: int, words: int = 30) -> Problem:
    rng = np.random.default_rng(seed)
    photos = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(2)]
    question = " ".join(rng.choice(["red", "cone", "left", "behind", "photo", "where", "is", "the"], words))
    return Problem.spatial(*photos, question=question, choices=["left", "right", "behind"])


class Clock:
    """Processor time inside functions that it was put around; inner calls of the same clock count once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def around(self, owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            begun = time.process_time()
            try:
                return inner(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.process_time() - begun

        setattr(owner, name, timed)


def shares(folder: Path, together: int, rounds: int) -> dict[str, float]:
    """Percent of processor time, over `rounds` maps of `together` problems that were never seen."""
    backend = HFVLM(folder, device="cpu", dtype="float32", max_batch=16)
    executor = Executor(backend=backend, policy=[Call("text_think", {"max_tokens": WRITTEN})], memo=None)
    list(executor.map([problem(k) for k in range(together)]))  # loads, and warms up
    forward, inside = Clock(), Clock()
    forward.around(backend.reader.chat.model, "forward")
    for name in ("generate_text", "score_answers"):
        inside.around(backend, name)
    many = [[problem(1000 + r * together + k) for k in range(together)] for r in range(rounds)]
    begun = time.process_time()
    for problems in many:
        assert all(run.output is not None for run in executor.map(problems))
    total = time.process_time() - begun
    return {
        "model": 100 * forward.seconds / total,
        "the backend's rest": 100 * (inside.seconds - forward.seconds) / total,
        "unroller outside it": 100 * (1 - inside.seconds / total),
    }


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    report = Report("checkpoints", "A chat model's own calls, and unroller around them", options.quick)
    with tempfile.TemporaryDirectory() as made:
        folder = checkpoint(Path(made))
        rows = {f"{n} together": shares(folder, n, (2 if options.quick else 6) * 16 // n) for n in (1, 16)}
        report.facts("share", "Share of processor time, %", rows)
        for name, row in rows.items():
            report.target(f"unroller's own share, {name}", 3, row["unroller outside it"], "%")
        _memory(report, folder, options.quick)
    report.finish(options.json, ["torch", "transformers", "unroller"])


def _memory(report: Report, folder: Path, quick: bool) -> None:
    calls = [Call("text_think", {"max_tokens": WRITTEN})] * 4
    backends = {KEPT: HFVLM(folder, device="cpu", dtype="float32")}
    backends[AFRESH] = HFVLM(folder, device="cpu", dtype="float32", max_bytes=0)
    long = iter(problem(seed, words=1500) for seed in range(10_000))

    def contender(name: str) -> Contender:
        executor = Executor(backend=backends[name], policy=calls, memo=None)
        return Contender(name, executor.run, lambda: next(long), 4, repeat=1)

    race = Race(2, 10) if quick else Race(7, 60)
    timings = race([contender(KEPT), contender(AFRESH)])
    report.section(
        "memory", "Four steps of thinking and an answer, each over ~2,000 tokens", timings, "ms/step"
    )
    faster = timings[AFRESH].times(timings[KEPT])
    report.target("keys and values kept against read again", 2, faster, "times", at_least=True)
    x = next(long)
    spent = {
        name: Executor(backend=held, policy=calls, memo=None).run(x).spent.reading
        for name, held in backends.items()
    }
    rows = {
        name: {"prefilled": r.prefilled, "found again": r.reused, "written": r.written}
        for name, r in spent.items()
    }
    report.facts("tokens", "Tokens of one such run", rows)


if __name__ == "__main__":
    main()
