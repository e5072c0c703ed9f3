"""How much an answer can be trusted, by itself: what a search may go by where nobody knows the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from unroller.ablation.scoring import Scorer, scorer_of
from unroller.faults import ContractError
from unroller.problem import Problem
from unroller.values import Answer

HIDDEN = ("truth", "oracle")
"""What a self-score is not shown of a problem's metadata."""


def confidence(problem: Problem, output: Any) -> float:
    """The probability of the answer that was given. Raises ContractError for an answer without any."""
    return max(_probabilities(output, "confidence"))


def certainty(problem: Problem, output: Any) -> float:
    """1 - entropy of the answer / its largest value: 1 if one choice has it all, 0 if all are alike. Raises
    ContractError for an answer without probabilities."""
    p = _probabilities(output, "certainty")
    entropy = -sum(q * math.log(q) for q in p if q > 0)
    return 1.0 if len(p) < 2 else min(1.0, max(0.0, 1.0 - entropy / math.log(len(p))))


OWN: dict[str, Callable[[Problem, Any], float]] = {"confidence": confidence, "certainty": certainty}


def self_score(given: Callable[[Problem, Any], float] | str) -> Scorer:
    """A score by name (ours, or a registered scorer's), or a function (problem, output) -> 0 to 1.

    The problem that it is handed has no truth in its metadata, so a scorer that needs one raises
    ProblemError: a search that knew the truth would be an oracle (`planners.tree.oracle` has that).
    """
    scorer = scorer_of(OWN.get(given, given) if isinstance(given, str) else given)

    def blind(problem: Problem, output: Any) -> float:
        return scorer.function(blinded(problem), output)

    return Scorer(blind, scorer.name)


def blinded(problem: Problem) -> Problem:
    """The problem without what its metadata says of the truth."""
    metadata = problem.metadata
    if not any(key in metadata for key in HIDDEN):
        return problem
    return problem.model_copy(
        update={"metadata": {key: held for key, held in metadata.items() if key not in HIDDEN}}
    )


def _probabilities(output: Any, name: str) -> tuple[float, ...]:
    if not isinstance(output, Answer) or not output.probabilities:
        raise ContractError(
            f"{name} judges answers by the probabilities of their choices, which this"
            f" {type(output).__name__} lacks: give the search a score of your own, (problem, output) -> 0..1"
        )
    return output.probabilities
