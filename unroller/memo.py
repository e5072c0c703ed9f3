"""Remembering values by provenance, in memory and on disk.

Equal ids mean equal values, so a memo never has to be asked whether it is still right. Faults are not
remembered. On disk the records are msgpack in SQLite and the arrays safetensors beside it: several
processes can share a folder, and opening a stranger's runs no code.
"""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_digest

from unroller.arrays import is_array, nbytes
from unroller.codec import BlobStore, Codec
from unroller.cost import Cost
from unroller.faults import MemoError
from unroller.values import Value, array_fields, arrays_of

Remembered = tuple[Any, Cost]


class MemoryMemo:
    """A bounded dictionary; when full, the values that were made first go.

    max_items: how many values; max_bytes: how much of arrays.
    """

    def __init__(self, max_items: int = 1_000_000, max_bytes: int = 2 << 30) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.bytes = 0
        self._held: dict[bytes, Remembered] = {}
        self._small: set[type] = {float, int}  # types that hold no arrays
        self.get = self._held.get  # the very method: a lookup is on the path of every call

    def __len__(self) -> int:
        return len(self._held)

    def put(self, id: bytes, value: Any, cost: Cost) -> None:
        held = self._held
        if id in held:
            return
        held[id] = (value, cost)
        if type(value) not in self._small:
            self._weigh(value)
        while len(held) > self.max_items or (self.bytes > self.max_bytes and len(held) > 1):
            gone, _ = held.pop(next(iter(held)))
            self.bytes -= _size(gone)

    def _weigh(self, value: Any) -> None:
        if isinstance(value, Value) and not array_fields(type(value)):
            self._small.add(type(value))
        else:
            self.bytes += _size(value)


def _size(value: Any) -> int:
    if isinstance(value, Value):
        return sum(nbytes(array) for _, array in arrays_of(value))
    return nbytes(value) if is_array(value) else 0


class DiskMemo:
    """A memo in a folder, behind one in memory.

    Raises MemoError when the folder cannot be opened. Safe for several processes at once. Each record carries
    a checksum, and a damaged one is a miss. When the disk is full, nothing more is written to it, with one
    warning: the memo in memory goes on.
    """

    def __init__(self, folder: str | Path, max_items: int = 1_000_000) -> None:
        self.folder = Path(folder)
        self.memory = MemoryMemo(max_items)
        self._writable = True
        self._unkept: set[str] = set()  # types that were warned of
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sql = sqlite3.connect(
                self.folder / "memo.sqlite", isolation_level=None, timeout=30, check_same_thread=False
            )
            self._sql.execute("PRAGMA journal_mode=WAL")
            self._sql.execute("PRAGMA synchronous=NORMAL")
            self._sql.execute(
                "CREATE TABLE IF NOT EXISTS memo (id BLOB PRIMARY KEY, record BLOB) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error, ValueError) as error:  # ValueError: a path that no system could have
            raise MemoError(f"the memo at {str(folder)!r} cannot be opened: {error}") from None
        self._codec = Codec(BlobStore(self.folder / "blobs"))

    def __len__(self) -> int:
        return self._sql.execute("SELECT count(*) FROM memo").fetchone()[0]

    def get(self, id: bytes) -> Remembered | None:
        found = self.memory.get(id)
        if found is not None:
            return found
        try:
            row = self._sql.execute("SELECT record FROM memo WHERE id = ?", (id,)).fetchone()
            if row is None:
                return None
            check, record = row[0][:16], row[0][16:]
            if xxh3_128_digest(id + record) != check:
                return None
            value, cost = self._codec.decode_pair(record)
        except Exception:
            return None  # a damaged record is a miss: it will be computed, and written, again
        self.memory.put(id, value, cost)
        return value, cost

    def put(self, id: bytes, value: Any, cost: Cost) -> None:
        self.memory.put(id, value, cost)
        if not self._writable:
            return
        try:
            record = self._codec.encode((value, cost))
            record = xxh3_128_digest(id + record) + record
            self._sql.execute("INSERT OR REPLACE INTO memo VALUES (?, ?)", (id, record))
        except (sqlite3.Error, OSError) as error:
            self._writable = False
            warnings.warn(
                f"the memo at {self.folder} cannot be written: {error}. What is computed from now on is"
                " remembered in memory only",
                stacklevel=2,
            )
        except Exception as error:  # a field that is no plain data
            name = type(value).__name__
            if name not in self._unkept:
                self._unkept.add(name)
                warnings.warn(
                    f"a {name} cannot be kept on disk, and is remembered in memory only: {error}",
                    stacklevel=2,
                )

    def close(self) -> None:
        self._sql.close()


def as_memo(given: Any) -> Any:
    """None (no memo), "memory", a folder, or a memo."""
    if given is None or hasattr(given, "put"):
        return given
    if given == "memory":
        return MemoryMemo()
    return DiskMemo(given)
