"""Problem sets by what they are for: the one for a task, and what one proposes to measure.

A set may have three attributes beside `many`: `tasks`, those it is made for; `rows`, context sets by name
that are worth measuring on it, as `ablate` takes them; `column`, the key of its metadata to group by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unroller.cli.terminal import aside
from unroller.faults import ProblemError
from unroller.registry import load, load_all, registered


def set_of(name: str | None, task: str | None, own: Mapping[str, Any]) -> str:
    """The problem set that is named, or the only one whose `tasks` hold the task. Raises ProblemError."""
    if name is not None:
        return name
    known = ", ".join({**own, **registered("problems")})
    if task is None:
        raise ProblemError(f"say which problems with --problem ({known}), or for which --task")
    with aside():
        every = {**own, **load_all("problems")[0]}
    fitting = [one for one, made in every.items() if task in getattr(made, "tasks", ())]
    if len(fitting) != 1:
        many = f"several problem sets ({', '.join(fitting)}) are" if fitting else "no problem set is"
        raise ProblemError(f"{many} for the task {task}: name one with --problem ({known})")
    return fitting[0]


def proposed_by(name: str, own: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str | None]:
    """The rows and the column that a problem set proposes."""
    made = own[name] if name in own else load("problems", name)
    return getattr(made, "rows", None), getattr(made, "column", None)
