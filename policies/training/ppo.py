"""Proximal policy optimisation (Schulman et al. 2017): clipped ratios, and a value head as the baseline.

For the decisions t of an unrolling, rewards r_t that sum to score − λ · cost, and values v_t of the network:

    δ_t = r_t + v_{t+1} − v_t                    nothing is discounted; after the last decision v is 0
    A_t = δ_t + g A_{t+1}                        generalised advantage estimation (Schulman et al. 2016)
    L = −mean min(ρ_t Â_t, clip(ρ_t, 1 − c, 1 + c) Â_t) + k · mean (v_t − (A_t + v_t^old))² − τ · mean H

with  the advantages brought to mean 0 and deviation 1 over the batch.
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
from policies.training.sampling import Unrollings, rewards, sample
from unroller.faults import PolicyError

Array = np.ndarray[Any, Any]


class PPO(Settings, frozen=True, kw_only=True):
    """Settings of PPO. problems: unrollings in a batch, each of another root. epochs: times that a batch is
    gone through, in minibatches of so many decisions. clip: c. gae: g. value: k. dense: see
    `sampling.rewards`. entropy: in deviations of the advantages."""

    problems: int = 128
    learning_rate: float = 3e-3
    entropy: float = 0.5
    epochs: int = 4
    minibatch: int = 128
    clip: float = 0.2
    gae: float = 0.95
    value: float = 0.5
    dense: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gae > 1:
            raise PolicyError(f"gae is {self.gae:g}: give a number from 0 to 1")


DEFAULT = PPO()


def train(
    policy: LearnedPolicy,
    data: Table | Tabular,
    *,
    cost_weight: float = 0.0,
    seed: int = 0,
    settings: PPO = DEFAULT,
    price: Any = None,
    out: str | Path | None = None,
    tell: Tell | None = None,
) -> LearnedPolicy:
    """A copy of the policy, trained on sampled unrollings to the highest E[score] − λ · E[cost], λ being
    `cost_weight`; its value head learns what states are worth. See `Course` for the arguments and what is
    raised."""
    kept = {"price": price, "out": out, "tell": tell}
    with Course("ppo", policy, data, settings, cost_weight, seed, **kept) as course:
        while course.goes_on():
            unrolled = sample(course, course.roots(settings.problems))
            got = rewards(course.table, unrolled, cost_weight, settings.dense)
            advantage = advantages(unrolled, got, settings.gae)
            lanes, t = np.nonzero(unrolled.made)
            if not len(lanes):  # only STOP was left in every one of them
                course.passed(unrolled.decisions)
                continue
            for _ in range(settings.epochs):
                order = course.random.permutation(len(lanes))
                for some in np.array_split(order, max(1, -(-len(order) // settings.minibatch))):
                    course.learn(_loss(course, unrolled, advantage, lanes[some], t[some]))
            course.passed(unrolled.decisions, explained=_explained(unrolled, got))
    return course.policy


def advantages(of: Unrollings, got: Array, gae: float) -> Array:
    """(U, T) generalised advantage estimates of rewards (U, T)."""
    found = np.zeros(got.shape)
    ahead, following = np.zeros(len(got)), np.zeros(len(got))
    for t in range(got.shape[1] - 1, -1, -1):
        made = of.made[:, t]
        found[:, t] = np.where(made, got[:, t] + following - of.value[:, t] + gae * ahead, 0.0)
        ahead = np.where(made, found[:, t], ahead)
        following = np.where(made, of.value[:, t], following)
    return found


def _loss(course: Course, of: Unrollings, advantage: Array, lanes: Array, t: Array) -> torch.Tensor:
    settings: Any = course.settings
    whole = advantage[of.made]
    log_p, value = course.network(*course.asked(of.roots[lanes], of.state[lanes, t]))
    taken = log_p.gather(1, torch.from_numpy(of.choice[lanes, t])[:, None]).squeeze(1)
    ratio = (taken - torch.from_numpy(of.log_p[lanes, t]).float()).exp()
    gain = torch.from_numpy((advantage[lanes, t] - whole.mean()) / (whole.std() + 1e-8)).float()
    target = torch.from_numpy((advantage + of.value)[lanes, t]).float()
    least = torch.minimum(ratio * gain, ratio.clamp(1 - settings.clip, 1 + settings.clip) * gain)
    wrong = (value - target).square().mean()
    return -least.mean() + settings.value * wrong - course.entropy * entropy(log_p).mean()


def _explained(of: Unrollings, got: Array) -> float:
    """The share of the variance of returns that the value head explained: 1 is all, below 0 is worse than
    their mean."""
    ahead = np.where(of.made, got[:, ::-1].cumsum(1)[:, ::-1], 0.0)[of.made]
    return float(1 - (ahead - of.value[of.made]).var() / max(float(ahead.var()), 1e-12))
