"""A language model chooses what to call next, from the primitives' names and docstrings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, create_model

from policies.replies import named
from policies.saved import Saveable
from policies.schedules import CERTAIN_STOP, ORACLES, certain, is_one_of, unread
from unroller.actions import Action
from unroller.capabilities import Generation, Prompt, TextGenerator
from unroller.cost import Cost
from unroller.decide import Call, Decided, Decision, State
from unroller.declare import FIELDS_READ, Probe, View
from unroller.faults import PolicyError
from unroller.rendering import ImageSegment, TextSegment, escape
from unroller.values import Value

VERSION = "1"
"""Of how the probe asks and reads replies. It changes with them, so that no memo answers for the old one."""

STOP_WORD = "STOP"
PROBE = "next_call"
QUOTED = 200
"""Characters of an unreadable reply that it is told of."""


def prompt(name: str) -> str:
    """The text of `policies/prompts/<name>.md`."""
    return Path(__file__).with_name("prompts").joinpath(f"{name}.md").read_text(encoding="utf-8").strip()


class LanguageModelPolicy(Saveable):
    """Shows a `TextGenerator` the problem, the context and the actions, and calls what its reply names.

    How replies are read is told in `policies.replies`. Of several names the first that is allowed and was not
    called yet is called; STOP, or names of which none can be called, stop. A reply that names nothing is told
    so and asked again; after `tries` of them it stops.

    model: who is asked; None takes the first backend of the executor that writes text. The asking is a probe
    of its own (`next_call`): batched over problems, memoised, journaled, and charged to the budget of the
    problem, `tries` calls of `max_tokens` at most for a decision. Where the budget does not afford that, it
    stops. The model reads the same beginning as a primitive that thinks, so what it has read is not read
    again.

    temperature: 0 takes the likeliest reply; above it, replies are drawn by the problem's seed. The
    log-probability of a decision is that of the replies that led to it, where the model says it: several
    replies may mean the same call, so it is a lower bound. told: the prompt, with {actions} in it. without:
    patterns of actions that it is not shown. Raises PolicyError.
    """

    name = kind = "language_model"

    def __init__(
        self,
        model: TextGenerator | None = None,
        *,
        max_tokens: int = 64,
        temperature: float = 0.0,
        tries: int = 2,
        told: str | None = None,
        again: str | None = None,
        without: Sequence[str] = ORACLES,
    ) -> None:
        if max_tokens < 1 or tries < 1 or not 0 <= temperature < math.inf:
            raise PolicyError("max_tokens and tries are 1 or more, and a temperature 0 or more")
        self.told = prompt("choose_call") if told is None else told
        self.again = prompt("choose_again") if again is None else again
        if "{actions}" not in self.told:
            raise PolicyError(
                "the prompt has no {actions} in it: there the model is told what it can choose from"
            )
        if model is not None and not isinstance(model, TextGenerator):
            raise PolicyError(f"{model!r:.80} writes no text: give a backend that is a TextGenerator")
        self.model = model
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.tries = tries
        self.without = (without,) if isinstance(without, str) else tuple(map(str, without))
        self.choices: tuple[str, ...] = ()
        self.probes: tuple[Probe, ...] = ()

    def bound_to(self, actions: Mapping[str, Action]) -> LanguageModelPolicy:
        """A policy that chooses among these actions, those that a backend provides."""
        bound = copy(self)
        left_out = unread(actions)
        offered = {
            name: described(action)
            for name, action in actions.items()
            if action.missing is None and name not in left_out and not is_one_of(name, self.without)
        }
        bound.choices = tuple(offered)
        bound.probes = (bound._probe(offered),) if offered else ()
        return bound

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [self._next(state) for state in states]

    def _next(self, state: State) -> Decision:
        if not self.probes:
            return CERTAIN_STOP
        said = getattr(state.probe, PROBE)
        if said is None:
            return CERTAIN_STOP
        known, log_probability, *chosen = np.asarray(said, float).tolist()
        p = min(log_probability, 0.0) if known else None
        called = {call.action for decision in state.decisions for call in decision.calls}
        allowed = set(state.allowed) - called
        for index in map(int, chosen):
            if index >= len(self.choices):
                break
            if self.choices[index] in allowed:
                name = self.choices[index]
                return certain(name) if p == 0 else Decision((Call(name),), p)
        return Decision(log_probability=p)

    # -------------------------------------------------------------------------------------------- asking

    def _probe(self, offered: Mapping[str, str]) -> Probe:
        """The probe that asks. Whatever changes its result is a parameter, and so part of what is
        memoised."""
        model = self.model
        settings: Any = create_model(
            "Asking",
            __base__=Asking,
            names=(tuple[str, ...], tuple(offered)),
            described=(tuple[str, ...], tuple(offered.values())),
            told=(str, self.told),
            again=(str, self.again),
            max_tokens=(int, self.max_tokens),
            temperature=(float, self.temperature),
            tries=(int, self.tries),
            model=(str, "" if model is None else str(getattr(model, "fingerprint", id(model)))),
        )

        def next_call(views: list[View], *given: TextGenerator) -> list[np.ndarray | Exception]:
            """What a language model would call next."""
            return ask(views, given[0] if model is None else model)

        return Probe(
            next_call,
            name=PROBE,
            reads=(*FIELDS_READ, Value),
            writes=np.ndarray,
            needs=TextGenerator if model is None else (),
            parameters=settings,
            cost=Cost(model_calls=self.tries, tokens=self.tries * self.max_tokens),
            max_batch=1024 if model is None else int(getattr(model, "max_batch", 1024)),
            batched=True,
            stochastic=True,
            version=VERSION,
        )

    def _settings(self) -> dict[str, Any]:
        if self.model is not None:
            raise PolicyError(
                "a policy that was given its model cannot be saved: leave model out, and name the backend"
                " when"
                " the executor is made"
            )
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "tries": self.tries,
            "told": self.told,
            "again": self.again,
            "without": list(self.without),
        }


class Asking(BaseModel):
    """What the probe asks with."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    names: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    told: str = ""
    again: str = ""
    max_tokens: int = 64
    temperature: float = 0.0
    tries: int = 1
    model: str = ""


def described(action: Action) -> str:
    """An action in a line: its name, the first paragraph of its docstring, what it writes and may cost."""
    paragraph = (action.primitive.__doc__ or "").strip().split("\n\n")[0]
    words = " ".join(paragraph.split()) or "(not described)"
    preset = action.name.partition(":")[2]
    how = f" ({preset})" if preset else ""
    return (
        f"- {action.name}: {words}{how} It writes {action.writes.__name__} and costs at most {action.cost}."
    )


def ask(views: list[View], generator: TextGenerator) -> list[np.ndarray | Exception]:
    """For each view: whether the log-probability is known, the log-probability, then the indices of what its
    reply names, `len(names)` being STOP; no index where no reply named anything."""
    how: Asking = views[0].parameters
    outcomes: list[Any] = [_Asked() for _ in views]
    for attempt in range(how.tries):
        asking = [i for i, o in enumerate(outcomes) if isinstance(o, _Asked) and not o.names]
        prompts = {i: _prompt(views[i], how, outcomes[i].last) for i in asking}
        asking = [i for i in asking if prompts[i] is not None]
        if not asking:
            break
        replies = generator.generate_text(
            [prompts[i] for i in asking],  # type: ignore[misc]
            max_tokens=how.max_tokens,
            temperature=how.temperature,
            seeds=[(views[i].seed + attempt) % 2**63 for i in asking],
        )
        for i, reply in zip(asking, replies, strict=True):
            if isinstance(reply, Exception):
                outcomes[i] = reply
            else:
                views[i].charge(model_calls=1, tokens=reply.tokens)
                outcomes[i].hear(reply, _left_of(views[i], how))
    for view in views:
        if view.charged is None:
            view.charge()  # it was not asked: nothing was left to choose
    return [o if isinstance(o, Exception) else o.as_array(how.names) for o in outcomes]


class _Asked:
    """What one sample has replied so far."""

    def __init__(self) -> None:
        self.last: str | None = None
        self.names: list[str] = []
        self.log_probability: float | None = 0.0

    def hear(self, reply: Generation, names: Sequence[str]) -> None:
        self.last = reply.text
        self.names = named(reply.text, names, STOP_WORD)
        if self.log_probability is not None:
            p = reply.log_probability
            known = p is not None and math.isfinite(p)
            self.log_probability = self.log_probability + p if known and p is not None else None

    def as_array(self, names: Sequence[str]) -> np.ndarray:
        places = [len(names) if name == STOP_WORD else names.index(name) for name in self.names]
        p = self.log_probability
        return np.array([float(p is not None), p or 0.0, *places], np.float64)


def _left_of(view: View, how: Asking) -> list[str]:
    """The actions that have written nothing yet."""
    there = {entry.action for entry in view.entries}
    return [name for name in how.names if name not in there]


def _prompt(view: View, how: Asking, last: str | None) -> Prompt | None:
    """Photos, question and context as a primitive shows them, then what can be chosen; None where nothing
    can."""
    left = _left_of(view, how)
    if not left:
        return None
    photos = [ImageSegment(image.pixels, f"photo {i + 1}") for i, image in enumerate(view.images)]
    words = [TextSegment(escape(text)) for text in (view.question, view.prompt) if text is not None]
    lines = "\n".join(line for name, line in zip(how.names, how.described, strict=True) if name in left)
    told = how.told.replace("{actions}", lines)
    if last is not None:
        told += "\n\n" + how.again.replace("{reply}", repr(escape(last[:QUOTED])))
    return Prompt((*photos, *words, *view.segments()), instruction=told, writes="call")
