"""Train the nano model on spatial questions: `python -m nano_omni.training.run --config gpu --out DIR`.

Fresh rooms for every batch. Grounding, poses, thinking and answers are learned together; in the last
part of training most rooms read contexts that the model wrote itself, so that answers learn to live
with its errors. `--seconds` stops in time and saves; `--resume` goes on. Writes to DIR: weights (bf16)
with config.json and README.md, checkpoint-*, curves.csv.
"""

import argparse
import contextlib
import csv
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from .. import card, tokenizer
from ..branches import unroll
from ..config import CONFIGS
from ..data import Rooms, stream
from ..heldout import collect
from ..model import NanoOmni
from ..world.questions import HOPS, Form
from . import checkpoint
from .forest import TREES, Forest, losses
from .muon import Muon, split_parameters


@dataclass(frozen=True)
class Recipe:
    """How to train. batch: rooms a step; draw: batches drawn at a time; steps, or budget in seconds of
    training (0: by steps); rates of Muon and AdamW; warmup steps; decay: share of training in which rates
    fall to 0; own: share at the end in which contexts are self-written, for `own_rooms` of the rooms, in
    `rounds` of Jacobi decoding; noise: share of context numbers moved by a step; groups: what a step is
    about, one of `forest.GROUPS`, and the forms of questions it asks, by turns; tree: what is read before
    answering, one of `forest.TREES`; see: share at the beginning in which nothing is asked: poses and
    objects only, short and quickly learned."""

    batch: int = 48
    draw: int = 8
    steps: int = 6000
    budget: float = 0.0
    muon: float = 0.02
    adam: float = 2e-3
    warmup: int = 100
    decay: float = 0.45
    own: float = 0.25
    own_rooms: float = 0.75
    rounds: int = 2
    noise: float = 0.5
    loss_weights: tuple[float, float, float, float] = (1.0, 2.0, 1.0, 1.0)
    check_every: int = 250
    check_questions: int = 256
    groups: tuple[tuple[str, tuple[Form, ...]], ...] = tuple(
        turn
        for hops in HOPS
        for turn in (
            ("chain", (1, 4)),
            ("tally", ("count", "compare")),
            ("chain", (2, 3)),
            ("imagine", (hops,)),
        )
    )
    tree: str = "full"
    see: float = 0.2


RECIPES = {
    "tiny": Recipe(batch=4, draw=2, steps=20, warmup=2, check_every=10, check_questions=4, see=0.0),
    "cpu": Recipe(batch=24, draw=16, steps=7200, check_every=1800),
    "gpu": Recipe(
        batch=512, draw=8, budget=960, steps=0, adam=1.5e-3, warmup=150, check_every=500, check_questions=1024
    ),
}
CHECKED = ("direct", "pose", "thinking", "pose + thinking", "caption", "views", "latent", "pause")
COLUMNS = ("step", "seconds", "progress", "rooms", "answer", "context", "name", "measure")


class Trainer:
    """One training run: model, optimizers, layout and the step."""

    def __init__(self, config, recipe: Recipe, device: torch.device, seed: int, compiled: bool) -> None:
        torch.manual_seed(seed)
        self.config, self.recipe, self.device, self.seed = config, recipe, device, seed
        self.compiled = compiled
        self.model = NanoOmni(config=config).to(device)
        matrices, rest = split_parameters(self.model)
        self.names = list(matrices), list(rest)
        self.muon = Muon(list(matrices.values()), lr=recipe.muon, compiled=compiled and device.type == "cuda")
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
        if compiled and device.type == "cuda":  # on a CPU only drawing rooms gains from compilation
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
        """bf16 autocast on GPUs; on CPUs it is slower than float32."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", torch.bfloat16)
        return contextlib.nullcontext()

    def read(self, batch: Rooms, words: torch.Tensor, forest: Forest):
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
        """One step; returns the four losses (on the device: reading them would wait for it)."""
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
            logits, names, measures = self.read(batch, words, forest)
            parts = self.losses(
                *(logits, names, measures, targets.low, targets.high, targets.share, targets.weight),
                *(batch.names, batch.measures, forest.answer_rows, forest.context_rows, forest.weights),
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


def save_weights(model: NanoOmni, folder: Path, note: str) -> None:
    """bf16 safetensors, config.json and a model card; loading puts them back into float32."""
    bare = NanoOmni(config=model.config)
    bare.load_state_dict({k: v.detach().cpu() for k, v in model.state_dict().items()})
    bare.bfloat16().save_pretrained(folder)
    card.write(folder, model.config, note)


def train(trainer: Trainer, out: Path, stop_at: float, log_every: int = 50, say=print) -> None:
    """Run until training is complete or the clock (time.monotonic) passes `stop_at`; then save."""
    out.mkdir(parents=True, exist_ok=True)
    recipe, device = trainer.recipe, trainer.device
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    batches = trainer.batches()
    header = not (out / "curves.csv").exists()
    with (
        open(out / "curves.csv", "a", newline="") as file,
        open(out / "checks.jsonl", "a") as checks,
    ):
        table = csv.writer(file)
        if header:
            table.writerow(COLUMNS)

        def check() -> None:
            scores = trainer.check()
            row = {"step": trainer.step, "seconds": round(trainer.seconds, 1), **scores}
            checks.write(json.dumps({k: round(v, 4) for k, v in row.items()}) + "\n")
            checks.flush()
            say(f"step {trainer.step}  " + summary(scores))

        check()  # compiles what checks need, before the clock runs
        last = time.monotonic()
        first = True
        sums, count = torch.zeros(4, device=device), 0
        while trainer.progress < 1 and time.monotonic() < stop_at:
            sums += trainer.update(next(batches))
            count += 1
            if first:  # compiled by now
                sync()
                last, first = time.monotonic(), False
            if trainer.step % log_every == 0:
                values = (sums / count).tolist()  # waits for the device
                sums.zero_()
                count = 0
                if not all(map(math.isfinite, values)):
                    raise FloatingPointError(f"losses at step {trainer.step}: {values}")
                row = (trainer.step, round(trainer.seconds, 1), round(trainer.progress, 4))
                table.writerow([*row, trainer.step * recipe.batch, *(round(v, 4) for v in values)])
                file.flush()
                say(f"step {row[0]}  {row[1]} s  {row[2]:.3f}  " + "  ".join(f"{v:.3f}" for v in values))
            if trainer.step % recipe.check_every == 0:
                check()
                trainer.save(out, compact=False)  # to go on from if this process is killed
            now = time.monotonic()
            trainer.seconds += now - last
            last = now
        sync()
        if trainer.step % recipe.check_every:
            check()
    complete = trainer.progress >= 1
    trainer.save(out, compact=device.type == "cuda")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    asked = max(len(forms) for _, forms in recipe.groups)
    note = card.note(trainer.step, trainer.seconds, recipe.batch, asked, where, trainer.seed, complete)
    save_weights(trainer.model, out / "weights", note)
    tokenizer.save(out / "weights")
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    end = "complete" if complete else "stopped"
    say(f"{end} at step {trainer.step}, {trainer.seconds:.0f} s of training")


def summary(scores: dict[str, float]) -> str:
    """Accuracies in percent: context: by forms."""
    rows: dict[str, list[str]] = {}
    for name, value in scores.items():
        rows.setdefault(name.rpartition(".")[0], []).append(f"{100 * value:.1f}")
    return " | ".join(f"{row} {' '.join(values)}" for row, values in rows.items())


def main(arguments: list[str] | None = None) -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", choices=RECIPES, default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a folder with a checkpoint to go on from")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop this command after so long")
    parser.add_argument("--budget", type=float, help="seconds of training in all; 0: count steps")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--check-every", type=int)
    parser.add_argument("--tree", choices=TREES, help="full, or one of the controls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    asked = parser.parse_args(arguments)
    recipe = RECIPES[asked.config]
    changes = {k: getattr(asked, k) for k in ("budget", "steps", "batch", "check_every", "tree")}
    if asked.steps and asked.budget is None:
        changes["budget"] = 0.0
    recipe = replace(recipe, **{k: v for k, v in changes.items() if v is not None})
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(CONFIGS[asked.config], recipe, torch.device(asked.device), asked.seed, not asked.eager)
    if asked.resume:
        trainer.load(asked.resume)
    tokens = sum(len(forest.positions) for forest in trainer.forests) / len(trainer.forests)
    print(f"{trainer.model.count_parameters():,} parameters, {tokens:.0f} tokens a room", flush=True)
    train(trainer, asked.out, begun + asked.seconds, say=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
