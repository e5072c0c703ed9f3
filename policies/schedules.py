"""Fixed schedules: the paper's four, ours for the geometric tasks, and none at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unroller.decide import STOP, Decided, FixedList, State

Schedules = Mapping[str, Sequence[Sequence[str]]]
"""For each task, lists of actions in order of preference: the first that can be carried out runs."""

PAPER: Schedules = {
    "understanding": [["text_think"]],
    "generation": [["text_think_long", "visual_token_rollout"]],
    "spatial": [["camera_pose_estimate", "novel_view_synthesis", "text_think"]],
    "depth": [["depth_caption", "visual_token_rollout"]],
}
"""The heuristic schedules of "Context Unrolling in Omni Models", section 2."""

READING: Schedules = {
    "spatial": [["camera_pose_estimate", "text_think"]],
}
"""For models that read no pictures in their context."""

GEOMETRY: Schedules = {
    "pose": [["camera_pose_estimate", "describe_motion"]],
    "depth": [["camera_pose_estimate", "depth_estimate"], []],
    "novel_view": [["camera_pose_estimate", "depth_estimate"], []],
}
"""What geometry alone can do for photographs, with no language model at hand."""


class SchedulePolicy:
    """One list of actions a task, one action a step, then STOP.

    Of several lists for a task the first runs whose actions all have a backend and apply to the problem; if
    none is, the last one runs, and what cannot be called is refused on the record, never skipped in silence.
    Actions that are not registered at all are left out. A task without a schedule is decoded directly.
    """

    probes: tuple[str, ...] = ()

    def __init__(self, schedules: Schedules, name: str = "schedule") -> None:
        self.schedules = schedules
        self.name = name

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [self._next(state) for state in states]

    def _next(self, state: State) -> Decided:
        several = self.schedules.get(state.problem.task, ())
        if not several:
            return STOP
        chosen = next((one for one in several if all(map(state.provided, one))), several[-1])
        known = [name for name in chosen if name in state.actions]
        return known[state.step] if state.step < len(known) else STOP

    def __repr__(self) -> str:
        return f"<policy {self.name}: {', '.join(self.schedules)}>"


paper = SchedulePolicy(PAPER, "paper")

schedule = SchedulePolicy(
    {
        task: [*PAPER.get(task, ()), *READING.get(task, ()), *GEOMETRY.get(task, ())]
        for task in {**PAPER, **GEOMETRY}
    }
)
"""The paper's schedules where the backends can carry them out, shorter ones and geometry's where not."""

direct = FixedList((), "direct")
"""No context at all: the baseline."""
