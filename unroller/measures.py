"""How near a picture or a depth map is to the true one: PSNR, SSIM, δ1 and AbsRel. numpy, and no model.

Of the two customary ways to be wrong about depth each is told apart by its alignment: "none" asks for metres,
"scale" forgives a factor (the ratio of the medians), "affine" a factor and an offset (least squares), as
papers on relative depth do. Say which, wherever such a figure stands.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Alignment = Literal["none", "scale", "affine"]

WITHIN = 1.25
"""The ratio up to which δ1 counts a depth as right."""

_WINDOW, _DEVIATION = 11, 1.5  # pixels; of SSIM
_LEAST = 1e-3


def psnr(a: Array, b: Array) -> float:
    """Peak signal-to-noise ratio of pictures (..., H, W, 3) uint8, in dB; infinite where they are equal."""
    _same(a, b)
    wrong = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if wrong == 0 else float(10 * np.log10(255.0**2 / wrong))


def ssim(a: Array, b: Array) -> float:
    """Structural similarity of pictures (H, W, 3) uint8, at most 1 (Wang et al., 2004): a Gaussian window of
    11 pixels, deviation 1.5, the mean over windows that lie in the picture and over channels. Raises
    ValueError for smaller pictures."""
    _same(a, b)
    if min(a.shape[:2]) < _WINDOW:
        raise ValueError(f"pictures of {a.shape[1]} x {a.shape[0]}: SSIM needs {_WINDOW} pixels a side")
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _smooth(x), _smooth(y)
    var_x, var_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    both = _smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    return float(np.mean(alike / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))))


def depth_errors(given: Array, true: Array, align: Alignment = "none") -> tuple[float, float]:
    """(δ1, AbsRel) of depth maps (H, W): the share of pixels whose ratio to the true depth is below 1.25,
    and the mean of |given - true| / true, over the pixels of which the truth is known (above 0).

    What was given no depth (0) counts as wrong, with an AbsRel of 1. A map of another size is read at the
    nearest pixels. Raises ValueError for a truth that is known nowhere and an unknown alignment.
    """
    known = np.isfinite(true) & (true > 0)
    if not known.any():
        raise ValueError("the true depth is known nowhere: it holds metres, 0 where unknown")
    found, real = _at(given, true.shape)[known].astype(np.float64), true[known].astype(np.float64)
    seen = np.isfinite(found) & (found > 0)
    found = np.where(seen, found, 0.0)
    if seen.any():
        found[seen] = _aligned(found[seen], real[seen], align)
    ratio = np.maximum(found / real, real / np.maximum(found, 1e-12))
    return float(np.mean(ratio < WITHIN)), float(np.mean(np.abs(found - real) / real))


def _aligned(found: Array, real: Array, align: Alignment) -> Array:
    if align == "none":
        return found
    if align == "scale":
        return found * (np.median(real) / np.median(found))
    if align == "affine":
        columns = np.stack([found, np.ones_like(found)], axis=1)
        factor, offset = np.linalg.lstsq(columns, real, rcond=None)[0]
        return np.maximum(factor * found + offset, _LEAST)
    raise ValueError(f"align={align!r}: choose none, scale or affine")


def _at(depth: Array, shape: tuple[int, ...]) -> Array:
    """Depth (h, w) read at the middles of the pixels of (H, W)."""
    if depth.shape == shape:
        return depth
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, depth.shape, strict=True)
    )
    return depth[rows[:, None], columns[None]]


def _smooth(picture: Array) -> Array:
    """(H, W, 3) by the window, where it lies inside."""
    line = np.exp(-0.5 * ((np.arange(_WINDOW) - _WINDOW // 2) / _DEVIATION) ** 2)
    line /= line.sum()
    for axis in (0, 1):
        view: Array = np.lib.stride_tricks.sliding_window_view(picture, _WINDOW, axis=axis)
        picture = view @ line
    return picture


def _same(a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f"pictures of the shapes {a.shape} and {b.shape} cannot be compared")
