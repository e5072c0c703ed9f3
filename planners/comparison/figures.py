"""All figures of a comparison, from means over the same draws of held-out problems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from planners.comparison.equal_cost import over_mixture, within_groups
from planners.comparison.ground import Ground
from planners.comparison.measures import Draws
from planners.comparison.mixtures import Mixtures, mixtures
from planners.comparison.off_policy import Estimated
from planners.comparison.result import AtCost, Comparison, Regret, Row
from planners.comparison.standings import Standing, costs_of
from planners.tree import name_of, pareto
from unroller.ablation.bootstrap import Estimate

Array = np.ndarray[Any, Any]

def figures(
    ground: Ground,
    standings: Sequence[Standing],
    weights: Sequence[float],
    resamples: int,
    seed: int,
    notes: list[str],
    missing: dict[str, str],
    logged: list[Estimated],
) -> Comparison:
    """The comparison of these standings, the best fixed schedules and the oracle at each of `weights` among
    them. notes, missing, logged: as they are told."""
    return _Figures(ground, standings, weights, resamples, seed).comparison(notes, missing, logged)


class _Figures:
    def __init__(
        self,
        ground: Ground,
        standings: Sequence[Standing],
        weights: Sequence[float],
        resamples: int,
        seed: int,
    ) -> None:
        self.ground = ground
        self.standings = standings
        self.weights = list(weights)
        self.rows = np.flatnonzero(ground.held_out)
        self.draws = Draws(len(self.rows), resamples, seed)
        names, numbers = np.unique(ground.labels, return_inverse=True)
        self.grouped = len(names) > 1
        fitted = ~ground.held_out
        self.overall = mixtures(ground.score, ground.cost, np.zeros_like(numbers), fitted)
        self.by_group = mixtures(ground.score, ground.cost, numbers, fitted)
        self._mean = self._means()
        self.within = within_groups(ground, standings, resamples, seed)

    def _means(self) -> dict[tuple[str, int], Array]:
        """Of every standing's scores, hards and costs, and of the stops of both ways: (1 + B, k or V)."""
        tables: dict[tuple[str, int], Array] = {}
        for i, standing in enumerate(self.standings):
            tables["score", i] = standing.scores
            tables["hard", i] = np.nan_to_num(standing.hards)
            tables["cost", i] = costs_of(self.ground, standing)
        for i, way in enumerate((self.overall, self.by_group)):
            tables["way score", i] = self._stops(way, self.ground.score)
            tables["way cost", i] = self._stops(way, self.ground.cost)
        means = self.draws.means(np.concatenate(list(tables.values())))
        ends = np.cumsum([len(table) for table in tables.values()])
        return dict(zip(tables, np.split(means, ends[:-1], 1), strict=True))

    def _stops(self, way: Mixtures, table: Array) -> Array:
        return way.at_stops(table)[:, self.rows]

    def comparison(self, notes: list[str], missing: dict[str, str], logged: list[Estimated]) -> Comparison:
        ground = self.ground
        on = self._front()
        rows = [self._row(i, bool(on[i])) for i in range(len(self.standings))]
        labels = ground.labels[self.rows].tolist()
        titles = [row.title for row in rows]
        held = dict(zip(titles, self.standings, strict=True))
        number = np.concatenate([np.arange(len(tree)) for tree in ground.trees])[self.rows]
        which = np.repeat(np.arange(len(ground.trees)), [len(tree) for tree in ground.trees])[self.rows]
        recipes = [tree.recipe for tree in ground.trees]
        compared = ground.score[self.rows].mean(0), ground.cost[self.rows].mean(0)
        return Comparison(
            n=len(self.rows),
            fitted=int((~ground.held_out).sum()),
            draws=sorted({tree.draws for tree in ground.trees}),
            scorer=ground.scorer,
            price=ground.price if isinstance(ground.price, str) else repr(dict(ground.price)),
            by=ground.by,
            groups={label: labels.count(label) for label in dict.fromkeys(labels)},
            weights=self.weights,
            seed=self.draws.seed,
            resamples=self.draws.resamples,
            backends=list(dict.fromkeys(name for recipe in recipes for name in recipe.backends)),
            fingerprints=list(dict.fromkeys(name for recipe in recipes for name in recipe.fingerprints)),
            rows=rows,
            edges={
                name: [
                    (float(c), float(s))
                    for c, s in zip(self._mean["way cost", i][0], self._mean["way score", i][0], strict=True)
                ]
                for i, name in enumerate(("fixed", f"fixed by {ground.by}"))
            },
            schedules=[
                (name_of(state), float(c), float(s))
                for state, s, c in zip(ground.schedules, *compared, strict=True)
            ],
            bandit={
                f"{w:g}": self.standings[b].name for w in self.weights if (b := self._bandit(w)) is not None
            },
            notes=notes,
            missing=missing,
            logged=logged,
            problems=list(zip(which.tolist(), number.tolist(), labels, strict=True)),
            scores={title: one.scores.mean(0) for title, one in held.items()},
            costs={title: costs_of(ground, one).mean(0) for title, one in held.items()},
        )

    def _row(self, i: int, front: bool) -> Row:
        standing, mean = self.standings[i], self._mean
        over = self.draws.over_seeds
        weights = self.weights if standing.weight is None else [standing.weight]
        seeds = zip(mean["score", i][0].tolist(), mean["cost", i][0].tolist(), strict=True)
        return Row(
            standing.name,
            standing.kind,
            standing.weight,
            standing.seeds,
            self.draws.estimate(over(mean["score", i])),
            self.draws.estimate(over(mean["hard", i])) if self.ground.hard_measured else None,
            self.draws.estimate(over(mean["cost", i])),
            tuple(standing.charges.mean((0, 1)).tolist()),  # type: ignore[arg-type]
            standing.calls,
            standing.fitted,
            standing.refused,
            front,
            self._at_cost(i, 0),
            self._at_cost(i, 1),
            self.within[i],
            [self._regret(i, weight) for weight in weights],
            list(seeds),
            standing.note,
        )

    def _at_cost(self, i: int, way: int) -> AtCost:
        names = ("score", i), ("cost", i), ("way score", way), ("way cost", way)
        return over_mixture(self.draws, *(self._mean[name] for name in names))

    def _value(self, i: int, weight: float) -> Array:
        """(1 + B,)"""
        return self.draws.over_seeds(self._mean["score", i] - weight * self._mean["cost", i])

    def _regret(self, i: int, weight: float) -> Regret:
        own = self._value(i, weight)
        found = self._references(weight)
        values = {name: self._value(j, weight) for name, j in found.items()}
        base = values.get(f"best fixed by {self.ground.by}", values["best fixed"])
        room = values["oracle"] - base
        closed: Estimate | None = None
        if self.draws.estimate(room).low > 0:
            closed = self.draws.estimate((own - base) / np.where(room == 0, np.nan, room))
        regrets = {name: self.draws.estimate(value - own) for name, value in values.items()}
        return Regret(weight, self.draws.estimate(own), regrets, closed)

    def _references(self, weight: float) -> dict[str, int]:
        """What policies are held against at a λ, by number; of two oracles the shrunk one, the last."""
        found: dict[str, int] = {}
        for j, standing in enumerate(self.standings):
            if standing.weight == weight and standing.kind in ("fixed", "oracle"):
                found["oracle" if standing.kind == "oracle" else standing.name] = j
        bandit = self._bandit(weight)
        return found if bandit is None else found | {"bandit": bandit}

    def _bandit(self, weight: float) -> int | None:
        """The bandit that does best at a λ on these very problems: the hardest to beat."""
        several = [
            j for j, one in enumerate(self.standings) if one.kind == "bandit" and one.weight in (weight, None)
        ]
        return max(several, key=lambda j: self._value(j, weight)[0], default=None)

    def _front(self) -> Array:
        """Which rows nothing beats, the oracle apart."""
        over = self.draws.over_seeds
        score, cost = (
            np.array([over(self._mean[what, i])[0] for i in range(len(self.standings))])
            for what in ("score", "cost")
        )
        rivals = np.array([one.kind != "oracle" for one in self.standings])
        on = np.zeros(len(rivals), bool)
        on[rivals] = pareto(score[rivals], cost[rivals])
        return on
