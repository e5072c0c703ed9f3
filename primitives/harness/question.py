"""What a harness asks, as a problem: the turns of a chat, with words and pictures, become one question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from primitives.harness.options import Options, options_in
from unroller.faults import ProblemError
from unroller.problem import Problem


class Picture(NamedTuple):
    """A picture where it stands between words: whatever a Problem takes, or what a function makes of it
    (`load`), so that pictures are decoded one problem at a time."""

    held: Any
    load: Any = None


class Other(NamedTuple):
    """What a pipeline reads no problems of: "video", "audio", "document"."""

    kind: str


Part = str | Picture | Other


class Turn(NamedTuple):
    """role: "system", "user", "assistant" or "tool"."""

    role: str
    parts: Sequence[Part]


class Posed(NamedTuple):
    """A problem, and the lettered options that its choices stand for (None: the answer is written)."""

    problem: Problem
    options: Options | None = None


def question_of(turns: Sequence[Turn]) -> tuple[str, list[Picture]]:
    """The words of a chat and its pictures, in order. Where only a user speaks, the words stay as they are;
    else each turn but the system's begins with who speaks. A picture that stands after words leaves
    "(photo 2)" in its place; pictures that come first, as most do, leave nothing.

    Raises ProblemError for what is neither.
    """
    pictures: list[Picture] = []
    said: list[tuple[str, str]] = []
    begun = False
    for role, parts in turns:
        words: list[str] = []
        for part in parts:
            if isinstance(part, Other):
                raise ProblemError(f"a question with {part.kind}: a pipeline reads words and pictures")
            if isinstance(part, Picture):
                pictures.append(part)
                if begun:
                    words.append(f"(photo {len(pictures)})")
            elif part.strip():
                words.append(part)
                begun |= role != "system"
        if words:
            said.append((role, "\n".join(words)))
    alone = all(role in ("system", "user") for role, _ in said)
    return "\n\n".join(w if alone or role == "system" else f"{role}: {w}" for role, w in said), pictures


def posed(turns: Sequence[Turn], task: str, answer: str, seed: int) -> Posed:
    """The problem that a chat asks. answer: "written", "letters" or "options" (see `Pipeline`).

    Raises ProblemError, ImageError.
    """
    text, pictures = question_of(turns)
    if not text.strip():
        raise ProblemError("a question without words: there is nothing to answer")
    images = [picture.load(picture.held) if picture.load else picture.held for picture in pictures]
    fields: dict[str, Any] = {"task": task, "images": images, "seed": seed}
    if answer == "written":
        return Posed(Problem(question=text, **fields))
    options = options_in(text)
    if options is None:
        raise ProblemError(
            "no lettered options (A, B …) were found in the question: let the answer be written"
            " (answer=written)"
        )
    if answer == "letters":
        return Posed(Problem(question=text, choices=options.letters, **fields), options)
    return Posed(Problem(question=options.question, choices=options.texts, **fields), options)
