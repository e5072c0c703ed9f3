"""Gain against training steps: does direct answering catch up?

    python -m nano_omni.training.curves --run full=DIR --run direct=DIR --run pause=DIR --out gain.png

Draws what training checked on the way (checks.jsonl of each folder), averaged over the questions of two hops
and more: directly and with pose and thinking in the full tree, and the controls' own best row. Several runs
of one name (seeds) are averaged, and their spread is shaded. `again` is a run that trains finished weights
for longer (`run --again`): its steps are counted from where the full ones end. The same numbers as data:
beside the picture, as CSV.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path

HOPS = ("2", "3", "4")
AGAIN = "again"
DRAWN = {  # row of a run's checks: label and colour, by the name of the run
    "full": {"direct": ("direct", "#666666"), "pose + thinking": ("pose + thinking", "#0072B2")},
    AGAIN: {
        "direct": ("direct, trained on", "#000000"),
        "pose + thinking": ("pose + thinking, trained on", "#003C5A"),
    },
    "direct": {"direct": ("trained to answer directly only", "#D55E00")},
    "pause": {"pause": ("pauses in place of words", "#009E73")},
    "apart": {"pose + thinking": ("pose + thinking, never trained together", "#CC79A7")},
}


def read(folder: Path, row: str) -> dict[int, float]:
    """Mean accuracy, %, over HOPS by step. Raises OSError, and ValueError for a folder that holds none."""
    found: dict[int, float] = {}
    for line in (folder / "checks.jsonl").read_text().splitlines():
        check = json.loads(line)
        if all(f"{row}.{h}" in check for h in HOPS):
            found[check["step"]] = 100 * sum(check[f"{row}.{h}"] for h in HOPS) / len(HOPS)
    if not found:
        raise ValueError(f"{folder}/checks.jsonl holds no row {row!r}")
    return found


def gather(runs: Sequence[tuple[str, Path]]) -> list[tuple[str, int, float, float, float, int]]:
    """(label, step, mean, least, most, number of runs) of every row that is drawn."""
    rows = []
    before = max(
        (step for name, folder in runs if name == "full" for step in read(folder, "direct")), default=0
    )
    for name, drawn in DRAWN.items():
        since = before if name == AGAIN else 0
        folders = [folder for known, folder in runs if known == name]
        for row, (label, _) in drawn.items() if folders else ():
            each = [read(folder, row) for folder in folders]
            for step in sorted(set.intersection(*map(set, each))):
                values = [one[step] for one in each]
                rows.append(
                    (label, since + step, sum(values) / len(values), min(values), max(values), len(values))
                )
    return rows


def draw(rows: Sequence[tuple[str, int, float, float, float, int]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure((6.4, 4.0), dpi=160, layout="constrained")
    axes = figure.subplots()
    colours = dict(pair for drawn in DRAWN.values() for pair in drawn.values())
    for label in dict.fromkeys(row[0] for row in rows):
        some = [row[1:] for row in rows if row[0] == label]
        steps, mean, least, most, _ = zip(*some, strict=True)
        axes.plot(steps, mean, marker="o", markersize=3, color=colours[label], label=label)
        axes.fill_between(steps, least, most, color=colours[label], alpha=0.15, linewidth=0)
    axes.axhline(25, color="#bbbbbb", linewidth=0.8, linestyle="--")
    axes.set(xlabel="training steps", ylabel="accuracy at 2 to 4 hops, %", ylim=(20, 100))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", action="append", required=True, metavar="NAME=DIR", help=", ".join(DRAWN))
    parser.add_argument("--out", type=Path, required=True, help="a PNG; a CSV is written beside it")
    asked = parser.parse_args(arguments)
    runs = [(name, Path(folder)) for name, _, folder in (text.partition("=") for text in asked.run)]
    unknown = next((name for name, _ in runs if name not in DRAWN), None)
    if unknown is not None:
        parser.error(f"a run is one of {', '.join(DRAWN)}, not {unknown!r}")
    rows = gather(runs)
    with open(asked.out.with_suffix(".csv"), "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("row", "step", "mean", "least", "most", "runs"))
        table.writerows((label, step, *(round(v, 2) for v in values), n) for label, step, *values, n in rows)
    draw(rows, asked.out)


if __name__ == "__main__":
    main()
