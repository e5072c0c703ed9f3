"""How many model calls it takes to know what a policy is fitted on, each counted once.

A memo computes nothing twice: schedules that begin alike share their first calls, the same call made in two
states, or in two draws that drew nothing, is one. A learner is as dear as the calls that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from planners.tree import CompleteTree

Array = np.ndarray[Any, Any]

_ODD = np.uint64(0x9E3779B97F4A7C15)


def unique_calls(
    tree: CompleteTree, problems: Array, answered: Sequence[int], probes: Sequence[str] = ()
) -> Array:
    """(P,) model calls for each of these P problems: to answer, in each draw, in the states `answered`, with
    everything that is called on the way there, and to measure `probes` in them (a probe that reads nothing of
    the context: once).

    Two calls are one if what they wrote has the same id; answers and probes if what the context holds has. A
    call that failed is not remembered, and counts each time. Problems share nothing.
    """
    within = _with_prefixes(tree, answered)
    made, seen = _identified(tree, problems)
    spent = tree.context_cost[problems][..., 0]  # (P, D, S)
    counts = np.zeros(len(problems))
    called = within & (tree.layout.size > 0)
    step = spent - spent[:, :, np.maximum(tree.layout.parent, 0)]
    counts += _once(made, step, called & tree.reached[problems])
    answers = np.zeros(len(tree.states), bool)
    answers[list(answered)] = True
    answers = answers & tree.reached[problems]
    counts += _once(seen, tree.cost[problems][..., 0] - spent, answers)
    for name in probes:
        counts += _once(seen, tree.probe_cost[name][problems][..., 0], answers)
    return counts


def _with_prefixes(tree: CompleteTree, states: Sequence[int]) -> Array:
    """(S,) bool: these states, and all that are passed through on the way there."""
    found = np.zeros(len(tree.states), bool)
    for s in states:
        while s >= 0 and not found[s]:
            found[s] = True
            s = int(tree.layout.parent[s])
    return found


def _identified(tree: CompleteTree, problems: Array) -> tuple[Array, Array]:
    """(P, D, S) uint64: what the last call of each state made, and what its context holds. What has no id
    (nothing was written, or the tree was not made by calls) is told apart by draw and state."""
    shape = (len(problems), tree.draws, len(tree.states))
    halves = np.ascontiguousarray(tree.id[problems]).view(np.uint64)  # (P, D, S, 2)
    made = halves[..., 0] ^ halves[..., 1] * _ODD
    own = (np.arange(shape[1] * shape[2], dtype=np.uint64) * _ODD + np.uint64(1)).reshape(shape[1:])
    made = np.where(made == 0, own, made)
    wrote = tree.kind[problems] >= 0
    seen = np.zeros(shape, np.uint64)
    for s in range(1, shape[2]):
        before = seen[:, :, tree.layout.parent[s]]
        seen[:, :, s] = np.where(wrote[:, :, s], (before + made[:, :, s]) * _ODD, before)
    return np.where(wrote, made, own), seen


def _once(key: Array, cost: Array, counted: Array) -> Array:
    """(P,) the cost (P, D, S) of what is counted, each key once a problem."""
    p, d, s = np.nonzero(np.broadcast_to(counted, key.shape))
    order = np.lexsort((key[p, d, s], p))
    p, held, paid = p[order], key[p, d, s][order], cost[p, d, s][order]
    first = np.ones(len(p), bool)
    first[1:] = (p[1:] != p[:-1]) | (held[1:] != held[:-1])
    return np.bincount(p[first], paid[first], len(key))
