"""The instructions that primitives give to language models, one file each, and how a prompt is put together.

A model reads what is given (photos, the question), then the context as it was written, then the instruction,
which is dropped afterwards: so what it has read for one step stays a prefix of what it reads for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unroller.capabilities import Prompt
from unroller.declare import View
from unroller.rendering import ImageSegment, Segment, TextSegment, escape


def instruction(name: str) -> str:
    """The text of `primitives/prompts/<name>.md`."""
    return Path(__file__).with_name(f"{name}.md").read_text(encoding="utf-8").strip()


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
    return Prompt((*segments, *view.segments()), instruction=told, writes=writes)
