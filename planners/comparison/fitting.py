"""Policies that are fitted here, on the problems that are not held out: the ridge bandit and the confidence
policy, each with the unique model calls that it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from planners.comparison.calls import unique_calls
from planners.comparison.ground import Ground
from planners.comparison.mixtures import upper_edge
from planners.tree import CompleteTree, TreeError
from planners.tree.layout import State
from planners.tree.pricing import Price, weights_of

Array = np.ndarray[Any, Any]

ENTROPY = "answer_entropy"
DOZEN = 12
PILOT = 200


class Fitted(msgspec.Struct, frozen=True):
    """A policy that was fitted. calls: the unique model calls that took; n: the problems it was fitted on."""

    policy: Any
    calls: float
    n: int


def lot(ground: Ground, seed: int = 0) -> Array:
    """The problems to fit on, in the order in which they are measured."""
    rows = np.flatnonzero(~ground.held_out)
    return rows[np.random.default_rng([0x107, seed % 2**63]).permutation(len(rows))]


def dozen(ground: Ground, problems: Array | None = None, count: int = DOZEN) -> tuple[State, ...]:
    """The schedules that are worth choosing from: those on the upper edge of (cost, score) of all problems
    and of each group, then the next best by score, `count` in all; direct is always one. problems: chosen on
    these (None: on all that are there to be fitted on)."""
    rows = np.flatnonzero(~ground.held_out) if problems is None else problems
    labels = ground.labels[rows]
    score, cost = ground.score[rows], ground.cost[rows]
    edges: dict[int, float] = {}
    for members in (np.ones(len(rows), bool), *(labels == label for label in np.unique(labels))):
        for s in upper_edge(score[members].mean(0), cost[members].mean(0)):
            edges[s] = edges.get(s, 0.0) + float(members.mean())
    order = np.argsort(-score.mean(0), kind="stable").tolist()
    ranked = sorted(edges, key=lambda s: -edges[s]) + [s for s in order if s not in edges]
    direct = ground.schedules.index(())
    chosen = [direct, *(s for s in ranked if s != direct)][:count]
    return tuple(ground.schedules[s] for s in sorted(chosen))


def fit_bandit(
    ground: Ground,
    arms: Sequence[State] | None = None,
    *,
    features: bool = False,
    calls: float = np.inf,
    seed: int = 0,
) -> Fitted:
    """A ridge bandit over `arms`; None: over a dozen schedules, chosen on the first `PILOT` problems, which
    are measured completely for that.

    features: whether it sees what probes measure of the problem alone, and pays for that, beside the words of
    the question. calls: the unique model calls that may be used: problems are taken by lot until they are.
    Raises TreeError, PolicyError.
    """
    from policies.bandit import RidgeBandit
    from policies.observation import ProblemFeatures

    order = lot(ground, seed)
    pilot = order[:PILOT] if arms is None else order[:0]
    arms = dozen(ground, pilot) if arms is None else tuple(arms)
    probes = of_problems(ground) if features else ()
    bandit = RidgeBandit(arms, features=ProblemFeatures(probes=probes))
    price = np.zeros(len(ground.held_out))
    for tree, first, rows in ground.fitting():
        states = [tree.number(arm) for arm in arms if holds(tree, arm)]
        names = [name for name, _ in probes]
        price[first + rows] = unique_calls(tree, rows, states, names)
        whole = rows[np.isin(first + rows, pilot)]
        price[first + whole] = unique_calls(tree, whole, range(len(tree.states)), names)
    taken = affordable(price, order, calls)
    lacks = np.zeros((len(ground.held_out), len(arms)), bool)
    x = np.zeros((len(ground.held_out), bandit.features.size))
    for tree, first, rows in ground.fitting():
        rows = rows[np.isin(first + rows, taken)]
        lacks[first + rows] = [not holds(tree, arm) for arm in arms]
        for i in rows.tolist():
            x[first + i] = np.concatenate(
                [bandit.features.problem(tree.problems[i]), *_measured(tree, i, probes)]
            )
    columns = [ground.schedules.index(arm) for arm in arms]
    score, cost = (np.where(lacks, np.nan, table[:, columns]) for table in (ground.score, ground.cost))
    bandit.fit(x[taken], score[taken], cost[taken])
    return Fitted(bandit, float(price[taken].sum()), len(taken))


def fit_confidence(ground: Ground, *, calls: float = np.inf, seed: int = 0) -> Fitted:
    """A confidence policy whose gains are those of every call in every state of the problems to fit on.

    Raises TreeError for a tree without the probe `answer_entropy`."""
    from policies.confidence import ConfidencePolicy

    price = np.zeros(len(ground.held_out))
    for tree, first, rows in ground.fitting():
        if ENTROPY not in tree.probes:
            raise TreeError(f"the probe {ENTROPY} was not measured: build the tree with --probe {ENTROPY}")
        price[first + rows] = unique_calls(tree, rows, range(len(tree.states)), [ENTROPY])
    taken = affordable(price, lot(ground, seed), calls)
    before: list[Array] = []
    names: list[str] = []
    gained: list[Array] = []
    for tree, first, rows in ground.fitting():
        rows = rows[np.isin(first + rows, taken)]
        allowed, reached = tree.allowed[rows], tree.reached[rows]
        score, entropy = tree.score[rows], tree.probes[ENTROPY][rows]
        for s in range(1, len(tree.states)):
            at, k = int(tree.layout.parent[s]), int(tree.layout.last[s])
            kept = allowed[:, :, at, k] & reached[:, :, s] & np.isfinite(entropy[:, :, at])
            before.append(entropy[:, :, at][kept])
            gained.append((score[:, :, s] - score[:, :, at])[kept])
            names += [tree.actions[k]] * int(kept.sum())
    found = np.concatenate(before) if before else np.zeros(0)
    gains = np.concatenate(gained) if gained else np.zeros(0)
    policy = ConfidencePolicy.fit(found, names, gains, price=policy_price(ground.price))
    return Fitted(policy, float(price[taken].sum()), len(taken))


def affordable(price: Array, order: Array, calls: float) -> Array:
    """The first problems of an order whose unique calls sum to no more than `calls`. Raises TreeError where
    that is not one."""
    taken = order[price[order].cumsum() <= calls]
    if not len(taken):
        raise TreeError(
            f"{calls:,.0f} unique model calls do not pay for one problem to fit on, which takes"
            f" {price[order[0]]:,.0f}: allow more"
        )
    return np.sort(taken)


def holds(tree: CompleteTree, schedule: State) -> bool:
    """Whether a schedule is a state of the tree."""
    return set(schedule) <= set(tree.actions) and len(schedule) <= tree.layout.depth


def policy_price(price: Price) -> dict[str, float]:
    """A tree's price as a policy's."""
    return dict(zip(("model_calls", "tokens", "dollars"), weights_of(price).tolist(), strict=True))


def of_problems(ground: Ground) -> tuple[tuple[str, int], ...]:
    """Name and size of the probes that read nothing of the context, and that all trees have alike."""
    found: list[set[tuple[str, int]]] = []
    for tree in ground.trees:
        alone = {probe.name for probe in tree.recipe.probes if probe.problem_only}
        found.append({(name, _width(held)) for name, held in tree.probes.items() if name in alone})
    return tuple(sorted(set.intersection(*found)))


def _width(held: Array) -> int:
    return 1 if held.ndim == 3 else int(held.shape[-1])


def _measured(tree: CompleteTree, i: int, probes: Sequence[tuple[str, int]]) -> list[Array]:
    """What the probes measured of one bare problem, each followed by 1, or zeros; the mean over draws."""
    found: list[Array] = []
    for name, size in probes:
        held = np.asarray(tree.probes[name][i, :, 0], float).reshape(tree.draws, size)
        there = ~np.isnan(held).all(1, keepdims=True)
        found.append(np.concatenate([np.where(there, held, 0.0), there], 1).mean(0))
    return found
