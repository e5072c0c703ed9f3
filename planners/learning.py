"""Learning a policy on one part of a tree's problems, and telling on the other part what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import numpy as np

from planners.tree.complete import CompleteTree
from planners.tree.evaluation import evaluate
from planners.tree.faults import TreeError
from planners.tree.fixed import Schedules, best_of, check_weight, schedules
from planners.tree.layout import name_of
from planners.tree.pricing import Price, price_of
from planners.tree.several import several_of
from planners.tree.split import Split, split
from planners.tree.tables import observation_of, shared_probes, table
from unroller.ablation.bootstrap import RESAMPLES, Estimate, estimate, paired_gain, resampled_means
from unroller.faults import PolicyError

if TYPE_CHECKING:
    from planners.tree.several import Trees
    from policies.learned import LearnedPolicy

Array = np.ndarray[Any, Any]

Trainer = Literal["exact", "grpo", "ppo", "lagrangian", "clone"]
MODULES: Mapping[str, str] = {"clone": "cloning"}
"""Of `policies.training`, where they are not called like the trainer."""


class Standing(msgspec.Struct, frozen=True):
    """What one policy is worth on the problems that were held out: means with 95 % intervals over problems.

    value: score − λ · cost. gain: what the learned policy has more of it, problem by problem; None for
    itself.
    """

    name: str
    score: Estimate
    cost: Estimate
    value: Estimate
    gain: Estimate | None


class Learned(msgspec.Struct, frozen=True):
    """A policy that was learned. train, held_out: numbers of the problems of the two parts, counted through
    all trees; standings: on the second, the learned policy first; cost_weight: λ of their values; split: what
    the two parts came from."""

    policy: Any
    trainer: str
    cost_weight: float
    train: Array
    held_out: Array
    standings: list[Standing]
    split: Split

    def to_dict(self) -> dict[str, Any]:
        """Plain data: how it was learned, and what it is worth."""
        return {
            "trainer": self.trainer,
            "cost_weight": self.cost_weight,
            "trained_on": len(self.train),
            "n": len(self.held_out),
            "split": msgspec.to_builtins(self.split),
            "held_out": msgspec.to_builtins(self.standings),
        }


def free_probes(trees: Trees) -> list[str]:
    """The probes that nobody is charged for in any of these trees, and that all of them have."""
    several = several_of(trees)
    charged = {name for tree in several for name in tree.probes if tree.probe_cost[name].any()}
    return [name for name in shared_probes(several) if name not in charged]


def learn(
    tree: Trees,
    trainer: Trainer = "exact",
    *,
    cost_weight: float = 0.0,
    mean_cost: float | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    probes: Sequence[str] | None = None,
    hidden: Sequence[int] = (64, 64),
    price: Price = "model_calls",
    budget: Any = None,
    held_out: float = 0.2,
    split_seed: int = 0,
    out: str | Path | None = None,
    tell: Callable[[dict[str, float]], None] | None = None,
    resamples: int = RESAMPLES,
) -> Learned:
    """Train a policy on a part of the problems, and evaluate it exactly on those held out, a share.

    tree: one, or several, of other tasks and other actions, in one draw or as many: it is one policy for all
    of them, that may call what the problem's tree has. settings: of the trainer, by name. mean_cost: the
    budget that `lagrangian` meets, and only it. probes: what the policy sees beside the problem and its
    context, and pays for (None: those that cost nothing). hidden: units of the network's layers. budget: of
    the runs it is meant for. split_seed: of the two parts, so that several seeds are held to the same
    problems. out: a folder for the policy, its curve and checkpoints; the same training that it holds already
    is gone on with.

    It stands beside direct decoding and the fixed schedule that was best on the same training problems, of
    each tree its own. Raises TreeError, PolicyError, SavedPolicyError.
    """
    from policies.learned import LearnedPolicy

    check_weight(cost_weight)
    module = trainer_of(trainer)
    if (mean_cost is None) == (trainer == "lagrangian"):
        raise PolicyError("the trainer lagrangian meets a mean cost, and only it: say which")
    trees = several_of(tree)
    parts = split(trees, held_out, split_seed)
    if any(part.all() or not part.any() for part in parts):
        raise TreeError(
            "a tree has all of its problems on one side of the split: give another split seed or share, or a"
            " tree with more problems"
        )
    out_of = np.concatenate(parts)
    train, held = np.flatnonzero(~out_of), np.flatnonzero(out_of)
    seen = observation_of(trees, free_probes(trees) if probes is None else probes)
    policy = LearnedPolicy(observation=seen, hidden=tuple(hidden), seed=seed)
    given = table(trees, seen, price=price, budget=budget, problems=train.tolist())
    options: dict[str, Any] = {} if mean_cost is None else {"mean_cost": mean_cost}
    policy = module.train(
        policy,
        given,
        cost_weight=cost_weight,
        seed=seed,
        settings=settings_of(module, settings or {}),
        out=out,
        tell=tell,
        **options,
    )
    if out is not None:
        policy.save(out)
    compared = _standings(trees, parts, policy, cost_weight, mean_cost, price, budget, resamples)
    whence = Split.of(trees, held_out, split_seed)
    return Learned(policy, trainer, cost_weight, train, held, compared, whence)


def trainer_of(trainer: str) -> Any:
    """The module that a trainer is in. Raises PolicyError for a name that none has."""
    if trainer not in get_args(Trainer):
        raise PolicyError(f"there is no trainer {trainer!r}: there are {', '.join(get_args(Trainer))}")
    return import_module(f"policies.training.{MODULES.get(trainer, trainer)}")


def settings_of(module: Any, given: Mapping[str, Any]) -> Any:
    """The trainer's own settings with these changed. Raises PolicyError for a name that it does not have."""
    known = module.DEFAULT.__struct_fields__
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise PolicyError(f"this trainer has no setting {unknown!r}: it has {', '.join(known)}")
    return msgspec.structs.replace(module.DEFAULT, **given)


def _standings(
    trees: Sequence[CompleteTree],
    held_out: Sequence[Array],
    policy: LearnedPolicy,
    weight: float,
    mean_cost: float | None,
    price: Price,
    budget: Any,
    resamples: int,
) -> list[Standing]:
    """held_out: for each tree (n,) bool."""
    scored: list[list[tuple[Array, Array]]] = []
    names: list[str] = []
    for tree, out in zip(trees, held_out, strict=True):
        held = np.flatnonzero(out)
        found = evaluate(tree, policy, problems=held.tolist(), budget=budget, price=price, resamples=1)
        every = schedules(tree, price)
        best = _best_fixed(every, np.flatnonzero(~out), weight, mean_cost)
        names.append(name_of(tree.states[best]))
        fixed = [(every.score[held].mean(1)[:, s], every.cost[held].mean(1)[:, s]) for s in (0, best)]
        scored.append([(found.scores, price_of(found.charges, price)), *fixed])
    own, direct, best = (
        tuple(np.concatenate(parts) for parts in zip(*row, strict=True)) for row in zip(*scored, strict=True)
    )
    each = "" if len(trees) == 1 else ", of each tree its own"
    rows = {f"learned ({policy.mode})": own, "direct": direct, f"best fixed{each}: {'; '.join(names)}": best}
    value = own[0] - weight * own[1]
    standings: list[Standing] = []
    for name, (score, cost) in rows.items():
        worth = score - weight * cost
        means = resampled_means(np.stack([score, cost, worth]), resamples)
        of_score, of_cost, of_worth = (
            estimate(row, means[:, k]) for k, row in enumerate((score, cost, worth))
        )
        gain = None if not standings else paired_gain(value, worth, resamples)
        standings.append(Standing(name, of_score, of_cost, of_worth, gain))
    return standings


def _best_fixed(every: Schedules, train: Array, weight: float, mean_cost: float | None) -> int:
    """The schedule that was best on the training problems, or the best that meets the mean cost there."""
    score, cost = every.score[train].mean((0, 1)), every.cost[train].mean((0, 1))
    if mean_cost is None:
        return best_of(score, cost, weight)
    return best_of(np.where(cost <= mean_cost + 1e-9, score, -np.inf), cost)


def check_settings(texts: Sequence[str] | None, option: str = "--set") -> dict[str, Any]:
    """`learning_rate=0.003`, by name. Raises TreeError."""
    import json

    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            equals = ""
        if not equals:
            raise TreeError(f"{option} {text!r}: write NAME=NUMBER, as learning_rate=0.003")
    return found
