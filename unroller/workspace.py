"""The shared workspace C_t: append-only, persistent, O(1) to extend and to fork.

A workspace is a node that points to the one it extends, so composing copies nothing and forking is a
reference. What a primitive reads is a *chain*: the entries of the value types it declared, oldest to
newest, with one digest over them. Chains are built on demand and extended by one link a step, so
provenance costs one hash however long the context is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from xxhash import xxh3_128_digest

from unroller.cost import FREE, Cost
from unroller.rendering import Segment
from unroller.values import Value

V = TypeVar("V", bound=Value)
Kinds = tuple[type[Value], ...]


class Entry(msgspec.Struct, tag="entry", gc=False):
    """A value in the workspace, and how it came there.

    id: 16 bytes, H(primitive@version, parameters, model fingerprint, digests of the inputs it declared,
    draw); equal ids mean equal values, wherever and whenever they were made. The rest stands beside the
    id: action (name, or name:preset), step (which decision), cost (charged), seconds (this sample's share
    of its batch), batch (how many samples shared the model call), hit (found in the memo, not computed).
    """

    id: bytes
    action: str
    held: Any = msgspec.field(name="value")
    step: int = 0
    cost: Cost = FREE
    seconds: float = 0.0
    started: float = 0.0
    batch: int = 1
    hit: bool = False
    draw: int = 0

    @property
    def value(self) -> Any:
        """The value. One that came back from disk is read when it is first asked for."""
        held = self.held
        if type(held) is Stored:
            held = self.held = held.load()
        return held

    @property
    def kind(self) -> type[Value]:
        """The value's type, known without reading it from disk."""
        held = self.held
        return held.kind if type(held) is Stored else type(held)  # pyright: ignore[reportUnknownVariableType]


class Stored:
    """A value still on disk: its type is known, its content is read when asked for."""

    __slots__ = ("kind", "load")

    def __init__(self, kind: type[Value], load: Any) -> None:
        self.kind = kind
        self.load = load


class Chain(msgspec.Struct, frozen=True):
    """The entries of some value types, as a list from the newest back, with a digest over all of it.

    Chains and workspaces are left to the garbage collector's tracking (no `gc=False`): freeing a long list
    of untracked structs overflows the C stack.
    """

    newest: Entry | None
    older: Chain | None
    digest: bytes
    length: int

    def entries(self) -> list[Entry]:
        """Oldest first, as they were written."""
        found: list[Entry] = []
        link: Chain | None = self
        while link is not None and link.newest is not None:
            found.append(link.newest)
            link = link.older
        found.reverse()
        return found


NOTHING_READ = Chain(None, None, bytes(16), 0)


class Workspace(msgspec.Struct, eq=False):
    """C_t. Make the empty one with `Workspace()` and longer ones with `compose`."""

    parent: Workspace | None = None
    entry: Entry | None = None
    size: int = 0
    # The chain of the kinds asked for first, which is mostly the only one; others in a dictionary.
    _kinds: Kinds | None = None
    _chain: Chain | None = None
    _chains: dict[Kinds, Chain] | None = None

    def compose(self, entry: Entry) -> Workspace:
        """C ⊕ entry: a new workspace; this one is unchanged and shared."""
        return Workspace(self, entry, self.size + 1)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Entry]:
        """Entries in the order they were written."""
        return iter(self.chain((Value,)).entries())

    def __getitem__(self, index: int) -> Entry:
        return self.chain((Value,)).entries()[index]

    def __repr__(self) -> str:
        return f"Workspace({', '.join(entry.action for entry in self)})"

    def at(self, size: int) -> Workspace:
        """The workspace as it was when it held `size` entries."""
        if not 0 <= size <= self.size:
            raise IndexError(f"this workspace held 0 to {self.size} entries, never {size}")
        node = self
        while node.size > size:
            assert node.parent is not None
            node = node.parent
        return node

    def chain(self, kinds: Kinds) -> Chain:
        """The entries of these types (and their subclasses), in written order, with their digest."""
        if self._kinds == kinds and self._chain is not None:
            return self._chain
        found, node = self._among_others(kinds), self
        unlinked: list[Entry] = []
        while found is None:
            entry, parent = node.entry, node.parent
            if entry is None or parent is None:
                found = NOTHING_READ
                break
            unlinked.append(entry)
            node = parent
            found = node._chain if node._kinds == kinds else node._among_others(kinds)
        while unlinked:
            entry = unlinked.pop()
            if type(entry.held) in kinds or issubclass(entry.kind, kinds):
                found = Chain(entry, found, xxh3_128_digest(found.digest + entry.id), found.length + 1)
        if self._kinds is None:
            self._kinds, self._chain = kinds, found
        elif self._chains is None:
            self._chains = {kinds: found}
        else:
            self._chains[kinds] = found
        return found

    def _among_others(self, kinds: Kinds) -> Chain | None:
        """The chain, if it was asked for here before, but not first."""
        return None if self._chains is None else self._chains.get(kinds)

    def latest(self, kind: type[V]) -> V | None:
        """The newest value of this type, or None."""
        newest = self.chain((kind,)).newest
        return None if newest is None else newest.value

    def all(self, kind: type[V]) -> list[V]:
        """Every value of this type ever written, oldest first."""
        return [entry.value for entry in self.chain((kind,)).entries()]

    def current(self, kind: type[V]) -> list[V]:
        """The values of this type that stand: of those that replace one another, only the newest."""
        return standing(self.all(kind))

    def segments(self) -> list[Segment]:
        """The whole context as a model reads it, in the order it was written."""
        return [segment for entry in self for segment in entry.value.render()]


def standing(values: list[V]) -> list[V]:
    """`values` without those that a later one of the same type and slot replaces."""
    kept: dict[Any, V] = {}
    for i, value in enumerate(values):
        key = (type(value), value.slot) if value.composes == "replace" else i
        kept.pop(key, None)
        kept[key] = value
    return list(kept.values())
