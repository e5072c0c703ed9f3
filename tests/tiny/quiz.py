"""A quiz whose best unrolling can be worked out by hand, for agents that call primitives as tools.

    hint      says the answer; one call            sketch   draws a small picture, grey or, of b, white; free
    mumble    says nothing of use; one call        dice     says a choice by chance, anew in every draw
    stumble   fails, and charges for it            view     has two presets, and says which was taken

The answer gives 0.9 to the choice that was said last, and 0.5 to each where none was.
"""

import numpy as np
from pydantic import BaseModel

from unroller import Answer, Cost, Executor, Image, Problem, Text, decoder, primitive
from unroller.faults import InputError

CHOICES = ("a", "b")
CALL = Cost(model_calls=1)


@primitive(reads=("metadata",), writes=Text, cost=CALL)
def hint(view):
    """Say what the answer is."""
    return Text(view.metadata["truth"]["answer"], kind="hint")


@primitive(reads=("question",), writes=Text, cost=CALL)
def mumble(view):
    """Say nothing of use."""
    return Text("hm", kind="hint")


@primitive(reads=("metadata",), writes=Image)
def sketch(view):
    """Draw the answer: a is grey, b is white."""
    shade = 128 if view.metadata["truth"]["answer"] == "a" else 255
    return Image(np.full((16, 16, 3), shade, np.uint8))


@primitive(reads=("question",), writes=Text, stochastic=True, cost=CALL)
def dice(view):
    """Say one of the choices, by chance."""
    return Text(CHOICES[int(view.rng.integers(2))], kind="hint")


@primitive(reads=("question",), writes=Text, cost=Cost(model_calls=2))
def stumble(view):
    """Try something that cannot be done."""
    view.charge(model_calls=2)
    raise InputError("fell over a < b")


class Side(BaseModel):
    side: str = "front"


@primitive(reads=("question",), writes=Text, parameters=Side, presets={"left": {"side": "left"}})
def view(view):
    """Look at it from a side."""
    return Text(f"seen from the {view.parameters.side}", kind="hint")


@decoder(task="quiz", reads=("choices", Text), writes=Answer, cost=CALL)
def quiz(view):
    said = [text.text for text in view.all(Text) if text.text in view.choices]
    p = tuple(0.9 if c == said[-1] else 0.1 for c in view.choices) if said else (0.5, 0.5)
    which = p.index(max(p))
    return Answer(view.choices[which], view.choices, which, p)


def problems(n=4):
    return [
        Problem(
            task="quiz",
            question=f"a or b, {i}?",
            choices=CHOICES,
            metadata={"truth": {"answer": CHOICES[i % 2]}},
        )
        for i in range(n)
    ]


def executor(*primitives, **options):
    return Executor(backend=[], primitives=primitives, decoders=[quiz], policy=[], **options)
