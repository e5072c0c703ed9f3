"""Scorers: how good an output is, from 0 (wrong) to 1 (right), where the truth is known.

    def score(problem, output) -> float

The truth stands in the problem's metadata: `metadata["truth"]["answer"]`, the text of the right choice, and
`metadata["truth"]["pose"]`, six numbers. Ours are registered like anybody's, in the group `unroller.scorers`.

A score that has several sides says which, and gives a mapping of them; each is a column of an ablation:

    @with_parts("object", "position", about="by a detector that is right on 98 % of true renders")
    def drawn(problem, output):
        return {"score": 0.8, "object": 1.0, "position": None}      # None: this problem has no such side

Where there is no output it is asked with None, to say which sides there would have been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from unroller.faults import ContractError, ProblemError
from unroller.problem import Problem
from unroller.values import Answer, CameraPose, pose_errors

Scored = TypeVar("Scored", bound=Callable[..., Any])

AUC_DEGREES = 30.0
"""The error at which the score of a pose reaches 0."""


def with_parts(*parts: str, about: str | Callable[[], str] = "") -> Callable[[Scored], Scored]:
    """A scorer with these sides; about: what its scores rest on, a sentence that stands under a table."""

    def mark(scorer: Scored) -> Scored:
        for name, value in (("parts", parts), ("about", about)):
            setattr(scorer, name, value)
        return scorer

    return mark


def choice(problem: Problem, output: Any) -> float:
    """1 if the answer is the true one, else 0; its mean over problems is the accuracy.

    Of choices the chosen one is compared; of a free answer its text, whatever its case and white space.
    Raises ProblemError where there is no truth, ContractError for what is no Answer.
    """
    answer = _answer(output, "choice")
    true = true_answer(problem)
    if answer.choice is not None:
        return float(answer.choices[answer.choice] == true)
    return float(_plain(answer.text) == _plain(true))


def soft_choice(problem: Problem, output: Any) -> float:
    """The probability that the answer gives to the true choice: a smoother measure than accuracy.

    Raises ProblemError where there is no truth, ContractError for an answer without probabilities.
    """
    answer = _answer(output, "soft_choice")
    true = true_answer(problem)
    if answer.probabilities is None:
        raise ContractError(
            f"soft_choice needs the probabilities of the choices, which the answer {answer.text!r:.80} lacks:"
            " take the scorer choice"
        )
    if true not in answer.choices:
        raise ContractError(f"the answer's choices {answer.choices} do not hold the true one, {true!r:.80}")
    return min(1.0, answer.probabilities[answer.choices.index(true)])


def pose(problem: Problem, output: Any) -> float:
    """1 - error / 30°, at least 0, the error being the larger of the rotation's and the direction's angle.

    Its mean over problems is AUC@30°, the area under the curve of accuracy against the allowed error (as in
    SuperGlue, Sarlin et al. 2020, but with a signed direction: a flipped one is 180° off). Raises
    ProblemError where there is no truth, ContractError for what is no CameraPose.
    """
    if not isinstance(output, CameraPose):
        raise ContractError(f"pose scores camera poses, and this output is a {_kind(output)}: {_OTHERS}")
    true = true_pose(problem)
    return max(0.0, 1.0 - max(pose_errors(output, true)) / AUC_DEGREES)


def true_answer(problem: Problem) -> str:
    """`metadata["truth"]["answer"]`. Raises ProblemError, saying what to put there."""
    what = "the text of the right choice"
    held = _truth(problem, "answer", what)
    if not isinstance(held, str):
        raise ProblemError(f'{problem!r:.300}: metadata["truth"]["answer"] is {held!r:.80}: put {what} there')
    if problem.choices and held not in problem.choices:
        known = ", ".join(map(repr, problem.choices))
        raise ProblemError(
            f'{problem!r:.300}: metadata["truth"]["answer"] is {held!r:.80}, which is no choice: {known}'
        )
    return held


def true_pose(problem: Problem) -> CameraPose:
    """`metadata["truth"]["pose"]`. Raises ProblemError, saying what to put there."""
    what = "six numbers, the translation and the axis-angle of the second camera in the first one's frame"
    held = _truth(problem, "pose", what)
    try:
        x, y, z, a, b, c = (float(number) for number in held)
        return CameraPose((x, y, z), (a, b, c))
    except (TypeError, ValueError) as error:  # a ValueCheckError is one too
        raise ProblemError(
            f'{problem!r:.300}: metadata["truth"]["pose"] is {held!r:.120} ({error}): put {what} there'
        ) from None


def _truth(problem: Problem, key: str, what: str) -> Any:
    truth = problem.metadata.get("truth")
    held = cast("Mapping[str, Any]", truth).get(key) if isinstance(truth, Mapping) else None
    if held is None:
        raise ProblemError(f'{problem!r:.300} has no truth: put {what} into metadata["truth"]["{key}"]')
    return held


def _answer(output: Any, scorer: str) -> Answer:
    if not isinstance(output, Answer):
        raise ContractError(f"{scorer} scores answers, and this output is a {_kind(output)}: {_OTHERS}")
    return output


_OTHERS = "take another scorer, registered or module:object"


def _kind(output: Any) -> str:
    return type(output).__name__


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
