"""The oracle: for each problem the schedule that is best for it, known beforehand.

A *naive* oracle, which picks the best of what was drawn and is scored on the same draws, is fake as soon as
scores hold any luck: over single binary draws it can show 100 % where knowing the truth about each problem
gives 64 %. So the schedule is *cross-fitted*: chosen by one half of a problem's draws and scored on the
other half, then the other way round.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

from planners.tree.complete import CompleteTree
from planners.tree.fixed import Schedules, check_weight, schedules
from planners.tree.pricing import Price
from unroller.ablation.bootstrap import RESAMPLES, Estimate, estimate, resampled_means

Array = np.ndarray[Any, Any]
Kind = Literal["cross-fitted", "naive"]

CROSS_FITTED = (
    "each problem's schedule was chosen by one half of its draws and scored on the other half: what knowing"
    " each problem's best schedule beforehand would be worth; a little pessimistic where draws are few, since"
    " half of them choose"
)
ONE_DRAW = (
    "there is one draw, so each problem's schedule was chosen and scored on the same answer: exact for these"
    " very contexts, and an optimistic bound on what any policy can reach; build the tree with --draws and a"
    " temperature above 0 to cross-fit it"
)
SAME_DRAWS = (
    "all draws are the same, so halves of them are no check on each other: as with one draw, each problem's"
    " schedule was chosen and scored on the same answer, an optimistic bound on what any policy can reach"
)


class Oracle(msgspec.Struct, frozen=True):
    """The best schedule of each problem. kind, optimistic, note: what it is, and whether it flatters.

    score, hard, cost: with 95 % intervals over problems; naive: the score of the naive oracle on the same
    draws. scores, costs (n,): a problem. chosen (n, halves): the number of the state that each half chose.
    """

    kind: Kind
    optimistic: bool
    note: str
    n: int
    score: Estimate
    hard: Estimate | None
    cost: Estimate
    naive: Estimate
    scores: Array
    costs: Array
    chosen: Array


def oracle(
    tree: CompleteTree,
    *,
    weight: float = 0.0,
    price: Price = "model_calls",
    resamples: int = RESAMPLES,
    seed: int = 0,
    found: Schedules | None = None,
) -> Oracle:
    """The cross-fitted oracle over the tree's schedules; of equal ones the cheapest is chosen.

    weight: what one unit of cost is worth in score. With one draw, or draws that are all the same, there is
    nothing to cross-fit: the naive oracle is returned and says so (`kind`, `optimistic`, `note`): with soft
    scores it is exact for the contexts that were written, but it knows the answer, so it bounds every
    policy from above and most of it may be out of reach. Raises TreeError for a negative weight.
    """
    check_weight(weight)
    found = schedules(tree, price) if found is None else found
    n, draws, _ = found.score.shape
    every = np.arange(draws)
    same = draws > 1 and bool((found.score == found.score[:, :1]).all())
    naive_chosen = _best(found, every, weight)
    naive_scores = _taken(found.score, naive_chosen, every)
    if draws == 1 or same:
        halves, kind = [(every, every)], "naive"
        note = SAME_DRAWS if same else ONE_DRAW
    else:
        a, b = every[::2], every[1::2]
        halves, kind, note = [(a, b), (b, a)], "cross-fitted", CROSS_FITTED
    chosen = np.stack([_best(found, one, weight) for one, _ in halves], -1)
    parts = list(zip(chosen.T, (other for _, other in halves), strict=True))

    def mean(table: Array) -> Array:
        return np.mean([_taken(table, numbers, draws) for numbers, draws in parts], 0)

    scores, costs, hards = mean(found.score), mean(found.cost), mean(found.hard)
    means = resampled_means(np.stack([scores, costs, np.nan_to_num(hards), naive_scores]), resamples, seed)
    return Oracle(
        kind,
        kind == "naive",
        note,
        n,
        estimate(scores, means[:, 0]),
        None if tree.recipe.hard is None else estimate(hards, means[:, 2]),
        estimate(costs, means[:, 1]),
        estimate(naive_scores, means[:, 3]),
        scores,
        costs,
        chosen,
    )


def _best(found: Schedules, draws: Array, weight: float) -> Array:
    """(n,) the schedule that is best by these draws; of equal ones the cheapest, then the shortest."""
    score, cost = found.score[:, draws].mean(1), found.cost[:, draws].mean(1)  # (n, S)
    value, cost = np.round(score - weight * cost, 12), np.round(cost, 12)
    best = value >= value.max(1, keepdims=True)
    cheap = np.where(best, cost, np.inf)
    return np.argmax(cheap <= cheap.min(1, keepdims=True), 1)


def _taken(table: Array, chosen: Array, draws: Array) -> Array:
    """(n,) the mean of `table` (n, D, S) over some draws, in each problem's chosen state."""
    return table[:, draws].mean(1)[np.arange(len(table)), chosen]
