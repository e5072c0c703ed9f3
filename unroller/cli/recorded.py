"""A run read from a journal, as a `Run` again, without writing to the journal."""

from __future__ import annotations

from types import SimpleNamespace

from unroller.cli.words import output_of, total_cost
from unroller.cost import FREE, Left
from unroller.executor import Executor
from unroller.journal import RecordedRun
from unroller.lane import Lane
from unroller.run import Run, Snapshot
from unroller.workspace import Entry, Workspace


def as_run(recorded: RecordedRun, executor: Executor) -> Run:
    """The recorded run, bound to an executor that can decode its task: it can be explained and reported.

    Raises UnknownName or MissingCapability where the executor cannot.
    """
    start = recorded.start
    problem, workspace, cost = (
        (start.problem, start.workspace, start.cost)
        if isinstance(start, Snapshot)
        else (start, Workspace(), FREE)
    )
    for event in recorded.events:
        if isinstance(event, Entry):
            workspace = workspace.compose(event)
    lane = Lane(problem, executor.decoder(problem.task), Left(), workspace)
    lane.events = list(recorded.events)
    lane.entry = output_of(recorded.events)
    lane.cost = cost + total_cost(recorded.events)
    entries = [event for event in recorded.events if isinstance(event, Entry)]
    entries += [] if lane.entry is None else [lane.entry]
    lane.record = SimpleNamespace(number=recorded.number)
    lane.spent.hits = sum(entry.hit for entry in entries)
    lane.spent.computed = len(entries) - lane.spent.hits
    lane.spent.seconds = sum(entry.seconds for entry in entries)
    return Run(lane, executor)
