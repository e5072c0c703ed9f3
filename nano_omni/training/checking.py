"""What is checked while a model learns to draw, with its averaged weights on validation prompts and rooms."""

from functools import cache
from typing import Any

import torch

from ..branches import unroll
from ..data import split_seeds
from ..edits import edited
from ..model import NanoOmni
from ..pairs import pairs
from ..pictures import pictures
from .materials import Material, of_edits, of_pairs, of_pictures

PICTURES = 256
ROOMS = ("direct", "pose + thinking")


@torch.no_grad()
def check(drawer: Any) -> dict[str, float]:
    """Losses by name, at the same times and noise check after check, and how many questions of one to four
    hops are answered rightly."""
    model = drawer.averaged()
    return {**_losses(model, drawer), **_rooms(model, drawer.held)}


def _losses(model: NanoOmni, drawer: Any) -> dict[str, float]:
    from .drawer import leaf_losses, names_of

    found: dict[str, float] = {}
    for task, turns in drawer.turns.items():
        some = held(task, min(PICTURES, 4 * drawer.recipe.questions))
        for number, turn in enumerate(turns):
            generator = torch.Generator().manual_seed(number)
            losses = leaf_losses(model, turn, some, drawer.recipe, generator, drawer.counts[task])
            found |= dict(zip(names_of(turn), torch.cat(losses).tolist(), strict=True))
    return found


def _rooms(model: NanoOmni, held: dict) -> dict[str, float]:
    scores: dict[str, float] = {}
    for form in (1, 2, 3, 4):
        logits, _ = unroll(model, held[form], form, ROOMS)
        for row in ROOMS:
            right = logits[row].argmax(-1) == held[form].asked[form].choice
            scores[f"{row}.{form}"] = right.float().mean().item()
    return scores


@cache
def held(task: str, count: int) -> Material:
    """Validation pictures of a task, of so many rooms, drawn once."""
    seeds = split_seeds("val", 0, count)
    if task == "generation":
        return of_pictures(pictures(seeds, "bare"))
    if task == "editing":
        return of_edits(edited(seeds, "bare"))
    return of_pairs(task, pairs(seeds, "bare"))
