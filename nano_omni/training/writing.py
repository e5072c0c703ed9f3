"""Better contexts: the model's own thinking, trained by nothing but the answer that follows.

    python -m nano_omni.training.writing --weights nano_omni/weights/cpu --out DIR --seed 0

What is called is fixed: a pose, then thinking, then the answer. For each question of a training room the
model writes G thoughts at temperature 1; a thought's reward is how probable the right answer is after it, as
the model itself reads it. GRPO (Shao et al., 2024) then makes the words of the better half of a group more
probable and those of the worse half less so. The truth of what is thought is shown to nobody.

    A_i = (r_i - mean r) / std r                  over the thoughts of one question
    loss = - sum_t min(ratio_t A_i, clip(ratio_t) A_i) + kl sum_t KL(now || start)_t    over the words t

Departures: no division by the length of a thought, which is the same for all of a question; groups whose
rewards spread less than `floor` are left out, because rewards are probabilities: where all thoughts do alike,
their difference is noise that the division would blow up; the divergence from the start is exact over the
vocabulary, not estimated. A run that was stopped goes on exactly as it would have. Writes to DIR: weights
(bf16), checkpoint-*, curves.csv, checks.jsonl, writing.json.
"""

import argparse
import csv
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..branches import unroll
from ..data import Rooms, rooms, split_seeds
from ..heldout import collect
from ..model import NanoOmni, load
from ..world.questions import HOPS, Form
from . import checkpoint
from .run import save_weights, summary
from .thoughts import Thoughts, advantages, asked_of, draw, of_words, read

COLUMNS = (
    *("step", "seconds", "questions", "reward", "best", "spread", "flat"),
    *("kl", "entropy", "clipped", "norm"),
)
CHECKED = ("direct", "pose", "pose + thinking")
REWARDS = ("probability", "log")
_START = 1 << 55  # of the training rooms: far from those that the weights were made from


@dataclass(frozen=True)
class Recipe:
    """How to train. forms: of the questions; layers: how many of the last ones are trained, with the head, so
    that what the model sees stays as it is; questions: of each form a step; thoughts: of each question;
    steps; rate of AdamW, its warmup in steps, decay, the share of the steps in which it falls to 0, and norm,
    which gradients are cut to; epochs: updates from the same thoughts; clip of the ratio; kl: weight of the
    divergence from the start, in nats a thought; floor of a group's spread, below which it is left out;
    reward: the right answer's 'probability', or its 'log'; answer: weight of the answers' own loss, 0 to
    train nothing but the writing."""

    forms: tuple[Form, ...] = HOPS
    layers: int = 1
    questions: int = 8
    thoughts: int = 8
    temperature: float = 1.0
    steps: int = 200
    rate: float = 6e-4
    warmup: int = 10
    decay: float = 0.5
    norm: float = 1.0
    epochs: int = 1
    clip: float = 0.2
    kl: float = 0.01
    floor: float = 0.05
    reward: str = "probability"
    answer: float = 0.0
    check_every: int = 100
    check_questions: int = 256

    def __post_init__(self) -> None:
        if self.thoughts < 2:
            raise ValueError(f"{self.thoughts} thoughts a question: they are compared, so 2 or more")
        if self.temperature <= 0 or self.floor <= 0 or self.kl < 0 or self.questions < 1 or self.epochs < 1:
            raise ValueError("temperature and floor are above 0, kl not below; questions, epochs 1 or more")
        if self.layers < 0:
            raise ValueError(f"{self.layers} layers cannot be trained: 0 trains the head alone")
        if self.reward not in REWARDS:
            raise ValueError(f"a reward is one of {', '.join(REWARDS)}, not {self.reward!r}")


RECIPES = {
    "tiny": Recipe(questions=2, thoughts=4, steps=6, warmup=1, check_every=4, check_questions=8),
    "cpu": Recipe(),
}


def last_layers(model: NanoOmni, count: int) -> dict[str, nn.Parameter]:
    """The parameters of the last layers and the head by name; all others are fixed from now on."""
    model.requires_grad_(False)
    parts = [*list(model.blocks)[len(model.blocks) - count :], model.norm, model.head]
    own = {id(p) for part in parts for p in part.parameters()}
    named = {name: p for name, p in model.named_parameters() if id(p) in own}
    for p in named.values():
        p.requires_grad_()
    return named


class Lesson(NamedTuple):
    """What is learned from: questions, thoughts and gained (Q, G), their advantages; old (Q, G, n - 1), the
    log-probabilities of the words when they were drawn (None: as they are now); start (Q, G, n - 1,
    vocabulary), those that the start gives all words."""

    some: Rooms
    form: Form
    thoughts: Thoughts
    gained: Tensor
    old: Tensor | None
    start: Tensor


class Writer:
    """One run: the model, the start that it is held to, the optimizer and the step."""

    def __init__(self, start: NanoOmni, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        self.start = start.to(device).eval().requires_grad_(False)
        self.model = NanoOmni(config=start.config).to(device)
        self.model.load_state_dict(start.state_dict())
        named = last_layers(self.model, recipe.layers)
        self.names, self.trained = list(named), list(named.values())
        self.adam = torch.optim.AdamW(named.values(), lr=recipe.rate, betas=(0.9, 0.99), weight_decay=0.0)
        self.random = torch.Generator(device=device).manual_seed(seed)
        self.step, self.seconds = 0, 0.0

    def batch(self) -> Rooms:
        """The rooms of this step: enough that every form of question is asked often enough, in all likelihood
        (two rooms in three have a given form)."""
        count = 2 * self.recipe.questions
        first = _START + (self.seed << 32) + self.step * count
        seeds = split_seeds("train", first, count, self.device)
        return rooms(seeds, self.model.config, self.recipe.forms, imagined=False)

    def update(self, batch: Rooms) -> dict[str, float]:
        """One step; returns what COLUMNS from 'questions' on say, over all questions or all that are trained
        on."""
        recipe = self.recipe
        left = (1 - self.step / recipe.steps) / recipe.decay
        rate = recipe.rate * min(1.0, (self.step + 1) / recipe.warmup, left)
        self.adam.param_groups[0]["lr"] = max(rate, 0.0)
        rewards: list[Tensor] = []
        lessons = [lesson for form in recipe.forms for lesson in self._lessons(batch, form, rewards)]
        count = sum(len(lesson.some) for lesson in lessons)
        sums, norm = torch.zeros(3, device=self.device), torch.zeros(())
        for epoch in range(recipe.epochs if count else 0):
            for lesson in lessons:
                loss, said = self._loss(lesson)
                (loss / count).backward()
                if epoch == recipe.epochs - 1:
                    sums += said
            norm = nn.utils.clip_grad_norm_(self.trained, recipe.norm)
            if not norm.isfinite():
                raise FloatingPointError(f"gradients at step {self.step} are {norm.item()}")
            self.adam.step()
            self.adam.zero_grad()
        self.step += 1
        drawn = torch.cat(rewards)
        spread = drawn.std(1, correction=0)
        values = [len(drawn), drawn.mean(), drawn.amax(1).mean(), spread.mean(), 1 - count / len(drawn)]
        values += [*(sums / max(count, 1)), norm]
        return {name: float(value) for name, value in zip(COLUMNS[2:], values, strict=True)}

    def _lessons(self, batch: Rooms, form: Form, rewards: list[Tensor]) -> list[Lesson]:
        """Thoughts about the questions of a form, and what they teach: one lesson, or none where all groups
        are flat. Adds the rewards of all."""
        recipe = self.recipe
        some = asked_of(batch, form, recipe.questions)
        if not len(some):
            return []
        how = recipe.thoughts, recipe.temperature, self.random
        thoughts = draw(self.model, some, form, *how)
        reward = thoughts.right if recipe.reward == "log" else thoughts.right.exp()
        rewards.append(reward)
        kept = reward.std(1, correction=0) >= recipe.floor
        if not kept.any():
            return []
        some, thoughts = some[kept], Thoughts(*(part[kept] for part in thoughts))
        with torch.no_grad():
            start = read(self.start, some, form, thoughts, recipe.temperature).logs
            old = None
            if recipe.epochs > 1:
                now = read(self.model, some, form, thoughts, recipe.temperature)
                old = of_words(now.logs, thoughts.words)
        return [Lesson(some, form, thoughts, advantages(reward[kept]), old, start)]

    def _loss(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        """Summed over questions: the loss, and (kl, entropy, clipped) of COLUMNS."""
        recipe, (low, high) = self.recipe, (1 - self.recipe.clip, 1 + self.recipe.clip)
        now = read(self.model, lesson.some, lesson.form, lesson.thoughts, recipe.temperature)
        said = of_words(now.logs, lesson.thoughts.words)  # (Q, G, n - 1)
        ratio = (said - (said.detach() if lesson.old is None else lesson.old)).exp()
        gained = lesson.gained[..., None]
        better = torch.minimum(ratio * gained, ratio.clamp(low, high) * gained)
        p = now.logs.exp()
        apart = (p * (now.logs - lesson.start)).sum(-1)  # (Q, G, n - 1), nats a word
        loss = (recipe.kl * apart - better).sum(2).mean(1).sum() - recipe.answer * now.right.mean(1).sum()
        cut = ((ratio < low) | (ratio > high)).float().mean((1, 2)).sum()
        entropy = -(p * now.logs).sum((2, 3)).mean(1).sum()
        return loss, torch.stack([apart.sum(2).mean(1).sum(), entropy, cut]).detach()

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Accuracy on validation questions by context and form, contexts written greedily as in use."""
        scores: dict[str, float] = {}
        for form, some in self._held().items():
            logits, _ = unroll(self.model, some, form, CHECKED)
            for row in CHECKED:
                right = logits[row].argmax(-1) == some.asked[form].choice
                scores[f"{row}.{form}"] = right.float().mean().item()
        return scores

    def _held(self) -> dict[Form, Rooms]:
        if not hasattr(self, "_validation"):
            count, forms = self.recipe.check_questions, self.recipe.forms
            self._validation = collect(
                self.model.config, "val", count, self.device, forms, draw=max(count, 16)
            )
        return self._validation

    def save(self, folder: Path) -> None:
        progress = {"step": self.step, "seconds": self.seconds, "seed": self.seed}
        checkpoint.save(folder, self.model, None, self.adam, ([], self.names), progress, self.random)

    def load(self, folder: Path) -> None:
        progress = checkpoint.load(folder, self.model, None, self.adam, ([], self.names), self.random)
        if progress["seed"] != self.seed:
            raise ValueError(f"{folder} is a run of seed {progress['seed']}, not {self.seed}")
        self.step, self.seconds = progress["step"], progress["seconds"]


def train(writer: Writer, out: Path, stop_at: float = math.inf, say=print) -> None:
    """Until the recipe's steps are done or the clock (time.monotonic) passes `stop_at`; then save."""
    out.mkdir(parents=True, exist_ok=True)
    recipe = writer.recipe
    (out / "writing.json").write_text(json.dumps(asdict(recipe) | {"seed": writer.seed}, indent=1))
    checkpoint.forget(out, writer.step, writer.step or -1)
    with open(out / "curves.csv", "a", newline="") as file, open(out / "checks.jsonl", "a") as checks:
        table = csv.writer(file)
        if file.tell() == 0:
            table.writerow(COLUMNS)

        def check() -> None:
            scores = {k: round(v, 4) for k, v in writer.check().items()}
            row = {"step": writer.step, "seconds": round(writer.seconds, 1), **scores}
            checks.write(json.dumps(row) + "\n")
            checks.flush()
            say(f"step {writer.step}  " + summary(scores))

        if writer.step == 0:
            check()
        last = time.monotonic()
        while writer.step < recipe.steps and time.monotonic() < stop_at:
            values = writer.update(writer.batch())
            writer.seconds += time.monotonic() - last
            row = [writer.step, round(writer.seconds, 1), *(round(values[k], 5) for k in COLUMNS[2:])]
            table.writerow(row)
            if writer.step % 10 == 0:
                say("  ".join(f"{name} {value:g}" for name, value in zip(COLUMNS, row, strict=True)))
            if writer.step % recipe.check_every == 0 or writer.step == recipe.steps:
                check()
                file.flush()
                writer.save(out)
            last = time.monotonic()
    writer.save(out)
    done = "The schedule was completed." if writer.step >= recipe.steps else "It was not completed."
    note = (
        f"The writing of an earlier model, trained {writer.step:,} steps by its answers "
        f"({recipe.thoughts} thoughts a question), seed {writer.seed}. {done}"
    )
    save_weights(writer.model, out / "weights", note)


def main(arguments: list[str] | None = None) -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="a folder: where the writing starts")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", choices=RECIPES, default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop this command after so long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    numbers = ("layers", "questions", "thoughts", "steps", "epochs", "check_every", "check_questions")
    for name in numbers:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    for name in ("rate", "kl", "floor", "clip", "answer", "temperature"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--reward", choices=REWARDS)
    asked = vars(parser.parse_args(arguments))
    recipe = RECIPES[asked["config"]]
    recipe = replace(recipe, **{k: v for k, v in asked.items() if k in asdict(recipe) and v is not None})
    writer = Writer(load(asked["weights"]), recipe, asked["seed"], torch.device(asked["device"]))
    if asked["resume"]:
        writer.load(asked["out"])
    train(writer, asked["out"], begun + asked["seconds"], say=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
