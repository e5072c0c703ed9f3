"""The graph planner: calls wait only for those that write what they read."""

import pytest

from planners.graph import GraphPlanner
from unroller import CameraPose, DepthMap, Executor, Problem, Text, Value, decoder, primitive


def made(name, reads=(), writes=Text, **options):
    return primitive(reads=reads, writes=writes, name=name, **options)(
        lambda view: CameraPose((1, 0, 0), (0, 0, 0)) if writes is CameraPose else Text(name)
    )


@decoder(task="words", writes=Text)
def words(view):
    return Text(" ".join(t.text for t in view.all(Text)) or "nothing")


def executor(planner, *primitives):
    return Executor(backend=[], primitives=primitives, decoders=[words], planner=planner)


def layers(planner, *primitives):
    ex = executor(planner, *primitives)
    plan = planner.plan(Problem(task="words", question="?"), ex.actions)
    return [[str(call) for call in layer] for layer in plan.layers()]


def test_what_does_not_need_anothers_result_runs_beside_it():
    parts = [
        made("pose", ("question",), CameraPose),
        made("caption", ("question",)),
        made("motion", (CameraPose,)),
        made("summary", (Text,)),
    ]
    planner = GraphPlanner([p.name for p in parts])
    assert layers(planner, *parts) == [["pose", "caption"], ["motion"], ["summary"]]
    run = executor(planner, *parts).run(Problem(task="words", question="?"))
    assert [[str(c) for c in d.calls] for d in run.decisions] == [
        ["pose", "caption"],
        ["motion"],
        ["summary"],
    ]
    assert run.output == Text("caption motion summary")


def test_a_call_waits_only_for_those_before_it_in_the_list():
    reader, writer = made("reader", (Text,)), made("writer")
    assert layers(GraphPlanner(["reader", "writer"]), reader, writer) == [["reader", "writer"]]
    assert layers(GraphPlanner(["writer", "reader"]), reader, writer) == [["writer"], ["reader"]]


def test_a_base_type_that_is_read_waits_for_all_its_kinds():
    assert layers(
        GraphPlanner(["pose", "note", "all"]),
        made("pose", (), CameraPose),
        made("note"),
        made("all", (Value,)),
    ) == [["pose", "note"], ["all"]]


def test_actions_that_cannot_be_carried_out_or_do_not_apply_are_left_out():
    needs = made("needs", needs=DepthMap)  # any type will do for a capability that nobody provides
    not_here = made("not_here", applies=lambda x: "needs a photo")
    assert layers(GraphPlanner(["needs", "not_here", "a", "unknown"]), needs, not_here, made("a")) == [["a"]]


def test_it_plans_the_schedule_of_the_task_where_no_list_is_given():
    planner = GraphPlanner(schedules={"words": [["needs"], ["b", "a"]]})
    assert layers(planner, made("needs", needs=DepthMap), made("a"), made("b")) == [["b", "a"]]
    assert layers(GraphPlanner(schedules={}), made("a")) == []


def test_a_call_that_failed_takes_with_it_only_what_needed_it():
    broken = primitive(reads=(), writes=CameraPose, name="pose")(lambda view: 1 / 0)
    parts = [broken, made("motion", (CameraPose,)), made("caption")]
    run = executor(GraphPlanner(["pose", "motion", "caption"]), *parts).run(
        Problem(task="words", question="?")
    )
    assert run.output == Text("caption") and [f.action for f in run.faults] == ["pose"]


@pytest.mark.parametrize("name", ["graph"])
def test_it_is_registered_by_name(name):
    assert executor(name).policy_name == "graph"
