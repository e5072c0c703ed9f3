"""What the embedded model draws from photos: a picture that is changed, depth, and views from elsewhere.

Each is asked for as a `pictures.Wanted` with photos: a change in words, or how far all is, or a pose.
Pictures of other sizes than the model's are scaled down for it, and what it drew is scaled up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from primitives.backends.nano import weights as files
from primitives.backends.nano.pictures import Pictures, Wanted, as_image, context_words
from primitives.backends.nano.prompts import CODEBOOK, context_of, scaled_photos, sides_of, words_of
from unroller.arrays import to_numpy
from unroller.capabilities import DepthRequest
from unroller.faults import InputError
from unroller.problem import Intrinsics
from unroller.rendering import Segment, TextSegment, TokenSegment
from unroller.values import CameraPose, DepthMap, Image

SIDE = 64
SEEN = 0.01
"""The least probability of an object, in any patch, that counts as seen where weights have no measured one:
of objects that are there 1 in 100 has less, of those that are not 9 of 10."""
SURE = 0.15
"""The same for an object to be named as one that is there: 106 of the 187 in 128 test pictures have more, and
12 that are not there."""
FARTHEST = 6.0
"""Metres from a photo from which views are drawn: rooms are at most 6 m long."""
_OFF_PLACE, _OFF_ANGLE = 0.3, 12.0  # metres and degrees that a pose may differ from what words say of it
_OFF_LENS = 5.0  # degrees that a field of view may differ from the one that was taught


def wanted(images: Sequence[Any], prompt: Sequence[int] = (), **fields: Any) -> Wanted:
    """What is to be drawn from photos (H, W, 3). Raises InputError for photos of other shapes."""
    from nano_omni.latents import patches

    photos = scaled_photos(images, SIDE)
    latents = patches(files.autoencoder().encode(photos[:1]))[0]
    return Wanted(list(prompt), photos=photos, latents=latents, **fields)


def check_lens(photo: Image, camera: Intrinsics | None) -> None:
    """Raises InputError for a camera that is known not to see 90 degrees."""
    if camera is None:
        return
    width = photo.pixels.shape[1]
    degrees = 2 * np.degrees(np.arctan(width / 2 / camera.fx))
    if abs(degrees - 90) > _OFF_LENS:
        raise InputError(
            f"this camera sees {degrees:.0f} degrees: the nano model was trained on square pictures with a"
            " field of view of 90; choose another backend"
        )


# --------------------------------------------------------------------------------------------------- editing


def edit_of(image: Any, segments: Sequence[Segment], tokenizer: Any) -> Wanted:
    """A change of a picture (H, W, 3): what is asked for and the contexts. Raises InputError for what the
    model has no words for."""
    from nano_omni import edits
    from nano_omni.world.prompts import PromptError, parse_change

    if not segments or not isinstance(segments[0], TextSegment):
        raise InputError("the nano model changes one picture as words say: give one picture, and a prompt")
    try:
        words = edits.words(parse_change(segments[0].text))
    except PromptError as error:
        raise InputError(str(error)) from None
    contexts = [context_words(segment, tokenizer) for segment in segments[1:]]
    return wanted([image], prompt=words, contexts=contexts, task="editing", nothing=edits.NO_CHANGE)


def not_seen(one: Wanted, look: Any, least: float) -> str | None:
    """Why a change cannot be made of what the model sees, if so: an object that it does not see."""
    from nano_omni.vocabulary import INDEX, OBJECT_0, OBJECTS

    objects = [word - OBJECT_0 for word in one.prompt if 0 <= word - OBJECT_0 < len(OBJECTS)]
    for k in objects[1:] if INDEX["add"] in one.prompt else objects:
        if float(look.seen[k + 1]) < least:
            likely = look.seen[1:].argsort(descending=True)[:6].tolist()
            there = ", ".join(f"the {OBJECTS[i]}" for i in likely if look.seen[i + 1] > SURE)
            return (
                f"the nano model sees no {OBJECTS[k]} in this picture; it is sure of"
                f" {there or 'nothing there'}: name what the picture shows"
            )
    return None


def edited(
    drawer: Pictures, images: Sequence[Any], asked: Sequence[Wanted], seeds: Sequence[int]
) -> list[Image]:
    """The pictures (H, W, 3), changed; every pixel that shows the same as before is left exactly as it is."""
    import torch
    import torch.nn.functional as F

    from nano_omni.autoencoder import redrawn
    from nano_omni.latents import whole

    held = files.autoencoder()
    changed: list[Image] = []
    for image, one, latents in zip(images, asked, drawer.latents(asked, seeds), strict=True):
        small = one.photos[:1]
        new = redrawn(held, small, whole(one.latents[None]), whole(latents[None]))
        pixels = torch.from_numpy(np.ascontiguousarray(to_numpy(image)).copy()).permute(2, 0, 1)
        if pixels.shape[1:] != new.shape[2:]:
            # What was there is sharper than what was drawn: it is replaced, with a margin, not shifted.
            where = F.max_pool2d((new != small).any(1, keepdim=True).float(), 3, stride=1, padding=1)
            where, drawn = (
                F.interpolate(one, pixels.shape[1:], mode="bilinear") for one in (where, new.float())
            )
            new = (pixels * (1 - where) + drawn * where).round().to(torch.uint8)
        changed.append(as_image(new[0]))
    return changed


# ----------------------------------------------------------------------------------------------------- depth


def depth_of(request: DepthRequest, tokenizer: Any) -> Wanted:
    """Depth of a photo, with the second one where there is one. Raises InputError for contexts that it cannot
    read."""
    from nano_omni.vocabulary import INDEX

    images = [one.pixels for one in (request.photo, request.second) if one is not None]
    contexts = [_depth_context(segment, tokenizer) for segment in request.context]
    if contexts and (len(images) == 1 or request.index != 0):
        raise InputError(
            "the nano model reads contexts of two photos for the depth of the first: give it both"
        )
    words = [(False, one) for one in contexts]
    return wanted(images, prompt=[INDEX["depth"]], contexts=words, task="depth")


def _depth_context(segment: Segment, tokenizer: Any) -> list[int]:
    from nano_omni.tokenizer import QuestionError

    kind, said = context_of(segment)
    try:
        if kind in ("caption", "depth_caption"):
            return words_of(kind, said, tokenizer)[0]
        if isinstance(segment, TokenSegment) and segment.space == CODEBOOK:
            return [word for words in sides_of(segment) for word in words]
    except QuestionError as error:
        raise InputError(str(error)) from None
    what = segment.text if isinstance(segment, TextSegment) else segment.words
    raise InputError(
        f"the nano model draws depth from captions, depth captions and visual tokens of its own, not from"
        f" {what[:80]!r}"
    )


def depths(
    drawer: Pictures, requests: Sequence[DepthRequest], asked: Sequence[Wanted], seeds: Sequence[int]
) -> list[DepthMap]:
    """In metres, as large as the photos."""
    import torch
    import torch.nn.functional as F

    from nano_omni.depths import from_pictures
    from nano_omni.latents import whole

    found: list[DepthMap] = []
    for request, latents in zip(requests, drawer.latents(asked, seeds), strict=True):
        depth = from_pictures(files.autoencoder().decode(whole(latents[None])))[None]  # (1, 1, S, S)
        size = tuple(request.photo.pixels.shape[:2])
        if depth.shape[2:] != size:
            depth = F.interpolate(depth, size, mode="bilinear")
        found.append(DepthMap(to_numpy(depth[0, 0].to(torch.float32)), photo=request.index))
    return found


# ----------------------------------------------------------------------------------------------------- views


def view_of(image: Any, pose: CameraPose, segments: Sequence[Segment], tokenizer: Any) -> Wanted:
    """What is seen from a pose in the photo's frame. Raises InputError for a pose that the model has no words
    for, and for contexts other than visual tokens of that view."""
    from nano_omni.vocabulary import INDEX

    contexts = [context_words(segment, tokenizer) for segment in segments]
    if any(not rolled for rolled, _ in contexts):
        raise InputError("the nano model draws a view from a pose and from visual tokens of its own alone")
    nothing = INDEX["<campose>"], INDEX["</campose>"]
    return wanted([image], prompt=pose_words_of(pose), contexts=contexts, task="novel_view", nothing=nothing)


def pose_words_of(pose: CameraPose) -> list[int]:
    """A pose in words, its numbers read as metres. Raises InputError for one that words do not say."""
    import torch

    from nano_omni.language import pose_matrix, pose_words

    if pose.scale == "unit":
        raise InputError(
            "the nano model draws views from poses in metres, and of this one only the direction is known"
        )
    away = float(np.linalg.norm(pose.translation))
    if away > FARTHEST:
        raise InputError(
            f"a camera {away:.1f} m away is outside of the room: the nano model draws views up to"
            f" {FARTHEST:g} m from a photo"
        )
    words = pose_words(torch.from_numpy(pose.matrix))
    said = CameraPose.from_matrix(pose_matrix(words[1:-1]).numpy())
    between = np.linalg.inv(said.matrix) @ pose.matrix
    angle = float(np.degrees(np.arccos(np.clip((np.trace(between[:3, :3]) - 1) / 2, -1, 1))))
    off = float(np.linalg.norm(np.subtract(said.translation, pose.translation)))
    if off > _OFF_PLACE or angle > _OFF_ANGLE:
        raise InputError(
            "the nano model's camera goes along the floor and turns to the sides, looking down as the photo's"
            f" does: this pose is {off:.2f} m and {angle:.0f} degrees from the nearest such one"
        )
    return words
