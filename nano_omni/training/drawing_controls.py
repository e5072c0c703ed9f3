"""Are pictures better for what was planned, or for more supervision, or more compute? Runs of equal training
on the same test prompts.

    python -m nano_omni.training.drawing_controls --run full=DIR --run direct=DIR --run pause=DIR --out FILE

Each run is a folder of weights; what is drawn depends on its name: `full` directly and from contexts;
`direct`, which never drew from a context, directly; `pause`, which had as many empty tokens in place of
contexts, after those too. A picture is right where the verifier finds all that its prompt asks for and
nothing else. Gains of a plan are paired, prompt by prompt; `new` are the prompts that no picture in
`--pictures` was drawn for.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import split_seeds
from ..drawing import Sampling
from ..drawn import drawn
from ..evaluation import gain
from ..model import NanoOmni
from ..pictures import Pictures, pictures, tensors_in_files
from ..reader import Reader
from ..verifier import verifier
from .controls import models_of

ASKED = {
    "full": ("direct", "short", "long", "long + visual"),
    "direct": ("direct",),
    "pause": ("direct", "short pause", "long pause", "long pause + visual pause"),
}
PLANNED = "full", "long"

Right = dict[tuple[str, str], Tensor]


def draw(models: Mapping[str, NanoOmni], some: Pictures) -> Right:
    """Of each run and row, which prompts came out whole: (n,) bool."""
    judge, compositions = verifier(), some.compositions()
    right: Right = {}
    for name, model in models.items():
        reader = Reader(model)
        for row in ASKED[name]:
            shown = drawn(reader, some, row, Sampling())[0]
            met = [verdict.success for verdict in judge.verdicts(shown, compositions)]
            right[name, row] = torch.tensor(met)
    return right


def compare(right: Right, groups: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whole prompts, %, and what a plan gains over each row (mean, low, high), by groups of prompts (n,)."""
    table: dict[str, Any] = {}
    for key, some in right.items():
        cells = table.setdefault(f"{key[0]}: {key[1]}", {})
        for group, own in groups.items():
            if not own.any():
                continue
            cells[group] = {"n": int(own.sum()), "whole prompts": 100 * some[own].float().mean().item()}
            if key != PLANNED:
                cells[group]["planned over it"] = gain(right[PLANNED][own], some[own])
    return table


def seen(folder: Path) -> set[tuple[int, ...]]:
    """The prompts, as words, of the pictures that were drawn ahead into a folder."""
    return {tuple(one) for _, tensors in tensors_in_files(folder) for one in tensors["prompt"].tolist()}


def text(table: Mapping[str, Any]) -> str:
    width = max(map(len, table))
    lines: list[str] = []
    for name, groups in table.items():
        cells: list[str] = []
        for group, cell in groups.items():
            more = cell.get("planned over it")
            said = "" if more is None else " ({:+.1f} [{:+.1f}, {:+.1f}])".format(*more)
            cells.append(f"{group} {cell['whole prompts']:.1f}{said}")
        lines.append(f"{name:<{width}}  " + "   ".join(cells))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", action="append", required=True, metavar="NAME=DIR", help=", ".join(ASKED))
    parser.add_argument("--n", type=int, default=1000, help="prompts")
    parser.add_argument("--pictures", type=Path, help="what the runs were trained on, to tell new prompts")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    models = models_of(parser, asked.run, ASKED)
    some = pictures(split_seeds("test", 0, asked.n + asked.n // 8 + 8), "bare")[: asked.n]
    groups = {"all": torch.ones(len(some), dtype=torch.bool)}
    if asked.pictures:
        known = seen(asked.pictures)
        groups["new"] = torch.tensor([tuple(one) not in known for one in some.prompt.tolist()])
    table = compare(draw(models, some), groups)
    print(text(table))
    asked.out.write_text(json.dumps({"n": len(some), "split": "test", "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
