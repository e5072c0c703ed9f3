"""The model card beside the weights."""

import json
from pathlib import Path

from .config import Config

_HEAD = """---
license: apache-2.0
library_name: unroller
tags: [unified-multimodal, spatial-reasoning, procedural]
---
# nano omni

A small decoder-only Mixture of Transformers after BAGEL that answers spatial questions across two photos
of a procedural room, directly or after writing its own context (camera pose, caption, imagined views,
thinking, hidden states). It knows only rooms like those of `nano_omni.world` and the words of
`nano_omni.vocabulary`.
"""


def note(
    step: int,
    seconds: float,
    batch: int,
    questions: int,
    device: str,
    seed: int,
    complete: bool,
    since: str | None = None,
) -> str:
    """How the weights came about, in a paragraph. questions: most a room was asked; since: what finished
    weights are called that were trained for longer."""
    begun = "" if since is None else f"The finished weights in {since}, trained for longer. "
    return (
        f"{begun}Trained {step:,} steps of {batch} rooms, none seen twice ({step * batch:,} rooms, up to "
        f"{questions} questions each), in {seconds:,.0f} s on {device}, seed {seed}. "
        + ("The schedule was completed." if complete else "The schedule was not completed.")
    )


def column(form: object) -> str:
    """How a form of questions is called in a table: '1 hop', '3 hops', 'count'."""
    return f"{form} hop{'' if str(form) == '1' else 's'}" if str(form).isdecimal() else str(form)


def write(folder: Path, config: Config, training: str, scores: dict | None = None) -> None:
    """README.md in `folder`; `scores` is what `evaluation` returns."""
    experts = (
        "The generation expert is not part of these weights: nothing of it was trained. "
        "`NanoOmni.with_generation_expert` starts one as a copy of the understanding expert."
        if config.experts == 1
        else "Both experts are part of these weights."
    )
    size = f"Width {config.width}, {config.depth} layers, {config.heads} heads, {config.grid**2} tokens "
    size += "a photo."
    parts = [_HEAD, f"## Model\n{size} {experts}\n", f"## Training\n{training}\n"]
    if scores:
        lines = [
            "## Held-out accuracy\nTest scenes were never trained on. Contexts are self-written unless a row "
            f"says otherwise; n = {scores['n']} a column, as many with each answer (four of them; two to "
            "compare); 95 % paired bootstrap intervals of the gain over direct in brackets.\n",
            "| context | " + " | ".join(map(column, scores["forms"])) + " |",
            "|---|" + "---|" * len(scores["forms"]),
        ]
        for name, row in scores["rows"].items():
            cells = []
            for h in scores["forms"]:
                cell = row[h]
                gain = "" if "gain" not in cell else " ({:+.1f} [{:+.1f}, {:+.1f}])".format(*cell["gain"])
                cells.append(f"{cell['accuracy']:.1f}{gain}")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        grounding = json.dumps(scores["grounding"], indent=1)
        said = "Self-written words that are right, numbers within one step, %"
        lines.append(f"\n{said}:\n```\n{grounding}\n```\n")
        parts.append("\n".join(lines))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n".join(parts))
