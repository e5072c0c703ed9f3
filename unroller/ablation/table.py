"""The table: for each row and column how good, how much better, how sure, at what cost."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from unroller.ablation.bootstrap import Array, Estimate, difference, resampled_means
from unroller.ablation.columns import ALL
from unroller.ablation.shares import Shares
from unroller.faults import Fault, UnknownName, UnrollerError
from unroller.registry import near


class Cell(msgspec.Struct, frozen=True):
    """One row in one column.

    n: problems; failed: those in which a call failed or that have no output; score: their mean, 0 to 1;
    gain: over the first row, paired, None for the first row itself; model_calls, tokens, price: charged, a
    problem; seconds: a problem, of those none of whose calls was in the memo before, None if all had some.
    """

    row: str
    column: str
    n: int
    failed: int
    score: Estimate
    gain: Estimate | None
    model_calls: float
    tokens: float
    price: float
    seconds: float | None


class Gain(msgspec.Struct, frozen=True):
    """How much better one row is than another, paired, in a column."""

    row: str
    over: str
    column: str
    n: int
    gain: Estimate


class Failing(msgspec.Struct, frozen=True):
    """What failed in a row: the first fault of its kind, and how many there were."""

    row: str
    fault: Fault
    count: int


class Table(msgspec.Struct, frozen=True, eq=False):
    """What `ablate` returns. rows: their names, the first being what gains are over; columns: their names,
    "all" and then the parts of the score last; by: what the columns are of; about: what the scores rest on,
    as the scorer says; missing: for rows that were not measured, why.

    computed, found: calls that were made, and that the memo answered; seconds: wall clock of it all.
    scores: for each measured row, (n,) in the problems' order; parts: the same for each part, NaN where a
    problem has no such part.
    """

    rows: list[str]
    columns: list[str]
    by: str
    scorer: str
    problems: int
    seed: int
    resamples: int
    backends: list[str]
    fingerprints: list[str]
    cells: list[Cell]
    compared: list[Gain]
    missing: dict[str, str]
    failing: list[Failing]
    shares: Shares | None
    notes: list[str]
    computed: int
    found: int
    seconds: float
    scores: dict[str, Array]
    column_of: tuple[str, ...]
    numeric: bool = False
    about: str = ""
    parts: dict[str, dict[str, Array]] = {}

    def cell(self, row: str, column: str = ALL) -> Cell:
        """Raises UnknownName; for a row that was not measured UnrollerError, with the reason."""
        if row in self.missing:
            raise UnrollerError(f"the row {row!r} was not measured: {self.missing[row]}")
        for name, known in ((row, self.rows), (column, self.columns)):
            if name not in known:
                raise UnknownName(f"the table has no {name!r}.{near(name, known)}")
        return next(cell for cell in self.cells if (cell.row, cell.column) == (row, column))

    def gain(self, row: str, over: str | None = None, column: str = ALL) -> Estimate:
        """The paired gain of a row over another one, by default the first; any pair, compared before or not.

        Raises UnknownName, or UnrollerError for a row that was not measured.
        """
        over = self.rows[0] if over is None else over
        for name in (row, over):
            self.cell(name, column)
        scores = self.parts.get(column, self.scores)
        members = np.array([column in (ALL, *self.parts, own) for own in self.column_of])
        members &= ~np.isnan(scores[row])
        both = np.stack([scores[row][members], scores[over][members]])
        return difference(both, resampled_means(both, self.resamples, self.seed), 0, 1)

    def to_dict(self) -> dict[str, Any]:
        """The table as plain data, for JSON: NaN is None, scores of single problems are left out."""
        left_out = ("scores", "column_of", "numeric", "parts")
        fields = (name for name in self.__struct_fields__ if name not in left_out)
        return {name: _plain(getattr(self, name)) for name in fields}

    def to_csv(self) -> str:
        """One line a cell, then one a compared pair; empty where nothing is known."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(CSV)
        writer.writerows([["" if value is None else value for value in line] for line in self._lines()])
        return out.getvalue()

    def _lines(self) -> Iterator[list[Any]]:
        first = self.rows[0]
        for cell in self.cells:
            line: list[Any] = [cell.row, cell.column, cell.n, cell.failed, *_three(cell.score)]
            line += [None if cell.gain is None else first, *_three(cell.gain)]
            yield [*line, *map(_short, (cell.model_calls, cell.tokens, cell.price, cell.seconds)), None]
        for pair in self.compared:
            cell = self.cell(pair.row, pair.column)
            line = [cell.row, cell.column, cell.n, cell.failed, *_three(cell.score), pair.over]
            line += _three(pair.gain)
            yield [*line, *map(_short, (cell.model_calls, cell.tokens, cell.price, cell.seconds)), None]
        for row, reason in self.missing.items():
            yield [row, *[None] * (len(CSV) - 2), f"not measured: {reason}"]

    def write(self, folder: str | Path, plots: bool = True) -> list[Path]:
        """Write table.csv, table.json, scores.csv (one line a problem), parts.csv where the score has parts
        (one line a problem and row) and, with `plots`, accuracy, parts and gain as PNG and SVG. Returns
        their paths. Raises OSError, and MissingCapability without matplotlib."""
        place = Path(folder)
        if plots:
            from unroller.ablation.plots import need_matplotlib

            need_matplotlib()
        place.mkdir(parents=True, exist_ok=True)
        document = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        texts = {"table.csv": self.to_csv(), "table.json": document + "\n", "scores.csv": self._scores_csv()}
        if self.parts:
            texts["parts.csv"] = self._parts_csv()
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
        written = [place / name for name in texts]
        if plots:
            from unroller.ablation.plots import write_plots

            written += write_plots(self, place)
        return written

    def _scores_csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["problem", self.by or "column", *self.scores])
        for i, column in enumerate(self.column_of):
            writer.writerow([i, column, *(_short(float(of[i])) for of in self.scores.values())])
        return out.getvalue()

    def _parts_csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["problem", self.by or "column", "row", *self.parts])
        for row in self.scores:
            each = [self.parts[part][row] for part in self.parts]
            for i, column in enumerate(self.column_of):
                writer.writerow([i, column, row, *(_short(float(of[i])) for of in each)])
        return out.getvalue()

    def __str__(self) -> str:
        """The table in plain text: scores and gains in points."""
        lines = [["", *self.columns]]
        for row in self.rows:
            shown = [row]
            for column in self.columns:
                if row in self.missing:
                    shown.append("—")
                    continue
                cell = self.cell(row, column)
                gain = "" if cell.gain is None else f" {points(cell.gain)}"
                shown.append(f"{100 * cell.score.mean:.1f}{gain}")
            lines.append(shown)
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        rows = ["  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) for line in lines]
        return "\n".join(row.rstrip() for row in rows)

    __repr__ = __str__


CSV = (
    "row", "column", "n", "failed", "score", "score_low", "score_high", "over", "gain", "gain_low",
    "gain_high", "model_calls", "tokens", "price", "seconds", "note",
)  # fmt: skip


def points(gain: Estimate) -> str:
    """A gain with its interval in points of a hundred: +8.2 [+5.1, +11.4]."""
    if math.isnan(gain.low):
        return f"{100 * gain.mean:+.1f}"
    return f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def check_pairs(compare: Sequence[tuple[str, str]], of: str | None, rows: Mapping[str, Any]) -> None:
    """Raises UnknownName where a pair, or the row whose contributions are wanted, names no row."""
    for name in [*(name for pair in compare for name in pair), *([] if of is None else [of])]:
        if name not in rows:
            raise UnknownName(f"no row is called {name!r}.{near(name, rows)}")


def _three(of: Estimate | None) -> list[float | None]:
    return [None] * 3 if of is None else [_short(of.mean), _short(of.low), _short(of.high)]


def _short(number: float | None) -> float | None:
    """Rounded to what anybody reads, None for NaN."""
    return None if number is None or math.isnan(number) else round(number, 6)


def _plain(thing: Any) -> Any:
    if isinstance(thing, Fault):
        return {"action": thing.action, "kind": thing.kind, "message": thing.message, "phase": thing.phase}
    if isinstance(thing, msgspec.Struct):
        return {name: _plain(getattr(thing, name)) for name in thing.__struct_fields__}
    if isinstance(thing, dict):
        return {str(key): _plain(value) for key, value in cast("dict[Any, Any]", thing).items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(one) for one in cast("list[Any]", thing)]
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else None
    return thing
