"""A run: what came of unrolling one problem, and what can be done with it afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unroller.cost import FREE, Cost, Spent
from unroller.decide import Decision
from unroller.events import Event, Measured, Output
from unroller.faults import Fault
from unroller.lane import Lane
from unroller.unrolling import Snapshot
from unroller.workspace import Entry

if TYPE_CHECKING:
    from unroller.contribution import Contributions
    from unroller.executor import Executor


class Run:
    """The outcome of one problem.

    problem; workspace (C_T); output: the decoder's value, or None if decoding failed; events: all that
    happened, in order; cost: charged, the decoder's included; spent: what it really took; seconds: wall
    clock.
    """

    def __init__(self, lane: Lane, executor: Executor) -> None:
        self.problem = lane.problem
        self.workspace = lane.workspace
        self.output_entry = lane.entry
        self.events: list[Event] = lane.events
        self.cost = lane.cost
        self.spent: Spent = lane.spent
        self.executor = executor
        self.number: int | None = None if lane.record is None else lane.record.number

    def __repr__(self) -> str:
        calls = " → ".join(str(c) for d in self.decisions for c in d.calls)
        return f"<run of {self.problem.task}: {calls or 'direct'} → {self.output_words}>"

    @property
    def output(self) -> Any:
        """The decoder's value, or None if decoding failed (then `faults` says why)."""
        return None if self.output_entry is None else self.output_entry.value

    @property
    def output_words(self) -> str:
        return "no output" if self.output_entry is None else self.output.words()

    @property
    def seconds(self) -> float:
        """Wall clock from admission to the end, resumed time included."""
        last = self.events[-1] if self.events else None
        return last.seconds if isinstance(last, Output) else 0.0

    @property
    def decisions(self) -> list[Decision]:
        """The policy's decisions that called something."""
        return [e for e in self.events if isinstance(e, Decision) and e.calls]

    @property
    def entries(self) -> list[Entry]:
        """The context, in the order it was written."""
        return list(self.workspace)

    @property
    def faults(self) -> list[Fault]:
        """Calls that failed, or were refused."""
        return [e for e in self.events if isinstance(e, Fault)]

    @property
    def measured(self) -> list[Measured]:
        """What the policy's probes measured."""
        return [e for e in self.events if isinstance(e, Measured)]

    def at(self, step: int) -> Snapshot:
        """The run as it stood when `step` decisions had been carried out: step 0 is the bare problem.

        Fork it with `executor.run(run.at(2), ...)`. Raises IndexError.
        """
        steps = len(self.decisions)
        if not 0 <= step <= steps:
            raise IndexError(f"this run made {steps} decisions: fork it at 0 to {steps}, not {step}")
        size = self.workspace.size
        made = [e for e in self.events if isinstance(e, Entry)]
        kept = size - sum(1 for e in made if e.step >= step)
        workspace = self.workspace.at(kept)
        charged = [(e.step, e.cost) for e in self.events if isinstance(e, (Entry, Measured))]
        charged += [(fault.step, Cost(*fault.charged)) for fault in self.faults]
        last = FREE if self.output_entry is None else self.output_entry.cost
        before = self.cost - sum((cost for _, cost in charged), last)  # what a fork began with
        cost = sum((cost for at, cost in charged if at < step), before)
        return Snapshot(self.problem, workspace, cost)

    def replay(self) -> Run:
        """Carry out the same decisions again, computing everything anew (no memo, no journal).

        Compare its entries with this run's to see whether the primitives are deterministic.
        """
        from unroller.decide import FixedList

        again = self.executor.extend(policy=FixedList(self.decisions, "replay"), memo=None, journal=None)
        return again.run(self.problem)

    def contributions(self, scorer: Any = None) -> Contributions:
        """How much each entry moved the output: leave-one-out, and exact Shapley up to six entries."""
        from unroller.contribution import contributions

        return contributions(self, scorer)

    def explain(self, contributions: bool = True) -> str:
        """The run in plain words: what was done, why not, at what cost, and what it contributed."""
        from unroller.explain import explain

        return explain(self, contributions)

    def report(self, path: str | Path, *, contributions: bool = True) -> Path:
        """Write a self-contained HTML page that opens offline. Returns its path.

        contributions: also measure what each entry contributed, which decodes up to 64 times.
        """
        from unroller.report import write_report

        return write_report(self, path, contributions=contributions)

    def to_dict(self) -> dict[str, Any]:
        """The run as plain data, without arrays: for JSON, tables and logs."""
        from unroller.explain import as_dict

        return as_dict(self)
