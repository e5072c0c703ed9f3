"""Is it the context, or more supervision, or more compute? Runs of equal training on the same test questions.

    python -m nano_omni.training.controls --run full=DIR --run direct=DIR --run pause=DIR --n 3000 --out FILE

Each run is a folder of weights; what it is asked depends on its name: `full` directly, after pose, after
thinking, and after both; `direct`, which never answered from a context, directly; `pause`, which had as many
empty tokens in place of contexts, after those too. Gains are paired, question by question.
"""

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import card
from ..branches import unroll
from ..data import Rooms
from ..evaluation import gain
from ..heldout import collect
from ..model import NanoOmni, load
from ..world.questions import FORMS, Form

ASKED = {
    "full": ("direct", "pose", "thinking", "pose + thinking"),
    "direct": ("direct",),
    "pause": ("direct", "pause"),
}
UNROLLED = "full", "pose + thinking"

Right = dict[tuple[str, str], dict[Form, Tensor]]


@torch.no_grad()
def answer(
    models: Mapping[str, NanoOmni],
    test: Mapping[Form, Rooms],
    asked: Mapping[str, Sequence[str]] = ASKED,
    batch: int = 500,
) -> Right:
    """Of each run and row, which questions of each form were answered rightly: (n,) bool. asked: the rows of
    each run."""
    right: Right = {}
    for name, model in models.items():
        rows = asked[name]
        for form, rooms in test.items():
            said = [unroll(model, rooms[k : k + batch], form, rows)[0] for k in range(0, len(rooms), batch)]
            for row in rows:
                chosen = torch.cat([logits[row] for logits in said]).argmax(-1)
                right.setdefault((name, row), {})[form] = chosen == rooms.asked[form].choice
    return right


def compare(right: Right) -> dict[str, Any]:
    """Accuracies, %, and what the full run's unrolling gains over each row (mean, low, high), by form."""
    unrolled = right[UNROLLED]
    table: dict[str, Any] = {}
    for (name, row), by_form in right.items():
        cells = table.setdefault(f"{name}: {row}", {})
        for form, some in by_form.items():
            cells[str(form)] = {"accuracy": 100 * some.float().mean().item()}
            if (name, row) != UNROLLED:
                cells[str(form)]["unrolled over it"] = gain(unrolled[form], some)
    return table


def text(table: Mapping[str, Any], forms: Sequence[str]) -> str:
    rows = [["", *map(card.column, forms)]]
    for name, row in table.items():
        cells = [name]
        for form in forms:
            more = row[form].get("unrolled over it")
            said = "" if more is None else " ({:+.1f} [{:+.1f}, {:+.1f}])".format(*more)
            cells.append(f"{row[form]['accuracy']:.1f}{said}")
        rows.append(cells)
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([f"{row[0]:<{wide[0]}}", *map(str.rjust, row[1:], wide[1:])]).rstrip() for row in rows
    ]
    return "\n".join(lines)


def models_of(
    parser: argparse.ArgumentParser, runs: Sequence[str], known: Collection[str], needed: str = "full"
) -> dict[str, NanoOmni]:
    """The models of runs that were given as NAME=DIR. Ends the command for unknown names, and where the run
    that the others are compared with is not among them ("": they are not)."""
    folders = {name: Path(folder) for name, _, folder in (run.partition("=") for run in runs)}
    if unknown := folders.keys() - set(known):
        parser.error(f"{', '.join(sorted(unknown))}: runs are named {', '.join(known)}")
    if needed and needed not in folders:
        parser.error(f"the run `{needed}` is what the others are compared with")
    return {name: load(folder) for name, folder in folders.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", action="append", required=True, metavar="NAME=DIR", help=", ".join(ASKED))
    parser.add_argument("--n", type=int, default=3000, help="questions of each form")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    models = models_of(parser, asked.run, ASKED)
    test = collect(models[UNROLLED[0]].config, "test", asked.n, torch.device("cpu"))
    table = compare(answer(models, test))
    forms = [str(form) for form in FORMS]
    print(text(table, forms))
    asked.out.write_text(
        json.dumps({"n": asked.n, "split": "test", "forms": forms, "rows": table}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
