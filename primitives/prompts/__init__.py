"""The instructions that primitives give to language models, a file for each version, and how prompts are put
together.

A model reads what is given (photos, the question), then the context as it was written, then the instruction,
which is dropped afterwards: so what it has read for one step stays a prefix of what it reads for the next.
"""

from __future__ import annotations

from pathlib import Path

from unroller.capabilities import Prompt
from unroller.declare import View
from unroller.instructions import Instruction, read_instruction
from unroller.rendering import ImageSegment, Segment, TextSegment, escape


def instruction(name: str, version: int | None = None) -> Instruction:
    """The text of `primitives/prompts/<name>.v<version>.md`, by default its newest. Raises UnknownName."""
    return read_instruction(Path(__file__).parent, name, version)


def prompt_of(view: View, told: str, writes: str = "") -> Prompt:
    """What a model reads of a problem and its context. Reads "images" and "question".

    told: the instruction. writes: the kind of text wanted, see `Prompt`.
    """
    segments: list[Segment] = [
        ImageSegment(image.pixels, f"photo {i + 1}") for i, image in enumerate(view.images)
    ]
    if view.question is not None:
        segments.append(TextSegment(escape(view.question)))
    return Prompt((*segments, *view.segments()), instruction=str(told), writes=writes)
