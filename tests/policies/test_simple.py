"""Policies that look at no model: direct, everything once, and how sure each of them is."""

import numpy as np
import pytest

from policies.random import RandomPolicy
from policies.schedules import AllPrimitives, DirectPolicy, SchedulePolicy, direct, schedule
from unroller import Decision, DepthMap, Executor, Problem, Text, decoder, primitive
from unroller.capabilities import TextGenerator
from unroller.check import check
from unroller.cost import Cost


def says(name, **declared):
    declared = {"reads": ("question", Text), "writes": Text} | declared
    return primitive(name=name, **declared)(lambda view: Text(name))


@decoder(task="words", writes=Text, reads=(Text,))
def words(view):
    return Text(" ".join(t.text for t in view.all(Text)) or "nothing")


def ran(policy, *primitives, **options):
    ex = Executor(backend=[], primitives=primitives, decoders=[words], policy=policy, **options)
    return ex.run(Problem(task="words", question="?"))


def test_direct_stops_at_once_and_is_certain_of_it():
    run = ran(DirectPolicy(), says("look"))
    assert run.output == Text("nothing")
    assert [e.log_probability for e in run.events if isinstance(e, Decision)] == [0.0]


def test_all_calls_every_applicable_primitive_once_in_the_executors_order_and_then_stops():
    def other_task(problem):
        return "needs a photo"

    run = ran(
        AllPrimitives(),
        says("walk"),
        says("compare", applies=other_task),
        says("look"),
        says("oracle_text"),
        says("think"),
    )
    assert run.output == Text("walk look think") and not run.faults
    assert all(decision.log_probability == 0.0 for decision in run.decisions)


def test_all_passes_over_what_fails_and_what_the_budget_does_not_afford():
    broken = primitive(reads=(), writes=Text, name="look")(lambda view: 1 / 0)
    dear, cheap = says("dear", cost=Cost(model_calls=5)), says("cheap", cost=Cost(model_calls=1))
    run = ran(AllPrimitives(), broken, dear, cheap, budget={"model_calls": 3})
    assert run.output == Text("cheap") and [f.kind for f in run.faults] == ["ZeroDivisionError"]


def test_all_calls_a_primitive_with_presets_once_as_its_plain_self():
    from pydantic import BaseModel

    class Length(BaseModel):
        words: int = 1

    long = says("think", parameters=Length, presets={"long": {"words": 9}})
    assert ran(AllPrimitives(), long).output == Text("think")


def test_oracles_are_called_only_by_who_asks_for_them():
    assert ran(AllPrimitives(without=()), says("oracle_text")).output == Text("oracle_text")
    assert ran(AllPrimitives(without="look*"), says("look"), says("think")).output == Text("think")
    names = {str(call) for seed in range(20) for call in calls(RandomPolicy(0.1, seed), says("oracle_pose"))}
    assert names == set()


def test_what_a_unified_model_could_not_read_is_passed_over():
    class Unified:
        name, fingerprint, max_batch, provides, unified = "unified", "unified-1", 8, (TextGenerator,), True

    asks = primitive(reads=("question",), writes=Text, name="asks", needs=TextGenerator)(
        lambda view, writer: Text("asked")
    )
    for backend, expected in ([Unified()], "asked"), ([], "stranger"):
        ex = Executor(
            backend=backend, primitives=[says("stranger"), asks], decoders=[words], policy=AllPrimitives()
        )
        assert ex.run(Problem(task="words", question="?")).output == Text(expected)


def test_what_a_unified_model_writes_for_others_is_passed_over():
    class Unified:
        name, fingerprint, max_batch, provides, unified = "unified", "unified-1", 8, (TextGenerator,), True
        unreadable = (DepthMap,)

    class Stranger(Unified):
        name, unified = "stranger", False

    def made(name, writes, value):
        asks = {"reads": ("question",), "needs": TextGenerator}
        return primitive(name=name, writes=writes, **asks)(lambda view, model: value)

    measure, think = made("measure", DepthMap, DepthMap(np.ones((2, 2)))), made("think", Text, Text("so"))
    for backend, expected in ([Unified()], ["think"]), ([], ["measure", "think"]):
        ex = Executor(
            backend=backend or [Stranger()],
            primitives=[measure, think],
            decoders=[words],
            policy=AllPrimitives(),
        )
        run = ex.run(Problem(task="words", question="?"))
        assert [call.action for decision in run.decisions for call in decision.calls] == expected


def calls(policy, *primitives):
    return [call for decision in ran(policy, *primitives).decisions for call in decision.calls]


def test_a_schedule_is_certain_of_what_it_does():
    run = ran(SchedulePolicy({"words": [["look"]]}), says("look"))
    assert [e.log_probability for e in run.events if isinstance(e, Decision)] == [0.0, 0.0]


@pytest.mark.parametrize("policy", [direct, schedule, AllPrimitives(), RandomPolicy(0.3)])
def test_each_passes_the_checks_for_policies(policy):
    assert check(policy).ok, check(policy)


def test_the_logarithm_of_randoms_probabilities_is_exact():
    run = ran(RandomPolicy(0.5, seed=1), says("look"), says("think"))
    said = [e.log_probability for e in run.events if isinstance(e, Decision)]
    assert set(np.round(np.exp(said), 12)) <= {0.5, 0.25, 1.0}


def test_the_package_names_its_policies_and_loads_no_network_for_a_schedule():
    import subprocess
    import sys

    import policies

    assert all(getattr(policies, name) for name in policies.__all__)
    code = (
        "import policies, sys; policies.SchedulePolicy, policies.LearnedPolicy; print('torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
