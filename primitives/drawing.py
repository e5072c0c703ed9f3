"""Pictures as the answer: drawn from words, or a photo changed as words say, with all of the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unroller.capabilities import ImageEditor, ImageGenerator, Prompt
from unroller.declare import View, decoder
from unroller.faults import InputError
from unroller.problem import Problem
from unroller.rendering import ImageSegment, Segment, TextSegment, escape
from unroller.values import Image

ONE_MEGAPIXEL = (1024, 1024)

SIDE = 16, 8192
"""The least and the most pixels a side that may be asked for."""


def a_prompt(problem: Problem) -> str | None:
    return None if problem.prompt is not None else "needs a prompt that says what to draw"


def a_photo_and_a_prompt(problem: Problem) -> str | None:
    if not problem.images:
        return "needs a picture to change"
    return None if problem.prompt is not None else "needs a prompt that says what to change"


@decoder(
    task="generation", writes=Image, needs=ImageGenerator, batched=True, stochastic=True, applies=a_prompt
)
def generation(views: list[View], generator: ImageGenerator) -> Sequence[Image | Exception]:
    """A picture of what x.prompt and the context say, of metadata["width"] × metadata["height"] pixels; where
    these are not given, of the size that the backend draws best, or 1024 × 1024."""
    outcomes: list[Any] = []
    for view in views:
        try:
            outcomes.append(size_of(view.metadata, generator))
        except InputError as error:
            outcomes.append(error)
    for size in dict.fromkeys(size for size in outcomes if isinstance(size, tuple)):
        of = [i for i, wanted in enumerate(outcomes) if wanted == size]
        drawn = generator.generate_image(
            [prompt_of_drawing(views[i], 0) for i in of],
            width=size[0],
            height=size[1],
            seeds=[views[i].seed for i in of],
        )
        for i, picture in zip(of, drawn, strict=True):
            outcomes[i] = picture
    return outcomes


@decoder(
    task="editing",
    writes=Image,
    needs=ImageEditor,
    batched=True,
    stochastic=True,
    applies=a_photo_and_a_prompt,
)
def editing(views: list[View], editor: ImageEditor) -> Sequence[Image | Exception]:
    """The first picture, changed as x.prompt and the context say."""
    return editor.edit_image(
        [view.images[0] for view in views],
        [prompt_of_drawing(view, 1) for view in views],
        seeds=[view.seed for view in views],
    )


def prompt_of_drawing(view: View, since: int) -> Prompt:
    """x's pictures from number `since`, its prompt, its question if it has one, and the context."""
    segments: list[Segment] = [
        ImageSegment(image.pixels, f"photo {i + 1}") for i, image in enumerate(view.images) if i >= since
    ]
    asked = [text for text in (view.prompt, view.question) if text is not None]
    segments.append(TextSegment(escape("\n".join(asked))))
    return Prompt((*segments, *view.segments()))


def size_of(metadata: Mapping[str, Any], generator: Any) -> tuple[int, int]:
    """Raises InputError for a size that is none."""
    if not {"width", "height"} & metadata.keys():
        return getattr(generator, "size", None) or ONE_MEGAPIXEL
    sides = metadata.get("width", metadata.get("height")), metadata.get("height", metadata.get("width"))
    least, most = SIDE
    for side in sides:
        if not isinstance(side, int) or isinstance(side, bool) or not least <= side <= most:
            raise InputError(
                f"{side!r} is no side of a picture in the problem's metadata: give whole pixels, {least} to"
                f" {most}, as width and height"
            )
    return sides  # pyright: ignore[reportReturnType]
