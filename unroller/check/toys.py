"""Toy primitives, decoders and probes, for runs in which only a policy or planner is on trial.

The toys bear the names, presets and costs of the registered primitives (and of those that are given), so
that a policy that knows names finds them; what they write is an example of the type they declare.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from xxhash import xxh3_64_intdigest

from unroller.check.samples import NoExample, example, good_problems
from unroller.cost import Cost
from unroller.declare import Decoder, Primitive, Probe, View
from unroller.faults import InputError
from unroller.problem import Problem
from unroller.registry import load_all, registered
from unroller.values import Answer, Text

STEPS = 64
"""A policy that has not stopped by then never will."""


def toy_primitives(given: Sequence[Primitive] = ()) -> list[Primitive]:
    """Primitives with the names, presets and costs of those that are given and registered."""
    models: dict[str, Primitive | None] = dict.fromkeys(registered("primitives"))
    models |= {name: p for name, p in load_all("primitives")[0].items() if isinstance(p, Primitive)}
    models |= {p.name: p for p in given}
    if not models:
        models = dict.fromkeys(("look_around", "think"))
    return [_toy(name, model) for name, model in models.items()]


def _toy(name: str, model: Primitive | None) -> Primitive:
    kind: Any = Text if model is None else model.writes
    held: dict[str, Any] = {"reads": (), "cost": Cost(model_calls=1)}
    if model is not None:
        held = {what: getattr(model, what) for what in ("presets", "parameters", "cost", "applies")}
        held["reads"] = (*model.fields, *model.kinds)

    def toy(view: View) -> Any:
        try:
            return example(kind)
        except NoExample as error:
            raise InputError(str(error)) from None

    return Primitive(toy, name=name, writes=kind, version="toy", **held)


def toy_decoders(problems: Iterable[Problem]) -> list[Decoder]:
    """Decoders of the problems' tasks that answer at once."""

    def answer(view: View) -> Answer:
        return Answer("left")

    return [
        Decoder(answer, task=task, name=f"toy_{task}", writes=Answer, reads=(), version="toy")
        for task in dict.fromkeys(problem.task for problem in problems)
    ]


def task_problems(given: Iterable[Problem] | None) -> list[Problem]:
    """Two problems of every registered task, in two sizes and with two seeds."""
    if given is not None:
        return list(given)
    tasks = dict.fromkeys((*registered("decoders"), "spatial"))
    return [problem for task in tasks for problem in good_problems(task)[:2]]


def toy_probe(name: str) -> Probe:
    """A probe of this name that measures something: 0 to 1, by the question."""

    def toy(view: View) -> float:
        return xxh3_64_intdigest(str(view.question).encode()) / 2**64

    return Probe(toy, name=name, reads=("question",), writes=float, version="toy")
