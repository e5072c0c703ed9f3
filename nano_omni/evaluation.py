"""What the model gains from its own context, on rooms it never saw: contexts by forms of questions.

`python -m nano_omni.evaluation --weights DIR --n 4000`

Rows: direct; with what it writes itself, pose, thinking, caption, views, latents and some of them together;
pauses in place of words; from an oracle (the truth, rounded to words); shuffled (another room's numbers);
with blank photos. Contexts are written word by word with a cache, those without a question before it is
read. Each column has n questions of the test split, as many with each answer. Baselines that see only the
question: the majority, and a network trained on the words.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from . import captions, card, language, views, visual
from .branches import ROWS, unroll
from .data import Rooms
from .heldout import collect, majority, text_only
from .model import NanoOmni, load
from .vocabulary import CODE_0, DIRECTION_0, DIRECTIONS, nearest
from .world.questions import FORMS, Form

COMPARED = (("pose + thinking", "thinking"), ("pose + thinking", "pose"), ("views + thinking", "thinking"))


def within(words: Tensor, truth: Tensor, steps: int = 1) -> Tensor:
    """Whether number words are at most `steps` from the true ones: any shape, bool. Directions wrap."""
    apart = (words - truth).abs()
    ring = (truth >= DIRECTION_0) & (truth < DIRECTION_0 + DIRECTIONS)
    return torch.where(ring, torch.minimum(apart, (DIRECTIONS - apart).abs()), apart) <= steps


def gain(right: Tensor, base: Tensor, draws: int = 2000) -> tuple[float, float, float]:
    """Mean of right - base in points and its 95 % paired bootstrap interval: (n,) bool twice."""
    apart = 100 * (right.float() - base.float())
    generator = torch.Generator(device=apart.device).manual_seed(0)
    means = [
        apart[torch.randint(len(apart), (200, len(apart)), device=apart.device, generator=generator)].mean(1)
        for _ in range(draws // 200)
    ]
    low, high = torch.cat(means).quantile(torch.tensor([0.025, 0.975], device=apart.device)).tolist()
    return apart.mean().item(), low, high


@torch.no_grad()
def evaluate(
    model: NanoOmni,
    n: int,
    device: torch.device,
    forms: Sequence[Form] = FORMS,
    batch: int = 500,
    draw: int = 4096,
    compiled: bool = False,
    rows: Sequence[str] = ROWS,
    say: Callable[[str], None] = print,
) -> dict:
    """See the module. Accuracies and gains over direct (mean, low, high) in points: scores[rows][row][form].

    What was written is judged word by word in scores[grounding]; baselines: scores[baselines].
    """
    begun = time.monotonic()
    precision = contextlib.nullcontext()
    if device.type == "cuda":
        precision = torch.autocast("cuda", torch.bfloat16)
    test = collect(model.config, "test", n, device, forms, draw, compiled)
    say(f"{n} questions of each of {len(forms)} forms in {time.monotonic() - begun:.0f} s")
    table: dict[str, dict] = {name: {} for name in rows}
    grounding: dict[str, dict[str, float]] = {}
    for form in forms:
        parts = []
        for k in range(0, len(test[form]), batch):
            with precision:
                parts.append(unroll(model, test[form][k : k + batch], form, rows))
        truth = test[form].asked[form].choice
        right = {name: torch.cat([logits[name] for logits, _ in parts]).argmax(-1) == truth for name in rows}
        for name in rows:
            table[name][str(form)] = {"accuracy": 100 * right[name].float().mean().item()}
            if name != "direct":
                table[name][str(form)]["gain"] = gain(right[name], right["direct"])
        for name, more in COMPARED:
            if name in rows and more in rows:
                table[name][str(form)][f"over {more}"] = gain(right[name], right[more])
        written = {name: torch.cat([words[name] for _, words in parts]) for name in parts[0][1]}
        grounding[str(form)] = judge(written, test[form], form)
        said = "  ".join(f"{name} {table[name][str(form)]['accuracy']:.1f}" for name in rows)
        say(f"{card.column(form)}: {said}")
    words_only = collect(
        model.config, "val", 2 * n, device, forms, draw, compiled, start=draw, pictures=False
    )
    baselines = {
        "majority": {str(form): majority(test[form], form) for form in forms},
        "text only": {str(form): text_only(words_only[form], test[form], form) for form in forms},
    }
    return {
        "n": n,
        "split": "test",
        "forms": [str(form) for form in forms],
        "rows": table,
        "grounding": grounding,
        "baselines": baselines,
        "seconds": round(time.monotonic() - begun, 1),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
    }


def judge(written: dict[str, Tensor], rooms: Rooms, form: Form) -> dict[str, float]:
    """Share of self-written words that are right (numbers: within one step), %, by what they say."""
    found: dict[str, float] = {}
    think, pose = nearest(rooms.asked[form].think), nearest(rooms.pose)
    if "pose" in written:
        near = within(written["pose"][:, language.WORKINGS :], pose).float().mean(0)
        found["pose: place"], found["pose: direction"] = near[1:3].mean().item(), near[3].item()
    for name in ("thinking", "thinking after pose"):
        if name in written:
            near = within(written[name], think).float().mean(0)
            exact = (written[name] == think).float().mean(0)
            for role in dict.fromkeys(language.roles(form)):
                places = [k for k, r in enumerate(language.roles(form)) if r == role]
                numbers = role not in ("tag", "name", "photo", "total")
                found[f"{name}: {role}"] = (near if numbers else exact)[places].mean().item()
    if "caption" in written:
        found |= _caption(written["caption"], nearest(rooms.caption))
    if "views" in written:
        found |= _views(written["views"], rooms.views[:, : len(views.CONTEXT)])
    return {name: round(100 * value, 1) for name, value in found.items()}


def _caption(said: Tensor, truth: Tensor) -> dict[str, float]:
    """Objects are looked for by their names, wherever in the caption they are told."""
    shape = (-1, language.OBJECT_LENGTH)
    said, truth = (words[:, 1:-1].unflatten(1, shape) for words in (said, truth))  # (B, K, 6)
    name = captions.NAME
    there, told = truth[..., name] != captions.NONE, said[..., name] != captions.NONE
    same = truth[:, :, None, name] == said[:, None, :, name]  # (B, K, K)
    same = same & there[:, :, None] & told[:, None]
    right = within(said[:, None], truth[:, :, None]) & same[..., None]
    near = right.any(2).float()[there].mean(0)
    return {
        "caption: objects told": same.any(2)[there].float().mean().item(),
        "caption: told that are there": same.any(1)[told].float().mean().item(),
        "caption: bearing": near[1].item(),
        "caption: distance": near[2].item(),
        "caption: place": near[4:].mean().item(),
    }


def _views(said: Tensor, truth: Tensor) -> dict[str, float]:
    """Objects that a true view shows and the drawn one shows too, anywhere and within one patch; of those
    that are drawn, how many are there."""
    head = len(views.opening(0, "up", 0))
    said = said.unflatten(1, (-1, views.LENGTH))[..., head:-1]  # (B, V, P)
    drawn, true = (visual.object_of(words - CODE_0) for words in (said, truth[..., head:-1]))
    cells = torch.arange(visual.GRID**2, device=said.device)
    row, column = cells // visual.GRID, cells % visual.GRID
    close = ((row[:, None] - row).abs() <= 1) & ((column[:, None] - column).abs() <= 1)
    hits: dict[str, list[Tensor]] = {"recall": [], "recall within a patch": [], "precision": []}
    for kind in range(len(visual.OBJECTS)):
        a, b = true == kind, drawn == kind  # (B, V, P)
        shown, there = b.any(-1), a.any(-1)
        touching = ((a.float() @ close.float() > 0) & b).any(-1)
        hits["recall"].append(shown[there])
        hits["recall within a patch"].append(touching[there])
        hits["precision"].append(there[shown])
    rates = {
        f"views: objects, {name}": torch.cat(found).float().mean().item() for name, found in hits.items()
    }
    return rates | {"views: tokens": (said == truth[..., head:-1]).float().mean().item()}


def table(scores: dict) -> str:
    """The scores as text."""
    width = max(len(name) for name in scores["rows"])
    lines = [" " * width + "".join(f"{card.column(h):>26}" for h in scores["forms"])]
    for name, row in scores["rows"].items():
        line = f"{name:<{width}}"
        for h in scores["forms"]:
            cell = row[h]
            change = "" if "gain" not in cell else " {:+.1f} [{:+.1f},{:+.1f}]".format(*cell["gain"])
            line += f"{format(cell['accuracy'], '.1f') + change:>26}"
        lines.append(line)
    for name, row in scores["baselines"].items():
        lines.append(f"{name:<{width}}" + "".join(f"{row[h]:>26.1f}" for h in scores["forms"]))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--n", type=int, default=4000, help="questions of each form")
    parser.add_argument("--out", type=Path, help="JSON file (default: evaluation.json beside the weights)")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--draw", type=int, default=4096)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    asked = parser.parse_args(arguments)
    device = torch.device(asked.device)
    model = load(asked.weights).to(device)
    scores = evaluate(model, asked.n, device, batch=asked.batch, draw=asked.draw, compiled=not asked.eager)
    print(table(scores))
    print(json.dumps(scores["grounding"], indent=1))
    path = asked.out or asked.weights / "evaluation.json"
    path.write_text(json.dumps(scores, indent=1))
    training = (asked.weights / "README.md").read_text() if (asked.weights / "README.md").exists() else ""
    training = training.partition("## Training\n")[2].partition("\n## ")[0].strip()
    card.write(asked.weights, model.config, training, scores)


if __name__ == "__main__":
    main()
