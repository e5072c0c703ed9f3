"""Searches on a tree: the same planners, exact and in seconds, with no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from planners.search.ground import Calls, Looked, Place, Search
from planners.tree import CompleteTree, Evaluation, Seen, TreeError
from planners.tree.pricing import Price, price_of
from unroller.ablation.bootstrap import RESAMPLES, estimate, resampled_means
from unroller.cost import Cost
from unroller.values import Answer


class TreeGround:
    """One draw of a tree as a ground for searches; a sample of a place is another draw, as far as there are.

    Judged are the probabilities of the choices, which is what a tree keeps of an answer: a score that looks
    at anything else of it cannot be had here.
    """

    def __init__(
        self,
        tree: CompleteTree,
        search: Search,
        draw: int = 0,
        problems: Sequence[int] | None = None,
        budget: Any = None,
    ) -> None:
        self.tree = tree
        self.score = search.score
        self.draw = draw
        self.problems = list(range(len(tree))) if problems is None else list(problems)
        self.count = len(self.problems)
        self.actions: Calls = tree.actions
        self.seen = Seen(tree, (), budget)
        self._stochastic = {action.name for action in tree.recipe.actions if action.stochastic}

    def stochastic(self, action: str) -> bool:
        return action in self._stochastic

    def where(self, place: Place) -> tuple[int, int, int]:
        """Problem, draw and state of a place. Raises TreeError for a sample that was not drawn."""
        tree = self.tree
        if place.sample >= tree.draws:
            raise TreeError(
                f"the search wants sample {place.sample + 1} and the tree has {tree.draws} draws: take a"
                " smaller n, or build it with --draws"
            )
        draw = (self.draw + place.sample) % tree.draws
        return self.problems[place.problem], draw, tree.number(place.calls)

    def look(self, places: Sequence[Place]) -> list[Looked]:
        return [self._looked(place) for place in places]

    def _looked(self, place: Place) -> Looked:
        tree = self.tree
        i, draw, s = self.where(place)
        cost = _cost(tree.cost[i, draw, s])
        before = Cost()
        if s:
            before = _cost(tree.context_cost[i, draw, tree.number(place.calls[:-1])])
        left = self.seen.left(i, draw, s, Cost()).after(len(place.calls), 0.0)
        offered = self.seen.offered(i, draw, s, left) if left.steps > 0 else ()
        allowed = tuple(name for name, open_ in zip(tree.actions, offered, strict=False) if open_)
        which = f"problem {i} after {', '.join(place.calls) or 'no call'}"
        answer = self._answer(i, draw, s)
        score = None if answer is None else self.score(tree.problem(i, draw), answer, which)
        return Looked(score, cost, cost - before, allowed)

    def _answer(self, i: int, draw: int, s: int) -> Answer | None:
        tree = self.tree
        if not tree.answered[i, draw, s]:
            return None
        choices = tree.problems[i].choices
        p = tree.probabilities[i, draw, s][: len(choices)]
        if not len(p) or np.isnan(p).any():
            return Answer("an answer without probabilities")
        best = int(p.argmax())
        return Answer(choices[best], choices, best, tuple(p.tolist()))


def evaluate(
    tree: CompleteTree,
    search: Search,
    *,
    problems: Sequence[int] | None = None,
    budget: Any = None,
    price: Price = "model_calls",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """A search on every problem and draw of a tree, scored by the truth that it did not see.

    charges, and so cost, are those of the whole search, not of the unrolling that it settled on. Raises
    TreeError, ContractError for a score that cannot judge what the tree keeps.
    """
    some = list(range(len(tree))) if problems is None else [int(i) for i in problems]
    ended = np.zeros((len(some), tree.draws, len(tree.states)))
    scores, hards, charges = np.zeros(len(some)), np.zeros(len(some)), np.zeros((len(some), 3))
    for draw in range(tree.draws):
        ground = TreeGround(tree, search, draw, some, budget)
        for row, found in enumerate(search.choose(ground)):
            i, d, s = ground.where(found.place)
            ended[row, d, s] += 1 / tree.draws
            scores[row] += tree.score[i, d, s] / tree.draws
            hards[row] += tree.hard[i, d, s] / tree.draws
            cost = found.charged
            charges[row] += np.array([cost.model_calls, cost.tokens, cost.price]) / tree.draws
    priced = price_of(charges, price)
    means = resampled_means(np.stack([scores, priced, np.nan_to_num(hards)]), resamples, seed)
    calls, tokens, dollars = charges.mean(0).tolist()
    return Evaluation(
        search.name,
        len(some),
        estimate(scores, means[:, 0]),
        None if tree.recipe.hard is None else estimate(hards, means[:, 2]),
        estimate(priced, means[:, 1]),
        (calls, tokens, dollars),
        scores,
        hards,
        charges,
        ended,
        0.0,
        False,
        0.0,
    )


def _cost(numbers: Any) -> Cost:
    calls, tokens, price = numbers.tolist()
    return Cost(int(calls), int(tokens), price)
