"""Who sees whom, as pure functions of a tree of segments.

A sequence is a list of segments. Each names its parent, an earlier segment: it continues what the
chain of its ancestors says, and knows nothing of its siblings. A plain prompt is a chain; a training
sequence is a tree, photos at the root and many questions and contexts as branches, so that the photos
are read once.

The rules are BAGEL's: text is causal; an image, or a clean latent image, is full within itself; a
noised image sees the clean context before it and itself, and nothing else ever sees it. Tokens of one
image share one rotary position; those of a noised one are counted, row by row.

That is a departure: after a roll-out of visual tokens each latent then stands as far from the token of its
own cell as any other does from its own, and has only to look so many places back to find what it is to show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("text", "image", "latent", "noised")


@dataclass(frozen=True)
class Segment:
    """A run of tokens of one kind. parent: index of an earlier segment, None at the root."""

    kind: str
    length: int
    parent: int | None = None


def photo_segments(patches: int, count: int = 2) -> list[Segment]:
    """Tag, photo, tag, photo ...: a chain."""
    chain: list[Segment] = []
    for _ in range(count):
        chain.append(Segment("text", 1, len(chain) - 1 if chain else None))
        chain.append(Segment("image", patches, len(chain) - 1))
    return chain


def check(segments: Sequence[Segment]) -> None:
    """Raise ValueError for what cannot be a tree of segments."""
    for k, segment in enumerate(segments):
        if segment.kind not in KINDS:
            raise ValueError(f"segment {k}: kind must be one of {KINDS}, not {segment.kind!r}")
        if segment.length < 1:
            raise ValueError(f"segment {k} is empty")
        if segment.parent is not None and not 0 <= segment.parent < k:
            raise ValueError(f"segment {k}: its parent, {segment.parent}, must come before it")


def starts(segments: Sequence[Segment]) -> list[int]:
    """Where each segment begins in the sequence."""
    ends = torch.tensor([0] + [s.length for s in segments]).cumsum(0).tolist()
    return ends[:-1]


def attention_mask(segments: Sequence[Segment]) -> Tensor:
    """(L, L) bool: whether the token of a row may see the token of a column."""
    check(segments)
    begin = starts(segments)
    total = sum(s.length for s in segments)
    mask = torch.zeros(total, total, dtype=torch.bool)
    for k, segment in enumerate(segments):
        rows = slice(begin[k], begin[k] + segment.length)
        own = torch.ones(segment.length, segment.length, dtype=torch.bool)
        mask[rows, rows] = own.tril() if segment.kind == "text" else own
        above = segment.parent
        while above is not None:
            if segments[above].kind != "noised":
                mask[rows, begin[above] : begin[above] + segments[above].length] = True
            above = segments[above].parent
    return mask


def positions(segments: Sequence[Segment]) -> Tensor:
    """(L,) int64 rotary positions: text counts, an image takes one, a child goes on from its parent.

    A noised image and the clean one after it stand for the same picture: a noised one takes no room. Within
    it tokens are counted.
    """
    check(segments)
    after: list[int] = []  # the position that follows each segment
    place: list[Tensor] = []
    for segment in segments:
        start = 0 if segment.parent is None else after[segment.parent]
        text = segment.kind == "text"
        place.append(start + torch.arange(segment.length) * int(text or segment.kind == "noised"))
        after.append(start + (segment.length if text else int(segment.kind != "noised")))
    return torch.cat(place)


def generation(segments: Sequence[Segment]) -> Tensor:
    """(L,) bool: tokens of the generation expert. Latents only; all else is understanding's."""
    return torch.cat([torch.full((s.length,), s.kind in ("latent", "noised")) for s in segments])
