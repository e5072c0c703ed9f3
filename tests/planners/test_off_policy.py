"""Policies estimated from logged runs of another one, beside what they are worth exactly."""

import sys
from pathlib import Path

import numpy as np
import pytest

from planners import tree
from planners.comparison import compare
from planners.comparison.logged import Unrolling, drawn, of_runs
from planners.comparison.off_policy import estimates
from planners.tree import TreeError, Within
from policies.random import RandomPolicy
from unroller import STOP, Cost, Decision, policy, probe
from unroller.faults import PolicyError
from unroller.journal import read_log

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys
from tree_toys import built, executor


@policy(probes=("hint",))
def helped(state):
    """Looks, and then calls the helper that is needed."""
    if state.step == 0:
        return "look"
    k = int(np.argmax(state.probe.hint))
    return STOP if state.step > 1 or not k else f"help_{k}"


POLICIES = {"helped": helped, "look": ["look"], "often": RandomPolicy(0.6), "direct": []}


@pytest.fixture(scope="module")
def small():
    return tree.synthetic(24, helpers=1, easy=0.3, draws=1)


@pytest.fixture(scope="module")
def quiz(tmp_path_factory):
    return built(tmp_path_factory.mktemp("quiz") / "tree", actions=["hint", "dice"])


def test_ips_and_dr_are_right_on_average(small):
    """The mean over a hundred logs lies within four standard errors of the exact value."""
    logs = [drawn(small, RandomPolicy(0.3), seed=seed) for seed in range(100)]
    found = [estimates(small, log, POLICIES, resamples=1, seed=k) for k, log in enumerate(logs)]
    for p, name in enumerate(POLICIES):
        exact = tree.evaluate(small, POLICIES[name]).score.mean
        assert found[0][p].exact == pytest.approx(exact)
        for figure in ("ips", "dr"):
            means = np.array([getattr(one[p], figure).mean for one in found])
            assert abs(means.mean() - exact) < 4 * means.std() / len(means) ** 0.5, (name, figure)
        weights = np.array([one[p].weight for one in found])
        assert abs(weights.mean() - 1) < 4 * weights.std() / len(weights) ** 0.5


def test_all_three_get_there_with_more_to_go_by(small):
    log = drawn(small, RandomPolicy(0.3), times=60, seed=5)
    for one in estimates(small, log, POLICIES, resamples=300):
        for figure in (one.ips, one.snips, one.dr):
            assert abs(figure.mean - one.exact) < 0.1, one
            assert figure.low - 0.05 <= one.exact <= figure.high + 0.05
        assert one.dr.high - one.dr.low <= one.ips.high - one.ips.low, "a table of values steadies it"


def test_a_policy_is_estimated_on_its_own_log_by_the_mean(small):
    log = drawn(small, RandomPolicy(0.5), seed=1)
    (one,) = estimates(small, log, {"same": RandomPolicy(0.5)}, resamples=50)
    mean = np.mean([small.score[u.problem, u.draw, u.states[-1]] for u in log])
    assert one.ips.mean == pytest.approx(mean) and one.snips.mean == pytest.approx(mean)
    assert one.effective == pytest.approx(len(log)) and one.weight == pytest.approx(1)


def test_with_a_price_it_is_the_value(small):
    log = drawn(small, RandomPolicy(0.3), times=40, seed=2)
    (one,) = estimates(small, log, {"helped": helped}, weight=0.1, resamples=50)
    exact = tree.evaluate(small, helped)
    assert one.exact == pytest.approx(exact.score.mean - 0.1 * exact.cost.mean)
    assert one.snips.mean == pytest.approx(one.exact, abs=0.05)


def test_a_probe_of_the_problem_alone_is_paid_once_a_run_and_others_at_every_look(tmp_path):
    @probe(reads=("metadata",), cost=Cost(model_calls=2))
    def level(view):
        """How hard it is, which takes two calls to say."""
        return float(view.metadata["level"])

    quiz = built(tmp_path, actions=["hint", "dice"], probes=[level, toys.sureness])
    log = drawn(quiz, RandomPolicy(0.3), times=5)
    assert max(len(one.decisions) for one in log) == 3
    for probes, price in ((("level",), lambda looks: 2), (("sureness",), lambda looks: looks)):
        looking = RandomPolicy(0.3)
        looking.probes = probes
        (one,) = estimates(quiz, log, {"looking": looking}, weight=0.1, resamples=10)
        values = [
            quiz.score[u.problem, u.draw, u.states[-1]]
            - 0.1 * (quiz.cost[u.problem, u.draw, u.states[-1], 0] + price(len(u.decisions)))
            for u in log
        ]
        assert one.ips.mean == pytest.approx(np.mean(values)), probes


def test_what_the_log_never_does_shows_in_the_weights(small):
    only_help = [Unrolling(i, 0, (Decision(("help_1",), -1.0), Decision((), 0.0)), (0, 2, 2)) for i in (0, 1)]
    assert small.states[2] == ("help_1",)
    (one,) = estimates(small, only_help, {"look": ["look"]}, resamples=20)
    assert one.weight == 0 and one.effective == 0 and one.ips.mean == 0 and np.isnan(one.snips.mean)


def test_live_runs_are_read_as_they_were_made(quiz, tmp_path):
    behaviour = RandomPolicy(0.3, seed=2)
    live = executor().extend(policy=Within(behaviour, quiz), journal=tmp_path / "log")
    drawn_problems = [p.model_copy(update={"seed": d}) for p in toys.problems() for d in range(2)]
    runs = list(live.map(drawn_problems))
    live.close()
    found = of_runs(quiz, runs)
    assert [quiz.score[u.problem, u.draw, u.states[-1]] for u in found] == [
        run.output.probabilities[run.problem.choices.index(run.problem.metadata["truth"]["answer"])]
        for run in runs
    ]
    recorded = of_runs(quiz, read_log(tmp_path / "log").runs)
    key = [(u.problem, u.draw) for u in found]
    assert sorted(recorded, key=lambda u: key.index((u.problem, u.draw))) == found
    (one,) = estimates(quiz, found, {"same": behaviour}, resamples=20)
    assert one.weight == pytest.approx(1) and one.n == 24


def test_runs_of_something_else_are_refused(quiz, tmp_path):
    live = executor().extend(policy=Within(RandomPolicy(0.1), quiz))
    with pytest.raises(TreeError, match="does not hold"):
        of_runs(quiz, [live.run(toys.questions(99))])
    with pytest.raises(TreeError, match="no log-probability"):
        of_runs(quiz, [executor().extend(policy=["hint"]).run(toys.questions(0))])
    run = executor().extend(policy=[Decision(("dice",), 0.0), Decision((), 0.0)]).run(toys.questions(0))
    assert of_runs(quiz, [run])[0].states[-1] == quiz.number(["dice"])
    hinted = executor().extend(policy=[Decision(("hint",), 0.0), Decision((), 0.0)])
    other = built(tmp_path / "other", n=2, actions=["dice", "picture"], draws=1)
    with pytest.raises(TreeError, match="wrote something else"):
        of_runs(other, [hinted.run(toys.questions(0))])


def test_comparisons_show_estimates_beside_the_exact_score(small):
    log = drawn(small, RandomPolicy(0.3), times=8)
    found = compare(small, {"helped": helped}, logged=log, resamples=100)
    of = {one.policy: one for one in found.logged}
    assert {"direct", "helped", "ridge λ=0.02"} <= set(of)
    assert of["helped"].exact == pytest.approx(found.row("helped").score.mean)
    assert of["helped"].n == 8 * found.n, "only what was logged on problems that are held out"


def test_bad_logs_are_said_in_a_sentence(small):
    with pytest.raises(TreeError, match="nothing was logged"):
        estimates(small, [], POLICIES)
    with pytest.raises(PolicyError, match="how probable"):
        drawn(small, ["look"])
    with pytest.raises(TreeError, match="one tree"):
        compare([small, tree.synthetic(10, seed=3)], logged=drawn(small, RandomPolicy()), resamples=10)
