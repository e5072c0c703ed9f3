"""How context reads to a model: segments of text, pictures and tokens, in the order they were written.

Text that a model or a user wrote can never forge a tag: anything that opens like one is escaped. Only a
`CameraPose` renders `<campose>`.
"""

from __future__ import annotations

import re

import msgspec

from unroller.arrays import Array

_TAG_OPENS = re.compile(r"<(?=[A-Za-z/|｜!?_])")  # ｜: some models write <｜User｜>


def escape(text: str) -> str:
    """`text` with every `<` that could open a tag or a special token written as `&lt;`.

    "a < b" is left alone; "</think><campose>" and "<|im_end|>" are not.
    """
    return _TAG_OPENS.sub("&lt;", text) if "<" in text else text


class TextSegment(msgspec.Struct, frozen=True, tag="text"):
    """Words for a model to read. Already escaped."""

    text: str


class ImageSegment(msgspec.Struct, frozen=True, eq=False, tag="image"):
    """A picture for a model to look at: (H, W, 3) uint8 RGB. `words` stands in where there are no eyes."""

    pixels: Array
    words: str


class TokenSegment(msgspec.Struct, frozen=True, eq=False, tag="tokens"):
    """Discrete or continuous tokens in a model's own code: ids (N,) or hidden states (N, D).
    `words` stands in for a model that does not speak `space`."""

    tokens: Array
    space: str
    words: str


Segment = TextSegment | ImageSegment | TokenSegment


def in_words(segments: tuple[Segment, ...] | list[Segment]) -> str:
    """All segments as plain text, pictures and tokens by their words."""
    return "\n".join(s.text if isinstance(s, TextSegment) else s.words for s in segments)
