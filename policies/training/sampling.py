"""Sampled unrollings of a table: what a policy does, decision by decision, and what it gets for it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import torch

from policies.table import Table
from policies.training.course import Course

Array = np.ndarray[Any, Any]


class Unrollings(msgspec.Struct, frozen=True, eq=False):
    """U unrollings of T decisions at most, padded; a state in which only STOP is left is none to learn from.

    roots (U,); made (U, T) bool: whether there was such a decision; state, choice, log_p, value (U, T): where
    it was taken, what was chosen, how probable that was, and what the network thought the state is worth; end
    (U,): the state that is answered in; decisions: how many were taken in all, forced STOPs included, as an
    environment counts steps.
    """

    roots: Array
    made: Array
    state: Array
    choice: Array
    log_p: Array
    value: Array
    end: Array
    decisions: int


def sample(course: Course, roots: Array) -> Unrollings:
    """One unrolling for each of these roots (U,), which may be there several times."""
    table, count, longest = course.table, len(roots), int(course.table.size.max()) + 1
    made = np.zeros((count, longest), bool)
    state, choice = np.zeros((count, longest), int), np.full((count, longest), table.stop)
    log_p, value = np.zeros((count, longest)), np.zeros((count, longest))
    at = np.zeros(count, int)
    open_ = np.ones(count, bool)
    decisions = 0
    for t in range(longest):
        lanes = np.flatnonzero(open_)
        decisions += len(lanes)
        lanes = lanes[table.allowed[roots[lanes], at[lanes], :-1].any(1)]
        if not lanes.size:
            break
        chosen, p, v = _drawn(course, roots[lanes], at[lanes])
        made[lanes, t], state[lanes, t], choice[lanes, t] = True, at[lanes], chosen
        log_p[lanes, t], value[lanes, t] = p, v
        open_[:] = False
        going = lanes[chosen != table.stop]
        open_[going] = True
        at[going] = table.next[at[going], choice[going, t]]
    return Unrollings(roots, made, state, choice, log_p, value, at, decisions)


def rewards(table: Table, of: Unrollings, cost_weight: float, dense: bool) -> Array:
    """(U, T) what each decision brought: for a call −λ times what it costs, and for the last decision the
    score − λ times what answering costs beside. dense: a call also brings what it changes in the score of the
    answer that could be given (its contribution), and the last decision what could be had without a call: the
    sum is the same, it only comes earlier.

    A row sums to score − λ · cost of the state that is answered in.
    """
    before = of.state
    after = np.concatenate([before[:, 1:], of.end[:, None]], 1)
    last = of.made.sum(1) - 1
    after[np.arange(len(last)), last] = of.end
    rows = of.roots[:, None]
    value = table.value(cost_weight)
    if dense:
        found = np.where(of.made, value[rows, after] - value[rows, before], 0.0)
        found[np.arange(len(last)), last] += value[of.roots, 0]
    else:
        found = np.where(of.made, -cost_weight * (table.cost[rows, after] - table.cost[rows, before]), 0.0)
        found[np.arange(len(last)), last] += (
            table.score[of.roots, of.end] - cost_weight * table.cost[of.roots, 0]
        )
    return found


def _drawn(course: Course, roots: Array, states: Array) -> tuple[Array, Array, Array]:
    """Choices (M,), their log-probabilities and the states' values, as the network has them now."""
    with torch.no_grad():
        log_p, value = course.network(*course.asked(roots, states))
    likely = log_p.double().numpy()
    summed = np.exp(likely).cumsum(1)
    drawn = course.random.random(len(likely))[:, None] * summed[:, -1:]
    chosen = np.minimum((summed <= drawn).sum(1), likely.shape[1] - 1)
    return chosen, likely[np.arange(len(likely)), chosen], value.numpy().astype(float)
