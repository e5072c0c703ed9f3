"""Discrete visual tokens as context: a picture that a model sketches in its own code, without drawing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from primitives.prompts import instruction, prompt_of
from primitives.thinking import ASKED, either
from unroller.capabilities import Prompt, VisualTokenizer
from unroller.cost import Cost
from unroller.declare import View, primitive
from unroller.problem import Problem
from unroller.rendering import TextSegment
from unroller.values import Value, VisualTokens

SKETCH, PICTURE = instruction("visual_tokens"), instruction("picture_tokens")


def a_photo_or_a_prompt(problem: Problem) -> str | None:
    return None if problem.images or problem.prompt is not None else "needs a photo or a prompt, and has none"


class RollOut(BaseModel):
    """How many tokens at most, and how freely (0: the most probable ones)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Annotated[int, Field(ge=1)] = 1024
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


@primitive(
    reads=("images", *ASKED, "pose", Value),
    writes=VisualTokens,
    needs=VisualTokenizer,
    parameters=RollOut,
    cost=lambda parameters: Cost(model_calls=1, tokens=parameters.count),
    batched=True,
    stochastic=True,
    applies=a_photo_or_a_prompt,
    prompts=(SKETCH, PICTURE),
    tells=lambda problem: [either(SKETCH, PICTURE, problem)],
)
def visual_token_rollout(views: list[View], tokenizer: VisualTokenizer) -> Sequence[VisualTokens | Exception]:
    """Roll out visual tokens of what the photos do not show, of what is seen from x.pose, or of the picture
    that is asked for: the paper's visual context."""
    how = views[0].parameters
    rolled = tokenizer.roll_out_tokens(
        [_prompt(view) for view in views],
        count=how.count,
        temperature=how.temperature,
        seeds=[view.seed for view in views],
    )
    for view, tokens in zip(views, rolled, strict=True):
        if not isinstance(tokens, Exception):
            view.charge(model_calls=1, tokens=int(tokens.ids.shape[0]))
    return rolled


def _prompt(view: View) -> Prompt:
    """What is read of a problem; x.pose stands before the context, and is told from one by `writes`."""
    prompt = prompt_of(view, either(SKETCH, PICTURE, view), "visual_tokens", ASKED)
    if view.pose is None:
        return prompt
    given = len(prompt.segments) - len(view.segments())
    # What is asked for has a unit of its own: the one that the view is drawn in.
    pose = TextSegment(view.pose.campose) if view.pose.scale == "relative" else view.pose.render()[0]
    segments = (*prompt.segments[:given], pose, *prompt.segments[given:])
    return Prompt(segments, prompt.instruction, prompt.system, writes="view_tokens")
