"""Rooms that show what prompts ask for: objects laid out before a camera at the middle of one wall."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import camera
from ..randomness import permutation, uniform
from ..scene import COLOURS, MAX_OBJECTS, SHAPES, Scene, furnish, sample_scenes, take
from ..sight import angle, level_frame
from .compositions import RELATIONS, Composition, Found, Group

MARGIN = 0.09  # radians between groups of which one is left of the other
GAP = 0.35  # metres between groups of which one is in front of the other
WIDEST = 0.62  # radians to either side at which the middle of an object may stand
RADIUS = (0.24, 0.38)  # metres
BACK = 0.25  # metres from the camera to the wall behind it
NEAREST, FARTHEST = 1.4, 3.6
_TRIES, _STARTS = 32, 6  # candidates of an object; layouts that are tried of a room


@dataclass(frozen=True)
class Staged:
    """Rooms (B) that show compositions; c2w (B, 1, 4, 4); valid (B,) bool: all has found its place."""

    scene: Scene
    c2w: Tensor
    valid: Tensor

    def kinds(self) -> Tensor:
        """Of the objects, colour * 4 + shape: (B, K)."""
        return self.scene.colour * len(SHAPES) + self.scene.shape

    def seen(self) -> tuple[Tensor, Tensor]:
        """Bearings in radians and distances in metres of the objects, from the camera: (B, K) each."""
        spots = level_frame(self.c2w, self.scene.position)[:, 0]
        return angle(spots), spots.norm(dim=-1)

    def found(self, index: int) -> list[Found]:
        """What the camera sees in room `index`."""
        bearings, distances = (part[index].tolist() for part in self.seen())
        there = self.scene.present[index].tolist()
        found = zip(self.kinds()[index].tolist(), bearings, distances, there, strict=True)
        return [Found(kind, bearing, far) for kind, bearing, far, present in found if present]


def draw(seeds: Tensor, most: int = 4) -> list[Composition]:
    """One composition for each seed (B,): one to three groups, up to `most` objects in all, of different
    kinds, each group but the first in a relation to the one before it three times of four."""
    groups = (uniform(seeds, "prompts.groups", 1, 1, 4)[:, 0].long()).clamp(max=most).tolist()
    kinds = permutation(seeds, "prompts.kind", len(COLOURS) * len(SHAPES))[:, :3].tolist()
    counts = uniform(seeds, "prompts.count", 3).tolist()
    lots = uniform(seeds, "prompts.relation", 2).tolist()
    which = (uniform(seeds, "prompts.which", 2) * len(RELATIONS)).long().tolist()
    drawn: list[Composition] = []
    for i, n in enumerate(groups):
        left, made = most, []
        for k in range(n):
            room = left - (n - k - 1)  # every later group needs one
            count = 1 + int(counts[i][k] * min(3, room))
            made.append(Group(count, kinds[i][k]))
            left -= count
        related = [(k, RELATIONS[which[i][k]], k + 1) for k in range(n - 1) if lots[i][k] < 0.75]
        drawn.append(Composition(tuple(made), tuple(related)))
    return drawn


@torch.no_grad()
def stage(compositions: Sequence[Composition], seeds: Tensor, texture: str = "plain") -> Staged:
    """A room for each composition and seed (B,): its objects and no others, all of them in the picture,
    none hidden behind another, every relation with some room to spare."""
    if len(compositions) != len(seeds):
        raise ValueError(f"{len(compositions)} compositions and {len(seeds)} seeds")
    device = seeds.device
    bare = sample_scenes(seeds, texture)
    plan = _plan(compositions).to(device)
    low, high = RADIUS
    radius = uniform(seeds, "prompts.radius", MAX_OBJECTS, low, high)
    scene = furnish(bare, plan.present, plan.kind, radius, bare.position)
    eye = torch.stack(
        [
            BACK - scene.size[:, 0] / 2,
            torch.zeros_like(scene.size[:, 0]),
            torch.full_like(scene.size[:, 0], camera.HEIGHT),
        ],
        dim=1,
    )
    level = torch.zeros(len(seeds), device=device)
    c2w = camera.pose(eye, level, level + camera.PITCH)[:, None]
    place, valid = _lay_out(seeds, scene, plan)  # (B, K, 2) bearing, distance
    bearing, distance = place.unbind(-1)
    ahead, right = distance * bearing.cos(), distance * bearing.sin()
    position = torch.stack([eye[:, :1] + ahead, -right], dim=-1)  # the camera looks along +x, its right is -y
    return Staged(furnish(bare, plan.present, plan.kind, radius, position), c2w, valid)


@dataclass(frozen=True)
class _Plan:
    """Compositions as tensors: present (B, K), kind (B, K), group (B, K); across and along (B, K, 2), the
    part of the width and of the depth that is an object's, 0..1; left, front (B, K, K): i must be so of j."""

    present: Tensor
    kind: Tensor
    across: Tensor
    along: Tensor
    left: Tensor
    front: Tensor

    def to(self, device: torch.device) -> "_Plan":
        return _Plan(**{name: value.to(device) for name, value in vars(self).items()})


def _plan(compositions: Sequence[Composition]) -> _Plan:
    batch = len(compositions)
    present, kind = torch.zeros(batch, MAX_OBJECTS, dtype=torch.bool), torch.zeros(batch, MAX_OBJECTS)
    parts = {
        way: torch.tensor([0.0, 1.0]).repeat(batch, MAX_OBJECTS, 1) for way in ("left of", "in front of")
    }
    orders = {way: torch.zeros(batch, MAX_OBJECTS, MAX_OBJECTS, dtype=torch.bool) for way in parts}
    for i, composition in enumerate(compositions):
        of = [k for k, group in enumerate(composition.groups) for _ in range(group.count)]
        present[i, : len(of)] = True
        kind[i, : len(of)] = torch.tensor([composition.groups[k].kind for k in of], dtype=torch.float32)
        for way, part in parts.items():
            ranks, before = composition.ranks(way), composition.before(way)
            for a, k in enumerate(of):
                rank = ranks[k]
                if rank is not None:
                    part[i, a] = torch.tensor([rank[0] / rank[1], (rank[0] + 1) / rank[1]])
                for b, other in enumerate(of):
                    orders[way][i, a, b] = (k, other) in before
    return _Plan(present, kind.long(), *parts.values(), *orders.values())


def _lay_out(seeds: Tensor, scene: Scene, plan: _Plan) -> tuple[Tensor, Tensor]:
    """Bearing and distance of each object (B, K, 2), and whether all constraints are met (B,).

    One object after another takes, of _TRIES places in its part of the room, the one that violates least;
    of _STARTS such layouts the best is kept.
    """
    batch = len(seeds)
    lots = uniform(seeds, "prompts.place", _STARTS * MAX_OBJECTS * _TRIES * 2)
    lots = lots.view(batch * _STARTS, MAX_OBJECTS, _TRIES, 2)

    def each(values: Tensor) -> Tensor:
        return values.repeat_interleave(_STARTS, dim=0)

    farthest = each(scene.size[:, 0] - BACK - RADIUS[1] * math.sqrt(2) - 0.1).clamp(max=FARTHEST)  # (N,)
    side = each(scene.size[:, 1] / 2 - RADIUS[1] * math.sqrt(2) - 0.1)
    present, radius, height = each(plan.present), each(scene.half_width * 1.2), each(scene.height)
    across, along = each(plan.across), each(plan.along)
    left, front = each(plan.left), each(plan.front)
    placed: list[Tensor] = []
    worst = torch.zeros(batch * _STARTS, device=seeds.device)
    for k in range(MAX_OBJECTS):
        bearing = WIDEST * (2 * _within(across[:, k], lots[:, k, :, 0]) - 1)  # (N, T)
        reach = torch.minimum(
            farthest[:, None] / bearing.cos(), side[:, None] / bearing.sin().abs().clamp(min=1e-3)
        )
        distance = NEAREST + _within(along[:, k], lots[:, k, :, 1]) * (farthest[:, None] - NEAREST)
        slack = (reach - distance).clamp(max=0.0)
        for j, other in enumerate(placed):
            b, d = other[:, None].unbind(-1)  # (N, 1)
            room = apart(bearing, distance, b, d) - (radius[:, k] + radius[:, j])[:, None] - 0.08
            free = unhidden(
                bearing,
                distance,
                radius[:, k, None],
                height[:, k, None],
                b,
                d,
                radius[:, j, None],
                height[:, j, None],
            )
            this = torch.minimum(room, free)
            for order, gap in ((left, (b - bearing) - MARGIN), (front, (d - distance) - GAP)):
                this = torch.where(order[:, k, j, None], torch.minimum(this, gap), this)
            for order, gap in ((left, (bearing - b) - MARGIN), (front, (distance - d) - GAP)):
                this = torch.where(order[:, j, k, None], torch.minimum(this, gap), this)
            both = (present[:, k] & present[:, j])[:, None]
            slack = torch.where(both, torch.minimum(slack, this), slack)
        slack = slack.clamp(max=0.0)
        first = torch.arange(_TRIES, 0, -1, device=seeds.device, dtype=torch.float32) * 1e-4
        candidates = torch.stack([bearing, distance], dim=-1)
        score = slack + (slack == 0) * first
        placed.append(take(candidates, score))
        worst = torch.minimum(worst, torch.where(present[:, k], slack.max(dim=1).values, 0.0))
    places = torch.stack(placed, dim=1).view(batch, _STARTS, MAX_OBJECTS, 2)
    worst = worst.view(batch, _STARTS)
    return take(places, worst), worst.max(dim=1).values == 0


def _within(part: Tensor, lots: Tensor) -> Tensor:
    """Lots (N, T) in 0..1 moved into parts (N, 2)."""
    return part[:, :1] + lots * (part[:, 1:] - part[:, :1])


def apart(b1: Tensor, d1: Tensor, b2: Tensor, d2: Tensor) -> Tensor:
    return (d1.square() + d2.square() - 2 * d1 * d2 * (b1 - b2).cos()).clamp(min=0).sqrt()


def unhidden(
    b1: Tensor, d1: Tensor, r1: Tensor, h1: Tensor, b2: Tensor, d2: Tensor, r2: Tensor, h2: Tensor
) -> Tensor:
    """Not below 0 where two objects stand beside one another in the picture, or the farther one's foot is
    seen over the nearer one's top."""
    beside = (b1 - b2).abs() - 0.9 * (r1 / d1 + r2 / d2)
    near, far = torch.minimum(d1, d2), torch.maximum(d1, d2)
    top = torch.where(d1 < d2, h1, h2)
    over = far - near * camera.HEIGHT / (camera.HEIGHT - top).clamp(min=0.3)
    return torch.maximum(beside, over)
