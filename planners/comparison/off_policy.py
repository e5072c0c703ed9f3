"""What a policy would be worth, from runs of another one: off-policy estimates beside the exact value.

An unrolling that a stochastic policy β made says, at each step, how probable its decision was. With π the
policy that is asked about, w = Π π(decision | state) / β(decision | state) and R what the answer was worth:

    IPS     mean of w R                            unbiased; one lucky unrolling can carry it
    SNIPS   sum of w R / sum of w                  a little biased, much steadier
    DR      mean of V(s₀) + Σ_t w_t (r_t + V(s_{t+1}) - Q(s_t, a_t))      unbiased, and steady where Q is good

w_t is the product up to step t, r_t is R at the last step and 0 before it (Jiang and Li 2016). Q is a table
over states of the tree and what was decided there, in each group of problems, worked out backwards from the
unrollings of the *other* half of the problems, so that DR stays unbiased; V is its mean under π.

All three need that β might make every decision that π makes. What β never does weighs nothing: the mean of w
is then below 1, which is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from planners.comparison.logged import Calls, Unrolling, by_calls, calls_of, state_of
from planners.comparison.measures import Draws
from planners.tree import CompleteTree, TreeError, evaluate
from planners.tree.pricing import Price, price_of
from planners.tree.seeing import Seen
from unroller.ablation.bootstrap import RESAMPLES, Estimate
from unroller.decide import as_decision, as_policy

Array = np.ndarray[Any, Any]
Probabilities = dict[Calls, float]

TOGETHER = 4096
"""States that a policy is asked about at a time."""


class Estimated(msgspec.Struct, frozen=True):
    """A policy's score, from n unrollings of another one, with 95 % intervals over problems; exact: the same
    from the tree. effective: how many unrollings of its own the weights are worth, (Σw)² / Σw²; weight: their
    mean, which is 1 but for chance unless the log lacks what the policy does."""

    policy: str
    n: int
    exact: float
    ips: Estimate
    snips: Estimate
    dr: Estimate
    effective: float
    weight: float


def estimates(
    tree: CompleteTree,
    logged: Sequence[Unrolling],
    policies: Mapping[str, Any],
    *,
    labels: Sequence[str] | None = None,
    weight: float = 0.0,
    price: Price = "model_calls",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Estimated]:
    """Each policy's mean score - weight × cost, three ways, from what was logged, and exactly.

    labels (n,): a group for each problem of the tree, in which Q has a table of its own. Raises TreeError
    where nothing was logged, or on one problem only, PolicyError."""
    problems = sorted({one.problem for one in logged})
    if len(problems) < 2:
        raise TreeError("nothing was logged on two problems or more: log unrollings of the problems compared")
    groups = ["all"] * len(tree) if labels is None else list(labels)
    return [
        _Asked(tree, logged, name, as_policy(policy), groups, weight, price).estimated(
            problems, resamples, seed
        )
        for name, policy in policies.items()
    ]


class _Asked:
    """One policy, asked about everything that was logged."""

    def __init__(
        self,
        tree: CompleteTree,
        logged: Sequence[Unrolling],
        name: str,
        policy: Any,
        groups: Sequence[str],
        weight: float,
        price: Price,
    ) -> None:
        self.tree, self.logged, self.name, self.policy = tree, logged, name, policy
        self.groups = groups
        self.cost_weight = weight
        self.price = price
        self.seen = Seen(tree, getattr(policy, "probes", ()))
        self.probabilities = self._asked()
        self.rewards = np.array([self._reward(one) for one in logged])
        self.ratios = [self._weights(one, p) for one, p in zip(logged, self.probabilities, strict=True)]

    def _asked(self) -> list[list[Probabilities]]:
        """For each unrolling and step, what the policy might decide there."""
        places = [(one, step) for one in self.logged for step in range(len(one.decisions))]
        found: list[Probabilities] = []
        spread = getattr(self.policy, "distribution", None)
        for begun in range(0, len(places), TOGETHER):
            states = [state_of(self.seen, one, step) for one, step in places[begun : begun + TOGETHER]]
            if callable(spread):
                found += [by_calls(several) for several in spread(states)]  # type: ignore[union-attr]
            else:
                decided = [as_decision(one) for one in self.policy.decide(states)]
                found += [{tuple(call.action for call in one.calls): 1.0} for one in decided]
        ends = np.cumsum([0, *(len(one.decisions) for one in self.logged)]).tolist()
        return [found[a:b] for a, b in pairwise(ends)]

    def _reward(self, one: Unrolling) -> float:
        i, d, s = one.problem, one.draw, one.states[-1]
        score = float(self.tree.score[i, d, s])
        if not self.cost_weight:
            return score
        cost = self.tree.cost[i, d, s].copy()
        for step, at in enumerate(one.states[: len(one.decisions)]):
            for name in self.seen.probes:
                if not (step and name in self.seen.alone):  # of the problem alone: measured once
                    cost += self.tree.probe_cost[name][i, d, at]
        return score - self.cost_weight * float(price_of(cost, self.price))

    def _weights(self, one: Unrolling, asked: list[Probabilities]) -> Array:
        """(T,) the products of π / β up to each step."""
        steps = [
            p.get(calls_of(made), 0.0) / float(np.exp(made.log_probability))  # type: ignore[arg-type]
            for p, made in zip(asked, one.decisions, strict=True)
        ]
        return np.cumprod(steps)

    def estimated(self, problems: list[int], resamples: int, seed: int) -> Estimated:
        weights = np.array([ratio[-1] if len(ratio) else 1.0 for ratio in self.ratios])
        robust = self._doubly_robust(problems, seed)
        row = {i: k for k, i in enumerate(problems)}
        of = np.array([row[one.problem] for one in self.logged])
        sums = [
            np.bincount(of, x, len(problems))
            for x in (weights * self.rewards, weights, robust, np.ones(len(of)))
        ]
        draws = Draws(len(problems), resamples, seed)
        weighted, total, dr, count = draws.means(np.stack(sums)).T
        snips = weighted / np.where(total > 0, total, np.nan)
        effective = weights.sum() ** 2 / (weights**2).sum() if weights.any() else 0.0
        return Estimated(
            self.name,
            len(self.logged),
            self._exact(problems, row),
            draws.estimate(weighted / count),
            draws.estimate(snips),
            draws.estimate(dr / count),
            float(effective),
            float(weights.mean()),
        )

    def _exact(self, problems: list[int], row: dict[int, int]) -> float:
        """The mean over what was logged of what the policy is worth on that problem and draw."""
        found = evaluate(self.tree, self.policy, problems=problems, price=self.price, resamples=1)
        value = np.where(found.ended > 0, self.tree.score[problems], 0.0)
        worth = (found.ended * value).sum(2)
        if self.cost_weight:
            worth = worth - self.cost_weight * price_of(found.charges, self.price)[:, None]
        return float(np.mean([worth[row[one.problem], one.draw] for one in self.logged]))

    # ------------------------------------------------------------------------------------- doubly robust

    def _doubly_robust(self, problems: list[int], seed: int) -> Array:
        half = np.random.default_rng([0xD4, seed % 2**63]).permutation(len(problems)) % 2
        side = {i: int(half[k]) for k, i in enumerate(problems)}
        tables = [
            self._table([k for k, one in enumerate(self.logged) if side[one.problem] != h]) for h in (0, 1)
        ]
        return np.array([self._robust(k, tables[side[one.problem]]) for k, one in enumerate(self.logged)])

    def _table(self, rows: list[int]) -> _Table:
        """Q from some of the unrollings: of what ended them, then from the deepest states to the first."""
        table = _Table(float(self.rewards[rows].mean()) if rows else 0.0)
        before: list[tuple[int, int, int]] = []
        for k in rows:
            one = self.logged[k]
            for t in range(len(one.decisions) - 1):
                before.append((-int(self.tree.layout.size[one.states[t]]), k, t))
            for made in one.decisions[-1:]:
                s = one.states[len(one.decisions) - 1]
                table.add(self.groups[one.problem], s, calls_of(made), float(self.rewards[k]))
        for _, k, t in sorted(before):
            one = self.logged[k]
            worth = self._value(k, t + 1, table)
            table.add(self.groups[one.problem], one.states[t], calls_of(one.decisions[t]), worth)
        return table

    def _value(self, k: int, t: int, table: _Table) -> float:
        """V of a state that was logged: the mean of Q under the policy."""
        one = self.logged[k]
        group, s = self.groups[one.problem], one.states[t]
        return sum(p * table.of(group, s, calls) for calls, p in self.probabilities[k][t].items())

    def _robust(self, k: int, table: _Table) -> float:
        one, ratios = self.logged[k], self.ratios[k]
        if not one.decisions:
            return float(self.rewards[k])
        total = self._value(k, 0, table)
        for t, made in enumerate(one.decisions):
            last = t == len(one.decisions) - 1
            after = float(self.rewards[k]) if last else self._value(k, t + 1, table)
            held = table.of(self.groups[one.problem], one.states[t], calls_of(made))
            total += float(ratios[t]) * (after - held)
        return total


class _Table:
    """Means by (group, state, calls); of what was not seen by (state, calls); where nothing was, `usual`."""

    def __init__(self, usual: float) -> None:
        self.usual = usual
        self._sums: dict[tuple[Any, ...], tuple[float, int]] = {}

    def add(self, group: str, s: int, calls: Calls, worth: float) -> None:
        for key in ((group, s, calls), (None, s, calls)):
            total, count = self._sums.get(key, (0.0, 0))
            self._sums[key] = total + worth, count + 1

    def of(self, group: str, s: int, calls: Calls) -> float:
        total, count = (
            self._sums.get((group, s, calls)) or self._sums.get((None, s, calls)) or (self.usual, 1)
        )
        return total / count
