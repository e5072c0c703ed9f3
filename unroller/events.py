"""What happens in a run."""

from __future__ import annotations

from typing import Any

import msgspec

from unroller.cost import FREE, Cost
from unroller.decide import Decision
from unroller.faults import Fault
from unroller.workspace import Entry


class Measured(msgspec.Struct, tag="measured", gc=False):
    """A probe's result: shown to the policy, charged, never in the workspace."""

    id: bytes
    name: str
    held: Any = msgspec.field(name="value")
    step: int = 0
    cost: Cost = FREE
    seconds: float = 0.0
    hit: bool = False


class Output(msgspec.Struct, tag="output", gc=False):
    """The decoder's entry, the last event of a run; None where decoding failed."""

    entry: Entry | None
    seconds: float = 0.0


Event = Decision | Entry | Fault | Measured | Output
"""What happens in a run, in order. The list of them is the truth; everything else is read off it."""
