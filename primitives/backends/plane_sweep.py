"""Dense depth by plane sweep: works for any motion, also straight ahead, where rectification fails.

Photo b is warped to photo a through planes of constant depth (Collins, CVPR 1996), compared by
normalised cross-correlation in small windows, and the costs are smoothed along four directions as
in semi-global matching (Hirschmueller, PAMI 2008). Planes are evenly spaced in inverse depth, so
that neighbouring ones move a pixel by about one pixel.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from primitives.backends.pinhole import Array, Image, pixel_centres, projected

MOST_PLANES = 96
STEP = 0.75  # pixels that the most mobile pixel moves from one plane to the next
WINDOW = 7  # pixels
SMALL_JUMP, LARGE_JUMP = 0.12, 0.8  # penalties for a step of one plane and of more, cost in [0, 2]
NOISE_VARIANCE = 4.0  # grey levels squared: windows that vary less than noise do not correlate
LEAST_TEXTURE = 2.0  # standard deviation in a window, grey levels
LEAST_MOTION = 2.0  # pixels between the nearest and the farthest plane: less decides nothing

Float = NDArray[Any]  # float32


def sweep(
    image_a: Image,
    image_b: Image,
    K_a: Array,
    K_b: Array,
    R: Array,
    t: Array,
    near: float,
    far: float,
) -> tuple[Float, NDArray[np.bool_]]:
    """Depth (H, W) of photo a, in the unit of `t`, and where it can be trusted.

    `R`, `t` take a point from a's frame to b's: `x_b = R x_a + t`. Depths lie in [near, far]."""
    grey_a = cv2.cvtColor(image_a, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey_b = cv2.cvtColor(image_b, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey_a.shape
    rays = pixel_centres(height, width) @ np.linalg.inv(K_a).T  # (H, W, 3)

    ends = [projected((z * rays) @ R.T + t, K_b)[0] for z in (near, far)]
    inside = [_inside(pixels, grey_b.shape) for pixels in ends]
    travel = np.linalg.norm(ends[0] - ends[1], axis=-1)  # (H, W)
    in_both = inside[0] & inside[1]
    longest = np.quantile(travel[in_both], 0.98) if in_both.any() else MOST_PLANES
    planes = int(np.clip(np.ceil(longest / STEP), 8, MOST_PLANES))
    inverse_depths = np.linspace(1 / far, 1 / near, planes)

    costs = _costs(grey_a, grey_b, K_a, K_b, R, t, inverse_depths)  # (H, W, D)
    costs = _smoothed(costs)
    winner = costs.argmin(axis=2)
    depth = 1 / np.interp(_vertex(costs, winner), np.arange(planes), inverse_depths)

    _, deviation = _window_moments(grey_a)
    seen = _inside(projected((depth[..., None] * rays) @ R.T + t, K_b)[0], grey_b.shape)
    # A minimum on the first or last plane is the edge of the search, not of a surface.
    interior = (winner > 0) & (winner < planes - 1)
    valid = seen & interior & (deviation > LEAST_TEXTURE) & (travel > LEAST_MOTION)
    return depth.astype(np.float32), valid


def _inside(pixels: Array, shape: tuple[int, int]) -> NDArray[np.bool_]:
    return np.all((pixels >= 0) & (pixels < (shape[1], shape[0])), axis=-1)


def _window_moments(grey: Float) -> tuple[Float, Float]:
    """Mean and standard deviation (H, W) in the window about each pixel."""
    mean = cv2.boxFilter(grey, -1, (WINDOW, WINDOW))
    variance = cv2.boxFilter(grey * grey, -1, (WINDOW, WINDOW)) - mean * mean
    return mean, np.sqrt(np.maximum(variance, 0.0))


def correlation(grey_a: Float, grey_b: Float, moments_a: tuple[Float, Float] | None = None) -> Float:
    """Normalised correlation (H, W) of the windows about each pixel; 0 where one is blank."""
    mean_a, deviation_a = moments_a or _window_moments(grey_a)
    mean_b, deviation_b = _window_moments(grey_b)
    product = cv2.boxFilter(grey_a * grey_b, -1, (WINDOW, WINDOW)) - mean_a * mean_b
    return product / (deviation_a * deviation_b + NOISE_VARIANCE)


def _costs(grey_a, grey_b, K_a, K_b, R, t, inverse_depths) -> Float:
    """1 - correlation (H, W, D) in [0, 2]; 1 where photo b does not show the place."""
    height, width = grey_a.shape
    rays = pixel_centres(height, width) @ np.linalg.inv(K_a).T @ (K_b @ R).T  # (H, W, 3)
    shift = K_b @ t
    moments_a = _window_moments(grey_a)
    costs = np.empty((height, width, len(inverse_depths)), np.float32)
    rays = rays.astype(np.float32)
    for i, inverse in enumerate(inverse_depths):
        target = rays + (inverse * shift).astype(np.float32)
        z = np.where(target[..., 2] > 1e-6, target[..., 2], np.float32(1e-6))
        x, y = target[..., 0] / z - np.float32(0.5), target[..., 1] / z - np.float32(0.5)
        seen = (x >= 0) & (y >= 0) & (x <= grey_b.shape[1] - 1) & (y <= grey_b.shape[0] - 1)
        warped = cv2.remap(grey_b, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        costs[..., i] = np.where(seen, 1 - correlation(grey_a, warped, moments_a), 1.0)
    return costs


def _smoothed(costs: Float) -> Float:
    """Costs (H, W, D) summed over paths from the left, right, top and bottom."""
    total = np.zeros_like(costs)
    for volume, out in ((costs, total), (costs.swapaxes(0, 1), total.swapaxes(0, 1))):
        for order in (range(len(volume)), range(len(volume) - 1, -1, -1)):
            path = np.zeros(volume.shape[1:], np.float32)  # (W, D)
            for row in order:
                least = path.min(axis=1, keepdims=True)
                step = np.minimum(path, least + LARGE_JUMP)
                np.minimum(step[:, 1:], path[:, :-1] + SMALL_JUMP, out=step[:, 1:])
                np.minimum(step[:, :-1], path[:, 1:] + SMALL_JUMP, out=step[:, :-1])
                path = volume[row] + (step - least)
                out[row] += path
    return total


def _vertex(costs: Float, winner: NDArray[np.intp]) -> Array:
    """Positions (H, W) of the minima between planes, by a parabola through three costs."""
    inner = np.clip(winner, 1, costs.shape[2] - 2)
    before, at, after = (
        np.take_along_axis(costs, (inner + k)[..., None], axis=2)[..., 0] for k in (-1, 0, 1)
    )
    curvature = before - 2 * at + after
    shift = np.where(curvature > 1e-6, 0.5 * (before - after) / np.maximum(curvature, 1e-6), 0.0)
    return np.where(winner == inner, inner + np.clip(shift, -0.5, 0.5), winner)
