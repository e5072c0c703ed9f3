"""A scorer, checked: whatever it gives is a number from 0 to 1, or an error that says whose fault it is.

A scorer may have `parts` and an `about`, see `unroller.scorers.with_parts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from unroller.faults import ContractError, PluginError, ProblemError, UnrollerError
from unroller.problem import Problem

_ROUNDING = 1e-6
SCORE = "score"


class Marks(msgspec.Struct, frozen=True):
    """score: 0 to 1; parts: the sides of it that the problem has, any finite numbers."""

    score: float
    parts: dict[str, float]


class Scorer:
    """A scorer, its name and its parts; raises ContractError where it raises, or gives NaN, or no number in
    0..1."""

    def __init__(self, function: Callable[[Problem, Any], Any], name: str) -> None:
        self.function = function
        self.name = name
        self.parts: tuple[str, ...] = tuple(getattr(function, "parts", ()))

    @property
    def about(self) -> str:
        """What the scores rest on, in its own words."""
        said: Any = getattr(self.function, "about", "")
        return str(said() if callable(said) else said)

    def __call__(self, problem: Problem, output: Any, which: str) -> float:
        """The score. which: the problem in a word or two, for errors."""
        return self.marks(problem, output, which).score

    def marks(self, problem: Problem, output: Any, which: str) -> Marks:
        """The score and its parts; all of them 0 where there is no output."""
        if output is None and not self.parts:
            return Marks(0.0, {})
        given = self._given(problem, output, which)
        if not self.parts:
            return Marks(self._number(given, which), {})
        if not isinstance(given, Mapping):
            raise ContractError(
                f"the scorer {self.name} has parts and gave {given!r:.80} for {which}: give a mapping of"
                f" {SCORE!r} and {', '.join(self.parts)}"
            )
        held = cast("Mapping[str, Any]", given)
        if set(held) != {SCORE, *self.parts}:
            raise ContractError(
                f"the scorer {self.name} gave {sorted(map(str, held))} for {which}: its names are {SCORE!r}"
                f" and {', '.join(self.parts)}; None where a problem has no such part"
            )
        there = {name: held[name] for name in self.parts if held[name] is not None}
        if output is None:
            return Marks(0.0, dict.fromkeys(there, 0.0))
        parts = {name: self._finite(value, f"{name!r} of {which}") for name, value in there.items()}
        return Marks(self._number(held[SCORE], which), parts)

    def _given(self, problem: Problem, output: Any, which: str) -> Any:
        try:
            return self.function(problem, output)
        except ProblemError as error:
            raise ProblemError(f"{which}: {error}") from error
        except UnrollerError:
            raise
        except Exception as error:
            said = f"the scorer {self.name} raised {type(error).__name__}: {error}"
            raise ContractError(f"{said}; for {which}, {problem!r:.200}") from error

    def _number(self, given: Any, which: str) -> float:
        score = _float(given)
        if not -_ROUNDING <= score <= 1 + _ROUNDING:  # NaN is not, either
            raise ContractError(
                f"the scorer {self.name} gave {given!r:.80} for {which}: a score is a number from 0 to 1"
            )
        return min(1.0, max(0.0, score))

    def _finite(self, given: Any, which: str) -> float:
        value = _float(given)
        if not math.isfinite(value):
            raise ContractError(
                f"the scorer {self.name} gave {given!r:.80} for {which}: give a finite number"
            )
        return value


def _float(given: Any) -> float:
    """NaN for what is no number."""
    try:
        return math.nan if given is None or isinstance(given, (str, bytes)) else float(given)
    except (TypeError, ValueError):
        return math.nan


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


def usual_scorer(problems: Sequence[Problem]) -> str:
    """The scorer registered under the name of the problems' task, if they have one task and there is one;
    else "choice"."""
    from unroller.registry import registered

    tasks = {problem.task for problem in problems}
    task = tasks.pop() if len(tasks) == 1 else ""
    return task if task in registered("scorers") else "choice"
