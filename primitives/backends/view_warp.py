"""A photograph seen from elsewhere: turned on the spot, or moved where its depth is known.

Both functions invent nothing: they return the picture and which of its pixels were seen. Filling
the rest is a generative model's work.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from primitives.backends.epipolar import rotation_from_vector
from primitives.backends.pinhole import (
    Array,
    GeometryError,
    Image,
    InvalidPose,
    checked_image,
    checked_intrinsics,
    checked_pose,
    pixel_centres,
    projected,
    sampling_grid,
)

ONE = ((0.0, 0.0),)  # the pixel a point falls into, or the four whose centres are about it
FOUR = ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5))
TOLERANCE = 0.05  # relative difference of depth at which two samples are different surfaces


class InvalidDepth(GeometryError):
    """A depth map that does not belong to its picture."""


def rotate_view(
    image: ArrayLike, K: ArrayLike, yaw: float = 0.0, pitch: float = 0.0
) -> tuple[Image, NDArray[np.bool_]]:
    """What the camera of `image` sees once it is turned, and which pixels (H, W) were seen before.

    Angles are in radians: positive `yaw` looks right (about +y, which points down), positive
    `pitch` then looks up (about the camera's own +x). Size and `K` stay; unseen pixels are black.
    Raises `InvalidImage`, `InvalidIntrinsics`, `InvalidPose`."""
    if not (np.isfinite(yaw) and np.isfinite(pitch)):
        raise InvalidPose("yaw and pitch must be finite numbers of radians.")
    turn = rotation_from_vector(np.array([0, yaw, 0])) @ rotation_from_vector(np.array([pitch, 0, 0]))
    return warp_by_rotation(image, K, turn)


def warp_by_rotation(image: ArrayLike, K: ArrayLike, rotation: ArrayLike) -> tuple[Image, NDArray[np.bool_]]:
    """The same for any rotation (3, 3) of the new camera in the old one's frame.

    The two views are related by the homography K R^T K^-1 (Hartley and Zisserman, section 8.4)."""
    image, K = checked_image(image), checked_intrinsics(K)
    R, _ = checked_pose(rotation, np.zeros(3))
    height, width = image.shape[:2]
    rays = pixel_centres(height, width) @ (R @ np.linalg.inv(K)).T  # (H, W, 3) in the old frame
    return _fetched(image, projected(rays, K)[0])


def warp_by_depth(
    image: ArrayLike,
    depth: ArrayLike,
    valid: ArrayLike,
    K: ArrayLike,
    T_target_in_source: ArrayLike,
) -> tuple[Image, NDArray[np.bool_]]:
    """`image` (H, W, 3) seen from a moved camera with the same `K`, and which pixels (H, W) show
    something that `image` shows.

    `depth` (H, W) is z in any unit, used where `valid`; `T_target_in_source` (4, 4) is the pose of
    the new camera in the old one's frame, in the same unit. Depth is splatted forward with a
    z-buffer and its cracks are closed; colours are then fetched backward, so that they are
    resampled only once.

    Raises `InvalidImage`, `InvalidIntrinsics`, `InvalidPose`, `InvalidDepth`."""
    image, K = checked_image(image), checked_intrinsics(K)
    T = np.array(T_target_in_source, dtype=np.float64)
    if T.shape != (4, 4):
        raise InvalidPose(f"T_target_in_source must be a (4, 4) pose, not {T.shape}.")
    R, t = checked_pose(T[:3, :3], T[:3, 3])
    depth, valid = np.asarray(depth, dtype=np.float64), np.asarray(valid, dtype=bool)
    height, width = image.shape[:2]
    if depth.shape != (height, width) or valid.shape != (height, width):
        raise InvalidDepth(
            f"depth {depth.shape} and valid {valid.shape} must have the size of the image, {(height, width)}."
        )
    valid = valid & np.isfinite(depth) & (depth > 0)
    depth = np.where(valid, depth, 0.0)
    rays = pixel_centres(height, width) @ np.linalg.inv(K).T  # (H, W, 3)

    points = (depth[..., None] * rays)[valid]  # (N, 3) in the old frame
    landed = projected((points - t) @ R, K)
    pixels, mask = np.zeros((height, width, 2)), np.zeros((height, width), dtype=bool)
    # A splat of four pixels closes surfaces but reaches a pixel beyond the edge of an object, where
    # it would fetch background; the splat of one pixel serves there.
    for splat in (FOUR, ONE):
        new_depth = _cracks_closed(_splatted(*landed, (height, width), splat))
        known = np.isfinite(new_depth)
        back = (np.where(known, new_depth, 1.0)[..., None] * rays) @ R.T + t
        origin, z = projected(back, K)
        old = cv2.remap(depth.astype(np.float32), *sampling_grid(origin), cv2.INTER_NEAREST)
        better = ~mask & known & (np.abs(old - z) < TOLERANCE * np.abs(z))
        pixels[better], mask[better] = origin[better], True
    return _fetched(image, pixels, mask)


def _fetched(image: Image, pixels: Array, mask=None) -> tuple[Image, NDArray[np.bool_]]:
    """Colours of `image` at `pixels` (H, W, 2), black where they lie outside or `mask` is False."""
    height, width = image.shape[:2]
    seen = np.all((pixels >= 0) & (pixels <= (width, height)), axis=-1)
    if mask is not None:
        seen &= mask
    maps = sampling_grid(pixels)
    out = cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    out[~seen] = 0
    return out, seen


def _splatted(pixels: Array, z: Array, shape: tuple[int, int], splat) -> Array:
    """Nearest depth (H, W) where points fall on the pixels of a `splat`; infinity elsewhere."""
    height, width = shape
    buffer = np.full(height * width, np.inf)
    for dx, dy in splat:
        x, y = (np.floor(pixels + np.array([dx, dy])).astype(np.int64)).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z > 1e-9)
        np.minimum.at(buffer, (y * width + x)[inside], z[inside])
    return buffer.reshape(shape)


def _cracks_closed(depth: Array) -> Array:
    """Fill holes and lone far pixels that have depth on two opposite sides within two pixels."""
    out = depth
    for reach in (1, 2):
        padded = np.pad(out, reach, constant_values=np.inf)
        height, width = depth.shape

        def shifted(dy, dx, padded=padded, reach=reach, height=height, width=width):
            return padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]

        across = np.full(depth.shape, np.inf)
        for dy, dx in ((0, reach), (reach, 0), (reach, reach), (reach, -reach)):
            u, v = shifted(dy, dx), shifted(-dy, -dx)
            with np.errstate(invalid="ignore"):
                same = np.abs(u - v) < TOLERANCE * np.minimum(u, v)
            across = np.minimum(across, np.where(same, 0.5 * (u + v), np.inf))
        # What shines through a crack is clearly farther than both its sides.
        behind = np.isfinite(across) & (out > (1 + TOLERANCE) * across)
        out = np.where(behind, across, out)
    return out
