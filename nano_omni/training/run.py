"""Train the nano model: `python -m nano_omni.training.run --config cpu --out DIR`.

Fresh rooms for every batch. Grounding, poses, captions, views, thinking and answers are learned together; in
the last part of training most rooms read contexts that the model wrote itself, so that answers learn to live
with its errors. All stages at once, or one after the other: `--stage see`, `--stage ask`, `--stage own`.
`--seconds` stops in time and saves; `--resume` goes on. `--again WEIGHTS` trains finished weights for longer:
see `recipe.again`. Writes to DIR: weights (bf16) with config.json,
tokenizer.json and README.md, checkpoint-*, curves.csv, checks.jsonl.
"""

import argparse
import csv
import json
import math
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from .. import card, tokenizer
from ..config import CONFIGS
from ..model import NanoOmni, load
from . import checkpoint
from .forest import TREES
from .recipe import RECIPES, STAGES, again
from .trainer import Trainer

COLUMNS = ("step", "seconds", "progress", "rooms", "answer", "context", "name", "measure", "spoken")


def save_weights(model: NanoOmni, folder: Path, note: str) -> None:
    """bf16 safetensors, config.json and a model card; loading puts them back into float32."""
    bare = NanoOmni(config=model.config)
    bare.load_state_dict({k: v.detach().cpu() for k, v in model.state_dict().items()})
    bare.bfloat16().save_pretrained(folder)
    card.write(folder, model.config, note)


def train(
    trainer: Trainer,
    out: Path,
    stop_at: float,
    until: float = 1.0,
    log_every: int = 50,
    say=print,
    since: Path | None = None,
) -> None:
    """Run until progress reaches `until` or the clock (time.monotonic) passes `stop_at`; then save. since:
    the finished weights that it began with, for the card."""
    out.mkdir(parents=True, exist_ok=True)
    recipe, device = trainer.recipe, trainer.device
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    batches = trainer.batches()
    checkpoint.forget(out, trainer.step, trainer.step - 1)  # that step is checked once more
    with open(out / "curves.csv", "a", newline="") as file, open(out / "checks.jsonl", "a") as checks:
        table = csv.writer(file)
        if file.tell() == 0:
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
        sums, count = torch.zeros(5, device=device), 0
        while trainer.progress < until and time.monotonic() < stop_at:
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
            now = time.monotonic()
            trainer.seconds += now - last
            last = now
            if trainer.step % recipe.check_every == 0:
                check()
                trainer.save(out, compact=False)  # to go on from if this process is killed
                last = time.monotonic()
        sync()
        if trainer.step % recipe.check_every:
            check()
    complete = trainer.progress >= 1
    trainer.save(out, compact=device.type == "cuda")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    asked = max(len(forms) for _, forms in recipe.groups)
    start = None if since is None else since.resolve().name
    note = card.note(trainer.step, trainer.seconds, recipe.batch, asked, where, trainer.seed, complete, start)
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
    parser.add_argument("--stage", choices=STAGES, help="this stage alone, from where --out stands; all")
    parser.add_argument("--resume", type=Path, help="a folder with a checkpoint to go on from")
    parser.add_argument("--again", type=Path, help="a folder with finished weights to train for longer")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop this command after so long")
    parser.add_argument("--budget", type=float, help="seconds of training in all; 0: count steps")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--check-every", type=int)
    parser.add_argument("--tree", choices=TREES, help="full, or one of the controls")
    parser.add_argument("--narrow", action="store_true", help="bfloat16 on processors that multiply it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    asked = parser.parse_args(arguments)
    recipe = RECIPES[asked.config]
    changes = {k: getattr(asked, k) for k in ("budget", "steps", "batch", "check_every", "tree")}
    changes["narrow"] = asked.narrow or None
    if asked.steps and asked.budget is None:
        changes["budget"] = 0.0
    recipe = replace(recipe, **{k: v for k, v in changes.items() if v is not None})
    if asked.again:
        recipe = again(recipe)
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(CONFIGS[asked.config], recipe, torch.device(asked.device), asked.seed, not asked.eager)
    if asked.again:
        trainer.model.load_state_dict(load(asked.again).state_dict())
    if asked.resume:
        trainer.load(asked.resume)
    elif asked.stage and asked.stage != "see":
        trainer.load(asked.out)
    until = STAGES[asked.stage](recipe) if asked.stage else 1.0
    tokens = sum(len(forest.positions) for forest in trainer.forests) / len(trainer.forests)
    print(f"{trainer.model.count_parameters():,} parameters, {tokens:.0f} tokens a room", flush=True)
    stop_at = begun + asked.seconds
    train(trainer, asked.out, stop_at, until, say=partial(print, flush=True), since=asked.again)


if __name__ == "__main__":
    main()
