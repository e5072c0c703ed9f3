"""Beam search: the few most trusted places of each length go on."""

from __future__ import annotations

from typing import Any

from planners.search.ground import Found, Ground, Ledger, Place, Search
from unroller.faults import PlanError


class Beam(Search):
    """From each of the `width` most trusted places, every call that is allowed is tried, to `depth` calls.
    What is trusted most of all that was tried is kept, the bare answer included.

    score, weight, price: see `Search`.
    """

    name = "beam"

    def __init__(self, width: int = 2, depth: int = 3, **options: Any) -> None:
        super().__init__(**options)
        if width < 1 or depth < 0:
            raise PlanError(f"width={width}, depth={depth}: a beam is 1 or more wide, 0 or more calls deep")
        self.width = width
        self.depth = depth

    def choose(self, ground: Ground) -> list[Found]:
        ledger = Ledger(self, ground)
        beams = [[Place(i)] for i in range(ground.count)]
        ledger.look([place for beam in beams for place in beam])
        for _ in range(self.depth):
            grown = [
                [Place(p.problem, (*p.calls, name)) for p in beam for name in ledger.at(p).allowed]
                for beam in beams
            ]
            ledger.look([place for several in grown for place in several])
            beams = [sorted(several, key=lambda p: -ledger.value(p))[: self.width] for several in grown]
        return [ledger.best(i) for i in range(ground.count)]
