"""Fresh rooms as tensors for the model: photos, what their patches hold, and all that is said of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from . import captions, language, views
from .config import Config
from .vocabulary import TwoHot
from .world.camera import intrinsics
from .world.questions import FORMS, Form, ask
from .world.render import render, to_uint8
from .world.scene import COLOURS, MAX_OBJECTS, SHAPES, sample_scenes
from .world.sight import Sight, sight, viewpoints

# Seeds that never meet: [first, last). Training counts upwards from its own start, run after run.
SPLITS = {"val": (0, 1 << 24), "test": (1 << 24, 1 << 25), "train": (1 << 32, 1 << 62)}


@dataclass(frozen=True)
class Asked:
    """Questions of one form, in words (see `language`): valid (B,) bool, question (B, n), choices (B, c) the
    words that may be answered, choice (B,) which of them is right, think two-hot (B, m)."""

    valid: Tensor
    question: Tensor
    choices: Tensor
    choice: Tensor
    think: TwoHot

    @property
    def answer(self) -> Tensor:
        """(B,), the right word."""
        return self.choices.gather(1, self.choice[:, None])[:, 0]

    def __getitem__(self, index) -> "Asked":
        return _each(self, index)


@dataclass(frozen=True)
class Rooms:
    """B rooms: photos (B, 2, 3, S, S) uint8; names (B, 2, P, 33) half, the share of each patch that is the
    room or an object; measures (B, 2, P, 3), mean log of z-depth, cosine and sine of four times the angle of
    the walls. In words: pose two-hot (B, 5), posing (B, 10);
    objects two-hot (B, K, 6), where each lies, and known (B, K), whether a photo shows it well; caption and
    depth_caption, two-hot; views (B, V, n), imagined ones (see `views`); asked, by form."""

    photos: Tensor
    names: Tensor
    measures: Tensor
    pose: TwoHot
    posing: TwoHot
    objects: TwoHot
    known: Tensor
    caption: TwoHot
    depth_caption: TwoHot
    views: Tensor
    asked: dict[Form, Asked]

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
def rooms(
    seeds: Tensor,
    config: Config,
    forms: Sequence[Form] = FORMS,
    compiled: bool = False,
    imagined: bool = True,
) -> Rooms:
    """Draw, render and ask: one room per seed (B,), on the seeds' device. imagined=False: no views."""
    scene = sample_scenes(seeds, "plain")
    c2w = viewpoints(scene)
    size, grid = config.photo, config.grid
    seen = render(scene, c2w, intrinsics(size, size).to(seeds.device), size, size, compiled=compiled)
    shape = (len(scene), 2, grid, size // grid, grid, size // grid)
    what = sight(scene, c2w, seen.ids)
    objects, pose = language.objects(what), language.pose(c2w)
    depth = seen.depth.clamp(min=0.05).log().view(shape).mean((3, 5)).flatten(2)  # (B, 2, P)
    walls = torch.stack([(4 * what.walls).cos(), (4 * what.walls).sin()], dim=-1)[:, :, None]
    asked: dict[Form, Asked] = {}
    for form in forms:
        q = ask(what, form)
        thoughts = language.think(q, objects)
        asked[form] = Asked(q.valid, language.question(q), language.choices(q), q.answer, thoughts)
    return Rooms(
        photos=to_uint8(seen.images).permute(0, 1, 4, 2, 3).contiguous(),
        names=_names(what, seen.ids.view(shape)).half(),
        measures=torch.cat([depth[..., None], walls.expand(*depth.shape, 2)], dim=-1),
        pose=pose,
        posing=language.posing(what, pose),
        objects=objects,
        known=what.known,
        caption=captions.caption(what, objects),
        depth_caption=captions.depth_caption(what),
        views=views.imagine(scene, what, compiled) if imagined else seeds.new_zeros(len(scene), 0, 0),
        asked=asked,
    )


def _names(seen: Sight, ids: Tensor) -> Tensor:
    """Shares of patches that are the room or an object of each name; ids (B, 2, g, p, g, p) by patches."""
    patches = ids.shape[2] ** 2
    names = torch.zeros(len(seen), 2, patches, 1 + len(COLOURS) * len(SHAPES), device=ids.device)
    for k in range(MAX_OBJECTS):
        share = (ids == k + 1).float().mean((3, 5)).flatten(2)  # (B, 2, P)
        place = seen.kind[:, None, None, k : k + 1].expand(-1, 2, patches, -1) + 1
        names.scatter_add_(3, place, share[..., None])
    names[..., 0] = 1 - names[..., 1:].sum(-1)
    return names


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
