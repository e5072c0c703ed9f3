"""Random unrolling: a function of the state, with honest probabilities."""

import math
from collections import Counter

import pytest

from policies.random import RandomPolicy
from unroller import Decision, Executor, Problem, Text, decoder, primitive


def says(name, applies=None):
    return primitive(reads=("question",), writes=Text, name=name, applies=applies)(lambda view: Text(name))


@decoder(task="words", writes=Text, reads=(Text,))
def words(view):
    return Text(" ".join(t.text for t in view.all(Text)) or "nothing")


def executor(policy, *primitives, **options):
    return Executor(backend=[], primitives=primitives, decoders=[words], policy=policy, **options)


def problems(count, **fields):
    return [Problem(task="words", question=f"question {n}", **fields) for n in range(count)]


def first_decisions(policy, *primitives, count=400):
    runs = executor(policy, *primitives).map(problems(count))
    return [next(e for e in run.events if isinstance(e, Decision)) for run in runs]


def test_the_same_problem_and_seed_give_the_same_unrolling_and_others_another():
    ex = executor(RandomPolicy(stop=0.2, seed=3), *map(says, "abcd"))
    decisions = {tuple(map(str, ex.run(x).decisions)) for x in problems(1) * 3}
    assert len(decisions) == 1
    assert len({tuple(map(str, r.decisions)) for r in ex.map(problems(20))}) > 10
    assert len({tuple(map(str, ex.run(problems(1, seed=s)[0]).decisions)) for s in range(20)}) > 10
    seeds = [executor(RandomPolicy(seed=s), *map(says, "abcd")).run(problems(1)[0]) for s in range(20)]
    assert len({tuple(map(str, run.decisions)) for run in seeds}) > 5


def test_it_does_not_depend_on_batch_mates():
    ex = executor(RandomPolicy(), *map(says, "abc"))
    together = [str(r.decisions) for r in ex.map(problems(10))]
    assert together == [str(ex.run(x).decisions) for x in problems(10)]


def test_it_stops_as_often_as_it_says_and_draws_the_rest_evenly():
    drawn = Counter(
        str(d.calls[0]) if d.calls else "stop"
        for d in first_decisions(RandomPolicy(stop=0.4), *map(says, "abc"), count=2000)
    )
    assert drawn["stop"] / 2000 == pytest.approx(0.4, abs=0.05)
    for name in "abc":
        assert drawn[name] / 2000 == pytest.approx(0.2, abs=0.04)


def test_its_log_probabilities_are_those_of_its_draws():
    for decision in first_decisions(RandomPolicy(stop=0.4), *map(says, "abc"), count=50):
        expected = 0.2 if decision.calls else 0.4
        assert math.exp(decision.log_probability) == pytest.approx(expected)


def test_it_calls_only_what_is_allowed_and_stops_where_nothing_is():
    never = says("never", applies=lambda x: "not here")
    runs = list(executor(RandomPolicy(stop=0.1), says("a"), never).map(problems(50)))
    assert not any(run.faults for run in runs)
    only_never = executor(RandomPolicy(stop=0.1), never).run(problems(1)[0])
    assert only_never.decisions == [] and only_never.events[0].log_probability == 0.0


@pytest.mark.parametrize("stop", [0, -0.1, 1.5, float("nan")])
def test_a_policy_that_would_never_stop_is_refused(stop):
    with pytest.raises(ValueError, match="stop is a probability above 0"):
        RandomPolicy(stop=stop)


def test_it_is_registered_by_name():
    assert executor("random", says("a")).policy_name == "random"
