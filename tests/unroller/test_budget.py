"""Budgets are hard limits on what is charged; the decoder's share is set aside first."""

import time

import pytest

from unroller import Budget, Call, Cost, Executor, Problem, Text, decoder, policy, primitive, probe
from unroller.cost import Left, left_of
from unroller.faults import BudgetError


def costing(name, cost, charge=None, **options):
    def function(view):
        if charge is not None:
            view.charge(charge.model_calls, charge.tokens, charge.price)
        return Text(name)

    return primitive(reads=("question", Text), writes=Text, name=name, cost=cost, **options)(function)


def ran(calls, *primitives, budget, decoder_cost=None, x=None, **options):
    words = decoder(task="words", writes=Text, name="words", cost=decoder_cost)(
        lambda view: Text(" ".join(t.text for t in view.all(Text)) or "nothing")
    )
    ex = Executor(backend=[], primitives=primitives, decoders=[words], policy=calls, budget=budget, **options)
    return ex.run(x or Problem(task="words", question="?"))


LIMITS = {
    "model_calls": (Cost(model_calls=1), 3),
    "tokens": (Cost(tokens=100), 300),
    "price": (Cost(price=0.1), 0.3),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_as_many_calls_are_made_as_the_budget_affords_and_no_more(limit):
    cost, amount = LIMITS[limit]
    calls = [Call("think", draw=n) for n in range(5)]
    run = ran(calls, costing("think", cost), budget={limit: amount})
    assert len(run.entries) == 3, [f.message for f in run.faults]
    assert [f.kind for f in run.faults] == ["NotAllowed", "NotAllowed"]
    assert getattr(run.cost, limit) == pytest.approx(amount)


@pytest.mark.parametrize("limit", LIMITS)
def test_the_decoders_share_is_set_aside_before_anything_is_called(limit):
    cost, amount = LIMITS[limit]
    calls = [Call("think", draw=n) for n in range(5)]
    run = ran(calls, costing("think", cost), budget={limit: amount}, decoder_cost=cost)
    assert len(run.entries) == 2 and run.output == Text("think think")
    assert getattr(run.cost, limit) == pytest.approx(amount)


def test_a_budget_that_does_not_cover_the_decoder_is_refused_at_once():
    with pytest.raises(BudgetError, match="does not cover the decoder, which is charged up to 2 calls"):
        ran([], budget={"model_calls": 1}, decoder_cost=Cost(model_calls=2))


def test_what_a_call_does_not_use_of_its_bound_comes_back():
    bounded = costing("think", Cost(tokens=100), Cost(tokens=10))
    run = ran([Call("think", draw=n) for n in range(4)], bounded, budget={"tokens": 125})
    assert len(run.entries) == 3 and run.cost == Cost(tokens=30)


def test_side_by_side_calls_share_the_budget():
    run = ran([("a", "b", "c")], *(costing(n, Cost(1)) for n in "abc"), budget={"model_calls": 2})
    assert [e.action for e in run.entries] == ["a", "b"]
    assert [(f.action, f.phase) for f in run.faults] == [("c", "refused")]


def test_side_by_side_calls_are_the_same_with_a_memo_as_without():
    bounded = costing("think", Cost(model_calls=2), Cost(model_calls=1), stochastic=True)
    words = decoder(task="words", writes=Text, name="words")(lambda view: Text(""))
    ex = Executor(
        backend=[],
        primitives=[bounded],
        decoders=[words],
        policy=[(Call("think"), Call("think", draw=1))],
        budget={"model_calls": 3},
    )
    first, second = (ex.run(Problem(task="words", question="?")) for _ in range(2))
    assert len(first.entries) == len(second.entries) and first.cost == second.cost


def test_a_call_is_charged_the_same_when_the_memo_answers():
    think = costing("think", Cost(tokens=100), Cost(tokens=10, price=0.25))
    words = decoder(task="words", writes=Text, name="words", cost=Cost(1))(lambda view: Text(""))
    ex = Executor(backend=[], primitives=[think], decoders=[words], policy=["think"], budget={"tokens": 150})
    first, second = (ex.run(Problem(task="words", question="?")) for _ in range(2))
    assert first.cost == second.cost == Cost(1, 10, 0.25)
    assert (first.spent.hits, second.spent.hits) == (0, 2)


def test_a_call_that_charges_more_than_is_left_loses_its_value_and_the_limit_holds():
    greedy = costing("greedy", Cost(tokens=10), Cost(tokens=1000))
    think = costing("think", Cost(tokens=10))
    run = ran(["think", "greedy", "think"], think, greedy, budget={"tokens": 100})
    assert [e.action for e in run.entries] == ["think"]
    assert [f.kind for f in run.faults] == ["BudgetOverrun", "NotAllowed"]
    assert "declared at most 0 calls, 10 tokens and charged 0 calls, 1000 tokens" in run.faults[0].message
    assert run.cost.tokens == 100, "all of it is gone, and no more"
    assert run.output == Text("think")


def test_a_decoder_that_charges_more_than_is_left_has_no_output():
    @decoder(task="words", writes=Text, cost=Cost(tokens=10))
    def words(view):
        view.charge(tokens=11)
        return Text("too long")

    ex = Executor(backend=[], primitives=[], decoders=[words], policy=[], budget={"tokens": 10})
    run = ex.run(Problem(task="words"))
    assert run.output is None and run.faults[0].kind == "BudgetOverrun" and run.cost.tokens == 10


def test_an_overrun_says_what_was_being_done():
    @decoder(task="words", writes=Text, cost=Cost(tokens=10))
    def words(view):
        view.charge(tokens=11)
        return Text("too long")

    ex = Executor(backend=[], primitives=[], decoders=[words], policy=[], budget={"tokens": 10})
    assert ex.run(Problem(task="words")).faults[0].phase == "decode"


def test_a_probe_that_charges_more_than_is_left_is_none_for_the_policy():
    @probe(cost=Cost(tokens=1))
    def sure(view):
        view.charge(tokens=50)
        return 1.0

    seen = []

    @policy(probes=("sure",))
    def watch(state):
        seen.append(state.probe.sure)
        return ()

    run = ran(watch, budget={"tokens": 10}, probes=[sure])
    assert seen == [None] and [f.kind for f in run.faults] == ["BudgetOverrun"]


def test_probes_are_charged_too():
    @probe(cost=Cost(tokens=4))
    def sure(view):
        return float(len(view.all(Text)))

    seen = []

    @policy(probes=("sure",))
    def watch(state):
        seen.append(state.probe.sure)
        return "think" if state.step < 2 else ()

    run = ran(watch, costing("think", Cost(tokens=1)), budget={"tokens": 10}, probes=[sure])
    assert seen == [0, 1, None], "the third could not be afforded"
    assert run.cost.tokens == 2 * 4 + 2


def test_a_call_that_fails_is_not_charged():
    def function(view):
        raise ValueError("no")

    broken = primitive(reads=(), writes=Text, name="broken", cost=Cost(tokens=10))(function)
    run = ran(["broken", "think"], broken, costing("think", Cost(tokens=10)), budget={"tokens": 10})
    assert run.cost == Cost(tokens=10) and run.output == Text("think")


def test_seconds_are_a_limit_that_is_looked_at_before_each_decision():
    def function(view):
        time.sleep(0.15)
        return Text("z")

    sleepy = primitive(reads=(Text,), writes=Text, name="sleepy")(function)
    run = ran(["sleepy"] * 50, sleepy, budget={"seconds": 0.5})
    assert 1 <= len(run.entries) <= 4 and run.output is not None and not run.faults


def test_steps_are_decisions_not_calls():
    run = ran([("a", "b"), "a", "a"], *(costing(n, Cost(1)) for n in "ab"), budget={"steps": 2})
    assert [e.action for e in run.entries] == ["a", "b", "a"]


@pytest.mark.parametrize(
    "budget",
    [
        {"model_cals": 3},
        {"model_calls": -1},
        {"tokens": 1.5},
        {"price": float("nan")},
        {"price": float("inf")},
        {"seconds": 0},
        {"steps": "many"},
        5,
        "cheap",
    ],
)
def test_a_budget_that_is_none_is_refused_and_the_limits_are_named(budget):
    with pytest.raises(BudgetError, match="Limits are model_calls, tokens, price, steps, seconds"):
        Budget.of(budget)


def test_no_budget_means_no_limit_but_64_steps():
    assert Budget.of(None) == Budget(steps=64)
    left = left_of(Budget.of({}), Cost(5, 5, 5.0))
    assert left.affords(Cost(10**9, 10**9, 1e9)) and left.steps == 64
    assert left_of(Budget(model_calls=3), Cost(1)).model_calls == 2


def test_rounding_does_not_refuse_what_the_budget_affords():
    left = Left(price=0.3)
    for _ in range(3):
        assert left.affords(Cost(price=0.1))
        left = left.less(Cost(price=0.1))
    assert not left.affords(Cost(price=0.1)) and left.price >= 0


def test_costs_add_and_read_well():
    assert Cost(1, 2, 0.5) + Cost(1) == Cost(2, 2, 0.5)
    assert Cost(2, 2, 0.5) - Cost(1, 1) == Cost(1, 1, 0.5)
    shown = [str(Cost(*c)) for c in [(1,), (2, 30), (0, 0, 0.05)]]
    assert shown == ["1 call", "2 calls, 30 tokens", "0 calls, $0.0500"]
