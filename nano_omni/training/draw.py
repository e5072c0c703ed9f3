"""Teach weights to draw: `python -m nano_omni.training.draw --from DIR --pictures DIR --out DIR`.

The weights get a generation expert, a copy of the understanding one if they have none, and learn to plan, to
roll out visual tokens and to draw from prompts, from every set of contexts alike (`turns`), on pictures that
were drawn ahead (`python -m nano_omni.training.pictures`). `--tasks generation,editing,depth,novel_view` also
teaches them to draw from photos, with pairs of pictures from `--edits DIR` and of photos from `--pairs DIR`;
begin that with weights that draw from prompts. `--seconds` stops in time and saves, `--resume` goes on.
Writes to DIR: weights (the averaged ones, bf16) with config.json, tokenizer.json and README.md, checkpoint-*,
curves.csv, checks.jsonl.
"""

import argparse
import csv
import json
import math
import time
from dataclasses import fields, replace
from pathlib import Path

from .. import tokenizer
from ..config import TASKS
from . import checkpoint
from .checking import check
from .drawer import RECIPES, Drawer, Recipe, names_of
from .materials import FOLDERS
from .run import save_weights
from .turns import TREES

EVERY = 300.0  # seconds between checkpoints


def columns(drawer: Drawer) -> list[str]:
    """Of curves.csv: the losses of words and then those of pictures, task by task."""
    named = [
        dict.fromkeys(name for turn in turns for name in names_of(turn)) for turns in drawer.turns.values()
    ]
    sorted_ = [sorted(names, key=lambda name: name.startswith("picture, ")) for names in named]
    return ["step", "seconds", "progress", *(name for names in sorted_ for name in names), "answer", "words"]


def train(drawer: Drawer, out: Path, stop_at: float = math.inf, log_every: int = 60, say=print) -> None:
    """Run to the end, or until the clock (time.monotonic) passes `stop_at`; then save."""
    out.mkdir(parents=True, exist_ok=True)
    names = columns(drawer)
    checkpoint.forget(out, drawer.step, drawer.step - 1)  # that step is checked once more
    sums: dict[str, list[float]] = {}
    with open(out / "curves.csv", "a", newline="") as file, open(out / "checks.jsonl", "a") as checks:
        table = csv.writer(file)
        if file.tell() == 0:
            table.writerow(names)

        def measure() -> None:
            row = {"step": drawer.step, "seconds": round(drawer.seconds, 1), **check(drawer)}
            checks.write(json.dumps({k: round(v, 4) for k, v in row.items()}) + "\n")
            checks.flush()
            say(json.dumps({k: round(v, 3) for k, v in row.items()}))

        measure()
        last = saved = time.monotonic()
        while drawer.progress < 1 and time.monotonic() < stop_at:
            for name, loss in drawer.update().items():
                sums.setdefault(name, []).append(loss)
            if drawer.step % log_every == 0:
                means = {name: sum(some) / len(some) for name, some in sums.items()}
                if not all(map(math.isfinite, means.values())):
                    raise FloatingPointError(f"losses at step {drawer.step}: {means}")
                row = [drawer.step, round(drawer.seconds, 1), round(drawer.progress, 4)]
                table.writerow([*row, *(round(means[k], 4) if k in means else "" for k in names[3:])])
                file.flush()
                shown = "  ".join(f"{means[k]:.3f}" if k in means else "-" for k in names[3:])
                say(f"step {drawer.step}  {drawer.seconds:.0f} s  {drawer.progress:.3f}  {shown}")
                sums.clear()
            now = time.monotonic()
            drawer.seconds += now - last
            last = now
            if drawer.step % drawer.recipe.check_every == 0:
                measure()
            if now - saved > EVERY:
                write(drawer, out)
                saved = now
            last = time.monotonic()
        if drawer.step % drawer.recipe.check_every:
            measure()
    write(drawer, out)
    say(f"{'complete' if drawer.progress >= 1 else 'stopped'} at step {drawer.step}, {drawer.seconds:.0f} s")


def write(drawer: Drawer, out: Path) -> None:
    """A checkpoint, and weights that can be used as they are."""
    drawer.save(out)
    recipe = drawer.recipe
    note = (
        f"Taught to draw from the weights in {drawer.start.name}: {drawer.step:,} steps of {recipe.batch} "
        f"pictures ({_counted(drawer)}), every {recipe.replay}th of {recipe.rooms} "
        f"rooms and questions in place of pictures, in {drawer.seconds:,.0f} s on CPU, seed {drawer.seed}. "
        f"Averaged over steps. The schedule was {'' if drawer.progress >= 1 else 'not '}completed."
    )
    save_weights(drawer.averaged(), out / "weights", note)
    tokenizer.save(out / "weights")


def _counted(drawer: Drawer) -> str:
    return ", ".join(f"{task}: {len(some):,} different ones" for task, some in drawer.materials.items())


def main(arguments: list[str] | None = None) -> None:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", choices=RECIPES, default="cpu")
    parser.add_argument("--from", dest="start", type=Path, required=True, help="weights to begin with")
    parser.add_argument("--tasks", default=TASKS[0], help=f"what is learned, of {','.join(TASKS)}")
    for name, what in (("pictures", "prompts"), ("edits", "changes"), ("pairs", "rooms, two photos each")):
        parser.add_argument(f"--{name}", type=Path, help=f"a folder of pictures drawn ahead: of {what}")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a folder with a checkpoint to go on from")
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop this command after so long")
    parser.add_argument("--budget", type=float, help="seconds of training in all; 0: count steps")
    for name, kind in (("steps", int), ("batch", int), ("replay", int), ("check-every", int)):
        parser.add_argument(f"--{name}", type=kind)
    for name in ("muon", "adam", "objects", "flow", "shift"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--tree", choices=TREES, help="full, or one of the controls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    asked = parser.parse_args(arguments)
    names = {field.name for field in fields(Recipe)} & vars(asked).keys()
    changes = {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}
    if asked.steps and asked.budget is None:
        changes["budget"] = 0.0
    recipe = replace(RECIPES[asked.config], **changes)
    folders: dict[str, Path] = {}
    for task in asked.tasks.split(","):
        if task not in TASKS:
            parser.error(f"--tasks {task}: choose among {', '.join(TASKS)}")
        folder = getattr(asked, FOLDERS[task])
        if folder is None:
            parser.error(f"--tasks {task}: give --{FOLDERS[task]}, a folder of pictures drawn ahead")
        folders[task] = folder
    drawer = Drawer(recipe, asked.start, folders, asked.seed, not asked.eager)
    if asked.resume:
        drawer.load(asked.resume)
    print(f"{drawer.model.count_parameters():,} parameters; {_counted(drawer)}", flush=True)
    train(drawer, asked.out, begun + asked.seconds, say=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
