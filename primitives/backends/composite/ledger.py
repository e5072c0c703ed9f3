"""A ledger of device memory: which models are loaded where, and which of them to unload for another.

A model is loaded when it is first called. Where there is no room, idle ones are unloaded, never one in use.
The one of least value goes first: the seconds it took to load, divided by the seconds since it was used. So
what is quick to bring back goes before what is slow, and what nobody has asked for in a long time before what
was needed just now: this many seconds of loading a second would be lost if it is asked for as often again.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from primitives.backends.composite.holding import shown
from unroller.faults import MissingCapability

if TYPE_CHECKING:
    from primitives.backends.composite.member import Member

HEADROOM = 1 << 30
"""Bytes of a card that are left free, if they can be, for what models compute with."""

PATIENCE = 600.0
"""Seconds that a call waits for models in use to become idle, when it needs their room."""

SOON = 1e-3
"""Seconds since use below which a model is taken to be used just now."""

State = Literal["not loaded", "loading", "idle", "in use"]


class Row(NamedTuple):
    """A line of the ledger. bytes: measured on what is loaded, else expected of its files; last_used: seconds
    ago, None if never; load_seconds: the last time, None if never."""

    model: str
    capabilities: tuple[str, ...]
    device: str
    bytes: int
    state: State
    last_used: float | None
    loads: int
    load_seconds: float | None

    def __str__(self) -> str:
        used = "never used" if self.last_used is None else f"used {self.last_used:.0f} s ago"
        took = "" if self.load_seconds is None else f" ({self.load_seconds:.1f} s)"
        what = ", ".join(self.capabilities)
        return (
            f"{self.model}  {what}  {self.device}  {shown(self.bytes)}  {self.state}, {used},"
            f" loaded {self.loads} times{took}"
        )


class Ledger:
    """Lends members out for calls, and loads and unloads them for it.

    limits: bytes by device that models may take together. Where none is given, a CUDA card's is what is free
    on it, and other devices have none.
    """

    def __init__(
        self,
        limits: Mapping[str, int],
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = dict(limits)
        self.patience = patience
        self.clock = clock
        self.members: list[Member] = []
        self._changed = threading.Condition()  # held for book-keeping and for unloading, never for a call
        self._loading = threading.Lock()  # one at a time: what two loads need cannot be told apart
        self._wanted: set[str] = set()  # devices on which a load waits for room

    @contextmanager
    def lent(self, member: Member) -> Generator[Any]:
        """The member's backend, loaded; it is not unloaded meanwhile. Raises MissingCapability."""
        self._borrow(member)
        try:
            yield member.backend
        finally:
            with self._changed:
                member.users -= 1
                member.used, member.stale = self.clock(), True
                self._keep_to_limits(member)
                self._changed.notify_all()

    def _borrow(self, member: Member) -> None:
        """Count a call that has the member loaded. One that still waits is not counted: whoever waits for
        room would wait for it."""
        while True:
            with self._changed:
                # Who waits for room comes first, or a model that is called all the time would never be idle.
                self._changed.wait_for(lambda: not (self._wanted & set(member.bytes)))
                if member.loaded:
                    member.users += 1
                    return
            with self._loading:
                if not member.loaded:
                    self._load(member)
                    return

    def rows(self) -> list[Row]:
        """Every member that is asked for something, as it stands."""
        with self._changed:
            self._measure()
            now = self.clock()
            return [member.row(now) for member in self.members if member.serves]

    def unload(self, members: Sequence[Member] | None = None) -> bool:
        """Unload all that are idle, or those of `members` that are. Whether there were any."""
        with self._changed:
            idle = [m for m in (self.members if members is None else members) if m.idle]
            self._unload(idle)
            return bool(idle)

    def make_way(self, member: Member) -> bool:
        """Unload what is idle beside a member that ran out of memory. Whether there was any."""
        with self._changed:
            self._measure()
            devices = set(member.devices())
            beside = [m for m in self.members if m is not member and devices & set(m.bytes)]
        return self.unload(beside)

    # -------------------------------------------------------------------------------------- loading

    def _load(self, member: Member) -> None:
        """Load it for a call, which is counted at once."""
        backend = member.made()
        with self._changed:
            for device, size in member.expected().items():
                self._make_room(member, device, size)
            member.state = "loading"
        began = self.clock()
        try:
            member.load(backend)
        except BaseException:
            member.forget()
            raise
        with self._changed:
            member.began(self.clock() - began)
            member.users += 1
            self._keep_to_limits(member)

    def _make_room(self, member: Member, device: str, size: int) -> None:
        """Unload, and wait, until so many bytes are free. Raises MissingCapability with the numbers."""
        try:
            self._wait_for_room(member, device, size)
        finally:
            self._wanted.discard(device)
            self._changed.notify_all()

    def _wait_for_room(self, member: Member, device: str, size: int) -> None:
        until = time.monotonic() + self.patience
        while True:
            self._measure()
            for spare in (HEADROOM, 0):
                short = size - self._free(device, spare)
                if short <= 0:
                    return
                if chosen := self._least_valuable(device, short, member):
                    self._unload(chosen)
                    break
            else:
                busy = [m for m in self._others(device, member) if m.users]
                waits = sum(m.bytes[device] for m in self._others(device, member)) >= short
                left = until - time.monotonic()
                if not (busy and waits and left > 0):
                    raise MissingCapability(self._told(member, device, size, busy))
                self._wanted.add(device)
                self._changed.wait(left)

    def _others(self, device: str, but: Member) -> list[Member]:
        """What takes memory there and could be unloaded, sooner or later."""
        return [m for m in self.members if m is not but and m.can_unload and m.bytes.get(device)]

    def _least_valuable(self, device: str, short: float, but: Member) -> list[Member]:
        """Idle members that together take so many bytes, those of least value; none where that is not
        enough."""
        now = self.clock()
        idle = sorted((m for m in self._others(device, but) if m.idle), key=lambda m: value(m, now))
        chosen: list[Member] = []
        taken = 0
        for member in idle:
            if taken >= short:
                break
            chosen.append(member)
            taken += member.bytes[device]
        if taken < short:
            return []
        for member in reversed(chosen[:-1]):  # what a later, larger one made unnecessary
            if taken - member.bytes[device] >= short:
                chosen.remove(member)
                taken -= member.bytes[device]
        return chosen

    def _unload(self, members: Sequence[Member]) -> None:
        for member in members:
            member.unload()
        if members:
            gc.collect()  # models are full of circles
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _keep_to_limits(self, member: Member) -> None:
        """What has been read since may have grown beyond what the user gave: idle ones make room."""
        for device in [device for device in self.limits if member.loaded]:
            self._measure()
            short = -self._free(device, 0)
            if short > 0:
                idle = sum(m.bytes[device] for m in self._others(device, member) if m.idle)
                self._unload(self._least_valuable(device, min(short, idle), member) if idle else [])

    # -------------------------------------------------------------------------------------- counting

    def _measure(self) -> None:
        for member in self.members:
            member.measure()

    def _free(self, device: str, spare: int) -> float:
        """Bytes that may still be taken on a device; spare: to be left on a card without a limit."""
        if device in self.limits:
            return self.limits[device] - sum(m.bytes.get(device, 0) for m in self.members)
        torch = sys.modules.get("torch")
        if torch is not None and device.startswith("cuda") and torch.cuda.is_available():
            free, _ = torch.cuda.mem_get_info(device)
            cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            return free + cached - spare
        return math.inf

    def _told(self, member: Member, device: str, size: int, busy: Sequence[Member]) -> str:
        free = self._free(device, 0)
        limit = f" of {shown(self.limits[device])}" if device in self.limits else ""
        others = [m for m in self.members if m is not member and m.bytes.get(device)]
        there = ", ".join(f"{m.model} {shown(m.bytes[device])}" for m in others) or "no other model"
        waited = f", and {busy[0].model} was in use all the time" if busy else ""
        return (
            f"it needs about {shown(size)} on {device}, where {shown(max(0, free))}{limit} are free (loaded"
            f" there: {there}){waited}: give it another device or a smaller dtype, or raise the limit"
        )


def value(member: Member, now: float) -> float:
    """Seconds of loading lost a second, if it is asked for again after as long as it has been idle."""
    since = max(SOON, now - (now if member.used is None else member.used))
    return (member.load_seconds or 0.0) / since
