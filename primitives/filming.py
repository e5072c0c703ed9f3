"""Clips as the answer: made from words and the context, and from a first frame where one is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from primitives.drawing import a_prompt, prompt_of_drawing, size_of
from unroller.capabilities import VideoGenerator
from unroller.declare import View, decoder
from unroller.faults import InputError
from unroller.values import Video

FRAMES = 1, 1024
"""The least and the most that may be asked for."""


@decoder(task="video", writes=Video, needs=VideoGenerator, batched=True, stochastic=True, applies=a_prompt)
def video(views: list[View], generator: VideoGenerator) -> Sequence[Video | Exception]:
    """A clip of what x.prompt and the context say, which begins with x's first picture if it has one.

    metadata["width"], ["height"] and ["frames"] are pixels and a number of frames; where these are not given
    they are what the backend makes best.
    """
    outcomes: list[Any] = []
    for view in views:
        try:
            outcomes.append((*size_of(view.metadata, generator), _frames(view.metadata, generator)))
        except InputError as error:
            outcomes.append(error)
    for wanted in dict.fromkeys(one for one in outcomes if isinstance(one, tuple)):
        of = [i for i, one in enumerate(outcomes) if one == wanted]
        made = generator.generate_video(
            [prompt_of_drawing(views[i], 1) for i in of],
            [views[i].images[0] if views[i].images else None for i in of],
            width=wanted[0],
            height=wanted[1],
            frames=wanted[2],
            seeds=[views[i].seed for i in of],
        )
        for i, clip in zip(of, made, strict=True):
            outcomes[i] = clip
    return outcomes


def _frames(metadata: Mapping[str, Any], generator: Any) -> int:
    """Raises InputError for a number that is none."""
    given = metadata.get("frames", getattr(generator, "length", None) or 81)
    least, most = FRAMES
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise InputError(
            f"{given!r} is no number of frames in the problem's metadata: give a whole one, {least} to {most}"
        )
    return given
