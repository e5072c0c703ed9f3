"""A policy evaluated exactly on a tree: every problem, every draw, no model.

A policy that only decides is followed. One that can say all that it might decide, and how probably, by a
method

    distribution(states) -> for each state a list of Decisions, each with its log-probability

is evaluated in expectation over everything it might do: no sampling, no noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from planners.tree.complete import CompleteTree
from planners.tree.faults import TreeError
from planners.tree.pricing import Price, price_of
from planners.tree.seeing import Seen, check_call
from unroller.ablation.bootstrap import RESAMPLES, Estimate, estimate, resampled_means
from unroller.cost import Cost, Left
from unroller.decide import Decision, Policy, as_decision, as_policy
from unroller.faults import PolicyError
from unroller.registry import policy_named

Array = np.ndarray[Any, Any]

TOGETHER = 4096
"""States that a policy is asked to decide at a time."""

UNLIKELY = 1e-12
"""Branches below this probability are not followed; what is left out is told in `lost`."""


class Evaluation(msgspec.Struct, frozen=True):
    """What a policy is worth on a tree.

    n problems; score, hard, cost: means over problems with 95 % bootstrap intervals over problems, the mean
    over draws (and over the policy's own choices) taken within each; `hard` is None where it was not
    measured; cost in the price that was asked for; charged: mean model calls, tokens, price, the probes'
    included. scores, hards (n,), charges (n, 3): the same a problem. ended (n, D, S): how probably the policy
    answers in each state. refused: calls a problem that were refused; expected: whether all that the policy
    might decide was followed, or only what it decided; lost: the probability that was not followed.
    """

    policy: str
    n: int
    score: Estimate
    hard: Estimate | None
    cost: Estimate
    charged: tuple[float, float, float]
    scores: Array
    hards: Array
    charges: Array
    ended: Array
    refused: float
    expected: bool
    lost: float

    def __str__(self) -> str:
        return f"{self.policy}: score {self.score}, cost {self.cost}, n {self.n}"


class _Node(msgspec.Struct):
    """Where a policy stands: problem, draw, state; how probably; what it decided; what its probes cost;
    settled: what they need not be asked again, see `Seen.measured`."""

    i: int
    draw: int
    s: int
    probability: float
    decisions: tuple[Decision, ...]
    measured: Cost
    left: Left
    settled: dict[str, Any] = {}


def evaluate(
    tree: CompleteTree,
    policy: Policy | Sequence[Any] | Callable[..., Any] | str | Path,
    *,
    problems: Sequence[int] | None = None,
    budget: Any = None,
    price: Price = "model_calls",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Evaluate anything that an executor takes as a policy, the name of a registered one and the folder of a
    saved one among them. problems: only these numbers. budget: as an
    executor's, in charged cost and steps (64 unless said otherwise). price: what a cost is, see
    `planners.tree.pricing`.

    A call that is not allowed, or that the tree does not have, is refused, as in a live run: it takes a step
    and costs nothing. Of calls that are decided side by side, one that reads what another writes is not in
    the tree: TreeError. Raises PolicyError for what is no decision and for probabilities that do not sum to
    1, UnknownName for a policy's name that nobody registered, TreeError for what the tree does not hold.
    """
    policy = as_policy(policy_named(policy) if isinstance(policy, (str, Path)) else policy)
    chosen = list(range(len(tree))) if problems is None else [int(i) for i in problems]
    if not chosen:
        raise TreeError("there are no problems: give at least one")
    strange = next((i for i in chosen if not 0 <= i < len(tree)), None)
    if strange is not None:
        raise TreeError(f"there is no problem {strange}: the tree has numbers 0 to {len(tree) - 1}")
    if resamples < 1:
        raise TreeError(f"resamples={resamples}: an interval takes 1 or more")
    walk = _Walk(tree, policy, Seen(tree, getattr(policy, "probes", ()), budget), chosen)
    while walk.nodes:
        walk.step()
    return walk.evaluation(price, resamples, seed)


class _Walk:
    def __init__(self, tree: CompleteTree, policy: Policy, seen: Seen, problems: list[int]) -> None:
        self.tree = tree
        self.policy = policy
        self.seen = seen
        self.problems = problems
        self.row = {i: row for row, i in enumerate(problems)}
        if len(self.row) < len(problems):
            raise TreeError("a problem is there twice")
        self.made = {action.name: action for action in tree.recipe.actions}
        self.name = str(getattr(policy, "name", type(policy).__name__))
        found = getattr(policy, "distribution", None)
        self.distribution: Any = found if callable(found) else None
        self.ended = np.zeros((len(problems), tree.draws, len(tree.states)))
        self.probed = np.zeros((len(problems), 3))
        self.refused = self.lost = 0.0
        self.nodes = [
            _Node(i, draw, 0, 1.0, (), Cost(), seen.left(i, draw, 0, Cost()))
            for i in problems
            for draw in range(tree.draws)
        ]

    def step(self) -> None:
        """Everybody decides once."""
        asked: list[_Node] = []
        for node in self.nodes:
            if len(node.decisions) >= node.left.steps:
                self._end(node)
                continue
            asked.append(node)
        self.nodes = []
        for begun in range(0, len(asked), TOGETHER):
            some = asked[begun : begun + TOGETHER]
            states = [self._state(node) for node in some]
            for node, state, branches in zip(some, states, self._decided(states), strict=True):
                for probability, decision in branches:
                    self._follow(node, state.mask, probability, decision)

    def _state(self, node: _Node) -> Any:
        """What the policy sees, its probes measured and charged."""
        i, draw, s = node.i, node.draw, node.s
        probe, cost = self.seen.measured(i, draw, s, node.left, node.settled)
        if self.seen.probes:
            node.measured += cost
            node.left = self.seen.left(i, draw, s, node.measured)
            charged = np.array([cost.model_calls, cost.tokens, cost.price])
            self.probed[self.row[i]] += node.probability * charged / self.tree.draws
        return self.seen.state(i, draw, s, len(node.decisions), node.decisions, node.left, probe)

    def _decided(self, states: Sequence[Any]) -> list[list[tuple[float, Decision]]]:
        """For each state what may be decided, and how probably."""
        if self.distribution is None:
            decided = list(self.policy.decide(states))
            if len(decided) != len(states):
                raise PolicyError(f"the policy made {len(decided)} decisions for {len(states)} states")
            return [[(1.0, as_decision(one))] for one in decided]
        spread = list(cast(Any, self.distribution(states)))
        if len(spread) != len(states):
            raise PolicyError(f"the policy gave {len(spread)} distributions for {len(states)} states")
        return [self._checked([as_decision(one) for one in several]) for several in spread]

    def _checked(self, several: list[Decision]) -> list[tuple[float, Decision]]:
        if any(one.log_probability is None for one in several):
            raise PolicyError(f"the policy {self.name} gave a distribution without log-probabilities")
        found = [(float(np.exp(cast(float, one.log_probability))), one) for one in several]
        total = sum(p for p, _ in found)
        if not abs(total - 1) < 1e-4:  # NaN is not, either
            raise PolicyError(f"the probabilities of {self.name} sum to {total:.6g}, not to 1")
        return [(p / total, one) for p, one in found]

    def _follow(self, node: _Node, mask: tuple[bool, ...], probability: float, decision: Decision) -> None:
        probability *= node.probability
        if probability < UNLIKELY:
            self.lost += probability / (len(self.problems) * self.tree.draws)
            return
        branch = msgspec.structs.replace(node, probability=probability, settled=dict(node.settled))
        if not decision.calls:
            self._end(branch)
            return
        branch.s = self._called(branch, mask, decision)
        branch.decisions = (*node.decisions, Decision(decision.calls, None, len(node.decisions)))
        branch.left = self.seen.left(branch.i, branch.draw, branch.s, branch.measured)
        self.nodes.append(branch)

    def _called(self, node: _Node, mask: tuple[bool, ...], decision: Decision) -> int:
        """The state after these calls, those that are not allowed refused."""
        tree, s, left = self.tree, node.s, node.left
        made: list[str] = []
        for call in decision.calls:
            check_call(call, self.made)
            name = call.action
            k = tree.actions.index(name) if name in self.made else -1
            # Beside others, a call must be affordable once what they may cost is set aside.
            if k < 0 or not mask[k] or name in made or not left.affords(self.seen.most[k]):
                self.refused += node.probability
                continue
            reading = next((other for other in made if name in self.made[other].feeds), None)
            if reading is not None:
                raise TreeError(
                    f"the policy calls {name} beside {reading}, whose value it would read: the tree holds"
                    " them one after the other, so decide one call at a time"
                )
            if tree.layout.child[s, k] < 0:  # deeper than the tree
                self.refused += node.probability
                continue
            made.append(name)
            left = left.less(self.seen.most[k])
            s = int(tree.layout.child[s, k])
        return s

    def _end(self, node: _Node) -> None:
        self.ended[self.row[node.i], node.draw, node.s] += node.probability

    def evaluation(self, price: Price, resamples: int, seed: int) -> Evaluation:
        tree, ended, some = self.tree, self.ended, self.problems
        # Never reached states hold NaN: they are left out, not multiplied by 0.
        scores = _mean(ended, tree.score[some])
        measured = tree.recipe.hard is not None
        hards = _mean(ended, tree.hard[some]) if measured else np.full(len(some), np.nan)
        costs = np.stack([_mean(ended, tree.cost[some][..., c]) for c in range(3)], -1) + self.probed
        priced = price_of(costs, price)
        rows = np.stack([scores, priced, hards if measured else scores])
        means = resampled_means(rows, resamples, seed)
        return Evaluation(
            self.name,
            len(some),
            estimate(scores, means[:, 0]),
            estimate(hards, means[:, 2]) if measured else None,
            estimate(priced, means[:, 1]),
            cast("tuple[float, float, float]", tuple(costs.mean(0).tolist())),
            scores,
            hards,
            costs,
            ended,
            self.refused / (len(some) * tree.draws),
            self.distribution is not None,
            self.lost,
        )


def _mean(weights: Array, table: Array) -> Array:
    """(n,) the expectation of `table` (n, D, S) over states, averaged over draws."""
    held = np.where(weights > 0, table, 0.0)
    return (weights * held).sum((1, 2)) / weights.sum((1, 2))


def compare(a: Evaluation, b: Evaluation, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean gain in score of a over b on the same problems, with its paired 95 % interval."""
    from unroller.ablation.bootstrap import paired_gain

    if len(a.scores) != len(b.scores):
        raise TreeError(f"{a.policy} was evaluated on {a.n} problems and {b.policy} on {b.n}: take the same")
    return paired_gain(a.scores, b.scores, resamples, seed)


def by_group(evaluation: Evaluation, groups: Sequence[str]) -> Mapping[str, tuple[float, int]]:
    """The mean score and n of each group of problems."""
    labels = np.asarray(groups)
    return {
        label: (float(evaluation.scores[labels == label].mean()), int((labels == label).sum()))
        for label in dict.fromkeys(groups)
    }
