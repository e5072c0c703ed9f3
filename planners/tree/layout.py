"""Which states a tree has: ordered prefixes of actions, or sets of them.

Primitives read what was written before, so in general the order of calls matters and a state is a
*sequence*: the actions in the order they are called, each at most once, `depth` of them at most. Where it is
known not to matter, orders can be treated as one: a state is then a *set*, and its context is the one that is
written in the order in which the actions are declared. That is exact only if every primitive and the decoder
give the same whatever the order; the tree says which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import combinations, permutations
from math import comb, perm
from typing import Any, Literal

import numpy as np

from planners.tree.faults import TreeError

Orders = Literal["sequences", "sets"]
State = tuple[str, ...]
Array = np.ndarray[Any, Any]

MOST_STATES = 20_000
MOST_ACTIONS = 63


class Layout:
    """The states of a tree, shortest first; number 0 is the bare problem.

    actions: in the order in which they are declared; depth: calls at most; orders: see above. Raises
    TreeError for names that are there twice, and for more states than can be held.
    """

    def __init__(
        self, actions: Sequence[str], depth: int | None = None, orders: Orders = "sequences"
    ) -> None:
        self.actions: State = tuple(actions)
        self.depth = len(self.actions) if depth is None else min(depth, len(self.actions))
        self.orders: Orders = orders
        if orders not in ("sequences", "sets"):
            raise TreeError(f'orders={orders!r}: the states of a tree are "sequences" or "sets" of actions')
        if len(set(self.actions)) < len(self.actions):
            raise TreeError(f"an action is there twice: {', '.join(self.actions)}")
        if self.depth < 0 or (depth is not None and depth < 0):
            raise TreeError(f"a depth of {depth}: it is the most calls that are made, 0 or more")
        count = sum(map(perm if orders == "sequences" else comb, *self._sizes()))
        if count > MOST_STATES or len(self.actions) > MOST_ACTIONS:
            raise TreeError(
                f"{len(self.actions)} actions at a depth of {self.depth} make {count:,} states a problem, and"
                f" {MOST_STATES:,} of {MOST_ACTIONS} actions can be held: choose fewer actions, a smaller"
                ' depth, or orders="sets"'
            )
        choose = permutations if orders == "sequences" else combinations
        sizes = range(self.depth + 1)
        self.states: tuple[State, ...] = tuple(s for size in sizes for s in choose(self.actions, size))
        self.number = {state: i for i, state in enumerate(self.states)}

    def _sizes(self) -> tuple[list[int], list[int]]:
        return [len(self.actions)] * (self.depth + 1), list(range(self.depth + 1))

    def __len__(self) -> int:
        return len(self.states)

    def __repr__(self) -> str:
        return f"<{len(self)} {self.orders} of {', '.join(self.actions) or 'no action'}>"

    def canonical(self, called: Sequence[str]) -> State:
        """The state in which these calls, each of another action, end up."""
        if self.orders == "sequences":
            return tuple(called)
        return tuple(sorted(called, key=self.actions.index))

    @cached_property
    def parent(self) -> Array:
        """(S,) the state from which each one was made; of the bare problem -1."""
        found = [-1, *(self.number[state[:-1]] for state in self.states[1:])]
        return _fixed(np.array(found, np.int32))

    @cached_property
    def last(self) -> Array:
        """(S,) the number of the action that makes each state from its parent; of the bare problem -1."""
        found = [-1, *(self.actions.index(state[-1]) for state in self.states[1:])]
        return _fixed(np.array(found, np.int32))

    @cached_property
    def child(self) -> Array:
        """(S, K) the state that each action leads to, -1 where there is none."""
        found = np.full((len(self.states), len(self.actions)), -1, np.int32)
        for s, state in enumerate(self.states):
            for k, action in enumerate(self.actions):
                if action not in state and len(state) < self.depth:
                    found[s, k] = self.number[self.canonical((*state, action))]
        return _fixed(found)

    @cached_property
    def size(self) -> Array:
        """(S,) how many actions each state has."""
        return _fixed(np.array([len(state) for state in self.states], np.int32))


def _fixed(array: Array) -> Array:
    array.flags.writeable = False
    return array


def name_of(state: Sequence[str]) -> str:
    """A state in words: "direct", or its actions in order."""
    return " → ".join(state) or "direct"
