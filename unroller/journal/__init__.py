"""The journal: an append-only log of what happened, from which any run can be resumed.

A folder holds `journal.log` and `blobs/`. The log is a sequence of records, each a length, a checksum and
msgpack; arrays are written once, as safetensors, beside it. Records are written as things happen and
flushed before the next decision, so a killed process loses no call that was finished. A record torn by
the kill is recognised by its checksum and dropped.

    durability   "step"  one fsync a flush: survives a power cut, step by step
                 "run"   one fsync when runs end (default): survives a kill at any point
                 "exit"  one fsync when the journal is closed
"""

from __future__ import annotations

from unroller.journal.reading import Log, RecordedRun, read_log
from unroller.journal.writing import Durability, Journal

__all__ = ["Durability", "Journal", "Log", "RecordedRun", "read_log"]
