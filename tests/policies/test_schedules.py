"""Fixed schedules: a list of actions for each task, and what runs where a backend is missing."""

import pytest

from policies.schedules import GEOMETRY, MEASURED, PAPER, SchedulePolicy, direct, paper, schedule
from unroller import Executor, Problem, Text, decoder, primitive


class Talker:
    """A backend of nothing but its name, for a capability that the tests invent."""

    name, fingerprint, max_batch = "talker", "talker-1", 8

    def __init__(self, *provides):
        self.provides = provides


class Talking:
    """A capability."""


class Looking:
    """Another capability."""


def says(name, needs=()):
    return primitive(reads=("question", Text), writes=Text, name=name, needs=needs)(
        lambda view, *providers: Text(name)
    )


def ran(policy, task, *primitives, backend=()):
    answer = decoder(task=task, writes=Text, name="answer")(
        lambda view: Text(" ".join(t.text for t in view.all(Text)) or "nothing")
    )
    ex = Executor(backend=list(backend), primitives=primitives, decoders=[answer], policy=policy)
    return ex.run(Problem(task=task, question="?"))


def test_a_schedule_is_carried_out_one_action_a_step_and_then_decodes():
    policy = SchedulePolicy({"spatial": [["look", "think"]]})
    run = ran(policy, "spatial", says("look"), says("think"))
    assert run.output == Text("look think") and [e.step for e in run.entries] == [0, 1]


def test_a_task_without_a_schedule_is_decoded_directly():
    assert ran(SchedulePolicy({}), "my_task", says("look")).output == Text("nothing")
    assert ran(schedule, "my_task").output == Text("nothing")


def test_of_several_lists_the_first_runs_that_the_backends_can_carry_out():
    policy = SchedulePolicy({"spatial": [["talk", "look"], ["look"], ["sleep"]]})
    parts = [says("talk", Talking), says("look", Looking), says("sleep")]
    both, only_looks, none = [Talker(Talking, Looking)], [Talker(Looking)], []
    assert ran(policy, "spatial", *parts, backend=both).output == Text("talk look")
    assert ran(policy, "spatial", *parts, backend=only_looks).output == Text("look")
    assert ran(policy, "spatial", *parts, backend=none).output == Text("sleep")


def test_where_no_list_can_be_carried_out_the_last_is_refused_on_the_record():
    policy = SchedulePolicy({"spatial": [["talk"], ["look", "walk"]]})
    run = ran(policy, "spatial", says("talk", Talking), says("look", Looking))
    assert [f.action for f in run.faults] == ["look"], "walk is not registered at all, and left out"
    assert "needs Looking, which no chosen backend provides" in run.faults[0].message
    assert run.output == Text("nothing")


def test_a_list_whose_actions_do_not_apply_to_the_problem_is_passed_over():
    def applies(problem):
        return "needs two photos"

    compare = primitive(reads=(), writes=Text, name="compare", applies=applies)(lambda view: Text("c"))
    policy = SchedulePolicy({"spatial": [["compare"], []]})
    run = ran(policy, "spatial", compare)
    assert run.output == Text("nothing") and not run.faults


def test_an_action_that_fails_does_not_stop_the_schedule():
    broken = primitive(reads=(), writes=Text, name="look")(lambda view: 1 / 0)
    run = ran(SchedulePolicy({"spatial": [["look", "think"]]}), "spatial", broken, says("think"))
    assert [f.kind for f in run.faults] == ["ZeroDivisionError"] and run.output == Text("think")


@pytest.mark.parametrize("task", ["understanding", "generation", "spatial", "depth"])
def test_the_papers_schedules_are_those_of_its_section_2(task):
    expected = {
        "understanding": ["text_think"],
        "generation": ["text_think_long", "visual_token_rollout"],
        "spatial": ["camera_pose_estimate", "novel_view_synthesis", "text_think"],
        "depth": ["depth_caption", "visual_token_rollout"],
    }
    assert list(PAPER[task][0]) == expected[task]
    assert paper.schedules is PAPER and direct.decisions == ()


def test_the_default_schedule_prefers_what_was_measured_then_the_paper_then_geometry():
    assert schedule.schedules["depth"] == [*MEASURED["depth"], *PAPER["depth"]]
    assert schedule.schedules["novel_view"] == GEOMETRY["novel_view"]
    assert schedule.schedules["spatial"] == [*MEASURED["spatial"], *PAPER["spatial"]]
    assert set(schedule.schedules) == set(PAPER) | set(MEASURED) | set(GEOMETRY)
