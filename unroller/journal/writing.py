"""Writing a journal, and on a resume handing back what it already holds."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter, defaultdict, deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from unroller.codec import BlobStore, Codec, Unread
from unroller.decide import Decision
from unroller.events import Event, Measured, Output
from unroller.faults import Fault, JournalError
from unroller.journal.reading import Log, RecordedRun, read_log, why_of
from unroller.journal.records import MAGIC, UNJOURNALED, Begun, Session, decode, framed
from unroller.lane import Lane
from unroller.values import Value
from unroller.workspace import Entry, Workspace

Durability = Literal["step", "run", "exit"]


class _Resumed:
    """What the journal already has of a lane that is being resumed."""

    __slots__ = ("decisions", "faults", "number", "written")

    def __init__(self, number: int, run: RecordedRun | None = None) -> None:
        self.number = number
        self.decisions = 0
        self.faults: dict[bytes, Fault] = {}
        self.written: Counter[Any] = Counter()  # the same call can be made twice in one step
        if run is not None:
            for event in run.events:
                self.written[_key(event, self.decisions)] += 1
                if type(event) is Decision:
                    self.decisions += 1
                elif type(event) is Fault and event.id:
                    self.faults[event.id] = event
            self.decisions = 0


def _key(event: Event, decisions: int) -> Any:
    """What makes an event of a run the same event when it is replayed."""
    if type(event) is Decision:
        return ("decision", decisions)
    if type(event) is Output:  # another one where the code has changed since
        return ("output", None if event.entry is None else event.entry.id)
    if type(event) is Fault:
        return ("fault", event.id, event.step, event.action, event.phase)
    return (type(event).__name__, event.id, event.step)  # type: ignore[union-attr]


class Journal:
    """Writes a journal, and on a resume hands back what it already holds.

    Raises JournalError when the folder cannot be written, when it holds a journal already and `resume` is
    not set, or when another process is writing it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        durability: Durability = "run",
        resume: bool = False,
        setup: dict[str, Any] | None = None,
    ) -> None:
        if durability not in ("step", "run", "exit"):
            raise JournalError(f"durability is 'step', 'run' or 'exit', not {durability!r}")
        self.folder = Path(folder)
        self.durability = durability
        self.path = self.folder / "journal.log"
        self._blobs = BlobStore(self.folder / "blobs")
        self._codec = Codec(self._blobs)
        self._pending: list[bytes] = []
        self._warned: set[str] = set()
        self._finished = False  # whether anything pending must be on disk before the next decision
        self._known: dict[bytes, Entry | Measured] = {}
        self._resumable: defaultdict[bytes, deque[RecordedRun]] = defaultdict(deque)
        self._count = 0
        self._size = 0
        self._unsynced = False  # whether anything was written since the last fsync
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except (OSError, ValueError) as error:  # ValueError: a path that no system could have
            raise JournalError(f"cannot write a journal in {str(self.folder)!r}: {why_of(error)}") from None
        self._held: tuple[int, int, int] | None = None
        try:
            self._held = _lock(self._file, self.path)
            log = read_log(self.folder)
            if log.runs and not resume:
                raise JournalError(
                    f"{self.folder} already holds a journal of {len(log.runs)} runs: pass resume=True to"
                    " go on from it, or choose another folder"
                )
            self._take_up(log)
        except BaseException:
            self._let_go()
            raise
        self._append(0, Session(time.time(), setup or {}))
        self._finished = True
        self.flush()

    def _take_up(self, log: Log) -> None:
        os.ftruncate(self._file, log.good_bytes)  # a torn record goes; what comes next must be readable
        os.lseek(self._file, log.good_bytes, os.SEEK_SET)
        self._size = log.good_bytes
        if not log.good_bytes:
            self._write_out(MAGIC)
        _refuse_unknown(log)
        self.recorded = [run for run in log.runs if not _is_lost(run)]
        for run in log.runs:
            self._count = max(self._count, run.number + 1)
        for run in self.recorded:
            self._resumable[_place(run.identity, run.context)].append(run)
            for event in run.events:
                if type(event) is Decision:
                    continue
                entry = event.entry if isinstance(event, Output) else event
                if isinstance(entry, (Entry, Measured)) and not _is_unread(entry):
                    self._known.setdefault(entry.id, entry)  # else it is computed again

    # ------------------------------------------------------------------------------ for the scheduler

    def begin(self, lane: Lane) -> None:
        """Number the lane; if the journal holds an unclaimed run of the same problem, go on from it."""
        waiting = None
        if self._resumable:
            waiting = self._resumable.get(_place(lane.problem.identity, lane.workspace))
        if waiting:
            run = waiting.popleft()
            lane.record = _Resumed(run.number, run)
            lane.recorded = deque(run.decided)
            lane.seconds_before = _seconds_in(run)
            return
        lane.record = _Resumed(self._count)
        self._count += 1
        problem = lane.problem
        fields = {name: getattr(problem, name) for name in problem.model_fields_set}
        begun: dict[str, Any] = {"type": "begun", "problem": fields, "identity": problem.identity}
        if lane.workspace.size:
            begun |= {"workspace": list(lane.workspace), "cost": lane.cost}
        self._append(lane.record.number, begun)
        self._finished = True

    def write(self, lane: Lane, event: Event) -> None:
        record: _Resumed = lane.record
        if record.written:
            key = _key(event, record.decisions)
            if type(event) is Decision:
                record.decisions += 1
            if record.written[key]:
                record.written[key] -= 1
                return
        self._append(record.number, event)
        if type(event) is not Decision:
            self._finished = True  # a decision goes out with what comes of it: one write a step

    def known(self, lane: Lane, id: bytes) -> Entry | Measured | Fault | None:
        """What an earlier process journaled under this id."""
        found = self._known.get(id)
        if found is None and lane.record.faults:
            return lane.record.faults.get(id)
        return found

    def flush(self, ended: bool = False) -> None:
        """Hand what has finished to the operating system; fsync as `durability` says."""
        if self._finished:
            self._write_out(b"".join(self._pending))
            self._pending.clear()
            self._finished = False
            if self.durability == "step":
                self._sync()
        if ended and self.durability == "run":
            self._sync()

    def close(self) -> None:
        """Flush, fsync, and let other processes at the journal. Idempotent."""
        if self._file < 0:
            return
        try:
            self._finished = bool(self._pending)
            self.flush()
            self._sync()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        os.close(self._file)
        self._file = -1
        _LOCKED.discard(self._held)

    # ---------------------------------------------------------------------------------------- writing

    def _append(self, number: int, event: Any) -> None:
        try:
            payload = self._codec.encode((number, event))
        except OSError as error:  # a blob could not be written
            raise self._full(error) from None
        except Exception as error:  # a field that is no plain data: that must not end everybody's runs
            payload = self._mended(number, event, error)
        self._pending += framed(payload)

    def _mended(self, number: int, event: Any, error: Exception) -> bytes:
        """The record of what cannot be encoded as it is, with what can be; and a warning, once a name."""
        try:
            payload = self._codec.encode_mended((number, event))
            if isinstance(event, dict):
                begun = cast("dict[str, Any]", event)
                if not self._is_same(number, payload, begun["identity"]):
                    why = {UNJOURNALED: f"{type(error).__name__}: {error}"[:500]}
                    payload = self._codec.encode_mended((number, begun | {"problem": why}))
        except JournalError:
            raise
        except OSError as full:
            raise self._full(full) from None
        except Exception:
            raise JournalError(f"{_named(event)} cannot be journaled: {error}") from error
        name = _named(event)
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"{name}: what it gave cannot be journaled as it is ({type(error).__name__}: {error}). The"
                " run goes on; what is missing is computed again on a resume",
                stacklevel=2,
            )
        return payload

    def _is_same(self, number: int, payload: bytes, identity: bytes) -> bool:
        """Whether a problem that was mended is still the same problem."""
        try:
            begun = cast("Begun", decode(payload)[1])
            return RecordedRun(number, begun, self._codec).problem.identity == identity
        except (JournalError, msgspec.MsgspecError):
            return False

    def _write_out(self, data: bytes) -> None:
        if self._file < 0:
            raise JournalError(f"the journal {self.folder} is closed")
        view = memoryview(data)
        self._unsynced = True
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)  # no half a record; what is pending is kept
                os.lseek(self._file, self._size, os.SEEK_SET)
            raise self._full(error) from None
        self._size += len(data)

    def _full(self, error: OSError) -> JournalError:
        return JournalError(
            f"the journal {self.folder} cannot be written: {error.strerror}. Everything finished before is"
            " in it; make room and resume it"
        )

    def _sync(self) -> None:
        if not self._unsynced:
            return
        try:
            self._blobs.sync()
            os.fsync(self._file)
            self._unsynced = False
        except OSError as error:
            raise self._full(error) from None


def _named(event: Any) -> str:
    if isinstance(event, dict):
        return "a problem"
    return str(getattr(event, "action", None) or getattr(event, "name", None) or type(event).__name__)


def _place(identity: bytes, workspace: Workspace) -> bytes:
    """Equal for runs that start from the same problem and the same context."""
    return identity + workspace.chain((Value,)).digest


def _seconds_in(run: RecordedRun) -> float:
    """Seconds that a resumed run had on its clock: when its last journaled call ended."""
    ends = [e.started + e.seconds * e.batch for e in run.events if type(e) is Entry]
    return max(ends, default=0.0)


_LOCKED: set[Any] = set()  # (process, device, inode) of the journals that are being written here


def _lock(file: int, path: Path) -> tuple[int, int, int] | None:
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system
        return None
    status = os.fstat(file)
    held = (os.getpid(), status.st_dev, status.st_ino)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if held in _LOCKED:
            why = "another executor of this process holds it: close() it first"
        else:
            why = "it is being written by another process: wait for it, or stop it"
        raise JournalError(f"{path}: {why}") from None
    _LOCKED.add(held)
    return held


def _is_unread(entry: Entry | Measured) -> bool:
    return (entry.kind if isinstance(entry, Entry) else type(entry.held)) is Unread


def _refuse_unknown(log: Log) -> None:
    """A run can be looked at without its types, but not gone on with."""
    for run in log.runs:
        for event in (*run.workspace, *run.events):
            if type(event) is Decision:
                continue
            entry = event.entry if isinstance(event, Output) else event
            if isinstance(entry, Entry) and entry.kind is Unread and not entry.value.why:
                raise JournalError(
                    f"{log.folder}: run {run.number} holds {entry.value.words()}: import the module that"
                    " defines it (on the command line: --use) before resuming"
                )


def _is_lost(run: RecordedRun) -> bool:
    """Whether a fork cannot be gone on with, as a value of its context could not be journaled."""
    lost = next((entry for entry in run.workspace if entry.kind is Unread), None)
    if lost is not None:
        warnings.warn(
            f"run {run.number} forked from a context with {lost.value.words()}: it cannot be resumed; fork"
            " the run that it came from again",
            stacklevel=2,
        )
    return lost is not None
