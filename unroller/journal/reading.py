"""A journal as read: its sessions, and each run as far as it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec

from unroller.codec import BlobStore, Codec, check_fields
from unroller.cost import FREE
from unroller.decide import Decision
from unroller.events import Event, Measured, Output
from unroller.faults import Fault, JournalError, PluginError, ProblemError
from unroller.journal.records import (
    FRAME,
    MAGIC,
    UNJOURNALED,
    Begun,
    EntryRecord,
    MeasuredRecord,
    OutputRecord,
    Record,
    Session,
    decode,
    payloads,
)
from unroller.problem import Problem
from unroller.unrolling import Snapshot
from unroller.workspace import Entry, Workspace


class RecordedRun:
    """One run as the journal has it: its problem, its events so far, and whether it ended."""

    def __init__(self, number: int, begun: Begun, codec: Codec) -> None:
        self.pictures = check_fields(begun.problem)  # how many there are
        self.number = number
        self.events: list[Event] = []
        self.workspace = [_entry(entry, codec) for entry in begun.workspace]
        self.cost = begun.cost
        self._fields = bytes(begun.problem)  # a copy: a part would keep the whole journal in memory
        self._identity = begun.identity
        self._codec = codec

    @property
    def problem(self) -> Problem:
        """The problem, its pictures read from disk now. Raises JournalError when they are not there."""
        fields = self._codec.fields(self._fields)
        if why := fields.get(UNJOURNALED):
            raise JournalError(f"the problem of run {self.number} could not be journaled: {why}")
        try:
            return Problem(**fields)
        except (ProblemError, TypeError) as error:
            raise JournalError(f"damaged record of the problem of run {self.number}: {error}") from None

    @property
    def asked(self) -> Problem:
        """The problem without its pictures, for lists of many runs: nothing is read from disk. (`pictures`
        counts them.)"""
        words = {"task", "question", "prompt", "choices", "look", "seed"}
        raw = msgspec.msgpack.decode(self._fields, type=dict[str, msgspec.Raw])
        if UNJOURNALED in raw:
            return self.problem  # which says why
        try:
            return Problem(**{name: self._codec.value(raw[name]) for name in raw.keys() & words})
        except (ProblemError, TypeError) as error:
            raise JournalError(f"damaged record of the problem of run {self.number}: {error}") from None

    @property
    def identity(self) -> bytes:
        """The problem's identity, known without reading its pictures."""
        return self._identity or self.problem.identity

    @property
    def start(self) -> Problem | Snapshot:
        """What the executor was given: the problem, or the place in an earlier run that was forked."""
        if not self.workspace:
            return self.problem
        return Snapshot(self.problem, self.context, self.cost)

    @property
    def context(self) -> Workspace:
        """The context that the run began with: empty but for a fork."""
        workspace = Workspace()
        for entry in self.workspace:
            workspace = workspace.compose(entry)
        return workspace

    @property
    def decided(self) -> list[Decision | Fault]:
        """The policy's decisions, each after the faults of the policy that led to it."""
        decided = [
            event
            for event in self.events
            if type(event) is Decision or (type(event) is Fault and event.phase == "decide")
        ]
        while decided and isinstance(decided[-1], Fault):
            decided.pop()  # killed before it came to a decision: the policy is asked again
        return decided

    @property
    def ended(self) -> bool:
        return bool(self.events) and type(self.events[-1]) is Output


class Log:
    """A journal as read: its sessions, its runs, and how many bytes at the end were torn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sessions: list[Session] = []
        self.runs: list[RecordedRun] = []
        self.good_bytes = 0
        self.torn_bytes = 0


def read_log(folder: str | Path) -> Log:
    """Read a journal folder; values with arrays are read when they are asked for.

    A torn record at the end is left out and counted. Raises JournalError when there is no journal, when
    it is of another version, or when something is damaged before the end.
    """
    folder = Path(folder)
    path = folder / "journal.log"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise JournalError(f"{folder} holds no journal (no journal.log in it)") from None
    except (OSError, ValueError) as error:  # ValueError: a path that no system could have
        raise JournalError(f"{str(path)!r} cannot be read: {why_of(error)}") from None
    log = Log(folder)
    if len(data) < len(MAGIC) and MAGIC.startswith(data):
        log.torn_bytes = len(data)  # killed while it was being created
        return log
    if not data.startswith(MAGIC):
        raise JournalError(f"{path} is no journal of this version of unroller")
    codec = Codec(BlobStore(folder / "blobs"))
    runs: dict[int, RecordedRun] = {}
    log.good_bytes = len(MAGIC)
    for payload in payloads(data, path):
        try:
            number, record = decode(payload)
            _replay(log, runs, codec, number, record)
        except PluginError:
            raise
        except Exception as error:
            raise JournalError(f"{path}: damaged record at byte {log.good_bytes}: {error}") from None
        log.good_bytes += FRAME.size + len(payload)
    log.torn_bytes = len(data) - log.good_bytes
    log.runs = list(runs.values())
    return log


def _replay(log: Log, runs: dict[int, RecordedRun], codec: Codec, number: int, record: Record) -> None:
    kind = type(record)
    if kind is Session:
        log.sessions.append(record)  # type: ignore[arg-type]
    elif kind is Begun:
        runs[number] = RecordedRun(number, record, codec)  # type: ignore[arg-type]
    else:
        runs[number].events.append(record if kind is Decision else _event(record, codec))  # type: ignore[arg-type]


def _event(record: Any, codec: Codec) -> Event:
    kind = cast("type[Any]", type(record))
    if kind is EntryRecord:
        return _entry(record, codec)
    if kind is OutputRecord:
        return Output(None if record.entry is None else _entry(record.entry, codec), record.seconds)
    if kind is MeasuredRecord:
        r = record
        return Measured(r.id, r.name, codec.value(r.value), r.step, r.cost, r.seconds, r.hit)
    return record


def _entry(record: EntryRecord, codec: Codec) -> Entry:
    r, held = record, codec.stored(record.value)
    cost = FREE if r.cost == FREE else r.cost  # the very object: nothing is charged for it, which is quicker
    return Entry(r.id, r.action, held, r.step, cost, r.seconds, r.started, r.batch, r.hit, r.draw)


def why_of(error: Exception) -> str:
    """What the system says is wrong with a file."""
    return getattr(error, "strerror", None) or str(error)
