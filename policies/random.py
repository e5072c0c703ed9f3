"""Random unrolling: the exploration baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unroller.decide import STOP, Call, Decided, Decision, State


class RandomPolicy:
    """Calls a uniformly drawn allowed action, or stops with probability `stop`, and says how likely that
    was.

    It is a function of the state: drawn from the problem's content and seed, the step, and `seed`, so that
    a run can be resumed and replayed.
    """

    name = "random"
    probes: tuple[str, ...] = ()

    def __init__(self, stop: float = 0.25, seed: int = 0) -> None:
        if not 0 < stop <= 1:
            raise ValueError(f"stop is a probability above 0, not {stop}: at 0 it would never stop")
        self.stop = stop
        self.seed = seed

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [self._draw(state) for state in states]

    def _draw(self, state: State) -> Decision:
        allowed = state.allowed
        if not allowed:
            return Decision(log_probability=0.0)
        key = int.from_bytes(state.problem.identity, "big")
        rng = np.random.default_rng([key, self.seed & (2**64 - 1), state.step])
        if rng.random() < self.stop:
            return Decision(STOP.calls, float(np.log(self.stop)))
        chosen = allowed[int(rng.integers(len(allowed)))]
        likelihood = (1 - self.stop) / len(allowed)
        return Decision((Call(chosen),), float(np.log(likelihood)))
