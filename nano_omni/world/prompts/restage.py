"""Rooms in which one object was changed; the walls, the light and all other objects stay as they are."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..randomness import uniform
from ..scene import COLOURS, SHAPES, furnish, take
from .changes import Change, What
from .compositions import RELATIONS, Composition
from .stage import (
    BACK,
    FARTHEST,
    GAP,
    MARGIN,
    NEAREST,
    RADIUS,
    WIDEST,
    Staged,
    apart,
    unhidden,
)

_TRIES = 512  # places that are tried for an object
_OFTEN = 3  # so much more often objects are added and moved: most find no place


def draw_changes(
    compositions: Sequence[Composition], staged: Staged, seeds: Tensor, most: int
) -> list[Change | None]:
    """A change for each room, of an object that there is only once; up to `most` objects afterwards. None
    where every object has a twin."""
    bearings, distances = (part.tolist() for part in staged.seen())
    return [
        _drawn(composition, random.Random(seed), bearings[i], distances[i], most)
        for i, (composition, seed) in enumerate(zip(compositions, seeds.tolist(), strict=True))
    ]


def _drawn(
    composition: Composition, lots: random.Random, bearing: list[float], distance: list[float], most: int
) -> Change | None:
    slot, singles = 0, {}  # kind -> slot
    for group in composition.groups:
        if group.count == 1:
            singles[group.kind] = slot
        slot += group.count
    if not singles:
        return None
    free = [k for k in range(len(COLOURS) * len(SHAPES)) if k not in {g.kind for g in composition.groups}]
    often: dict[What, int] = {
        "recolour": 1,
        "remove": int(slot > 1),
        "add": _OFTEN * (slot < most),
        "move": _OFTEN * (len(singles) > 1),
    }
    possible = [what for what, count in often.items() for _ in range(count)]
    what, kinds = lots.choice(possible), list(singles)
    one = lots.choice(kinds)
    if what == "recolour":
        colours = [k // len(SHAPES) for k in free if k % len(SHAPES) == one % len(SHAPES)]
        return Change("recolour", one, lots.choice(colours))
    if what == "remove":
        return Change("remove", one)
    if what == "add":
        return Change("add", lots.choice(free), None, lots.choice(RELATIONS), one)
    other = lots.choice([kind for kind in kinds if kind != one])
    a, b = singles[one], singles[other]
    holds = {
        "left of" if bearing[a] < bearing[b] else "right of",
        "in front of" if distance[a] < distance[b] else "behind",
    }
    return Change("move", one, None, lots.choice([r for r in RELATIONS if r not in holds]), other)


@torch.no_grad()
def change(staged: Staged, changes: Sequence[Change], seeds: Tensor) -> tuple[Staged, Tensor]:
    """The rooms after their changes, and which object of each was changed, its place (B,). Where an object
    found no place the room is not valid. Raises ValueError for an object that is not there."""
    scene = staged.scene
    present, kind = scene.present.clone(), staged.kinds()
    which = torch.zeros(len(scene), dtype=torch.long)
    other = torch.zeros(len(scene), dtype=torch.long)
    for i, one in enumerate(changes):
        places = {k: slot for slot, k in enumerate(kind[i].tolist()) if present[i, slot]}
        if one.what == "add":
            which[i] = int(present[i].sum())  # objects fill the first places
        elif one.kind in places:
            which[i] = places[one.kind]
        else:
            raise ValueError(f"room {i} has no object of the kind {one.kind}")
        if one.other is not None:
            other[i] = places[one.other]
        present[i, which[i]] = one.after is not None
        if one.after is not None:
            kind[i, which[i]] = one.after
    scene = furnish(scene, present, kind, scene.radius, scene.position)
    moved = torch.tensor([one.relation is not None for one in changes], dtype=torch.bool)
    position, found = _placed(replace(staged, scene=scene), changes, which, other, seeds)
    here = torch.arange(present.shape[1])[None] == which[:, None]
    position = torch.where((here & moved[:, None])[..., None], position[:, None], scene.position)
    scene = furnish(scene, present, kind, scene.radius, position)
    return Staged(scene, staged.c2w, staged.valid & (found | ~moved)), which


def _placed(
    staged: Staged, changes: Sequence[Change], which: Tensor, other: Tensor, seeds: Tensor
) -> tuple[Tensor, Tensor]:
    """Where on the floor object `which` (B,) meets its relation to `other` (B,) and is neither hidden nor
    hides anything: (B, 2), and whether there is such a place."""
    scene, batch = staged.scene, len(staged.scene)
    rows = torch.arange(batch)
    lots = uniform(seeds, "prompts.change", _TRIES * 2).view(batch, _TRIES, 2)
    farthest = (scene.size[:, 0] - BACK - RADIUS[1] * math.sqrt(2) - 0.1).clamp(max=FARTHEST)[:, None]
    side = (scene.size[:, 1] / 2 - RADIUS[1] * math.sqrt(2) - 0.1)[:, None]
    bearing = WIDEST * (2 * lots[..., 0] - 1)  # (B, T)
    distance = NEAREST + lots[..., 1] * (farthest - NEAREST)
    reach = torch.minimum(farthest / bearing.cos(), side / bearing.sin().abs().clamp(min=1e-3))
    slack = (reach - distance).clamp(max=0.0)
    radius, height = scene.half_width * 1.2, scene.height
    own = radius[rows, which, None], height[rows, which, None]
    bearings, distances = staged.seen()
    for k in range(scene.present.shape[1]):
        b, d = bearings[:, k, None], distances[:, k, None]
        room = apart(bearing, distance, b, d) - own[0] - radius[:, k, None] - 0.08
        free = unhidden(bearing, distance, *own, b, d, radius[:, k, None], height[:, k, None])
        counts = (scene.present[:, k] & (which != k))[:, None]
        slack = torch.where(counts, torch.minimum(slack, torch.minimum(room, free)), slack)
    b, d = bearings[rows, other, None], distances[rows, other, None]
    gaps = {
        "left of": (b - bearing) - MARGIN,
        "right of": (bearing - b) - MARGIN,
        "in front of": (d - distance) - GAP,
        "behind": (distance - d) - GAP,
    }
    gap = torch.empty_like(slack)
    for i, one in enumerate(changes):
        gap[i] = gaps[one.relation or "left of"][i]
    slack = torch.minimum(slack, gap).clamp(max=0.0)
    first = torch.arange(_TRIES, 0, -1, dtype=torch.float32) * 1e-4
    best = take(torch.stack([bearing, distance], dim=-1), slack + (slack == 0) * first)
    ahead, right = best[:, 1] * best[:, 0].cos(), best[:, 1] * best[:, 0].sin()
    eye = BACK - scene.size[:, 0] / 2
    return torch.stack([eye + ahead, -right], dim=-1), slack.max(1).values == 0
