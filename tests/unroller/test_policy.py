"""Policies: what they see of a problem, what they may answer with, and what becomes of wrong answers."""

import pytest

from unroller import (
    STOP,
    Call,
    Cost,
    Decision,
    Executor,
    FixedList,
    Problem,
    Text,
    decoder,
    policy,
    primitive,
    probe,
)
from unroller.decide import as_decision, as_policy
from unroller.faults import CallFailed, PolicyError, UnknownName


@primitive(reads=("question",), writes=Text)
def think(view):
    return Text("thought")


@primitive(reads=("question",), writes=Text, cost=Cost(model_calls=2))
def look(view):
    return Text("looked")


@primitive(reads=("question",), writes=Text, applies=lambda x: None if x.images else "needs a photo")
def caption(view):
    return Text("captioned")


@primitive(reads=("question",), writes=Text)
def broken(view):
    raise ValueError("broken")


@decoder(task="words", writes=Text)
def words(view):
    return Text(" ".join(text.text for text in view.all(Text)) or "nothing")


@probe()
def how_many(view):
    return float(len(view.all(Text)))


def executor(policy, **options):
    options = {"primitives": [think, look, caption, broken], "probes": [how_many]} | options
    return Executor(backend=[], decoders=[words], policy=policy, **options)


def ran(policy, **options):
    return executor(policy, **options).run(Problem(task="words", question="?"))


# ------------------------------------------------------------------------------------ ways to write one


def test_a_policy_may_be_a_list_a_function_a_decorated_function_or_an_object():
    @policy
    def decorated(state):
        return "think" if state.step == 0 else STOP

    class Object:
        def decide(self, states):
            return ["think" if s.step == 0 else STOP for s in states]

    for given in (
        ["think"],
        lambda state: "think" if state.step == 0 else STOP,
        decorated,
        Object(),
        Object,
        FixedList(["think"]),
    ):
        assert ran(given).output == Text("thought"), given


@pytest.mark.parametrize(
    ("answer", "called"),
    [
        ("think", ["think"]),
        (Call("think", draw=1), ["think#1"]),
        (Decision((Call("think"), Call("look")), -0.5), ["think", "look"]),
        (("think", Call("look")), ["think", "look"]),
        (["think", ["look"]], ["think", "look"]),
        (think, ["think"]),
        ((name for name in ("think", "look")), ["think", "look"]),
        (STOP, []),
        ((), []),
    ],
)
def test_a_decision_may_be_written_in_many_ways(answer, called):
    assert [str(call) for call in as_decision(answer).calls] == called


@pytest.mark.parametrize("answer", [None, 3, object(), [None], ["think", 3]])
def test_anything_else_is_no_decision(answer):
    with pytest.raises(PolicyError, match="answer with STOP"):
        as_decision(answer)


@pytest.mark.parametrize("given", [None, 3, object()])
def test_what_is_no_policy_is_refused_when_the_executor_is_made(given):
    with pytest.raises(PolicyError, match="is no policy"):
        as_policy(given)


def test_a_list_is_checked_before_anything_is_spent_on_it():
    with pytest.raises(UnknownName, match="no action is called 'thnik'. Did you mean 'think'"):
        executor(["thnik"])


def test_an_item_of_a_list_that_is_a_tuple_runs_side_by_side():
    run = ran([("think", "look"), "think"])
    assert [[str(c) for c in d.calls] for d in run.decisions] == [["think", "look"], ["think"]]
    assert [e.step for e in run.entries] == [0, 0, 1]


# ---------------------------------------------------------------------------------------- what it sees


def test_a_state_shows_the_problem_the_context_the_budget_and_what_may_be_called():
    seen = []

    @policy
    def watch(state):
        seen.append(
            {
                "step": state.step,
                "words": [e.value.text for e in state.workspace],
                "calls": state.left.model_calls,
                "steps": state.left.steps,
                "allowed": state.allowed,
                "mask": state.mask,
                "decisions": len(state.decisions),
                "question": state.problem.question,
            }
        )
        return ["look", "broken", STOP][state.step]

    ran(watch, budget={"model_calls": 3, "steps": 5})
    assert seen == [
        {
            **{"step": 0, "words": [], "calls": 3, "steps": 5, "decisions": 0, "question": "?"},
            "allowed": ("think", "look", "broken"),
            "mask": (True, True, False, True),
        },
        {
            **{"step": 1, "words": ["looked"], "calls": 1, "steps": 4, "decisions": 1, "question": "?"},
            "allowed": ("think", "broken"),
            "mask": (True, False, False, True),
        },
        {
            **{"step": 2, "words": ["looked"], "calls": 1, "steps": 3, "decisions": 2, "question": "?"},
            "allowed": ("think",),
            "mask": (True, False, False, False),
        },
    ]


def test_a_state_says_why_an_action_cannot_be_called():
    reasons = {}

    @policy
    def ask(state):
        if state.step == 0:
            return "broken"
        reasons.update({name: state.refusal(name) for name in (*state.actions, "thnik")})
        assert state.provided("look") and not state.provided("thnik")
        return STOP

    ran(ask, budget={"model_calls": 1})
    assert reasons["think"] is None
    assert "it may cost 2 calls" in reasons["look"]
    assert reasons["caption"] == "needs a photo"
    assert reasons["broken"] == "it failed earlier on this problem"
    assert "no action is called 'thnik'" in reasons["thnik"]


def test_a_probe_is_measured_before_each_decision_shown_by_name_and_never_rendered():
    seen = []

    @policy(probes=("how_many",))
    def until_two(state):
        seen.append(state.probe.how_many)
        return STOP if state.probe.how_many >= 2 else Call("think", draw=state.step)

    run = ran(until_two)
    assert seen == [0, 1, 2]
    assert [(m.name, m.held, m.step) for m in run.measured] == [("how_many", n, n) for n in range(3)]
    assert [e.action for e in run.entries] == ["think", "think"]
    assert "how_many" not in str(run.workspace.segments())


def test_a_probe_that_was_not_declared_is_an_error_of_the_policy_and_says_so():
    @policy
    def undeclared(state):
        return STOP if state.probe.how_many else "think"

    @policy(probes=("how_many",))
    def misspelt(state):
        return STOP if state.probe.how_meny else "think"

    assert "declare it, probes=('how_many',)" in ran(undeclared).faults[0].message
    assert "how_meny but declared probes=(how_many)" in ran(misspelt).faults[0].message


def test_a_probe_that_fails_is_none_for_the_policy_and_a_fault_on_record():
    @probe(name="how_many")
    def failing(view):
        raise ValueError("no idea")

    seen = []

    @policy(probes=("how_many",))
    def watch(state):
        seen.append(state.probe.how_many)
        return STOP

    run = ran(watch, probes=[failing])
    assert seen == [None]
    assert [(f.action, f.phase, f.message) for f in run.faults] == [("how_many", "probe", "no idea")]
    assert run.output == Text("nothing")


@pytest.mark.parametrize("measured", [float("nan"), float("inf"), "many", None, [1.0]])
def test_a_probe_that_measures_no_finite_number_is_a_fault(measured):
    wrong = probe(name="how_many")(lambda view: measured)
    run = ran(policy(probes=("how_many",))(lambda state: STOP), probes=[wrong])
    assert [f.phase for f in run.faults] == ["probe"]


def test_a_probe_may_measure_a_vector_of_features():
    import numpy as np

    features = probe(name="how_many", writes=np.ndarray)(lambda view: np.arange(4.0))
    run = ran(policy(probes=("how_many",))(lambda state: STOP), probes=[features])
    assert run.measured[0].held.shape == (4,) and not run.faults


def test_a_probe_may_measure_a_numpy_scalar():
    import numpy as np

    entropy = probe(name="how_many")(lambda view: np.float32(0.5))
    run = ran(policy(probes=("how_many",))(lambda state: STOP), probes=[entropy])
    assert [m.held for m in run.measured] == [0.5]


def test_a_probe_may_be_given_as_an_object_in_place_of_a_name():
    @policy(probes=(how_many,))
    def stop(state):
        return STOP if state.probe.how_many == 0 else "think"

    assert ran(stop, probes=[]).measured


def test_no_probe_is_measured_when_no_step_is_left():
    costly = probe(name="how_many", cost=Cost(model_calls=1))(lambda view: 1.0)
    run = ran(policy(probes=("how_many",))(lambda state: "think"), probes=[costly], budget={"steps": 1})
    assert len(run.measured) == 1 and run.cost == Cost(model_calls=1)


# --------------------------------------------------------------------------------------- wrong decisions


def test_an_unknown_action_is_a_fault_that_lists_the_known_ones():
    run = ran(lambda state: "thnik" if state.step == 0 else STOP)
    assert run.faults[0].kind == "UnknownName"
    assert "the actions are: think, look, caption, broken" in run.faults[0].message
    assert run.output == Text("nothing")


def test_an_action_that_may_not_be_called_is_refused_on_the_record():
    run = ran(["caption", "broken", "broken", "think"])
    assert [(f.action, f.phase, f.kind) for f in run.faults] == [
        ("caption", "refused", "NotAllowed"),
        ("broken", "call", "ValueError"),
        ("broken", "refused", "NotAllowed"),
    ]
    assert run.output == Text("thought"), "and the unrolling went on"


@pytest.mark.parametrize("wrong", [None, 3, {"think": 1}.values()])
def test_a_wrong_decision_is_a_fault_and_the_answer_is_decoded_from_what_there_is(wrong):
    run = ran(lambda state: "think" if state.step == 0 else wrong if state.step == 1 else STOP)
    assert run.faults and all(f.phase == "decide" for f in run.faults)
    assert run.output == Text("thought")


def test_a_policy_that_raises_for_one_problem_of_a_batch_stops_only_that_one():
    class Picky:
        name = "picky"

        def decide(self, states):
            if any(s.problem.question == "b" for s in states):
                raise ValueError("cannot decide about b")
            return ["think" if s.step == 0 else STOP for s in states]

    a, b, c = executor(Picky()).map([Problem(task="words", question=q) for q in "abc"])
    assert [r.output.text for r in (a, b, c)] == ["thought", "nothing", "thought"]
    assert [(f.action, f.phase, f.message) for f in b.faults] == [
        ("picky", "decide", "cannot decide about b")
    ]


@pytest.mark.parametrize("decided", [[], ["think"] * 3, None, 7])
def test_a_policy_must_make_as_many_decisions_as_there_are_states(decided):
    class Short:
        def decide(self, states):
            return decided

    runs = list(executor(Short()).map([Problem(task="words", question=q) for q in "ab"]))
    assert all(r.faults and r.faults[0].phase == "decide" for r in runs)
    assert [r.output.text for r in runs] == ["nothing", "nothing"]


def test_a_strict_executor_raises_where_another_would_record():
    for wrong in ("thnik", "caption", "broken", None):
        with pytest.raises(CallFailed) as raised:
            ran(lambda state, wrong=wrong: wrong if state.step == 0 else STOP, strict=True)
        assert raised.value.fault.step == 0


def test_a_policy_that_never_stops_is_stopped_by_the_budget_of_steps():
    run = ran(lambda state: Call("think", draw=state.step))
    assert len(run.decisions) == 64
    assert len(ran(lambda state: "think", budget={"steps": 3}).decisions) == 3
    assert len(ran(lambda state: "think", budget={"steps": 0}).decisions) == 0


def test_the_log_probability_of_a_decision_is_kept_for_training():
    @policy
    def soft(state):
        return Decision((Call("think"),), -0.25) if state.step == 0 else Decision((), -1.5)

    run = ran(soft)
    decided = [e for e in run.events if isinstance(e, Decision)]
    assert [(d.step, d.log_probability) for d in decided] == [(0, -0.25), (1, -1.5)]


def test_decisions_of_many_problems_are_asked_for_together():
    sizes = []

    class Counting:
        def decide(self, states):
            sizes.append(len(states))
            return ["think" if s.step == 0 else STOP for s in states]

    list(executor(Counting()).map([Problem(task="words", question=f"{i}") for i in range(20)]))
    assert sizes == [20, 20]


def test_a_probe_that_reads_nothing_of_the_context_is_measured_and_charged_once_a_run():
    asked = []

    @probe(name="length", reads=("question",), cost=Cost(model_calls=1))
    def length(view):
        asked.append(view.question)
        return float(len(view.question))

    seen = []

    @policy(probes=("length", "how_many"))
    def twice(state):
        seen.append((state.probe.length, state.probe.how_many))
        return Call("think", draw=state.step) if state.step < 2 else STOP

    run = ran(twice, probes=[length, how_many], memo=None)
    assert seen == [(1.0, 0.0), (1.0, 1.0), (1.0, 2.0)] and len(asked) == 1
    assert [m.name for m in run.measured] == ["length", "how_many", "how_many", "how_many"]
    assert run.cost.model_calls == 1


def test_a_policy_may_be_told_the_actions_before_it_is_asked_and_make_its_probes_from_them():
    class Counting:
        name = "counting"
        probes = ()

        def bound_to(self, actions):
            bound = Counting()
            bound.probes = (probe(name="actions", reads=())(lambda view: float(len(actions))),)
            return bound

        def decide(self, states):
            return [STOP if state.probe.actions > 2 else "think" for state in states]

    counting = Counting()
    first = Executor(backend=[], primitives=[think], decoders=[words], policy=counting)
    x = Problem(task="words", question="?")
    assert len(first.run(x).decisions) > 0 and counting.probes == ()
    more = first.extend(primitives=[look, broken])
    assert more.run(x).decisions == [], "an executor that has more actions binds the policy anew"


def test_a_state_lists_what_the_actions_declare():
    listed = []

    @policy
    def read(state):
        listed.extend((n, a.cost.model_calls, a.writes) for n, a in state.catalogue.items())
        return STOP

    ran(read)
    assert ("look", 2, Text) in listed
