"""How many spheres do the photos show? What two of them show counts once, and no photo can be left out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..randomness import uniform
from ..scene import SHAPES
from ..sight import Sight
from .drawing import draw

CHOICES = ("0", "1", "2", "3")
MOST = len(CHOICES) - 1
PLURALS = ("spheres", "boxes", "cylinders", "cones")
# Most rooms have none or one to count: of those a share is asked, so that all answers come out alike.
_DRAWN, _ASKED = (0.1, 0.1, 0.5, 1.0), (0.30, 0.20, 0.66, 1.0)


@dataclass(frozen=True)
class Count:
    """One question for each of B scenes: valid (B,), whether it has one; answer (B,), how many; shape (B,),
    an index into SHAPES; listed (B, 3), places in the scene of what counts, that of photo 1 from left to
    right, then what the next photo shows besides; -1 where there are no more; photos: how many."""

    valid: Tensor
    answer: Tensor
    shape: Tensor
    listed: Tensor
    photos: int = 2
    form: str = "count"

    def text(self, index: int = 0) -> str:
        many = {2: "two", 3: "three"}[self.photos]
        return f"How many {PLURALS[int(self.shape[index])]} do the {many} photos show?"

    def choices(self, index: int = 0) -> tuple[str, ...]:
        return CHOICES


def count(seen: Sight) -> Count:
    """Asked of shapes of which everything is either seen well enough in a photo or hidden in all, and, from
    two on, of which fewer are left whichever photo is taken away."""
    shapes = seen.kind % len(SHAPES)  # (B, K)
    same = shapes[:, None] == torch.arange(len(SHAPES), device=shapes.device)[:, None]  # (B, S, K)
    of = same & seen.known[:, None]
    clear = (seen.known | seen.hidden.all(1))[:, None] | ~same
    many = of.sum(-1)  # (B, S)
    without = torch.stack(  # (B, V, K): still seen without this photo
        [(seen.seen.long().sum(1) - seen.seen[:, v].long()) > 0 for v in range(seen.count)], dim=1
    )
    left = (same[:, :, None] & without[:, None]).sum(-1).amax(-1)  # (B, S)
    fits = clear.all(-1) & (many <= MOST) & ((many < 2) | (left < many))
    best, valid = draw(seen.seeds, "count", fits, many, _DRAWN)
    chosen = of[torch.arange(len(best), device=best.device), best]  # (B, K)
    order = reading_order(seen).masked_fill(~chosen, torch.inf).argsort(1)[:, :MOST]
    rank = torch.arange(MOST, device=best.device)
    answer = chosen.sum(1).clamp(max=MOST)
    lot = uniform(seen.seeds, "questions.count", 1)[:, 0]
    valid = valid & (lot < torch.tensor(_ASKED, device=best.device)[answer])
    return Count(valid, answer, best, order.masked_fill(rank >= answer[:, None], -1), seen.count)


def reading_order(seen: Sight) -> Tensor:
    """Numbers (B, K) by which objects are told: photo 1 from left to right, then what is new in the next."""
    return seen.photo * 10.0 + seen.there(seen.bearing)
