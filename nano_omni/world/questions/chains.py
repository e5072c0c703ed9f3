"""Where is D? Chains of 1 to 4 hops, each of which needs the result of the one before.

    1  Where is B, seen from where photo 1 was taken?         front-left, front-right, back-left or -right
    2  Stand at A and face B. Where is C?                     front, right, behind or left
    3  Stand at A and face B. Go to C without turning. Where is D?
    4  Stand at A and face B. Go to C without turning, then straight ahead as far as B is from A.
       Where is D?

Each photo shows an object of the question that no other shows (for one hop: the last photo): all are
needed, and so is how they relate. Directions and places are as in `sight`.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene import MAX_OBJECTS
from ..sight import Sight, angle, wrap
from .drawing import draw, name

HOPS = (1, 2, 3, 4)
OBJECTS = {1: 1, 2: 3, 3: 4, 4: 4}  # named in a question
CHOICES = {
    1: ("front-left", "front-right", "back-left", "back-right"),
    **dict.fromkeys((2, 3, 4), ("front", "right", "behind", "left")),
}
MARGIN = math.radians(10)  # from the borders between answers
APART = 0.7  # metres at least between any two places whose direction matters

# Weights of answers in the draw among those that a scene allows: so set that all come out equally often.
_DRAWN = {
    1: (0.3471, 0.3893, 0.1269, 0.1367),
    2: (0.1916, 0.1960, 0.4085, 0.2038),
    3: (0.2762, 0.2265, 0.2712, 0.2262),
    4: (0.3883, 0.2050, 0.1960, 0.2107),
}


@dataclass(frozen=True)
class Chain:
    """One question of `form` hops for each of B scenes; n = OBJECTS[form].

    valid (B,) bool: whether the scene has such a question (else the rest means nothing); answer (B,)
    int64, an index into CHOICES[form]; objects (B, n) int64, places in the scene; named (B, n) their
    names. What there is to work out on the way: face (B,), where one looks; stand (B, 2), where one
    stands; to (B,), where the object asked for lies from there; turn (B,) = to - face. All in camera
    1's frame.
    """

    form: int
    valid: Tensor
    answer: Tensor
    objects: Tensor
    named: Tensor
    face: Tensor
    stand: Tensor
    to: Tensor
    turn: Tensor

    def text(self, index: int = 0) -> str:
        """The question in English."""
        said = [f"the {name(kind)}" for kind in self.named[index].tolist()]
        if self.form == 1:
            return f"Standing where photo 1 was taken, where is {said[0]}?"
        text = f"Stand at {said[0]} and face {said[1]}. "
        if self.form > 2:
            on = f", then straight ahead as far as {said[1]} is from {said[0]}" if self.form == 4 else ""
            text += f"Go to {said[2]} without turning{on}. "
        return text + f"Where is {said[-1]}?"

    def choices(self, index: int = 0) -> tuple[str, ...]:
        return CHOICES[self.form]


def chain(seen: Sight, hops: int) -> Chain:
    """A question of `hops` hops, one of HOPS, for each scene."""
    tuples = torch.tensor(
        list(itertools.permutations(range(MAX_OBJECTS), OBJECTS[hops])), device=seen.place.device
    )  # (P, n)
    needed = seen.only[:, :, tuples].any(-1)  # (B, V, P): the photo shows one that no other does
    fits = seen.known[:, tuples].all(-1) & (needed[:, -1] if hops == 1 else needed.all(1))
    face, stand, to, gap = _work_out(seen.place[:, tuples], hops)  # (B, P, ...)
    turn = wrap(to - face)
    fits = fits & (gap > APART)
    if hops == 4:
        fits = fits & _in_room(seen, stand)
    answer, margin = _judge(turn, hops)
    best, valid = draw(seen.seeds, str(hops), fits & (margin > MARGIN), answer, _DRAWN[hops])
    rows = torch.arange(len(best), device=best.device)
    objects = tuples[best]  # (B, n)
    return Chain(
        form=hops,
        valid=valid,
        answer=answer[rows, best],
        objects=objects,
        named=seen.kind.gather(1, objects),
        face=face[rows, best],
        stand=stand[rows, best],
        to=to[rows, best],
        turn=turn[rows, best],
    )


def _work_out(place: Tensor, hops: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places (..., n, 2) of the named objects -> face (...), stand (..., 2), to (...), least distance."""
    if hops == 1:
        to = place[..., 0, :]
        return torch.zeros_like(to[..., 0]), torch.zeros_like(to), angle(to), to.square().sum(-1).sqrt()
    gaze = place[..., 1, :] - place[..., 0, :]
    stand = place[..., 0 if hops == 2 else 2, :]
    if hops == 4:
        stand = stand + gaze
    to = place[..., -1, :] - stand
    gap = torch.minimum(gaze.square().sum(-1), to.square().sum(-1)).sqrt()
    return angle(gaze), stand, angle(to), gap


def _judge(turn: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """The answer to a relative direction (...) and how far it is from another answer, in radians."""
    degrees = turn * (180 / math.pi)
    side = (degrees > 0).long()
    if hops == 1:
        width = degrees.abs()
        borders = torch.stack([width, (width - 90).abs(), 180 - width], -1)
        return 2 * (width > 90).long() + side, borders.amin(-1) * (math.pi / 180)
    quarter = torch.remainder(degrees + 45, 360) / 90
    sector = quarter.floor().clamp(max=3)
    inside = quarter - sector
    return sector.long(), torch.minimum(inside, 1 - inside) * (math.pi / 2)


def _in_room(seen: Sight, place: Tensor) -> Tensor:
    """Whether places (B, P, 2) of camera 1's frame lie inside the walls: (B, P)."""
    right, ahead = seen.c2w[:, 0, :2, 0], seen.c2w[:, 0, :2, 2]
    ahead = ahead / ahead.square().sum(-1, keepdim=True).sqrt()
    world = place[..., :1] * right[:, None] + place[..., 1:] * ahead[:, None] + seen.c2w[:, 0, None, :2, 3]
    return (world.abs() < seen.size[:, None] / 2 - 0.1).all(-1)
