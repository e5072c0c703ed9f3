"""What training the writing changed, on rooms that nobody trained on: who writes and who answers, apart.

    python -m nano_omni.training.writing_effect --before nano_omni/weights/cpu --after DIR/weights --out FILE

The same test questions are answered by the weights before and after, with a pose and thinking, written
greedily as in use. Both are one model, so its answers might have changed as well as its words: hence the rows
in which one writes and the other answers, and those without thinking, which nothing was trained for. Every
gain is over the weights before on the same questions, in points, with a 95 % paired bootstrap interval. With
--votes there is one more row: the weights before, answering by the mean of so many thoughts that were drawn.
It says how much there is to gain from thinking that leads to the right answer more often.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .. import card, language
from ..branches import Branches, given_pose, look_around
from ..data import Rooms
from ..evaluation import gain, judge
from ..heldout import collect
from ..model import NanoOmni, load
from ..vocabulary import INDEX
from ..world.questions import HOPS, Form

ROWS = {  # who writes, who answers; None: nothing is written
    "direct": (None, "after", "before"),
    "pose": ("pose", "after", "before"),
    "pose + thinking": ("after", "after", "before"),
    "pose + thinking, only written by the trained": ("after", "before", "before"),
    "pose + thinking, only answered by the trained": ("before", "after", "before"),
    "pose + thinking, drawn at temperature 1": ("drawn", "after", "before"),
}


class Asked:
    """A model that has read the photos of a batch of questions of one form."""

    def __init__(self, model: NanoOmni, some: Rooms, form: Form) -> None:
        self.told = Branches(model, some.photos)
        self.asked = some.asked[form]
        self.question = self.told.read(self.told.start, self.asked.question)
        self.length = language.think_length(form)

    def pose(self) -> Tensor:
        """What it writes of the pose: (B, POSING_LENGTH)."""
        return look_around(self.told, ())["pose"]

    def thinking(
        self, pose: Tensor, temperature: float = 0.0, random: torch.Generator | None = None
    ) -> Tensor:
        """What it thinks after a pose that is given: (B, length)."""
        state = self.told.read(self.question, given_pose(pose))
        return self.told.write(state, [INDEX["<think>"]], self.length, None, temperature, random)[1]

    def answer(self, *contexts: Tensor) -> Tensor:
        """Log-probabilities of the choices (B, c) after these contexts."""
        state = self.question
        for words in contexts:
            state = self.told.read(state, words)
        return self.told.answer(state, self.asked.choices).log_softmax(-1)


@torch.no_grad()
def answers(
    before: NanoOmni, after: NanoOmni, some: Rooms, form: Form, seed: int = 0, votes: int = 0
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Log-probabilities of choices (B, c), by 'who writes, who answers', and what each has written. Both draw
    by the same random numbers."""
    models = {"before": Asked(before, some, form), "after": Asked(after, some, form)}
    written: dict[str, dict[str, Tensor]] = {}
    said: dict[str, Tensor] = {}
    for name, model in models.items():
        pose = model.pose()
        written[name] = {"pose": pose, "thinking after pose": model.thinking(pose)}
        said[f"None, {name}"] = model.answer()
        said[f"pose, {name}"] = model.answer(given_pose(pose))
        random = torch.Generator(device=some.photos.device).manual_seed(seed)
        drawn = model.thinking(pose, 1.0, random)
        said[f"drawn, {name}"] = model.answer(given_pose(pose), drawn)
    if votes:
        model, pose = models["before"], written["before"]["pose"]
        random = torch.Generator(device=some.photos.device).manual_seed(seed)
        thoughts = (model.thinking(pose, 1.0, random) for _ in range(votes))
        each = torch.stack([model.answer(given_pose(pose), one) for one in thoughts])  # (votes, B, c)
        said["votes"] = each.exp().mean(0).log()
    for writer, words in written.items():
        for reader, model in models.items():
            contexts = given_pose(words["pose"]), words["thinking after pose"]
            said[f"{writer}, {reader}"] = model.answer(*contexts)
    return said, written


def effect(
    before: NanoOmni,
    after: NanoOmni,
    n: int,
    device: torch.device,
    forms: Sequence[Form] = HOPS,
    batch: int = 250,
    votes: int = 0,
    say: Callable[[str], None] = print,
) -> dict:
    """See the module: rows[row][form], with accuracies and probabilities of the right answer before and
    after, and gains (mean, low, high) in points; grounding[form][who], shares of right words."""
    test = collect(before.config, "test", n, device, forms, draw=min(4096, 4 * n))
    right: dict[Form, dict[str, Tensor]] = {}
    sure: dict[Form, dict[str, Tensor]] = {}
    grounding: dict[str, dict] = {}
    for form, held in test.items():
        parts, words = [], []
        for k in range(0, len(held), batch):
            said, written = answers(before, after, held[k : k + batch], form, k, votes)
            parts.append(said)
            words.append(written)
        logs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        truth = held.asked[form].choice
        right[form] = {name: log.argmax(-1) == truth for name, log in logs.items()}
        sure[form] = {name: log.exp().gather(1, truth[:, None])[:, 0] for name, log in logs.items()}
        grounding[str(form)] = {
            who: judge({kind: torch.cat([w[who][kind] for w in words]) for kind in words[0][who]}, held, form)
            for who in ("before", "after")
        }
        say(f"{card.column(form)}: {len(held)} questions")
    rows: dict[str, dict[str, dict]] = {}
    compared = {row: _cell(*cells) for row, cells in ROWS.items()}
    if votes:
        compared[f"pose + thinking, the mean of {votes} drawn, before"] = "votes", "before, before"
    for row, (now, then) in compared.items():
        rows[row] = {str(form): _compared(right[form], sure[form], now, then) for form in test}
        every, how_sure = (
            {k: torch.cat([of[f][k] for f in test]) for k in (now, then)} for of in (right, sure)
        )
        rows[row]["all"] = _compared(every, how_sure, now, then)
    return {"n": n, "split": "test", "forms": [*map(str, test), "all"], "rows": rows, "grounding": grounding}


def _cell(writer: str | None, reader: str, base: str) -> tuple[str, str]:
    """The names, in what `answers` returns, of a row's cell and of what it is compared with."""
    if writer in (None, "pose", "drawn"):
        return f"{writer}, {reader}", f"{writer}, {base}"
    return f"{writer}, {reader}", f"{base}, {base}"


def _compared(right: dict[str, Tensor], sure: dict[str, Tensor], now: str, then: str) -> dict:
    return {
        "before": 100 * right[then].float().mean().item(),
        "after": 100 * right[now].float().mean().item(),
        "gain": gain(right[now], right[then]),
        "probability before": 100 * sure[then].mean().item(),
        "probability after": 100 * sure[now].mean().item(),
        "probability gained": gain(sure[now], sure[then]),
    }


def table(found: dict) -> str:
    """The rows as Markdown: accuracy after and what it gained."""
    lines = ["| | " + " | ".join(card.column(form) for form in found["forms"]) + " |"]
    lines.append("|---|" + "---|" * len(found["forms"]))
    for row, cells in found["rows"].items():
        said = ["{after:.1f} ({0:+.1f} [{1:+.1f}, {2:+.1f}])".format(*c["gain"], **c) for c in cells.values()]
        lines.append(f"| {row} | " + " | ".join(said) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, required=True, help="a folder of weights")
    parser.add_argument("--after", type=Path, required=True)
    parser.add_argument("--n", type=int, default=3000, help="questions of each form")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    parser.add_argument("--votes", type=int, default=0)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args(arguments)
    device = torch.device(asked.device)
    before, after = (load(folder).to(device) for folder in (asked.before, asked.after))
    how = {"batch": asked.batch, "votes": asked.votes}
    found = effect(before, after, asked.n, device, **how, say=lambda line: print(line, flush=True))
    asked.out.write_text(json.dumps(found, indent=1))
    print(table(found))


if __name__ == "__main__":
    main()
