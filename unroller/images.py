"""Picture files into `Image` values, bounded before they are decoded.

Whatever a camera or a phone writes comes out as (H, W, 3) uint8 RGB, upright: EXIF rotation is applied,
CMYK and palettes are converted, 16-bit is scaled to 8, transparency is laid over white. The focal length
in EXIF, where there is one, comes with it.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from unroller.faults import ImageError
from unroller.values import Image

MAX_PIXELS = 64_000_000
"""Larger pictures are refused unread: 64 megapixels decode to 192 MB."""

MAX_BYTES = 512 << 20
"""Larger files are refused unread: what 64 megapixels of uncompressed 16-bit RGBA come to."""

_SAFE = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
"""Of what Pillow reads: picture files that are pictures. (It hands EPS to Ghostscript, a program.)"""

_FOCAL_35MM, _EXIF_IFD = 0xA405, 0x8769


def open_image(path: str | os.PathLike[str]) -> Image:
    """Read the picture at `path`.

    Raises ImageError, with the path and what to do, when the file is missing, empty, no image, truncated,
    or has more than MAX_PIXELS pixels.
    """
    path = Path(path)
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size > MAX_BYTES:
            raise ImageError(f"{path}: {found.st_size / 1e6:,.0f} MB is too much for one picture")
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise ImageError(f"{path}: a device or a pipe, not a picture")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: a folder, not a picture") from None
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path that no system could have
        why = getattr(error, "strerror", None) or error
        raise ImageError(f"{str(path)!r:.200}: cannot be read: {why}") from None
    return decode_image(data, str(path))


def decode_image(data: bytes, source: str = "picture") -> Image:
    """Decode an encoded picture. Raises ImageError as `open_image` does."""
    if not data:
        raise ImageError(f"{source}: the file is empty (0 bytes)")
    return _decoded(lambda: Pillow.open(io.BytesIO(data), formats=_formats()), source)


def from_pillow(picture: Pillow.Image) -> Image:
    """A picture that Pillow has opened or made, treated like a file. Raises ImageError."""
    return _decoded(lambda: picture, str(getattr(picture, "filename", "") or ""))


def _decoded(opened_by: Callable[[], Pillow.Image], source: str) -> Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own bomb warning: ours is an error, and earlier
            opened = opened_by()
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise ImageError(
                    f"{source}: {width} × {height} pixels is over the limit of"
                    f" {MAX_PIXELS // 1_000_000} megapixels; scale it down first"
                )
            opened.load()
            focal = _focal_px(opened)
            pixels = _rgb(ImageOps.exif_transpose(opened), source)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{source}: not an image that can be read (PNG, JPEG, WebP, TIFF …)") from None
    except Pillow.DecompressionBombError:
        raise ImageError(f"{source}: too many pixels to decode safely; scale it down first") from None
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise ImageError(f"{source}: damaged or truncated ({error})") from None
    return Image(pixels, source=source, focal_px=focal)


def _formats() -> list[str]:
    newer = ["AVIF"] if find_spec("PIL.AvifImagePlugin") else []
    return [*_SAFE, *newer, *(["HEIF"] if "HEIF" in Pillow.OPEN else [])]  # HEIF: where a plug-in reads it


def encode_png(pixels: np.ndarray[Any, Any]) -> bytes:
    """(H, W, 3) or (H, W, 4) uint8 to PNG bytes."""
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, format="PNG", compress_level=4)
    return out.getvalue()


def _rgb(picture: Pillow.Image, source: str) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8."""
    if picture.mode in ("I;16", "I;16B", "I;16L", "I"):
        wide = np.asarray(picture).astype(np.int64)
        # Mode "I" is how Pillow opens some 16-bit files: 32-bit storage, 16-bit range.
        grey = (np.clip(wide, 0, 65535) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode == "F":
        raise ImageError(
            f"{source}: floating-point pixels have no agreed range; save it with 8 or 16 bits first"
        )
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Pillow.new("RGBA", layered.size, (255, 255, 255, 255))
        picture = Pillow.alpha_composite(white, layered)
    return np.ascontiguousarray(np.asarray(picture.convert("RGB")))


def _focal_px(picture: Pillow.Image) -> float | None:
    """Focal length in pixels from EXIF's 35 mm equivalent, or None.

    The equivalent is by the diagonal (43.27 mm for 36 × 24), which holds for any aspect ratio.
    """
    try:
        exif = picture.getexif()
        equivalent = float(exif.get_ifd(_EXIF_IFD).get(_FOCAL_35MM, 0))
    except Exception:  # damaged EXIF must not lose the picture
        return None
    if not 1.0 <= equivalent <= 5_000.0:
        return None
    return equivalent / 43.2666 * float(np.hypot(*picture.size))
