"""Depth as pictures for the autoencoder: the log of z-depth between two limits, the same on all channels."""

import math

import torch
from torch import Tensor

NEAR, FAR = 0.3, 8.0
"""Metres; what is nearer or farther is cut."""
_RANGE = math.log(FAR / NEAR)


def as_pictures(depth: Tensor) -> Tensor:
    """z-depth (N, S, S) in metres -> (N, 3, S, S) uint8, near black and far white."""
    grey = (depth.float().clamp(NEAR, FAR) / NEAR).log() / _RANGE
    return (grey[:, None].expand(-1, 3, -1, -1) * 255).round().to(torch.uint8)


def from_pictures(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, S, S) in 0..1 -> (N, S, S) metres, NEAR to FAR."""
    return NEAR * (pictures.float().mean(1).clamp(0, 1) * _RANGE).exp()
