"""Tabular trees with a known optimum, for tests of trainers: no model, no files, made in milliseconds.

Every problem is *easy*, or needs one of the helpers. Without its helper a hard problem scores 0.4, with it
0.9; an easy one scores 0.9 at once; every helper that is not needed takes 0.05 off. What a problem needs is
shown by the probe `hint`, from the start or, if it is `hidden`, only once `look` was called. Each call costs
one model call, and so does the answer.

What is best then depends on what a call costs: with calls at 0.02 the best policy looks, and then calls the
one helper that is needed or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from planners.tree.complete import CompleteTree, assembled
from planners.tree.faults import TreeError
from planners.tree.files import write_tree
from planners.tree.fixed import check_weight
from planners.tree.layout import Orders
from planners.tree.measuring import Chunk, cost_tables
from planners.tree.pricing import Price, price_of
from planners.tree.recipe import ActionMade, DecoderMade, ProbeMade, Recipe, digest_of
from unroller.problem import Problem

Array = np.ndarray[Any, Any]

TASK, LOOK, HINT = "synthetic", "look", "hint"
RIGHT, WRONG, NEEDLESS = 0.9, 0.4, 0.05
CHOICES = ("right", "wrong")


def synthetic(
    n: int = 240,
    helpers: int = 3,
    *,
    hidden: bool = True,
    depth: int | None = 3,
    draws: int = 1,
    luck: float = 0.0,
    easy: float = 0.25,
    orders: Orders = "sequences",
    seed: int = 0,
    out: str | Path | None = None,
) -> CompleteTree:
    """A tree of n problems with the actions `look`, `help_1`, `help_2`, ….

    hidden: what is needed shows only after `look`; else `hint` shows it from the start, and looking is
    wasted. luck: each draw's score is moved by up to this much, up or down, independently and with mean 0:
    what an oracle must not be credited with. easy: the share of problems that need no help. out: a folder to
    write it to as well. The optimum is `optimum(tree, weight)`. Raises TreeError.
    """
    if n < 1 or helpers < 1 or draws < 1 or not 0 <= luck <= 0.1 or not 0 <= easy <= 1:
        raise TreeError(
            f"n={n}, helpers={helpers} and draws={draws} are 1 or more, luck={luck} is 0 to 0.1, easy={easy}"
            " is a share"
        )
    rng = np.random.default_rng([0x5EED, seed % 2**63])
    needed = np.where(rng.random(n) < easy, 0, rng.integers(1, helpers + 1, n))  # 0: easy
    problems = [_problem(i, int(need)) for i, need in enumerate(needed)]
    recipe = _recipe(problems, helpers, depth, draws, orders)
    chunk = _measured(recipe, needed, helpers, hidden, luck, rng)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        from planners.tree.card import card

        write_tree(Path(out), recipe, problems, [chunk], card(recipe, [chunk]))
    return assembled(recipe, problems, chunk)


def _problem(i: int, need: int) -> Problem:
    return Problem(
        task=TASK,
        question=f"problem {i}",
        choices=CHOICES,
        metadata={"needed": need, "truth": {"answer": "right"}},
    )


def _recipe(
    problems: Sequence[Problem], helpers: int, depth: int | None, draws: int, orders: Orders
) -> Recipe:
    from unroller import __version__

    names = [LOOK, *(f"help_{k}" for k in range(1, helpers + 1))]
    about = [
        "Show what the problem needs.",
        *(f"Help with problems of kind {k}." for k in range(1, helpers + 1)),
    ]
    actions = [
        ActionMade(name, "1", what, "Text", (1, 0, 0.0), {}, [], draws > 1)
        for name, what in zip(names, about, strict=True)
    ]
    return Recipe(
        unroller=__version__,
        backends=["synthetic"],
        fingerprints=["synthetic-1"],
        n=len(problems),
        problems=digest_of(problems),
        sets=[{"set": "synthetic"}],
        tasks=[DecoderMade(TASK, "1", (1, 0, 0.0))],
        actions=actions,
        depth=len(names) if depth is None else min(depth, len(names)),
        orders=orders,
        draws=draws,
        scorer="soft_choice",
        hard="choice",
        probes=[ProbeMade(HINT, "1", "What the problem needs, once it is seen.", (0, 0, 0.0), array=True)],
        chunk=len(problems),
        licence="cc0-1.0",
    )


def _measured(
    recipe: Recipe, needed: Array, helpers: int, hidden: bool, luck: float, rng: np.random.Generator
) -> Chunk:
    layout = recipe.layout
    n, draws, states = len(needed), recipe.draws, len(layout)
    shape = (n, draws, states)
    called = np.array([[name in state for name in layout.actions] for state in layout.states])  # (S, 1 + H)
    helped = called[:, 1:]
    wanted = needed[:, None] == np.arange(1, helpers + 1)  # (n, H)
    solved = (needed == 0)[:, None] | (wanted[:, None] & helped).any(-1)  # (n, S)
    needless = (~wanted[:, None] & helped).sum(-1)  # (n, S)
    score = (np.where(solved, RIGHT, WRONG) - NEEDLESS * needless)[:, None].repeat(draws, 1)
    score = np.clip(score + luck * rng.uniform(-1, 1, shape), 0.0, 1.0)
    seen = called[:, 0] | (not hidden)  # (S,)
    shown = np.eye(helpers + 1, dtype=np.float32)[needed]  # (n, H + 1)
    hint = shown[:, None, None] * seen[:, None].astype(np.float32)
    calls = layout.size[None, None].repeat(n, 0).repeat(draws, 1)
    tables: dict[str, Array] = {
        "reached": np.ones(shape, bool),
        "failed": np.zeros(shape, bool),
        "answered": np.ones(shape, bool),
        "allowed": np.broadcast_to(_bits(layout.child), shape).copy(),
        "score": score,
        "hard": (score > 0.5).astype(np.float64),
        "entropy": -(
            score * np.log(np.maximum(score, 1e-12)) + (1 - score) * np.log(np.maximum(1 - score, 1e-12))
        ),
        "id": np.zeros((*shape, 16), np.uint8),
        "kind": np.where(layout.size[None, None] > 0, 0, -1).astype(np.int16).repeat(n, 0).repeat(draws, 1),
        **cost_tables("", shape),
        **cost_tables("context_", shape),
        **cost_tables(f"probe.{HINT}.", shape),
    }
    tables["context_model_calls"] = calls.astype(np.int32)
    tables["model_calls"] = (calls + 1).astype(np.int32)
    return Chunk(
        tables,
        ["Text"],
        [_said(state) for _ in range(n * draws) for state in layout.states],
        np.stack([score, 1 - score], -1),
        {HINT: np.ascontiguousarray(hint.repeat(draws, 1))},
    )


def _bits(child: Array) -> Array:
    """(S,) the allowed actions as bits."""
    found = np.zeros(len(child), np.uint64)
    for k in range(child.shape[1]):
        found |= np.where(child[:, k] >= 0, np.uint64(1 << k), np.uint64(0))
    return found


def _said(state: Sequence[str]) -> bytes | None:
    from unroller.values import Text

    return msgspec.msgpack.encode(Text(state[-1])) if state else None


# ------------------------------------------------------------------------------------------- the optimum


class Optimum(msgspec.Struct, frozen=True):
    """The best that any policy can do that sees what is told apart: value is score - weight × cost, all three
    means over problems and draws; ended (n, D, S): where it answers."""

    value: float
    score: float
    cost: float
    ended: Array


def optimum(
    tree: CompleteTree,
    weight: float = 0.0,
    price: Price = "model_calls",
    seen: Sequence[str] | Array | None = None,
) -> Optimum:
    """The optimal policy by dynamic programming over what can be told apart: problems that looked the same on
    the whole way are decided alike.

    seen: the probes that the policy sees (None: all), or numbers (n, D, S) that say what is seen; the
    allowed actions, the task and its own calls it sees in any case. Exact, and meant for tables: where every
    problem looks different, it is the naive oracle. Raises TreeError for a negative weight, or a probe that
    was not measured.
    """
    check_weight(weight)
    n, draws, states = tree.score.shape
    value = (tree.score - weight * price_of(tree.cost, price)).reshape(-1, states)
    views = _views(tree, seen).reshape(-1, states)
    allowed = tree.allowed.reshape(-1, states, len(tree.actions))
    ended = np.zeros((n * draws, states), bool)

    def best(lanes: Array, s: int) -> tuple[float, list[tuple[Array, int]]]:
        """The best total of these lanes, which stand in s and look the same, and where each of them ends."""
        found, where = float(value[lanes, s].sum()), [(lanes, s)]
        for k in np.nonzero(allowed[lanes[0], s])[0].tolist():
            child = int(tree.layout.child[s, k])
            total, ends = 0.0, []
            for view in np.unique(views[lanes, child]):
                part, further = best(lanes[views[lanes, child] == view], child)
                total += part
                ends += further
            if total > found + 1e-9:
                found, where = total, ends
        return found, where

    total = 0.0
    for view in np.unique(views[:, 0]):
        part, ends = best(np.nonzero(views[:, 0] == view)[0], 0)
        total += part
        for lanes, s in ends:
            ended[lanes, s] = True
    at = ended.reshape(n, draws, states)
    score, cost = tree.score[at].mean(), price_of(tree.cost, price)[at].mean()
    return Optimum(total / (n * draws), float(score), float(cost), at)


def _views(tree: CompleteTree, seen: Sequence[str] | Array | None) -> Array:
    """(n, D, S) numbers that are equal where a policy sees the same."""
    shape = tree.score.shape
    if isinstance(seen, np.ndarray):
        parts = [np.broadcast_to(seen, shape)[..., None].astype(np.float64)]
    else:
        names = list(tree.probes) if seen is None else list(seen)
        unknown = next((name for name in names if name not in tree.probes), None)
        if unknown is not None:
            raise TreeError(
                f"the probe {unknown} was not measured in this tree: {', '.join(tree.probes) or 'none'}"
            )
        held = [tree.probes[name] for name in names]
        parts: list[Array] = [array[..., None] if array.ndim == 3 else array for array in held]
    tasks = np.unique(np.array(tree.tasks), return_inverse=True)[1]
    parts.append(np.broadcast_to(tasks[:, None, None, None], (*shape, 1)))
    parts.append(tree.allowed)
    rows = np.concatenate([np.nan_to_num(part.astype(np.float64)) for part in parts], -1)
    return np.unique(rows.reshape(-1, rows.shape[-1]), axis=0, return_inverse=True)[1].reshape(shape)
