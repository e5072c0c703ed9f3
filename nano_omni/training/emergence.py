"""What contexts make of one another that no training put together: the paper's claim of emergence.

    python -m nano_omni.training.emergence --run full=DIR --run apart=DIR --n 3000 --out FILE

A run is trained to answer from some sets of contexts (`forest`); it is asked after others, which it only ever
read one by one, or in other company. `full` answered from many sets, `apart` from one context at a time. Each
row's gain is paired, over direct and over every row that is a part of it: it is more than its parts where all
of these are above 0.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import card
from ..branches import parts
from ..evaluation import gain
from ..heldout import collect
from ..world.questions import FORMS, Form
from .controls import answer, models_of
from .forest import GROUPS, tree

HELD_OUT = {
    "full": ("pose + caption", "pose + views", "caption + views", "caption + views + thinking"),
    "apart": ("pose + thinking", "caption + thinking"),
}
"""Rows that a run was never trained to answer from."""

_NAMES = {"think": "thinking", "captioned": "caption", "viewed": "views", "hidden": "latent"}


def trained(name: str) -> set[str]:
    """The rows that a tree (`forest.TREES`) has answers in."""
    found = set()
    for group in GROUPS:
        nodes = {label: (parent, what) for label, parent, what in tree(group, name)}
        for parent, what in nodes.values():
            if what != "answer":
                continue
            path: list[str] = []
            while parent in nodes:
                parent, what = nodes[parent]
                path.insert(0, _NAMES.get(what, what))
            found.add(" + ".join(path) or "direct")
    return found


def asked_of(name: str) -> tuple[str, ...]:
    """What a run is asked after: direct, the rows held out of its training, and the trained rows that are a
    part of those."""
    held = HELD_OUT[name]
    known = sorted(row for row in trained(name) if any(is_part(row, whole) for whole in held))
    return ("direct", *sorted(known, key=lambda row: len(parts(row))), *held)


def is_part(row: str, whole: str) -> bool:
    """Whether `row` is some of the contexts of `whole`, in its order, and not all."""
    left = iter(parts(whole))
    return 0 < len(parts(row)) < len(parts(whole)) and all(part in left for part in parts(row))


def compare(right: Mapping[tuple[str, str], Mapping[Form, Tensor]]) -> dict[str, Any]:
    """Accuracies, %, and of what was held out the gains (mean, low, high) over direct and its parts, by run,
    row and form."""
    table: dict[str, Any] = {}
    for (name, row), by_form in right.items():
        cells = table.setdefault(name, {}).setdefault(row, {})
        beside = ["direct", *(other for run, other in right if run == name and is_part(other, row))]
        for form, some in by_form.items():
            cell: dict[str, Any] = {"accuracy": 100 * some.float().mean().item()}
            cells[str(form)] = cell
            if row in HELD_OUT[name]:
                cell["gain"] = {other: gain(some, right[name, other][form]) for other in beside}
    return table


def text(table: Mapping[str, Any], forms: Sequence[str]) -> str:
    """Accuracies; of what was held out also the least of its gains over direct and its parts."""
    lines: list[list[str]] = []
    for name, rows in table.items():
        lines.append([f"{name}", *map(card.column, forms)])
        for row, cells in rows.items():
            line = [f"  {row}"]
            for form in forms:
                gains = cells[form].get("gain")
                least = min(gains.values(), key=lambda one: one[0]) if gains else ()
                said = " ({:+.1f} [{:+.1f}, {:+.1f}])".format(*least) if gains else ""
                line.append(f"{cells[form]['accuracy']:.1f}{said}")
            lines.append(line)
    wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([f"{line[0]:<{wide[0]}}", *map(str.rjust, line[1:], wide[1:])]).rstrip() for line in lines
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = ", ".join(HELD_OUT)
    parser.add_argument("--run", action="append", required=True, metavar="NAME=DIR", help=names)
    parser.add_argument("--n", type=int, default=3000, help="questions of each form")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    models = models_of(parser, asked.run, HELD_OUT, needed="")
    first = next(iter(models.values()))
    test = collect(first.config, "test", asked.n, torch.device("cpu"))
    table = compare(answer(models, test, {name: asked_of(name) for name in models}))
    forms = [str(form) for form in FORMS]
    print(text(table, forms))
    asked.out.write_text(
        json.dumps({"n": asked.n, "split": "test", "forms": forms, "runs": table}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
