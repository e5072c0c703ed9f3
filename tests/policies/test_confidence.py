"""Unrolling until the answer is sure, or until nothing is worth its price."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.confidence import ConfidencePolicy
from policies.price import Price
from unroller import Answer, Executor, Problem, Text, decoder, primitive, probe
from unroller.check import check
from unroller.cost import Cost
from unroller.faults import PolicyError

START = 1.2


def says(name, sure=0.5, cost=1):
    """A primitive whose words make the answer surer: entropy falls by `sure`."""
    return primitive(reads=("question",), writes=Text, name=name, cost=Cost(model_calls=cost))(
        lambda view: Text(f"{name} {sure}")
    )


def entropy_now(view):
    return max(0.0, START - sum(float(t.text.split()[1]) for t in view.all(Text)))


@decoder(task="words", writes=Text, reads=(Text,))
def words(view):
    return Text(" ".join(t.text.split()[0] for t in view.all(Text)) or "nothing")


answer_entropy = probe(name="answer_entropy", reads=(Text,), cost=Cost(model_calls=1))(entropy_now)


def ran(policy, *primitives, **options):
    ex = Executor(
        backend=[], primitives=primitives, decoders=[words], probes=[answer_entropy], policy=policy, **options
    )
    return ex.run(Problem(task="words", question="?"))


def test_it_goes_on_in_order_until_it_is_sure():
    primitives = says("look"), says("think"), says("walk")
    assert ran(ConfidencePolicy(0.3), *primitives).output == Text("look think")
    assert ran(ConfidencePolicy(START), *primitives).output == Text("nothing")
    assert ran(ConfidencePolicy(0.3, order=["walk", "gone", "look"]), *primitives).output == Text("walk look")
    assert ran(ConfidencePolicy(0.0), says("look", 0.1)).output == Text("look"), "each is tried once"


def test_with_gains_it_calls_what_is_worth_most_after_its_price():
    gains = {"look": 0.30, "think": 0.25, "walk": 0.01}
    primitives = says("look", cost=5), says("think"), says("walk"), says("unknown")

    def chosen(cost_weight):
        policy = ConfidencePolicy(0.0, gains=gains, cost_weight=cost_weight)
        return str(ran(policy, *primitives).output)

    assert chosen(0.0) == "look think walk"
    assert chosen(0.02) == "think look", "0.25 - 0.02 > 0.30 - 0.10, and walk is not worth its call"
    assert chosen(0.1) == "think"
    assert chosen(1.0) == "nothing"


def test_gains_may_differ_with_the_entropy():
    gains = {"look": [0.0, 0.4], "think": [0.3, 0.1]}
    policy = ConfidencePolicy(0.0, gains=gains, edges=[0.9], cost_weight=0.05)
    assert ran(policy, says("look"), says("think")).output == Text("look think"), "1.2, then 0.7"


def test_fitting_takes_means_that_few_calls_move_little():
    rng = np.random.default_rng(0)
    entropies = rng.uniform(0, 1, 4000)
    actions = ["look" if i % 2 else "think" for i in range(4000)]
    gains = np.where(np.arange(4000) % 2, entropies * 0.4, 0.1) + rng.normal(0, 0.05, 4000)
    policy = ConfidencePolicy.fit(entropies, actions, gains, stretches=4, cost_weight=0.2)
    look, think = policy.gains["look"], policy.gains["think"]
    assert look == pytest.approx([0.05, 0.15, 0.25, 0.35], abs=0.02)
    assert think == pytest.approx([0.1] * 4, abs=0.02)
    assert policy.edges == pytest.approx([0.25, 0.5, 0.75], abs=0.03)
    rare = ConfidencePolicy.fit([0.1, 0.9], ["look", "look"], [1.0, 1.0], stretches=2, shrink=10)
    assert max(rare.gains["look"]) < 0.3, "two lucky calls are no gain of 1"


def test_where_entropy_cannot_be_measured_it_decodes():
    @probe(name="answer_entropy", reads=(), applies=lambda problem: "needs choices")
    def never(view):
        return 1.0

    ex = Executor(
        backend=[], primitives=[says("look")], decoders=[words], probes=[never], policy=ConfidencePolicy()
    )
    assert ex.run(Problem(task="words", question="?")).output == Text("nothing")
    poor = ran(ConfidencePolicy(0.3), says("look"), budget={"model_calls": 0})
    assert poor.output == Text("nothing") and not poor.faults


def test_a_failed_action_is_not_tried_again():
    broken = primitive(reads=(), writes=Text, name="broken")(lambda view: 1 / 0)
    run = ran(ConfidencePolicy(0.0, gains={"broken": 9.0, "look": 0.1}), broken, says("look"))
    assert run.output == Text("look") and len(run.faults) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"cost_weight": -1.0, "gains": {"a": 1.0}},
        {"cost_weight": 0.1},
        {"gains": {"a": [0.1, 0.2]}},
        {"gains": {"a": float("nan")}},
        {"gains": {"a": [0.1] * 3}, "edges": [0.5, 0.1]},
        {"price": {"model_calls": -1.0}},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(PolicyError):
        ConfidencePolicy(**settings)


@pytest.mark.parametrize(
    ("entropies", "actions", "gains"),
    [([], [], []), ([0.1], ["a", "b"], [0.1]), ([float("nan")], ["a"], [0.1]), ([-1.0], ["a"], [0.1])],
)
def test_logs_that_cannot_be_fitted_are_refused(entropies, actions, gains):
    with pytest.raises(PolicyError):
        ConfidencePolicy.fit(entropies, actions, gains)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from("abc"), st.floats(-1, 1)), min_size=1, max_size=40),
    st.integers(1, 6),
)
def test_fitted_gains_lie_between_nothing_and_what_was_seen(rows, stretches):
    entropies, actions, gains = zip(*rows, strict=True)
    policy = ConfidencePolicy.fit(entropies, actions, gains, stretches=stretches)
    for action, row in policy.gains.items():
        seen = [g for a, g in zip(actions, gains, strict=True) if a == action]
        assert len(row) == len(policy.edges) + 1
        assert min(0, *seen) - 1e-9 <= min(row) and max(row) <= max(0, *seen) + 1e-9


def test_a_price_weighs_calls_tokens_and_dollars():
    cost = Cost(model_calls=2, tokens=500, price=0.01)
    assert Price().of(cost) == 2
    assert Price(model_calls=0, tokens=0.001, dollars=10).of(cost) == pytest.approx(0.6)


def test_it_passes_the_checks_for_policies():
    for policy in (ConfidencePolicy(), ConfidencePolicy(gains={"text_think": 0.2}, cost_weight=0.1)):
        assert check(policy).ok, check(policy)


def test_the_registered_probe_measures_what_the_answer_would_be():
    class Unsure:
        name, fingerprint, max_batch = "unsure", "unsure-1", 8

        from unroller.capabilities import AnswerScorer

        provides = (AnswerScorer,)

        def score_answers(self, prompts, choices):
            """Sure as soon as anything is in the context: prompts of more than the question."""
            return [[0.5, 0.5] if len(p.segments) == 1 else [1.0, 0.0] for p in prompts]

    ex = Executor(backend=Unsure(), primitives=[says("look"), says("think")], policy="confidence")
    run = ex.run(Problem.spatial(question="where?", choices=["left", "right"]))
    assert [e.action for e in run.entries] == ["look"]
    assert isinstance(run.output, Answer) and [m.held for m in run.measured] == [
        pytest.approx(0.693, abs=1e-3),
        0.0,
    ]
