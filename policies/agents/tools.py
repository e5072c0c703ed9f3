"""Primitives as tools: what a language model is told of each, and how what was written is shown to it."""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from policies.language_model import described
from policies.schedules import ORACLES, is_one_of, unread
from unroller.actions import Action
from unroller.faults import PolicyError
from unroller.rendering import ImageSegment, Segment, TextSegment, in_words

ANSWER = "answer"
"""The tool by which an agent answers for itself, where it is asked to."""

TAKEN = ("reset", "get_reward", ANSWER)
"""Names that trainers or we give a meaning of their own."""


class Tool(msgspec.Struct, frozen=True):
    """A primitive as a tool. presets: of its parameters, besides the defaults; told: what the model is told
    of it, in a paragraph."""

    name: str
    told: str
    presets: tuple[str, ...] = ()

    def action(self, preset: str | None = None) -> str:
        """The action that a call of this tool means. Raises PolicyError for a preset that there is not."""
        if preset in (None, "", "default"):
            return self.name
        if preset not in self.presets:
            known = ", ".join(("default", *self.presets))
            raise PolicyError(f"{self.name} has no preset {preset!r:.80}: it has {known}")
        return f"{self.name}:{preset}"

    @property
    def schema(self) -> dict[str, Any]:
        """As chat templates and servers read it: a function with a JSON schema of its arguments."""
        arguments: dict[str, Any] = {}
        if self.presets:
            arguments["preset"] = {
                "type": "string",
                "enum": ["default", *self.presets],
                "description": PRESET,
            }
        if self.name == ANSWER:
            arguments["choice"] = {"type": "string", "description": CHOICE}
        required = ["choice"] if self.name == ANSWER else []
        parameters = {"type": "object", "properties": arguments, "required": required}
        held = {"name": self.name, "description": self.told, "parameters": parameters}
        return {"type": "function", "function": held}


PRESET = "Which of its settings to take."

CHOICE = "The answer: one of the choices, word for word."

ANSWERING = Tool(ANSWER, "Answer the question. Nothing can be called afterwards.")


def tools_of(actions: Mapping[str, Action], without: Sequence[str] = ORACLES) -> tuple[Tool, ...]:
    """One tool for each primitive that a backend provides, but for those that a pattern of `without` fits and
    for what a unified model could not read. Raises PolicyError where there is none, or for a name that means
    something else to a trainer."""
    left_out = unread(actions)
    offered = {
        name: action
        for name, action in actions.items()
        if action.missing is None and name not in left_out and not is_one_of(name, without)
    }
    if not offered:
        raise PolicyError("nothing can be called: choose a backend that provides what some primitive needs")
    tools: list[Tool] = []
    for name, action in offered.items():
        primitive, _, preset = name.partition(":")
        if preset:
            continue
        if name in TAKEN or name.startswith("_") or keyword.iskeyword(name):
            raise PolicyError(
                f"a primitive called {name!r} cannot be a tool: give it another name, or leave it out with"
                f" without=({name!r},)"
            )
        presets = (other.partition(":") for other in offered)
        tools.append(Tool(name, _told(action), tuple(p for of, _, p in presets if of == primitive and p)))
    return tuple(tools)


def _told(action: Action) -> str:
    """The line that a language model policy is shown, without its name."""
    return described(action).partition(": ")[2]


def blocks(segments: Sequence[Segment], images: bool) -> list[dict[str, Any]] | str:
    """Segments as a chat's content: with `images` blocks of text and Pillow images, else words alone."""
    if not images:
        return in_words(list(segments))
    from PIL import Image

    held: list[dict[str, Any]] = []
    for segment in segments:
        if isinstance(segment, ImageSegment):
            from unroller.arrays import to_numpy

            held.append({"type": "image", "image": Image.fromarray(to_numpy(segment.pixels))})
        else:
            text = segment.text if isinstance(segment, TextSegment) else segment.words
            held.append({"type": "text", "text": text})
    return held
