"""Prompts as the embedded model reads them: two photos, a question, contexts in its own words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from unroller.arrays import to_numpy
from unroller.capabilities import Prompt
from unroller.faults import InputError
from unroller.rendering import ImageSegment, Segment, TextSegment, TokenSegment
from unroller.values import CameraPose

LARGEST = 4096  # pixels a side
CODEBOOK = "nano-views"
"""The name of the visual tokens: those of `nano_omni.visual`, two pictures of them."""
AFTER_CAPTION = ";"
"""In long thinking, what stands between the caption it begins with and the thinking."""

_TEXT = re.compile(r"<(think|think_long|campose|caption|depth_caption)>(.*)</\1>\Z", re.DOTALL)
_VIEW = re.compile(r"Photo (\d+), looking (up|down|left|right) ([\d.]+)°:\Z")


@dataclass(frozen=True, eq=False)
class Asked:
    """What is given to the model, in words: photos (2, 3, S, S) uint8 tensor, the question's form and words
    (none: nothing is asked), contexts, each words or hidden states (n, d)."""

    photos: Any
    form: int | str = 0
    question: list[int] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)


def photos_of(images: Sequence[Any], side: int) -> Any:
    """Two pictures (H, W, 3) uint8 -> (2, 3, side, side) uint8 torch tensor. Raises InputError."""
    if len(images) != 2:
        raise InputError(
            f"the nano model was trained on pairs of photos and was given {len(images) or 'none'}: give it"
            " two photos of one room, or choose another backend"
        )
    return scaled_photos(images, side)


def scaled_photos(images: Sequence[Any], side: int) -> Any:
    """The same for any number of them."""
    import torch

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
        scaled.append(_scaled(pixels, side))
    return torch.stack(scaled)


def _scaled(pixels: Any, side: int) -> Any:
    """(H, W, 3) uint8 array -> (3, side, side) uint8 tensor."""
    import torch
    import torch.nn.functional as F

    one = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    if one.shape[1:] == (side, side):
        return one
    return (
        F.interpolate(one[None].float(), (side, side), mode="area")[0].round().clamp(0, 255).to(torch.uint8)
    )


def seen_of(prompt: Prompt, side: int) -> Asked:
    """The photos of a prompt, whatever else it says. Raises InputError."""
    images = [s.pixels for s in _photos(prompt)]
    return Asked(photos_of(images, side))


def _photos(prompt: Prompt) -> list[ImageSegment]:
    """The pictures before the first words: later ones are context."""
    photos: list[ImageSegment] = []
    for segment in prompt.segments:
        if not isinstance(segment, ImageSegment):
            break
        photos.append(segment)
    return photos


def asked_of(prompt: Prompt, tokenizer: Any, side: int, space: str) -> Asked:
    """Read a prompt; space: the name of the model's own hidden states. Raises InputError for what the model
    has no words for."""
    from nano_omni import tokenizer as english

    photos = seen_of(prompt, side).photos
    rest = prompt.segments[len(_photos(prompt)) :]
    if not rest or not isinstance(rest[0], TextSegment):
        raise InputError("the nano model needs a question, as words right after the photos")
    contexts: list[Any] = []
    try:
        form, question = english.question_words(tokenizer, rest[0].text)
        following = iter(rest[1:])
        for segment in following:
            contexts += _contexts(segment, following, tokenizer, space)
    except english.QuestionError as error:
        raise InputError(str(error)) from None
    return Asked(photos, form, question, contexts)


def _contexts(segment: Segment, following: Any, tokenizer: Any, space: str) -> list[Any]:
    """One entry's words, tags included, or its hidden states. Raises InputError and QuestionError."""
    if isinstance(segment, TextSegment):
        looked = _VIEW.match(segment.text)
        if looked is not None:
            picture = next(following, None)
            if isinstance(picture, ImageSegment):
                return [_view(looked, picture)]
        found = _TEXT.match(segment.text)
        if found is not None:
            return words_of(found[1], found[2], tokenizer)
    elif isinstance(segment, TokenSegment):
        if segment.space == CODEBOOK:
            return sides_of(segment)
        if segment.space == space:
            import torch

            return [torch.as_tensor(to_numpy(segment.tokens))]
    what = segment.text if isinstance(segment, TextSegment) else segment.words
    raise InputError(
        f"the nano model has no words for this context: {what[:80]!r}; it reads thoughts and captions in its"
        " own words, <campose> in metres, views that say how far they look to the side, and visual tokens and"
        " hidden states of its own"
    )


def context_of(segment: Segment) -> tuple[str, str]:
    """The tag of a context in words and what is between the tags; twice nothing for anything else."""
    found = _TEXT.match(segment.text) if isinstance(segment, TextSegment) else None
    return (found[1], found[2]) if found is not None else ("", "")


def words_of(kind: str, said: str, tokenizer: Any) -> list[list[int]]:
    """What is said between the tags of a context as words, tags included. Raises QuestionError,
    InputError."""
    from nano_omni import captions
    from nano_omni.tokenizer import QuestionError, encode_words

    def caption(tag: str, words: str, length: int) -> list[int]:
        inside = encode_words(tokenizer, words)
        try:
            filled = captions.filled(inside, length - 2)
        except ValueError as error:
            raise QuestionError(f"this is no {tag} of the nano model: {error}") from None
        return [*encode_words(tokenizer, f"<{tag}>"), *filled, *encode_words(tokenizer, f"</{tag}>")]

    match kind:
        case "campose":
            return [list(_pose(said))]
        case "caption":
            return [caption("caption", said, captions.CAPTION_LENGTH)]
        case "depth_caption":
            return [caption("depth", said, captions.DEPTH_LENGTH)]
        case "think_long":
            first, _, then = said.rpartition(AFTER_CAPTION)
            before = [caption("caption", first, captions.CAPTION_LENGTH)] if first else []
            return [*before, encode_words(tokenizer, f"<think>{then}</think>")]
        case _:
            return [encode_words(tokenizer, f"<think>{said}</think>")]


@lru_cache(maxsize=4096)  # as often as a pose is read on
def _pose(said: str) -> tuple[int, ...]:
    import torch

    from nano_omni.language import pose_words

    try:
        x, y, z, a, b, c = (float(number) for number in said.split())
        pose = CameraPose((x, y, z), (a, b, c))
    except ValueError as error:
        raise InputError(f"this is no pose: {said!r:.120}: {error}") from None
    return tuple(pose_words(torch.from_numpy(pose.matrix)))


def _view(looked: re.Match[str], picture: ImageSegment) -> list[int]:
    """A picture as visual tokens; one that this model drew is read back exactly."""
    from nano_omni import views, visual

    number, look, degrees = int(looked[1]), looked[2], float(looked[3])
    if number > 2 or not 0 < degrees < 90:
        raise InputError(f"the nano model reads views of photo 1 and 2 to less than 90°, not {looked[0]!r}")
    side = visual.GRID * visual.FINE
    pixels = _scaled(np.ascontiguousarray(to_numpy(picture.pixels)), side)
    return views.words(number - 1, look, degrees, visual.codebook().read(pixels[None])[0].tolist())


def sides_of(segment: TokenSegment) -> list[list[int]]:
    """Visual tokens of what lies to both sides of photo 1, as words. Raises InputError."""
    from nano_omni import views

    ids = [int(k) for k in to_numpy(segment.tokens)]
    each = views.PATCHES
    if len(ids) != each * len(views.CONTEXT):
        raise InputError(f"{len(ids)} visual tokens: the nano model reads {each * len(views.CONTEXT)}")
    return [views.words(0, *one, ids[k * each :][:each]) for k, one in enumerate(views.CONTEXT)]


def answers_of(choices: tuple[str, ...], asked: Asked) -> list[int]:
    """The words of the choices. Raises InputError for one that the question cannot have."""
    from nano_omni.language import answers
    from nano_omni.vocabulary import INDEX, TOKENS

    may = {TOKENS[word] for word in answers(asked.form, asked.question)}
    plain = [choice.strip().lower().removeprefix("the ") for choice in choices]
    words = [one if one in may else one.replace(" ", "-") for one in plain]
    for choice, word in zip(choices, words, strict=True):
        if word not in may:
            known = ", ".join(sorted(may))
            raise InputError(f"{choice!r} is no answer to this question: the choices are {known}")
    if len(set(words)) < len(words):
        raise InputError(f"two of the choices are the same: {', '.join(choices)}")
    return [INDEX[word] for word in words]
