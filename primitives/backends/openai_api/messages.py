"""Prompts as chat messages: words and pictures in the order they were written, pictures as data URLs.

What is given, the context and the instruction make one turn of the user, the instruction last, as the local
chat models have it: so a longer context begins like the shorter one, and a server that keeps prefixes finds
it. A picture that no words announce is announced by its own ("photo 1:").
"""

from __future__ import annotations

import io
import threading
from base64 import b64encode
from collections import OrderedDict
from typing import Any

import numpy as np

from unroller.arrays import Array, to_numpy
from unroller.capabilities import Prompt
from unroller.faults import InputError
from unroller.rendering import ImageSegment, TextSegment

MAX_BYTES = 128 << 20
"""Of data URLs that are kept: a photo is encoded once, and not again for every step."""


class Pictures:
    """Pictures as data URLs. jpeg_quality: 1 to 100; None: PNG, which loses nothing and is larger."""

    def __init__(self, jpeg_quality: int | None, max_bytes: int = MAX_BYTES) -> None:
        self.jpeg_quality = jpeg_quality
        self.max_bytes = max_bytes
        self.bytes = 0
        self._made: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def url(self, pixels: Array) -> str:
        """Of (H, W, 3) uint8 RGB. Raises InputError for one that cannot be encoded."""
        from xxhash import xxh3_128_digest

        held = np.ascontiguousarray(to_numpy(pixels))
        key = f"{held.shape}".encode() + xxh3_128_digest(held.tobytes())
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        url = self._encoded(held)
        with self._lock:
            if key not in self._made:
                self._made[key] = url
                self.bytes += len(url)
            while self.bytes > self.max_bytes and len(self._made) > 1:
                self.bytes -= len(self._made.popitem(last=False)[1])
        return url

    def _encoded(self, pixels: np.ndarray[Any, Any]) -> str:
        from PIL import Image

        kind = "PNG" if self.jpeg_quality is None else "JPEG"
        how = {} if self.jpeg_quality is None else {"quality": self.jpeg_quality}
        file = io.BytesIO()
        try:
            Image.fromarray(pixels).save(file, kind, **how)
        except (OSError, ValueError, SystemError) as error:
            size = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise InputError(f"a picture of {size} pixels cannot be written as {kind} ({error})") from None
        return f"data:image/{kind.lower()};base64,{b64encode(file.getvalue()).decode()}"


def messages_of(prompt: Prompt, pictures: Pictures, more: str = "") -> list[dict[str, Any]]:
    """The messages of a prompt; more: lines that follow its instruction. Raises InputError for an empty one.

    Words alone are sent as a string: servers of models without eyes take nothing else.
    """
    content: list[dict[str, Any]] = []
    lines: list[str] = []
    for segment in prompt.segments:
        if isinstance(segment, ImageSegment):
            announced = lines or [f"{segment.words}:"]
            content.append({"type": "text", "text": "\n".join(announced)})
            content.append({"type": "image_url", "image_url": {"url": pictures.url(segment.pixels)}})
            lines = []
        else:
            lines.append(segment.text if isinstance(segment, TextSegment) else segment.words)
    lines += [part for part in (prompt.instruction, more) if part]
    content += [{"type": "text", "text": "\n".join(lines)}] if lines else []
    content = [part for part in content if part.get("text", "picture").strip()]
    if not content:
        raise InputError("this prompt is empty: there is nothing to read")
    words_alone = len(content) == 1 and "text" in content[0]
    turn = {"role": "user", "content": content[0]["text"] if words_alone else content}
    return [*([{"role": "system", "content": prompt.system}] if prompt.system else []), turn]
