"""Train the closer look: cut-outs of objects in rooms that show prompts, and of what shape each is.

Almost all that a verifier gets wrong on true renders is a box taken for a cylinder, or the other way round,
far off and a few pixels wide. So these are most of what it sees, and far ones more than near ones.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..closer import Outline, cut_out
from ..data import split_seeds
from ..verifier import SIDE
from ..world import camera, prompts
from ..world.randomness import uniform
from ..world.render import render
from ..world.scene import SHAPES, furnish
from ..world.sight import angle, level_frame, visibility
from .descent import Say, descend
from .precision import precision
from .spoiling import spoil

FIRST = (1 << 54) + (1 << 53)  # of the training rooms: nothing else comes to those
LEAST_SEEN = 6 / SIDE**2  # of the picture
HARD = 0.4, 0.4  # of the objects are boxes, and cylinders; the others are spheres and cones
NEAR = 3.0  # metres from which on all objects are looked at; of nearer ones, by the square of their distance
OFF = 0.006, 0.02  # radians and log metres that the detector may be off
RATE, DECAY = 3e-3, 0.02


@dataclass(frozen=True)
class Objects:
    """pictures (N, 3, SIDE, SIDE) in 0..1; of each object which picture shows it, bearing in radians and
    distance in metres, and its shape (M,)."""

    pictures: Tensor
    which: Tensor
    bearing: Tensor
    distance: Tensor
    shape: Tensor


@torch.no_grad()
def draw(start: int, count: int, compiled: bool = False) -> Objects:
    """Of `count` training pictures from number `start` on: two thirds of such pictures are in bare paint,
    half of them have up to four objects, the others up to six."""
    seeds = split_seeds("train", FIRST + start, count)
    few, many = seeds.chunk(2)
    asked = [*prompts.draw(few), *prompts.draw(many, prompts.MOST)]
    staged = prompts.stage(asked, seeds, "plain" if (start // count) % 3 == 2 else "bare")
    room = staged.scene
    kind = room.colour * len(SHAPES) + _shapes(uniform(seeds, "closer.shape", room.shape.shape[1]))
    room = furnish(room, room.present, kind, room.radius, room.position)
    views = render(room, staged.c2w, camera.intrinsics(SIDE, SIDE), SIDE, SIDE, compiled=compiled)
    spots = level_frame(staged.c2w, room.position)[:, 0]  # (B, K, 2)
    bearing, distance = angle(spots), spots.norm(dim=-1)
    looked = uniform(seeds, "closer.looked", room.shape.shape[1]) < (distance / NEAR).square()
    seen = looked & room.present & (visibility(views.ids)[:, 0] >= LEAST_SEEN)
    pictures = views.images[:, 0].permute(0, 3, 1, 2).contiguous()
    which = seen.nonzero()[:, 0]
    return Objects(pictures, which, bearing[seen], distance[seen], room.shape[seen])


def _shapes(lots: Tensor) -> Tensor:
    """Lots in 0..1 as shapes, any shape of tensor."""
    box, cylinder = HARD
    hard = torch.where(lots < box, SHAPES.index("box"), SHAPES.index("cylinder"))
    rest = torch.where(lots < (1 + box + cylinder) / 2, SHAPES.index("sphere"), SHAPES.index("cone"))
    return torch.where(lots < box + cylinder, hard, rest)


def cut_outs(
    batch: int, several: int, compiled: bool, seed: int, changed: Callable[[Tensor], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """About `batch` cut-outs and their shapes, for ever, of other rooms for each seed. changed: what becomes
    of pictures before they are looked at; several: pictures that are drawn at a time."""
    generator = torch.Generator().manual_seed(seed)

    def off(objects: Objects) -> Tensor:
        return torch.randn(len(objects.which), generator=generator)

    start = seed << 40
    while True:
        true = draw(start, several, compiled)
        start += several
        order = torch.randperm(several, generator=generator)
        pictures = changed(true.pictures[order])
        which = order.argsort()[true.which]
        bearing = true.bearing + OFF[0] * off(true)
        distance = true.distance * (OFF[1] * off(true)).exp()
        parts = max(1, len(which) // batch)  # alike in size, and none much smaller than a batch
        for chosen in torch.randperm(len(which), generator=generator).tensor_split(parts):
            yield cut_out(pictures, which[chosen], bearing[chosen], distance[chosen]), true.shape[chosen]


def train_outline(
    steps: int,
    batch: int,
    seed: int = 0,
    compiled: bool = True,
    redrawn: Callable[[Tensor], Tensor] | None = None,
    say: Say = print,
    several: int = 512,
    every: int = 50,
    seconds: float = math.inf,
) -> tuple[Outline, list[dict[str, float]]]:
    """A closer look, and its losses `every` so many steps. batch: cut-outs a step; redrawn: as of
    `training.verifier.train`; seconds: see `descend`."""
    torch.manual_seed(seed)
    outline = Outline().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    generator = torch.Generator().manual_seed(seed)
    source = cut_outs(batch, several, compiled, seed, lambda pictures: spoil(pictures, generator, redrawn))

    def wrong() -> dict[str, Tensor]:
        cut, shape = next(source)
        with precision(cut.device):
            said = outline(cut.contiguous(memory_format=torch.channels_last))
        return {"shape": F.cross_entropy(said.float(), shape)}

    optimizer = torch.optim.AdamW(outline.parameters(), RATE, betas=(0.9, 0.98), weight_decay=DECAY)
    return outline.eval(), descend([optimizer], wrong, steps, say, every, seconds)
