"""Clips of pipelines that pack several frames into one: lengths they can make, their numbers as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from primitives.backends.classical import LONGEST_VIEW
from primitives.backends.pipelines import check_size
from unroller.arrays import to_numpy
from unroller.faults import InputError, NotFinite, PluginError
from unroller.values import Image

MOST_FRAMES = 1024


def check_clip(width: int, height: int, frames: int, multiple: int, packed: int) -> None:
    """Raises InputError, with the nearest that can be made, for a clip whose sides are no multiples of
    `multiple`, or whose frames are not one and a multiple of `packed`."""
    check_size(width, height, multiple)
    if 1 <= frames <= MOST_FRAMES and (frames - 1) % packed == 0:
        return
    near = max(0, min(round((frames - 1) / packed), (MOST_FRAMES - 1) // packed)) * packed + 1
    raise InputError(
        f"this pipeline makes clips of one frame and a multiple of {packed}, and was asked for"
        f" {frames}: the nearest it can make is {near}"
    )


def frames_of(made: Any, shape: tuple[int, int, int] | None = None) -> Any:
    """(T, 3, H, W) of 0 to 1 as (T, H, W, 3) uint8, or the reason why it is no clip (of this shape)."""
    if made.ndim != 4 or made.shape[1] != 3 or (shape and (made.shape[0], *made.shape[2:]) != shape):
        return PluginError(f"the pipeline made an array of shape {tuple(made.shape)}, and not this clip")
    made = made.float()
    if not bool(made.isfinite().all()):
        return NotFinite(
            "the pipeline made NaN or infinity, as some do in half precision: pass dtype='bfloat16' or"
            " dtype='float32'"
        )
    return (made.clamp(0, 1).permute(0, 2, 3, 1) * 255).round().byte().contiguous()


def covering(photo: Image, width: int, height: int) -> np.ndarray[Any, Any]:
    """(height, width, 3): the photo, as large as it takes to fill this, its middle."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    shown = Pillow.fromarray(np.ascontiguousarray(to_numpy(photo.pixels)))
    return np.array(ImageOps.fit(shown, (width, height), Pillow.Resampling.LANCZOS))


def longest_of(size: tuple[int, int]) -> tuple[int, int]:
    """The size in which views of a photo are handed back: its own, at most LONGEST_VIEW a side."""
    scale = min(1.0, LONGEST_VIEW / max(size))
    return (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))


def resized(pixels: Any, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """A picture (h, w, 3) uint8, numpy or torch, in another size (width, height)."""
    from PIL import Image as Pillow

    picture = Pillow.fromarray(np.ascontiguousarray(to_numpy(pixels)))
    if picture.size != size:
        picture = picture.resize(size, Pillow.Resampling.LANCZOS)
    return np.array(picture)


def shifted(scheduler: Any, shift: float) -> Any:
    """The scheduler with another shift of its noise levels. Raises PluginError for one that has none."""
    name = next((n for n in ("flow_shift", "shift") if n in scheduler.config), None)
    if name is None:
        raise PluginError(f"shift={shift}: a {type(scheduler).__name__} has none: leave it out")
    return type(scheduler).from_config(scheduler.config, **{name: shift})
