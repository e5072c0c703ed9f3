"""One run of learning to draw: what a step reads, the step, and what is checked on the way.

A step is about pictures of one task (see `turns`), and every `replay`-th one about rooms and questions, as in
the curriculum that the weights come from (`trainer`), so that drawing is learned beside answering and not in
its place. Both kinds share model and optimizers.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import autoencoder, flow
from ..config import TASKS
from ..heldout import collect
from ..latents import NUMBERS, PATCH, TOKENS, patches, whole
from ..model import NanoOmni, load
from . import checkpoint
from .leaves import Leaves, context_losses, picture_losses
from .materials import Material, prepared
from .muon import split_parameters
from .recipe import RECIPES as CURRICULA
from .trainer import Trainer
from .turns import TREES, rotation, turn_of, turns_of

FRESH = 100  # added to the seed for rooms: those that the curriculum was trained on do not come again


@dataclass(frozen=True)
class Recipe:
    """How to learn to draw.

    batch: pictures a step; steps, or budget in seconds of training (0: by steps); muon, adam: rates for the
    generation expert, and old: what share of them is for all the rest; warmup steps; decay: share of training
    in which rates fall to 0; noise, wrong: see `Leaves.fill`; objects: how much more a place counts that
    shows an object; flow: weight of pictures beside words; shift: of times, see `flow`; ema: decay of the
    averaged weights, which are the ones that are kept; replay: every so many steps one of the curriculum, of
    `rooms` rooms (0: none); check_every steps, with so many `questions` of each number of hops; shares: how
    often each task comes, if it is learned; tree: what pictures are drawn from, one of `turns.TREES`.
    """

    batch: int = 64
    steps: int = 8000
    budget: float = 0.0
    muon: float = 0.02
    adam: float = 2e-3
    old: float = 0.4
    warmup: int = 100
    decay: float = 0.5
    noise: float = 0.1
    wrong: float = 0.04
    objects: float = 5.0
    flow: float = 1.0
    shift: float = 3.0
    ema: float = 0.999
    replay: int = 5
    rooms: int = 24
    check_every: int = 1000
    questions: int = 256
    shares: Mapping[str, int] = field(
        default_factory=lambda: {"generation": 2, "editing": 3, "depth": 2, "novel_view": 2}
    )
    tree: str = TREES[0]


RECIPES = {
    "tiny": Recipe(batch=4, steps=20, warmup=2, replay=5, rooms=4, check_every=10, questions=4),
    "cpu": Recipe(batch=32, replay=12, budget=5000, check_every=4000),
}


class Drawer:
    """One training run. start: a folder of weights, with or without a generation expert; folders: of each
    task that is learned one of `nano_omni.training.pictures`. What else the weights draw they go on to draw
    as well as it lasts: give it here, too, to keep it."""

    def __init__(
        self, recipe: Recipe, start: Path, folders: Mapping[str, Path], seed: int, compiled: bool = True
    ) -> None:
        model = load(start)
        torch.manual_seed(seed)
        model = model.to_be_taught(list(folders))
        base = "tiny" if model.config.width < 96 else "cpu"
        often = recipe.replay or recipe.steps
        curriculum = replace(
            CURRICULA[base],
            batch=recipe.rooms,
            steps=max(recipe.steps // often, 1),
            budget=recipe.budget,
            muon=recipe.muon * recipe.old,
            adam=recipe.adam * recipe.old,
            warmup=max(recipe.warmup // often, 1),
            decay=recipe.decay,
            see=0.0,
            narrow=True,
        )
        self.rooms = Trainer(model.config, curriculum, torch.device("cpu"), seed + FRESH, compiled)
        self.rooms.model.load_state_dict(model.state_dict())
        self.recipe, self.seed, self.start = recipe, seed, start
        self.model = self.rooms.model.train()
        self._apart()
        self.average = {k: p.detach().clone() for k, p in self.model.named_parameters()}
        self.order = rotation([task for task in TASKS if task in folders], recipe.shares)
        grid = model.config.grid**2
        self.turns = {task: [Leaves(turn, grid) for turn in turns_of(task, recipe.tree)] for task in folders}
        self.materials = prepared(folders)
        self.counts = {task: importance(some.clean[:256].float()) for task, some in self.materials.items()}
        self.random = torch.Generator().manual_seed(seed)
        self.step = 0
        self.seconds = 0.0
        self._rooms = self.rooms.batches()

    def _apart(self) -> None:
        """Optimizers with two groups of parameters: those that questions are answered with, the others."""
        rooms, names = self.rooms, []
        for optimizer, parts in zip((rooms.muon, rooms.adam), split_parameters(self.model), strict=True):
            old = {name: p for name, p in parts.items() if not is_new(name)}
            new = {name: p for name, p in parts.items() if is_new(name)}
            optimizer.param_groups[0]["params"] = list(old.values())
            optimizer.add_param_group({"params": list(new.values())})
            names.append([*old, *new])
        rooms.names = names[0], names[1]

    @property
    def progress(self) -> float:
        done = self.seconds / self.recipe.budget if self.recipe.budget else self.step / self.recipe.steps
        return min(done, 1.0)

    def replays(self, step: int) -> bool:
        return self.recipe.replay > 0 and step % self.recipe.replay == self.recipe.replay - 1

    def update(self) -> dict[str, float]:
        """One step; returns its losses by name."""
        if self.replays(self.step):
            self.rooms.seconds = self.seconds  # one clock: rates and stages go together
            with torch.compiler.set_stance("force_eager"):  # they come in many lengths, and seldom
                parts = self.rooms.update(next(self._rooms))
            answer, words = parts[:2].tolist()
            losses = {"answer": answer, "words": words}
        else:
            losses = self._draw()
        self.step += 1
        with torch.no_grad():
            keep = min(self.recipe.ema, self.step / (self.step + 10))
            held = [p.detach() for p in self.model.parameters()]
            torch._foreach_lerp_(list(self.average.values()), held, 1 - keep)  # pyright: ignore[reportPrivateImportUsage]
        return losses

    def _draw(self) -> dict[str, float]:
        recipe, rooms = self.recipe, self.rooms
        rate = min(1.0, (self.step + 1) / recipe.warmup, (1 - self.progress) / recipe.decay)
        for optimizer, full in ((rooms.muon, recipe.muon), (rooms.adam, recipe.adam)):
            for group, share in zip(optimizer.param_groups, (recipe.old, 1.0), strict=True):
                group["lr"] = full * share * max(rate, 0.0)
        number = self.step - self.step // recipe.replay if recipe.replay else self.step
        task, before = turn_of(number, self.order)
        turn = self.turns[task][before % len(self.turns[task])]
        words, leaves = self.losses(turn, self.chosen(task, before))
        (words.sum() / max(len(words), 1) + recipe.flow * leaves.mean()).backward()
        for optimizer in (rooms.muon, rooms.adam):
            optimizer.step()
            optimizer.zero_grad()
        named = zip(names_of(turn), (*words, *leaves), strict=True)
        return {name: loss.item() for name, loss in named}

    def chosen(self, task: str, before: int) -> Tensor:
        """Which pictures of a task the step after so many others is about: each as often as any other."""
        count, batch = len(self.materials[task]), self.recipe.batch
        epoch, first = divmod(before * batch, max(count // batch, 1) * batch)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed * 1000 + epoch))
        return order[first : first + batch]

    def losses(self, turn: Leaves, which: Tensor) -> tuple[Tensor, Tensor]:
        """Of each context and of each leaf of a turn, over those pictures."""
        some, counts = self.materials[turn.turn.task][which], self.counts[turn.turn.task]
        with self.rooms.precision():
            return leaf_losses(self.model, turn, some, self.recipe, self.random, counts)

    def averaged(self) -> NanoOmni:
        """A model with the averaged weights, to be used."""
        other = NanoOmni(config=self.model.config)
        other.load_state_dict({**self.model.state_dict(), **self.average})
        return other.eval()

    def save(self, folder: Path) -> None:
        progress = {"step": self.step, "seconds": self.seconds, "seed": self.seed, "rooms": self.rooms.step}
        checkpoint.save(
            folder, self.model, self.rooms.muon, self.rooms.adam, self.rooms.names, progress, self.random
        )
        save_file({k: v.contiguous() for k, v in self.average.items()}, folder / "average.safetensors")
        save_file({"state": self.rooms.random.get_state()}, folder / "rooms-random.safetensors")
        (folder / "recipe.json").write_text(json.dumps(asdict(self.recipe), indent=1))

    def load(self, folder: Path) -> None:
        rooms = self.rooms
        progress: dict[str, Any] = checkpoint.load(
            folder, self.model, rooms.muon, rooms.adam, rooms.names, self.random
        )
        self.average = load_file(folder / "average.safetensors")
        self.average = {k: self.average[k] for k, _ in self.model.named_parameters()}
        rooms.random.set_state(load_file(folder / "rooms-random.safetensors")["state"])
        self.step, self.seconds, rooms.step = progress["step"], progress["seconds"], progress["rooms"]
        self._rooms = rooms.batches()

    @cached_property
    def held(self) -> dict:
        """Validation questions of one to four hops."""
        return collect(
            self.model.config, "val", self.recipe.questions, self.rooms.device, (1, 2, 3, 4), draw=512
        )


def is_new(name: str) -> bool:
    """Whether a parameter belongs to drawing alone."""
    return name.startswith("ends.") or ".experts.1." in name


def leaf_losses(
    model: NanoOmni,
    turn: Leaves,
    some: Material,
    recipe: Recipe,
    generator: torch.Generator,
    counts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Losses of the contexts (C,) and of the leaves (leaves,) of a turn. counts (NUMBERS,): how much each
    number of a token counts, see `importance`."""
    ends = model.ends
    if ends is None:
        raise ValueError("these weights have no generation expert: see NanoOmni.with_generation_expert")
    batch, count, beside = len(some), len(turn.leaves), some.beside
    words, targets = turn.fill(some.some, recipe.noise, recipe.wrong, generator)
    times = flow.draw_times(batch * count, recipe.shift, generator)
    noise = torch.randn(batch * count, TOKENS, NUMBERS, generator=generator)
    each = some.clean.repeat_interleave(count, 0)
    photos = None if beside is None else beside.repeat_interleave(count, 0)
    moved, velocity = flow.noised(each, noise, times)
    entered = ends.embed(moved, times, photos)
    leaves = entered.tokens.unflatten(0, (batch, count)).flatten(1, 2)  # (B, leaves TOKENS, d)
    parts = [model.embed(words), leaves]
    if some.photos is not None and beside is not None:
        read = model.sequence(model.see(some.photos)[0], words)
        clean = ends.embed(beside, beside.new_zeros(batch)).tokens.repeat(1, turn.clean, 1)
        parts = [read, clean.to(read.dtype), leaves.to(read.dtype)]
    x = torch.cat(parts, dim=1)
    x, _ = model.run(x, turn.positions, turn.mask, generation=turn.generation, keep=False)
    drawn = x[:, -count * TOKENS :].unflatten(1, (count, TOKENS)).flatten(0, 1)
    drawn = ends.velocity(drawn, moved, times, entered, photos if turn.turn.changes else None)
    drawn = drawn.unflatten(0, (batch, count))
    weight = 1 + (recipe.objects - 1) * cells(some.objects)
    weight = (weight / weight.mean()).expand(-1, -1, NUMBERS)
    if counts is not None:
        weight = weight * counts
    return (
        context_losses(model.head(x[:, turn.read]), targets, turn.rows),
        picture_losses(drawn, velocity.unflatten(0, (batch, count)), weight),
    )


def names_of(turn: Leaves) -> list[str]:
    """What the losses of a turn are called: of its contexts, then of its leaves."""
    called = turn.turn.called
    return [*map(called, turn.rows), *(f"picture, {called(leaf)}" for leaf in turn.leaves)]


def cells(objects: Tensor) -> Tensor:
    """How much of the places (N, 8, 8) shows an object, number by number of tokens: (N, TOKENS, NUMBERS)."""
    shown = (objects * 4).clamp(max=1.0)[:, None].expand(-1, NUMBERS // PATCH**2, -1, -1)
    return patches(shown)


@torch.no_grad()
def importance(latents: Tensor) -> Tensor:
    """How much each number of a token counts (NUMBERS,), 1 on average: as its channel changes pictures
    with these latents (N, TOKENS, NUMBERS), as mean squared error where it is left out."""
    held, latents = autoencoder.autoencoder(), whole(latents)
    drawn = held.decode(latents)
    changes: list[Tensor] = []
    for channel in range(latents.shape[1]):
        without = latents.clone()
        without[:, channel] = latents[:, channel].mean()
        changes.append((held.decode(without) - drawn).square().mean())
    counts = torch.stack(changes).repeat_interleave(PATCH**2)
    return counts / counts.mean()
