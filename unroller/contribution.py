"""What each entry of the context contributed to the output.

The value of a subset S of the entries is how good the output decoded from S is: its score, where a scorer
is given, and otherwise its agreement with the output of the full context, 1 - difference(y_S, y_C). An
entry's *leave-one-out* contribution is v(C) - v(C without it). Its *Shapley* value averages its marginal
contribution over every order in which the entries could have been added (Shapley 1953), exactly, for up to
six entries: 64 decodings, batched and memoised like any other call.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import factorial
from typing import TYPE_CHECKING, Any

import msgspec

from unroller.cost import Cost
from unroller.faults import UnrollerError
from unroller.problem import Problem
from unroller.unrolling import Snapshot
from unroller.workspace import Entry, Workspace

if TYPE_CHECKING:
    from unroller.run import Run

EXACT_UP_TO = 6

Scorer = Callable[[Problem, Any], float]


class Contribution(msgspec.Struct, frozen=True):
    """One entry's share. entry_index: its place in the context; shapley: None beyond six entries."""

    entry_index: int
    action: str
    leave_one_out: float
    shapley: float | None


class Contributions(msgspec.Struct, frozen=True):
    """rows: one an entry. full, empty: the value of the whole context and of none. note: what was
    measured, in words."""

    rows: list[Contribution]
    full: float
    empty: float
    note: str


def contributions(run: Run, scorer: Scorer | None = None) -> Contributions:
    """The contributions of a run's entries. Raises UnrollerError when the run has no output."""
    entries, output = run.entries, run.output
    if output is None:
        raise UnrollerError("the run has no output, so nothing contributed to it")

    def worth(found: Any) -> float:
        if found is None:
            return 0.0  # no output at all without these entries
        if scorer is not None:
            return float(scorer(run.problem, found))
        return 1.0 - float(output.difference(found))

    everything = tuple(range(len(entries)))
    exact = len(entries) <= EXACT_UP_TO
    sizes = range(len(entries) + 1) if exact else (0, len(entries) - 1, len(entries))
    subsets = list(dict.fromkeys(s for n in sizes for s in combinations(everything, n)))
    value = dict(zip(subsets, map(worth, _decoded(run, entries, subsets)), strict=True))
    rows = [
        Contribution(
            i,
            entry.action,
            value[everything] - value[tuple(j for j in everything if j != i)],
            _shapley(i, everything, value) if exact else None,
        )
        for i, entry in enumerate(entries)
    ]
    what = (
        "score of the output"
        if scorer is not None
        else "agreement with the output of the full context"
    )
    if rows and all(abs(row.leave_one_out) + abs(row.shapley or 0.0) < 1e-9 for row in rows):
        what += "; no entry moved it: decoding without context gives the same"
    return Contributions(rows, value[everything], value[()], what)


def _decoded(run: Run, entries: list[Entry], subsets: list[tuple[int, ...]]) -> list[Any]:
    """The output decoded from each subset of the context."""
    starts: list[Snapshot] = []
    for subset in subsets:
        workspace = Workspace()
        for i in subset:
            workspace = workspace.compose(entries[i])
        starts.append(Snapshot(run.problem, workspace, Cost()))
    # No budget: this is measurement, not part of the run. Faults are answers here, never raised.
    decoding = run.executor.extend(policy=[], budget=None, strict=False)
    return [decoded.output for decoded in decoding.map(starts)]


def _shapley(i: int, everything: tuple[int, ...], value: dict[tuple[int, ...], float]) -> float:
    n = len(everything)
    others = [j for j in everything if j != i]
    total = 0.0
    for size in range(n):
        weight = factorial(size) * factorial(n - size - 1) / factorial(n)
        for subset in combinations(others, size):
            total += weight * (value[tuple(sorted((*subset, i)))] - value[subset])
    return total
