"""What a comparison comes to: rows of figures with intervals, as data."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from planners.comparison.off_policy import Estimated
from planners.comparison.standings import Kind
from unroller.ablation.bootstrap import Estimate
from unroller.faults import UnknownName
from unroller.registry import near

Array = np.ndarray[Any, Any]


class AtCost(msgspec.Struct, frozen=True):
    """How much a policy scores above the best mixture of fixed schedules at the same mean cost.

    score, cost: the mixture's; matched: whether its cost is within 2 % of the policy's. It is not where the
    policy costs more than the best fixed schedule does, which is then what it is held against, or less than
    the cheapest one.
    """

    gain: Estimate
    score: float
    cost: float
    matched: bool


class InGroup(msgspec.Struct, frozen=True):
    """A policy within one group of n problems, where over_fixed is over the fixed schedules of that group at
    the mean cost that the policy has there."""

    n: int
    score: Estimate
    cost: Estimate
    over_fixed: AtCost


class Regret(msgspec.Struct, frozen=True):
    """At one λ, with value = score - λ × cost: value, and what it lacks of the value of each reference
    (below 0: it is better). to: "best fixed", "best fixed by …", the best "bandit", the "oracle"; closed: the
    share of the way from the best fixed schedules to the oracle, None where the oracle is not surely above
    them."""

    weight: float
    value: Estimate
    to: dict[str, Estimate]
    closed: Estimate | None


class Row(msgspec.Struct, frozen=True):
    """A policy at one λ (None: it was made for none). seeds: how many; each_seed: (score, cost) of each.
    charged: model calls, tokens, price. calls: unique model calls that it was fitted with, on `fitted`
    problems. front: nothing else but an oracle scores more at no more cost. within: what it is in each group,
    where there are several."""

    name: str
    kind: Kind
    weight: float | None
    seeds: int
    score: Estimate
    hard: Estimate | None
    cost: Estimate
    charged: tuple[float, float, float]
    calls: float | None
    fitted: int
    refused: float
    front: bool
    over_fixed: AtCost
    over_grouped: AtCost
    within: dict[str, InGroup]
    regrets: list[Regret]
    each_seed: list[tuple[float, float]]
    note: str

    @property
    def title(self) -> str:
        """Its name, and its λ if it has one."""
        return self.name if self.weight is None else f"{self.name} λ={self.weight:g}"


class Comparison(msgspec.Struct, frozen=True, eq=False):
    """What `compare` returns. n: held-out problems; fitted: those there were to fit on; weights: the λ's, the
    first being the one that is shown; edges: (cost, score) of the mixtures of fixed schedules on the held-out
    problems, overall and by group; schedules: (name, cost, score) of every fixed schedule; bandit: which was
    the best bandit at each λ; missing: why a policy could not be compared; logged: what was estimated from
    runs of another policy; problems: (tree, number, group) of
    each held-out problem; scores, costs: (n,) of each row by its title, the mean over seeds."""

    n: int
    fitted: int
    draws: list[int]
    scorer: str
    price: str
    by: str
    groups: dict[str, int]
    weights: list[float]
    seed: int
    resamples: int
    backends: list[str]
    fingerprints: list[str]
    rows: list[Row]
    edges: dict[str, list[tuple[float, float]]]
    schedules: list[tuple[str, float, float]]
    bandit: dict[str, str]
    notes: list[str]
    missing: dict[str, str]
    logged: list[Estimated]
    problems: list[tuple[int, int, str]]
    scores: dict[str, Array]
    costs: dict[str, Array]

    def row(self, name: str, weight: float | None = None) -> Row:
        """The row of a policy, at a λ if it has several. Raises UnknownName, with the reason for one that
        could not be compared."""
        if name in self.missing:
            raise UnknownName(f"{name} was not compared: {self.missing[name]}")
        own = [row for row in self.rows if row.name == name]
        found = next((row for row in own if weight is None or row.weight == weight), None)
        if not own:
            raise UnknownName(
                f"nothing compared is called {name!r}.{near(name, [r.name for r in self.rows])}"
            )
        if found is None:
            there = ", ".join("none" if row.weight is None else f"{row.weight:g}" for row in own)
            raise UnknownName(f"{name} was not compared at λ = {weight:g}; its λ: {there}")
        return found

    def __str__(self) -> str:
        from planners.comparison.showing import in_plain_text

        return in_plain_text(self)

    def __repr__(self) -> str:
        return f"<comparison: {len(self.rows)} rows on {self.n:,} problems>"

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON: NaN is None, single problems are left out."""
        left_out = ("problems", "scores", "costs")
        return {name: _plain(getattr(self, name)) for name in self.__struct_fields__ if name not in left_out}

    def to_csv(self) -> str:
        """One line for each policy and λ that it is looked at; empty where nothing is known."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        references = list(dict.fromkeys(name for row in self.rows for r in row.regrets for name in r.to))
        three = ("", "_low", "_high")
        writer.writerow(
            [*CSV, *(f"regret to {name}{end}" for name in references for end in three), "closed", "note"]
        )
        for row in self.rows:
            for regret in row.regrets:
                line: list[Any] = [row.name, row.kind, row.weight, row.seeds, self.n, row.calls, row.fitted]
                line += [*_three(row.score), *_three(row.hard), *_three(row.cost), *row.charged]
                for against in (row.over_fixed, row.over_grouped):
                    line += [*_three(against.gain), against.cost, int(against.matched)]
                line += [int(row.front), regret.weight, *_three(regret.value)]
                line += [number for name in references for number in _three(regret.to.get(name))]
                line += [None if regret.closed is None else regret.closed.mean, row.note]
                writer.writerow(["" if x is None else _short(x) for x in line])
        return out.getvalue()

    def to_groups_csv(self) -> str:
        """One line for each policy and each group that it is looked at in; a head alone where there is one
        group."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([self.by, *GROUPS_CSV])
        for row in self.rows:
            for label, one in row.within.items():
                line: list[Any] = [label, row.name, row.weight, row.seeds, one.n]
                line += [*_three(one.score), *_three(one.cost), *_three(one.over_fixed.gain)]
                line += [one.over_fixed.cost, int(one.over_fixed.matched)]
                writer.writerow(["" if x is None else _short(x) for x in line])
        return out.getvalue()

    def write(self, folder: str | Path, plots: bool = True) -> list[Path]:
        """Write comparison.json, comparison.csv, groups.csv where there are several, problems.csv (one line a
        held-out problem, a score and a cost for each row) and, with `plots`, the front as PNG and SVG.
        Returns their paths. Raises OSError, and MissingCapability without matplotlib."""
        place = Path(folder)
        if plots:
            from unroller.ablation.plots import need_matplotlib

            need_matplotlib()
        place.mkdir(parents=True, exist_ok=True)
        document = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        texts = {
            "comparison.json": document,
            "comparison.csv": self.to_csv(),
            "problems.csv": self._problems_csv(),
        }
        if len(self.groups) > 1:
            texts["groups.csv"] = self.to_groups_csv()
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
        written = [place / name for name in texts]
        if plots:
            from planners.comparison.plots import write_plots

            written += write_plots(self, place)
        return written

    def _problems_csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        heads = [f"{title} {what}" for title in self.scores for what in ("score", "cost")]
        writer.writerow(["tree", "problem", self.by, *heads])
        for i, (tree, number, label) in enumerate(self.problems):
            both = ((self.scores[title][i], self.costs[title][i]) for title in self.scores)
            writer.writerow([tree, number, label, *(_short(float(x)) for pair in both for x in pair)])
        return out.getvalue()


CSV = (
    "policy", "kind", "weight", "seeds", "n", "unique_calls", "fitted",
    "score", "score_low", "score_high", "hard", "hard_low", "hard_high", "cost", "cost_low", "cost_high",
    "model_calls", "tokens", "price",
    "over_fixed", "over_fixed_low", "over_fixed_high", "fixed_cost", "fixed_matched",
    "over_grouped", "over_grouped_low", "over_grouped_high", "grouped_cost", "grouped_matched",
    "front", "at_weight", "value", "value_low", "value_high",
)  # fmt: skip

GROUPS_CSV = (
    "policy", "weight", "seeds", "n", "score", "score_low", "score_high", "cost", "cost_low", "cost_high",
    "over_fixed", "over_fixed_low", "over_fixed_high", "fixed_cost", "fixed_matched",
)  # fmt: skip


def _three(of: Estimate | None) -> list[float | None]:
    return [None] * 3 if of is None else [of.mean, of.low, of.high]


def _short(thing: Any) -> Any:
    if not isinstance(thing, float):
        return thing
    return round(thing, 6) if math.isfinite(thing) else ""


def _plain(thing: Any) -> Any:
    if isinstance(thing, msgspec.Struct):
        return {name: _plain(getattr(thing, name)) for name in thing.__struct_fields__}
    if isinstance(thing, dict):
        return {str(key): _plain(value) for key, value in cast("dict[Any, Any]", thing).items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(one) for one in cast("list[Any]", thing)]
    if isinstance(thing, float):
        return float(thing) if math.isfinite(thing) else None
    return thing
