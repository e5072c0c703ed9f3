"""Fresh rooms as tensors for the model: photos, what their patches hold, questions, thoughts, poses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from . import language
from .config import Config
from .vocabulary import TwoHot
from .world.camera import intrinsics
from .world.questions import HOPS, SEEN, SPLITS, angle, ask, level_frame, viewpoints, visibility
from .world.render import render, to_uint8
from .world.scene import COLOURS, MAX_OBJECTS, SHAPES, sample_scenes


@dataclass(frozen=True)
class Asked:
    """Questions of one number of hops, in words (see `language`): valid (B,) bool, question (B, n),
    answer (B,) word, choice (B,) 0..3, think two-hot (B, m)."""

    valid: Tensor
    question: Tensor
    answer: Tensor
    choice: Tensor
    think: TwoHot

    def __getitem__(self, index) -> "Asked":
        return _each(self, index)


@dataclass(frozen=True)
class Rooms:
    """B rooms: photos (B, 2, 3, S, S) uint8; names (B, 2, P, 33) half, the share of each patch that is the
    room or an object; depth (B, 2, P), mean log of z-depth; pose two-hot (B, 5); objects two-hot (B, K, 6),
    where each lies, and known (B, K), whether a photo shows it well; asked, by hops."""

    photos: Tensor
    names: Tensor
    depth: Tensor
    pose: TwoHot
    objects: TwoHot
    known: Tensor
    asked: dict[int, Asked]

    def __len__(self) -> int:
        return self.photos.shape[0]

    def __getitem__(self, index) -> "Rooms":
        return _each(self, index)


def _each(of, index):
    """The dataclass `of` tensors, tuples and dicts of them, indexed throughout."""

    def take(value):
        if isinstance(value, tuple):
            return tuple(part[index] for part in value)
        if isinstance(value, dict):
            return {key: part[index] for key, part in value.items()}
        return value[index]

    return type(of)(**{f.name: take(getattr(of, f.name)) for f in fields(of)})


@torch.no_grad()
def rooms(seeds: Tensor, config: Config, hops: Sequence[int] = HOPS, compiled: bool = False) -> Rooms:
    """Draw, render and ask: one room per seed (B,), on the seeds' device."""
    scene = sample_scenes(seeds, "plain")
    c2w = viewpoints(scene)
    size, grid = config.photo, config.grid
    views = render(scene, c2w, intrinsics(size, size).to(seeds.device), size, size, compiled=compiled)
    batch, patch = len(scene), size // grid
    shape = (batch, 2, grid, patch, grid, patch)

    kinds = scene.colour * len(SHAPES) + scene.shape + 1  # (B, K) in 1 .. 32
    ids = views.ids.view(shape)
    names = torch.zeros(batch, 2, grid * grid, 1 + len(COLOURS) * len(SHAPES), device=seeds.device)
    for k in range(MAX_OBJECTS):
        share = (ids == k + 1).float().mean((3, 5)).flatten(2)  # (B, 2, P)
        place = kinds[:, None, None, k : k + 1].expand(-1, 2, grid * grid, -1)
        names.scatter_add_(3, place, share[..., None])
    names[..., 0] = 1 - names[..., 1:].sum(-1)

    shares = visibility(views.ids)
    seen = shares >= SEEN  # (B, 2, K)
    photo = (~seen[:, 0]).long()
    spots = level_frame(c2w, scene.position)  # (B, 2, K, 2)
    local = spots.gather(1, photo[:, None, :, None].expand(-1, -1, -1, 2))[:, 0]  # (B, K, 2)
    asked = {}
    for n in hops:
        q = ask(scene, c2w, shares, n)
        asked[n] = Asked(q.valid, language.question(q), language.answer(q), q.answer, language.think(q))
    return Rooms(
        photos=to_uint8(views.images).permute(0, 1, 4, 2, 3).contiguous(),
        names=names.half(),
        depth=views.depth.clamp(min=0.05).log().view(shape).mean((3, 5)).flatten(2),
        pose=language.pose(c2w),
        objects=language.located(
            kinds - 1, photo, angle(local), local.square().sum(-1).sqrt(), spots[:, 0]
        ),
        known=seen.any(1) & scene.present,
        asked=asked,
    )


def split_seeds(split: str, start: int, count: int, device: torch.device | str | None = None) -> Tensor:
    """`count` seeds of 'train', 'val' or 'test' from number `start` on. Raises ValueError past the end."""
    first, last = SPLITS[split]
    if not 0 <= start <= start + count <= last - first:
        raise ValueError(f"split {split!r} holds {last - first} seeds, not {start} .. {start + count}")
    return torch.arange(first + start, first + start + count, device=device)


def stream(
    config: Config, start: int, batch: int, draw: int, device: torch.device, compiled: bool
) -> Iterator[Rooms]:
    """Batches of training rooms from number `start` on, for ever, none twice.

    `draw` batches are drawn at a time: sampling scenes takes some hundred small kernels whatever their
    number. A batch depends on its number only, so training goes on where it stopped.
    """
    number = start // batch
    while True:
        group, skip = divmod(number, draw)
        seeds = split_seeds("train", group * draw * batch, draw * batch, device)
        many = rooms(seeds, config, compiled=compiled)
        for k in range(skip, draw):
            yield many[k * batch : (k + 1) * batch]
            number += 1
