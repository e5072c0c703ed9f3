"""The one door to the embedded world: its rooms as problems."""

from __future__ import annotations

from unroller.problem import Problem
from unroller.values import CameraPose


def rooms(seed: int, task: str = "pose", width: int = 640, height: int = 480) -> Problem:
    """Two pictures of procedural room number `seed`, richly textured, with exact intrinsics.

    The true pose of the second camera is kept in the metadata as six numbers, for comparison.
    """
    import torch

    from nano_omni.world import render_pair

    # One thread: where other programs are busy, torch's threads wait for each other at every small step,
    # and a picture that takes two seconds can take forty.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pair = render_pair(seed, width=width, height=height)
    finally:
        torch.set_num_threads(threads)
    true = CameraPose.from_matrix(pair.relative.double().cpu().numpy())
    return Problem(
        task=task,
        images=tuple(image.cpu().numpy() for image in pair.images),
        intrinsics=pair.intrinsics.double().cpu().numpy(),
        metadata={"truth": {"pose": [*true.translation, *true.rotation]}, "room": seed},
    )
