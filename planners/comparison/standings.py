"""What each policy gets on the held-out problems: exactly, from the trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from planners.comparison.ground import Ground
from planners.tree import evaluate, name_of
from planners.tree.fixed import best_of, check_weight
from planners.tree.pricing import price_of

Array = np.ndarray[Any, Any]
Kind = Literal["policy", "bandit", "fixed", "oracle"]

TOGETHER = 512
"""Problems that are evaluated at a time: what a policy sees of a problem is held while it is."""


class Standing(msgspec.Struct, frozen=True):
    """One policy, at one λ, in k seeds, on n held-out problems.

    weight: the λ it was made for, None if it was made for none. scores, hards (k, n), charges (k, n, 3):
    means over draws and over the policy's own choices; hards are NaN where that was not measured. calls: the
    unique model calls that it was fitted with; None where that is not known; fitted: on how many problems.
    refused: calls a problem that were refused. note: what there is to be said of it.
    """

    name: str
    kind: Kind
    weight: float | None
    scores: Array
    hards: Array
    charges: Array
    calls: float | None = 0.0
    fitted: int = 0
    refused: float = 0.0
    note: str = ""

    @property
    def seeds(self) -> int:
        return len(self.scores)


def stand(
    ground: Ground,
    policies: Sequence[Any],
    name: str,
    weight: float | None = None,
    kind: Kind = "policy",
    calls: float | None = 0.0,
    fitted: int = 0,
    note: str = "",
) -> Standing:
    """Evaluate a policy, in as many seeds as are given. Raises TreeError, PolicyError."""
    if weight is not None:
        check_weight(weight)
    rows: list[tuple[Array, Array, Array]] = []
    refused = 0.0
    for policy in policies:
        parts: list[tuple[Array, Array, Array]] = []
        for tree, _, problems in ground.compared():
            for begun in range(0, len(problems), TOGETHER):
                some = problems[begun : begun + TOGETHER]
                found = evaluate(tree, policy, problems=some.tolist(), price=ground.price, resamples=1)
                parts.append((found.scores, found.hards, found.charges))
                refused += found.refused * len(some)
        rows.append(tuple(np.concatenate(each) for each in zip(*parts, strict=True)))  # type: ignore[arg-type]
    scores, hards, charges = (np.stack(each) for each in zip(*rows, strict=True))
    refused /= ground.held_out.sum() * len(policies)
    return Standing(name, kind, weight, scores, hards, charges, calls, fitted, refused, note)


def best_fixed(ground: Ground, weight: float, grouped: bool = False) -> Standing:
    """The schedule of the highest score - λ × cost on the problems to fit on, of all or of each group; a
    group that has none there takes what is best for all."""
    check_weight(weight)
    fitted = ~ground.held_out
    chosen: dict[str, int] = {}
    for label in np.unique(ground.labels).tolist() if grouped else [""]:
        own = fitted & (ground.labels == label) if grouped else fitted
        own = own if own.any() else fitted
        chosen[label] = best_of(ground.score[own].mean(0), ground.cost[own].mean(0), weight)
    rows = np.flatnonzero(ground.held_out)
    taken = [chosen[label if grouped else ""] for label in ground.labels[rows].tolist()]
    tables = (ground.score, ground.hard, ground.charged)
    scores, hards, charges = (table[rows, taken][None] for table in tables)
    said = [f"{label}: {name}" if label else name for label, name in _named(ground, chosen)]
    name = f"best fixed by {ground.by}" if grouped else "best fixed"
    return Standing(
        name, "fixed", weight, scores, hards, charges, None, int(fitted.sum()), 0.0, "; ".join(said)
    )


def _named(ground: Ground, chosen: dict[str, int]) -> list[tuple[str, str]]:
    return [(label, name_of(ground.schedules[s])) for label, s in chosen.items()]


def costs_of(ground: Ground, standing: Standing) -> Array:
    """(k, n) the charged cost of a standing as one number."""
    return price_of(standing.charges, ground.price)
