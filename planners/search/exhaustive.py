"""Every unrolling: what the other searches are measured against."""

from __future__ import annotations

from typing import Any

from planners.search.beam import Beam
from planners.search.ground import Found, Ground
from unroller.faults import PlanError

MOST = 5_000


class Exhaustive(Beam):
    """Every sequence of up to `depth` allowed calls is tried, and the most trusted kept: a beam without an
    end to its width. Raises PlanError where that is more than 5,000 a problem."""

    name = "exhaustive"

    def __init__(self, depth: int = 3, **options: Any) -> None:
        super().__init__(width=MOST, depth=depth, **options)

    def choose(self, ground: Ground) -> list[Found]:
        from math import perm

        most = min(self.depth, len(ground.actions))
        count = sum(perm(len(ground.actions), length) for length in range(most + 1))
        if count > MOST:
            raise PlanError(
                f"{len(ground.actions)} actions to a depth of {most} make {count:,} unrollings a problem:"
                " choose fewer primitives or a smaller depth, or search with beam or monte_carlo"
            )
        return super().choose(ground)
