"""Ridge regression over whole schedules."""

import math

import numpy as np
import pytest

from policies.bandit import RidgeBandit
from policies.observation import ProblemFeatures
from policies.ridge import fit
from unroller import Decision, Executor, Problem, Text, decoder, primitive, probe
from unroller.cost import Cost
from unroller.faults import PolicyError

RED, BLUE = "is the red cone left?", "is the blue box near?"
ARMS = [[], ["look"], ["look", "think"]]


def says(name, cost=1, **declared):
    declared = {"reads": ("question", Text), "writes": Text, "cost": Cost(model_calls=cost)} | declared
    return primitive(name=name, **declared)(lambda view: Text(name))


@decoder(task="words", writes=Text, reads=(Text,))
def words(view):
    return Text(" ".join(t.text for t in view.all(Text)) or "nothing")


def problems(count=1):
    return [Problem(task="words", question=q, seed=n) for n in range(count) for q in (RED, BLUE)]


def taught(**settings):
    """Red questions need both calls, blue ones none; a call costs 1."""
    features = ProblemFeatures(tasks=("words",), words=8)
    x = np.stack([features.problem(p) for p in problems(20)])
    red = np.arange(40) % 2 == 0
    scores = np.stack([np.where(red, 0.2, 0.8), np.where(red, 0.4, 0.8), np.where(red, 0.9, 0.81)], 1)
    noise = np.random.default_rng(0).normal(0, 0.02, scores.shape)
    costs = np.tile([0.0, 1.0, 2.0], (40, 1))
    return RidgeBandit(ARMS, features=features, **settings).fit(x, scores + noise, costs)


def executor(policy, *primitives, **options):
    primitives = primitives or (says("look"), says("think"))
    return Executor(backend=[], primitives=primitives, decoders=[words], policy=policy, **options)


def answers(policy, *primitives, **options):
    return [str(run.output) for run in executor(policy, *primitives, **options).map(problems())]


def test_it_chooses_a_schedule_for_the_problem_and_follows_it():
    assert answers(taught(cost_weight=0.05)) == ["look think", "nothing"]


def test_a_higher_price_of_cost_buys_less():
    policy = taught()
    assert answers(policy.at(0.3)) == ["look think", "nothing"]
    assert answers(policy.at(0.4)) == ["nothing", "nothing"]
    costs = [sum(r.cost.model_calls for r in executor(policy.at(w)).map(problems())) for w in (0, 0.1, 1)]
    assert costs == sorted(costs, reverse=True)


def test_an_arm_that_cannot_be_carried_out_is_not_considered():
    missing = says("think", applies=lambda problem: "needs a photo")
    assert answers(taught(cost_weight=0.05), says("look"), missing) == ["look", "nothing"]
    with pytest.warns(UserWarning, match="none of the actions"):
        assert answers(taught(cost_weight=0.05), says("other")) == ["nothing", "nothing"]


def test_what_cannot_be_called_when_its_turn_comes_is_left_out():
    run = executor(taught(), says("look", 9), says("think"), budget={"model_calls": 3}).run(problems()[0])
    assert run.output == Text("think") and not run.faults
    broken = primitive(reads=(), writes=Text, name="look")(lambda view: 1 / 0)
    run = executor(taught(), broken, says("think")).run(problems()[0])
    assert run.output == Text("think") and len(run.faults) == 1


def test_a_probe_among_its_features_is_measured_and_charged_once_a_run():
    asked = []

    @probe(name="colour", reads=("question",), cost=Cost(model_calls=1))
    def colour(view):
        asked.append(view.question)
        return float("red" in view.question)

    features = ProblemFeatures(tasks=("words",), words=1, probes=(("colour", 1),))
    x = np.zeros((40, features.size))
    x[::2, -2], x[:, -1] = 1.0, 1.0
    scores = np.where((np.arange(40) % 2 == 0)[:, None], [0.2, 0.4, 0.9], [0.8, 0.8, 0.8])
    policy = RidgeBandit(ARMS, features=features, cost_weight=0.05).fit(
        x, scores, np.tile([0.0, 1, 2], (40, 1))
    )
    run, other = executor(policy, probes=[colour], memo=None).map(problems())
    assert (str(run.output), str(other.output)) == ("look think", "nothing")
    assert len(asked) == 2 and len(run.measured) == 1 and run.cost.model_calls == 1 + 2
    # Without budget for the probe, means decide, and go on deciding the same.
    poor = executor(policy, probes=[colour], budget={"model_calls": 0}).run(problems()[0])
    assert poor.output == Text("nothing") and not poor.faults


def test_thompson_draws_by_the_probability_to_be_best_and_says_it():
    policy = taught(exploring="thompson", cost_weight=0.35)
    red = np.repeat(policy.features.problem(problems()[0])[None], 1000, 0)
    arms, said = policy.choose(red, drawn=(np.arange(1000) + 0.5) / 1000)
    p = np.exp(said)
    for arm in set(arms):
        share = (arms == arm).mean()
        assert share == pytest.approx(p[arms == arm][0], abs=2e-3)
    value = policy.ridge.expected(red) - 0.35 * policy.costs
    draws = np.random.default_rng(0).normal(value[0], policy.ridge.spread(red)[0], (200_000, 3)).argmax(1)
    for arm in set(arms):
        assert p[arms == arm][0] == pytest.approx((draws == arm).mean(), abs=0.02)
    runs = list(executor(policy).map(problems(10)))
    first = [next(e for e in r.events if isinstance(e, Decision)).log_probability for r in runs]
    assert all(-20 < p <= 0 for p in first)
    later = [d.log_probability for r in runs for d in r.decisions[1:]]
    assert set(later) <= {0.0}, "the arm was chosen at the first step"


def test_upper_bounds_favour_what_is_not_known_yet():
    features = ProblemFeatures(tasks=("words",), words=2)
    x = np.random.default_rng(1).normal(size=(60, features.size))
    scores = np.full((60, 2), np.nan)
    rng = np.random.default_rng(2)
    scores[:, 0] = 0.5 + rng.normal(0, 0.3, 60)
    scores[:4, 1] = 0.4 + rng.normal(0, 0.3, 4)
    costs = np.where(np.isfinite(scores), 1.0, np.nan)
    bandit = RidgeBandit([["look"], ["think"]], features=features, exploring="ucb", width=3.0)
    spread = bandit.fit(x, scores, costs, alpha=10.0).ridge.spread(x)
    assert (spread[:, 1] > spread[:, 0]).mean() > 0.9


# ----------------------------------------------------------------------------------------- regression


def test_the_closed_form_is_that_of_the_normal_equations():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(50, 4)) * [1, 10, 0.1, 3] + 5, rng.normal(size=(50, 2))
    found = fit(x, y, alpha=2.0)
    z = (x - x.mean(0)) / x.std(0)
    weights = np.linalg.solve(z.T @ z + 2 * np.eye(4), z.T @ (y - y.mean(0)))
    np.testing.assert_allclose(found.weights, weights.T, atol=1e-10)
    np.testing.assert_allclose(found.expected(x), z @ weights + y.mean(0), atol=1e-10)
    inverse = np.linalg.inv(z.T @ z + 2 * np.eye(4))
    np.testing.assert_allclose(found.covariance[0] / found.noise**2, inverse, atol=1e-10)


def test_leaving_out_each_row_in_closed_form_is_leaving_out_each_row():
    from policies.ridge import _Arm

    rng = np.random.default_rng(4)
    z, y = rng.normal(size=(12, 3)), rng.normal(size=12)
    slow = 0.0
    for i in range(12):
        rest = np.arange(12) != i
        middle, mean = z[rest].mean(0), y[rest].mean()
        w = np.linalg.solve(
            (z[rest] - middle).T @ (z[rest] - middle) + 0.7 * np.eye(3),
            (z[rest] - middle).T @ (y[rest] - mean),
        )
        slow += (y[i] - mean - (z[i] - middle) @ w) ** 2
    assert _Arm(z, y).left_out(0.7) == pytest.approx(slow, rel=1e-9)


def test_intervals_hold_what_they_should():
    rng = np.random.default_rng(5)
    true, inside = rng.normal(size=6) * 0.3, []
    for _ in range(200):
        x = rng.normal(size=(80, 6))
        found = fit(x, (x @ true + rng.normal(0, 0.5, 80))[:, None], alpha=0.5)
        at = rng.normal(size=(1, 6))
        off = abs(found.expected(at)[0, 0] - at[0] @ true)
        inside.append(off < 1.96 * found.spread(at)[0, 0])
    assert 0.9 < np.mean(inside) <= 1.0


def test_more_features_than_problems_and_features_that_never_change_are_no_trouble():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(10, 40))
    x[:, 3] = 7.0
    found = fit(x, rng.normal(size=(10, 2)))
    assert all(np.isfinite(part).all() for part in found)
    assert np.isfinite(found.spread(rng.normal(size=(5, 40)))).all()


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((5, 2)), np.zeros((4, 2)), "features are"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "features hold NaN"),
        (np.zeros((5, 2)), np.full((5, 2), math.inf), "scores hold infinity"),
        (np.zeros((5, 2)), np.full((5, 2), np.nan), "fewer than 3 times"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, y, said):
    with pytest.raises(PolicyError, match=said):
        fit(x, y)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RidgeBandit([]),
        lambda: RidgeBandit([["look"], ["look"]]),
        lambda: RidgeBandit(["look", "think"]),
        lambda: RidgeBandit([["look", "look"]]),
        lambda: RidgeBandit(ARMS, exploring="boldly"),
        lambda: RidgeBandit(ARMS, cost_weight=-1),
        lambda: RidgeBandit(ARMS).choose(np.zeros((1, 47))),
        lambda: RidgeBandit(ARMS).fit(np.zeros((9, 3)), np.zeros((9, 3)), np.zeros((9, 3))),
        lambda: fit(np.zeros((9, 3)), np.zeros((9, 3)), alpha=-1.0),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(PolicyError):
        wrong()
