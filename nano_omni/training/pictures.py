"""Draw pictures to train on ahead of time: `python -m nano_omni.training.pictures --count 80000 --out DIR`.

Rooms are in bare paint unless said otherwise: a prompt says nothing of walls, and patterned ones take most of
what a small model can learn. Every third prompt has relations of its own beyond those that `prompts.draw`
makes. A file holds 1,024 prompts; what is there already is not drawn again.
"""

import argparse
import time
from pathlib import Path

import torch

from ..data import split_seeds
from ..pictures import pictures, save
from ..world.scene import TEXTURES

EACH = 1024
FIRST = 1 << 51  # of the training rooms: others are trained on from elsewhere
OTHER_RELATIONS = 1 / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=81_920)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--texture", choices=TEXTURES, default="bare")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    asked = parser.parse_args()
    begun = time.monotonic()
    for k in range(asked.count // EACH):
        file = asked.out / f"{k:04}.safetensors"
        if file.exists():
            continue
        seeds = split_seeds("train", FIRST + k * EACH, EACH)
        some = pictures(seeds, asked.texture, OTHER_RELATIONS, compiled=not asked.eager)
        save(file, some)
        print(f"{file.name}  {len(some)} of {EACH}  {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
