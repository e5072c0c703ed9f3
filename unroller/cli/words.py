"""Events of a run in plain words: what the live tree, the plain lines and the tables have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from unroller.cli.terminal import one_line
from unroller.cost import FREE, Cost
from unroller.events import Event, Measured, Output
from unroller.faults import Fault
from unroller.problem import Problem
from unroller.values import Answer, CameraPose, NovelViews
from unroller.workspace import Entry

_SCALE = {"metric": "metres", "unit": "up to scale", "none": "pure rotation", "relative": "any unit"}


def title(problem: Problem) -> str:
    """What is asked, in a few words: "pose of 2 photos"."""
    count = len(problem.images)
    photos = f" of {counted(count, 'photo')}" if count else ""
    asked = problem.question or problem.prompt
    return problem.task + photos + (f": {one_line(asked, 60)}" if asked else "")


def took(seconds: float) -> str:
    """A duration in few letters."""
    if seconds < 0.000_95:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"


def charged(cost: Cost) -> str:
    """A cost in words; nothing is "free"."""
    return "free" if cost == FREE else str(cost)


def value_words(value: Any, limit: int = 300) -> str:
    """A value in one safe line. A pose without its tag's six zeros, an answer with how sure it is."""
    if isinstance(value, CameraPose):
        numbers = " ".join(f"{v + 0.0:.3f}" for v in (*value.translation, *value.rotation))
        sure = f", {value.inliers} inliers" if value.inliers is not None else ""
        return f"<campose>{numbers}</campose> ({_SCALE.get(value.scale, value.scale)}{sure})"
    if isinstance(value, Answer):
        return one_line(value.words(), limit)
    if isinstance(value, NovelViews):
        return one_line(value.words(), limit)
    return one_line(value.words() if hasattr(value, "words") else str(value), limit)


def measured_words(measured: Measured) -> str:
    """What a probe measured."""
    held = measured.held
    if isinstance(held, (int, float)):
        return f"{held:.4g}"
    return "nothing" if held is None else f"an array of {tuple(held.shape)}"


def fault_words(fault: Fault) -> str:
    """What went wrong, as a sentence: who, when, why, and how often it was tried."""
    at, why = f"step {fault.step + 1}", one_line(fault.message)
    who = one_line(fault.action, 80)
    if fault.phase == "refused":
        return f"{at}: {who} was not called: {why}"
    if fault.phase == "decide" and fault.kind == "UnknownName":
        return f"{at}: {why}"
    if fault.phase == "decide" and fault.kind == "ContractError":  # parameters that do not fit
        return f"{at}: {who} could not be called: {why}"
    if fault.phase == "decide":
        return f"{at}: the policy {who} could not decide ({fault.kind}): {why}"
    if fault.phase == "decode":
        return f"the decoder {who} failed{_tries(fault)} ({fault.kind}): {why}"
    what = f"the probe {who}" if fault.phase == "probe" else who
    return f"{at}: {what} failed{_tries(fault)} ({fault.kind}): {why}"


def fault_reason(fault: Fault) -> str:
    """Why, where who and when stand beside it."""
    why = one_line(fault.message)
    return why if fault.phase == "refused" else f"{fault.kind}{_tries(fault)}: {why}"


class Told:
    """Remembers the messages of faults: the same one is told in full once, then only where that was."""

    def __init__(self) -> None:
        self._where: dict[str, str] = {}

    def __call__(self, fault: Fault) -> Fault:
        """The fault as it is to be told now."""
        here = "the decoding" if fault.phase == "decode" else f"step {fault.step + 1}"
        first = self._where.setdefault(fault.message, here)
        if first is here:
            return fault
        return msgspec.structs.replace(fault, message="as above" if first == here else f"as in {first}")


def counted(count: int, what: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def a(what: str) -> str:
    """`an AnswerScorer`, `a PoseEstimator`."""
    return f"{'an' if what[:1].lower() in 'aeiou' else 'a'} {what}"


def _tries(fault: Fault) -> str:
    return f" after {fault.attempts} attempts" if fault.attempts > 1 else ""


def total_cost(events: Sequence[Event]) -> Cost:
    """What the events charged, the decoder's charge included."""
    cost = FREE
    for event in events:
        if isinstance(event, (Entry, Measured)):
            cost += event.cost
        elif isinstance(event, Fault):  # of a call that overran the budget
            cost += Cost(*event.charged)
        elif isinstance(event, Output) and event.entry is not None:
            cost += event.entry.cost
    return cost


def output_of(events: Sequence[Event]) -> Entry | None:
    """The output's entry, or None."""
    last = events[-1] if events else None
    return last.entry if isinstance(last, Output) else None
