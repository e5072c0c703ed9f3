"""What the tests of `unroller ablate` use: questions about a number, hints, and ways to go wrong."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from unroller import STOP, Answer, Cost, Problem, Text, decoder, policy, primitive
from unroller.faults import InputError

CHOICES = ("a", "b")


@primitive(reads=("metadata",), writes=Text, cost=Cost(model_calls=1, tokens=5))
def hint(view):
    """Knows the answer to eight questions in ten."""
    print("hinting")
    true = view.metadata["truth"]["answer"]
    return Text(true if view.metadata["number"] % 10 < 8 else "ab".replace(true, ""))


@primitive(reads=("metadata", Text), writes=Text)
def mumble(view):
    return Text("hm")


@primitive(reads=("metadata",), writes=Text)
def stumble(view):
    raise InputError("nothing [red]to see\x1b[31m here")


@primitive(reads=("metadata",), writes=Text)
def interrupted(view):
    """As if somebody pressed Ctrl-C, once the fifth problem is reached and a file says so."""
    if view.metadata["number"] == 4 and Path("interrupt").exists():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    return Text("hm")


@decoder(task="quiz", reads=("choices", Text), writes=Answer, cost=Cost(model_calls=1))
def quiz(view):
    said = [text.text for text in view.all(Text) if text.text in view.choices]
    i = view.choices.index(said[-1]) if said else 0
    return Answer(view.choices[i], view.choices, i, (0.8, 0.2) if i == 0 else (0.2, 0.8))


@policy
def hint_then_mumble(state):
    return ["hint", "mumble", STOP][state.step]


def questions(seed, task="quiz", levels=3):
    """A problem set: one by one."""
    held = {"number": seed, "hops": seed % levels + 1, "truth": {"answer": CHOICES[seed % 2]}}
    grey = np.full((4, 4, 3), seed % 256, np.uint8)
    return Problem(task=task, images=[grey], question="a or b?", choices=CHOICES, metadata=held)


def batches(seed, task="quiz"):
    """A problem set that offers many at once."""
    raise AssertionError("one by one, where many were to be had")


def _many(seeds, task="quiz", **options):
    Path("asked.txt").write_text(repr((list(seeds), options)))
    return [questions(seed, task, **options) for seed in seeds]


batches.many = _many


def short(seed):
    return questions(seed)


short.many = lambda seeds: [questions(seed) for seed in seeds[1:]]


def untrue(seed):
    """A problem set without truth."""
    return Problem(task="quiz", question="a or b?", choices=CHOICES, metadata={"number": seed})


def half(problem, output):
    """A scorer."""
    return 0.5


def nothing(problem, output):
    return float("nan")


def proposing(seed, task="quiz"):
    """A problem set that says what it is for, and what to measure."""
    return questions(seed, task)


proposing.tasks = ("quiz",)
proposing.rows = {"direct": (), "told": ("hint",), "unheard of": ("nobody",)}
proposing.column = "hops"
