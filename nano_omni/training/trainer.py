"""One training run: model, optimizers, what a step reads, and the step."""

from functools import cached_property
from pathlib import Path

import torch

from ..branches import unroll
from ..data import Rooms, stream
from ..heldout import collect
from ..model import NanoOmni, Said
from ..world.questions import Form
from . import checkpoint
from .forest import Forest, losses
from .muon import Muon, split_parameters
from .precision import narrow, precision
from .recipe import Recipe

CHECKED = (
    *("direct", "pose", "thinking", "pose + thinking", "pose + views + thinking"),
    *("caption", "views", "latent", "pause"),
)


class Trainer:
    """One training run: model, optimizers, layout and the step."""

    def __init__(self, config, recipe: Recipe, device: torch.device, seed: int, compiled: bool) -> None:
        torch.manual_seed(seed)
        self.config, self.recipe, self.device, self.seed = config, recipe, device, seed
        self.compiled = compiled
        self.model = NanoOmni(config=config).to(device)
        matrices, rest = split_parameters(self.model)
        self.names = list(matrices), list(rest)
        self.muon = Muon(
            list(matrices.values()),
            lr=recipe.muon,
            compiled=compiled and device.type == "cuda",
            narrow=recipe.narrow and narrow(device),
        )
        self.adam = torch.optim.AdamW(
            rest.values(), lr=recipe.adam, betas=(0.9, 0.95), weight_decay=0.0, fused=device.type == "cuda"
        )
        layouts = {turn: Forest(config, device, turn[1], turn[0], recipe.tree) for turn in set(recipe.groups)}
        self.forests = [layouts[turn] for turn in recipe.groups]
        self.seeing = Forest(config, device)
        self.random = torch.Generator(device=device).manual_seed(seed)
        self.loss_weights = torch.tensor(recipe.loss_weights, device=device)
        self.losses = losses
        self.step = 0
        self.seconds = 0.0  # of training, over all runs, compilation left out
        if compiled and (device.type == "cuda" or recipe.narrow):  # float32 on CPUs gains too little from it
            # Block by block: all layers share one compiled program. Muon has ten shapes of matrices.
            torch._dynamo.config.recompile_limit = 64
            for block in self.model.blocks:
                block.compile(dynamic=False)
            self.model.stem.compile(dynamic=False)
            self.losses = torch.compile(losses, dynamic=False)

    @property
    def progress(self) -> float:
        done = self.seconds / self.recipe.budget if self.recipe.budget else self.step / self.recipe.steps
        return min(done, 1.0)

    def precision(self):
        return precision(self.device, self.recipe.narrow)

    def read(self, batch: Rooms, words: torch.Tensor, forest: Forest) -> Said:
        return self.model(batch.photos, words, forest.positions, forest.mask, forest.read, forest.latent)

    def own_words(
        self, batch: Rooms, words: torch.Tensor, who: torch.Tensor, rounds: int, forest: Forest
    ) -> torch.Tensor:
        """Words with contexts as the model writes them, for the rooms `who` (B,)."""
        with torch.no_grad(), self.precision():
            for _ in range(rounds):
                words = forest.rewrite(words, self.read(batch, words, forest)[0], who)
        return words

    def update(self, batch: Rooms) -> torch.Tensor:
        """One step; returns the losses (on the device: reading them would wait for it)."""
        recipe, progress = self.recipe, self.progress
        rate = min(1.0, (self.step + 1) / recipe.warmup, (1 - progress) / recipe.decay)
        for optimizer, full in ((self.muon, recipe.muon), (self.adam, recipe.adam)):
            optimizer.param_groups[0]["lr"] = full * max(rate, 0.0)
        forest = self.forests[self.step % len(self.forests)]
        if progress < recipe.see:
            forest = self.seeing
        words, targets = forest.fill(batch, recipe.noise, self.random)
        if progress >= 1 - recipe.own:
            who = torch.rand(len(batch), device=self.device, generator=self.random) < recipe.own_rooms
            words = self.own_words(batch, words, who, recipe.rounds, forest)
        with self.precision():
            said = self.read(batch, words, forest)
            parts = self.losses(
                *(said, targets, batch.names, batch.measures),
                *(forest.answer_rows, forest.context_rows, forest.weights),
            )
        (parts * self.loss_weights).sum().backward()
        self.muon.step()
        self.adam.step()
        self.muon.zero_grad()
        self.adam.zero_grad()
        self.step += 1
        return parts.detach()

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """Held-out accuracy by context and form, contexts written word by word as in use."""
        self.model.eval()
        scores: dict[str, float] = {}
        for form, held in self.held.items():
            with self.precision():
                logits, _ = unroll(self.model, held, form, CHECKED)
            for row in CHECKED:
                right = logits[row].argmax(-1) == held.asked[form].choice
                scores[f"{row}.{form}"] = right.float().mean().item()
        self.model.train()
        return scores

    @cached_property
    def held(self) -> dict[Form, Rooms]:
        """Validation questions, `check_questions` of each form."""
        return collect(self.config, "val", self.recipe.check_questions, self.device, draw=512)

    def save(self, folder: Path, compact: bool) -> None:
        progress = {"step": self.step, "seconds": self.seconds, "seed": self.seed}
        checkpoint.save(
            folder, self.model, self.muon, self.adam, self.names, progress, self.random, compact=compact
        )

    def load(self, folder: Path) -> None:
        progress = checkpoint.load(folder, self.model, self.muon, self.adam, self.names, self.random)
        self.step, self.seconds = progress["step"], progress["seconds"]

    def batches(self):
        # Every seed of training has rooms of its own.
        start = (self.seed << 40) + self.step * self.recipe.batch
        start -= (self.seed << 40) % (self.recipe.batch * self.recipe.draw)
        return stream(self.config, start, self.recipe.batch, self.recipe.draw, self.device, self.compiled)
