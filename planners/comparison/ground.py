"""What policies are compared on: the problems of one tree or of several, those to fit on and those held out,
and every fixed schedule's score and cost on each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from planners.tree import CompleteTree, TreeError, schedules
from planners.tree.fixed import By, groups_of
from planners.tree.layout import State
from planners.tree.pricing import Price, price_of, weights_of
from planners.tree.several import scorer_of, several_of
from planners.tree.split import HELD_OUT, Split, split

Array = np.ndarray[Any, Any]


MOST_GROUPS = 64


class Ground:
    """N problems of all trees, one after the other.

    trees; price: what a cost is; held_out (N,) bool: those that policies are compared on, the others they are
    fitted on; labels (N,): the group of each, which has best schedules of its own; schedules: every list of
    actions that is a state of a tree, K of them. score, hard, cost (N, K), charged (N, K, 3): of each
    schedule, the mean over draws. As anywhere, a call that a tree does not know or does not allow is refused,
    and the schedule goes on.
    """

    def __init__(
        self,
        trees: Sequence[CompleteTree],
        by: By = None,
        *,
        price: Price = "model_calls",
        share: float = HELD_OUT,
        seed: int = 0,
        together: By = None,
        fit_on: Sequence[CompleteTree] = (),
    ) -> None:
        """share, seed, together: of problems that are held out, see `split`. fit_on: trees to fit on, all
        problems of `trees` being held out. Raises TreeError, ProblemError."""
        trees = several_of(trees)
        fit_on = several_of(fit_on) if fit_on else ()
        weights_of(price)
        self.trees = (*trees, *fit_on)
        self.price = price
        self.split = None if fit_on or together is not None else Split.of(trees, share, seed)
        self._compared = set(Split.of(trees, share, seed).problems)
        parts = [np.ones(len(tree), bool) for tree in trees] + [np.zeros(len(tree), bool) for tree in fit_on]
        if not fit_on:
            parts = split(trees, share, seed, together)
        self.held_out = np.concatenate(parts)
        self.labels = np.array([label for tree in self.trees for label in groups_of(tree, by)])
        groups = len(set(self.labels.tolist()))
        if groups > MOST_GROUPS:
            raise TreeError(
                f"{groups} groups of {len(self.labels)} problems are too many to have best schedules of their"
                f" own: group by something with {MOST_GROUPS} values or fewer"
            )
        self.by = "task" if by is None else by if isinstance(by, str) else getattr(by, "__name__", "group")
        self.scorer = scorer_of(self.trees)
        self.hard_measured = all(tree.recipe.hard is not None for tree in self.trees)
        shared = _identities(trees) & _identities(fit_on)
        if shared:
            raise TreeError(
                f"{len(shared)} problems are in the trees to compare on and in those to fit on: take others"
            )

    def may_have_trained(self, noted: Split) -> bool:
        """Whether a policy that was trained by this split may have seen what is held out here."""
        return noted != self.split and not self._compared.isdisjoint(noted.problems)

    @cached_property
    def schedules(self) -> tuple[State, ...]:
        every = dict.fromkeys(state for tree in self.trees for state in tree.states)
        return tuple(sorted(every, key=len))

    @cached_property
    def _tables(self) -> tuple[Array, Array, Array]:
        """score, hard (N, K), charged (N, K, 3)."""
        found: list[tuple[Array, ...]] = []
        for tree in self.trees:
            own = schedules(tree, self.price)
            at = [_within(tree, schedule) for schedule in self.schedules]
            found.append(tuple(table.mean(1)[:, at] for table in (own.score, own.hard, own.charged)))
        score, hard, charged = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return score, hard, charged

    @property
    def score(self) -> Array:
        return self._tables[0]

    @property
    def hard(self) -> Array:
        return self._tables[1]

    @property
    def charged(self) -> Array:
        return self._tables[2]

    @cached_property
    def cost(self) -> Array:
        return price_of(self.charged, self.price)

    def fitting(self) -> list[tuple[CompleteTree, int, Array]]:
        """For each tree the number of its first problem here, and which of its own problems there are to fit
        on."""
        return self._parts(False)

    def compared(self) -> list[tuple[CompleteTree, int, Array]]:
        """The same of the problems that are held out."""
        return self._parts(True)

    def _parts(self, held_out: bool) -> list[tuple[CompleteTree, int, Array]]:
        firsts = np.cumsum([0, *map(len, self.trees)])
        parts = zip(self.trees, firsts[:-1].tolist(), firsts[1:].tolist(), strict=True)
        return [
            (tree, first, np.flatnonzero(self.held_out[first:end] == held_out)) for tree, first, end in parts
        ]


def _within(tree: CompleteTree, schedule: State) -> int:
    """The state of a tree that a schedule leads to there: what it does not know is refused, and so is what is
    deeper than it."""
    known = [name for name in schedule if name in tree.actions][: tree.layout.depth]
    return tree.number(known)


def _identities(trees: Sequence[CompleteTree]) -> set[bytes]:
    return {tree.problem(i).identity for tree in trees for i in range(len(tree))}
