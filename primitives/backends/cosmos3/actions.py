"""Camera motion as Cosmos 3 is trained on it, and as poses.

One action is the step from a frame to the next, nine numbers: the next camera's centre in the camera's frame,
and the first two columns of its rotation there. So say its authors' tools (NVIDIA/cosmos-framework,
`data/generator/action/utils/pose_utils.py`, "backward_framewise" and "rot6d"; camera-to-world, OpenCV axes).
Translations were multiplied by a number before training: 1.35 for cars, in metres; for the domain
`camera_pose` it is not published, and must be calibrated.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from primitives.backends.asked_views import Asked
from unroller.faults import InputError, NotFinite

WIDTH = 9
"""Numbers of an action."""


def actions_to(asked: Asked, steps: int, units: float) -> np.ndarray[Any, Any]:
    """(steps, 9): even steps on the way to a view. units: of the model, in one of the view's."""
    poses = [asked.at(i / steps) for i in range(steps + 1)]
    made = np.empty((steps, WIDTH), np.float32)
    for i, (here, there) in enumerate(pairwise(poses)):
        step = np.linalg.inv(here) @ there
        made[i, :3] = step[:3, 3] * units
        made[i, 3:] = step[:3, :2].T.reshape(6)
    return made


def pose_after(actions: Any) -> np.ndarray[Any, Any]:
    """(4, 4) camera-to-world after all steps (steps, 9), in the first camera's frame and the model's unit.

    Raises NotFinite for what are no numbers, InputError for a step without a rotation."""
    steps = np.asarray(actions, dtype=np.float64)
    if not np.isfinite(steps).all():
        raise NotFinite("the model predicted NaN or infinity for a camera's motion: pass dtype='float32'")
    pose = np.eye(4)
    for action in steps:
        step = np.eye(4)
        step[:3, 3] = action[:3]
        step[:3, :3] = _rotation(action[3:6], action[6:9])
        pose = pose @ step
    pose[:3, :3] = _nearest_rotation(pose[:3, :3])  # rounding adds up
    return pose


def _rotation(first: Any, second: Any) -> np.ndarray[Any, Any]:
    """(3, 3): the nearest to columns that need be neither of length 1 nor at a right angle."""
    third = np.cross(first, second)
    if np.linalg.norm(third) < 1e-6:
        raise InputError("the model sees no motion of a camera between these photos: give others")
    return _nearest_rotation(np.stack([first, second, third], axis=1))


def _nearest_rotation(matrix: Any) -> np.ndarray[Any, Any]:
    u, _, v = np.linalg.svd(matrix)
    if np.linalg.det(u @ v) < 0:
        u[:, -1] *= -1
    return u @ v
