"""Policies compared: exactly, on problems that nothing was fitted on, with intervals, at equal mean cost.

    from planners import comparison, tree

    rooms = tree.load("trees/rooms")
    found = comparison.compare(rooms, {"mine": pi, "learned": [pi_0, pi_1, pi_2]}, by="form")
    print(found)
    found.write("comparison/")

`ground` says what is compared on, `entrants` who is, `fitting` and `until_sure` fit the baselines, `training`
trains learned policies on the same problems, `standings` evaluates, `mixtures` makes fixed schedules of any
mean cost, `measures` has the intervals, `figures` all that is told, `result` holds it. `logged` and
`off_policy` estimate what a policy is worth from runs of another one. See docs/comparing.md.
"""

from __future__ import annotations

from planners.comparison.comparing import compare
from planners.comparison.entrants import Entrant
from planners.comparison.ground import Ground
from planners.comparison.mixtures import Mixtures, mixtures
from planners.comparison.result import AtCost, Comparison, Regret, Row
from planners.comparison.training import Training
from planners.tree.split import split

__all__ = [
    "AtCost",
    "Comparison",
    "Entrant",
    "Ground",
    "Mixtures",
    "Regret",
    "Row",
    "Training",
    "compare",
    "mixtures",
    "split",
]
