"""Pictures, views from elsewhere, and clips."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

from unroller.arrays import Array
from unroller.rendering import ImageSegment, Segment, TextSegment, escape
from unroller.values.base import Value
from unroller.values.cameras import Vector3, two_vectors
from unroller.values.checks import as_tuple, check_array, check_mask, mean_difference, need


class Image(Value, frozen=True, eq=False):
    """A picture: pixels (H, W, 3) uint8 RGB, and optionally which of them are valid (H, W) bool.

    source: where it came from (a path), for people; focal_px: focal length in pixels where the file's
    EXIF gives one.
    """

    pixels: Array
    valid: Array | None = None
    source: str = ""
    focal_px: float | None = None

    def __post_init__(self) -> None:
        check_array("Image.pixels", self.pixels, (None, None, 3), ("uint8",))
        check_mask("Image.valid", self.valid, tuple(self.pixels.shape[:2]))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    def words(self) -> str:
        return "a picture of {} × {} pixels".format(*self.size)

    def render(self) -> tuple[Segment, ...]:
        return (ImageSegment(self.pixels, self.words()),)

    def difference(self, other: Value) -> float:
        """Mean absolute difference of the pixels, 0 to 1; 1 where sizes differ."""
        if not isinstance(other, Image) or tuple(self.pixels.shape) != tuple(other.pixels.shape):
            return 1.0
        return mean_difference(self.pixels, other.pixels) / 255.0


class NovelViews(Value, frozen=True, eq=False):
    """Views of the scene that nobody photographed.

    views: (V, H, W, 3) uint8 RGB; directions: a name for each ("left", "right", "up", "down", …);
    valid: (V, H, W) bool, False where a view was not seen by the source photo; photo: its index;
    poses: optionally where each view is looked from, translation and axis-angle in the photo's frame;
    unit: of those translations, as of a depth map's depths, where the camera moved and it is known.
    """

    views: Array
    directions: tuple[str, ...]
    valid: Array | None = None
    photo: int = 0
    poses: tuple[tuple[Vector3, Vector3], ...] | None = None
    unit: Literal["metre", "baseline", "relative"] | None = None

    def __post_init__(self) -> None:
        check_array("NovelViews.views", self.views, (None, None, None, 3), ("uint8",))
        as_tuple(self, "directions", str)
        if self.poses is not None:
            as_tuple(self, "poses", two_vectors)
        count = int(self.views.shape[0])
        need(len(self.directions) == count, f"{count} views need as many names, not {self.directions}")
        need(self.poses is None or len(self.poses) == count, f"{count} views need as many poses")
        need(self.unit in (None, "metre", "baseline", "relative"), f"unknown unit {self.unit!r}")
        check_mask("NovelViews.valid", self.valid, tuple(self.views.shape[:3]))

    def _turned(self, view: int) -> str:
        """How far, where that is known and the camera only turned: ' 30°'."""
        if self.poses is None:
            return ""
        moved, turned = self.poses[view]
        degrees = math.degrees(math.hypot(*turned))
        return "" if any(moved) or not degrees else f" {degrees:.4g}°"

    def words(self) -> str:
        return f"views of photo {self.photo + 1} looking {', '.join(self.directions)}"

    def render(self) -> tuple[Segment, ...]:
        segments: list[Segment] = []
        for i, direction in enumerate(self.directions):
            caption = f"Photo {self.photo + 1}, looking {escape(direction)}{self._turned(i)}:"
            segments.append(TextSegment(caption))
            segments.append(ImageSegment(cast(Any, self.views)[i], caption + " (a synthesised view)"))
        return tuple(segments)

    def difference(self, other: Value) -> float:
        """Mean absolute difference of the pixels, 0 to 1; 1 where the sets of views differ."""
        if not isinstance(other, NovelViews) or self.directions != other.directions:
            return 1.0
        if tuple(self.views.shape) != tuple(other.views.shape):
            return 1.0
        return mean_difference(self.views, other.views) / 255.0


class Video(Value, frozen=True, eq=False):
    """A clip: frames (T, H, W, 3) uint8 RGB at `fps` frames a second."""

    frames: Array
    fps: float = 8.0

    def __post_init__(self) -> None:
        check_array("Video.frames", self.frames, (None, None, None, 3), ("uint8",))
        need(math.isfinite(self.fps) and self.fps > 0, f"fps {self.fps} is not above 0")

    def words(self) -> str:
        return f"a clip of {self.frames.shape[0]} frames at {self.fps:g} fps"

    def render(self) -> tuple[Segment, ...]:
        frames = cast(Any, self.frames)
        return tuple(ImageSegment(frames[i], f"frame {i + 1}") for i in range(int(self.frames.shape[0])))
