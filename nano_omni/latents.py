"""Latents as tokens of the model: how they come in with noise on them, and what velocity comes out.

The latents of a picture (CHANNELS, 8, 8) are cut into 2 x 2 places: 4 x 4 tokens of NUMBERS each, one for
each cell that has a visual token. A token is a projection of its numbers, the time, and the cell's place.

What the model says of a token is its picture without the noise, and the velocity follows from that: noise
has many more directions than pictures of rooms have, and a small model that has to say it, as BAGEL does, has
little room left (Li and He, 2025, "Back to Basics: Let Denoising Generative Models Denoise").
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoencoder import CHANNELS

PATCH = 2
GRID = 4
TOKENS = GRID * GRID
NUMBERS = CHANNELS * PATCH * PATCH
_WAVES = 64  # of the time's embedding
_LEAST_TIME = 0.05  # from which on the noise that is left counts no more


def patches(latents: Tensor) -> Tensor:
    """(N, CHANNELS, 8, 8) -> (N, TOKENS, NUMBERS), row by row."""
    cut = latents.unflatten(3, (GRID, PATCH)).unflatten(2, (GRID, PATCH))  # (N, C, G, P, G, P)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def whole(tokens: Tensor) -> Tensor:
    """`patches` turned round."""
    cut = tokens.unflatten(2, (CHANNELS, PATCH, PATCH)).unflatten(1, (GRID, GRID))  # (N, G, G, C, P, P)
    return cut.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class Ends(nn.Module):
    """Where latents enter and leave a model of width d. What leaves is zero in the beginning."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(NUMBERS, width)
        self.time = nn.Sequential(nn.Linear(2 * _WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.place = nn.Parameter(sin_cos_2d(GRID, width))
        self.leave = nn.Linear(width, NUMBERS)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def embed(self, noised: Tensor, times: Tensor) -> Tensor:
        """Tokens (..., TOKENS, NUMBERS) at times (...) in 0..1 -> (..., TOKENS, d)."""
        rate = torch.exp(torch.linspace(0, math.log(1000), _WAVES, device=times.device))
        phase = times[..., None] * rate
        waves = torch.cat([phase.sin(), phase.cos()], dim=-1).to(noised.dtype)
        return self.enter(noised) + self.place + self.time(waves)[..., None, :]

    def velocity(self, hidden: Tensor, noised: Tensor, times: Tensor) -> Tensor:
        """Hidden states (..., TOKENS, d) of tokens and times as above -> (..., TOKENS, NUMBERS)."""
        t = times[..., None, None].clamp(min=_LEAST_TIME)
        return (noised - self.leave(hidden).float()) / t


def sin_cos_2d(side: int, width: int) -> Tensor:
    """2-D positions: (side * side, width), half for the row and half for the column."""
    quarter = width // 4
    rate = 20.0 ** (-torch.arange(quarter) / max(quarter - 1, 1)) * math.pi
    phase = torch.arange(side)[:, None] * rate  # (side, quarter)
    line = torch.cat([phase.sin(), phase.cos()], dim=1)  # (side, width / 2)
    rows = line[:, None].expand(side, side, -1)
    cols = line[None].expand(side, side, -1)
    return F.pad(torch.cat([rows, cols], dim=-1).flatten(0, 1), (0, width - 4 * quarter))
