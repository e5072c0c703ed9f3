"""Depth and points."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from unroller.arrays import Array, to_numpy
from unroller.values.base import Value
from unroller.values.checks import check_array, check_mask, need


class DepthMap(Value, frozen=True, eq=False):
    """How far each pixel is along the camera's axis (z, not ray length).

    depth: (H, W) floating point, finite everywhere, 0 where `valid` (H, W) bool is False; unit: "metre",
    "baseline" (the distance between the two cameras), or "relative" (an unknown scale and shift); photo:
    the index of the photo it belongs to.
    """

    composes: ClassVar[Literal["append", "replace"]] = "replace"

    depth: Array
    valid: Array | None = None
    unit: Literal["metre", "baseline", "relative"] = "metre"
    photo: int = 0

    def __post_init__(self) -> None:
        check_array("DepthMap.depth", self.depth, (None, None), "float")
        check_mask("DepthMap.valid", self.valid, tuple(self.depth.shape))
        need(self.unit in ("metre", "baseline", "relative"), f"unknown unit {self.unit!r}")

    @property
    def slot(self) -> Any:
        return self.photo

    def words(self) -> str:
        return f"a depth map of photo {self.photo + 1}, in units of: {self.unit}"

    def difference(self, other: Value) -> float:
        """Mean of |a - b| / max(a, b) where both are valid, plus the share where only one is."""
        if not isinstance(other, DepthMap) or tuple(self.depth.shape) != tuple(other.depth.shape):
            return 1.0
        a, b = to_numpy(self.depth), to_numpy(other.depth)
        seen_a = a > 0 if self.valid is None else to_numpy(self.valid)
        seen_b = b > 0 if other.valid is None else to_numpy(other.valid)
        both = seen_a & seen_b
        either = int((seen_a | seen_b).sum())
        if not either:
            return 0.0
        ratio = np.abs(a - b)[both] / np.maximum(np.maximum(a, b)[both], 1e-9)
        return float((ratio.sum() + (either - both.sum())) / either)


class PointMap(Value, frozen=True, eq=False):
    """A 3-D point for each pixel: points (H, W, 3) floating point in the frame of photo `frame`'s
    camera; confidence: optionally (H, W) floating point above 0; photo: whose pixels they are."""

    composes: ClassVar[Literal["append", "replace"]] = "replace"

    points: Array
    confidence: Array | None = None
    photo: int = 0
    frame: int = 0
    unit: Literal["metre", "baseline", "relative"] = "metre"

    def __post_init__(self) -> None:
        check_array("PointMap.points", self.points, (None, None, 3), "float")
        if self.confidence is not None:
            h, w = tuple(self.points.shape[:2])
            check_array("PointMap.confidence", self.confidence, (h, w), "float")

    @property
    def slot(self) -> Any:
        return (self.photo, self.frame)

    def words(self) -> str:
        return f"a point map of photo {self.photo + 1} in camera {self.frame + 1}'s frame"
