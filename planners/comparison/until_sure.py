"""One order of calls, left as soon as the answer is sure: the simplest policy that adapts, fitted by trying
every order and a grid of thresholds on the problems to fit on."""

from __future__ import annotations

from typing import Any

import numpy as np

from planners.comparison.calls import unique_calls
from planners.comparison.fitting import ENTROPY, Fitted, affordable, lot
from planners.comparison.ground import Ground
from planners.tree import CompleteTree, TreeError
from planners.tree.fixed import best_of
from planners.tree.layout import State
from planners.tree.pricing import price_of

Array = np.ndarray[Any, Any]

THRESHOLDS = 12
"""How many are tried: quantiles of the entropies that there are, and 0."""

ORDERS = 120
"""How many orders are tried: those of the schedules that score most."""


class UntilSure:
    """Confidence policies with an order and a threshold each, and what they score and cost (C,) on the
    problems to fit on; `at(λ)` is the best of them at λ."""

    def __init__(self, ways: list[tuple[State, float]], score: Array, cost: Array) -> None:
        self.name = "until sure"
        self.ways = ways
        self.score = score
        self.cost = cost

    def at(self, cost_weight: float) -> Any:
        from policies.confidence import ConfidencePolicy

        order, threshold = self.ways[best_of(self.score, self.cost, cost_weight)]
        return ConfidencePolicy(threshold, order=order, without=())

    def decide(self, states: Any) -> Any:
        """As at λ = 0."""
        return self.at(0.0).decide(states)

    @property
    def probes(self) -> tuple[str, ...]:
        return (ENTROPY,)


def fit_until_sure(ground: Ground, *, calls: float = np.inf, seed: int = 0) -> Fitted:
    """Raises TreeError for a tree without the probe `answer_entropy`."""
    price = np.zeros(len(ground.held_out))
    for tree, first, rows in ground.fitting():
        if ENTROPY not in tree.probes:
            raise TreeError(f"the probe {ENTROPY} was not measured: build the tree with --probe {ENTROPY}")
        price[first + rows] = unique_calls(tree, rows, range(len(tree.states)), [ENTROPY])
    taken = affordable(price, lot(ground, seed), calls)
    fitted = [(tree, rows[np.isin(first + rows, taken)]) for tree, first, rows in ground.fitting()]
    orders = _orders(ground, taken)
    entropies = np.concatenate([tree.probes[ENTROPY][rows].ravel() for tree, rows in fitted])
    known = entropies[np.isfinite(entropies)]
    if not len(known):
        raise TreeError(f"the probe {ENTROPY} could be measured nowhere: such a policy always stops at once")
    thresholds = np.unique([0.0, *np.quantile(known, np.linspace(0, 1, THRESHOLDS + 1)[1:-1])])
    totals = np.zeros((len(orders) * len(thresholds), 2))
    for tree, rows in fitted:
        totals += np.array([_walked(ground, tree, rows, o, t) for o in orders for t in thresholds])
    score, cost = (totals / len(taken)).T
    ways = [(order, float(threshold)) for order in orders for threshold in thresholds]
    return Fitted(UntilSure(ways, score, cost), float(price[taken].sum()), len(taken))


def _orders(ground: Ground, taken: Array) -> list[State]:
    """The longest schedules, in the order of their score."""
    longest = max(map(len, ground.schedules))
    score = ground.score[taken].mean(0)
    ends = [s for s, schedule in enumerate(ground.schedules) if len(schedule) == longest]
    ends.sort(key=lambda s: -score[s])
    return [ground.schedules[s] for s in ends[:ORDERS]]


def _walked(ground: Ground, tree: CompleteTree, rows: Array, order: State, threshold: float) -> Array:
    """(2,) the scores and the costs of all these problems, each the mean over draws, probes included: it
    looks in every state that it comes to, and then stops or makes the first call of the order that is
    allowed."""
    i, d = rows[:, None], np.arange(tree.draws)[None]
    at = np.zeros((len(rows), tree.draws), np.int64)
    charged = tree.probe_cost[ENTROPY][i, d, at]
    going = tree.probes[ENTROPY][i, d, at] > threshold  # NaN is not: it stops
    for name in order:
        if name not in tree.actions:
            continue
        k = tree.actions.index(name)
        step = going & tree.allowed[i, d, at, k]
        at = np.where(step, tree.layout.child[at, k], at)
        charged = charged + step[..., None] * tree.probe_cost[ENTROPY][i, d, at]
        going &= ~step | (tree.probes[ENTROPY][i, d, at] > threshold)
    cost = price_of(tree.cost[i, d, at] + charged, ground.price)
    return np.array([tree.score[i, d, at].mean(1).sum(), cost.mean(1).sum()])
