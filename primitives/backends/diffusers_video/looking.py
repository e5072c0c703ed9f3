"""What a photo shows of a view, frame by frame on the way there: the known part of the clip that a pipeline
completes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from primitives.backends.asked_views import Asked, depth_like, moves, seen_from
from primitives.backends.classical import camera_of
from primitives.backends.clips import longest_of
from primitives.backends.diffusers_video.filming import Clip
from primitives.backends.pinhole import checked_image
from unroller.arrays import to_numpy
from unroller.capabilities import ViewRequest
from unroller.faults import InputError


class Scene(NamedTuple):
    """A photo at the size that it is worked on: pixels (h, w, 3), intrinsics (3, 3), depth and where it is
    known (h, w) or None, and the size (width, height) in which its views are handed back."""

    pixels: Any
    k: Any
    depth: tuple[Any, Any] | None
    size: tuple[int, int]


def scene_of(request: ViewRequest, pixels: int, multiple: int) -> Scene:
    """The photo with sides that are multiples of `multiple`, of at most so many pixels. Raises
    `GeometryError` for a photo or a camera that is none, InputError for a depth that is."""
    import cv2

    photo = checked_image(to_numpy(request.photo.pixels))
    height, width = photo.shape[:2]
    scale = min(1.0, math.sqrt(pixels / (width * height)))
    w, h = (max(multiple, int(scale * side) // multiple * multiple) for side in (width, height))
    # The camera is stretched with the picture, so that directions stay what they are.
    k = np.diag([w / width, h / height, 1.0]) @ camera_of(request.photo, request.camera).matrix
    shown = cv2.resize(photo, (w, h), interpolation=cv2.INTER_AREA)
    known = depth_like(request.depth, shown) if moves(request) and request.depth is not None else None
    if known is not None and not (known[1] & np.isfinite(known[0]) & (known[0] > 0)).any():
        raise InputError("the depth map knows how far nothing in this photo is: estimate it by another model")
    return Scene(shown, k, known, longest_of((width, height)))


def way_to(asked: Asked, scene: Scene, frames: int, packed: int) -> Clip:
    """The photo's share of a clip of so many frames that begins as the photo and ends as the view. The camera
    rests at the view for as long as the last frame of the latents lasts (`packed`), which so is of one
    picture. A clip of one frame is the view alone."""
    seen: list[tuple[Any, Any]] = []
    for t in range(frames):
        share = 1.0 if frames == 1 else min(1.0, t / max(1, frames - packed))
        if seen and share == 1.0 and t > frames - packed:
            seen.append(seen[-1])
            continue
        seen.append(seen_from(scene.pixels, scene.k, asked.at(share), scene.depth))
    return Clip(np.stack([view for view, _ in seen]), np.stack([known for _, known in seen]))
