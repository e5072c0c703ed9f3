"""Which is nearer to A: B or C? Distances between objects that no single photo shows together."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene import MAX_OBJECTS
from ..sight import Sight
from .drawing import draw, name

MARGIN = 0.6  # metres by which one is nearer, at least
OBJECTS = 3


@dataclass(frozen=True)
class Comparison:
    """One question for each of B scenes: valid (B,), whether it has one; answer (B,), 0 for B and 1 for C;
    objects (B, 3), places in the scene of A, B and C; named (B, 3) their names; apart (B, 2), metres from A
    to B and to C."""

    valid: Tensor
    answer: Tensor
    objects: Tensor
    named: Tensor
    apart: Tensor
    form: str = "compare"

    def text(self, index: int = 0) -> str:
        a, b, c = (name(kind) for kind in self.named[index].tolist())
        return f"Which is nearer to the {a}: the {b} or the {c}?"

    def choices(self, index: int = 0) -> tuple[str, ...]:
        return tuple(name(kind) for kind in self.named[index, 1:].tolist())


def compare(seen: Sight) -> Comparison:
    """Asked of three objects of which each photo shows one that no other does."""
    triples = list(itertools.permutations(range(MAX_OBJECTS), OBJECTS))
    tuples = torch.tensor(triples, device=seen.place.device)  # (P, 3)
    fits = seen.known[:, tuples].all(-1) & seen.only[:, :, tuples].any(-1).all(1)
    place = seen.place[:, tuples]  # (B, P, 3, 2)
    apart = (place[..., 1:, :] - place[..., :1, :]).square().sum(-1).sqrt()  # (B, P, 2)
    fits = fits & ((apart[..., 0] - apart[..., 1]).abs() > MARGIN)
    best, valid = draw(seen.seeds, "compare", fits, apart.argmin(-1), (0.5, 0.5))
    rows = torch.arange(len(best), device=best.device)
    return Comparison(
        valid=valid,
        answer=apart[rows, best].argmin(-1),
        objects=tuples[best],
        named=seen.kind.gather(1, tuples[best]),
        apart=apart[rows, best],
    )
