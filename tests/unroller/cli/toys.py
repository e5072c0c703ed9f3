"""A user's own module, as `--use` takes it: everything is small, and nothing needs a model."""

import time

from unroller import STOP, Answer, CameraPose, Cost, Image, Problem, Text, decoder, policy, primitive
from unroller.faults import InputError


@primitive(reads=("question",), writes=Text)
def think(view):
    """Thinks about the question."""
    return Text(f"thought about {view.question}")


@primitive(reads=("question",), writes=Text, stochastic=True)
def nap(view):
    """Takes long enough to be interrupted in."""
    time.sleep(0.6)
    return Text("slept")


@primitive(reads=("question",), writes=Text)
def stumble(view):
    raise InputError("the photos show [red]nothing[/red] \x1b[31mat all")


@primitive(reads=("question",), writes=Text)
def talk(view):
    """Prints where results belong, as debugging leaves behind."""
    print("talking")
    return Text("talked")


@decoder(task="riddle", reads=("question", "choices", Text), writes=Answer, cost=Cost(model_calls=1))
def riddle(view):
    if not view.choices:
        return Answer("42")
    rest = 0.3 / max(1, len(view.choices) - 1)
    p = (0.7, *[rest] * (len(view.choices) - 1)) if len(view.choices) > 1 else (1.0,)
    return Answer(view.choices[0], view.choices, 0, p)


@decoder(task="hopeless", reads=("question",), writes=Answer)
def hopeless(view):
    raise InputError("nobody knows")


@decoder(task="whereabouts", reads=("images",), writes=CameraPose)
def whereabouts(view):
    return CameraPose((1.0, 0.0, 0.0), (0.0, 0.1, 0.0), "unit", inliers=90, matches=100)


@decoder(task="echo", reads=("images",), writes=Image)
def echo(view):
    return view.images[0]


@policy
def think_once(state):
    return "think" if state.step == 0 else STOP


@policy
def brood(state):
    return ["think", ("stumble", "think"), "unheard_of", STOP][min(state.step, 3)]


class Nonsense:
    name = "nonsense"

    def decide(self, states):
        return [3.14 for _ in states]


def corridor(seed, task="whereabouts", broken=False, answer=None):
    """A problem set: two grey pictures, the true pose, and a true answer if one is wanted."""
    import numpy as np

    if broken:
        return "no problem at all"
    grey = np.full((8, 8, 3), seed, np.uint8)
    truth = {"truth": {"pose": [2.0, 0.0, 0.0, 0.0, 0.1, 0.0]}}
    if answer is not None:
        truth["truth"]["answer"] = str(answer)
    return Problem(task=task, images=(grey, grey + 1), question="Where?", metadata=truth)


def slow(seed):
    """A problem set that takes its time."""
    time.sleep(0.3)
    return corridor(seed)
