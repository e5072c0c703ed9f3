"""A photo seen from elsewhere with the help of its depth: single views, and walks as clips.

What the photo shows is carried over (`carried`), what lies far from that is rolled out in visual tokens and
drawn (`pictures`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from primitives.backends.checkpoints import imported
from primitives.backends.nano import photos
from primitives.backends.nano.pictures import Pictures, Wanted
from unroller.arrays import Array, to_numpy
from unroller.capabilities import ViewRequest
from unroller.faults import InputError
from unroller.rendering import Segment, TextSegment
from unroller.values import CameraPose, DepthMap, Image, Video

LARGEST, MOST = 1024, 64 << 20
"""Pixels a side of a clip, and of all its frames."""
FPS = 8.0
_DEPTH = re.compile(r"a depth map of photo \d+, in units of: \w+")


class Scene(NamedTuple):
    """A walk from a photo (a `nano_omni.world.walks.Walk`), as a clip of so many pixels a side and so many
    frames."""

    photo: Image
    walk: Any
    size: int
    frames: int


def scene_of(start: Image | None, segments: Sequence[Segment], size: tuple[int, int], frames: int) -> Scene:
    """What a prompt asks for. Raises InputError for what the model cannot film."""
    from nano_omni.world.prompts import PromptError
    from nano_omni.world.walks import parse_walk

    said = [one for one in segments if not is_depth(one)]
    if start is None:
        raise InputError("the nano model films a walk from a photo: give one, and say where the camera goes")
    if len(said) != 1 or not isinstance(said[0], TextSegment):
        raise InputError(
            "the nano model films a walk from one photo, as words say, and reads no contexts for it"
        )
    if size[0] != size[1] or not photos.SIDE <= size[0] <= LARGEST:
        raise InputError(
            f"a clip of {size[0]} x {size[1]} pixels: the nano model films square ones of {photos.SIDE} to"
            f" {LARGEST} pixels a side"
        )
    if size[0] ** 2 * frames > MOST:
        raise InputError(
            f"{frames} frames of {size[0]} x {size[1]} pixels are more than the {MOST >> 20} megapixels that"
            " the nano model films: ask for fewer, or for smaller ones"
        )
    try:
        walk = parse_walk(said[0].text)
    except PromptError as error:
        raise InputError(str(error)) from None
    for pose in walk.poses(len(walk.legs) * 4 + 1).numpy():
        photos.pose_words_of(CameraPose.from_matrix(pose))  # raises for one outside of the room
    return Scene(start, walk, size[0], frames)


def is_depth(segment: Segment) -> bool:
    """Whether a context is the words of a depth map, which say nothing: its numbers are read apart."""
    return isinstance(segment, TextSegment) and _DEPTH.fullmatch(segment.text) is not None


def check_depth(depth: DepthMap) -> None:
    """Raises InputError for one that is not in the unit of poses."""
    if depth.unit != "metre":
        raise InputError(
            f"this depth map is in units of {depth.unit}, and the nano model sees from elsewhere by depths in"
            " metres: estimate them with a backend that knows metres"
        )


def view(request: ViewRequest, drawn: Image) -> Image:
    """What is seen from a request's pose: of the photo what its depth map tells, the rest as it was drawn."""
    if request.depth is None:
        return drawn
    carried = _carrying()
    assert request.pose is not None
    some = carried.carried(request.photo.pixels, request.depth, request.pose.matrix, photos.SIDE)
    return Image(carried.completed(some, drawn.pixels, carried.NEAR_VIEW))


def filmed(drawer: Pictures, scene: Scene, depth: DepthMap, seed: int) -> Video:
    """The clip, which begins with the photo."""
    carried, photo = _carrying(), scene.photo.pixels
    poses: list[Array] = list(scene.walk.poses(scene.frames).numpy())[1:]
    some = [carried.carried(photo, depth, pose, scene.size) for pose in poses]
    far = {
        k: CameraPose.from_matrix(poses[k])
        for k, one in enumerate(some)
        if one.away.max() > carried.NEAR_CLIP
    }
    said = {k: tuple(photos.pose_words_of(pose)) for k, pose in far.items()}
    drawn = _drawn(drawer, photo, list(dict.fromkeys(said.values())), seed)
    missing = {k: drawn[words].pixels for k, words in said.items()}
    rest = [carried.completed(one, missing.get(k), carried.NEAR_CLIP) for k, one in enumerate(some)]
    return Video(np.stack([carried.resized(to_numpy(photo), scene.size), *rest]), FPS)


def _drawn(
    drawer: Pictures, photo: Array, poses: Sequence[tuple[int, ...]], seed: int
) -> dict[tuple[int, ...], Image]:
    """What is seen from poses, in words, each rolled out in visual tokens first, all from the same noise."""
    if not poses:
        return {}
    import torch

    from nano_omni import plans

    seeds = [seed] * len(poses)
    first = photos.view_of(photo, CameraPose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), (), drawer.words)
    asked = [replace(first, prompt=list(pose)) for pose in poses]
    planned: list[Wanted] = []
    for one, rolled in zip(asked, drawer.roll_out(asked, plans.CELLS, 0.0, seeds), strict=True):
        if isinstance(rolled, Exception):
            raise rolled
        codes = torch.as_tensor(to_numpy(rolled.ids)).long()[None]
        planned.append(replace(one, contexts=[(True, plans.roll_out(codes)[0].tolist())]))
    return dict(zip(poses, drawer.draw(planned, seeds), strict=True))


def _carrying() -> Any:
    """The module `carried`. Raises MissingCapability where OpenCV is not installed."""
    imported("cv2", "unroller[vision]")
    from primitives.backends.nano import carried

    return carried
