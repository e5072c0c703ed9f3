"""What the tests of trees use: questions whose best schedule can be worked out by hand.

    hint      right for problems of even number, wrong for the others; 5 tokens
    picture   a depth map: the answer becomes a little surer
    dice      a coin that falls anew in every draw: heads, and the answer is right
    stumble   fails on every third problem, after charging for it
    mumble    works only on problems that have a hint in their context; needs no model
    grey      does not apply to problems of number 5

What is really computed is noted in the file $TOYS_COMPUTED, one line a call, and takes $TOYS_SLOW seconds.
"""

import math
import os
import time

import numpy as np

from planners import tree
from unroller import Answer, Cost, DepthMap, Executor, Problem, Text, decoder, primitive, probe
from unroller.faults import InputError

CHOICES = ("a", "b")
ACTIONS = ["hint", "picture", "dice", "stumble"]
N = 12


def computed(view, name):
    path = os.environ.get("TOYS_COMPUTED")
    if path:
        with open(path, "a") as file:
            file.write(f"{name} {view._id.hex()}\n")
    time.sleep(float(os.environ.get("TOYS_SLOW", "0")))


@primitive(reads=("metadata",), writes=Text, cost=Cost(model_calls=1, tokens=9))
def hint(view):
    """Say what the answer may be."""
    computed(view, "hint")
    view.charge(model_calls=1, tokens=5)
    true = view.metadata["truth"]["answer"]
    return Text(true if view.metadata["number"] % 2 == 0 else "ab".replace(true, ""), kind="hint")


@primitive(reads=("question",), writes=DepthMap, cost=Cost(price=0.25))
def picture(view):
    """Draw how far everything is."""
    computed(view, "picture")
    return DepthMap(np.full((16, 16), 2.0, np.float32))


@primitive(reads=("metadata", Text), writes=Text, stochastic=True, cost=Cost(model_calls=1), max_batch=4)
def dice(view):
    """Throw a coin."""
    computed(view, "dice")
    heads = view.rng.random() < 0.5
    return Text(view.metadata["truth"]["answer"] if heads else "hm", kind="dice")


@primitive(reads=("metadata",), writes=Text, cost=Cost(model_calls=2))
def stumble(view):
    """Sometimes fall over."""
    computed(view, "stumble")
    view.charge(model_calls=1)
    if view.metadata["number"] % 3 == 0:
        raise InputError("fell over")
    return Text("hm", kind="stumble")


@primitive(reads=(Text,), writes=Text)
def mumble(view):
    """Say the hint again."""
    if not any(text.kind == "hint" for text in view.all(Text)):
        raise InputError("call hint first")
    return Text("hm", kind="mumble")


def not_five(problem):
    return "number 5 is not grey" if problem.metadata["number"] == 5 else None


@primitive(reads=("question",), writes=Text, applies=not_five)
def grey(view):
    return Text("hm", kind="grey")


@primitive(reads=("question",), writes=Text)
def never(view):
    """Works on nothing."""
    raise InputError("no")


def answered(view):
    """(0.6, 0.4) for the first choice, 0.9 for what was said last, a little more with a picture."""
    said = [text.text for text in view.all(Text) if text.text in view.choices]
    i = view.choices.index(said[-1]) if said else 0
    p = (0.9 if said else 0.6) + (0.05 if view.all(DepthMap) else 0.0)
    return i, (p, 1 - p) if i == 0 else (1 - p, p)


@decoder(task="quiz", reads=("choices", Text, DepthMap), writes=Answer, cost=Cost(model_calls=1))
def quiz(view):
    computed(view, "quiz")
    i, p = answered(view)
    return Answer(view.choices[i], view.choices, i, p)


@probe(reads=("choices", Text, DepthMap), cost=Cost(model_calls=1))
def sureness(view):
    """The probability of the answer that would be given now."""
    return max(answered(view)[1])


@probe(reads=("choices", Text, DepthMap), cost=Cost(model_calls=1))
def answer_entropy(view):
    """Entropy, in nats, of the answer that would be given now."""
    return -sum(p * math.log(p) for p in answered(view)[1])


@probe(reads=("metadata",), writes=np.ndarray)
def kind_of(view):
    """Which kind of problem it is, of two."""
    return np.eye(2, dtype=np.float32)[view.metadata["number"] % 2]


@probe(reads=(Text,), writes=np.ndarray)
def words_said(view):
    """How often each choice was said."""
    said = [text.text for text in view.all(Text)]
    return np.array([said.count(c) for c in CHOICES], np.float32)


def questions(seed, task="quiz"):
    """Question number `seed`: the answer is b every other time of those with an even number, and so on."""
    true = CHOICES[seed // 2 % 2]
    held = {"number": seed, "level": seed % 2, "truth": {"answer": true}}
    return Problem(task=task, question=f"a or b, {seed}?", choices=CHOICES, metadata=held)


PROBES = [sureness, kind_of, words_said]
PARTS = [hint, picture, dice, stumble, mumble, grey, never]


def executor(**options):
    return Executor(backend=[], primitives=PARTS, decoders=[quiz], policy=[], **options)


def problems(n=N):
    return [questions(i) for i in range(n)]


def built(folder, n=N, ex=None, **options):
    options = {"actions": ACTIONS, "depth": 2, "draws": 2, "probes": PROBES} | options
    tree.build(ex or executor(), problems(n), folder, **options)
    return tree.load(folder)
