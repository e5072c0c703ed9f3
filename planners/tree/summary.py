"""A tree at a glance: every schedule, the best fixed ones, the oracle, and what room is between them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from planners.tree.complete import CompleteTree
from planners.tree.faults import TreeError
from planners.tree.fixed import By, Fixed, best_fixed, groups_of, pareto, schedules
from planners.tree.layout import name_of
from planners.tree.oracle import Oracle, oracle
from planners.tree.pricing import Price
from unroller.ablation.bootstrap import Estimate, estimate, paired_gain, resampled_means

RESAMPLES = 2_000


class Row(msgspec.Struct, frozen=True):
    """One fixed schedule on all problems. made: the share of problems in which each of its calls was
    allowed; front: no other schedule has a higher score at no more cost."""

    schedule: str
    score: Estimate
    hard: float | None
    cost: Estimate
    charged: tuple[float, float, float]
    made: float
    front: bool


class Summary(msgspec.Struct, frozen=True):
    """What `unroller tree show` prints. Gains are paired, on the same problems; `groups` says how many
    problems each has, `within` what is best in each, as (score, cost, n)."""

    n: int
    draws: int
    scorer: str
    price: str
    by: str
    backends: list[str]
    rows: list[Row]
    fixed: Fixed
    grouped: Fixed
    oracle: Oracle
    groups: dict[str, int]
    gains: dict[str, Estimate]
    resamples: int

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without what is kept for each problem."""
        return {
            "n": self.n,
            "draws": self.draws,
            "scorer": self.scorer,
            "cost": self.price,
            "by": self.by,
            "backends": self.backends,
            "schedules": [_row(row) for row in self.rows],
            "best_fixed": _fixed(self.fixed),
            "best_fixed_by_group": _fixed(self.grouped) | {"groups": self.groups},
            "oracle": {
                "kind": self.oracle.kind,
                "optimistic": self.oracle.optimistic,
                "note": self.oracle.note,
                "score": _estimate(self.oracle.score),
                "hard": None if self.oracle.hard is None else _estimate(self.oracle.hard),
                "cost": _estimate(self.oracle.cost),
                "naive": _estimate(self.oracle.naive),
            },
            "gains": {name: _estimate(gain) for name, gain in self.gains.items()},
            "resamples": self.resamples,
        }


def summary(
    tree: CompleteTree,
    by: By = None,
    price: Price = "model_calls",
    weight: float = 0.0,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Summary:
    """Raises TreeError, ProblemError for metadata that is not there."""
    if len(tree) < 2:
        raise TreeError(
            "a tree of one problem has no intervals, and nothing to choose on: build more problems"
        )
    found = schedules(tree, price)
    score, cost = found.score.mean(1), found.cost.mean(1)  # (n, S)
    s_means, c_means = (resampled_means(table.T, resamples, seed) for table in (score, cost))
    on = pareto(score.mean(0), cost.mean(0))
    measured = tree.recipe.hard is not None
    rows = [
        Row(
            name_of(state),
            estimate(score[:, s], s_means[:, s]),
            float(found.hard[..., s].mean()) if measured else None,
            estimate(cost[:, s], c_means[:, s]),
            tuple(found.charged[:, :, s].mean((0, 1)).tolist()),  # type: ignore[arg-type]
            float(found.made[..., s].mean()),
            bool(on[s]),
        )
        for s, state in enumerate(tree.states)
    ]
    options: dict[str, Any] = {"price": price, "weight": weight, "seed": seed, "resamples": resamples}
    whole = best_fixed(tree, whole=True, found=found, **options)
    grouped = best_fixed(tree, by, found=found, **options)
    best = oracle(tree, found=found, **options)
    labels = groups_of(tree, by)
    gains = {
        "best fixed over direct": paired_gain(whole.scores, score[:, 0], resamples, seed),
        "best per group over best fixed": paired_gain(grouped.scores, whole.scores, resamples, seed),
        "oracle over best fixed": paired_gain(best.scores, whole.scores, resamples, seed),
        "oracle over best per group": paired_gain(best.scores, grouped.scores, resamples, seed),
    }
    return Summary(
        len(tree),
        tree.draws,
        tree.recipe.scorer,
        price if isinstance(price, str) else repr(dict(price)),
        "task" if by is None else by if isinstance(by, str) else getattr(by, "__name__", "group"),
        list(tree.recipe.backends),
        rows,
        whole,
        grouped,
        best,
        {label: labels.count(label) for label in dict.fromkeys(labels)},
        gains,
        resamples,
    )


def _row(row: Row) -> dict[str, Any]:
    calls, tokens, price = row.charged
    return {
        "schedule": row.schedule,
        "score": _estimate(row.score),
        "hard": row.hard,
        "cost": _estimate(row.cost),
        "model_calls": calls,
        "tokens": tokens,
        "price": price,
        "made": row.made,
        "front": row.front,
    }


def _fixed(fixed: Fixed) -> dict[str, Any]:
    return {
        "score": _estimate(fixed.score),
        "hard": None if fixed.hard is None else _estimate(fixed.hard),
        "cost": _estimate(fixed.cost),
        "folds": fixed.folds,
        "chosen": {group: list(map(name_of, states)) for group, states in fixed.chosen.items()},
    }


def _estimate(found: Estimate) -> dict[str, float]:
    return {"mean": found.mean, "low": found.low, "high": found.high}


def ranked(rows: list[Row]) -> list[Row]:
    """The rows from the highest score down; of equal ones the cheapest first."""
    order = np.lexsort(([row.cost.mean for row in rows], [-round(row.score.mean, 9) for row in rows]))
    return [rows[i] for i in order]
