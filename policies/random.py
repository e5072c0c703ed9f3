"""Random unrolling: the exploration baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from policies.saved import Saveable
from policies.schedules import ORACLES, is_one_of
from unroller.decide import STOP, Call, Decided, Decision, State


class RandomPolicy(Saveable):
    """Calls a uniformly drawn allowed action, or stops with probability `stop`, and says how likely that
    was.

    It is a function of the state: drawn from the problem's content and seed, the step, and `seed`, so that
    a run can be resumed and replayed. without: patterns of names never to draw; oracles know the truth.
    """

    name = kind = "random"
    probes: tuple[str, ...] = ()

    def __init__(self, stop: float = 0.25, seed: int = 0, without: Sequence[str] = ORACLES) -> None:
        if not 0 < stop <= 1:
            raise ValueError(f"stop is a probability above 0, not {stop}: at 0 it would never stop")
        self.stop = float(stop)
        self.seed = int(seed)
        self.without = (without,) if isinstance(without, str) else tuple(map(str, without))

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [self._draw(state) for state in states]

    def distribution(self, states: Sequence[State]) -> list[list[Decision]]:
        """For each state all that it might decide, with log-probabilities."""
        return [self._all(self._allowed(state)) for state in states]

    def _all(self, allowed: Sequence[str]) -> list[Decision]:
        if not allowed:
            return [Decision(log_probability=0.0)]
        stop = Decision(STOP.calls, math.log(self.stop))
        if self.stop == 1:
            return [stop]
        each = math.log((1 - self.stop) / len(allowed))
        return [stop, *(Decision((Call(name),), each) for name in allowed)]

    def _allowed(self, state: State) -> list[str]:
        return [name for name in state.allowed if not is_one_of(name, self.without)]

    def _draw(self, state: State) -> Decision:
        allowed = self._allowed(state)
        if not allowed:
            return Decision(log_probability=0.0)
        key = int.from_bytes(state.problem.identity, "big")
        rng = np.random.default_rng([key, self.seed & (2**64 - 1), state.step])
        if rng.random() < self.stop:
            return Decision(STOP.calls, math.log(self.stop))
        chosen = allowed[int(rng.integers(len(allowed)))]
        return Decision((Call(chosen),), math.log((1 - self.stop) / len(allowed)))

    def _settings(self) -> dict[str, Any]:
        return {"stop": self.stop, "seed": self.seed, "without": list(self.without)}
