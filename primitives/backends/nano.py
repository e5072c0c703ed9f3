"""The one door to the embedded world: its rooms as problems."""

from __future__ import annotations

from unroller.problem import Problem
from unroller.values import CameraPose


def rooms(seed: int, task: str = "pose", width: int = 640, height: int = 480) -> Problem:
    """Two pictures of procedural room number `seed`, richly textured, with exact intrinsics.

    The true pose of the second camera is kept in the metadata as six numbers, for comparison.
    """
    from nano_omni.world import render_pair

    pair = render_pair(seed, width=width, height=height)
    true = CameraPose.from_matrix(pair.relative.double().cpu().numpy())
    return Problem(
        task=task,
        images=tuple(image.cpu().numpy() for image in pair.images),
        intrinsics=pair.intrinsics.double().cpu().numpy(),
        metadata={"truth": {"pose": [*true.translation, *true.rotation]}, "room": seed},
    )
