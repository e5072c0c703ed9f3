"""Spatial questions across two photos of a room, with a number of serial hops from 1 to 4.

    1  Where is B, seen from where photo 1 was taken?         front-left, front-right, back-left or -right
    2  Stand at A and face B. Where is C?                     front, right, behind or left
    3  Stand at A and face B. Go to C without turning. Where is D?
    4  Stand at A and face B. Go to C without turning, then straight ahead as far as B is from A.
       Where is D?

No photo shows all the objects of a question, and each shows one that the other does not: both are
needed, and so is how they relate. Everything is decided by the scene's seed and worked out for the
whole batch at once: all tuples of objects are judged, one is drawn among those with the answer that
was drawn beforehand. So answers are balanced and names say nothing about them.

Directions are radians in [-pi, pi], clockwise seen from above, 0 ahead; places are metres (to the
right, ahead) in the level frame of camera 1.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .randomness import uniform
from .scene import COLOURS, MAX_OBJECTS, SHAPES, Scene
from .viewpoints import aimed

HOPS = (1, 2, 3, 4)
OBJECTS = {1: 1, 2: 3, 3: 4, 4: 4}  # named in a question
CHOICES = {
    1: ("front-left", "front-right", "back-left", "back-right"),
    **dict.fromkeys((2, 3, 4), ("front", "right", "behind", "left")),
}
SEEN, HIDDEN = 24 / 4096, 2 / 4096  # shares of a picture: at least, at most; between them: not asked about
MARGIN = math.radians(10)  # from the borders between answers
APART = 0.7  # metres at least between any two places whose direction matters
VIEWS = 16  # candidate views, of which two are taken
BEHIND = 0.7  # share of scenes in which an object behind camera 1 is looked for

# Seeds that never meet: [first, last). Training counts upwards from its own start, run after run.
SPLITS = {"val": (0, 1 << 24), "test": (1 << 24, 1 << 25), "train": (1 << 32, 1 << 62)}

# Weights of answers in the draw among those that a scene allows: so set that all come out equally often.
_DRAWN = {
    1: (0.3471, 0.3893, 0.1269, 0.1367),
    2: (0.1916, 0.1960, 0.4085, 0.2038),
    3: (0.2762, 0.2265, 0.2712, 0.2262),
    4: (0.3883, 0.2050, 0.1960, 0.2107),
}


@dataclass(frozen=True)
class Questions:
    """One question of `hops` hops for each of B scenes; n = OBJECTS[hops].

    valid (B,) bool: whether the scene has such a question (else the rest means nothing); answer (B,)
    int64, an index into CHOICES[hops]; objects (B, n) int64, places in the scene; kind (B, n) their
    names, colour * 4 + shape; photo (B, n) 0 or 1, which photo shows it (the first that does);
    bearing and distance (B, n) in that photo's level frame; place (B, n, 2) in camera 1's frame. What
    there is to work out on the way: face (B,), where one looks; stand (B, 2), where one stands; to
    (B,), where the object asked for lies from there; turn (B,) = to - face. All in camera 1's frame.
    """

    hops: int
    valid: Tensor
    answer: Tensor
    objects: Tensor
    kind: Tensor
    photo: Tensor
    bearing: Tensor
    distance: Tensor
    place: Tensor
    face: Tensor
    stand: Tensor
    to: Tensor
    turn: Tensor

    def text(self, index: int = 0) -> str:
        """The question in English."""
        kinds = self.kind[index].tolist()
        name = [f"the {list(COLOURS)[k // len(SHAPES)]} {SHAPES[k % len(SHAPES)]}" for k in kinds]
        if self.hops == 1:
            return f"Standing where photo 1 was taken, where is {name[0]}?"
        text = f"Stand at {name[0]} and face {name[1]}. "
        if self.hops > 2:
            on = f", then straight ahead as far as {name[1]} is from {name[0]}" if self.hops == 4 else ""
            text += f"Go to {name[2]} without turning{on}. "
        return text + f"Where is {name[-1]}?"


def level_frame(c2w: Tensor, points: Tensor) -> Tensor:
    """World places (B, K, 2) in the level frames of cameras (B, V, 4, 4): (B, V, K, 2) right, ahead."""
    right, ahead = c2w[..., :2, 0], c2w[..., :2, 2]
    ahead = ahead / ahead.square().sum(-1, keepdim=True).sqrt()
    away = points[:, None] - c2w[..., None, :2, 3]  # (B, V, K, 2)
    return torch.stack([(away * right[..., None, :]).sum(-1), (away * ahead[..., None, :]).sum(-1)], -1)


def angle(vector: Tensor) -> Tensor:
    """Clockwise from ahead, of vectors (..., 2) right, ahead."""
    return torch.atan2(vector[..., 0], vector[..., 1])


def wrap(radians: Tensor) -> Tensor:
    return torch.remainder(radians + math.pi, 2 * math.pi) - math.pi


def relative_pose(c2w: Tensor) -> tuple[Tensor, Tensor]:
    """Of camera 2 in the level frame of camera 1: place (B, 2) and direction of view (B,)."""
    place = level_frame(c2w[:, :1], c2w[:, 1:, :2, 3])[:, 0, 0]
    ahead = level_frame(c2w[:, :1], c2w[:, 1:, :2, 3] + c2w[:, 1:, :2, 2])[:, 0, 0] - place
    return place, angle(ahead)


def viewpoints(scene: Scene) -> Tensor:
    """Two views that can be asked about, of VIEWS candidates: (B, 2, 4, 4) c2w.

    Preferred are pairs that share an object or two (else nothing tells how they relate) and each show
    one that the other does not. Hiding of one object by another is left to `visibility`.
    """
    c2w = aimed(scene, VIEWS)
    spots = level_frame(c2w, scene.position)  # (B, V, K, 2)
    far = spots.square().sum(-1).sqrt()
    off = angle(spots).abs()  # from the middle of the picture
    there = scene.present[:, None]
    inside = (off < math.radians(40)) & (far > 0.9) & there
    outside = (off > math.radians(46) + 1.2 * scene.radius[:, None] / far.clamp(min=0.5)) & there
    behind = outside & (off > math.radians(100))
    i, j = (
        torch.tensor(index, device=scene.device)
        for index in zip(*itertools.permutations(range(VIEWS), 2), strict=True)
    )
    both, either = (inside[:, i] & inside[:, j]).sum(-1), (inside[:, i] | inside[:, j]).sum(-1)  # (B, P)
    mine, yours = (inside[:, i] & outside[:, j]).any(-1), (outside[:, i] & inside[:, j]).any(-1)
    back = (behind[:, i] & inside[:, j]).any(-1)
    # Objects behind camera 1 are rare among such pairs: in a part of the scenes they are asked for.
    lot = uniform(scene.seeds, "questions.behind", 1) < BEHIND
    score = 2.5 * both.clamp(max=1) + 2.0 * mine + 2.0 * yours + either.clamp(max=4) + 1.2 * (lot & back)
    score = score + 0.9 * uniform(scene.seeds, "questions.views", len(i))
    best = score.argmax(1)
    rows = torch.arange(len(scene), device=scene.device)
    return torch.stack([c2w[rows, i[best]], c2w[rows, j[best]]], dim=1)


def visibility(ids: Tensor) -> Tensor:
    """Share of each picture that each object fills: ids (B, V, H, W) -> (B, V, K)."""
    pixels = ids.flatten(2)
    return torch.stack([(pixels == k + 1).float().mean(-1) for k in range(MAX_OBJECTS)], dim=-1)


def ask(scene: Scene, c2w: Tensor, shares: Tensor, hops: int) -> Questions:
    """A question for each scene: views (B, 2, 4, 4), visible shares (B, 2, K), hops in HOPS."""
    if hops not in HOPS:
        raise ValueError(f"hops must be one of {HOPS}, not {hops}")
    device, count = scene.device, OBJECTS[hops]
    seen, hidden = shares >= SEEN, shares <= HIDDEN  # (B, 2, K)
    known = seen.any(1) & scene.present  # (B, K)
    spots = level_frame(c2w, scene.position)  # (B, 2, K, 2)
    place = spots[:, 0]

    tuples = torch.tensor(list(itertools.permutations(range(MAX_OBJECTS), count)), device=device)  # (P, n)
    if hops == 1:
        fits = known[:, tuples[:, 0]] & hidden[:, 0][:, tuples[:, 0]]
    else:
        fits = known[:, tuples].all(-1)
        fits = fits & hidden[:, 0][:, tuples].any(-1) & hidden[:, 1][:, tuples].any(-1)
    face, stand, to, gap = _work_out(place[:, tuples], hops)  # (B, P, ...)
    turn = wrap(to - face)
    fits = fits & (gap > APART)
    if hops == 4:
        fits = fits & _in_room(scene, c2w, stand)
    answer, margin = _judge(turn, hops)
    fits = fits & (margin > MARGIN)

    # First an answer among those that the scene allows, then a tuple with this answer.
    allowed = torch.stack([(fits & (answer == k)).any(1) for k in range(4)], dim=-1)  # (B, 4)
    lot = uniform(scene.seeds, f"questions.answer.{hops}", 4, 1e-6, 1.0).log()
    lot = lot / torch.tensor(_DRAWN[hops], device=device)  # the largest wins as often as its share says
    wanted = lot.masked_fill(~allowed, -math.inf).argmax(1, keepdim=True)  # (B, 1)
    score = uniform(scene.seeds, f"questions.tuple.{hops}", len(tuples), 1.0, 2.0)
    score = score * (fits & (answer == wanted))
    best = score.argmax(1)
    rows = torch.arange(len(scene), device=device)
    objects = tuples[best]  # (B, n)
    photo = (~seen[:, 0]).long().gather(1, objects)
    local = spots[rows[:, None], photo, objects]  # (B, n, 2)
    return Questions(
        hops=hops,
        valid=score[rows, best] > 0,
        answer=answer[rows, best],
        objects=objects,
        kind=(scene.colour * len(SHAPES) + scene.shape).gather(1, objects),
        photo=photo,
        bearing=angle(local),
        distance=local.square().sum(-1).sqrt(),
        place=place[rows[:, None], objects],
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


def _in_room(scene: Scene, c2w: Tensor, place: Tensor) -> Tensor:
    """Whether places (B, P, 2) of camera 1's frame lie inside the walls: (B, P)."""
    right, ahead = c2w[:, 0, :2, 0], c2w[:, 0, :2, 2]
    ahead = ahead / ahead.square().sum(-1, keepdim=True).sqrt()
    world = place[..., :1] * right[:, None] + place[..., 1:] * ahead[:, None] + c2w[:, 0, None, :2, 3]
    return (world.abs() < scene.size[:, None, :2] / 2 - 0.1).all(-1)
