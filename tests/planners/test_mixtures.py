"""Fixed schedules at any mean cost: the upper edge of (cost, score), for all problems and for each group."""

import numpy as np
import pytest

from planners.comparison.mixtures import at_cost, mixtures, upper_edge


def test_the_edge_leaves_out_what_a_mixture_beats():
    cost, score = np.array([1, 2, 3, 2, 4]), np.array([0.5, 0.6, 0.9, 0.8, 0.7])
    assert upper_edge(score, cost) == [0, 3, 2], "0.6 is below, and 0.7 is dearer and worse"


def test_of_equal_ones_the_cheaper_is_on_the_edge():
    assert upper_edge(np.array([0.5, 0.5, 0.5]), np.array([2.0, 1.0, 1.0])) == [1]


def test_between_two_schedules_a_mixture_by_lot():
    scores, costs = np.array([[0.5, 0.9]]), np.array([[1.0, 3.0]])
    for wanted, score, cost in [(1, 0.5, 1), (1.5, 0.6, 1.5), (3, 0.9, 3), (0.5, 0.5, 1), (9, 0.9, 3)]:
        found = at_cost(scores, costs, np.array([float(wanted)]))
        assert [float(x[0]) for x in found] == pytest.approx([score, cost])


def test_of_groups_the_one_that_gains_most_a_call_goes_up_first():
    """a: 0.2 to 0.8 for one call more; b: 0.5 to 0.6. A mean of 1.25 calls goes to a alone."""
    score = np.array([[0.2, 0.8], [0.2, 0.8], [0.5, 0.6], [0.5, 0.6]])
    cost = np.tile([1.0, 2.0], (4, 1))
    way = mixtures(score, cost, np.array([0, 0, 1, 1]), np.ones(4, bool))
    assert way.taken.tolist() == [[0, 0], [1, 0], [1, 1]]
    stops = (way.at_stops(table).mean(1)[None] for table in (score, cost))
    found, paid = at_cost(*stops, np.array([1.25]))
    assert (float(found[0]), float(paid[0])) == pytest.approx(((0.35 + 0.65) / 2, 1.25))


def test_what_is_chosen_is_chosen_on_the_problems_to_fit_on():
    score = np.array([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]])
    way = mixtures(score, np.ones((3, 2)), np.zeros(3, int), np.array([True, True, False]))
    assert way.taken.tolist() == [[1]] and way.at_stops(score)[0].tolist() == [0.9, 0.9, 0.1]


def test_a_group_with_nothing_to_fit_on_goes_the_way_of_all():
    score = np.array([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1]])
    way = mixtures(score, np.ones((3, 2)), np.array([0, 0, 1]), np.array([True, True, False]))
    assert way.taken.tolist() == [[1, 1]]


def test_no_other_mixture_of_schedules_scores_more_at_the_same_cost():
    rng = np.random.default_rng(0)
    n, schedules = 60, 7
    group, every = np.arange(n) % 3, np.ones(n, bool)
    score, cost = rng.random((n, schedules)), 1 + rng.integers(0, 4, (n, schedules)).astype(float)
    way = mixtures(score, cost, group, every)
    stops = [way.at_stops(table).mean(1)[None] for table in (score, cost)]
    for _ in range(300):
        lot = rng.dirichlet(np.full(schedules, 0.2), 3)[group]  # each group's own mixture
        mine, paid = (lot * score).sum(1).mean(), (lot * cost).sum(1).mean()
        assert mine <= at_cost(*stops, np.array([paid]))[0][0] + 1e-9
