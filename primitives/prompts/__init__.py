"""The instructions that primitives give to language models, a file for each version, and how prompts are put
together.

A model reads what is given (photos, the question), then the context as it was written, then the instruction,
which is dropped afterwards: so what it has read for one step stays a prefix of what it reads for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unroller.capabilities import Prompt
from unroller.declare import View
from unroller.instructions import Instruction, read_instruction
from unroller.rendering import ImageSegment, Segment, TextSegment, escape


def instruction(name: str, version: int | None = None) -> Instruction:
    """The text of `primitives/prompts/<name>.v<version>.md`, by default its newest. Raises UnknownName."""
    return read_instruction(Path(__file__).parent, name, version)


def prompt_of(view: View, told: str, writes: str = "", asked: Sequence[str] = ("question",)) -> Prompt:
    """What a model reads of a problem and its context. Reads "images" and what is `asked`.

    told: the instruction. writes: the kind of text wanted, see `Prompt`. asked: fields of the problem that
    say what is wanted, "prompt" or "question".
    """
    segments: list[Segment] = [
        ImageSegment(image.pixels, f"photo {i + 1}") for i, image in enumerate(view.images)
    ]
    said = [text for field in asked if (text := getattr(view, field)) is not None]
    if said:
        segments.append(TextSegment(escape("\n".join(said))))
    return Prompt((*segments, *view.segments()), instruction=str(told), writes=writes)
