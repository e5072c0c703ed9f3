"""Pictures as continuous latents and back: a small convolutional autoencoder of the project's own.

    held = autoencoder()                       # the one that comes along
    latents = held.encode(pictures)            # (N, 3, 64, 64) uint8 -> (N, 16, 8, 8), about unit variance
    held.decode(latents)                       # -> (N, 3, 64, 64) float in 0..1

It knows rooms of `world` alone. `python -m nano_omni.training.autoencoder` trains it anew and measures it.
"""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .residual import Residual

FILE = Path(__file__).with_name("autoencoder.safetensors")
CHANNELS = 16
DOWN = 8  # pixels a side that become one place of latents
_WIDTHS = (32, 64, 128)
_UNCHANGED, _CHANGED = 40 / 255, 80 / 255
"""Differences of a channel for which no pixel, and all of it, is redrawn."""


class Autoencoder(nn.Module):
    """Pictures (N, 3, S, S), S a multiple of DOWN, as latents (N, CHANNELS, S / DOWN, S / DOWN)."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        a, b, c = _WIDTHS
        self.encoder = nn.Sequential(
            nn.Conv2d(3, a, 4, stride=2, padding=1),
            Residual(a),
            nn.Conv2d(a, b, 4, stride=2, padding=1),
            Residual(b),
            nn.Conv2d(b, c, 4, stride=2, padding=1),
            Residual(c),
            Residual(c),
            nn.Conv2d(c, CHANNELS, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(CHANNELS, c, 3, padding=1),
            Residual(c),
            Residual(c),
            nn.Conv2d(c, 4 * b, 1),
            nn.PixelShuffle(2),
            Residual(b),
            nn.Conv2d(b, 4 * a, 1),
            nn.PixelShuffle(2),
            Residual(a),
            nn.Conv2d(a, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("mean", torch.zeros(CHANNELS, 1, 1))  # of raw latents over training rooms
        self.register_buffer("scale", torch.ones(CHANNELS, 1, 1))

    def raw(self, pictures: Tensor) -> Tensor:
        """Latents before they are brought to unit variance, of pictures in 0..1."""
        return self.encoder(pictures * 2 - 1)

    def drawn(self, raw: Tensor) -> Tensor:
        """Pictures around 0..1, of such latents."""
        return (self.decoder(raw) + 1) / 2

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Of pictures uint8. Raises ValueError for a size that is no multiple of DOWN."""
        if pictures.shape[-1] % DOWN or pictures.shape[-2] % DOWN:
            raise ValueError(f"sides of {tuple(pictures.shape[-2:])} pixels are no multiples of {DOWN}")
        return (self.raw(pictures.to(self.mean.dtype) / 255) - self.mean) / self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return self.drawn(latents * self.scale + self.mean).clamp(0, 1)


@torch.no_grad()
def redrawn(held: Autoencoder, pictures: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Pictures (N, 3, S, S) uint8 with latents `before`, changed to what the latents `after` show.

    Only where the two decode to something else is a picture redrawn: elsewhere its pixels stay exactly as
    they are, with all that latents lose of them, however often it is changed. Between a small difference,
    which may be a mistake, and a plain one the old and the new are mixed. (Adding the difference of both to
    the picture, which keeps as much, leaves a seam of what latents had lost of an object that is gone.)
    """
    old, new = held.decode(before), held.decode(after)
    moved = F.max_pool2d((new - old).abs().amax(1, keepdim=True), 3, stride=1, padding=1)
    share = ((moved - _UNCHANGED) / (_CHANGED - _UNCHANGED)).clamp(0, 1)
    mixed = torch.lerp(pictures.to(new.dtype) / 255, new, share)
    return (mixed * 255).round().clamp(0, 255).to(torch.uint8)


@cache
def autoencoder() -> Autoencoder:
    """The one that comes along, in float32 on the CPU. Raises FileNotFoundError where its file is not there,
    ValueError where it is damaged or of another version."""
    mend = "restore it, or train it with `python -m nano_omni.training.autoencoder`"
    if not FILE.is_file():
        raise FileNotFoundError(f"the autoencoder's weights are not there (no {FILE}): {mend}")
    held = Autoencoder()
    try:
        held.load_state_dict(load_file(FILE))
    except (SafetensorError, OSError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{FILE} cannot be read as an autoencoder ({why:.300}): {mend}") from error
    return held.float().eval()
