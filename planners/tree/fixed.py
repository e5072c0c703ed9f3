"""Fixed schedules on a tree: each one's score and cost, and the best, chosen on some problems and scored on
the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from planners.tree.faults import TreeError
from planners.tree.layout import State
from planners.tree.pricing import Price, price_of
from unroller.ablation.bootstrap import RESAMPLES, Estimate, estimate, resampled_means
from unroller.problem import Problem

if TYPE_CHECKING:
    from planners.tree.complete import CompleteTree

Array = np.ndarray[Any, Any]
By = str | Callable[[Problem], Any] | None
"""What has a best schedule of its own: a key of the metadata, a function of the problem, or the task."""


class Fixed(msgspec.Struct, frozen=True):
    """The best fixed schedule, cross-fitted over problems: n problems in `folds` parts, each part scored with
    the schedule that was best on the others, so no problem helped to choose the schedule it is scored with.

    score, hard, cost: with 95 % intervals over problems. scores, costs (n,): a problem. chosen: for each
    group the schedules that were chosen, one a fold.
    """

    n: int
    folds: int
    score: Estimate
    hard: Estimate | None
    cost: Estimate
    scores: Array
    costs: Array
    chosen: dict[str, list[State]]


class Schedules(msgspec.Struct, frozen=True):
    """Every state of the tree as a fixed schedule, run on every problem. score, hard, cost (n, D, S): calls
    that are not allowed are refused, as in a live run. charged (n, D, S, 3): the cost in its parts; made
    (n, D, S): whether every call of the schedule was allowed."""

    score: Array
    hard: Array
    cost: Array
    charged: Array
    made: Array


def schedules(tree: CompleteTree, price: Price = "model_calls") -> Schedules:
    """Every schedule on every problem, in the order of the tree's states."""
    layout = tree.layout
    n, draws, states = tree.score.shape
    landing = np.zeros((n, draws, states), np.int32)
    made = np.ones((n, draws, states), bool)
    i, d = np.ogrid[:n, :draws]
    for s in range(1, states):
        parent, k = int(layout.parent[s]), int(layout.last[s])
        at = landing[..., parent]
        open_ = tree.allowed[i, d, at, k]
        landing[..., s] = np.where(open_, layout.child[at, k], at)
        made[..., s] = made[..., parent] & open_
    i, d = np.arange(n)[:, None, None], np.arange(draws)[None, :, None]
    charged = tree.cost[i, d, landing]
    return Schedules(
        tree.score[i, d, landing], tree.hard[i, d, landing], price_of(charged, price), charged, made
    )


def best_fixed(
    tree: CompleteTree,
    by: By | Sequence[str] = None,
    *,
    whole: bool = False,
    weight: float = 0.0,
    price: Price = "model_calls",
    folds: int = 2,
    seed: int = 0,
    resamples: int = RESAMPLES,
    found: Schedules | None = None,
) -> Fixed:
    """The best fixed schedule of each group of problems, or of the `whole` of them.

    by: what groups are made of (None: the task), or a label for each problem. weight: what one unit of
    cost is worth in score; the best schedule is that of the highest score - weight × cost, of equal ones the
    cheapest. A group with fewer problems than folds takes what is best for all. Raises TreeError for a
    negative weight and for fewer than two problems.
    """
    check_weight(weight)
    n = len(tree)
    if not 2 <= folds <= n:
        raise TreeError(f"{folds} folds of {n} problems: choose on some and score on others, 2 folds or more")
    found = schedules(tree, price) if found is None else found
    labels = np.array(["all"] * n if whole else groups_of(tree, by))
    score, cost = found.score.mean(1), found.cost.mean(1)  # (n, S)
    part = np.random.default_rng(seed % 2**63).permutation(n) % folds
    taken = np.zeros(n, np.int64)
    chosen: dict[str, list[State]] = {}
    for label in dict.fromkeys(labels.tolist()):
        own = labels == label
        for fold in range(folds):
            others = own & (part != fold)
            if own.sum() < folds or not others.any():
                others = part != fold
            best = best_of(score[others].mean(0), cost[others].mean(0), weight)
            taken[own & (part == fold)] = best
            chosen.setdefault(str(label), []).append(tree.states[best])
    rows = np.arange(n)
    scores, costs, hards = score[rows, taken], cost[rows, taken], found.hard.mean(1)[rows, taken]
    means = resampled_means(np.stack([scores, costs, np.nan_to_num(hards)]), resamples, seed)
    return Fixed(
        n,
        folds,
        estimate(scores, means[:, 0]),
        None if tree.recipe.hard is None else estimate(hards, means[:, 2]),
        estimate(costs, means[:, 1]),
        scores,
        costs,
        chosen,
    )


def best_of(score: Array, cost: Array, weight: float = 0.0) -> int:
    """The number of the best of several, (S,): the highest score - weight × cost, then the cheapest, then the
    first, which is the shortest. What differs by rounding is equal."""
    value = np.round(score - weight * cost, 12)
    return int(np.lexsort((np.arange(len(value)), np.round(cost, 12), -value))[0])


def groups_of(tree: CompleteTree, by: By | Sequence[str] = None) -> tuple[str, ...]:
    """A label for each problem. Raises ProblemError for metadata that is not there, TreeError."""
    from unroller.ablation.columns import columns_of

    if by is None:
        return tree.tasks
    if isinstance(by, str) or callable(by):
        return columns_of(tree.problems, by).labels
    labels = tuple(map(str, by))
    if len(labels) != len(tree):
        raise TreeError(f"{len(labels)} labels for {len(tree)} problems: give one each")
    return labels


def check_weight(weight: float) -> None:
    """Raises TreeError for a weight below 0, or none."""
    if not 0 <= weight < np.inf:
        raise TreeError(
            f"a cost weight of {weight}: it is what one unit of cost is worth in score, 0 or more"
        )


def pareto(score: Array, cost: Array) -> Array:
    """(S,) bool: which of several no other one beats, at no more cost for no less score."""
    order = np.lexsort((np.arange(len(score)), -score, cost))
    on = np.zeros(len(score), bool)
    best = -np.inf
    for s in order:
        if score[s] > best + 1e-12:
            on[s], best = True, score[s]
    return on
