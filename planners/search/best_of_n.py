"""Best of N: several unrollings, each independent of the others, and the most trusted answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from planners.search.ground import Calls, Found, Ground, Ledger, Place, Search
from unroller.faults import PlanError

TRIES = 20
"""Random unrollings that are drawn for each that is wanted, at most: few actions have few orders."""


class BestOfN(Search):
    """n unrollings are tried and the most trusted kept.

    calls: what each of them does, with another sample of whatever is stochastic; None: n different random
    sequences of the executor's actions, the bare answer among them. depth: calls at most in those. seed: of
    the choice among them. score, weight, price: see `Search`.
    """

    name = "best_of_n"

    def __init__(
        self,
        n: int = 4,
        calls: Sequence[str] | None = None,
        depth: int = 3,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if n < 1 or depth < 0:
            raise PlanError(f"n={n}, depth={depth}: n is 1 or more, and a depth 0 or more")
        self.n = n
        self.calls = None if calls is None else tuple(calls)
        self.depth = depth
        self.seed = seed

    def choose(self, ground: Ground) -> list[Found]:
        ledger = Ledger(self, ground)
        roots = [Place(i) for i in range(ground.count)]
        ledger.look(roots)
        if self.calls is None:
            wanted = [self._random(root, ground.actions) for root in roots]
        else:
            wanted = [[(self.calls, sample) for sample in range(self.n)] for _ in roots]
        # One call after the other, as far as each is allowed where it comes.
        going = [(root, calls, sample) for root in roots for calls, sample in wanted[root.problem]]
        ended: list[list[Place]] = [[] for _ in roots]
        while going:
            further = [(_next(place, rest, sample, ledger), place) for place, rest, sample in going]
            for step, place in further:
                if step is None:
                    ended[place.problem].append(place)
            ledger.look([step[0] for step, _ in further if step is not None])
            samples = [sample for _, _, sample in going]
            going = [(*step, k) for (step, _), k in zip(further, samples, strict=True) if step is not None]
        return [self._best(i, places, ledger) for i, places in enumerate(ended)]

    def _random(self, root: Place, actions: Calls) -> list[tuple[Calls, int]]:
        """n different sequences, the empty one first."""
        rng = np.random.default_rng([0xBE57, self.seed % 2**63, root.problem])
        found: dict[Calls, None] = {(): None}
        for _ in range(TRIES * self.n):
            if len(found) >= self.n:
                break
            length = int(rng.integers(1, min(self.depth, len(actions)) + 1)) if actions and self.depth else 0
            found[tuple(str(a) for a in rng.permutation(list(actions))[:length])] = None
        return [(calls, 0) for calls in found]

    def _best(self, i: int, places: list[Place], ledger: Ledger) -> Found:
        best = min(places, key=lambda p: (-round(ledger.value(p), 12), len(p.calls)))
        return Found(best, ledger.value(best), ledger.charged[i], len(ledger.seen[i]))


def _next(place: Place, rest: Calls, sample: int, ledger: Ledger) -> tuple[Place, Calls] | None:
    """The place after the next call that is allowed, and what is left to call; None at the end."""
    allowed = ledger.at(place).allowed
    for k, name in enumerate(rest):
        if name in allowed:
            return Place(place.problem, (*place.calls, name), sample), rest[k + 1 :]
    return None
