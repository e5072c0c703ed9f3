"""Policies that are trained within a comparison: on the problems that the baselines are fitted on, with as
many unique model calls, in several seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from planners.comparison.calls import unique_calls
from planners.comparison.entrants import Entrant
from planners.comparison.fitting import affordable, lot, policy_price
from planners.comparison.ground import Ground
from planners.learning import free_probes, trainer_of
from planners.tree import TreeError, observation_of, table

TRAINERS = ("exact", "grpo", "ppo", "clone")
"""Those that train for one λ."""


class Training(msgspec.Struct, frozen=True):
    """What is trained: trainer, a name of `TRAINERS`, once for each λ and each of `seeds` seeds. probes: what
    the policy sees beside the problem and its context, and pays for each time it looks (None: those that cost
    nothing). settings: of the trainer, its own unless given. out: a folder to save the policies in, as
    NAME/λ/seed."""

    trainer: str = "exact"
    seeds: int = 5
    probes: tuple[str, ...] | None = None
    settings: Any = None
    out: str | Path | None = None

    @property
    def name(self) -> str:
        """With the probes that were asked for: "exact", "exact + answer_entropy", "exact + none"."""
        asked = () if self.probes is None else self.probes or ("none",)
        return " + ".join((self.trainer, *asked))


def trained(
    ground: Ground,
    training: Training,
    weights: Sequence[float],
    calls: float = np.inf,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
) -> list[Entrant]:
    """A learned policy for each λ, trained on the problems that are not held out, of all trees.

    calls: the unique model calls that it may be trained with; it is told of every state, so it needs the
    whole tree of each problem. Raises TreeError, PolicyError.
    """
    from policies.learned import LearnedPolicy
    from policies.price import Price

    if training.trainer not in TRAINERS:
        known = ", ".join(TRAINERS)
        raise TreeError(f"there is no trainer {training.trainer!r} that trains for one λ: take {known}")
    if training.seeds < 1:
        raise TreeError(f"{training.seeds} seeds train nothing: give 1 or more")
    several = [(tree, first, rows) for tree, first, rows in ground.fitting() if len(rows)]
    trees = [tree for tree, _, _ in several]
    probes = free_probes(trees) if training.probes is None else list(training.probes)
    observation = observation_of(trees, probes)
    price = np.zeros(len(ground.held_out))
    for tree, first, rows in several:
        price[first + rows] = unique_calls(tree, rows, range(len(tree.states)), probes)
    taken = affordable(price, lot(ground, seed), calls)
    there = np.concatenate([np.full(len(tree), len(rows) > 0) for tree, _, rows in ground.fitting()])
    number = there.cumsum() - 1  # of a problem of the ground, counted through the trees that are trained on
    problems = number[taken].tolist()
    held = table(trees, observation, price=Price(**policy_price(ground.price)), problems=problems)
    module = trainer_of(training.trainer)
    settings = module.DEFAULT if training.settings is None else training.settings
    found: list[Entrant] = []
    for weight in weights:
        policies: list[Any] = []
        for number in range(training.seeds):
            if tell is not None:
                tell(f"training {training.name} at λ = {weight:g}, seed {number}")
            fresh = LearnedPolicy(observation=observation, seed=number)
            policy = module.train(fresh, held, cost_weight=weight, seed=number, settings=settings)
            if training.out is not None:
                policy.save(Path(training.out) / training.name / f"{weight:g}" / str(number))
            policies.append(policy)
        cost = float(price[taken].sum())
        found.append(Entrant(training.name, tuple(policies), weight, calls=cost, fitted=len(taken)))
    return found
