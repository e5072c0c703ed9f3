"""Latents as tokens of the model: how they come in with noise on them, and what velocity comes out.

The latents of a picture (CHANNELS, 8, 8) are cut into 2 x 2 places: 4 x 4 tokens of NUMBERS each, one for
each cell that has a visual token. Before they are cut and after they are put together again, convolutions
look at single places and their neighbours (as in simple diffusion, Hoogeboom et al., 2023): the model says
what stands where, and the outlines are worked out here, from that and from the noised latents.

What comes out is the picture without the noise, and the velocity follows from that: noise has many more
directions than pictures of rooms have, and a small model that has to say it, as BAGEL does, has little room
left (Li and He, 2025, "Back to Basics: Let Denoising Generative Models Denoise").
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoencoder import CHANNELS
from .residual import Residual

PATCH = 2
GRID = 4
TOKENS = GRID * GRID
NUMBERS = CHANNELS * PATCH * PATCH
_FINE = 64  # features of a place
_KEPT = -3.0  # what a place says of itself in the beginning: 5 % are new
_WAVES = 64  # of the time's embedding
_LEAST_TIME = 0.05  # from which on the noise that is left counts no more


def patches(latents: Tensor) -> Tensor:
    """(N, C, 8, 8) -> (N, TOKENS, C * PATCH * PATCH), row by row."""
    cut = latents.unflatten(3, (GRID, PATCH)).unflatten(2, (GRID, PATCH))  # (N, C, G, P, G, P)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def whole(tokens: Tensor) -> Tensor:
    """`patches` turned round."""
    cut = tokens.unflatten(2, (-1, PATCH, PATCH)).unflatten(1, (GRID, GRID))  # (N, G, G, C, P, P)
    return cut.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class Entered(NamedTuple):
    """Noised latents as tokens (N, TOKENS, d), and what is known of each place: fine (N, _FINE, 8, 8), time
    (N, d)."""

    tokens: Tensor
    fine: Tensor
    time: Tensor


class Ends(nn.Module):
    """Where latents enter and leave a model of width d. What leaves is zero in the beginning.

    photos: a picture is also drawn from another. Its places then enter together with the clean ones of that
    one beside them, which add nothing in the beginning, and of each place may be said what share of it is
    new, little in the beginning, and all else is kept.
    """

    def __init__(self, width: int, photos: bool = False) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(2 * _WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.place = nn.Parameter(sin_cos_2d(GRID, width))
        self.begin = nn.Conv2d(CHANNELS, _FINE, 3, padding=1)
        self.enter = nn.Linear(_FINE * PATCH * PATCH, width)
        self.leave = nn.Linear(width, _FINE * PATCH * PATCH)
        self.join = nn.Conv2d(2 * _FINE, _FINE, 3, padding=1)
        self.times = nn.ModuleList(nn.Linear(width, _FINE) for _ in range(3))
        self.places = nn.ModuleList(Residual(_FINE) for _ in range(3))
        self.end = nn.Conv2d(_FINE, CHANNELS, 3, padding=1)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)  # pyright: ignore[reportArgumentType]
        self.beside = nn.Conv2d(CHANNELS, _FINE, 3, padding=1) if photos else None
        if self.beside is not None:
            nn.init.zeros_(self.beside.weight)
            nn.init.zeros_(self.beside.bias)  # pyright: ignore[reportArgumentType]
        self.share = nn.Conv2d(_FINE, 1, 3, padding=1) if photos else None
        if self.share is not None:
            nn.init.zeros_(self.share.weight)
            nn.init.constant_(self.share.bias, _KEPT)  # pyright: ignore[reportArgumentType]

    def embed(self, noised: Tensor, times: Tensor, beside: Tensor | None = None) -> Entered:
        """Latents (N, TOKENS, NUMBERS) at times (N,) in 0..1. beside: the clean ones of the photo that they
        are drawn from; raises ValueError where the model was not taught that."""
        rate = torch.exp(torch.linspace(0, math.log(1000), _WAVES, device=times.device))
        phase = times[..., None] * rate
        waves = torch.cat([phase.sin(), phase.cos()], dim=-1).to(noised.dtype)
        time = self.time(waves)  # (N, d)
        x = self.begin(whole(noised).contiguous(memory_format=torch.channels_last))
        if beside is not None:
            if self.beside is None:
                raise ValueError("these weights were not taught to draw from photos")
            x = x + self.beside(whole(beside).contiguous(memory_format=torch.channels_last))
        fine = self._looked(0, x, time)
        return Entered(self.enter(patches(fine)) + self.place + time[:, None], fine, time)

    def velocity(
        self,
        hidden: Tensor,
        noised: Tensor,
        times: Tensor,
        entered: Entered,
        changed: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (N, TOKENS, d) of latents that entered -> (N, TOKENS, NUMBERS). changed: the clean
        latents that are kept but for the share of each place that is said to be new."""
        said = whole(self.leave(hidden))
        x = self.join(torch.cat([said.to(entered.fine.dtype), entered.fine], dim=1))
        for k in (1, 2):
            x = self._looked(k, x, entered.time)
        new = self.end(x).float()
        if changed is not None:
            if self.share is None:
                raise ValueError("these weights were not taught to draw from photos")
            new = torch.lerp(whole(changed).float(), new, self.share(x).float().sigmoid())
        clean = patches(new)
        return (noised - clean) / times[:, None, None].clamp(min=_LEAST_TIME)

    def _looked(self, k: int, x: Tensor, time: Tensor) -> Tensor:
        return self.places[k](x + self.times[k](time)[..., None, None])


def sin_cos_2d(side: int, width: int) -> Tensor:
    """2-D positions: (side * side, width), half for the row and half for the column."""
    quarter = width // 4
    rate = 20.0 ** (-torch.arange(quarter) / max(quarter - 1, 1)) * math.pi
    phase = torch.arange(side)[:, None] * rate  # (side, quarter)
    line = torch.cat([phase.sin(), phase.cos()], dim=1)  # (side, width / 2)
    rows = line[:, None].expand(side, side, -1)
    cols = line[None].expand(side, side, -1)
    return F.pad(torch.cat([rows, cols], dim=-1).flatten(0, 1), (0, width - 4 * quarter))
