"""Counter-based random numbers: a draw is a hash of (seed, stream, position), with no state.

A generator that is advanced would make scene i depend on the scenes drawn before it. Here every
scene owns its numbers, whatever the batch around it and whatever the device: the hash is integer
arithmetic (splitmix64: Steele, Lea and Flood, 2014), which CPU and CUDA do alike to the bit.
"""

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_GAMMA, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    """The int64 with the same 64 bits as `value`."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _shift(bits: Tensor, places: int) -> Tensor:
    """Logical shift right; torch's own is arithmetic."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift(bits, 30)) * _signed(_MIX1)
    bits = (bits ^ _shift(bits, 27)) * _signed(_MIX2)
    return bits ^ _shift(bits, 31)


def as_seeds(seeds: int | Sequence[int] | Tensor, device: torch.device | str | None = None) -> Tensor:
    """Seeds as an int64 tensor (B,). A single integer becomes a batch of one.

    Raises TypeError for seeds that are not integers, ValueError for more than one dimension.
    """
    if not isinstance(seeds, Tensor):
        seeds = torch.tensor(seeds)
    if seeds.is_floating_point() or seeds.is_complex() or seeds.dtype == torch.bool:
        raise TypeError(f"seeds must be integers, not {seeds.dtype}")
    if seeds.dim() > 1:
        raise ValueError(f"seeds must have shape (B,), not {tuple(seeds.shape)}")
    return seeds.reshape(-1).to(device=device, dtype=torch.int64)


def random_bits(seeds: Tensor, stream: str, count: int) -> Tensor:
    """`count` independent 64-bit words per seed: (B,) int64 -> (B, count) int64.

    `stream` names what the numbers are for: two names give unrelated numbers, so adding a stream
    to the world leaves every older one as it was.
    """
    name = _signed(zlib.crc32(stream.encode()) * _MIX2)
    key = _mix(_mix(seeds + _signed(_GAMMA)) ^ name)
    steps = torch.arange(1, count + 1, device=seeds.device) * _signed(_GAMMA)
    return _mix(key[:, None] + steps)  # (B, count)


def uniform(seeds: Tensor, stream: str, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform numbers in [low, high): (B,) int64 -> (B, count) float32, 24 random bits each."""
    unit = _shift(random_bits(seeds, stream, count), 40).to(torch.float32) * 2.0**-24
    return unit * (high - low) + low


def permutation(seeds: Tensor, stream: str, count: int) -> Tensor:
    """A random order of 0..count-1 per seed: (B,) int64 -> (B, count) int64."""
    return _shift(random_bits(seeds, stream, count), 1).argsort(dim=1, stable=True)
