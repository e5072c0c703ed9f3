"""Cloning of the oracle: do in each problem what turned out to be best for it.

For each root the best state at λ, and then the choices that lead there:

    s* = argmax_s mean over the other half of the problem's draws of score − λ · cost
    L = −mean over the choices (s, a) on the way to s*, STOP the last, of log p(a | s)

*Cross-fitted*: a root's state is chosen by draws that it is not one of, so that luck in its own draw is not
copied. With one draw it is chosen by that one. Of equal ones the cheapest is taken, then the shortest.

It imitates somebody who knows the answer: where that cannot be told from what is seen, it averages over what
would have been best, which need not be good. A start for the other trainers, and a bound on what imitation
gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies.learned import LearnedPolicy
from policies.network import entropy
from policies.table import Table, Tabular
from policies.training.course import Course, Settings, Tell

Array = np.ndarray[Any, Any]


class Cloning(Settings, frozen=True, kw_only=True):
    """Settings of cloning: see `Settings`. The entropy bonus is 0 unless it is given."""

    problems: int = 64
    learning_rate: float = 3e-3
    entropy: float = 0.0


DEFAULT = Cloning()


def train(
    policy: LearnedPolicy,
    data: Table | Tabular,
    *,
    cost_weight: float = 0.0,
    seed: int = 0,
    settings: Cloning = DEFAULT,
    price: Any = None,
    out: str | Path | None = None,
    tell: Tell | None = None,
) -> LearnedPolicy:
    """A copy of the policy that imitates the cross-fitted oracle at λ = `cost_weight`. See `Course` for the
    arguments and what is raised."""
    kept = {"price": price, "out": out, "tell": tell}
    with Course("clone", policy, data, settings, cost_weight, seed, **kept) as course:
        ways = _ways(course.table, oracle_states(course.table, cost_weight))
        while course.goes_on():
            rows = course.roots(settings.problems)
            lanes, t = np.nonzero(ways[rows, :, 0] >= 0)
            state, choice = ways[rows[lanes], t].T
            log_p, _ = course.network(*course.asked(rows[lanes], state))
            taken = log_p.gather(1, torch.from_numpy(choice)[:, None]).squeeze(1)
            right = float((log_p.argmax(1).numpy() == choice).mean())
            course.learn(-(taken + course.entropy * entropy(log_p)).mean())
            course.passed(len(lanes), agreement=right)
    return course.policy


def oracle_states(table: Table, cost_weight: float) -> Array:
    """(N,) the state that is best for each root by the other half of its problem's draws, of those that are
    reached in all of them and in its own."""
    value = np.where(table.reached, table.value(cost_weight), -np.inf)  # (N, S)
    found = np.zeros(len(table), int)
    for rows in _problems(table):
        for own, others in ((rows[::2], rows[1::2]), (rows[1::2], rows[::2])):
            by = others if len(others) else own
            mean, cost = value[by].mean(0), table.cost[by].mean(0)
            for row in own.tolist():
                here = np.where(table.reached[row], mean, -np.inf)
                order = np.lexsort((table.size, np.round(cost, 12), -np.round(here, 12)))
                found[row] = order[0]
    return found


def _problems(table: Table) -> list[Array]:
    """The roots of each problem, in the order of their draws."""
    order = np.lexsort((table.draw, table.problem))
    return np.split(order, np.flatnonzero(np.diff(table.problem[order])) + 1)


def _ways(table: Table, ends: Array) -> Array:
    """(N, T, 2) states and choices on the way to each root's end, STOP the last; -1 beyond."""
    found = np.full((len(ends), int(table.size.max()) + 1, 2), -1)
    number = {state: s for s, state in enumerate(table.states)}
    ways: dict[int, Array] = {}
    for end in np.unique(ends).tolist():
        calls = table.states[end]
        steps = [(number[calls[:i]], table.actions.index(name)) for i, name in enumerate(calls)]
        ways[end] = np.array([*steps, (end, table.stop)])
    for row, end in enumerate(ends.tolist()):
        found[row, : len(ways[end])] = ways[end]
    return found
