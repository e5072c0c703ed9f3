"""Scorers of depth maps, of views and of clips: how near they are to the true ones.

The truth stands in the metadata: `metadata["truth"]["depth"]`, (H, W) metres with 0 where it is unknown,
`metadata["truth"]["views"]`, (V, H, W, 3) 8-bit RGB, and `metadata["truth"]["frames"]`, (T, H, W, 3); each as
nested lists, or as the path of a .npy file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from unroller.arrays import to_numpy
from unroller.faults import ContractError, ProblemError
from unroller.measures import Alignment, Array, depth_errors, psnr, ssim
from unroller.problem import Problem
from unroller.scorers import with_parts
from unroller.values import DepthMap, NovelViews, Video

ABS_REL, STILL = "1 - AbsRel", "SSIM of standing still"
MOST_DB = 100.0
_ABOUT = "The score is δ1, the share of pixels within a factor of 1.25, "


@with_parts(ABS_REL, about=_ABOUT + "without alignment")
def depth(problem: Problem, output: Any) -> dict[str, float]:
    """δ1 of a depth map in metres, without any alignment. Part: 1 - AbsRel.

    Raises ProblemError where there is no truth, ContractError for what is no depth map, or has no scale.
    """
    if isinstance(output, DepthMap) and output.unit != "metre":
        raise ContractError(
            f"this depth map is in units of {output.unit}, which the scorer depth does not forgive: take"
            " depth_scaled (a factor) or depth_affine (a factor and an offset)"
        )
    return _depth(problem, output, "none")


@with_parts(ABS_REL, about=_ABOUT + "after alignment by the ratio of the medians")
def depth_scaled(problem: Problem, output: Any) -> dict[str, float]:
    """The same after alignment by the ratio of the medians: for a depth map of unknown scale."""
    return _depth(problem, output, "scale")


@with_parts(ABS_REL, about=_ABOUT + "after alignment by least squares, a factor and an offset")
def depth_affine(problem: Problem, output: Any) -> dict[str, float]:
    """The same after alignment by least squares, a factor and an offset: for relative depth."""
    return _depth(problem, output, "affine")


@with_parts("PSNR", about="The score is SSIM; PSNR in dB")
def novel_view(problem: Problem, output: Any) -> dict[str, float]:
    """SSIM of views, 0 where it is below, averaged over them. Part: their PSNR in hundreds of dB, at most 1.

    Raises ProblemError where there is no truth, ContractError for what is no views, or not as many or as
    large as the true ones.
    """
    if output is None:
        return {"score": 0.0, "PSNR": 0.0}
    if not isinstance(output, NovelViews):
        raise ContractError(f"novel_view scores views, and this output is a {type(output).__name__}")
    true, given = _truth(problem, "views", 4, "the true views, (V, H, W, 3)"), to_numpy(output.views)
    if true.shape != given.shape:
        raise ContractError(f"the views have the shape {given.shape}, and the true ones {true.shape}")
    return _near(given, true)


@with_parts("PSNR", STILL, about="The score is SSIM of all frames but the first; PSNR in dB")
def video(problem: Problem, output: Any) -> dict[str, float]:
    """SSIM of a clip's frames, 0 where it is below, averaged over all but the first. Parts: their PSNR in
    hundreds of dB, at most 1; and the score of a clip that shows the true first frame all the time.

    Raises ProblemError where there is no truth, or one of a single frame, ContractError for what is no clip,
    or not as long or as large as the true one.
    """
    if output is None:
        return {"score": 0.0, "PSNR": 0.0, STILL: 0.0}
    if not isinstance(output, Video):
        raise ContractError(f"video scores clips, and this output is a {type(output).__name__}")
    true, given = _truth(problem, "frames", 4, "the true frames, (T, H, W, 3)"), to_numpy(output.frames)
    if len(true) < 2:
        raise ProblemError(f"{problem!r:.300}: a clip of one frame shows nothing new: give two or more")
    if true.shape != given.shape:
        raise ContractError(f"the frames have the shape {given.shape}, and the true ones {true.shape}")
    still = _near(np.broadcast_to(true[:1], true[1:].shape), true[1:])
    return {**_near(given[1:], true[1:]), STILL: still["score"]}


def _near(given: Array, true: Array) -> dict[str, float]:
    """SSIM of pictures (N, H, W, 3) as the score, and PSNR."""
    pairs = list(zip(given.astype(np.uint8), true.astype(np.uint8), strict=True))
    near = sum(max(0.0, ssim(a, b)) for a, b in pairs) / len(pairs)
    return {"score": near, "PSNR": sum(min(psnr(a, b), MOST_DB) for a, b in pairs) / len(pairs) / MOST_DB}


def _depth(problem: Problem, output: Any, align: Alignment) -> dict[str, float]:
    if output is None:
        return {"score": 0.0, ABS_REL: 0.0}
    if not isinstance(output, DepthMap):
        raise ContractError(f"this scores depth maps, and this output is a {type(output).__name__}")
    true = _truth(problem, "depth", 2, "the true depth of the first photo, (H, W) metres")
    given = to_numpy(output.depth)
    if output.valid is not None:
        given = np.where(to_numpy(output.valid), given, 0.0)
    try:
        within, relative = depth_errors(given, true, align)
    except ValueError as error:
        raise ProblemError(f"{problem!r:.300}: {error}") from None
    return {"score": within, ABS_REL: 1.0 - relative}


def _truth(problem: Problem, key: str, dimensions: int, what: str) -> Array:
    truth = problem.metadata.get("truth")
    held = cast("Mapping[str, Any]", truth).get(key) if isinstance(truth, Mapping) else None
    where = f'metadata["truth"]["{key}"]'
    if held is None:
        raise ProblemError(f"{problem!r:.300} has no truth: put {what} into {where}")
    try:
        array: Array = np.load(held, allow_pickle=False) if isinstance(held, str) else np.asarray(held)
    except (OSError, ValueError) as error:
        raise ProblemError(f"{problem!r:.300}: {where} cannot be read ({error}): put {what} there") from None
    if array.ndim != dimensions or array.dtype.kind not in "fiu":
        raise ProblemError(
            f"{problem!r:.300}: {where} has the shape {array.shape} and the type {array.dtype}: put {what}"
            " there"
        )
    return array
