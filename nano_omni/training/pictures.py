"""Draw pictures to train on ahead of time: `python -m nano_omni.training.pictures --count 80000 --out DIR`.

--task generation draws pictures of prompts, editing pairs of pictures of which one is the other changed, and
depth or novel_view pairs of photos of a room, which are the same for both tasks.

Rooms are in bare paint unless said otherwise: a prompt says nothing of walls, and patterned ones take most of
what a small model can learn; pairs of photos are of rooms plain and bare in turn. Every third prompt has
relations of its own beyond those that `prompts.draw` makes. A file holds what comes of 1,024 rooms; what is
there already is not drawn again.
"""

import argparse
import time
from pathlib import Path

import torch

from ..config import TASKS
from ..data import split_seeds
from ..edits import edited
from ..pairs import pairs
from ..pictures import pictures, save, save_tensors
from ..world.scene import TEXTURES

EACH = 1024
FIRST = 1 << 51  # of the training rooms: others are trained on from elsewhere
APART = 1 << 44  # rooms between those of one task and another's
OTHER_RELATIONS = 1 / 3


def draw(task: str, k: int, file: Path, texture: str | None = None, compiled: bool = True) -> int:
    """File number k of a task; returns how many pictures it holds."""
    kind = {"generation": 0, "editing": 1}.get(task, 2)
    seeds = split_seeds("train", FIRST + kind * APART + k * EACH, EACH)
    if task == "generation":
        some = pictures(seeds, texture or "bare", OTHER_RELATIONS, compiled=compiled)
        save(file, some)
    elif task == "editing":
        some = edited(seeds, texture or "bare", compiled)
        save_tensors(file, {**vars(some.after), "before": some.before})
    else:
        some = pairs(seeds, texture or ("plain", "bare")[k % 2], compiled)
        save_tensors(file, some.tensors())
    return len(some)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default=TASKS[0])
    parser.add_argument(
        "--count", type=int, default=81_920, help="rooms; of editing about half become pictures"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--texture", choices=TEXTURES)
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    asked = parser.parse_args(arguments)
    begun = time.monotonic()
    for k in range(asked.count // EACH):
        file = asked.out / f"{k:04}.safetensors"
        if file.exists():
            continue
        count = draw(asked.task, k, file, asked.texture, not asked.eager)
        print(f"{file.name}  {count} of {EACH}  {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
