"""Policies that look at no model: fixed schedules (the paper's four, ours for the geometric tasks),
everything there is, and nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Self

import msgspec

from policies.saved import Saveable
from unroller.actions import Action
from unroller.decide import Call, Decided, Decision, FixedList, State

Schedules = Mapping[str, Sequence[Sequence[str]]]
"""For each task, lists of actions in order of preference: the first that can be carried out runs."""

PAPER: Schedules = {
    "understanding": [["text_think"]],
    "generation": [["text_think_long", "visual_token_rollout"]],
    "spatial": [["camera_pose_estimate", "novel_view_synthesis", "text_think"]],
    "depth": [["depth_caption", "visual_token_rollout"]],
}
"""The heuristic schedules of "Context Unrolling in Omni Models", section 2."""

MEASURED: Schedules = {
    "spatial": [["camera_pose_estimate", "text_think"]],
    "generation": [["text_think_long"]],
    "editing": [["text_think"], []],
    "depth": [[]],
}
"""What came out better than the paper's list where it was measured: with views as well the embedded model
answers less well (docs/nano.md), with visual tokens it draws less well (docs/drawing.md), and its depth is
no better after any context, as geometry needs none (docs/drawing_from_photos.md). For editing the paper has
none."""

GEOMETRY: Schedules = {
    "pose": [["camera_pose_estimate", "describe_motion"]],
    "novel_view": [["camera_pose_estimate", "depth_estimate"], []],
}
"""What geometry alone can do for photographs, with no language model at hand."""


ORACLES = ("oracle_*",)
"""Patterns of actions that know the truth: no policy calls them unless it is told to."""

CERTAIN_STOP = Decision(log_probability=0.0)


@cache
def certain(action: str) -> Decision:
    """One call, by a policy that always makes it."""
    return Decision((Call(action),), 0.0)


def is_one_of(action: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern fits an action, or the primitive that it is a preset of."""
    primitive = action.partition(":")[0]
    return any(fnmatchcase(action, one) or fnmatchcase(primitive, one) for one in patterns)


def unread(catalogue: Mapping[str, Action]) -> set[str]:
    """The actions that ask for no capability, where a unified model provides all that others ask for: it
    reads only contexts of its own kind, and what somebody else wrote would leave it without an answer. So
    would values that it writes for others, and says it does not read (`unreadable`)."""
    providers = {p for action in catalogue.values() for p in action.providers}
    if not providers or not all(getattr(provider, "unified", False) for provider in providers):
        return set()
    foreign = tuple(kind for provider in providers for kind in getattr(provider, "unreadable", ()))
    return {
        name
        for name, action in catalogue.items()
        if not action.providers or issubclass(action.writes, foreign)
    }


class DirectPolicy(Saveable, FixedList):
    """No context at all: the baseline."""

    kind = "direct"

    def __init__(self) -> None:
        super().__init__((), "direct")

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [CERTAIN_STOP] * len(states)


class SchedulePolicy(Saveable):
    """One list of actions a task, one action a step, then STOP.

    Of several lists for a task the first runs whose actions all have a backend and apply to the problem; if
    none is, the last one runs, and what cannot be called is refused on the record, never skipped in silence.
    Actions that are not registered at all are left out. A task without a schedule is decoded directly.
    """

    kind = "schedule"
    probes: tuple[str, ...] = ()

    def __init__(self, schedules: Schedules, name: str = "schedule") -> None:
        self.schedules = schedules
        self.name = name

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [self._next(state) for state in states]

    def _next(self, state: State) -> Decision:
        several = self.schedules.get(state.problem.task, ())
        if not several:
            return CERTAIN_STOP
        chosen = next((one for one in several if all(map(state.provided, one))), several[-1])
        known = [name for name in chosen if name in state.catalogue]
        return certain(known[state.step]) if state.step < len(known) else CERTAIN_STOP

    def __repr__(self) -> str:
        return f"<policy {self.name}: {', '.join(self.schedules)}>"

    @classmethod
    def _made(cls, settings: dict[str, Any], arrays: Any, digests: Any) -> Self:
        return cls(msgspec.convert(settings["schedules"], dict[str, list[list[str]]]), str(settings["name"]))

    def _settings(self) -> dict[str, Any]:
        held = {task: [list(one) for one in several] for task, several in self.schedules.items()}
        return {"schedules": held, "name": self.name}


class AllPrimitives(Saveable):
    """Every applicable primitive once, in the order of the executor's actions, then STOP.

    A primitive with presets is called once, as its plain self. What has no backend, does not apply to the
    problem, is not affordable any more or failed is passed over, and so is what a unified model could not
    read (`unread`). without: patterns of names to leave out; an oracle, which knows the truth, is no
    primitive that a model could stand on.
    """

    name = kind = "all"
    probes: tuple[str, ...] = ()

    def __init__(self, without: Sequence[str] = ORACLES) -> None:
        self.without = (without,) if isinstance(without, str) else tuple(map(str, without))

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [self._next(state) for state in states]

    def _next(self, state: State) -> Decision:
        called = {call.action for decision in state.decisions for call in decision.calls}
        called |= unread(state.catalogue)
        for name, allowed in zip(state.catalogue, state.mask, strict=True):
            if allowed and name not in called and ":" not in name and not is_one_of(name, self.without):
                return certain(name)
        return CERTAIN_STOP

    def _settings(self) -> dict[str, Any]:
        return {"without": list(self.without)}


paper = SchedulePolicy(PAPER, "paper")

schedule = SchedulePolicy(
    {
        task: [*MEASURED.get(task, ()), *PAPER.get(task, ()), *GEOMETRY.get(task, ())]
        for task in {**PAPER, **MEASURED, **GEOMETRY}
    }
)
"""What was measured to be best, else the paper's schedules where the backends can carry them out, geometry's
where not."""

direct = DirectPolicy()
"""No context at all: the baseline."""
