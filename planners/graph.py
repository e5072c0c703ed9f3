"""A graph of calls from what they read and write: whatever does not need another's result runs beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policies.schedules import Schedules, schedule
from unroller.actions import Action
from unroller.plan import Plan
from unroller.problem import Problem


class GraphPlanner:
    """Takes the actions of a schedule (or a list of them) and lets each wait only for those before it in
    the list that write a type it reads.

    Actions that no backend can carry out, or that do not apply to the problem, are left out.
    """

    name = "graph"

    def __init__(
        self, actions: Sequence[str] | None = None, schedules: Schedules = schedule.schedules
    ) -> None:
        self.actions = actions
        self.schedules = schedules

    def plan(self, problem: Problem, actions: Mapping[str, Action]) -> Plan:
        wanted = (
            self.actions if self.actions is not None else self._scheduled(problem.task, actions)
        )
        usable = [name for name in wanted if _usable(problem, actions.get(name))]
        edges = [
            (before, after)
            for i, after in enumerate(usable)
            for before in usable[:i]
            if _feeds(actions[before], actions[after])
        ]
        return Plan(usable, edges)

    def _scheduled(self, task: str, actions: Mapping[str, Action]) -> Sequence[str]:
        lists = self.schedules.get(task, ())
        able = (one for one in lists if all(n in actions and not actions[n].missing for n in one))
        return next(able, lists[-1] if lists else ())


def _usable(problem: Problem, action: Action | None) -> bool:
    if action is None or action.missing is not None:
        return False
    applies = action.primitive.applies
    return applies is None or applies(problem) is None


def _feeds(before: Action, after: Action) -> bool:
    """Whether `after` reads a type that `before` writes."""
    kinds = after.primitive.kinds
    return bool(kinds) and issubclass(before.writes, kinds)
