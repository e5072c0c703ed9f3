"""The executor: one problem, many, as events, without blocking; forks, presets, trees, decoders."""

import asyncio
import threading
import time

import pytest
from pydantic import BaseModel

from unroller import (
    STOP,
    Answer,
    Call,
    CameraPose,
    Cost,
    Decision,
    Entry,
    Executor,
    Problem,
    Run,
    Text,
    decoder,
    policy,
    primitive,
    probe,
)
from unroller.events import Measured, Output
from unroller.faults import CallFailed, Fault, InputError, PluginError, ProblemError, UnknownName


class Words(BaseModel):
    count: int = 1


@primitive(reads=("question",), writes=Text, parameters=Words, presets={"long": {"count": 3}}, cost=Cost(1))
def think(view):
    return Text(" ".join([view.question] * view.parameters.count))


@primitive(reads=(Text,), writes=Text)
def again(view):
    newest = view.latest(Text)
    if newest is None:
        raise InputError("nothing to say again")
    return Text(newest.text + "!")


@primitive(reads=("metadata",), writes=CameraPose)
def ahead(view):
    return CameraPose((1, 0, 0), (0, 0, 0))


@decoder(task="words", writes=Text, cost=Cost(1))
def words(view):
    return Text(" | ".join(text.text for text in view.all(Text)) or "nothing")


@probe()
def how_many(view):
    return float(len(view.all(Text)))


def executor(policy=("think", "again"), **options):
    options = {"primitives": [think, again, ahead], "decoders": [words]} | options
    return Executor(backend=[], policy=list(policy) if isinstance(policy, tuple) else policy, **options)


def problem(question="a", **fields):
    return Problem(task="words", question=question, **fields)


# --------------------------------------------------------------------------------------------------- run


def test_a_run_holds_the_output_the_context_the_decisions_and_the_cost():
    run = executor().run(problem())
    assert run.output == Text("a | a!")
    assert [(e.action, e.value.text, e.step) for e in run.entries] == [("think", "a", 0), ("again", "a!", 1)]
    assert [str(call) for d in run.decisions for call in d.calls] == ["think", "again"]
    assert run.cost == Cost(model_calls=2) and run.spent.computed == 3
    assert run.faults == [] and run.measured == [] and run.seconds > 0
    assert repr(run) == "<run of words: think → again → a | a!>"


def test_events_tell_the_story_in_order():
    run = executor().run(problem())
    assert [type(e) for e in run.events] == [Decision, Entry, Decision, Entry, Decision, Output]
    assert run.events[-1].entry is run.output_entry


def test_no_context_at_all_is_a_run_too():
    run = executor(policy=()).run(problem())
    assert run.output == Text("nothing") and len(run.workspace) == 0 and run.cost == Cost(1)


def test_a_decoder_that_fails_leaves_a_run_without_output_and_the_reason():
    broken = decoder(task="words", writes=Text, name="words")(lambda view: 1 / 0)
    run = executor(decoders=[broken]).run(problem())
    assert run.output is None and run.output_words == "no output"
    assert [(f.action, f.phase, f.kind) for f in run.faults] == [("words", "decode", "ZeroDivisionError")]
    assert [e.action for e in run.entries] == ["think", "again"], "the context is kept"


def test_a_problem_that_its_decoder_cannot_take_is_refused_before_anything_is_called():
    needs_photo = decoder(task="words", writes=Text, applies=lambda x: "needs a photo", name="w")(
        lambda view: Text("")
    )
    with pytest.raises(ProblemError, match="words: needs a photo"):
        executor(decoders=[needs_photo]).run(problem())


def test_strict_raises_the_fault_in_place_of_recording_it():
    with pytest.raises(CallFailed, match="again: InputError: nothing to say again") as raised:
        executor(("again",), strict=True).run(problem())
    assert raised.value.fault.step == 0
    assert isinstance(raised.value.__cause__, InputError)


def test_side_by_side_calls_see_the_same_context_and_are_composed_in_plan_order():
    @primitive(reads=("metadata",), writes=Text)
    def first(view):
        time.sleep(0.01)
        return Text("first, though slower")

    @primitive(reads=(Text,), writes=Text)
    def second(view):
        return Text(f"saw {len(view.all(Text))}")

    for order in (["first", "second"], ["second", "first"]):
        run = executor([tuple(order)], primitives=[first, second]).run(problem())
        assert [e.action for e in run.entries] == order
        assert run.workspace.all(Text).count(Text("saw 0")) == 1


def test_a_call_that_fails_beside_others_costs_only_itself():
    run = executor([("think", "again", "ahead")]).run(problem())
    assert [e.action for e in run.entries] == ["think", "ahead"]
    assert [f.action for f in run.faults] == ["again"]


# --------------------------------------------------------------------------------------------------- map


def test_map_gives_runs_in_the_problems_order():
    runs = list(executor().map(problem(q) for q in "abcdef"))
    assert [r.output.text for r in runs] == [f"{q} | {q}!" for q in "abcdef"]


def test_map_unordered_gives_all_runs_as_they_end():
    @policy
    def by_name(state):
        return "think" if state.step < int(state.problem.question) else STOP

    ex = executor(by_name, window=4)
    runs = list(ex.map([problem(q) for q in "3102"], ordered=False))
    assert [r.problem.question for r in runs] == ["0", "1", "2", "3"]
    assert [r.problem.question for r in ex.map([problem(q) for q in "3102"])] == ["3", "1", "0", "2"]


def test_map_is_lazy_and_holds_no_more_than_its_window():
    taken = []

    def endless():
        n = 0
        while True:
            taken.append(n)
            yield problem(str(n))
            n += 1

    runs = executor(window=8).map(endless())
    first = [next(runs) for _ in range(20)]
    assert [r.output.text for r in first] == [f"{n} | {n}!" for n in range(20)]
    assert len(taken) <= 20 + 2 * 8


def test_map_of_nothing_is_nothing():
    assert list(executor().map([])) == [] and list(executor().map([], ordered=False)) == []


def test_an_error_in_the_iterable_is_raised_after_what_was_under_way():
    def broken():
        yield problem("a")
        yield problem("b")
        raise OSError("the disk with the problems is gone")

    kept = []
    with pytest.raises(OSError, match="with the problems"):
        for run in executor().map(broken()):
            kept.append(run.problem.question)
    assert kept == ["a", "b"]


def test_a_problem_of_an_unknown_task_is_raised_after_those_before_it():
    kept = []
    with pytest.raises(UnknownName, match="no decoder for the task 'wards'"):
        for run in executor().map([problem("a"), Problem(task="wards"), problem("c")]):
            kept.append(run.problem.question)
    assert kept == ["a"]


# ------------------------------------------------------------------------------------------------ stream


def test_a_stream_yields_what_happens_as_it_happens_and_last_the_run():
    @policy(probes=("how_many",))
    def two(state):
        return [("think", "again"), "again", STOP][state.step]

    stream = executor(two, probes=[how_many]).stream(problem())
    assert [type(event) for event in stream] == [
        *[Measured, Decision, Entry, Fault],
        *[Measured, Decision, Fault],
        *[Measured, Decision],
        *[Output, Run],
    ]


def test_a_decision_is_heard_of_before_its_calls_are_made():
    made = []
    slow = primitive(reads=(), writes=Text, name="slow")(lambda view: made.append(1) or Text("done"))
    stream = executor(("slow",), primitives=[slow]).stream(problem())
    assert isinstance(next(stream), Decision) and not made
    assert isinstance(next(stream), Entry) and made


def test_a_streams_events_are_those_of_the_run():
    *events, run = executor().stream(problem())
    assert events == run.events and run.output == Text("a | a!")


def test_a_stream_may_be_left_before_its_end():
    stream = executor().stream(problem())
    assert isinstance(next(stream), Decision)
    stream.close()


# ------------------------------------------------------------------------------------------------- async


def test_the_asynchronous_drivers_give_what_the_synchronous_ones_give():
    ex = executor()

    async def main():
        run = await ex.arun(problem("a"))
        many = [r async for r in ex.amap([problem(q) for q in "abc"])]
        events = [e async for e in ex.astream(problem("a"))]
        return run, many, events

    run, many, events = asyncio.run(main())
    assert run.output == ex.run(problem("a")).output
    assert sorted(r.output.text for r in many) == [f"{q} | {q}!" for q in "abc"]
    assert [type(e) for e in events] == [type(e) for e in ex.stream(problem("a"))]


def test_the_event_loop_goes_on_while_a_call_is_made():
    asked, ticked = threading.Event(), threading.Event()

    @primitive(reads=(), writes=Text)
    def patient(view):
        asked.set()
        return Text("it went on" if ticked.wait(20) else "it stood still")

    async def clock():
        ticks = 0
        while ticks < 5:
            ticks += asked.is_set()
            await asyncio.sleep(0.001)
        ticked.set()

    async def main():
        ticking = asyncio.ensure_future(clock())
        run = await executor(("patient",), primitives=[patient]).arun(problem())
        await ticking
        return run

    assert asyncio.run(main()).entries[0].value == Text("it went on")


def test_calls_of_different_primitives_run_at_the_same_time():
    all_there = threading.Barrier(4, timeout=20)  # breaks if one would wait for another to end

    def meets(name):
        def function(view):
            all_there.wait()
            return Text(name)

        return primitive(reads=(), writes=Text, name=name)(function)

    ex = executor([tuple("abcd")], primitives=[meets(n) for n in "abcd"])
    run = asyncio.run(ex.arun(problem()))
    assert [e.action for e in run.entries] == list("abcd") and not run.faults


def test_errors_reach_whoever_awaits():
    async def main():
        with pytest.raises(UnknownName):
            await executor().arun(Problem(task="wards"))
        with pytest.raises(CallFailed):
            await executor(("again",), strict=True).arun(problem())

    asyncio.run(main())


# -------------------------------------------------------------------------------- presets and parameters


def test_a_preset_is_an_action_of_its_own():
    ex = executor(("think:long",))
    assert list(ex.actions) == ["think", "think:long", "again", "ahead"]
    run = ex.run(problem())
    assert run.output == Text("a a a") and run.entries[0].action == "think:long"


def test_a_call_may_bring_its_own_parameters():
    run = executor([Call("think", {"count": 2}), Call("think:long", {"count": 2})]).run(problem())
    assert run.output == Text("a a | a a")
    assert run.entries[0].id == run.entries[1].id, "the same parameters are the same call"
    assert run.spent.hits == 1


@pytest.mark.parametrize("parameters", [{"count": "many"}, {"cuont": [1]}, {"count": object()}])
def test_parameters_that_do_not_fit_are_a_fault(parameters):
    class Strict(BaseModel, extra="forbid"):
        count: int = 1

    strictly = primitive(reads=(), writes=Text, parameters=Strict, name="p")(lambda v: Text("x"))
    run = executor([Call("p", parameters)], primitives=[strictly]).run(problem())
    assert [f.phase for f in run.faults] == ["refused"] and run.output == Text("nothing")


def test_presets_that_do_not_fit_are_refused_when_the_executor_is_made():
    wrong = primitive(reads=(), writes=Text, parameters=Words, presets={"x": {"count": "?"}}, name="p")
    with pytest.raises(PluginError, match="p:x: parameters .* do not fit: count"):
        executor(primitives=[wrong(lambda view: Text(""))])


def test_draws_are_samples_of_a_stochastic_primitive_that_can_be_told_apart_and_repeated():
    @primitive(reads=("question",), writes=Text, stochastic=True)
    def dice(view):
        return Text(str(view.rng.integers(1_000_000)))

    calls = [(Call("dice"), Call("dice", draw=1), Call("dice", draw=2))]
    one = executor(calls, primitives=[dice]).run(problem())
    two = executor(calls, primitives=[dice]).run(problem())
    assert [e.draw for e in one.entries] == [0, 1, 2]
    assert len({e.id for e in one.entries}) == len({e.value.text for e in one.entries}) == 3
    assert [e.value for e in one.entries] == [e.value for e in two.entries]


# ------------------------------------------------------------------------------------------------ extend


def test_an_executor_is_extended_without_changing_it():
    shout = primitive(reads=(Text,), writes=Text, name="shout")(lambda v: Text(v.latest(Text).text.upper()))
    ex = executor()
    more = ex.extend(primitives=[shout], policy=["think", "shout"])
    assert more.run(problem()).output == Text("a | A")
    assert "shout" not in ex.actions and "again" in more.actions
    assert more.memo is ex.memo and more.run(problem()).spent.hits > 0


def test_extending_with_the_same_name_replaces():
    louder = primitive(reads=("question",), writes=Text, name="think")(lambda v: Text("LOUDER"))
    assert executor(("think",)).extend(primitives=[louder]).run(problem()).output == Text("LOUDER")


def test_a_replaced_primitive_takes_its_presets_with_it():
    louder = primitive(reads=("question",), writes=Text, name="think")(lambda v: Text("LOUDER"))
    assert "think:long" not in executor(()).extend(primitives=[louder]).actions


def test_every_option_can_be_changed_and_an_unknown_one_is_refused():
    ex = executor()
    assert ex.extend(budget={"steps": 1}).run(problem()).output == Text("a")
    assert ex.extend(policy=[]).run(problem()).output == Text("nothing")
    assert ex.extend(memo=None).memo is None
    with pytest.raises(TypeError, match="an executor has no polcy"):
        ex.extend(polcy=[])


def test_a_task_of_ones_own_needs_a_decoder_and_nothing_else():
    @decoder(task="count", writes=Answer)
    def count(view):
        return Answer(str(len(view.all(Text))))

    assert executor().extend(decoders=[count]).run(Problem(task="count", question="a")).output.text == "2"


# -------------------------------------------------------------------------------------------------- fork


def test_a_run_is_forked_at_any_step_with_the_context_and_the_cost_it_had():
    ex = executor()
    run = ex.run(problem())
    for step, context, cost in [(0, [], Cost()), (1, ["a"], Cost(1)), (2, ["a", "a!"], Cost(1))]:
        snapshot = run.at(step)
        assert [e.value.text for e in snapshot.workspace] == context and snapshot.cost == cost
    other = ex.extend(policy=["again", "again"]).run(run.at(1))
    assert other.output == Text("a | a! | a!!")
    assert other.entries[0] is run.entries[0] and other.cost == Cost(model_calls=2)
    assert run.output == Text("a | a!"), "the run that was forked stays as it was"
    for step in (-1, 3):
        with pytest.raises(IndexError, match="fork it at 0 to 2"):
            run.at(step)


def test_a_fork_of_a_fork_keeps_what_both_had_cost():
    ex = executor(("think",))
    run = ex.run(problem())
    fork = ex.extend(policy=["think:long"]).run(run.at(1))
    assert fork.cost == Cost(model_calls=3)
    assert fork.at(0).cost == Cost(model_calls=1) and fork.at(1).cost == Cost(model_calls=2)
    assert len(fork.at(0).workspace) == 1


def test_a_fork_goes_on_with_what_is_left_of_the_budget():
    ex = executor(("think",), budget={"model_calls": 3})
    run = ex.run(problem())
    more = ex.extend(policy=["think:long", Call("think", {"count": 5})]).run(run.at(1))
    assert [e.action for e in more.entries] == ["think", "think:long"]
    assert more.cost == Cost(model_calls=3) and more.faults[0].kind == "NotAllowed"


def test_a_replay_computes_everything_anew_and_finds_the_same():
    calls = []

    @primitive(reads=("question",), writes=Text, stochastic=True)
    def dice(view):
        calls.append(1)
        return Text(str(view.seed))

    run = executor(("dice",), primitives=[dice]).run(problem())
    again_ = run.replay()
    assert len(calls) == 2
    assert [e.value for e in again_.entries] == [e.value for e in run.entries]


# -------------------------------------------------------------------------------------------------- tree


def counted():
    calls = []

    def makes(name):
        def function(view):
            calls.append((name, view.question, len(view.all(Text))))
            return Text(name)

        return primitive(reads=("question", Text), writes=Text, name=name)(function)

    return calls, [makes(n) for n in "abc"]


def test_a_tree_computes_each_prefix_once_whoever_shares_it():
    calls, parts = counted()
    tree = executor([], primitives=parts).tree([problem("x"), problem("y")], depth=3)
    assert len(list(tree.prefixes())) == 1 + 3 + 6 + 6
    nodes = tree.nodes()
    assert len(nodes) == 2 * 16
    assert len(calls) == 2 * (3 + 6 + 6), "of 15 prefixes each last call is made once a problem"
    assert tree.node(1, ("c", "a")).run.output == Text("c | a")
    assert len(calls) == 2 * 15, "asking again computes nothing"


def test_a_tree_is_lazy():
    calls, parts = counted()
    tree = executor([], primitives=parts).tree(problem("x"), depth=3)
    assert not calls
    tree.node(0, ("a", "b"))
    assert [name for name, *_ in calls] == ["a", "b"]


def test_a_tree_scores_its_nodes():
    _, parts = counted()
    tree = executor([], primitives=parts).tree(
        problem("x"), actions=["a", "b"], depth=1, scorer=lambda x, y: float(y == Text("b"))
    )
    assert {node.prefix: node.score for node in tree.nodes()} == {(): 0.0, ("a",): 0.0, ("b",): 1.0}


def test_a_tree_names_actions_it_does_not_have():
    _, parts = counted()
    ex = executor([], primitives=parts)
    with pytest.raises(UnknownName, match="no action is called 'z'; there are: a, b, c"):
        ex.tree(problem("x"), actions=["z"])
    with pytest.raises(UnknownName, match="the tree has no action 'c'"):
        ex.tree(problem("x"), actions=["a"]).node(0, ("c",))
