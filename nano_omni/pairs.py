"""Pairs of photos of one room, as tensors for drawing: the first one's depth, and the second one.

The rooms are those of the questions, plain or in bare paint, where how far a wall is must be guessed from one
photo. What is told of them is what the model tells of photos, without any question.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import captions, language, views
from .pictures import PLACES, SIDE
from .visual import codebook
from .vocabulary import TwoHot
from .world.camera import intrinsics, relative
from .world.render import render, to_uint8
from .world.scene import sample_scenes
from .world.sight import sight, viewpoints

SIDES_LENGTH = views.LENGTH * len(views.CONTEXT)
_TWO_HOT = ("pose", "caption", "depth_caption")


@dataclass(frozen=True)
class Pairs:
    """N pairs of photos (N, 2, 3, SIDE, SIDE) uint8; depth (N, SIDE, SIDE), metres of z of the first;
    relative (N, 4, 4), the second camera in the first one's frame.

    In words: pose two-hot (N, 5), where the second was taken; caption and depth_caption two-hot, as
    `captions` has them; sides (N, SIDES_LENGTH), what is seen to both sides of the first. codes (N, 16),
    visual tokens of the second; objects (N, PLACES, PLACES), the share of each place of it that is an
    object's.
    """

    photos: Tensor
    depth: Tensor
    relative: Tensor
    pose: TwoHot
    caption: TwoHot
    depth_caption: TwoHot
    sides: Tensor
    codes: Tensor
    objects: Tensor

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index) -> "Pairs":
        def chosen(value: Any) -> Any:
            return tuple(map(chosen, value)) if isinstance(value, tuple) else value[index]

        return Pairs(**{f.name: chosen(getattr(self, f.name)) for f in fields(self)})

    def tensors(self) -> dict[str, Tensor]:
        """By name, each of a two-hot word's three by its own."""
        held: dict[str, Tensor] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            held |= (
                {f"{f.name}.{k}": v for k, v in enumerate(value)} if f.name in _TWO_HOT else {f.name: value}
            )
        return held

    @staticmethod
    def of(tensors: dict[str, Tensor]) -> "Pairs":
        """`tensors` turned round."""
        two_hot = {name: tuple(tensors[f"{name}.{k}"] for k in range(3)) for name in _TWO_HOT}
        plain = {k: v for k, v in tensors.items() if "." not in k}
        return Pairs(**plain, **two_hot)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def pairs(seeds: Tensor, texture: str = "plain", compiled: bool = False) -> Pairs:
    """One pair for each seed (N,)."""
    scene = sample_scenes(seeds, texture)
    c2w = viewpoints(scene)
    seen = render(scene, c2w, intrinsics(SIDE, SIDE), SIDE, SIDE, compiled=compiled)
    what = sight(scene, c2w, seen.ids)
    second, ids = seen.images[:, 1].permute(0, 3, 1, 2), seen.ids[:, 1]
    return Pairs(
        photos=to_uint8(seen.images).permute(0, 1, 4, 2, 3).contiguous(),
        depth=seen.depth[:, 0],
        relative=relative(c2w[:, 0], c2w[:, 1]),
        pose=language.pose(c2w),
        caption=captions.caption(what, language.objects(what)),
        depth_caption=captions.depth_caption(what),
        sides=views.imagine(scene, what, compiled)[:, : len(views.CONTEXT)].flatten(1),
        codes=codebook().tokens(second, ids, what.kind),
        objects=F.avg_pool2d((ids > 0).float()[:, None], SIDE // PLACES)[:, 0],
    )
