"""What is checked while a model learns to draw, with its averaged weights on validation prompts and rooms."""

from typing import Any

import torch

from ..autoencoder import autoencoder
from ..branches import unroll
from ..data import split_seeds
from ..latents import patches
from ..model import NanoOmni
from ..pictures import Pictures, pictures
from .leaves import TURNS, Leaves

PICTURES = 256
ROOMS = ("direct", "pose + thinking")


@torch.no_grad()
def check(drawer: Any) -> dict[str, float]:
    """Losses by name, at the same times and noise check after check, and how many questions of one to four
    hops are answered rightly."""
    model = drawer.averaged()
    return {**_losses(model, drawer), **_rooms(model, drawer.held)}


def _losses(model: NanoOmni, drawer: Any) -> dict[str, float]:
    from .drawer import leaf_losses

    some = held_pictures()
    clean = patches(autoencoder().encode(some.pictures))
    found: dict[str, float] = {}
    for number in range(len(TURNS)):
        turn, generator = Leaves(number), torch.Generator().manual_seed(number)
        words, leaves = leaf_losses(model, turn, some, clean, drawer.recipe, generator, drawer.counts)
        found |= dict(zip(turn.rows, words.tolist(), strict=True))
        found |= {f"picture, {k}": v for k, v in zip(turn.leaves, leaves.tolist(), strict=True)}
    return found


def _rooms(model: NanoOmni, held: dict) -> dict[str, float]:
    scores: dict[str, float] = {}
    for form in (1, 2, 3, 4):
        logits, _ = unroll(model, held[form], form, ROOMS)
        for row in ROOMS:
            right = logits[row].argmax(-1) == held[form].asked[form].choice
            scores[f"{row}.{form}"] = right.float().mean().item()
    return scores


_HELD: list[Pictures] = []


def held_pictures() -> Pictures:
    """Validation pictures, drawn once."""
    if not _HELD:
        _HELD.append(pictures(split_seeds("val", 0, PICTURES), "bare"))
    return _HELD[0]
