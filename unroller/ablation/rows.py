"""Rows: which context is built, from whose calls, and on which pictures.

Beside plain lists of calls there are three controls. *Shuffled*: the row is run on all problems, and each is
decoded from what was written for another one; what is left of the gain is owed to having context, not to
what it says. *Blank*: every picture is a mid-grey one of the same size; what is left is owed to the question
and to the priors of the model. *Text only*: no pictures at all, where the decoder allows that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
import numpy as np

from unroller.decide import Call, Decision, FixedList, Policy, as_policy
from unroller.faults import PolicyError, ProblemError
from unroller.problem import Problem
from unroller.values import Image

if TYPE_CHECKING:
    from unroller.executor import Executor

Kind = Literal["own", "shuffled", "blank", "text_only"]

GREY = 128


class Row(msgspec.Struct, frozen=True):
    """A set of context. policy: what chooses the calls; kind: whose context, and which pictures; missing:
    why it cannot be measured here, where that is known beforehand."""

    policy: Policy
    kind: Kind = "own"
    missing: str | None = None


def shuffled(*calls: Any) -> Row:
    """These calls, each problem decoded from the context of another problem of its column."""
    row = Row(_policy(calls), "shuffled")
    if isinstance(row.policy, FixedList) and not row.policy.decisions:
        raise PolicyError("a shuffled row without calls has no context to shuffle: name its calls")
    return row


def blank(*calls: Any) -> Row:
    """These calls, none by default, on mid-grey pictures of the same sizes."""
    return Row(_policy(calls), "blank")


def text_only(*calls: Any) -> Row:
    """These calls, none by default, without any pictures."""
    return Row(_policy(calls), "text_only")


def _policy(calls: tuple[Any, ...]) -> Policy:
    """A policy from one, or from calls: `shuffled(a, b)`, `shuffled([a, b])`, `shuffled(policy)`."""
    if len(calls) == 1 and not isinstance(calls[0], (str, Decision)):
        only = calls[0]
        if isinstance(only, (Policy, list, tuple)):
            return as_policy(only)
    return FixedList(calls)


def as_row(given: Any) -> Row:
    """A row from a row, a list of calls, an action's name, or a policy. Raises PolicyError."""
    if isinstance(given, Row):
        return given
    return Row(FixedList([given]) if isinstance(given, str) else as_policy(given))


def named_rows(rows: Mapping[str, Any] | Sequence[Any]) -> dict[str, Row]:
    """Rows by name, in order. Of a list each item is (name, row), or the name of an action, or "direct".

    Raises ProblemError for a name that is there twice or is none, PolicyError for what is no row.
    """
    if isinstance(rows, Mapping):
        pairs: list[tuple[Any, Any]] = list(rows.items())
    else:
        pairs = [_pair(item) for item in rows]
    if not pairs:
        raise ProblemError('there are no rows: give at least {"direct": []}')
    named: dict[str, Row] = {}
    for name, row in pairs:
        if not isinstance(name, str) or not name.strip():
            raise ProblemError(f"a row is called {name!r}: give it a name")
        if name in named:
            raise ProblemError(f"two rows are called {name!r}: give one of them another name")
        named[name] = as_row(row)
    return named


def _pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, str):
        return item, [] if item == "direct" else item
    if isinstance(item, (list, tuple)) and len(cast("Sequence[Any]", item)) == 2:
        name, row = cast("Sequence[Any]", item)
        return name, row
    raise ProblemError(f"{item!r:.80} is no row: give (name, calls), as ('pose', ['camera_pose_estimate'])")


def default_rows(executor: Executor, problem: Problem) -> dict[str, Row]:
    """No context, each call that the executor's policy makes for this problem alone, and all of them in
    order. A call that no chosen backend can carry out is a row that says so, and is left out of the whole.

    The policy is asked by running it, so what it calls is in the memo afterwards.
    """
    decisions = executor.run(problem).decisions
    rows: dict[str, Row] = {"direct": Row(FixedList((), "direct"))}
    whole: list[Decision] = []
    for decision in decisions:
        missing = next((reason for call in decision.calls if (reason := _lacks(executor, call))), None)
        name = " + ".join(map(str, decision.calls))
        rows.setdefault(name, Row(FixedList([decision]), missing=missing))
        if missing is None:
            whole.append(decision)
    if len(whole) > 1:
        name = " + ".join(str(call) for decision in whole for call in decision.calls)
        rows.setdefault(name, Row(FixedList(whole)))
    return rows


def possible_rows(executor: Executor, rows: Mapping[str, Any]) -> dict[str, Row]:
    """The rows that somebody else proposes, by name; those with a call that no chosen backend can carry out
    say so in place of being measured."""

    def of(row: Row) -> Row:
        decisions: Sequence[Decision] = getattr(row.policy, "decisions", ())
        calls = [call for decision in decisions for call in decision.calls]
        missing = next((reason for call in calls if (reason := _lacks(executor, call))), None)
        return row if missing is None else Row(row.policy, row.kind, missing)

    return {name: of(row) for name, row in named_rows(rows).items()}


def _lacks(executor: Executor, call: Call) -> str | None:
    """Why a call cannot be made here at all, or None if it can."""
    action = executor.actions.get(call.action)
    return f"no action is called {call.action!r}" if action is None else action.missing


# ---------------------------------------------------------------------------------- what a kind changes


def without_sight(problems: Sequence[Problem], kind: Kind) -> list[Problem] | str:
    """The problems with grey pictures, or with none; or why that makes no sense."""
    if not any(problem.images for problem in problems):
        return "the problems have no pictures to take away"
    if kind == "blank":
        greys: dict[tuple[int, ...], Any] = {}
        return [
            problem.model_copy(update={"images": tuple(_grey(image, greys) for image in problem.images)})
            for problem in problems
        ]
    blind: list[Problem] = []
    for problem in problems:
        nothing: dict[str, Any] = {"images": (), "intrinsics": ()}
        update = {field: none for field, none in nothing.items() if field in problem.model_fields_set}
        blind.append(problem.model_copy(update=update))
    return blind


def _grey(image: Image, greys: dict[tuple[int, ...], Any]) -> Image:
    shape = tuple(image.pixels.shape)
    pixels = greys.get(shape)
    if pixels is None:
        pixels = greys[shape] = np.full(shape, GREY, np.uint8)
    return Image(pixels, focal_px=image.focal_px)


def donors(groups: Sequence[Hashable], seed: int) -> tuple[list[int], int]:
    """For each problem the index of another one, whose context it gets: of the same group, by one random
    cycle through each group. A problem alone in its group gets one of another group; how many did is the
    second thing returned. Raises ProblemError where there is only one problem.
    """
    if len(groups) < 2:
        raise ProblemError("a shuffled row needs at least two problems")
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    rng = np.random.default_rng([0x5F1E, seed % 2**63])
    found = [-1] * len(groups)
    alone = [of[0] for of in members.values() if len(of) == 1]
    for of in [*(of for of in members.values() if len(of) > 1), *([alone] if len(alone) > 1 else [])]:
        order = rng.permutation(of).tolist()
        for i, j in zip(order, [*order[1:], order[0]], strict=True):
            found[i] = j
    if len(alone) == 1:
        others = [i for i in range(len(groups)) if i != alone[0]]
        found[alone[0]] = others[int(rng.integers(len(others)))]
    return found, len(alone)


def reason_against(problems: Iterable[Problem], inapplicable: Callable[[Problem], str | None]) -> str | None:
    """Why a decoder cannot work on these problems, or None if it can on all of them."""
    reasons = [reason for problem in problems if (reason := inapplicable(problem)) is not None]
    if not reasons:
        return None
    count = f" (so for {len(reasons)} problems)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{count}"
