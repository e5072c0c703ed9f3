"""Pictures made ready once: a photo is resized and cut into patches for one step, and not again for the next.

That takes 50 ms for a megapixel, which is as long as a GPU takes to read the answer's prompt.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from xxhash import xxh3_128_digest

MAX_BYTES = 512 << 20
"""Of host memory, for prepared pictures; those used longest ago go first."""


class Preparing:
    """An image processor that remembers what it made of which pictures, in which order. Everything else about
    it is as before."""

    def __init__(self, processor: Any, max_bytes: int = MAX_BYTES) -> None:
        self._processor = processor
        self._made: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self.max_bytes = max_bytes
        self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, images: Any, **settings: Any) -> Any:
        told = [repr(sorted(settings.items(), key=str)).encode()]
        key = xxh3_128_digest(b"".join([*map(_content, _flat(images)), *told]))
        if key in self._made:
            self._made.move_to_end(key)
        else:
            made = self._processor(images, **settings)
            size = sum(getattr(one, "nbytes", 0) for one in made.values())
            self._made[key] = made, size
            self.bytes += size
            while self.bytes > self.max_bytes and len(self._made) > 1:
                _, (_, gone) = self._made.popitem(last=False)
                self.bytes -= gone
        return copy.copy(self._made[key][0])  # processors take out of it what is not for the model

    def forget(self) -> None:
        """Let go of all that was made ready."""
        self._made.clear()
        self.bytes = 0


def _flat(images: Any) -> Iterator[Any]:
    for image in images if isinstance(images, (list, tuple)) else [images]:
        if isinstance(image, (list, tuple)):
            yield from _flat(image)
        else:
            yield image


def _content(image: Any) -> bytes:
    """Of a PIL image: its size and the digest of its pixels."""
    return f"{image.size}".encode() + xxh3_128_digest(image.tobytes())
