"""Gains at equal mean cost: over the fixed schedules of all problems, and within each group over its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from planners.comparison.ground import Ground
from planners.comparison.measures import Draws
from planners.comparison.mixtures import at_cost, mixtures
from planners.comparison.result import AtCost, InGroup
from planners.comparison.standings import Standing, costs_of

Array = np.ndarray[Any, Any]

SAME = 0.02
"""Mean costs that differ by no more than this share are the same."""


def over_mixture(draws: Draws, score: Array, cost: Array, way_score: Array, way_cost: Array) -> AtCost:
    """The gain over the mixture at the same mean cost, seed by seed, on every draw of problems.

    score, cost (1 + B, k): a policy's, in k seeds. way_score, way_cost (1 + B, V): of the stops of a way up.
    """
    mixed = [at_cost(way_score, way_cost, c) for c in cost.T]
    scores, costs = (np.stack(each, 1) for each in zip(*mixed, strict=True))
    matched = np.abs(costs[0] - cost[0]) <= SAME * cost[0]
    return AtCost(
        draws.estimate(draws.over_seeds(score - scores)),
        float(draws.over_seeds(scores)[0]),
        float(draws.over_seeds(costs)[0]),
        bool(matched.all()),
    )


def within_groups(
    ground: Ground, standings: Sequence[Standing], resamples: int, seed: int
) -> list[dict[str, InGroup]]:
    """For each standing, what it is within each group of held-out problems; nothing where all of them are one
    group. A group's mixtures are chosen on its own problems to fit on, on all where it has none."""
    found: list[dict[str, InGroup]] = [{} for _ in standings]
    rows = np.flatnonzero(ground.held_out)
    labels = list(dict.fromkeys(ground.labels[rows].tolist()))
    for label in labels if len(labels) > 1 else []:
        own = ground.labels == label
        members = np.flatnonzero(own[rows])
        fitted = own & ~ground.held_out
        way = mixtures(
            ground.score,
            ground.cost,
            np.zeros(len(own), int),
            fitted if fitted.any() else ~ground.held_out,
        )
        tables = [way.at_stops(table)[:, rows[members]] for table in (ground.score, ground.cost)]
        for standing in standings:
            tables += [standing.scores[:, members], costs_of(ground, standing)[:, members]]
        draws = Draws(len(members), resamples, seed)
        ends = np.cumsum([len(table) for table in tables])[:-1]
        means = np.split(draws.means(np.concatenate(tables)), ends, 1)
        for i, of in enumerate(found):
            score, cost = means[2 + 2 * i], means[3 + 2 * i]
            of[label] = InGroup(
                len(members),
                draws.estimate(draws.over_seeds(score)),
                draws.estimate(draws.over_seeds(cost)),
                over_mixture(draws, score, cost, *means[:2]),
            )
    return found
