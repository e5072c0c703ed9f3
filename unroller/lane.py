"""What the scheduler moves: lanes, the jobs they wait for, and what all of them share."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from unroller.actions import Action
from unroller.cost import FREE, Budget, Cost, Left, Spent
from unroller.decide import Call, Decision, Policy
from unroller.declare import View
from unroller.events import Event, Measured
from unroller.faults import Fault
from unroller.problem import Problem
from unroller.workspace import Entry, Workspace


class Memo(Protocol):
    """Remembers values by provenance: (value, charged cost), never faults."""

    def get(self, id: bytes) -> tuple[Any, Cost] | None: ...
    def put(self, id: bytes, value: Any, cost: Cost) -> None: ...


class Recorder(Protocol):
    """Writes events down. `flush` puts what was written where a killed process cannot lose it."""

    def begin(self, lane: Lane) -> None: ...
    def write(self, lane: Lane, event: Event) -> None: ...
    def flush(self, ended: bool = False) -> None: ...
    def known(self, lane: Lane, id: bytes) -> Entry | Measured | Fault | None: ...


class Lane(msgspec.Struct, eq=False):
    """One problem on its way through equation 1.

    Made with what it starts from; the scheduler keeps the rest.
    """

    problem: Problem
    decoder: Action
    left: Left  # of the budget, the decoder's share already off
    workspace: Workspace
    cost: Cost = FREE
    key: Any = None  # for whoever admitted it
    unrolling: Any = None  # the generator of equation 1
    decisions: list[Decision] = []
    step: int = 0  # decisions made that call something
    spent: Spent = msgspec.field(default_factory=Spent)
    events: list[Event] = []
    masked: frozenset[str] = frozenset()
    failed: frozenset[Call] = frozenset()
    outcomes: list[Entry | None] = []  # of the calls under way, in plan order
    waiting: int = 0  # how many of them are open
    probes: dict[str, Any] | None = None
    entry: Entry | None = None  # of the output
    began: float = 0.0
    seconds_before: float = 0.0  # on the clock before this process resumed it
    record: Any = None  # for the journal
    recorded: deque[Decision | Fault] | None = None  # decisions to replay before asking the policy


class Job(msgspec.Struct, gc=False):
    """A call that waits for a batch: whose, which of its calls, and what it sees."""

    lane: Lane
    slot: int
    action: Action
    id: bytes
    view: View
    draw: int
    twins: tuple[Job, ...] = ()  # jobs of other lanes that wait for the very same value


class Batch(msgspec.Struct, gc=False):
    action: Action
    jobs: list[Job]


class Setup(msgspec.Struct, gc=False):
    """What the lanes of one scheduler share."""

    actions: Mapping[str, Action]
    decoders: Mapping[str, Action]
    probes: Sequence[Action]
    policy: Policy
    budget: Budget
    memo: Memo | None
    recorder: Recorder | None
    strict: bool
