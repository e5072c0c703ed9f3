"""Exact policy gradient: the expectation over everything the policy might do, with no sampling.

    ∇J = Σ_s d(s) Σ_a ∇p(a | s) Q(s, a)           the policy gradient theorem (Sutton et al. 1999)

d and Q come from dynamic programming over the table (`policies.training.expectation`), so an update has no
noise but which problems it looks at. With an entropy bonus τ it is the gradient of J + τ E[Σ_t H(s_t)], and
exact too: V(s) gains τ H(s), and a choice is worth Q(s, a) − τ log p(a | s).

It needs a whole table, of which a sampling trainer sees what it comes to; a step is a state of a problem that
the network was asked about.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.learned import LearnedPolicy
from policies.table import Table, Tabular
from policies.training.course import Course, Settings, Tell
from policies.training.expectation import choosing, filled, visits, worth

Array = np.ndarray[Any, Any]


class Exact(Settings, frozen=True, kw_only=True):
    """Settings of the exact gradient."""


DEFAULT = Exact()


def train(
    policy: LearnedPolicy,
    data: Table | Tabular,
    *,
    cost_weight: float = 0.0,
    seed: int = 0,
    settings: Exact = DEFAULT,
    price: Any = None,
    out: str | Path | None = None,
    tell: Tell | None = None,
) -> LearnedPolicy:
    """A copy of the policy, trained on a tree or table to the highest E[score] − λ · E[cost], λ being
    `cost_weight`. See `Course` for the arguments and what is raised."""
    with Course(
        "exact", policy, data, settings, cost_weight, seed, price=price, out=out, tell=tell
    ) as course:
        stopped = course.table.value(cost_weight)
        while course.goes_on():
            rows = course.roots(settings.problems)
            loss, decisions, _, _ = gradient(course, rows, stopped[rows])
            course.learn(loss)
            course.passed(decisions)
    return course.policy


def gradient(course: Course, rows: Array, stopped: Array) -> tuple[Tensor, int, Array, Array]:
    """A loss whose gradient is −∇(J + τ · entropy) for some roots, R of them, where answering is worth
    `stopped` (R, S); how many states the network was asked about; p (R, S, A + 1) and d (R, S)."""
    table, tau = course.table, course.entropy
    asked = choosing(table, rows)
    r, s = np.nonzero(asked)
    log_p, _ = course.network(*course.asked(rows[r], s))
    p = log_p.exp()
    finite = log_p.detach().masked_fill(p == 0, 0.0)
    chosen = filled(asked, p.detach().double().numpy())
    spread = np.zeros(asked.shape)
    spread[asked] = -(p.detach() * finite).sum(-1).numpy()
    q, v = worth(table, chosen, stopped, tau * spread)
    d = visits(table, chosen)
    gain = torch.from_numpy((q - v[..., None])[asked]).float() - tau * finite
    loss = -(torch.from_numpy(d[asked]).float() * (p * gain).sum(-1)).sum() / len(rows)
    return loss, len(r), chosen, d
