"""The oracle on the held-out problems: for each the schedule that is best for it, known beforehand.

Cross-fitted: chosen by one half of a problem's draws, scored on the other half. Where draws are few, and what
is sampled makes scores jump, a half says little of which schedule is best, and such an oracle may do worse
than one schedule for all: that says nothing of the room there is. So a second one chooses by a *shrunk*
value,

    a · value in the half  +  (1 - a) · mean value in the problem's group

with a from a grid, the best on the problems to fit on, which the means are of as well. It is cross-fitted
like the first, credited with no luck, and closer to what knowing each problem's best schedule is worth; with
a = 1 it is the first, with a = 0 the best fixed schedule of the group.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from planners.comparison.ground import Ground
from planners.comparison.standings import Standing
from planners.tree import oracle, schedules
from planners.tree.fixed import Schedules, check_weight
from planners.tree.oracle import Oracle

Array = np.ndarray[Any, Any]

SHRUNK = "oracle, shrunk"
SHARES = tuple(np.linspace(0, 1, 21).tolist())

NOTE = (
    "each problem's schedule was chosen by one half of its draws, shrunk towards the mean of its group, and"
    " scored on the other half: what is lost to few draws is less, and nobody is credited with luck"
)


def oracles(ground: Ground, weight: float) -> list[Standing]:
    """The oracle at λ = `weight`, and the shrunk one where draws can be held against each other. Raises
    TreeError for λ below 0."""
    check_weight(weight)
    found = [_plain(ground, weight)]
    shrunk = _shrunk(ground, weight)
    return found if shrunk is None else [*found, shrunk]


def _plain(ground: Ground, weight: float) -> Standing:
    parts: list[tuple[Array, Array, Array]] = []
    said: list[Oracle] = []
    for tree, _, rows in ground.compared():
        if len(rows):
            own = schedules(tree, ground.price)
            found = Schedules(*(getattr(own, name)[rows] for name in Schedules.__struct_fields__))
            best = oracle(tree, weight=weight, price=ground.price, found=found, resamples=1)
            parts.append(
                (best.scores, _crossed(found.hard, best.chosen), _crossed(found.charged, best.chosen))
            )
            said.append(best)
    one = next((one for one in said if one.optimistic), said[0])
    return _standing(f"oracle, {one.kind}", weight, parts, one.note)


def _shrunk(ground: Ground, weight: float) -> Standing | None:
    """None where a tree has one draw, or draws that are all the same."""
    parts = [_Part(ground, weight, *which) for which in zip(ground.fitting(), ground.compared(), strict=True)]
    if not all(part.differs for part in parts):
        return None
    totals = [sum(part.worth(share) for part in parts) for share in SHARES]
    share = SHARES[int(np.argmax(totals))]
    note = f"{NOTE}; a = {share:.2f}"
    return _standing(SHRUNK, weight, [part.scored(share) for part in parts if len(part.out)], note)


class _Part:
    """One tree: what its schedules are worth in each half of the draws, and usually."""

    def __init__(self, ground: Ground, weight: float, fitting: Any, compared: Any) -> None:
        tree, first, self.fit = fitting
        self.out: Array = compared[2]
        self.tables = schedules(tree, ground.price)
        self.value = self.tables.score - weight * self.tables.cost  # (n, D, S)
        self.differs = tree.draws > 1 and bool((self.tables.score != self.tables.score[:, :1]).any())
        self.halves = _halves(self.value)
        columns = [ground.schedules.index(state) for state in tree.states]
        self.usual = _usual(ground, weight)[first : first + len(tree)][:, columns]

    def chosen(self, rows: Array, share: float) -> Array:
        """(R, 2) the schedule that each half chooses for these problems."""
        shrunk = share * self.halves[rows] + (1 - share) * self.usual[rows, None]  # (R, 2, S)
        return np.round(shrunk, 12).argmax(2)

    def worth(self, share: float) -> float:
        """The sum over the problems to fit on."""
        return float(_crossed(self.value[self.fit], self.chosen(self.fit, share)).sum())

    def scored(self, share: float) -> tuple[Array, Array, Array]:
        """score, hard (R,), charged (R, 3) of the problems that are held out."""
        chosen, of = self.chosen(self.out, share), self.tables
        score, hard, charged = (
            _crossed(table[self.out], chosen) for table in (of.score, of.hard, of.charged)
        )
        return score, hard, charged


def _halves(table: Array) -> Array:
    """(n, 2, S) the means over every other draw; of one draw, that one twice."""
    return np.stack([table[:, ::2].mean(1), (table[:, 1::2] if table.shape[1] > 1 else table).mean(1)], 1)


def _usual(ground: Ground, weight: float) -> Array:
    """(N, K) what each schedule is worth in the problem's group, by the problems to fit on; of a group that
    has none of them, in all."""
    worth, fit = ground.score - weight * ground.cost, ~ground.held_out
    found = np.empty_like(worth)
    for label in np.unique(ground.labels):
        own = ground.labels == label
        found[own] = worth[own & fit if (own & fit).any() else fit].mean(0)
    return found


def _crossed(table: Array, chosen: Array) -> Array:
    """(R, …) the mean of `table` (R, D, S, …) in what each half of the draws chose, (R, 2), on the other
    half; of one choice, (R, 1), on all draws."""
    rows = np.arange(len(table))
    if chosen.shape[1] == 1:
        return table.mean(1)[rows, chosen[:, 0]]
    others = table[:, 1::2].mean(1), table[:, ::2].mean(1)
    return (others[0][rows, chosen[:, 0]] + others[1][rows, chosen[:, 1]]) / 2


def _standing(name: str, weight: float, parts: list[tuple[Array, Array, Array]], note: str) -> Standing:
    scores, hards, charges = (np.concatenate(each)[None] for each in zip(*parts, strict=True))
    return Standing(name, "oracle", weight, scores, hards, charges, None, note=note)
