"""Running the rows: every row over all problems, batched across them, through one memo.

What two rows share is computed once, whichever comes first. So that the order of the rows does not decide
what each seems to take, a call's seconds are those it took where it was really computed, and they count for
every row that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from unroller.ablation.rows import Row, donors, reason_against, without_sight
from unroller.ablation.scoring import Marks, Scorer
from unroller.ablation.shares import Shares, Sharing
from unroller.cost import Cost
from unroller.faults import Fault, ProblemError
from unroller.problem import Problem
from unroller.unrolling import Snapshot
from unroller.workspace import Entry

if TYPE_CHECKING:
    from unroller.executor import Executor
    from unroller.run import Run

Faults = Literal["wrong", "answer"]
"""How a problem counts in which a call failed: as wrong, or by its answer all the same."""

Tell = Callable[[str, int, int], None]
"""Told of (row, problems done, problems in all) as they are done."""

Array = np.ndarray[Any, Any]


class Measured(msgspec.Struct, frozen=True):
    """One row on all problems. score (n,); parts: of the score, (n,) each, NaN for problems that have no such
    part; failed (n,) bool; cost (n, 3): calls, tokens, price; seconds (n,), NaN where a call was in the memo
    before; faults: what failed, the first of each kind and how often; missing: why it was not measured, and
    then there is nothing else."""

    name: str
    kind: str
    score: Array
    parts: dict[str, Array]
    failed: Array
    cost: Array
    seconds: Array
    faults: list[tuple[Fault, int]]
    missing: str | None = None


class Measurement(msgspec.Struct, frozen=True):
    """All rows. computed, found: calls made, and calls that the memo answered; seconds: wall clock."""

    rows: list[Measured]
    shares: Shares | None
    notes: list[str]
    computed: int
    found: int
    seconds: float
    backends: list[str]
    fingerprints: list[str]


class _Part(msgspec.Struct, frozen=True):
    """A row made ready: its executor, and the problems as this row sees them."""

    name: str
    row: Row
    executor: Executor
    problems: Sequence[Problem]

    @property
    def passes(self) -> int:
        """How often it goes over the problems: to write contexts for others, and to decode."""
        return 2 if self.row.kind == "shuffled" else 1


class _Record(msgspec.Struct):
    """One problem in one row. values: the provenance ids of what was made for it, the output's included;
    lost: seconds in calls that failed."""

    marks: Marks
    answered: bool
    cost: Cost
    values: list[bytes]
    lost: float
    faults: list[Fault]


def measure(
    executor: Executor,
    problems: Sequence[Problem],
    rows: dict[str, Row],
    scorer: Scorer,
    columns: Sequence[str],
    seed: int = 0,
    faults: Faults = "wrong",
    contributions: str | None = None,
    tell: Tell | None = None,
) -> Measurement:
    """Run every row on every problem; `columns` says of each problem which column it is of. See
    `unroller.ablation.ablate`."""
    began = perf_counter()
    if faults not in ("wrong", "answer"):
        raise ProblemError(f'faults={faults!r}: a failed call counts as "wrong", or by its "answer"')
    for i, problem in enumerate(problems):
        if (reason := executor.decoder(problem.task).inapplicable(problem)) is not None:
            raise ProblemError(f"problem {i}: {problem.task}: {reason}")
    if executor.memo is None:
        executor = executor.extend(memo="memory")  # or nothing would be shared
    # All are made ready before one is run: a name that nobody knows is said before anything is spent.
    ready = {name: _made_ready(name, row, executor, problems) for name, row in rows.items()}
    session = _Session(problems, columns, scorer, seed, faults, contributions, tell)
    session.total = sum(part.passes for part in ready.values() if isinstance(part, _Part)) * len(problems)
    found = {name: part if isinstance(part, str) else session.run(part) for name, part in ready.items()}
    return Measurement(
        [session.measured(name, rows[name].kind, of) for name, of in found.items()],
        session.sharing.shares() if session.sharing is not None else None,
        session.notes,
        session.computed,
        session.found,
        perf_counter() - began,
        [str(backend.name) for backend in executor.backends],
        [str(backend.fingerprint) for backend in executor.backends],
    )


def _made_ready(name: str, row: Row, executor: Executor, problems: Sequence[Problem]) -> _Part | str:
    """The row ready to be run, or why it does not apply. Raises UnknownName, MissingCapability."""
    if row.missing is not None:
        return row.missing
    bound = executor.extend(policy=row.policy)
    if row.kind == "shuffled" and len(problems) < 2:
        return "there is no other problem to take a context from"
    if row.kind in ("own", "shuffled"):
        return _Part(name, row, bound, problems)
    changed = without_sight(problems, row.kind)
    if isinstance(changed, str):
        return changed
    reason = reason_against(changed, lambda p: bound.decoder(p.task).inapplicable(p))
    return reason or _Part(name, row, bound, changed)


class _Session:
    """What the rows of one measurement share, and how far it has come."""

    def __init__(
        self,
        problems: Sequence[Problem],
        columns: Sequence[str],
        scorer: Scorer,
        seed: int,
        faults: Faults,
        contributions: str | None,
        tell: Tell | None,
    ) -> None:
        self.problems = problems
        self.columns = columns
        self.scorer = scorer
        self.seed = seed
        self.faults: Faults = faults
        self.sharing = Sharing(contributions) if contributions is not None else None
        self.tell = tell
        self.total = self.done = 0
        self.computed = self.found = 0
        self.seconds: dict[bytes, float] = {}  # what each value took where it was computed
        self.notes: list[str] = []

    def run(self, part: _Part) -> list[_Record] | str:
        """One record a problem, or why the row does not apply."""
        if part.row.kind == "shuffled":
            return self._shuffled(part)
        runs = part.executor.map(part.problems)
        records = [self._record(part.name, i, run) for i, run in enumerate(runs)]
        if part.row.kind == "text_only" and not any(record.answered for record in records):
            why = f": {records[0].faults[-1].message}" if records[0].faults else ""
            return f"without pictures there is no output{why}"
        return records

    def _shuffled(self, part: _Part) -> list[_Record]:
        """Each problem decoded from the context that was written for another one. It is charged what that
        context cost, as if it had been its own."""
        groups = [(label, x.task) for label, x in zip(self.columns, self.problems, strict=True)]
        whose, alone = donors(groups, self.seed)
        if alone:
            self.notes.append(
                f"{part.name}: {alone} of the problems had no other one in their column, and got the context"
                " of one of another column"
            )
        contexts: list[Run] = []
        for run in part.executor.map(part.problems):
            self._spent(part.name, run)
            contexts.append(run)
        written = [run.at(len(run.decisions)) for run in contexts]
        starts = [
            Snapshot(x, written[j].workspace, written[j].cost)
            for x, j in zip(self.problems, whose, strict=True)
        ]
        # No budget: that of the problem whose context this is was kept, and the decoder always runs.
        decoding = part.executor.extend(policy=[], budget=None)
        return [
            self._record(part.name, i, run, contexts[whose[i]]) for i, run in enumerate(decoding.map(starts))
        ]

    def _record(self, name: str, i: int, run: Run, context: Run | None = None) -> _Record:
        """Score a run. context: the run that its context comes from, where that is another one."""
        self._spent(name, run)
        problem, which = self.problems[i], f"problem {i} in the row {name!r}"
        faults = list(run.faults)
        if context is not None:
            faults += [fault for fault in context.faults if fault.phase != "decode"]
        counts = self.faults == "answer" or not faults
        marks = self.scorer.marks(problem, run.output if counts else None, which)
        if self.sharing is not None and self.sharing.row == name:
            self.sharing.add(run, lambda _, output: self.scorer(problem, output, which))
        values = [entry.id for entry in run.workspace]
        if run.output_entry is not None:
            values.append(run.output_entry.id)
        lost = sum(fault.seconds for fault in faults)
        return _Record(marks, run.output is not None, run.cost, values, lost, faults)

    def _spent(self, name: str, run: Run) -> None:
        """Keep what the run's calls took, and say that one more problem is done."""
        self.computed += run.spent.computed
        self.found += run.spent.hits
        made = [event for event in run.events if isinstance(event, Entry)]
        for entry in (*made, run.output_entry):
            if entry is not None and not entry.hit:
                self.seconds[entry.id] = entry.seconds
        self.done += 1
        if self.tell is not None:
            self.tell(name, self.done, self.total)

    def measured(self, name: str, kind: str, records: list[_Record] | str) -> Measured:
        """The records of a row as arrays."""
        if isinstance(records, str):
            nothing = np.zeros(0)
            return Measured(name, kind, nothing, {}, nothing, nothing, nothing, [], records)
        counted: dict[tuple[str, str, str], tuple[Fault, int]] = {}
        for fault in (fault for record in records for fault in record.faults):
            key = (fault.action, fault.kind, fault.phase)
            first, count = counted.get(key, (fault, 0))
            counted[key] = (first, count + 1)
        unknown = float("nan")
        return Measured(
            name,
            kind,
            np.array([record.marks.score for record in records]),
            {
                part: np.array([record.marks.parts.get(part, unknown) for record in records])
                for part in self.scorer.parts
            },
            np.array([bool(record.faults) or not record.answered for record in records]),
            np.array([(r.cost.model_calls, r.cost.tokens, r.cost.price) for r in records], np.float64),
            np.array([r.lost + sum(self.seconds.get(id, unknown) for id in r.values) for r in records]),
            sorted(counted.values(), key=lambda of: -of[1]),
        )
