"""Values as picture files: PNG for what is a picture, .npy and a coloured PNG for depth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unroller.arrays import to_numpy
from unroller.images import encode_png
from unroller.pictures import coloured_depth
from unroller.values import DepthMap, Image, NovelViews, PointMap, Value, Video

Pixels = np.ndarray[Any, Any]


def write_pictures(value: Value, folder: Path, stem: str) -> list[Path]:
    """Write what there is to see of a value. Returns the files; none for words and numbers.

    Pixels that are not valid become transparent. Raises OSError.
    """
    written: list[Path] = []
    for name, pixels in pictures_of(value):
        written.append(_put(folder / f"{_file_name(stem + name)}.png", encode_png(pixels)))
    if isinstance(value, Video):
        written.append(_put(folder / f"{stem}.png", _animated(to_numpy(value.frames), value.fps)))
    array = value.depth if isinstance(value, DepthMap) else None
    array = value.points if isinstance(value, PointMap) else array
    if array is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}.npy"
        np.save(path, to_numpy(array).astype(np.float32), allow_pickle=False)
        written.append(path)
    return written


def pictures_of(value: Value) -> Iterator[tuple[str, Pixels]]:
    """(suffix, (H, W, 3 or 4) uint8) of every still picture that a value holds."""
    if isinstance(value, Image):
        yield "", _masked(to_numpy(value.pixels), value.valid)
    elif isinstance(value, NovelViews):
        views = to_numpy(value.views)
        for i, direction in enumerate(value.directions):
            valid = None if value.valid is None else to_numpy(value.valid)[i]
            yield f"-{direction}", _masked(views[i], valid)
    elif isinstance(value, DepthMap):
        yield "", coloured(value)


def coloured(value: DepthMap) -> Pixels:
    """(H, W, 3) uint8 as the report shows it: near is bright, far is dark, unknown is grey."""
    depth = to_numpy(value.depth).astype(np.float64)
    seen = depth > 0 if value.valid is None else to_numpy(value.valid)
    return np.ascontiguousarray(coloured_depth(depth, seen)[0])


def half_blocks(pixels: Pixels, columns: int) -> Any:
    """A picture as rich text, two pixels a character: upper half block over a background colour."""
    from PIL import Image as Pillow
    from rich.text import Text as Line

    height, width = pixels.shape[:2]
    rows = max(2, round(columns * height / width / 2) * 2)
    small = np.asarray(Pillow.fromarray(pixels[..., :3]).resize((columns, rows)))
    shown = Line(no_wrap=True)
    for y in range(0, rows, 2):
        for upper, lower in zip(small[y].tolist(), small[y + 1].tolist(), strict=True):
            shown.append("▀", "#{:02x}{:02x}{:02x} on #{:02x}{:02x}{:02x}".format(*upper, *lower))
        shown.append("\n")
    shown.right_crop()
    return shown


def _masked(pixels: Pixels, valid: Any) -> Pixels:
    """With an alpha channel where some pixels are not valid."""
    if valid is None:
        return np.ascontiguousarray(pixels)
    alpha = np.where(to_numpy(valid), 255, 0).astype(np.uint8)
    return np.ascontiguousarray(np.dstack([pixels, alpha]))


def _animated(frames: Pixels, fps: float) -> bytes:
    """An animated PNG."""
    import io

    from PIL import Image as Pillow

    first, *rest = [Pillow.fromarray(frame) for frame in frames]
    out = io.BytesIO()
    first.save(out, format="PNG", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    return out.getvalue()


def _put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _file_name(text: str) -> str:
    """`text` with what a file name should not hold as `_`: a direction may come from anybody."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[:120]
