"""Unrollings that are decided from outside: the same as a run, one decision at a time, from any place."""

import numpy as np
import pytest

from unroller import STOP, Executor, Problem, Text, decoder, primitive, probe
from unroller.cost import Cost
from unroller.faults import BudgetError, InputError, PolicyError
from unroller.run import Run
from unroller.stepping import Stepping

BATCHES = []


def says(name, **declared):
    declared = {"reads": ("question", Text), "writes": Text, "batched": True} | declared

    def function(views):
        BATCHES.append((name, len(views)))
        return [Text(f"{name} after {len(view.all(Text))}") for view in views]

    return primitive(name=name, **declared)(function)


@primitive(reads=(), writes=Text, cost=Cost(model_calls=1))
def broken(view):
    """Always fails, and says that it cost something."""
    view.charge(model_calls=1)
    raise InputError("no")


@decoder(task="words", writes=Text, reads=(Text,), cost=Cost(model_calls=1), batched=True)
def words(views):
    BATCHES.append(("words", len(views)))
    return [Text(" | ".join(text.text for text in view.all(Text))) for view in views]


@probe(reads=(Text,), cost=Cost(tokens=2))
def spoken(view):
    return float(len(view.all(Text)))


@probe(reads=("question",), writes=np.ndarray, cost=Cost(tokens=10))
def letters(view):
    return np.array([len(view.question)], np.float32)


def executor(**options):
    primitives = [says("look", cost=Cost(model_calls=1)), says("think", cost=Cost(model_calls=2)), broken]
    return Executor(backend=[], primitives=primitives, decoders=[words], policy=[], **options)


def question(text="where?"):
    return Problem(task="words", question=text)


def stepped(steps, problem, *calls):
    """The run, and the states on the way to it."""
    (here,) = steps.begin([problem])
    states = [here.state]
    for call in calls:
        (here,) = steps.go_on([here], [call])
        states.append(here.state)
    (run,) = steps.go_on([here], [STOP])
    return run, states


class Watching:
    """Makes fixed calls and keeps the states that it saw."""

    def __init__(self, *calls, probes=()):
        self.calls, self.probes, self.states = calls, probes, []

    def decide(self, states):
        self.states += states
        return [self.calls[s.step] if s.step < len(self.calls) else STOP for s in states]


def shown(state):
    """All that a policy can read of a state."""
    probes = dict(vars(state.probe)) if isinstance(vars(state.probe), dict) else None
    return (
        [(entry.id, entry.action, entry.step, entry.cost) for entry in state.workspace],
        state.step,
        state.left,
        state.allowed,
        state.failed,
        [decision.calls for decision in state.decisions],
        probes,
    )


CALLED = [(), ("look",), ("look", "think"), ("broken", "look"), ("think", "nothing")]


@pytest.mark.parametrize("calls", CALLED)
@pytest.mark.parametrize("probes", [(), (spoken, letters)], ids=["blind", "probing"])
@pytest.mark.parametrize("budget", [None, {"model_calls": 4, "tokens": 100}])
def test_what_is_stepped_through_is_what_a_policy_would_have_lived(calls, probes, budget):
    watching = Watching(*calls, probes=probes)
    lived = executor(budget=budget).extend(policy=watching).run(question())
    run, states = stepped(Stepping(executor(budget=budget), probes), question(), *calls)
    assert [shown(state) for state in states] == [shown(state) for state in watching.states]
    assert run.output == lived.output and run.cost == lived.cost
    assert [(f.action, f.kind, f.charged) for f in run.faults] == [
        (f.action, f.kind, f.charged) for f in lived.faults
    ]
    assert [m.name for m in run.measured] == [m.name for m in lived.measured]


def test_a_place_can_be_gone_on_from_again_and_again():
    steps = Stepping(executor())
    (here,) = steps.begin([question()])
    runs = []
    for call in ("look", "think"):
        (there,) = steps.go_on([here], [call])
        runs += steps.go_on([there, here], [STOP, STOP])
    assert [run.output.text for run in runs] == ["look after 0", "", "think after 0", ""]
    assert here.state.step == 0 and not here.state.decisions and here.cost == Cost()


def test_those_that_do_the_same_share_a_batch_and_calls_and_answers_go_together():
    steps = Stepping(executor(memo=None))
    heres = steps.begin([question(f"{i}?") for i in range(5)])
    BATCHES.clear()
    found = steps.go_on(heres, ["look", STOP, "look", "think", STOP])
    assert sorted(BATCHES) == [("look", 2), ("think", 1), ("words", 2)]
    assert [isinstance(one, Run) for one in found] == [False, True, False, False, True]


def test_nothing_is_answered_unless_it_is_asked_for():
    steps = Stepping(executor())
    BATCHES.clear()
    steps.go_on(steps.begin([question()]), ["look"])
    assert BATCHES == [("look", 1)]


def test_what_the_memo_knows_is_not_computed_again():
    ex = executor()
    stepped(Stepping(ex), question(), "look")
    BATCHES.clear()
    run, _ = stepped(Stepping(ex), question(), "look")
    assert BATCHES == [] and run.spent.computed == 0 and run.cost == Cost(model_calls=2)


def test_where_the_steps_are_gone_nothing_is_allowed_and_nothing_measured():
    ex = executor(budget={"steps": 1})
    steps = Stepping(ex, [spoken])
    (here,) = steps.go_on(steps.begin([question()]), ["look"])
    assert here.state.allowed == () and here.state.left.steps == 0 and here.state.probe.spoken is None
    (run,) = steps.go_on([here], [STOP])
    assert run.cost == ex.extend(policy=Watching("look", probes=[spoken])).run(question()).cost


def test_what_cannot_be_stepped_is_refused_in_words():
    with pytest.raises(BudgetError, match="no clock"):
        Stepping(executor(budget={"seconds": 3}))
    steps = Stepping(executor())
    with pytest.raises(PolicyError, match="one each"):
        steps.go_on(steps.begin([question()]), [])
    with pytest.raises(PolicyError, match="a policy decided 7"):
        steps.go_on(steps.begin([question()]), [7])
