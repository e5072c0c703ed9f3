"""Pinhole cameras on plain arrays: the checks and the few formulas that two-view geometry shares.

Conventions, those of the project: images are uint8 RGB (H, W, 3); camera axes are OpenCV's (+x
right, +y down, +z forward); the centre of the first pixel lies at (0.5, 0.5), so a centred camera
has cx = W / 2 and an intrinsic matrix follows a resized picture by plain multiplication. OpenCV's
own image functions put that centre at (0, 0): `sampling_grid` is where the half pixel comes off.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

# OpenCV's stubs promise no dtype, so these names are for readers; `checked_image` holds them to it.
Array = NDArray[Any]  # float64
Image = NDArray[Any]  # uint8 RGB (H, W, 3)


class GeometryError(ValueError):
    """Two photographs, or what was said about their cameras, do not allow an answer."""


class InvalidImage(GeometryError):
    """Not an RGB picture of eight bits a channel."""


class InvalidIntrinsics(GeometryError):
    """Not a usable pinhole intrinsic matrix."""


class InvalidPose(GeometryError):
    """Not a rotation and a translation."""


def checked_image(image: ArrayLike, name: str = "image") -> Image:
    """`image` as a contiguous uint8 array (H, W, 3), or `InvalidImage`."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise InvalidImage(
            f"{name} must be a uint8 RGB array of shape (H, W, 3), not {array.dtype} "
            f"{array.shape}. Convert it first, as by np.asarray(picture.convert('RGB'))."
        )
    if min(array.shape[:2]) < 16:
        raise InvalidImage(f"{name} is {array.shape[1]} x {array.shape[0]}: use at least 16 x 16 pixels.")
    return np.ascontiguousarray(array)


def checked_intrinsics(K: ArrayLike, name: str = "K") -> Array:
    """`K` as a float64 (3, 3) pinhole matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels.

    Raises `InvalidIntrinsics` if it is not of that form, not finite, or has fx or fy <= 0."""
    try:
        matrix = np.array(K, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidIntrinsics(f"{name} is not a numeric matrix: {error}.") from error
    if matrix.shape != (3, 3):
        raise InvalidIntrinsics(f"{name} must have shape (3, 3), not {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise InvalidIntrinsics(f"{name} holds NaN or infinity; leave it out to have it guessed.")
    if not np.allclose(matrix[[1, 2, 2, 2], [0, 0, 1, 2]], (0, 0, 0, 1), atol=1e-9):
        raise InvalidIntrinsics(
            f"{name} must read [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels, not {matrix.tolist()}."
        )
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise InvalidIntrinsics(
            f"{name} has focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g} pixels: both must be positive."
        )
    return matrix


def checked_pose(rotation: ArrayLike, translation: ArrayLike) -> tuple[Array, Array]:
    """A rotation (3, 3) and a translation (3,) as float64, or `InvalidPose`."""
    R, t = np.array(rotation, dtype=np.float64), np.array(translation, dtype=np.float64)
    if R.shape != (3, 3) or not np.allclose(R @ R.T, np.eye(3), atol=1e-4) or np.linalg.det(R) < 0:
        raise InvalidPose("rotation must be an orthonormal (3, 3) matrix with determinant +1.")
    if t.shape != (3,) or not np.isfinite(t).all():
        raise InvalidPose("translation must be three finite numbers.")
    return R, t


def shrunk(image: Image, K: Array, longest: int) -> tuple[Image, Array]:
    """`image` and `K` at a size whose longest side is at most `longest` pixels; never enlarged."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image, K
    size = max(1, round(width * scale)), max(1, round(height * scale))
    factors = np.diag([size[0] / width, size[1] / height, 1.0])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), factors @ K


def pixel_centres(height: int, width: int) -> Array:
    """Homogeneous coordinates (H, W, 3) of all pixel centres: (x + 0.5, y + 0.5, 1)."""
    grid = np.ones((height, width, 3))
    grid[..., 0] = np.arange(width) + 0.5
    grid[..., 1] = np.arange(height)[:, None] + 0.5
    return grid


def normalised(points: Array, K: Array) -> Array:
    """Pixels (N, 2) as rays (N, 3) of depth 1 in the camera's frame."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    return homogeneous @ np.linalg.inv(K).T


def projected(points: Array, K: Array) -> tuple[Array, Array]:
    """Points (..., 3) in the camera's frame as pixels (..., 2) and depths z (...).

    Pixels of points at or behind the camera are put far outside every picture, at -1e6."""
    z = points[..., 2]
    front = z > 1e-9
    pixels = (points @ K.T)[..., :2] / np.where(front, z, 1.0)[..., None]
    pixels[~front] = -1e6
    return pixels, z


def sampling_grid(pixels: Array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixels (H, W, 2) as the two float32 maps that `cv2.remap` wants, half a pixel lower."""
    maps = np.clip(pixels - 0.5, -1e6, 1e6).astype(np.float32)
    return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])
