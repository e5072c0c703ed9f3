"""A summary of a tree on paper."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text as Line

from planners.tree.layout import name_of
from planners.tree.summary import Row, Summary, ranked
from unroller.ablation.bootstrap import Estimate
from unroller.cli.terminal import line, one_line

SHOWN = 12
"""Schedules that are printed beside direct and those on the front; all of them are in --json."""


def show_summary(console: Console, summary: Summary) -> None:
    """Print it: schedules, what is best, and what room there is."""
    console.print(_schedules(summary))
    console.print()
    console.print(_best(summary))
    console.print()
    console.print(_gains(summary))
    console.print()
    console.print(line(_chosen(summary)), soft_wrap=True)
    console.print(line(f"oracle: {summary.oracle.kind}: {summary.oracle.note}.", "dim"), soft_wrap=True)
    console.print(line(_footer(summary), "dim"), soft_wrap=True)


def _schedules(summary: Summary) -> Grid:
    grid = plain_grid("schedule")
    hard = summary.rows[0].hard is not None
    for name in ["score", *(["hard"] if hard else []), "calls", "tokens", "made", "front"]:
        grid.add_column(Line(name), justify="right")
    rows = ranked(summary.rows)
    shown = [row for place, row in enumerate(rows) if place < SHOWN or row.front or row.schedule == "direct"]
    for row in shown:
        calls, tokens, _ = row.charged
        grid.add_row(
            line(one_line(row.schedule, 90)),
            points(row.score),
            *([f"{100 * (row.hard or 0):.1f}"] if hard else []),
            f"{calls:.2f}",
            f"{tokens:.1f}",
            _share(row),
            "●" if row.front else "",
        )
    if len(rows) > len(shown):
        grid.caption = f"{len(rows) - len(shown)} more schedules are in --json"
        grid.caption_justify = "left"
    return grid


def _best(summary: Summary) -> Grid:
    grid = plain_grid("chosen on some, scored on others")
    for name in ("score", "hard", summary.price):
        grid.add_column(Line(name), justify="right")
    oracle = f"oracle, {summary.oracle.kind}"
    for name, found in [
        ("best fixed", summary.fixed),
        (f"best fixed by {one_line(summary.by, 30)}", summary.grouped),
        (oracle, summary.oracle),
    ]:
        hard = "—" if found.hard is None else f"{100 * found.hard.mean:.1f}"
        grid.add_row(line(name), points(found.score), hard, f"{found.cost.mean:.2f}")
    if not summary.oracle.optimistic:
        grid.add_row("oracle, naive (fake)", points(summary.oracle.naive), "", "")
    return grid


def _gains(summary: Summary) -> Grid:
    grid = plain_grid("gain in score, points")
    grid.add_column(Line("95 % paired"), justify="right")
    for name, gain in summary.gains.items():
        words = name.replace("group", one_line(summary.by, 30))
        style = "green" if gain.low > 0 else "red" if gain.high < 0 else "dim"
        said = f"{100 * gain.mean:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]"
        grid.add_row(line(words), Line(said, style))
    return grid


def _chosen(summary: Summary) -> str:
    parts = []
    for group, states in (summary.fixed.chosen | summary.grouped.chosen).items():
        names = ", ".join(dict.fromkeys(map(name_of, states)))
        count = summary.groups.get(group, summary.n)
        parts.append(f"best for {group} (n {count}): {names}")
    return "\n".join(parts)


def _footer(summary: Summary) -> str:
    backends = ", ".join(summary.backends) or "no backend"
    return (
        f"{summary.scorer} in points of a hundred, on {summary.n:,} problems in {summary.draws} draws,"
        f" {backends}\n95 % bootstrap intervals over problems ({summary.resamples:,} resamples); best fixed:"
        f" {summary.fixed.folds} folds of problems"
    )


def points(found: Estimate) -> str:
    """A score with its interval in points of a hundred."""
    if found.low != found.low:  # there is none of one problem
        return f"{100 * found.mean:.1f}"
    return f"{100 * found.mean:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _share(row: Row) -> str:
    return "" if row.made == 1 else f"{row.made:.0%}"


def plain_grid(first: str) -> Grid:
    """An empty table as trees and comparisons are printed; `first` heads its first column."""
    options: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "show_edge": False}
    grid = Grid(header_style="dim", **options)
    grid.add_column(Line(first), style="bold", overflow="fold")
    return grid
