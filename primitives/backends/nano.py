"""The one door to the embedded world: its rooms as problems."""

from __future__ import annotations

from unroller.faults import ProblemError
from unroller.problem import Problem
from unroller.values import CameraPose

SEEDS = 1 << 62
SIDES = 16, 4096  # pixels, least and most


def rooms(seed: int, task: str = "pose", width: int = 640, height: int = 480) -> Problem:
    """Two pictures of procedural room number `seed`, richly textured, with exact intrinsics.

    The true pose of the second camera is kept in the metadata as six numbers, for comparison. Raises
    ProblemError for a seed or a size that there is no room for.
    """
    if not 0 <= seed < SEEDS:
        raise ProblemError(f"there is no room {seed}: rooms are numbered 0 to {SEEDS - 1}")
    least, most = SIDES
    if not (least <= width <= most and least <= height <= most):
        raise ProblemError(f"a picture of {width} x {height}: sides are {least} to {most} pixels")
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
