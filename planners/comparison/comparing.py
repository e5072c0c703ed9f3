"""The comparison itself: policies, fixed schedules and the oracle on the same held-out problems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from planners.comparison.entrants import Entrant, Given, baselines, entrants_of, titled
from planners.comparison.figures import figures
from planners.comparison.ground import Ground
from planners.comparison.logged import Unrolling
from planners.comparison.off_policy import Estimated, estimates
from planners.comparison.oracles import oracles
from planners.comparison.result import Comparison
from planners.comparison.standings import Standing, best_fixed, stand
from planners.comparison.training import Training, trained
from planners.tree import CompleteTree, TreeError
from planners.tree.fixed import By, check_weight
from planners.tree.pricing import Price
from planners.tree.split import HELD_OUT
from unroller.ablation.bootstrap import RESAMPLES
from unroller.faults import PolicyError, UnrollerError

Array = np.ndarray[Any, Any]
Tell = Callable[[str], None]

WEIGHTS = (0.02, 0.0, 0.005, 0.01, 0.05, 0.1)
"""λ where none are given: what a model call has to bring, in score."""


def compare(
    trees: CompleteTree | Sequence[CompleteTree],
    policies: Given = (),
    *,
    by: By = None,
    price: Price = "model_calls",
    weights: Sequence[float] = WEIGHTS,
    share: float = HELD_OUT,
    seed: int = 0,
    together: By = None,
    fit_on: Sequence[CompleteTree] = (),
    train: Sequence[Training] = (),
    unique_calls: float = np.inf,
    logged: Sequence[Unrolling] = (),
    resamples: int = RESAMPLES,
    tell: Tell | None = None,
) -> Comparison:
    """Compare policies on the problems of trees that are held out, beside the baselines that are fitted on
    the others: direct, all, random, the confidence policy, ridge bandits, the best fixed schedules and the
    cross-fitted oracle.

    policies: by name, see `Given`. by: groups of problems that have best schedules of their own (None: the
    task). price: what a cost is. weights: λ, what a unit of cost has to bring in score; the first is the one
    that is shown. share, seed, together, fit_on: which problems are held out, see `Ground`. train: what is
    trained, on the problems that the baselines are fitted on. unique_calls: how many model calls each of
    these may use. logged: unrollings of another policy on these problems (see `logged`), from which every
    policy is estimated at the first λ, beside its exact value. tell: called with what is being done.

    Raises TreeError (no problems, two sides that are not there, λ below 0), ProblemError for metadata that is
    not there, PolicyError. A policy that cannot be evaluated on these trees, or that raises something, is
    `missing`, with the reason.
    """
    given = entrants_of(policies)
    weights = _weights(weights, given)
    if resamples < 1 or not unique_calls > 0:
        raise TreeError(f"{resamples} resamples and {unique_calls} unique calls: give 1 or more of each")
    tell = tell or (lambda _: None)
    several = [trees] if isinstance(trees, CompleteTree) else list(trees)
    if logged and len(several) + len(fit_on) > 1:
        raise TreeError("logged unrollings are of one tree: compare on that one alone")
    ground = Ground(several, by, price=price, share=share, seed=seed, together=together, fit_on=fit_on)
    tell("fitting the baselines")
    fitted, missing = baselines(ground, unique_calls, seed)
    names = [one.name for one in (*given, *train)]
    if twice := next((one.name for one in train if names.count(one.name) > 1), None):
        raise PolicyError(f"{twice!r} is there twice: give the policy another name, or train it once")
    for training in train:
        given += trained(ground, training, weights, unique_calls, seed, tell)
    taken = {one.name for one in given}
    entrants = [one for one in fitted if one.name not in taken] + given
    standings: list[Standing] = []
    notes = _notes(ground, given)
    for entrant in entrants:
        tell(f"evaluating {entrant.name}")
        try:
            standings += _stood(ground, entrant, weights)
        except UnrollerError as error:
            missing[entrant.name] = str(error)
        except Exception as error:  # a policy is anybody's code: the others are compared all the same
            missing[entrant.name] = f"it raised {type(error).__name__}: {error}"
    for weight in weights:
        standings.append(best_fixed(ground, weight))
        if len(set(ground.labels)) > 1:
            standings.append(best_fixed(ground, weight, grouped=True))
        known = oracles(ground, weight)
        standings += known
        if weight == weights[0]:
            notes += [f"{one.name}: {one.note}" for one in known]
    tell("drawing problems")
    found = _estimated(ground, entrants, missing, logged, weights[0], resamples, seed) if logged else []
    return figures(ground, standings, weights, resamples, seed, notes, missing, found)


def _weights(weights: Sequence[float], given: Sequence[Entrant]) -> list[float]:
    """Every λ that is looked at: those asked for, then those that policies were made for."""
    try:
        asked = [float(weight) for weight in weights]
    except (TypeError, ValueError):
        raise TreeError(f"{weights!r} are no λ: give a list of numbers, 0 or more") from None
    if not asked:
        raise TreeError("give at least one λ, 0 or more")
    asked += [float(one.weight) for one in given if one.weight is not None]
    for weight in asked:
        check_weight(weight)
    return list(dict.fromkeys(abs(weight) for weight in asked))  # -0.0 is 0


def _stood(ground: Ground, entrant: Entrant, weights: Sequence[float]) -> list[Standing]:
    """An entrant's standing, at each λ if its price can be set."""
    at = [entrant.at(weight) for weight in weights] if entrant.priced else [entrant]
    return [stand(ground, e.policies, e.name, e.weight, e.kind, e.calls, e.fitted) for e in at]


def _notes(ground: Ground, entrants: Sequence[Entrant]) -> list[str]:
    """What a reader should know of policies that were made for other actions."""
    there = {name for tree in ground.trees for name in tree.actions}
    notes: list[str] = []
    for entrant in entrants:
        made_for = dict.fromkeys(name for one in entrant.policies for name in getattr(one, "digests", {}))
        gone = [name for name in made_for if name not in there]
        if gone:
            left = "" if len(gone) < len(made_for) else ": nothing is left of them, and it stops at once"
            notes.append(f"{entrant.name} was made for actions that no tree has, {', '.join(gone)}{left}")
        if any(ground.may_have_trained(one) for one in entrant.splits):
            notes.append(
                f"{entrant.name} was trained on problems of these trees by another split: it may know what is"
                " held out here; compare with its share and split seed, and its trees in the same order"
            )
    return notes


def _estimated(
    ground: Ground,
    entrants: Sequence[Entrant],
    missing: dict[str, str],
    logged: Sequence[Unrolling],
    weight: float,
    resamples: int,
    seed: int,
) -> list[Estimated]:
    """What is said of each policy's score by what was logged on the held-out problems."""
    tree, first, rows = ground.compared()[0]
    held_out = set(rows.tolist())
    some = [one for one in logged if one.problem in held_out]
    policies: dict[str, Any] = {}
    for entrant in entrants:
        if entrant.name not in missing:
            at = entrant.at(weight) if entrant.priced else entrant
            policies[titled(at.name, at.weight)] = at.policies[0]
    labels = ground.labels[first : first + len(tree)].tolist()
    return estimates(tree, some, policies, labels=labels, resamples=resamples, seed=seed)
