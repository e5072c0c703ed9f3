"""How a tree is made, as plain data: what it is called by later, and what a build that goes on must match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from xxhash import xxh3_128

from planners.tree.faults import TreeError
from planners.tree.layout import Layout, Orders
from unroller.cost import Cost
from unroller.problem import Problem

if TYPE_CHECKING:
    from unroller.actions import Action
    from unroller.executor import Executor

VERSION = 1
"""Of the format. A tree of another version is refused."""

Numbers = tuple[int, int, float]
"""A cost: model calls, tokens, price."""


class ActionMade(msgspec.Struct, frozen=True):
    """An action of the tree. version: its primitive's; about: the first sentence of its docstring; writes:
    the value type; most: the most that one call may be charged; parameters: that differ from its own;
    feeds: the actions that read what it writes; stochastic: whether its value depends on the draw."""

    name: str
    version: str
    about: str
    writes: str
    most: Numbers
    parameters: dict[str, Any] = {}
    feeds: list[str] = []
    stochastic: bool = False


class ProbeMade(msgspec.Struct, frozen=True):
    """A probe that was measured in every state. problem_only: it reads nothing of the context."""

    name: str
    version: str
    about: str
    most: Numbers
    array: bool = False
    problem_only: bool = False


class DecoderMade(msgspec.Struct, frozen=True):
    """The decoder of a task. most: reserved from a budget before any call."""

    task: str
    version: str
    most: Numbers


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what a tree holds. problems: n of them, their digest, and where they are from;
    chunk: problems that are worked on together, and done again together after a kill; scorer_version,
    hard_version: what the two scorers are made of, None in trees of before it was written down."""

    format: int = VERSION
    unroller: str
    backends: list[str]
    fingerprints: list[str]
    n: int
    problems: str
    sets: list[dict[str, Any]]
    tasks: list[DecoderMade]
    actions: list[ActionMade]
    depth: int
    orders: Orders
    draws: int
    scorer: str
    hard: str | None
    probes: list[ProbeMade]
    chunk: int
    licence: str
    scorer_version: str | None = None
    hard_version: str | None = None

    @property
    def layout(self) -> Layout:
        return Layout([action.name for action in self.actions], self.depth, self.orders)


def digest_of(problems: Sequence[Problem]) -> str:
    """Of the problems' content and order."""
    hasher = xxh3_128()
    for problem in problems:
        hasher.update(problem.identity)
    return hasher.hexdigest()


def numbers(cost: Cost) -> Numbers:
    return (cost.model_calls, cost.tokens, cost.price)


def actions_made(
    executor: Executor, names: Sequence[str], parameters: Mapping[str, Mapping[str, Any]]
) -> list[ActionMade]:
    """Describe actions. Raises UnknownName, MissingCapability, ContractError for parameters that do not
    fit, TreeError for parameters of an action that is not among them."""
    from unroller.actions import with_parameters
    from unroller.decide import Call

    executor.extend(policy=list(names))  # knows every name, or says which it does not
    strange = [name for name in parameters if name not in names]
    if strange:
        raise TreeError(f"{strange[0]} has parameters and is no action of the tree: {', '.join(names)}")
    bound: dict[str, Action] = {}
    for name in names:
        own = dict(parameters.get(name, {}))
        action = executor.actions[name]
        bound[name] = with_parameters(action, Call(name, own)) if own else action
    return [
        ActionMade(
            name,
            action.primitive.version,
            about(action.primitive),
            action.writes.__name__,
            numbers(action.cost),
            dict(parameters.get(name, {})),
            [other for other, after in bound.items() if other != name and _feeds(action, after)],
            action.primitive.stochastic,
        )
        for name, action in bound.items()
    ]


def _feeds(before: Action, after: Action) -> bool:
    kinds = after.primitive.kinds
    return bool(kinds) and issubclass(before.writes, kinds)


def about(plugin: Any) -> str:
    """The first sentence of a docstring."""
    return " ".join((getattr(plugin, "__doc__", None) or "").split("\n\n")[0].split())


def differing(a: Recipe, kept: Recipe) -> list[str]:
    """The names of the fields in which a recipe differs from one that is kept; versions that the kept one
    does not tell, being older, may be any."""
    different = [f for f in Recipe.__struct_fields__ if getattr(a, f) != getattr(kept, f)]
    told = [f for f in different if not (f.endswith("_version") and getattr(kept, f) is None)]
    return list(dict.fromkeys(f.removesuffix("_version") for f in told))
