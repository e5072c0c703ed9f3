"""A comparison on paper."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text as Line

from planners.tree.showing import plain_grid, points
from unroller.cli.terminal import line, one_line

if TYPE_CHECKING:
    from planners.comparison.result import AtCost, Comparison, InGroup, Row
    from unroller.ablation.bootstrap import Estimate

WIDE = 200
"""Columns of a comparison in plain text."""

COLUMNS = 6
"""Groups that have a column each."""

NAME = 44
"""Characters of a policy's name that are shown."""


def show_comparison(console: Console, found: Comparison) -> None:
    """Print it: scores and costs at the first λ, gains at equal mean cost, of all and within each group,
    regrets, and what was chosen."""
    rows = ranked(found)
    console.print(_scores(found, rows))
    console.print()
    console.print(_gains(found, rows))
    console.print()
    if 1 < len(found.groups) <= COLUMNS:
        console.print(_within(found, rows))
        console.print()
    console.print(_regrets(found, rows))
    console.print()
    if found.logged:
        console.print(_logged(found))
        console.print()
    for row in rows:
        if row.kind == "fixed":
            console.print(line(f"{row.name}: {row.note}"), soft_wrap=True)
    for name, reason in found.missing.items():
        console.print(line(f"{name} was not compared: {reason}", "yellow"), soft_wrap=True)
    for note in found.notes:
        console.print(line(f"{note}.", "dim"), soft_wrap=True)
    console.print(line(_footer(found), "dim"), soft_wrap=True)


def in_plain_text(found: Comparison) -> str:
    """The same without colours, as wide as it needs."""
    paper = StringIO()
    show_comparison(Console(file=paper, width=WIDE, highlight=False), found)
    return paper.getvalue()


def ranked(found: Comparison) -> list[Row]:
    """The rows that are shown, from the highest value at the first λ down: those made for it or for no λ in
    particular, and every one of a policy that was given for other λ only."""
    first = found.weights[0]
    at_first = {row.name for row in found.rows if row.weight in (None, first)}
    rows = [row for row in found.rows if row.weight in (None, first) or row.name not in at_first]
    return sorted(rows, key=lambda row: -(row.score.mean - first * row.cost.mean))


def _scores(found: Comparison, rows: list[Row]) -> Grid:
    grid = plain_grid(f"on {found.n:,} problems that were held out")
    hard = any(row.hard is not None for row in rows)
    heads = ["score", *(["hard"] if hard else []), "cost", "calls", "tokens", "fitted with calls", "front"]
    for name in heads:
        grid.add_column(Line(name), justify="right")
    for row in rows:
        calls, tokens, _ = row.charged
        grid.add_row(
            _name(row),
            points(row.score),
            *([f"{100 * row.hard.mean:.1f}" if row.hard is not None else ""] if hard else []),
            f"{row.cost.mean:.3g}",
            f"{calls:.2f}",
            f"{tokens:.1f}",
            _learnt(row),
            "●" if row.front else "",
        )
    return grid


def _gains(found: Comparison, rows: list[Row]) -> Grid:
    grid = plain_grid("gain over fixed schedules at the same mean cost")
    several = len(found.groups) > 1
    grid.add_column(Line("of all problems"), justify="right")
    if several:
        grid.add_column(Line(f"of each {one_line(found.by, 30)}"), justify="right")
    for row in rows:
        if row.kind == "oracle":
            continue
        both = [row.over_fixed, *([row.over_grouped] if several else [])]
        grid.add_row(_name(row), *map(_at_cost, both))
    if any(not g.matched for row in rows if row.kind != "oracle" for g in (row.over_fixed, row.over_grouped)):
        grid.caption = "* costs more (or less) than any mixture of fixed schedules that is worth its cost"
        grid.caption_justify = "left"
    return grid


def _within(found: Comparison, rows: list[Row]) -> Grid:
    by = one_line(found.by, 30)
    grid = plain_grid(f"within each {by}: score, and gain over its own fixed schedules at the same mean cost")
    for label, n in found.groups.items():
        grid.add_column(line(f"{one_line(label, 20)} (n {n:,})"), justify="right")
    for row in rows:
        if row.kind != "oracle":
            grid.add_row(_name(row), *(_in_group(row.within[label]) for label in found.groups))
    return grid


def _in_group(found: InGroup) -> Line:
    return Line(f"{100 * found.score.mean:.1f} at {found.cost.mean:.3g}  ").append(_at_cost(found.over_fixed))


def _regrets(found: Comparison, rows: list[Row]) -> Grid:
    first = found.weights[0]
    grid = plain_grid(f"value = score - {first:g} × cost, and regret to")
    names = list(dict.fromkeys(name for row in rows for regret in row.regrets for name in regret.to))
    grid.add_column(Line("value"), justify="right")
    for name in names:
        grid.add_column(line(one_line(name, 30)), justify="right")
    grid.add_column(Line("gap closed"), justify="right")
    for row in rows:
        regret = next((one for one in row.regrets if one.weight == first), row.regrets[0])
        own = [_signed(regret.to[name], better=-1) if name in regret.to else Line("") for name in names]
        closed = "" if regret.closed is None else _closed(regret.closed)
        grid.add_row(_name(row), f"{100 * regret.value.mean:.1f}", *own, closed)
    return grid


def _logged(found: Comparison) -> Grid:
    grid = plain_grid(f"score, estimated from {found.logged[0].n:,} logged unrollings")
    for name in ("exact", "IPS", "SNIPS", "DR", "effective", "mean weight"):
        grid.add_column(Line(name), justify="right")
    for one in found.logged:
        grid.add_row(
            line(one_line(one.policy, NAME)),
            f"{100 * one.exact:.1f}",
            *map(points, (one.ips, one.snips, one.dr)),
            f"{one.effective:,.0f}",
            f"{one.weight:.2f}",
        )
    return grid


def _footer(found: Comparison) -> str:
    draws = " or ".join(map(str, found.draws))
    bandit = found.bandit.get(f"{found.weights[0]:g}")
    said = (
        f"{found.scorer} in points of a hundred, {draws} draws, {', '.join(found.backends) or 'no backend'};"
        f" cost: {found.price}; {found.fitted:,} other problems to fit on"
        f"\n95 % paired bootstrap intervals over problems, and over seeds where there are several"
        f" ({found.resamples:,} resamples); gap: from the best fixed schedules to the oracle"
    )
    return said if bandit is None else f"{said}\nbandit: {bandit}, the best of those here"


def _name(row: Row) -> Line:
    seeds = "" if row.seeds == 1 else f", {row.seeds} seeds"
    return line(one_line(row.title, NAME) + seeds)


def _learnt(row: Row) -> str:
    if row.kind in ("fixed", "oracle"):
        return ""
    return "?" if row.calls is None else f"{row.calls:,.0f}" if row.calls else "none"


def _at_cost(found: AtCost) -> Line:
    said = _signed(found.gain, better=1)
    return said if found.matched else said.append(" *")


def _closed(share: Estimate) -> str:
    """A share of the gap; of who is further from the oracle than where it begins, that."""
    return f"{100 * share.mean:.0f} %" if share.mean > -0.005 else "below 0"


def _signed(gain: Estimate, better: int) -> Line:
    """A difference in points with its interval, green where it is surely for the better."""
    low, high = sorted((better * gain.low, better * gain.high))
    style = "green" if low > 0 else "red" if high < 0 else "dim"
    if gain.low != gain.low:
        return Line(f"{100 * gain.mean:+.1f}", "dim")
    return Line(f"{100 * gain.mean:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]", style)
