"""What the entries of a row's contexts contributed to the score, averaged by action."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from unroller.contribution import Contribution
from unroller.problem import Problem

if TYPE_CHECKING:
    from unroller.run import Run


class Share(msgspec.Struct, frozen=True):
    """The mean over the entries of one action. n: how many entries; shapley: over those of contexts of up
    to six entries, None where there was none."""

    action: str
    n: int
    leave_one_out: float
    shapley: float | None


class Shares(msgspec.Struct, frozen=True):
    """Contributions in a row, by action. n: problems; left_out: those that had no output; full, empty: the
    mean score with the whole context and with none."""

    row: str
    n: int
    left_out: int
    full: float
    empty: float
    actions: list[Share]


class Sharing:
    """Collects the contributions of a row's runs, one after the other."""

    def __init__(self, row: str) -> None:
        self.row = row
        self.left_out = 0
        self._full: list[float] = []
        self._empty: list[float] = []
        self._entries: dict[str, list[Contribution]] = {}

    def add(self, run: Run, score: Callable[[Problem, Any], float]) -> None:
        """Measure one run; what it decodes is batched, and remembered."""
        if run.output is None:
            self.left_out += 1
            return
        measured = run.contributions(score)
        self._full.append(measured.full)
        self._empty.append(measured.empty)
        for row in measured.rows:
            self._entries.setdefault(row.action, []).append(row)

    def shares(self) -> Shares:
        """The means."""
        actions: list[Share] = []
        for action, rows in self._entries.items():
            exact = [row.shapley for row in rows if row.shapley is not None]
            leave_one_out = _mean([row.leave_one_out for row in rows])
            actions.append(Share(action, len(rows), leave_one_out, _mean(exact) if exact else None))
        return Shares(
            self.row, len(self._full), self.left_out, _mean(self._full), _mean(self._empty), actions
        )


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else float("nan")
