"""What the model draws, not picked: `python -m nano_omni.gallery --weights DIR --out FILE.png`.

The first prompts of the test split, one below the other; beside each a room that shows it, and what was drawn
of it from each set of contexts, with the number of its row as the seed. Under a picture stands what the
verifier says of it.
"""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .data import split_seeds
from .drawing import Sampling
from .drawn import drawn
from .model import load
from .pictures import pictures
from .reader import Reader
from .verifier import verifier
from .world.prompts import write

ROWS = ("direct", "short", "long", "visual", "long + visual")


def gallery(reader: Reader, count: int, rows: Sequence[str] = ROWS) -> Any:
    """A matplotlib figure: `count` prompts, each with a true room and a picture from each row's contexts."""
    from matplotlib.figure import Figure

    some = pictures(split_seeds("test", 0, 2 * count), "bare")[:count]
    asked, judge = some.compositions(), verifier()
    columns = {"a room that shows it": some.pictures}
    columns |= {row: drawn(reader, some, row, Sampling())[0] for row in rows}
    figure = Figure(figsize=(1.5 * (len(columns) + 1.4), 1.75 * count), layout="constrained")
    axes = figure.subplots(count, 1 + len(columns), squeeze=False, width_ratios=[1.4] + [1.0] * len(columns))
    for k, composition in enumerate(asked):
        words = "\n".join(textwrap.wrap(write(composition), 24))
        axes[k, 0].text(0, 0.5, f"{k}: {words}", va="center", fontsize=7.5, transform=axes[k, 0].transAxes)
        axes[k, 0].set_axis_off()
    for j, (name, drawings) in enumerate(columns.items(), 1):
        axes[0, j].set_title(name, fontsize=8)
        for k, verdict in enumerate(judge.verdicts(drawings, asked)):
            place = axes[k, j]
            place.imshow(drawings[k].permute(1, 2, 0).numpy(), interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
            met = f"{sum(verdict.holds)} of {len(verdict.holds)}"
            more = f", {verdict.extras} more" if verdict.extras else ""
            place.set_xlabel("all met" if verdict.success else met + more, fontsize=7)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=6)
    asked = parser.parse_args()
    gallery(Reader(load(asked.weights)), asked.count).savefig(asked.out, dpi=150)


if __name__ == "__main__":
    main()
