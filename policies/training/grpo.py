"""Group-relative policy optimisation (Shao et al. 2024): no value network; what an unrolling is worth is seen
beside others of the same problem.

For G unrollings of one root with returns R_i = score − λ · cost:

    A_i = (R_i − mean R) / (std R + ε)
    ρ_it = π(a_it | s_it) / π_old(a_it | s_it)
    L = −1/U Σ_i Σ_t [min(ρ_it A_i, clip(ρ_it, 1 − c, 1 + c) A_i) + τ H(s_it)]

The sum over an unrolling's decisions is not divided by their number, which would favour long ones that fail
(Liu et al. 2025). Where all of a group came to the same there is nothing to learn from it: the curve's
`zero_variance` is the share of such groups. Only what a whole unrolling came to matters, so rewards on the
way would change nothing: they sum to the same.
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
from policies.training.sampling import Unrollings, sample
from unroller.faults import PolicyError

Array = np.ndarray[Any, Any]

LEAST_SPREAD = 1e-6
"""Of returns in a group: below it they are all the same."""


class GRPO(Settings, frozen=True, kw_only=True):
    """Settings of GRPO. group: unrollings of each problem. epochs: times that each batch is gone through.
    clip: c. normalise: divide by the group's standard deviation; τ is then in units of it."""

    learning_rate: float = 3e-3
    entropy: float = 0.3
    group: int = 16
    epochs: int = 4
    clip: float = 0.2
    normalise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group < 2:
            raise PolicyError(f"a group of {self.group} has nobody to be compared with: give 2 or more")


DEFAULT = GRPO()


def train(
    policy: LearnedPolicy,
    data: Table | Tabular,
    *,
    cost_weight: float = 0.0,
    seed: int = 0,
    settings: GRPO = DEFAULT,
    price: Any = None,
    out: str | Path | None = None,
    tell: Tell | None = None,
) -> LearnedPolicy:
    """A copy of the policy, trained on sampled unrollings to the highest E[score] − λ · E[cost], λ being
    `cost_weight`. See `Course` for the arguments and what is raised."""
    kept = {"price": price, "out": out, "tell": tell}
    with Course("grpo", policy, data, settings, cost_weight, seed, **kept) as course:
        while course.goes_on():
            roots = course.roots(settings.problems).repeat(settings.group)
            unrolled = sample(course, roots)
            advantage, same = advantages(course.table, unrolled, cost_weight, settings)
            for _ in range(settings.epochs):
                course.learn(_loss(course, unrolled, advantage, settings.clip))
            course.passed(unrolled.decisions, zero_variance=same)
    return course.policy


def advantages(table: Table, of: Unrollings, cost_weight: float, settings: GRPO) -> tuple[Array, float]:
    """(U, T) the advantage of each decision, and the share of groups in which all returns are the same."""
    end = table.value(cost_weight)[of.roots, of.end]
    groups = end.reshape(-1, settings.group)  # (problems, G)
    ahead, spread = groups - groups.mean(1, keepdims=True), groups.std(1, keepdims=True)
    same = spread < LEAST_SPREAD
    scale = np.where(same, np.inf, spread if settings.normalise else 1.0)
    return np.where(of.made, (ahead / scale).reshape(-1, 1), 0.0), float(same.mean())


def _loss(course: Course, of: Unrollings, advantage: Array, clip: float) -> torch.Tensor:
    lanes, t = np.nonzero(of.made)
    log_p, _ = course.network(*course.asked(of.roots[lanes], of.state[lanes, t]))
    taken = log_p.gather(1, torch.from_numpy(of.choice[lanes, t])[:, None]).squeeze(1)
    ratio = (taken - torch.from_numpy(of.log_p[lanes, t]).float()).exp()
    gain = torch.from_numpy(advantage[lanes, t]).float()
    least = torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    return -(least.sum() + course.entropy * entropy(log_p).sum()) / len(of.roots)
