"""Camera pose as context: estimated, put into words, and as the answer."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from unroller.capabilities import PhotoPair, PoseEstimator
from unroller.declare import View, decoder, primitive
from unroller.faults import InputError
from unroller.problem import Problem
from unroller.values import CameraPose, Text


class PhotoIndices(BaseModel):
    """Which photo's camera is sought (target), and in whose frame (source). From 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[int, Field(ge=0)] = 0
    target: Annotated[int, Field(ge=0)] = 1


def two_photos(problem: Problem) -> str | None:
    """Two photos are needed; says how many there are if not."""
    count = len(problem.images)
    return None if count >= 2 else f"needs two photos of one scene, and has {count or 'none'}"


def photo_pair(view: View, source: int, target: int) -> PhotoPair:
    """Two photos of a view with what is known of their cameras. Raises InputError."""
    count = len(view.images)
    if max(source, target) >= count or source == target:
        raise InputError(f"there are {count} photos: photo {source} and photo {target} are no pair of them")
    return PhotoPair(view.images[source], view.images[target], view.camera(source), view.camera(target))


@primitive(
    reads=("images", "intrinsics"),
    writes=CameraPose,
    needs=PoseEstimator,
    parameters=PhotoIndices,
    batched=True,
    stochastic=True,
    applies=two_photos,
)
def camera_pose_estimate(views: list[View], estimator: PoseEstimator) -> list[CameraPose | Exception]:
    """Estimate how the camera moved from one photo to the other: the paper's 3-D textual context."""
    wanted = views[0].parameters
    pairs = [photo_pair(view, wanted.source, wanted.target) for view in views]
    poses = estimator.estimate_pose(pairs, seeds=[view.seed for view in views])
    return [_between(pose, wanted) for pose in poses]


def _between(pose: CameraPose | Exception, indices: PhotoIndices) -> CameraPose | Exception:
    if isinstance(pose, Exception) or (indices.source, indices.target) == (pose.source, pose.target):
        return pose
    import msgspec

    return msgspec.structs.replace(pose, source=indices.source, target=indices.target)


@primitive(reads=(CameraPose,), writes=Text)
def describe_motion(view: View) -> Text:
    """Put the newest camera pose into words: "the camera moved right and turned left by 16°"."""
    pose = view.latest(CameraPose)
    if pose is None:
        raise InputError("there is no camera pose in the context: call camera_pose_estimate first")
    return Text(motion_in_words(pose), kind="motion")


@decoder(task="pose", writes=CameraPose, needs=PoseEstimator, stochastic=True, applies=two_photos)
def pose(view: View, estimator: PoseEstimator) -> CameraPose:
    """Where the second photo was taken, in the first camera's frame: the context's newest estimate of
    it, or, where there is none, one made now."""
    for found in reversed(view.all(CameraPose)):
        if (found.source, found.target) == (0, 1):
            view.charge(0)
            return found
    (made,) = estimator.estimate_pose([photo_pair(view, 0, 1)], seeds=[view.seed])
    if isinstance(made, Exception):
        raise made
    return made


SLIGHT = 0.2
"""A component of the direction below this share of its length is not worth a word."""

STILL_DEGREES = 0.5
"""Turning less than this is not turning."""


def motion_in_words(pose: CameraPose) -> str:
    """One sentence for a pose, in the first photo's frame: where the camera went, where it turned.

    Turning is read off the new viewing direction: left or right by its bearing, up or down by its
    elevation; rolling is what remains about it.
    """
    moved, turned = _moved(pose), _turned(pose)
    if moved and turned:
        return f"The camera moved {moved} and turned {turned}."
    if moved:
        return f"The camera moved {moved} without turning."
    where = "stayed where it was" if pose.scale != "none" else "stayed in place"
    return f"The camera {where} and turned {turned}." if turned else "The camera did not move."


def _moved(pose: CameraPose) -> str:
    x, y, z = pose.translation
    length = math.hypot(x, y, z)
    if length < 1e-6:
        return ""
    named = [
        (abs(x), "right" if x > 0 else "left"),
        (abs(z), "forward" if z > 0 else "back"),
        (abs(y), "down" if y > 0 else "up"),
    ]
    words = [word for size, word in sorted(named, reverse=True) if size >= SLIGHT * length]
    distance = f" by {length:.2f} m" if pose.scale == "metric" else ""
    return _listed(words) + distance


def _turned(pose: CameraPose) -> str:
    r = pose.rotation_matrix
    ahead = r[:, 2]  # the new viewing direction in the old frame
    bearing = math.degrees(math.atan2(ahead[0], ahead[2]))
    elevation = math.degrees(math.asin(float(np.clip(-ahead[1], -1, 1))))
    # Without roll, the camera's x axis stays level: perpendicular to the old frame's y and to `ahead`.
    level = np.cross([0.0, 1.0, 0.0], ahead)
    roll = 0.0
    if np.linalg.norm(level) > 1e-6:
        level /= np.linalg.norm(level)
        roll = math.degrees(math.atan2(float(np.cross(level, r[:, 0]) @ ahead), float(level @ r[:, 0])))
    parts = [
        (abs(bearing), f"{'right' if bearing > 0 else 'left'} by {abs(bearing):.0f}°"),
        (abs(elevation), f"{'up' if elevation > 0 else 'down'} by {abs(elevation):.0f}°"),
        (abs(roll), f"{'clockwise' if roll > 0 else 'anticlockwise'} by {abs(roll):.0f}°"),
    ]
    largest = max(size for size, _ in parts)
    if largest < STILL_DEGREES:
        return ""
    return _listed([words for size, words in parts if size >= max(STILL_DEGREES, 0.15 * largest)])


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
