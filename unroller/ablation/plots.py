"""Plots of a table, after the figures of "Context Unrolling in Omni Models": accuracy by column for every
row, as lines where the columns are numbers and as grouped bars where they are not, the parts of the score as
bars, and the gain of each row; all with their 95 % intervals. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unroller.ablation.columns import ALL
from unroller.faults import MissingCapability

if TYPE_CHECKING:
    from unroller.ablation.bootstrap import Estimate
    from unroller.ablation.table import Table

# Okabe and Ito's colours, told apart by the colour-blind; grey for the first row, which others are over.
COLOURS = ("#666666", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKS = "osD^vPX*"


def need_matplotlib() -> None:
    """Raises MissingCapability, with what to install."""
    if find_spec("matplotlib") is None:
        raise MissingCapability("plots need matplotlib: pip install 'unroller[plots]', or do without plots")


def write_plots(table: Table, folder: Path) -> list[Path]:
    """Draw accuracy, parts and gain into `folder`, each as PNG and SVG. Returns the paths; none where no row
    was measured. Raises MissingCapability, OSError."""
    need_matplotlib()
    from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]

    measured = [row for row in table.rows if row not in table.missing]
    figures = {"accuracy": _accuracy(table, measured)} if measured else {}
    if table.parts:
        figures["parts"] = _bars(table, measured, list(table.parts))
    if any(cell.gain is not None for cell in table.cells):
        figures["gain"] = _gains(table, measured)
    written: list[Path] = []
    with rc_context({"svg.hashsalt": "unroller", "svg.fonttype": "none"}):  # the same table, the same file
        for name, figure in figures.items():
            for ending, metadata in (("png", {}), ("svg", {"Date": None})):
                written.append(folder / f"{name}.{ending}")
                figure.savefig(written[-1], metadata=metadata)
    return written


def figure_of(width: float, height: float) -> tuple[Any, Any]:
    """A figure of its own, without pyplot, which would keep it and may open a window."""
    from matplotlib.figure import Figure

    figure: Any = Figure((width, height), dpi=160, layout="constrained")
    axes: Any = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _accuracy(table: Table, rows: Sequence[str]) -> Any:
    several = [column for column in table.columns if column != ALL and column not in table.parts]
    if not table.numeric or len(several) < 2:
        return _bars(table, rows, [*several, ALL])
    figure, axes = figure_of(max(5.0, 1.4 + 0.96 * len(several)), 3.6)
    for i, row in enumerate(rows):
        found = [table.cell(row, column).score for column in several]
        nudge = 0.012 * (i - (len(rows) - 1) / 2) * _span(several)  # so that intervals can be told apart
        axes.errorbar(
            [float(column) + nudge for column in several], _means(found), errors_of(found),
            label=plain_text(row), color=COLOURS[i % len(COLOURS)], marker=MARKS[i % len(MARKS)], ms=4.5,
            lw=1.6, ls="-" if i < len(COLOURS) else "--", elinewidth=1, capsize=2,
        )  # fmt: skip
    axes.set_xticks([float(column) for column in several], [plain_text(column) for column in several])
    axes.set_xlabel(plain_text(table.by))
    return _finished(figure, axes, table)


def _bars(table: Table, rows: Sequence[str], columns: Sequence[str]) -> Any:
    figure, axes = figure_of(max(5.0, 1.4 + 0.24 * len(columns) * (len(rows) + 1)), 3.6)
    wide = 0.8 / len(rows)
    whiskers = {"ecolor": "#222222", "elinewidth": 1, "capsize": min(2.0, 8 * wide)}
    for i, row in enumerate(rows):
        found = [table.cell(row, column).score for column in columns]
        x = [at - 0.4 + wide * (i + 0.5) for at in range(len(columns))]
        axes.bar(
            x, _means(found), wide * 0.92, yerr=errors_of(found), error_kw=whiskers, label=plain_text(row),
            color=COLOURS[i % len(COLOURS)], hatch="" if i < len(COLOURS) else "//",
        )  # fmt: skip
    axes.set_xticks(range(len(columns)), [plain_text(column) for column in columns])
    axes.set_xlabel("" if set(columns) <= set(table.parts) else plain_text(table.by))
    return _finished(figure, axes, table)


def _finished(figure: Any, axes: Any, table: Table) -> Any:
    axes.set_ylabel(f"{plain_text(table.scorer)}, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    _under_title(axes, f"n = {table.problems}, 95 % intervals")
    return figure


def _gains(table: Table, rows: Sequence[str]) -> Any:
    """The gain of every row over the first, on all problems, one line each."""
    found = [(row, table.cell(row).gain) for row in rows]
    gains = [(row, gain) for row, gain in found if gain is not None]
    figure, axes = figure_of(5.6, 1.2 + 0.36 * len(gains))
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.axvline(0, color="#666666", linewidth=1)
    for i, (row, gain) in enumerate(gains):
        style: dict[str, Any] = {"fmt": "o", "color": COLOURS[(rows.index(row)) % len(COLOURS)], "ms": 5}
        axes.errorbar(_means([gain]), [i], xerr=errors_of([gain]), elinewidth=1.6, capsize=3, **style)
    axes.set_yticks(range(len(gains)), [plain_text(row) for row, _ in gains])
    axes.set_ylim(len(gains) - 0.5, -0.5)
    axes.set_xlabel(f"gain over {plain_text(table.rows[0])}, points of {plain_text(table.scorer)}")
    _under_title(axes, f"n = {table.problems}, paired 95 % intervals")
    return figure


def _under_title(axes: Any, words: str) -> None:
    axes.set_title(words, fontsize="small", color="#666666", loc="left")


def _means(of: Sequence[Estimate]) -> list[float]:
    return [100 * one.mean for one in of]


def errors_of(of: Sequence[Estimate]) -> list[list[float]]:
    """How far the intervals reach below and above; nothing where there is none."""
    below = [one.mean - one.low for one in of]
    above = [one.high - one.mean for one in of]
    return [[0.0 if math.isnan(d) else max(0.0, 100 * d) for d in ends] for ends in (below, above)]


def _span(columns: Sequence[str]) -> float:
    numbers = [float(column) for column in columns]
    return max(numbers) - min(numbers)


def plain_text(words: str) -> str:
    """Names as they are: matplotlib would read what stands between dollar signs as mathematics."""
    return words.replace("$", r"\$")
