"""Trees as one table: what trainers and environments work on, each tree's part filled by `filling`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from planners.tree.faults import TreeError
from planners.tree.filling import Filling, check_probe
from planners.tree.pricing import Price
from planners.tree.several import several_of
from policies.observation import Observation, ProblemFeatures
from policies.price import Price as PriceOf
from policies.table import Table
from unroller.cost import Budget

if TYPE_CHECKING:
    from planners.tree.complete import CompleteTree
    from planners.tree.several import Trees

Array = np.ndarray[Any, Any]

TOGETHER = 256
"""Problems whose states are worked out at a time."""


def _sizes(tree: CompleteTree) -> dict[str, int]:
    """How many numbers each probe of a tree has."""
    return {name: 1 if held.ndim == 3 else held.shape[-1] for name, held in tree.probes.items()}


def shared_probes(trees: Sequence[CompleteTree]) -> list[str]:
    """The probes that all of these trees have, with as many numbers."""
    others = [_sizes(tree) for tree in trees[1:]]
    return [name for name, size in _sizes(trees[0]).items() if all(o.get(name) == size for o in others)]


def observation_of(trees: Trees, probes: Sequence[str] | None = None, **options: Any) -> Observation:
    """The observation of everything that the trees keep: their actions, the value types that are written
    down (what holds arrays is not), and these probes (None: all that every tree has, which a policy is then
    charged for). options: other settings of `Observation`. Raises TreeError for a probe that was not
    measured, or that has other numbers in another tree."""
    several = several_of(trees)
    wanted = shared_probes(several) if probes is None else list(probes)
    for name in wanted:
        for tree in several:
            check_probe(tree, name)
    sizes = _sizes(several[0])
    for name in wanted:
        others = sorted({_sizes(tree)[name] for tree in several})
        if len(others) > 1:
            raise TreeError(
                f"the probe {name} has {' and '.join(map(str, others))} numbers in these trees: leave it out,"
                " or build them with the same one"
            )
    actions = tuple(dict.fromkeys(name for tree in several for name in tree.actions))
    features = ProblemFeatures(probes=tuple((name, sizes[name]) for name in wanted))
    lost = {tree.kinds[kind] for tree in several for kind in _unkept(tree)}
    types = tuple(name for name in Observation(()).types if name not in lost)
    return Observation(actions, **({"problem": features, "types": types} | options))


def table(
    trees: Trees,
    observation: Observation | None = None,
    *,
    price: Price | PriceOf = "model_calls",
    budget: Any = None,
    problems: Sequence[int] | None = None,
    by: Any = None,
) -> Table:
    """Trees as a `policies.table.Table` for an observation (None: `observation_of(trees)`).

    Its actions are the trees', or some of them; what a tree does not have is not allowed on its problems.
    price: what a cost is. budget: that of the runs the policy is meant for, as an executor's; what it does
    not afford is not allowed. problems: only these numbers, counted through all trees. by: what groups are
    made of, as in `best_fixed` (None: the task).

    A tree of one draw beside others of several has its draw as often as they have: a problem weighs what any
    other does. It takes 4 bytes for each number of each state: 5,000 problems in 2 draws with 65 states of
    242 numbers are 630 MB. Where the order of calls makes no other state, what a policy sees still has it, so
    the table lists sequences all the same. Raises TreeError for actions, probes and values that the trees do
    not hold, and for trees that cannot be taken together (`several_of`; other numbers of draws), PolicyError
    for a probe of another size, BudgetError.
    """
    from planners.tree.fixed import groups_of

    several = several_of(trees)
    seen = observation or observation_of(several)
    _check_actions(several, seen)
    draws = max(tree.draws for tree in several)
    if not {tree.draws for tree in several} <= {1, draws}:
        drawn = ", ".join(str(tree.draws) for tree in several)
        raise TreeError(
            f"the trees have {drawn} draws, and one with more of them would weigh more: build them with one,"
            " or with as many"
        )
    fillings = [Filling(tree, seen, price, Budget.of(budget)) for tree in several]
    total = sum(map(len, several))
    chosen = np.arange(total) if problems is None else np.asarray(problems, np.int64).reshape(-1)
    if not chosen.size:
        raise TreeError("there are no problems: give at least one")
    if chosen.min() < 0 or chosen.max() >= total or len(np.unique(chosen)) < len(chosen):
        raise TreeError(f"problems are different numbers from 0 to {total - 1}")
    firsts = np.cumsum([0, *map(len, several)])
    owner = np.searchsorted(firsts, chosen, side="right") - 1

    states = sorted(dict.fromkeys(path for one in fillings for path in one.paths.states), key=len)
    number = {path: s for s, path in enumerate(states)}
    shape = len(chosen) * draws, len(states)
    made = {
        "observations": np.zeros((*shape, seen.size), np.float32),
        "allowed": np.zeros((*shape, len(seen.actions) + 1), bool),
        "score": np.zeros(shape),
        "hard": np.zeros(shape),
        "cost": np.zeros(shape),
        "reached": np.zeros(shape, bool),
    }
    made["allowed"][..., seen.stop] = True
    following = np.full((len(states), len(seen.actions)), -1, np.int32)
    labels: list[str] = []
    for t, (tree, filling) in enumerate(zip(several, fillings, strict=True)):
        where = np.array([number[path] for path in filling.paths.states])
        child = filling.paths.child
        into = where[:, None], filling.places
        following[into] = np.maximum(following[into], np.where(child >= 0, where[child], -1))
        labels += groups_of(tree, by)
        own = np.flatnonzero(owner == t)
        for first in range(0, len(own), TOGETHER):
            some = own[first : first + TOGETHER]
            rows = some[:, None] * draws + np.arange(draws)
            part = filling.filled(chosen[some] - firsts[t])
            for name, array in made.items():
                array[rows.reshape(-1, 1), where] = part[name].repeat(draws // tree.draws, 0)
    return Table(
        seen,
        tuple(states),
        next=following,
        problem=chosen.repeat(draws),
        draw=np.tile(np.arange(draws), len(chosen)),
        groups=tuple(labels[i] for i in chosen.repeat(draws).tolist()),
        price=fillings[0].price,
        **made,
    )


def _check_actions(trees: Sequence[CompleteTree], seen: Observation) -> None:
    """Raises TreeError for an action that no tree has."""
    known = dict.fromkeys(name for tree in trees for name in tree.actions)
    unknown = next((name for name in seen.actions if name not in known), None)
    if unknown is not None:
        raise TreeError(
            f"the trees have no action {unknown!r}: there are {', '.join(known) or 'none'}; make the policy"
            " for those"
        )


def _unkept(tree: CompleteTree) -> list[int]:
    """The kinds of which the tree does not keep the values."""
    found: list[int] = []
    for kind in range(len(tree.kinds)):
        i, draw, s = np.argwhere(tree.kind == kind)[0].tolist() if (tree.kind == kind).any() else (0, 0, 0)
        if s and tree.value_bytes(i, draw, s) is None:
            found.append(kind)
    return found
