"""The records of a journal, and how they lie in its file: length, checksum, payload."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from xxhash import xxh32_intdigest

from unroller.cost import FREE, Cost
from unroller.decide import Decision
from unroller.faults import Fault, JournalError

MAGIC = b"unroller journal 1\n"
FRAME = struct.Struct("<II")  # length, xxh32 of the payload
UNJOURNALED = "unjournaled"  # in the place of a problem that could not be encoded: why


class Session(msgspec.Struct, tag="session"):
    """Written whenever a process opens the journal: what it was run with, for people and for resuming."""

    started: float
    setup: dict[str, Any]


class Begun(msgspec.Struct, tag="begun"):
    """A problem was admitted as run number so-and-so; a fork with the context and the cost it went on
    from."""

    problem: msgspec.Raw
    workspace: tuple[EntryRecord, ...] = ()
    cost: Cost = FREE
    identity: bytes = b""  # of the problem, so that resuming reads no pictures


class EntryRecord(msgspec.Struct, tag="entry"):
    id: bytes
    action: str
    value: msgspec.Raw
    step: int = 0
    cost: Cost = FREE
    seconds: float = 0.0
    started: float = 0.0
    batch: int = 1
    hit: bool = False
    draw: int = 0


class MeasuredRecord(msgspec.Struct, tag="measured"):
    id: bytes
    name: str
    value: msgspec.Raw
    step: int = 0
    cost: Cost = FREE
    seconds: float = 0.0
    hit: bool = False


class OutputRecord(msgspec.Struct, tag="output"):
    entry: EntryRecord | None
    seconds: float = 0.0


Record = Session | Begun | Decision | EntryRecord | MeasuredRecord | OutputRecord | Fault
decode = msgspec.msgpack.Decoder(tuple[int, Record]).decode


def framed(payload: bytes) -> tuple[bytes, bytes]:
    """A record as it is written."""
    return FRAME.pack(len(payload), xxh32_intdigest(payload)), payload


def payloads(data: bytes, path: Path) -> Iterator[memoryview]:
    """The whole records of a file, in order; a torn one at its end is left out. Raises JournalError for one
    that is damaged before the end."""
    view = memoryview(data)
    at = len(MAGIC)
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        start, end = at + FRAME.size, at + FRAME.size + length
        payload = view[start:end]
        if end > len(data) or xxh32_intdigest(payload) != checksum:
            if _torn(view, at):
                return
            raise JournalError(
                f"{path}: damaged record at byte {at}, with others after it; restore the file from a copy, or"
                f" cut it there (`truncate -s {at} {path.name}`) to resume from what came before"
            )
        yield payload
        at = end


_PAYLOAD = re.compile(  # how the payload of every record begins: a list of two, a number, a map
    rb"\x92(?=(?:[\x00-\x7f]|\xcc.|\xcd..|\xce.{4}|\xcf.{8})[\x80-\x8f\xde\xdf])", re.DOTALL
)


def _torn(view: memoryview, at: int) -> bool:
    """Whether a record that is not whole is the last one, torn by a kill or zeroed by a power cut: no
    whole record comes after it. (Its own length may be what is damaged, so it cannot be trusted.)"""
    to_hash = 8 * (len(view) - at)  # a tail that was made up to be slow is damaged, not torn
    for found in _PAYLOAD.finditer(view, at + 1 + FRAME.size):
        start = found.start()
        length, checksum = FRAME.unpack_from(view, start - FRAME.size)
        if not length or start + length > len(view):
            continue
        to_hash -= length
        if to_hash < 0 or xxh32_intdigest(view[start : start + length]) == checksum:
            return False
    return True
