"""A scorer, checked: whatever it gives is a number from 0 to 1, or an error that says whose fault it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from unroller.faults import ContractError, PluginError, ProblemError, UnrollerError
from unroller.problem import Problem

_ROUNDING = 1e-6


class Scorer:
    """A scorer and its name; raises ContractError where it raises, or gives NaN, or no number in 0..1."""

    def __init__(self, function: Callable[[Problem, Any], Any], name: str) -> None:
        self.function = function
        self.name = name

    def __call__(self, problem: Problem, output: Any, which: str) -> float:
        """The score. which: the problem in a word or two, for errors."""
        try:
            given = self.function(problem, output)
        except ProblemError as error:
            raise ProblemError(f"{which}: {error}") from error
        except UnrollerError:
            raise
        except Exception as error:
            said = f"the scorer {self.name} raised {type(error).__name__}: {error}"
            raise ContractError(f"{said}; for {which}, {problem!r:.200}") from error
        try:
            score = math.nan if given is None or isinstance(given, (str, bytes)) else float(given)
        except (TypeError, ValueError):
            score = math.nan
        if not -_ROUNDING <= score <= 1 + _ROUNDING:  # NaN is not, either
            raise ContractError(
                f"the scorer {self.name} gave {given!r:.80} for {which}: a score is a number from 0 to 1"
            )
        return min(1.0, max(0.0, score))


def scorer_of(given: Callable[[Problem, Any], Any] | str) -> Scorer:
    """A scorer from a function, or from the name of a registered one. Raises UnknownName, PluginError."""
    from unroller.registry import load

    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    function: Any = load("scorers", given) if isinstance(given, str) else given
    if not callable(function):
        raise PluginError(
            f"the scorer {name} is a {type(function).__name__}, not a function(problem, output)"
        )
    return Scorer(function, name)
