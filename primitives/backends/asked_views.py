"""The views that a request asks for, and the photo seen from there: what geometry alone can draw, and where a
generative model begins."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from unroller.arrays import to_numpy
from unroller.capabilities import ViewRequest
from unroller.faults import InputError
from unroller.values import CameraPose, DepthMap, Vector3

DEGREES = 30.0  # a look to the side, where nothing else is said

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, 1), "down": (0, -1)}
"""Named directions as signs of (yaw to the right, pitch upwards)."""

STILL: Vector3 = (0.0, 0.0, 0.0)


class Asked(NamedTuple):
    """A view by its name, and where it is looked from: translation and axis-angle in the photo's frame."""

    name: str
    translation: Vector3
    rotation: Vector3

    def at(self, share: float) -> np.ndarray[Any, Any]:
        """(4, 4) camera-to-world on the way there: 0 is the photo, 1 the view. The camera moves evenly on a
        straight line and turns evenly about one axis."""
        moved, turned = (tuple(share * v for v in vector) for vector in (self.translation, self.rotation))
        return CameraPose(moved, turned, scale="relative").matrix  # pyright: ignore[reportArgumentType]


def asked_of(request: ViewRequest) -> list[Asked]:
    """Raises InputError where no view is asked for, or a direction without a name, or beyond a half turn."""
    degrees = DEGREES if request.degrees is None else request.degrees
    if not abs(degrees) <= 180:
        raise InputError(f"nobody looks {degrees:g}° to the side: give degrees, at most 180")
    asked: list[Asked] = []
    for direction in request.directions:
        if direction not in DIRECTIONS:
            known = ", ".join(DIRECTIONS)
            raise InputError(f"no direction is called {direction!r}: choose among {known}")
        turn = math.radians(degrees)
        right, up = (sign * turn for sign in DIRECTIONS[direction])
        asked.append(Asked(direction, STILL, (up, right, 0.0)))
    if request.pose is not None:
        asked.append(Asked("pose", request.pose.translation, request.pose.rotation))
    if not asked:
        raise InputError("no view was asked for: name directions to look, or give a pose")
    return asked


def moves(request: ViewRequest) -> bool:
    """Whether a view is asked for that cannot be seen by turning alone."""
    return request.pose is not None and any(request.pose.translation)


def seen_from(pixels: Any, k: Any, matrix: Any, depth: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """The photo (H, W, 3) seen from a camera with the same intrinsics, and which pixels (H, W) show something
    of it. depth: the photo's and where it is known, both (H, W); a camera that only turns needs none.

    Raises `GeometryError`."""
    from primitives.backends.view_warp import warp_by_depth, warp_by_rotation

    if not np.any(matrix[:3, 3]) or depth is None:
        return warp_by_rotation(pixels, k, matrix[:3, :3])
    return warp_by_depth(pixels, *depth, k, matrix)


def depth_like(known: DepthMap, pixels: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """A photo's depth and its mask, at the size of the (shrunk) photo."""
    import cv2

    depth = to_numpy(known.depth)
    valid = depth > 0 if known.valid is None else to_numpy(known.valid)
    height, width = pixels.shape[:2]
    if depth.shape == (height, width):
        return depth, valid
    nearest = cv2.INTER_NEAREST  # depths on either side of an edge have no meaningful mean
    depth = cv2.resize(depth.astype(np.float32), (width, height), interpolation=nearest)
    return depth, cv2.resize(valid.astype(np.uint8), (width, height), interpolation=nearest) > 0
