"""Columns: which problems are looked at together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from unroller.faults import ProblemError
from unroller.problem import Problem
from unroller.registry import near

ALL = "all"
USUAL = "column"


class Columns(msgspec.Struct, frozen=True):
    """name: what the columns are of ("hops"), or "" where there is only `all`; values: those there are, in
    order; labels: for each problem its value as text; members: the problems of each label, `all` last."""

    name: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]
    members: dict[str, np.ndarray[Any, Any]]

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers, so that a line may be drawn through them."""
        return bool(self.values) and all(_is_number(value) for value in self.values)


def columns_of(problems: Sequence[Problem], column: Callable[[Problem], Any] | str | None) -> Columns:
    """Group problems by a function or a key of their metadata. Raises ProblemError."""
    everything = {ALL: np.arange(len(problems))}
    if column is None:
        if not all(USUAL in problem.metadata for problem in problems):
            return Columns("", (), ("",) * len(problems), everything)
        column = USUAL
    name = column if isinstance(column, str) else getattr(column, "__name__", "column")
    values = [_value(i, problem, column) for i, problem in enumerate(problems)]
    labels = tuple(map(_label, values))
    if ALL in labels:
        raise ProblemError(f"{name}: a column cannot be called {ALL!r}, which stands for every problem")
    by_label = dict(zip(labels, values, strict=True))
    ordered = sorted(by_label.items(), key=_order)
    grouped = {label: np.array([i for i, own in enumerate(labels) if own == label]) for label, _ in ordered}
    return Columns(name, tuple(value for _, value in ordered), labels, grouped | everything)


def _label(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


def _value(i: int, problem: Problem, column: Callable[[Problem], Any] | str) -> Any:
    value: Any = _within(i, problem, column) if isinstance(column, str) else column(problem)
    plain: Any = cast("Any", value).item() if isinstance(value, np.generic) else value
    if not isinstance(plain, (str, int)) and not (isinstance(plain, float) and math.isfinite(plain)):
        raise ProblemError(f"problem {i}: its column is {value!r:.80}: it must be a text or a number")
    return plain


def _within(i: int, problem: Problem, key: str) -> Any:
    """`key` in the metadata; "a.b" is b within a, where there is no "a.b"."""
    held: Any = problem.metadata
    path = [key] if key in problem.metadata else key.split(".")
    for part in path:
        inside = cast("dict[str, Any]", held if isinstance(held, Mapping) else {})
        if part not in inside:
            hint = near(part, map(str, inside))
            raise ProblemError(f"problem {i} has no metadata {key!r} to make columns of.{hint}")
        held = inside[part]
    return held


def _order(item: tuple[str, Any]) -> tuple[int, float, str]:
    """Numbers by size, then texts by the alphabet."""
    label, value = item
    return (0, float(value), "") if _is_number(value) else (1, 0.0, label)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
