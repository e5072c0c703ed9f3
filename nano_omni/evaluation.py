"""What the model gains from its own context, on rooms it never saw: contexts by number of hops.

`python -m nano_omni.evaluation --weights DIR --n 4000`

Rows: direct; with its own pose, thinking, both in either order; the same from an oracle (the truth,
rounded to words); shuffled (another room's numbers); with blank photos. Self-written contexts are written
word by word with a cache. Each column has n questions of the test split with exactly n/4 of each answer.
Baselines that see only the question: the majority, and a network trained on the words.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import card, language
from .config import Config
from .data import Asked, Rooms, rooms, split_seeds
from .masks import attention_mask, photo_segments, positions
from .model import NanoOmni, Past, causal_mask, load, read_photos, write
from .vocabulary import DIRECTION_0, DIRECTIONS, INDEX, SIZE, nearest
from .world.questions import CHOICES, HOPS

ROWS = (
    *("direct", "pose", "thinking", "pose + thinking", "thinking + pose"),
    *("oracle pose", "oracle thinking", "oracle pose + thinking"),
    *("shuffled pose", "shuffled thinking", "shuffled pose + thinking"),
    *("blank photos", "blank photos, pose + thinking"),
)


def collect(
    config: Config,
    split: str,
    n: int,
    device: torch.device,
    hops: Sequence[int] = HOPS,
    draw: int = 4096,
    compiled: bool = False,
    start: int = 0,
    pictures: bool = True,
) -> dict[int, Rooms]:
    """n questions of each number of hops, n/4 with each answer: rooms that hold just this question.

    The first that fit of the split are taken. pictures=False keeps no photos (for text-only baselines).
    """
    kept: dict[int, list[list[Rooms]]] = {h: [[] for _ in range(4)] for h in hops}
    counts = {h: [0] * 4 for h in hops}
    quota = n // 4
    while any(c < quota for h in hops for c in counts[h]):
        many = rooms(split_seeds(split, start, draw, device), config, hops, compiled)
        low, high, share = many.objects
        start += draw
        for h in hops:
            asked = many.asked[h]
            for choice in range(4):
                left = quota - counts[h][choice]
                index = (asked.valid & (asked.choice == choice)).nonzero()[:left, 0]
                if left and len(index):
                    photos = many.photos[index] if pictures else many.photos[index[:0]]
                    kept[h][choice].append(
                        Rooms(
                            photos=photos,
                            names=many.names[index[:0]],  # not needed here, and large
                            depth=many.depth[index[:0]],
                            pose=(many.pose[0][index], many.pose[1][index], many.pose[2][index]),
                            objects=(low[index[:0]], high[index[:0]], share[index[:0]]),
                            known=many.known[index[:0]],
                            asked={h: asked[index]},
                        )
                    )
                    counts[h][choice] += len(index)
    return {h: _join([part for parts in kept[h] for part in parts], h) for h in hops}


def _join(parts: list[Rooms], hops: int) -> Rooms:
    """Concatenated, in an order that mixes the answers."""
    total = sum(len(part.pose[0]) for part in parts)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0)).to(parts[0].pose[0].device)

    def cat(tensors: list[Tensor]) -> Tensor:
        whole = torch.cat(tensors)
        return whole[order] if len(whole) == total else whole

    def cat_all(values: list) -> Any:
        if isinstance(values[0], tuple):
            return tuple(cat([value[k] for value in values]) for k in range(len(values[0])))
        return cat(values)

    asked = Asked(**{f.name: cat_all([getattr(p.asked[hops], f.name) for p in parts]) for f in fields(Asked)})
    names = ("photos", "names", "depth", "pose", "objects", "known")
    return Rooms(**{name: cat_all([getattr(p, name) for p in parts]) for name in names}, asked={hops: asked})


class Reader:
    """A batch of rooms and questions read once, to be continued in many ways: each method returns a new
    state (past, next position), the old one stays good."""

    def __init__(self, model: NanoOmni, photos: Tensor, question: Tensor) -> None:
        self.model, self.batch = model, len(photos)
        tree = photo_segments(model.config.grid**2, photos.shape[1])
        device = photos.device
        place = positions(tree)
        past = read_photos(model, photos, attention_mask(tree).to(device), place.to(device))
        self.start = self.read((past, int(place[-1]) + 1), question)

    def read(self, state: tuple[Past, int], words: Tensor) -> tuple[Past, int]:
        """Words (B, n) that are given."""
        past, position = state
        place = torch.arange(words.shape[1], device=words.device) + position
        mask = causal_mask(past[0][0].shape[2], words.shape[1], words.device)
        x = self.model.embed(words).to(past[0][0].dtype)
        return self.model.run(x, place, mask, past)[1], position + words.shape[1]

    def write(self, state: tuple[Past, int], opening: str, length: int) -> tuple[tuple[Past, int], Tensor]:
        """A context of `length` words that starts with `opening`: new state, words (B, length)."""
        past, position = state
        prompt = torch.full((self.batch, 1), INDEX[opening], device=self.model.device)
        words, _, past = write(self.model, prompt, length, position, past)
        return (past, position + length), words

    def answer(self, state: tuple[Past, int], choices: Sequence[str]) -> Tensor:
        """Logits (B, 4) of the choices."""
        past, position = state
        prompt = torch.full((self.batch, 1), INDEX["<answer>"], device=self.model.device)
        _, logits, _ = write(self.model, prompt, 1, position, past)
        return logits.float()[:, [INDEX[word] for word in choices]]


@torch.no_grad()
def unroll(model: NanoOmni, batch: Rooms, hops: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All rows for a batch: choice logits (B, 4) by row, and the words of self-written contexts."""
    asked, choices, long = batch.asked[hops], CHOICES[hops], language.think_length(hops)
    reader = Reader(model, batch.photos, asked.question)
    start = reader.start
    pose, think = nearest(batch.pose), nearest(asked.think)
    # Another room's numbers, but this question's names.
    names = [role in ("tag", "name") for role in language.roles(hops)]
    own = torch.tensor(names, device=think.device)
    other_pose, other_think = pose.roll(1, 0), torch.where(own, think, think.roll(1, 0))

    posed, own_pose = reader.write(start, "<campose>", language.POSE_LENGTH)
    thought, own_think = reader.write(start, "<think>", long)
    posed_thought, pose_think = reader.write(posed, "<think>", long)
    thought_posed, think_pose = reader.write(thought, "<campose>", language.POSE_LENGTH)
    states = {
        "direct": start,
        "pose": posed,
        "thinking": thought,
        "pose + thinking": posed_thought,
        "thinking + pose": thought_posed,
        "oracle pose": reader.read(start, pose),
        "oracle thinking": reader.read(start, think),
        "oracle pose + thinking": reader.read(reader.read(start, pose), think),
        "shuffled pose": reader.read(start, other_pose),
        "shuffled thinking": reader.read(start, other_think),
        "shuffled pose + thinking": reader.read(reader.read(start, other_pose), other_think),
    }
    logits = {name: reader.answer(state, choices) for name, state in states.items()}
    blank = Reader(model, torch.full_like(batch.photos, 128), asked.question)
    logits["blank photos"] = blank.answer(blank.start, choices)
    state, _ = blank.write(blank.start, "<campose>", language.POSE_LENGTH)
    state, _ = blank.write(state, "<think>", long)
    logits["blank photos, pose + thinking"] = blank.answer(state, choices)
    words = {"pose": own_pose, "thinking": own_think}
    return logits, words | {"pose + thinking": pose_think, "thinking + pose": think_pose}


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


def text_only(train: Rooms, test: Rooms, hops: int, steps: int = 400) -> float:
    """Test accuracy, %, of a network that is trained on the words of questions alone."""
    a, b = train.asked[hops], test.asked[hops]
    torch.manual_seed(0)
    length = a.question.shape[1]
    net = nn.Sequential(nn.Embedding(SIZE, 32), nn.Flatten(), nn.Linear(32 * length, 128), nn.ReLU())
    net = net.append(nn.Linear(128, 4)).to(a.question.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.1)
    with torch.enable_grad():
        for _ in range(steps):
            index = torch.randint(len(a.choice), (1024,), device=a.choice.device)
            loss = nn.functional.cross_entropy(net(a.question[index]), a.choice[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return 100 * (net(b.question).argmax(-1) == b.choice).float().mean().item()


@torch.no_grad()
def evaluate(
    model: NanoOmni,
    n: int,
    device: torch.device,
    hops: Sequence[int] = HOPS,
    batch: int = 1000,
    draw: int = 4096,
    compiled: bool = False,
    say: Callable[[str], None] = print,
) -> dict:
    """See the module. Accuracies and gains over direct (mean, low, high) in points: scores[rows][row][hops].

    `thinking` words are judged one by one in scores[grounding]; text-only baselines: scores[baselines].
    """
    begun = time.monotonic()
    precision = contextlib.nullcontext()
    if device.type == "cuda":
        precision = torch.autocast("cuda", torch.bfloat16)
    test = collect(model.config, "test", n, device, hops, draw, compiled)
    say(f"{n} questions for each of {len(hops)} numbers of hops in {time.monotonic() - begun:.0f} s")
    rows: dict[str, dict] = {name: {} for name in ROWS}
    grounding: dict[str, dict[str, float]] = {}
    for h in hops:
        parts = []
        for k in range(0, len(test[h]), batch):
            with precision:
                parts.append((test[h][k : k + batch], *unroll(model, test[h][k : k + batch], h)))
        truth = test[h].asked[h]
        said = {name: torch.cat([logits[name] for _, logits, _ in parts]).argmax(-1) for name in ROWS}
        right = {name: choice == truth.choice for name, choice in said.items()}
        for name in ROWS:
            rows[name][str(h)] = {"accuracy": 100 * right[name].float().mean().item()}
            if name != "direct":
                rows[name][str(h)]["gain"] = gain(right[name], right["direct"])
        for name, more in (("pose + thinking", "thinking"), ("pose + thinking", "pose")):
            rows[name][str(h)][f"over {more}"] = gain(right[name], right[more])
        written = {name: torch.cat([words[name] for _, _, words in parts]) for name in parts[0][2]}
        grounding[str(h)] = _grounding(written, nearest(truth.think), nearest(test[h].pose), h)
        line = "  ".join(f"{name} {rows[name][str(h)]['accuracy']:.1f}" for name in ROWS)
        say(f"{h} hops: {line}")
    baselines: dict[str, dict[str, float]] = {"majority": {}, "text only": {}}
    words_only = collect(
        model.config, "val", max(4, 2 * n), device, hops, draw, compiled, start=draw, pictures=False
    )
    for h in hops:
        choice = test[h].asked[h].choice
        baselines["majority"][str(h)] = 100 * choice.bincount(minlength=4).max().item() / len(choice)
        baselines["text only"][str(h)] = text_only(words_only[h], test[h], h)
    return {
        "n": n,
        "split": "test",
        "hops": [str(h) for h in hops],
        "rows": rows,
        "grounding": grounding,
        "baselines": baselines,
        "seconds": round(time.monotonic() - begun, 1),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
    }


def _grounding(written: dict[str, Tensor], think: Tensor, pose: Tensor, hops: int) -> dict[str, float]:
    """Share of self-written numbers within one step of the truth, %, by what they say."""
    result = {}
    for name in ("pose", "thinking + pose"):
        near = within(written[name], pose).float().mean(0)
        label = "pose" if name == "pose" else "pose after thinking"
        result[f"{label}: place"] = 100 * near[1:3].mean().item()
        result[f"{label}: direction"] = 100 * near[3].item()
    own_think = {"pose + thinking": "thinking after pose", "thinking": "thinking"}
    for name, label in own_think.items():
        near = within(written[name], think).float().mean(0)
        exact = (written[name] == think).float().mean(0)
        for role in dict.fromkeys(language.roles(hops)):
            places = [k for k, r in enumerate(language.roles(hops)) if r == role]
            numbers = role not in ("tag", "name", "photo")
            result[f"{label}: {role}"] = 100 * (near if numbers else exact)[places].mean().item()
    return {key: round(value, 1) for key, value in result.items()}


def table(scores: dict) -> str:
    """The scores as text."""
    width = max(len(name) for name in scores["rows"])
    lines = [" " * width + "".join(f"{h + ' hops':>26}" for h in scores["hops"])]
    for name, row in scores["rows"].items():
        line = f"{name:<{width}}"
        for h in scores["hops"]:
            cell = row[h]
            change = "" if "gain" not in cell else " {:+.1f} [{:+.1f},{:+.1f}]".format(*cell["gain"])
            line += f"{format(cell['accuracy'], '.1f') + change:>26}"
        lines.append(line)
    for name, row in scores["baselines"].items():
        lines.append(f"{name:<{width}}" + "".join(f"{row[h]:>26.1f}" for h in scores["hops"]))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--n", type=int, default=4000, help="questions for each number of hops")
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
