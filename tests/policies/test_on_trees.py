"""Policies that decide by chance, evaluated on a tree: in expectation, which is what many draws come to."""

import numpy as np
import pytest

from planners import tree
from policies.learned import LearnedPolicy
from policies.observation import Observation
from policies.random import RandomPolicy

TREE = tree.synthetic(n=60, helpers=2, seed=3)


def mean_of_draws(made, count=60):
    """The mean score over many seeds of a policy that is asked for one decision at a time."""

    class OneDecision:
        def __init__(self, policy):
            self.probes, self.name, self.decide = policy.probes, policy.name, policy.decide

    scores = [tree.evaluate(TREE, OneDecision(made(seed))).score.mean for seed in range(count)]
    return np.mean(scores), np.std(scores) / count**0.5


@pytest.mark.parametrize(
    "made",
    [
        lambda seed: RandomPolicy(stop=0.3, seed=seed),
        lambda seed: LearnedPolicy(observation=Observation(TREE.actions), mode="sample", seed=seed),
    ],
    ids=["random", "learned"],
)
def test_a_distribution_is_what_many_draws_come_to(made):
    if made(0).name == "learned":  # the seed also initialises weights: keep those, and draw anew
        weights = made(0).network.state_dict()

        def of(seed):
            policy = made(seed)
            policy.network.load_state_dict(weights)
            return policy
    else:
        of = made
    exact = tree.evaluate(TREE, of(0))
    mean, error = mean_of_draws(of)
    assert abs(exact.score.mean - mean) < 4 * error + 1e-9
    assert error > 0


def test_what_may_be_decided_sums_to_one_and_holds_what_is_decided():
    seen = []

    class Watching(RandomPolicy):
        def distribution(self, states):
            found = super().distribution(states)
            for several, decided in zip(found, self.decide(states), strict=True):
                odds = {one.calls: np.exp(one.log_probability) for one in several}
                seen.append(sum(odds.values()))
                assert decided.calls in odds
                assert np.exp(decided.log_probability) == pytest.approx(odds[decided.calls])
            return found

    tree.evaluate(TREE, Watching(stop=0.3))
    assert seen and np.allclose(seen, 1)


def test_a_greedy_network_has_one_thing_to_do():
    greedy = LearnedPolicy(observation=Observation(TREE.actions))
    found = tree.evaluate(TREE, greedy)
    without = type("Plain", (), {"probes": (), "name": "plain", "decide": greedy.decide})()
    assert found.score == tree.evaluate(TREE, without).score
