"""What a policy is worth on a table, exactly: over everything it might do, by dynamic programming.

With p(a | s) the policy's choices, n(s, a) the state that a call leads to and u(s) = score − λ · cost of
answering in s, for one root:

    d(0) = 1,  d(n(s, a)) = d(s) p(a | s)          how probably a state is come to
    Q(s, STOP) = u(s),  Q(s, a) = V(n(s, a))       what a choice is worth
    V(s) = Σ_a p(a | s) Q(s, a)                    what a state is worth; J = V(0)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from policies.table import Table

if TYPE_CHECKING:
    from policies.learned import LearnedPolicy, Mode

Array = np.ndarray[Any, Any]

TOGETHER = 256
"""Roots whose states a network is asked about at a time."""


class Expected(msgspec.Struct, frozen=True, eq=False):
    """What a policy comes to on N roots. ended (N, S): how probably it answers in each state; score, hard,
    cost (N,): expected, `hard` NaN where it was not measured; entropy: nats of its choices a decision."""

    ended: Array
    score: Array
    hard: Array
    cost: Array
    entropy: float

    def value(self, cost_weight: float) -> float:
        """Mean score − λ · mean cost."""
        return float(self.score.mean() - cost_weight * self.cost.mean())


def expected(table: Table, policy: LearnedPolicy, mode: Mode | None = None) -> Expected:
    """A policy on every root of a table. mode: "greedy" or "sample", in place of the policy's own."""
    return expectations(table, policy, (mode or policy.mode,))[0]


def expectations(table: Table, policy: LearnedPolicy, modes: Sequence[Mode]) -> list[Expected]:
    """The same for several modes, with the network asked once."""
    parts: list[list[tuple[Array, ...]]] = [[] for _ in modes]
    for rows in np.array_split(np.arange(len(table)), -(-len(table) // TOGETHER)):
        asked = choosing(table, rows)
        log_p, _ = policy.log_probabilities(table.observations[rows][asked])
        for held, mode in zip(parts, modes, strict=True):
            held.append(followed(table, asked, likely(log_p, mode)))
    return [summed(table, *map(np.concatenate, zip(*held, strict=True))) for held in parts]


def visits(table: Table, p: Array) -> Array:
    """d (R, S) for choices p (R, S, A + 1)."""
    found = np.zeros(p.shape[:2])
    found[:, 0] = 1.0
    for s in range(p.shape[1]):  # a state comes after the one it was made from
        there = np.flatnonzero(table.next[s] >= 0)
        if there.size:
            found[:, table.next[s, there]] += found[:, s, None] * p[:, s, there]
    return found


def worth(table: Table, p: Array, stopped: Array, bonus: Array | float = 0.0) -> tuple[Array, Array]:
    """Q (R, S, A + 1) and V (R, S) for choices p (R, S, A + 1), where answering is worth `stopped` (R, S).
    bonus (R, S): added to V, and so to the Q of every call that leads there."""
    q, v = np.zeros(p.shape), np.zeros(p.shape[:2])
    bonus = np.broadcast_to(bonus, v.shape)
    q[..., -1] = stopped
    for s in range(p.shape[1] - 1, -1, -1):
        there = np.flatnonzero(table.next[s] >= 0)
        if there.size:
            q[:, s, there] = v[:, table.next[s, there]]
        v[:, s] = (p[:, s] * q[:, s]).sum(1) + bonus[:, s]
    return q, v


def best(table: Table, cost_weight: float) -> Array:
    """(N,) what the best calls for each root are worth, known beforehand: no policy is better on it, and one
    that sees no truth need not come near."""
    stopped = np.where(table.reached, table.value(cost_weight), -np.inf)
    found = stopped.copy()
    for s in range(found.shape[1] - 1, -1, -1):
        for a in np.flatnonzero(table.next[s] >= 0):
            open_ = table.allowed[:, s, a]
            found[:, s] = np.maximum(found[:, s], np.where(open_, found[:, table.next[s, a]], -np.inf))
    return found[:, 0]


def choosing(table: Table, rows: Array) -> Array:
    """(R, S) where there is something to choose: reached, and not STOP alone."""
    return table.reached[rows] & (table.allowed[rows].sum(-1) > 1)


def filled(chosen: Array, p: Array) -> Array:
    """(R, S, A + 1) from p (M, A + 1) of the M states where there is something to choose, STOP elsewhere."""
    found = np.zeros((*chosen.shape, p.shape[-1]))
    found[..., -1] = 1.0
    found[chosen] = p
    return found


def likely(log_p: Array, mode: Mode) -> Array:
    """Probabilities (M, A + 1) of choices in a mode."""
    if mode == "greedy":
        return (log_p.argmax(1)[:, None] == np.arange(log_p.shape[1])).astype(float)
    p = np.exp(log_p)
    return p / p.sum(1, keepdims=True)


def followed(table: Table, asked: Array, p: Array) -> tuple[Array, Array, Array]:
    """(R, S) where it answers, (R,) the entropy of all its choices, and (R,) how many it makes."""
    chosen = filled(asked, p)
    d = visits(table, chosen)
    spread = np.zeros(asked.shape)
    spread[asked] = -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)
    return d * chosen[..., -1], (d * spread).sum(1), (d * asked).sum(1)


def summed(table: Table, ended: Array, spread: Array, decisions: Array) -> Expected:
    """What that comes to, from `followed` for all roots of the table."""

    def mean(of: Array) -> Array:
        return (ended * np.where(ended > 0, of, 0.0)).sum(1)

    entropy = float(spread.sum() / max(float(decisions.sum()), 1e-12))
    return Expected(ended, mean(table.score), mean(table.hard), mean(table.cost), entropy)
