"""Pictures spoiled a little, as drawn ones are: what is in them can still be told, and its colour too."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CLEAN = 1 / 2  # of the pictures stay as they are
REDRAWN = 1 / 2  # of the others, where somebody draws them again


@torch.no_grad()
def spoil(
    pictures: Tensor, generator: torch.Generator, redrawn: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Pictures (N, 3, S, S) in 0..1, some of them blurred, noisy, spotty or in another light."""
    count = len(pictures)
    kept = int(CLEAN * count)
    again = int((count - kept) * REDRAWN) if redrawn is not None else 0
    clean, passed, rough = pictures.split([kept, again, count - kept - again])
    parts = [clean, redrawn(passed) if redrawn is not None and again else passed, _rough(rough, generator)]
    return torch.cat(parts).clamp(0, 1)


def redrawing(noise: float = 0.15) -> Callable[[Tensor], Tensor]:
    """Pictures through the autoencoder that comes along, with `noise` of the latents' deviation."""
    from ..autoencoder import autoencoder

    held = autoencoder()

    def redrawn(pictures: Tensor) -> Tensor:
        latents = held.encode((pictures * 255).round().to(torch.uint8))
        return held.decode(latents + noise * torch.rand(len(latents), 1, 1, 1) * torch.randn_like(latents))

    return redrawn


def _rough(pictures: Tensor, generator: torch.Generator) -> Tensor:
    count, _, side, _ = pictures.shape

    def lot(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    blurred = _blur(pictures, 0.3 + 0.7 * torch.rand((), generator=generator).item())
    pictures = torch.where(lot(1, 1, 1) < 0.5, blurred, pictures)
    light = 1 + 0.08 * (2 * lot(1, 1, 1) - 1) + 0.03 * (2 * lot(3, 1, 1) - 1)
    spots = F.interpolate(normal(3, 8, 8), size=(side, side), mode="bilinear", align_corners=False)
    spotty = 0.03 * lot(1, 1, 1) * spots + 0.04 * lot(1, 1, 1) * normal(3, side, side)
    return pictures * light + spotty


def _blur(pictures: Tensor, deviation: float) -> Tensor:
    """By a Gaussian of so many pixels."""
    line = torch.exp(-0.5 * (torch.arange(-3, 4) / deviation) ** 2)
    line = (line / line.sum()).expand(3, 1, 1, 7)
    pictures = F.conv2d(F.pad(pictures, (3, 3, 0, 0), mode="replicate"), line, groups=3)
    return F.conv2d(F.pad(pictures, (0, 0, 3, 3), mode="replicate"), line.mT, groups=3)
