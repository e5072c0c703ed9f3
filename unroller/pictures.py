"""Arrays into pictures that stand in a page: downscaled, coloured, compressed, as data URIs.

Only `report` and what shows values use this. A photograph becomes a JPEG, a small picture a PNG so
that every pixel of it can be seen, and one with invalid pixels is transparent there (WebP when
large).
"""

from __future__ import annotations

import base64
import io
from typing import Any

import msgspec
import numpy as np

from unroller.arrays import to_numpy

Pixels = np.ndarray[Any, Any]

MAX_BYTES = 4_200_000
"""How much of a page its pictures may fill, in bytes of base64."""

_WIDTHS = ((0.35, 960), (0.6, 640), (0.85, 320), (1.0, 160))
"""Widest picture in pixels, while no more than this share of MAX_BYTES is filled."""

_SMALL = 160 * 160
"""Pictures of up to so many pixels are kept losslessly, and enlarged without smoothing."""


class Picture(msgspec.Struct, frozen=True):
    """A picture in a page. width, height: as it stands there; full: (width, height) as it was."""

    uri: str
    width: int
    height: int
    full: tuple[int, int]

    @property
    def sharp(self) -> bool:
        """Whether its pixels are to be seen as squares when it is enlarged."""
        return self.full[0] * self.full[1] <= _SMALL


class Album:
    """The pictures of one page. As the page fills, later pictures get smaller, and at last are left
    out."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0

    def add(self, pixels: Any, valid: Any = None) -> Picture | None:
        """A picture of `pixels` (H, W, 3) uint8, see-through where `valid` (H, W) is False; None
        when the page is full."""
        widest = next((w for share, w in _WIDTHS if self.bytes <= share * self.max_bytes), None)
        if widest is None:
            return None
        rgb = np.ascontiguousarray(to_numpy(pixels))
        picture = _encoded(rgb, None if valid is None else to_numpy(valid), widest)
        self.bytes += len(picture.uri)
        return picture


def _encoded(rgb: Pixels, valid: Pixels | None, widest: int) -> Picture:
    from PIL import Image as Pillow
    from PIL import features

    full = (int(rgb.shape[1]), int(rgb.shape[0]))
    if valid is not None and not valid.all():
        rgb = np.dstack([rgb, np.where(valid, 255, 0).astype(np.uint8)])
    picture = Pillow.fromarray(rgb)
    # A tall picture is bounded too, or a phone's panorama would fill the page.
    shrink = min(1.0, widest / full[0], 1.5 * widest / full[1])
    if shrink < 1:
        size = (max(1, round(full[0] * shrink)), max(1, round(full[1] * shrink)))
        picture = picture.resize(size, Pillow.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    if picture.width * picture.height <= _SMALL:
        kind = "png"
        picture.save(out, "PNG", optimize=True)
    elif picture.mode == "RGB":
        kind = "jpeg"
        # Not optimised: Pillow's buffer for that is too small for noise, and raises.
        picture.save(out, "JPEG", quality=86, subsampling=0)
    elif features.check("webp"):
        kind = "webp"
        picture.save(out, "WEBP", quality=84)
    else:
        kind = "png"
        picture.save(out, "PNG", optimize=True)
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind};base64,{data}", picture.width, picture.height, full)


# ------------------------------------------------------------------------------------------ colours

# 17 evenly spaced colours of viridis (van der Walt and Smith 2015, CC0), perceptually uniform and
# readable for the colour-blind; interpolated linearly they are within 2% of the whole map.
_VIRIDIS = bytes.fromhex(
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c"
    "1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725"
)
_ANCHORS = np.frombuffer(_VIRIDIS, np.uint8).reshape(-1, 3).astype(np.float64)
_TABLE = (
    np.stack([np.interp(np.linspace(0, 16, 256), np.arange(17), _ANCHORS[:, c]) for c in range(3)], axis=1)
    .round()
    .astype(np.uint8)
)  # (256, 3)

GRADIENT = ", ".join("#" + bytes(_TABLE[i]).hex() for i in range(255, -1, -15))
"""The colours of `coloured`, from 1 to 0, as the stops of a CSS gradient."""


def coloured(values: Pixels) -> Pixels:
    """Numbers in 0..1 (…) as colours (…, 3) uint8, dark to bright; what lies outside is clipped."""
    return _TABLE[(np.clip(values, 0.0, 1.0) * 255).round().astype(np.uint8)]


def coloured_depth(depth: Pixels, valid: Pixels) -> tuple[Pixels, float, float]:
    """Depth (H, W) as a picture, near bright and far dark, invalid pixels grey; and the nearest and
    farthest depth of the scale. One pixel in fifty at either end may lie beyond it."""
    seen = depth[valid]
    near, far = (float(q) for q in np.percentile(seen, (2, 98))) if seen.size else (0.0, 0.0)
    if far - near < 1e-9 * max(abs(far), 1.0):  # a plane that faces the camera
        near, far = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    span = far - near
    picture = coloured((far - depth) / span if span > 0 else np.full(depth.shape, 0.5))
    picture[~valid] = 140
    return picture, near, far


def mosaic(ids: Pixels, columns: int) -> tuple[Pixels, Pixels]:
    """Token ids (N,) as a picture with one pixel a token, `columns` wide, and which of its pixels
    are tokens. Equal ids have equal colours; neighbouring ids have different ones."""
    rows = -(-ids.size // columns)
    cells = np.zeros(rows * columns, np.int64)
    cells[: ids.size] = ids
    hue = cells * 0.6180339887 % 1.0  # the golden ratio spreads successive ids around the circle
    light = 0.52 + 0.16 * (cells * 0.7548776662 % 1.0)
    thirds = np.array([0.0, 1 / 3, 2 / 3])
    rgb = light[:, None] + 0.26 * np.cos(2 * np.pi * (hue[:, None] + thirds))
    held = np.arange(rows * columns) < ids.size
    picture = (rgb * 255).round().clip(0, 255).astype(np.uint8)
    return picture.reshape(rows, columns, 3), held.reshape(rows, columns)


def heat(hidden: Pixels, rows: int = 64, columns: int = 256) -> Pixels:
    """Hidden states (N, D) as a picture of at most rows × columns: every so-manieth state and
    channel, within two standard deviations of the mean."""
    thinned = hidden[:: -(-hidden.shape[0] // rows), :: -(-hidden.shape[1] // columns)]
    thinned = thinned.astype(np.float64)
    spread = float(thinned.std()) or 1.0
    return coloured(0.5 + (thinned - thinned.mean()) / (4 * spread))
