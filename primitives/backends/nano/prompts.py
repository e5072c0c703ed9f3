"""Prompts as the embedded model reads them: two photos, a question, contexts in its own words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unroller.arrays import to_numpy
from unroller.capabilities import Prompt
from unroller.faults import InputError
from unroller.rendering import ImageSegment, Segment, TextSegment
from unroller.values import CameraPose

_CONTEXT = re.compile(r"<(think|campose)>(.*)</\1>\Z", re.DOTALL)
LARGEST = 4096  # pixels a side


@dataclass(frozen=True, eq=False)
class Asked:
    """A prompt in words: photos (2, 3, S, S) uint8 tensor, the question's hops and words, contexts."""

    photos: Any
    hops: int
    question: list[int]
    contexts: list[list[int]]


def photos_of(images: Sequence[Any], side: int) -> Any:
    """Pictures (H, W, 3) uint8 -> (V, 3, side, side) uint8 torch tensor. Raises InputError."""
    import torch
    import torch.nn.functional as F

    if len(images) != 2:
        raise InputError(
            f"the nano model was trained on pairs of photos and was given {len(images) or 'none'}: give it"
            " two photos of one room, or choose another backend"
        )
    scaled: list[Any] = []
    for i, image in enumerate(images):
        pixels = np.ascontiguousarray(to_numpy(image))
        height, width = pixels.shape[:2]
        if height != width:
            raise InputError(
                f"photo {i + 1} has {width} x {height} pixels: the nano model was trained on square pictures"
                " with a field of view of 90 degrees; crop it, or choose another backend for photographs"
            )
        if not side <= width <= LARGEST:
            raise InputError(
                f"photo {i + 1} has {width} pixels a side: the nano model reads {side} to {LARGEST}"
            )
        one = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        if width != side:
            small = F.interpolate(one[None].float(), (side, side), mode="area")[0]
            one = small.round().clamp(0, 255).to(torch.uint8)
        scaled.append(one)
    return torch.stack(scaled)


def asked_of(prompt: Prompt, tokenizer: Any, side: int) -> Asked:
    """Read a prompt. Raises InputError for what the model has no words for."""
    from nano_omni import tokenizer as english

    images = [s.pixels for s in prompt.segments if isinstance(s, ImageSegment)]
    rest = [s for s in prompt.segments if not isinstance(s, ImageSegment)]
    if prompt.segments and any(isinstance(s, ImageSegment) for s in prompt.segments[len(images) :]):
        raise InputError("the nano model reads no pictures in its context yet: leave novel views out")
    photos = photos_of(images, side)
    if not rest or not isinstance(rest[0], TextSegment):
        raise InputError("the nano model needs a question, as words right after the photos")
    try:
        hops, question = english.question_words(tokenizer, rest[0].text)
        contexts = [_context(segment, tokenizer) for segment in rest[1:]]
    except english.QuestionError as error:
        raise InputError(str(error)) from None
    return Asked(photos, hops, question, contexts)


def _context(segment: Segment, tokenizer: Any) -> list[int]:
    """A context's words, tags included. Raises InputError and QuestionError."""
    from nano_omni import tokenizer as english

    what = segment.text if isinstance(segment, TextSegment) else segment.words
    found = _CONTEXT.match(what) if isinstance(segment, TextSegment) else None
    if found is None:
        raise InputError(
            f"the nano model has no words for this context: {what[:80]!r}; it reads <think> in its own words"
            " and <campose> in metres"
        )
    if found[1] == "think":
        return english.encode_words(tokenizer, found[0])
    import torch

    from nano_omni.language import pose_words

    try:
        x, y, z, a, b, c = (float(number) for number in found[2].split())
        pose = CameraPose((x, y, z), (a, b, c))
    except ValueError as error:
        raise InputError(f"this is no pose: {what!r:.120}: {error}") from None
    return pose_words(torch.from_numpy(pose.matrix))
