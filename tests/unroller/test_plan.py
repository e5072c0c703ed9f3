"""Plans: a graph of calls, laid out before the first call and carried out side by side."""

import pytest

from unroller import Call, Executor, Problem, Text, decoder, primitive
from unroller.faults import PlanError
from unroller.plan import Plan


def writes(name, fails=False):
    def function(view):
        if fails:
            raise ValueError(f"{name} is broken")
        return Text(name)

    return primitive(reads=("question", Text), writes=Text, name=name)(function)


@decoder(task="words", writes=Text)
def words(view):
    return Text(" ".join(text.text for text in view.all(Text)))


class Planned:
    """A planner that has one plan."""

    name = "planned"

    def __init__(self, plan):
        self.laid_out = plan
        self.asked = 0

    def plan(self, problem, actions):
        self.asked += 1
        return self.laid_out


def ran(plan, *primitives):
    ex = Executor(backend=[], primitives=primitives, decoders=[words], planner=Planned(plan))
    return ex.run(Problem(task="words", question="?"))


def layers(plan):
    return [[str(call) for call in layer] for layer in plan.layers()]


def test_calls_whose_predecessors_are_done_run_side_by_side():
    plan = Plan("abcd", [("a", "c"), ("b", "c"), ("c", "d")])
    assert layers(plan) == [["a", "b"], ["c"], ["d"]]
    run = ran(plan, *map(writes, "abcd"))
    assert [[str(c) for c in d.calls] for d in run.decisions] == [["a", "b"], ["c"], ["d"]]
    assert run.output == Text("a b c d")
    assert [e.step for e in run.entries] == [0, 0, 1, 2]


def test_a_chain_is_one_call_after_the_other():
    plan = Plan.chain(["a", "b", "c"])
    assert layers(plan) == [["a"], ["b"], ["c"]]
    assert [str(call) for call in plan.calls] == ["a", "b", "c"]
    assert ran(plan, *map(writes, "abc")).output == Text("a b c")


def test_an_edge_alone_names_its_calls():
    assert layers(Plan(edges=[("a", "b")])) == [["a"], ["b"]]


def test_the_calls_of_a_plan_come_each_after_those_it_waits_for():
    assert [str(call) for call in Plan("zab", [("z", "a")]).calls] == ["b", "z", "a"]


def test_a_plan_that_goes_round_in_a_circle_is_refused():
    with pytest.raises(PlanError, match="goes round in a circle: .*a.* →"):
        Plan("abc", [("a", "b"), ("b", "c"), ("c", "a")])


def test_a_call_whose_predecessor_failed_is_left_out_and_the_rest_goes_on():
    plan = Plan("abcd", [("a", "b"), ("b", "c")])
    run = ran(plan, writes("a", fails=True), *map(writes, "bcd"))
    assert [e.action for e in run.entries] == ["d"]
    assert [f.action for f in run.faults] == ["a"]
    assert run.output == Text("d")


def test_an_empty_plan_decodes_directly():
    assert ran(Plan(), writes("a")).entries == []


def test_a_plan_may_draw_several_samples_of_one_action():
    run = ran(Plan([Call("a", draw=n) for n in range(3)]), writes("a"))
    assert [e.draw for e in run.entries] == [0, 1, 2] and len(run.decisions) == 1


def test_a_plan_may_hold_calls_with_parameters():
    from pydantic import BaseModel

    class Which(BaseModel):
        photo: int = 0

    @primitive(reads=(), writes=Text, parameters=Which)
    def look(view):
        return Text(f"photo {view.parameters.photo}")

    run = ran(Plan([Call("look", {"photo": 1}), Call("look", {"photo": 2})]), look)
    assert run.output == Text("photo 1 photo 2")


def test_a_plan_is_made_once_a_problem():
    planner = Planned(Plan.chain("ab"))
    ex = Executor(backend=[], primitives=map(writes, "ab"), decoders=[words], planner=planner)
    list(ex.map([Problem(task="words", question=q) for q in ("x", "y", "x")]))
    assert planner.asked == 2


@pytest.mark.parametrize("planner", [object(), 3, lambda problem: Plan()])
def test_what_is_no_planner_is_refused(planner):
    with pytest.raises(PlanError, match="it has no plan"):
        Executor(backend=[], primitives=[], decoders=[words], planner=planner)


def test_a_planner_that_returns_no_plan_is_a_fault():
    run = ran(["a"], writes("a"))
    assert run.faults[0].kind == "PlanError" and "returned list, not a Plan" in run.faults[0].message
