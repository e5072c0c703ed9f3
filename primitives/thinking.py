"""Text as context: thoughts and captions that a model writes, and what an oracle says in their place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from primitives.prompts import instruction, prompt_of
from unroller.capabilities import Generation, TextGenerator
from unroller.cost import Cost
from unroller.declare import Primitive, View, primitive
from unroller.faults import InputError, MissingCapability
from unroller.fingerprint import fingerprint
from unroller.problem import Problem
from unroller.values import CameraPose, Text, Value


class Writing(BaseModel):
    """How much may be written (tokens) and how freely (0: the most probable words)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_tokens: Annotated[int, Field(ge=1)] = 512
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class WritingAtLength(Writing):
    max_tokens: Annotated[int, Field(ge=1)] = 4096


def _bound(parameters: Writing) -> Cost:
    return Cost(model_calls=1, tokens=parameters.max_tokens)


def a_question(problem: Problem) -> str | None:
    return None if problem.question is not None else "needs a question"


def a_question_or_a_prompt(problem: Problem) -> str | None:
    return None if problem.prompt is not None else a_question(problem)


def a_photo(problem: Problem) -> str | None:
    return None if problem.images else "needs a photo, and has none"


ASKED = ("prompt", "question")
THINK, THINK_LONG = instruction("think"), instruction("think_long")
PICTURE, PICTURE_LONG = instruction("think_picture"), instruction("think_picture_long")
CAPTION, DEPTH_CAPTION = instruction("detailed_caption"), instruction("depth_caption")


def either(question: str, picture: str, x: Problem | View) -> str:
    """What a model is told: the first, or the second where a picture is asked for."""
    return question if x.prompt is None else picture


def written(
    views: list[View],
    writer: TextGenerator,
    told: Sequence[str],
    writes: str,
    how: Writing,
    asked: Sequence[str] = ("question",),
) -> list[Generation | Exception]:
    """What the writer makes of each view, told what stands beside it; charged to the view. asked: see
    `prompt_of`."""
    generations = writer.generate_text(
        [prompt_of(view, one, writes, asked) for view, one in zip(views, told, strict=True)],
        max_tokens=how.max_tokens,
        temperature=how.temperature,
        seeds=[view.seed for view in views],
    )
    for view, generation in zip(views, generations, strict=True):
        if not isinstance(generation, Exception):
            view.charge(model_calls=1, tokens=generation.tokens, price=generation.price)
    return list(generations)


def _texts(
    views: list[View], writer: TextGenerator, told: str | Sequence[str], kind: str, *asked: str
) -> list[Text | Exception]:
    told = [told] * len(views) if isinstance(told, str) else told
    made = written(views, writer, told, kind, views[0].parameters, asked or ("question",))
    return [one if isinstance(one, Exception) else Text(one.text, kind=kind) for one in made]


def _writes_text(parameters: type[Writing], prompts: tuple[str, ...], applies: Any, *asked: str) -> Any:
    """What the primitives of this file have in common."""
    return primitive(
        reads=("images", *(asked or ("question",)), Value),
        writes=Text,
        needs=TextGenerator,
        parameters=parameters,
        cost=_bound,
        batched=True,
        stochastic=True,
        applies=applies,
        prompts=prompts,
        tells=None if len(prompts) == 1 else lambda problem: [either(prompts[0], prompts[1], problem)],
    )


def _thoughts(views: list[View], writer: TextGenerator, question: str, picture: str, kind: str) -> Any:
    told = [either(question, picture, view) for view in views]
    return _texts(views, writer, told, kind, *ASKED)


@_writes_text(Writing, (THINK, PICTURE), a_question_or_a_prompt, *ASKED)
def text_think(views: list[View], writer: TextGenerator) -> Sequence[Text | Exception]:
    """Think about the question, or about the picture that is asked for: the paper's textual context."""
    return _thoughts(views, writer, THINK, PICTURE, "think")


@_writes_text(WritingAtLength, (THINK_LONG, PICTURE_LONG), a_question_or_a_prompt, *ASKED)
def text_think_long(views: list[View], writer: TextGenerator) -> Sequence[Text | Exception]:
    """Think about the question, or plan the picture, at length, step by step, and check the result."""
    return _thoughts(views, writer, THINK_LONG, PICTURE_LONG, "think_long")


@_writes_text(Writing, (CAPTION,), a_photo)
def detailed_caption(views: list[View], writer: TextGenerator) -> Sequence[Text | Exception]:
    """Describe every photo in detail."""
    return _texts(views, writer, CAPTION, "caption")


@_writes_text(Writing, (DEPTH_CAPTION,), a_photo)
def depth_caption(views: list[View], writer: TextGenerator) -> Sequence[Text | Exception]:
    """Say in words how far away everything in the first photo is."""
    return _texts(views, writer, DEPTH_CAPTION, "depth_caption")


# ----------------------------------------------------------------------------------------------- oracles


class Oracle(BaseModel):
    """Which text is wanted; file: JSON, {question: {kind: text}}, in place of the problem's metadata."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = "think"
    file: str | None = None


@primitive(reads=("question", "metadata"), writes=Text, parameters=Oracle)
def oracle_text(view: View) -> Text:
    """The text that an oracle wrote, the paper's upper bound: from `metadata["oracle"]` of the problem (a
    scene's truth), or from a file that another model filled."""
    wanted = view.parameters
    held: Any = (view.metadata or {}).get("oracle", {})
    where = 'the problem\'s metadata["oracle"]'
    if wanted.file is not None:
        where = wanted.file
        try:
            held = json.loads(Path(wanted.file).read_text(encoding="utf-8")).get(view.question, {})
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{where} holds no texts by question: {error}") from None
    text: Any = held.get(wanted.kind) if isinstance(held, Mapping) else None
    if not isinstance(text, str):
        raise InputError(f"no oracle text of the kind {wanted.kind!r} in {where} for this problem")
    return Text(text, kind=wanted.kind)


def oracle_from(writer: Any, kind: str = "think", told: str = THINK) -> Primitive:
    """`oracle_text`, written by a backend of its own: a better model than the one that answers.

        ex = Executor(backend=HFVLM(…), policy=[])
        ex = ex.extend(primitives=[oracle_from(OpenAIServer(…))], policy=["oracle_text"])

    writer: a backend that provides TextGenerator. It is given the photos and the question and nothing of the
    context, so that its text is the same at whatever step, and is asked for once. kind: of the text; told:
    the instruction. What it reads is no part of the run's `spent.reading`. Raises MissingCapability where it
    writes no text.
    """
    if TextGenerator not in writer.provides:
        lacks = getattr(writer, "lacks", None) or "TextGenerator"
        raise MissingCapability(f"the oracle {writer.name} writes no text: it lacks {lacks}")

    def bound(parameters: Writing) -> Cost:
        cost = _bound(parameters)
        dollars = getattr(writer, "price_bound", None)
        return cost if dollars is None else cost + Cost(price=dollars(cost))

    @primitive(
        name="oracle_text",
        reads=("images", "question"),
        writes=Text,
        parameters=Writing,
        cost=bound,
        batched=True,
        stochastic=True,
        applies=a_question,
        max_batch=writer.max_batch,
        prompts=(told,),
        version=fingerprint(_texts, (told, kind, str(writer.fingerprint))),
    )
    def oracle_text(views: list[View]) -> Sequence[Text | Exception]:
        """The text that an oracle writes, the paper's upper bound."""
        return _texts(views, writer, told, kind)

    return oracle_text


@primitive(reads=("metadata",), writes=CameraPose)
def oracle_pose(view: View) -> CameraPose:
    """The true pose of the second photo, from `metadata["truth"]["pose"]`: six numbers, in metres."""
    pose: Any = (view.metadata or {}).get("truth", {}).get("pose")
    if pose is None:
        raise InputError('there is no true pose in the problem\'s metadata["truth"]["pose"]')
    return CameraPose(tuple(pose[:3]), tuple(pose[3:]))
