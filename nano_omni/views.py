"""Views that nobody photographed, in words: from where a photo was taken, looking elsewhere.

    <view> photo1 left 75deg  16 visual tokens, row by row  </view>

What lies outside a photo is seen in the other one, if at all: to draw such a view is to know how the photos
relate and what they show.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .model import Grammar
from .visual import GRID, codebook
from .vocabulary import CODE_0, CODES, DIRECTION_0, DIRECTIONS, INDEX
from .world import camera
from .world.camera import intrinsics
from .world.randomness import uniform
from .world.render import render
from .world.scene import Scene
from .world.sight import Sight

PATCHES = GRID * GRID
LENGTH = 4 + PATCHES + 1
LOOKS = ("up", "down", "left", "right")
_TURNS = {"up": (0.0, -1.0), "down": (0.0, 1.0), "left": (1.0, 0.0), "right": (-1.0, 0.0)}  # yaw, pitch
WIDE = 75.0  # degrees to either side that are shown as context: with the photo, most of what is around
DEGREES = (30.0, 45.0, 60.0, WIDE)
CONTEXT = (("left", WIDE), ("right", WIDE))  # of photo 1
GRAMMAR = Grammar((range(CODE_0, CODE_0 + CODES),) * PATCHES)  # what is written after the opening words


def looking(c2w: Tensor, look: Sequence[str], degrees: Tensor) -> Tensor:
    """Cameras (N, 4, 4) turned: left and right about the vertical, up and down about their own x axis."""
    turns = torch.tensor([_TURNS[one] for one in look], device=c2w.device) * degrees[:, None].deg2rad()
    cos, sin = turns.cos().to(c2w), turns.sin().to(c2w)
    yaw = torch.eye(4, device=c2w.device, dtype=c2w.dtype).repeat(len(c2w), 1, 1)
    yaw[:, 0, 0], yaw[:, 0, 1], yaw[:, 1, 0], yaw[:, 1, 1] = cos[:, 0], -sin[:, 0], sin[:, 0], cos[:, 0]
    pitch = torch.eye(4, device=c2w.device, dtype=c2w.dtype).repeat(len(c2w), 1, 1)
    pitch[:, 1, 1], pitch[:, 1, 2] = cos[:, 1], sin[:, 1]  # towards +y, which is down
    pitch[:, 2, 1], pitch[:, 2, 2] = -sin[:, 1], cos[:, 1]
    turned = yaw @ c2w @ pitch
    turned[:, :3, 3] = c2w[:, :3, 3]
    return turned


def opening(photo: int, look: str, degrees: float) -> list[int]:
    """The words that ask for a view, the first of them <view>; photo from 0."""
    step = round(degrees * DIRECTIONS / 360)
    return [INDEX["<view>"], INDEX["photo1"] + photo, INDEX[look], DIRECTION_0 + step]


def words(photo: int, look: str, degrees: float, tokens: Sequence[int]) -> list[int]:
    """A view (LENGTH words) of visual tokens (PATCHES,)."""
    return [*opening(photo, look, degrees), *(CODE_0 + k for k in tokens), INDEX["</view>"]]


def turned(look: str, degrees: float) -> Tensor:
    """(4, 4) float64, the camera that looks there in the frame of the photo's (which looks down by PITCH)."""
    first = camera.pose(
        torch.zeros(1, 3, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        torch.full((1,), camera.PITCH, dtype=torch.float64),
    )
    return camera.relative(first, looking(first, [look], torch.tensor([degrees])))[0]


@torch.no_grad()
def imagine(scene: Scene, seen: Sight, compiled: bool = False) -> Tensor:
    """Of each room the views of CONTEXT and one more, of either photo in any direction: (B, 3, LENGTH) words,
    true ones, rendered."""
    batch, device = len(scene), scene.device
    lots = uniform(scene.seeds, "views", 3)
    photo = (lots[:, 0] * 2).long().tolist()
    look = [LOOKS[k] for k in (lots[:, 1] * len(LOOKS)).long().tolist()]
    turn = [DEGREES[k] for k in (lots[:, 2] * len(DEGREES)).long().tolist()]
    some = [*([(0, *one)] * batch for one in CONTEXT), list(zip(photo, look, turn, strict=True))]
    shots: list[Tensor] = []
    for kind in some:
        degrees = torch.tensor([d for _, _, d in kind], device=device)
        which = torch.tensor([p for p, _, _ in kind], device=device)
        first = seen.c2w[torch.arange(batch, device=device), which]
        shots.append(looking(first, [one for _, one, _ in kind], degrees))
    size = 2 * GRID * 4
    drawn = render(scene, torch.stack(shots, 1), intrinsics(size, size), size, size, compiled=compiled)
    tokens = (
        codebook()
        .to(device)
        .tokens(
            drawn.images.flatten(0, 1).permute(0, 3, 1, 2),
            drawn.ids.flatten(0, 1),
            seen.kind.repeat_interleave(len(shots), 0),
        )
    )
    heads = torch.tensor([[opening(*one) for one in kind] for kind in some], device=device)  # (3, B, 4)
    tokens = tokens.view(batch, len(shots), PATCHES) + CODE_0
    closing = torch.full_like(tokens[..., :1], INDEX["</view>"])
    return torch.cat([heads.transpose(0, 1), tokens, closing], dim=2)
