"""Rooms with objects on the floor, drawn from integer seeds as one batch of tensors.

World frame: metres, +x and +y along the floor, +z up, right-handed, the origin in the middle of the
floor. Scene i of a batch depends on seed i alone. What a scene *is* (names, places, sizes) lives
here; how its surfaces look is `materials`; questions, captions and layouts read a `Scene` and
belong in modules of their own beside this one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .materials import sample_decals, sample_materials, sample_salts
from .randomness import as_seeds, permutation, uniform

SHAPES = ("sphere", "box", "cylinder", "cone")
COLOURS = {
    "red": (0.85, 0.13, 0.13),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.96, 0.83, 0.14),
    "green": (0.13, 0.60, 0.22),
    "cyan": (0.20, 0.80, 0.84),
    "blue": (0.13, 0.29, 0.85),
    "purple": (0.53, 0.20, 0.72),
    "white": (0.95, 0.95, 0.93),
}
TEXTURES = ("bare", "plain", "rich")
"""How surfaces look: one coat of paint and all walls alike, where depth must be guessed; patterned; like a
photograph."""

MAX_OBJECTS = 6
MIN_OBJECTS = 4
ROOM_HEIGHT = 2.8
SPACING = 1.0  # metres between the centres of two objects, where the room allows it
_TRIES = 64
# Of the radius: half the width of a shape's base, and the least and greatest height.
_BASE = (1.0, 0.8, 0.85, 1.0)
_HEIGHT = ((2.0, 2.0), (1.2, 2.0), (1.5, 2.4), (1.9, 2.6))


@dataclass(frozen=True)
class Scene:
    """A batch of B rooms, K = MAX_OBJECTS places for objects each; metres and radians.

    seeds (B,) int64; size (B, 3) the room's extent along x, y, z; present (B, K) bool, true for
    the first 4-6 places; shape (B, K) and colour (B, K) int64, indices into SHAPES and COLOURS;
    position (B, K, 2) of the middle of the base, on the floor; radius, half_width, height and yaw
    (B, K); lamp (B, 2) on the ceiling; materials (B, S, P), salts (B, S) int32 and decals
    (B, 6, 2, 4) are the looks of surfaces (see `materials`). `texture` is one of TEXTURES.

    Object k has the id k + 1 in a rendered id map; id 0 is the room.
    """

    seeds: Tensor
    size: Tensor
    present: Tensor
    shape: Tensor
    colour: Tensor
    position: Tensor
    radius: Tensor
    half_width: Tensor
    height: Tensor
    yaw: Tensor
    lamp: Tensor
    materials: Tensor
    salts: Tensor
    decals: Tensor
    texture: str

    def __len__(self) -> int:
        return self.seeds.shape[0]

    @property
    def device(self) -> torch.device:
        return self.seeds.device

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> "Scene":
        """A batch of the chosen scenes (a slice, or indices that may repeat)."""
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> "Scene":
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, change) -> "Scene":
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "texture"}
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items()})

    def names(self, index: int = 0) -> list[str]:
        """What scene `index` holds, in the order of ids 1, 2, ...: ['red cone', 'blue box', ...]"""
        colours, there = list(COLOURS), self.present[index].tolist()
        pairs = zip(self.colour[index].tolist(), self.shape[index].tolist(), there, strict=True)
        return [f"{colours[c]} {SHAPES[s]}" for c, s, present in pairs if present]


def sample_scenes(
    seeds: int | Sequence[int] | Tensor,
    texture: str = "plain",
    device: torch.device | str | None = None,
) -> Scene:
    """Draw one room per seed, on `device` (default: where the seeds are).

    The layout (room, objects, places) of a seed is the same at all levels of texture. Raises
    ValueError for an unknown `texture`, TypeError for seeds that are not integers.
    """
    if texture not in TEXTURES:
        raise ValueError(f"texture must be one of {TEXTURES}, not {texture!r}")
    seeds = as_seeds(seeds, device)
    device = seeds.device

    size = uniform(seeds, "room.size", 3, 4.0, 6.0)
    size[:, 2] = ROOM_HEIGHT
    spread = MAX_OBJECTS - MIN_OBJECTS + 1
    count = MIN_OBJECTS + (uniform(seeds, "objects.count", 1) * spread).long()  # (B, 1)
    present = torch.arange(MAX_OBJECTS, device=device) < count  # (B, K)

    # Without replacement from all (colour, shape) pairs, so that a name means one object.
    kinds = permutation(seeds, "objects.kind", len(COLOURS) * len(SHAPES))[:, :MAX_OBJECTS]
    colour, shape = kinds // len(SHAPES), kinds % len(SHAPES)

    radius = uniform(seeds, "objects.radius", MAX_OBJECTS, 0.30, 0.50)
    half_width, height = _extent(seeds, shape, radius)
    position = _place(seeds, size, _reach(shape, half_width))
    lamp = uniform(seeds, "room.lamp", 2, -0.22, 0.22) * size[:, :2]
    return Scene(
        seeds=seeds,
        size=size,
        present=present,
        shape=shape,
        colour=colour,
        position=position,
        radius=radius,
        half_width=half_width,
        height=height,
        yaw=uniform(seeds, "objects.yaw", MAX_OBJECTS, 0.0, 2 * torch.pi),
        lamp=lamp,
        materials=sample_materials(
            seeds, torch.tensor(list(COLOURS.values()), device=device)[colour], texture
        ),
        salts=sample_salts(seeds),
        decals=sample_decals(seeds, size, texture),
        texture=texture,
    )


def furnish(scene: Scene, present: Tensor, kind: Tensor, radius: Tensor, position: Tensor) -> Scene:
    """The same rooms with other objects: present, kind (colour * 4 + shape) and radius (B, K), position
    (B, K, 2). Kinds may repeat; how tall each is, and how it is turned, is the seed's, as before."""
    colour, shape = kind // len(SHAPES), kind % len(SHAPES)
    half_width, height = _extent(scene.seeds, shape, radius)
    paint = torch.tensor(list(COLOURS.values()), device=scene.device)[colour]
    return replace(
        scene,
        present=present,
        shape=shape,
        colour=colour,
        position=position,
        radius=radius,
        half_width=half_width,
        height=height,
        materials=sample_materials(scene.seeds, paint, scene.texture),
    )


def _extent(seeds: Tensor, shape: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Half the width of the base and the height of each object: (B, K) each."""
    low, high = torch.tensor(_HEIGHT, device=seeds.device)[shape].unbind(-1)  # (B, K) each
    height = radius * (low + (high - low) * uniform(seeds, "objects.height", MAX_OBJECTS))
    return radius * torch.tensor(_BASE, device=seeds.device)[shape], height


def reach(scene: Scene) -> Tensor:
    """How far each object extends from its axis, corners of boxes included: (B, K) metres."""
    return _reach(scene.shape, scene.half_width)


def _reach(shape: Tensor, half_width: Tensor) -> Tensor:
    is_box = (shape == SHAPES.index("box")).float()
    return half_width * (1 + is_box * (2**0.5 - 1))


def _place(seeds: Tensor, size: Tensor, extent: Tensor) -> Tensor:
    """Places on the floor, one object after another: (B, K, 2).

    Each object takes the first of its candidates that keeps SPACING from the earlier objects and
    touches none; if none does, the candidate with most room.
    """
    batch = seeds.shape[0]
    draws = uniform(seeds, "objects.position", MAX_OBJECTS * _TRIES * 2, -1.0, 1.0)
    draws = draws.view(batch, MAX_OBJECTS, _TRIES, 2)
    first = torch.arange(_TRIES, 0, -1, device=seeds.device, dtype=torch.float32)
    places: list[Tensor] = []
    for k in range(MAX_OBJECTS):
        free = size[:, None, :2] / 2 - extent[:, k, None, None] - 0.1  # (B, 1, 2)
        candidates = draws[:, k] * free  # (B, T, 2)
        slack = torch.full_like(candidates[..., 0], 10.0)  # (B, T)
        for j, place in enumerate(places):
            apart = (candidates - place[:, None]).square().sum(-1).sqrt()  # (B, T)
            needed = (extent[:, k] + extent[:, j] + 0.08).clamp(min=SPACING)
            slack = torch.minimum(slack, apart - needed[:, None])
        score = slack.clamp(max=0.0) + (slack >= 0) * first
        places.append(take(candidates, score))
    return torch.stack(places, dim=1)  # (B, K, 2)


def take(candidates: Tensor, score: Tensor) -> Tensor:
    """The candidate with the best score: (B, T, ...), (B, T) -> (B, ...)."""
    best = score.argmax(dim=1)
    return candidates[torch.arange(len(best), device=best.device), best]
