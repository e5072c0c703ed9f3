"""The front of a comparison, drawn: score against cost, every policy over its λ, and what fixed schedules
reach at each cost. matplotlib is imported when something is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unroller.ablation.plots import COLOURS, MARKS, errors_of, figure_of, need_matplotlib, plain_text
from unroller.cli.terminal import one_line

if TYPE_CHECKING:
    from planners.comparison.result import Comparison, Row
    from unroller.ablation.bootstrap import Estimate

SIZE = 7.2, 4.4


def write_plots(found: Comparison, folder: Path) -> list[Path]:
    """Draw the front into `folder`, as PNG and SVG. Returns the paths. Raises MissingCapability, OSError."""
    need_matplotlib()
    from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]

    written: list[Path] = []
    with rc_context({"svg.hashsalt": "unroller", "svg.fonttype": "none"}):
        figure = front(found)
        for ending, metadata in (("png", {}), ("svg", {"Date": None})):
            written.append(folder / f"front.{ending}")
            figure.savefig(written[-1], metadata=metadata)
    return written


def front(found: Comparison) -> Any:
    """Score against cost on the held-out problems, with 95 % intervals."""
    figure, axes = figure_of(*SIZE)
    axes.scatter(
        [cost for _, cost, _ in found.schedules],
        [100 * score for _, _, score in found.schedules],
        s=9, color="#cccccc", linewidths=0, label="a fixed schedule", zorder=1,
    )  # fmt: skip
    several = len(found.groups) > 1
    for (name, edge), dashes in zip(found.edges.items(), ("-", "--"), strict=True):
        if name == "fixed" or several:
            costs, scores = zip(*edge, strict=True)
            axes.plot(
                costs, [100 * s for s in scores], color="#666666", lw=1.2, ls=dashes,
                label=plain_text(f"{name}, mixed"), zorder=2,
            )  # fmt: skip
    drawn = families(found)
    told_apart = iter(COLOURS[1:] * len(drawn))
    for i, (name, rows) in enumerate(drawn.items()):
        style: dict[str, Any] = {"marker": MARKS[i % len(MARKS)], "ls": "-"}
        if rows[0].kind == "oracle":
            style |= {"color": "#222222", "ls": ":"}
        else:  # of what was not fitted there are many points, each alone
            style["color"] = COLOURS[0] if rows[0].calls == 0 else next(told_apart)
        axes.errorbar(
            [row.cost.mean for row in rows], [100 * row.score.mean for row in rows],
            xerr=_across([row.cost for row in rows]), yerr=errors_of([row.score for row in rows]),
            ms=4.5, lw=1.2, elinewidth=0.8, capsize=2, label=_named(name), zorder=3, **style,
        )  # fmt: skip
    axes.set_xlabel(plain_text(f"mean cost, {found.price}"))
    axes.set_ylabel(plain_text(f"{found.scorer}, %"))
    axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    words = f"n = {found.n:,} held-out problems, 95 % intervals; a line is one policy over λ"
    axes.set_title(words, fontsize="small", color="#666666", loc="left")
    return figure


def families(found: Comparison) -> dict[str, list[Row]]:
    """The rows of each policy that is drawn, from the cheapest up. Fixed schedules have lines of their own;
    of the bandits there is one, at each λ the best."""
    drawn: dict[str, list[Row]] = {}
    for row in found.rows:
        if row.kind == "bandit":
            at = found.weights if row.weight is None else [row.weight]
            if row.name in [found.bandit.get(f"{weight:g}") for weight in at]:
                drawn.setdefault("ridge bandit, the best at each λ", []).append(row)
        elif row.kind != "fixed":
            drawn.setdefault(row.name, []).append(row)
    return {name: sorted(rows, key=lambda row: row.cost.mean) for name, rows in drawn.items()}


def _named(name: str) -> str:
    """A name as a legend shows it: matplotlib leaves out those that begin with an underscore."""
    words = plain_text(one_line(name, 40))
    return f" {words}" if words.startswith("_") else words


def _across(costs: list[Estimate]) -> list[list[float]]:
    """How far intervals of cost reach, in units of cost."""
    return [[end / 100 for end in ends] for ends in errors_of(costs)]
