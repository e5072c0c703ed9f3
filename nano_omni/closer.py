"""A closer look at single objects: cut out of the picture, brought to one size, and told apart by shape."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .residual import Residual
from .world.camera import HEIGHT, PITCH
from .world.scene import SHAPES

SIDE = 32  # samples along a side of a cut-out
WIDE = 1.15  # metres along a side, of which this much is below the middle of the base
BELOW = 0.2
PLANES = 6  # of a cut-out
_WIDTHS = (64, 128)
_MIDDLING = 2.5  # metres


def cut_out(pictures: Tensor, which: Tensor, bearing: Tensor, distance: Tensor) -> Tensor:
    """Pictures (N, 3, S, S) in 0..1 through a lens of 90 degrees, looked at around objects that stand on the
    floor: which picture, bearing in radians and distance in metres (M,) -> (M, PLANES, SIDE, SIDE).

    Planes are red, green and blue, how far across and down each sample is from the middle of the pixel it is
    taken from, all in -1..1, and the depth of the base, less _MIDDLING metres."""
    right, ahead = distance * bearing.sin(), distance * bearing.cos()
    far = (ahead * math.cos(PITCH) + HEIGHT * math.sin(PITCH)).clamp(min=0.3)  # (M,), z of the base
    across = right / far  # in half pictures, as grid_sample counts
    down = (HEIGHT * math.cos(PITCH) - ahead * math.sin(PITCH)) / far
    line = (torch.arange(SIDE, device=far.device) + 0.5) / SIDE
    columns = across[:, None] + (line - 0.5) * WIDE / far[:, None]  # (M, SIDE)
    rows = down[:, None] + (BELOW - (1 - line) * WIDE) / far[:, None]
    shape = (len(which), SIDE, SIDE)
    grid = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    paint = F.grid_sample(pictures[which], grid, padding_mode="border", align_corners=False)
    pixel = ((grid + 1) * pictures.shape[-1] / 2).permute(0, 3, 1, 2)  # (M, 2, SIDE, SIDE)
    away = (pixel - pixel.floor() - 0.5).abs()  # a mirrored picture has the same
    depth = (far - _MIDDLING)[:, None, None, None].expand(-1, 1, SIDE, SIDE)
    return torch.cat([paint * 2 - 1, away * 4 - 1, depth], dim=1)


class Outline(nn.Module):
    """Cut-outs (M, PLANES, SIDE, SIDE) -> logits of shapes (M, 4)."""

    def __init__(self) -> None:
        super().__init__()
        a, b = _WIDTHS
        self.enter = nn.Conv2d(PLANES, a, 4, stride=2, padding=1)
        self.inner = nn.Sequential(
            Residual(a), Residual(a), nn.Conv2d(a, b, 4, stride=2, padding=1), Residual(b), Residual(b)
        )
        self.norm = nn.GroupNorm(8, b)
        self.leave = nn.Linear(b * (SIDE // 8) ** 2, len(SHAPES))

    def forward(self, cut: Tensor) -> Tensor:
        seen = F.gelu(self.norm(self.inner(self.enter(cut))))  # (M, b, 8, 8)
        return self.leave(F.avg_pool2d(seen, 2).flatten(1))
