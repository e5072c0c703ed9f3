"""What was typed, as what the engine takes: problems, budgets, cameras, lists of calls.

Every function raises an UnrollerError that names the option and shows how to write it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from unroller.cli.terminal import aside
from unroller.cost import Budget
from unroller.decide import Call, Decision, FixedList
from unroller.faults import BudgetError, PluginError, ProblemError, ValueCheckError
from unroller.problem import Intrinsics, Problem
from unroller.registry import load, load_all, registered
from unroller.values import CameraPose

Made = TypeVar("Made")


def split(texts: Iterable[str] | None) -> list[str]:
    """The items of a repeatable option that also takes commas: ["a,b", "c"] is a, b, c."""
    return [item.strip() for text in texts or () for item in text.split(",") if item.strip()]


def budget_of(texts: Iterable[str] | None) -> dict[str, Any]:
    """`--budget model_calls=6 --budget seconds=30` as limits. Raises BudgetError."""
    limits: dict[str, Any] = {}
    for item in split(texts):
        name, equals, amount = item.partition("=")
        if not equals:
            raise BudgetError(f"--budget {item!r}: write a limit and an amount, as model_calls=6")
        try:
            number = float(amount)
        except ValueError:
            raise BudgetError(f"--budget {name}: {amount!r} is no number") from None
        whole = number.is_integer() and name.strip() not in ("seconds", "price")
        limits[name.strip()] = int(number) if whole else number
    try:
        Budget.of(limits)
    except BudgetError:
        known = ", ".join(Budget.model_fields)
        given = ", ".join(f"{k}={v:g}" for k, v in limits.items())
        raise BudgetError(
            f"--budget {given}: limits are {known}; amounts are 0 or more, whole numbers for calls, tokens"
            " and steps"
        ) from None
    return limits


def intrinsics_of(texts: Iterable[str] | None) -> list[Intrinsics]:
    """`--intrinsics fx,fy,cx,cy`, once for all photos or once a photo. Raises ProblemError."""
    cameras: list[Intrinsics] = []
    for text in texts or ():
        try:
            fx, fy, cx, cy = (float(number) for number in text.split(","))
        except ValueError:
            raise ProblemError(f"--intrinsics {text!r}: write four numbers in pixels, fx,fy,cx,cy") from None
        cameras.append(Intrinsics.of({"fx": fx, "fy": fy, "cx": cx, "cy": cy}))
    return cameras


def metadata_of(texts: Iterable[str] | None) -> dict[str, Any]:
    """`--metadata width=768,height=512`, values as JSON writes them. Raises ProblemError."""
    held: dict[str, Any] = {}
    for item in split(texts):
        name, equals, value = item.partition("=")
        if not (equals and name.strip()):
            raise ProblemError(f"--metadata {item!r}: write it as name=value, as in width=768")
        held[name.strip()] = _plain(value)
    return held


def pose_of(text: str | None) -> CameraPose | None:
    """`--pose "tx ty tz rx ry rz"`: where to look from, in the unit of the depth it is drawn with. Raises
    ProblemError."""
    if text is None:
        return None
    try:
        x, y, z, a, b, c = (float(number) for number in text.replace(",", " ").split())
    except ValueError:
        raise ProblemError(
            f'--pose {text!r}: write six numbers, "tx ty tz rx ry rz": right, down, forward, and the'
            " axis-angle in radians"
        ) from None
    try:
        return CameraPose((x, y, z), (a, b, c), "relative")
    except ValueCheckError as error:
        raise ProblemError(f"--pose {text!r}: {error}") from None


def calls_of(text: str) -> FixedList:
    """`--calls a,b+c,d:long#2`: one call a step, `+` side by side, `#n` another draw."""
    decisions: list[Decision] = []
    for step in split([text]):
        calls: list[Call] = []
        for item in step.split("+"):
            action, hash_, draw = item.strip().partition("#")
            if not action or (hash_ and not draw.isdecimal()):
                raise ProblemError(f"--calls {text!r}: write names as a,b+c or a#1 for another draw")
            calls.append(Call(action, None, int(draw or 0)))
        decisions.append(Decision(tuple(calls)))
    return FixedList(decisions, " → ".join(split([text])) or "direct")


def problem_of(
    task: str | None, photos: Sequence[str], fields: Mapping[str, Any], tasks: Iterable[str]
) -> Problem:
    """A problem from photos and options. Raises ProblemError, and ImageError for a picture."""
    if task is None:
        known = ", ".join(sorted(tasks)) or "none is installed"
        raise ProblemError(f"say what is asked with --task ({known}), or take a --problem SET:SEED")
    given = {name: value for name, value in fields.items() if value not in (None, [], (), {})}
    if photos:
        given["images"] = list(photos)
    return Problem(task=task, **given)


@aside()
def problem_from_set(
    text: str, task: str | None, options: Iterable[str] | None, own: Mapping[str, Any]
) -> Problem:
    """`--problem SET:SEED` with its options. Raises UnknownName, ProblemError, PluginError."""
    name, colon, number = text.partition(":")
    try:
        seed = int(number) if colon else 0
    except ValueError:
        raise ProblemError(f"--problem {text!r}: write a problem set and a number, as rooms:7") from None
    make = own[name] if name in own else load("problems", name)
    made = made_with(task, options, name, partial(make, seed))
    if not isinstance(made, Problem):
        raise PluginError(f"the problem set {name!r} made a {type(made).__name__}, not a Problem")
    return made


def made_with(task: str | None, options: Iterable[str] | None, name: str, make: Callable[..., Made]) -> Made:
    """What `make`, of the problem set called `name`, makes with `--task` and `--problem-option NAME=VALUE`.
    Raises ProblemError."""
    chosen: dict[str, Any] = {} if task is None else {"task": task}
    for item in options or ():
        key, equals, value = item.partition("=")
        if not equals:
            raise ProblemError(f"--problem-option {item!r}: write it as name=value")
        chosen[key.strip()] = _plain(value)
    try:
        return make(**chosen)
    except TypeError as error:
        raise ProblemError(f"the problem set {name!r} cannot be made with {chosen}: {error}") from error


def names_of(group: str) -> Callable[[str], list[str]]:
    """For a shell that completes: the registered names of a group, the last of a list a,b,c."""

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        return [before + comma + name for name in registered(group) if name.startswith(begun)]

    return complete


def known_tasks() -> list[str]:
    """The tasks of every decoder that can be imported."""
    found, _ = load_all("decoders")
    return [getattr(decoder, "task", name) for name, decoder in found.items()]


def _plain(text: str) -> Any:
    """A number, true, a list … as JSON writes it; anything else is the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
