"""What a photo itself shows of a view from elsewhere: its pixels, carried over by their depth.

The rest was never photographed. Within a few pixels of what was carried over it is filled from there;
farther off it is drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from primitives.backends.nano.photos import SIDE
from primitives.backends.pinhole import Array
from primitives.backends.view_warp import warp_by_depth
from unroller.arrays import to_numpy
from unroller.values import DepthMap

NEAR_VIEW, NEAR_CLIP = 4.0, 16.0
"""Pixels (of SIDE) from what was carried over up to which the rest is filled, in a view and in the frames of
a clip, whose camera is near the photo's: what was nearest the truth in views and walks that nothing is
reported of."""
_FADE = 4.0  # pixels over which what was filled goes over into what was drawn
_CRACK = 5  # pixels across at most, else it is no crack
_COVERED = 0.25  # of a pixel that was carried over


class Carried(NamedTuple):
    """pixels (S, S, 3) uint8, which of them are the photo's (S, S) bool, and the distance of all others from
    those (S, S), in pixels of a picture of SIDE; infinity where the photo shows nothing of the view."""

    pixels: Array
    shown: Array
    away: Array


def carried(photo: Any, depth: DepthMap, pose: Array, size: int) -> Carried:
    """A photo (H, H, 3) as seen by a camera at a pose (4, 4) in its frame, in metres, as a picture of `size`
    pixels a side. Both cameras see 90 degrees."""
    work = max(2 * SIDE, size)  # finer than what comes out: fewer cracks
    pixels = resized(to_numpy(photo), work)
    known = np.ones(tuple(depth.depth.shape), bool) if depth.valid is None else to_numpy(depth.valid)
    far = resized(to_numpy(depth.depth).astype(np.float32), work)
    valid = cv2.resize(known.astype(np.uint8), (work, work), interpolation=cv2.INTER_NEAREST) > 0
    lens = np.array([[work / 2, 0, work / 2], [0, work / 2, work / 2], [0, 0, 1.0]])
    moved, seen = warp_by_depth(pixels, far, valid, lens, pose)
    share = resized(seen.astype(np.float32), size)
    summed = resized(moved.astype(np.float32) * seen[..., None], size)
    shown = share > _COVERED
    mean = summed / np.maximum(share, 1e-6)[..., None]
    found = np.where(shown[..., None], mean.round().clip(0, 255), 0).astype(np.uint8)
    return Carried(found, shown, _away(shown, size))


def completed(some: Carried, drawn: Any | None, near: float) -> Array:
    """The view (S, S, 3). drawn: the same as a model draws it, of any size; None where nothing lies farther
    than `near` from what was carried over."""
    size = len(some.pixels)
    if not some.shown.any():
        assert drawn is not None
        return resized(to_numpy(drawn), size)
    filled = cv2.inpaint(some.pixels, (~some.shown).astype(np.uint8), 2 * size / SIDE, cv2.INPAINT_TELEA)
    if drawn is None:
        return filled
    share = np.clip((some.away - near) / _FADE, 0, 1)[..., None]
    return (filled * (1 - share) + resized(to_numpy(drawn), size) * share).round().astype(np.uint8)


def _away(shown: Array, size: int) -> Array:
    if not shown.any():
        return np.full(shown.shape, np.inf, np.float32)
    across = _CRACK * size // SIDE | 1
    padded = np.pad(shown.astype(np.uint8), across)  # or closing would reach in from outside
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((across, across), np.uint8))
    inner = closed[across:-across, across:-across]
    return cv2.distanceTransform(1 - inner, cv2.DIST_L2, 5) * (SIDE / size)


def resized(picture: Array, side: int) -> Array:
    """(H, W, ...) -> (side, side, ...); itself, if it has that size."""
    if picture.shape[:2] == (side, side):
        return picture
    smaller = side < picture.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC if picture.dtype == np.uint8 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(picture), (side, side), interpolation=how)
