"""Fixed schedules at any mean cost: mixtures of two of them, each the best that can be had for its cost.

A fixed schedule has one mean cost, and a policy usually another, so a difference in score is also one in
money. Who may run one schedule on some problems and another on the rest, by lot, reaches every point between
them, and the best such points are the upper edge of the convex hull of all schedules' (cost, score).
Where each group of problems has a mixture of its own, the best use of a mean cost is to go up, over all
groups, the steepest edges first: at most one group is then between two schedules.

What is chosen is chosen on problems to fit on. How far up to go is set on the held-out problems, by their
costs alone: the mixture costs there what the policy costs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

Array = np.ndarray[Any, Any]


class Mixtures(msgspec.Struct, frozen=True):
    """A way up, from the cheapest to the best: V stops, between which one may mix.

    taken (V, G): the schedule of each of G groups at each stop; group (N,): the group of each problem.
    """

    taken: Array
    group: Array

    def at_stops(self, table: Array) -> Array:
        """`table` (N, K) of schedules, as (V, N) of stops."""
        return table[np.arange(len(self.group)), self.taken[:, self.group]]


def mixtures(score: Array, cost: Array, group: Array, fitted: Array) -> Mixtures:
    """The way up over G groups. score, cost (N, K) of schedules; group (N,) int; fitted (N,) bool: the
    problems that it is chosen on. A group that has none of them goes the way of all."""
    groups = int(group.max()) + 1
    ways: list[list[int]] = []
    climbs: list[tuple[float, int, int]] = []
    for g in range(groups):
        own = fitted & (group == g)
        own = own if own.any() else fitted
        s, c = score[own].mean(0), cost[own].mean(0)
        way = upper_edge(s, c)
        ways.append(way)
        for step, (a, b) in enumerate(pairwise(way)):
            climbs.append((-(s[b] - s[a]) / (c[b] - c[a]), g, step))
    at = [way[0] for way in ways]
    stops = [list(at)]
    for _, g, step in sorted(climbs):  # within a group edges get flatter, so they come in their order
        at[g] = ways[g][step + 1]
        stops.append(list(at))
    return Mixtures(np.array(stops), group)


def upper_edge(score: Array, cost: Array) -> list[int]:
    """Which of K points (cost, score) the upper edge of their convex hull goes through, from the cheapest to
    the one of the highest score; what differs by rounding is equal."""
    score, cost = np.round(score, 12), np.round(cost, 12)
    edge: list[int] = []
    for s in np.lexsort((np.arange(len(score)), -score, cost)).tolist():
        if edge and score[s] <= score[edge[-1]]:
            continue
        while len(edge) > 1 and _not_above(score, cost, edge[-2], edge[-1], s):
            edge.pop()
        edge.append(s)
    return edge


def _not_above(score: Array, cost: Array, a: int, b: int, c: int) -> bool:
    """Whether b is on or below the line from a to c."""
    return bool((score[b] - score[a]) * (cost[c] - cost[a]) <= (score[c] - score[a]) * (cost[b] - cost[a]))


def at_cost(scores: Array, costs: Array, wanted: Array) -> tuple[Array, Array]:
    """The score and the cost (B,) of the mixture that costs what is wanted (B,). scores, costs (B, V): means
    at the stops of a way up.

    Below the first stop it is the first, above the last one the last, which is the best there is: more money
    buys a fixed schedule nothing.
    """
    rows = np.arange(len(wanted))
    below = costs <= wanted[:, None] + 1e-12
    last = costs.shape[1] - 1
    at = np.where(below.any(1), last - np.argmax(below[:, ::-1], 1), 0)
    up = np.minimum(at + 1, last)
    gap = costs[rows, up] - costs[rows, at]
    share = np.where(gap > 0, (wanted - costs[rows, at]) / np.where(gap > 0, gap, 1.0), 0.0)
    share = np.clip(share, 0.0, 1.0)
    mixed = [table[rows, at] + share * (table[rows, up] - table[rows, at]) for table in (scores, costs)]
    return mixed[0], mixed[1]
