"""A policy that meets a budget: the highest E[score] with E[cost] ≤ b, by dual ascent on the exact gradient.

    L(π, λ) = E[score] − λ (E[cost] − b)          π climbs, λ ≥ 0 falls: a saddle point
    λ ← max(0, λ + η (E[cost] − b))

λ is what a unit of cost must bring at this budget. To keep both from circling around the saddle point, π is
paid by λ + κ (E[cost] − b): a proportional term beside the integral one (Stooke et al. 2020). E[cost] is
exact for the problems of an update, as the gradient is.

What comes out is near the budget, not on it, and a mean cost between those of two policies that always do the
same is met by chance alone. So at the end a number is added to STOP's logit, and the policy samples or is
greedy: of what meets the budget on the training problems, whichever scores most.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies.learned import LearnedPolicy, Mode
from policies.price import not_negative
from policies.table import Table, Tabular
from policies.training.course import Course, Settings, Tell, some_of
from policies.training.exact import gradient
from policies.training.expectation import choosing, followed, likely, summed
from unroller.faults import PolicyError

LEANINGS = np.linspace(-4.0, 4.0, 81)
"""What may be added to STOP's logit at the end."""

CALIBRATED = 1024
"""Roots that it is chosen on, drawn at random where there are more."""


class Lagrangian(Settings, frozen=True, kw_only=True):
    """Settings of the dual ascent. rate: η, falling to nothing by the end; damping: κ. Two things are learned
    at once, so it takes more steps than the others."""

    steps: int = 200_000
    problems: int = 32
    rate: float = 0.02
    damping: float = 0.1


DEFAULT = Lagrangian()


def train(
    policy: LearnedPolicy,
    data: Table | Tabular,
    *,
    mean_cost: float,
    cost_weight: float = 0.0,
    seed: int = 0,
    settings: Lagrangian = DEFAULT,
    price: Any = None,
    out: str | Path | None = None,
    tell: Tell | None = None,
) -> LearnedPolicy:
    """A copy of the policy, trained to the highest E[score] at a mean cost of `mean_cost` or less.

    The cost is in units of the price, what answering and probes cost included. cost_weight: λ to begin with;
    the curve's `weight` is what became of it, and its `value` is E[score] − λ E[cost] for the λ of the
    beginning.

    See `Course` for the other arguments and what is raised; PolicyError for a budget that not even the
    cheapest unrolling of every problem meets.
    """
    budget = not_negative("the mean cost to meet", mean_cost)
    held = {"weight": not_negative("λ", cost_weight), "mean_cost": budget}
    kept = {"price": price, "out": out, "tell": tell, "held": held}
    with Course("lagrangian", policy, data, settings, cost_weight, seed, **kept) as course:
        table = course.table
        least = float(table.cost[:, 0].mean())
        if budget < least:
            raise PolicyError(
                f"a mean cost of {budget:g} cannot be met: answering at once costs {least:g} in the mean"
            )
        while course.goes_on():
            rows = course.roots(settings.problems)
            beyond = course.held.get("beyond", 0.0)
            paid = max(0.0, course.held["weight"] + settings.damping * beyond)
            loss, decisions, p, d = gradient(course, rows, table.score[rows] - paid * table.cost[rows])
            beyond = float((d * p[..., -1] * table.cost[rows]).sum() / len(rows)) - budget
            weight = max(0.0, course.held["weight"] + settings.rate * (1 - course.gone) * beyond)
            course.held |= {"weight": weight, "beyond": beyond}
            course.learn(loss)
            course.passed(decisions)
        _calibrate(course, budget)
    return course.policy


def _calibrate(course: Course, budget: float) -> None:
    """Lean the policy towards STOP or away from it, and choose its mode, to meet the budget exactly."""
    policy, stop = course.policy, course.table.stop
    table = some_of(course.table, CALIBRATED)
    asked = choosing(table, np.arange(len(table)))
    log_p, _ = policy.log_probabilities(table.observations[asked])
    found: list[tuple[bool, float, float, float, Mode]] = []
    modes: tuple[Mode, ...] = ("greedy", "sample")
    for leaning, mode in product(LEANINGS.tolist(), modes):
        leant = log_p.copy()
        leant[:, stop] += leaning
        got = summed(table, *followed(table, asked, likely(leant, mode)))
        score, cost = float(got.score.mean()), float(got.cost.mean())
        meets = cost <= budget + 1e-9
        # What does not meet it is the better the cheaper; of equal ones the one that leans least.
        found.append((meets, score if meets else -cost, -abs(leaning), leaning, mode))
    *_, leaning, mode = max(found)
    with torch.no_grad():
        policy.network.choice.bias[stop] += leaning
    policy.mode = mode
