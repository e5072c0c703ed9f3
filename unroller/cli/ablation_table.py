"""A table of ablations on paper: scores and gains in points, then what failed, and what it took."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text as Line

from unroller.ablation import Cell, Estimate, Shares, Table
from unroller.ablation.columns import ALL
from unroller.ablation.table import points
from unroller.cli.terminal import line, one_line
from unroller.cli.words import fault_reason, took

FIGURES: list[tuple[str, Callable[[Cell], str]]] = [
    ("failed of all", lambda cell: str(cell.failed or "")),
    ("calls", lambda cell: f"{cell.model_calls:.3g}"),
    ("tokens", lambda cell: f"{cell.tokens:.4g}" if cell.tokens else ""),
    ("price", lambda cell: f"${cell.price:.4f}" if cell.price else ""),
    ("time", lambda cell: "" if cell.seconds is None else took(cell.seconds)),
]
"""What is known of a row beside its score."""

WIDE = 18
"""Characters for a column and the gap before it."""


def show_table(console: Console, table: Table) -> None:
    """Print it all; where the terminal is too narrow for every column, one piece below the other."""
    label = min(60, max(map(len, [table.scorer, *table.rows])))
    abreast = max(1, (console.width - label) // WIDE)
    for begun in range(0, len(table.columns), abreast):
        console.print(_scores(table, table.columns[begun : begun + abreast]))
        console.print()
    console.print(_costs(table))
    console.print()
    for row, reason in table.missing.items():
        console.print(
            Line.assemble((f"{one_line(row, 60)}: not measured: ", "yellow"), one_line(reason, 500))
        )
    for failing in table.failing:
        fault, times = failing.fault, f" {failing.count} times" if failing.count > 1 else ""
        verb = "was not called" if fault.phase == "refused" else "failed"
        words = f"{one_line(failing.row, 60)}: {one_line(fault.action, 60)} {verb}{times}: "
        console.print(Line.assemble((words, "yellow"), fault_reason(fault)), soft_wrap=True)
    for note in table.notes:
        console.print(line(note, "yellow"), soft_wrap=True)
    if table.compared:
        console.print()
        console.print(_compared(table))
    if table.shares is not None:
        console.print()
        console.print(_shares(table.shares))
    console.print()
    console.print(line(_footer(table), "dim"), soft_wrap=True)


def _scores(table: Table, columns: list[str]) -> Grid:
    cells = {(cell.row, cell.column): cell for cell in table.cells}
    grid = _plain(table.scorer)
    for column in columns:
        n = next((cell.n for cell in table.cells if cell.column == column), table.problems)
        heading = Line(f"{_name(table, column)}\nn {n}")
        grid.add_column(heading, justify="right", no_wrap=True, min_width=WIDE - 3)
    for row in table.rows:
        drawn = [_cell(cells[row, c]) if (row, c) in cells else Line("—") for c in columns]
        grid.add_row(line(one_line(row, 60)), *drawn)
    return grid


def _costs(table: Table) -> Grid:
    """What a problem costs in each row, and how many of them failed; figures that nobody has are left out."""
    cells = [cell for cell in table.cells if cell.column == ALL]
    shown = [(name, of) for name, of in FIGURES if any(of(cell) for cell in cells)]
    grid = _plain("a problem")
    for name, _ in shown:
        grid.add_column(Line(name), justify="right")
    for cell in cells:
        grid.add_row(line(one_line(cell.row, 60)), *(of(cell) for _, of in shown))
    return grid


def _name(table: Table, column: str) -> str:
    return column if column in (ALL, *table.parts) or not table.by else one_line(f"{table.by} {column}", 16)


def _cell(cell: Cell) -> Line:
    """The score, the gain, and below them the gain's interval: narrow enough for several columns."""
    score = Line(f"{100 * cell.score.mean:.1f}")
    return score if cell.gain is None else Line.assemble(score, "  ", _gain(cell.gain))


def _gain(gain: Estimate) -> Line:
    mean, _, interval = points(gain).partition(" ")
    return Line.assemble((mean, _style(gain)), (f"\n{interval}" if interval else "", "dim"))


def _style(gain: Estimate) -> str:
    """Green and red where the interval does not hold 0."""
    if gain.low > 0:
        return "green"
    return "red" if gain.high < 0 else "dim"


def _compared(table: Table) -> Grid:
    grid = _plain("compared")
    pairs = list(dict.fromkeys((pair.row, pair.over) for pair in table.compared))
    found = {(pair.row, pair.over, pair.column): pair.gain for pair in table.compared}
    for column in table.columns:
        grid.add_column(Line(_name(table, column)), justify="right", no_wrap=True)
    for a, b in pairs:
        gains = [found[a, b, column] for column in table.columns]
        name = line(f"{one_line(a, 60)} over {one_line(b, 60)}")
        grid.add_row(name, *map(_gain, gains))
    return grid


def _shares(shares: Shares) -> Grid:
    grid = _plain(f"contributions in {one_line(shares.row, 60)}")
    for name in ("entries", "leave one out", "Shapley"):
        grid.add_column(name, justify="right")
    for share in shares.actions:
        grid.add_row(
            line(one_line(share.action, 60)),
            str(share.n),
            _points(share.leave_one_out),
            _points(share.shapley),
        )
    without = f", {shares.left_out} without output left out" if shares.left_out else ""
    grid.caption = f"score {_share(shares.empty)} without context, {_share(shares.full)} with all{without}"
    grid.caption_justify = "left"
    return grid


def _points(number: float | None) -> str:
    return "—" if number is None or math.isnan(number) else f"{100 * number:+.1f}"


def _share(number: float) -> str:
    return "—" if math.isnan(number) else f"{100 * number:.1f}"


def _footer(table: Table) -> str:
    backends = one_line(", ".join(table.backends)) or "no backend"
    measured = (
        f"{one_line(table.scorer, 40)} in points of a hundred, on {table.problems} problems, {backends}"
    )
    over = f"gains over {one_line(table.rows[0], 60)}"
    how = f"{over} with 95 % paired bootstrap intervals ({table.resamples:,} resamples, seed {table.seed})"
    about = f"{table.about}\n" if table.about else ""
    took_ = f"{table.computed:,} calls computed, {table.found:,} found in the memo, {took(table.seconds)}"
    return f"{measured}\n{about}{how}\n{took_}"


def _plain(first: str) -> Grid:
    options: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "show_edge": False}
    grid = Grid(header_style="dim", **options)
    grid.add_column(Line(first), style="bold", overflow="fold")
    return grid
