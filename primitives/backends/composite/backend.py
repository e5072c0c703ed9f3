"""One backend per capability, by name.

    Composite(["text=hf:/models/Qwen3-VL-2B-Instruct?device=cuda:0", "pose=classical"])
    Composite({"depth": "hf:/models/depth", "pose": my_backend}, memory={"cuda:0": "20 GB"})
    Composite.from_toml("setup.toml")

Who is asked for a capability: whoever was named for it; else the first that was named without one; and
whoever was named for text scores answers and gives features, too, where that leaves nobody. The engine is
handed that one, so that its fingerprint, its limit of a batch and its count of tokens are its own: what was
remembered with that backend alone is found again, and another depth model does not make texts forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from primitives.backends.composite.choosing import by_its_name, recipe_for
from primitives.backends.composite.files import asked_for, contents, limits
from primitives.backends.composite.ledger import PATIENCE, Ledger, Row
from primitives.backends.composite.member import Member, member_of, methods_of
from primitives.backends.composite.naming import WITH, one_of, short_name
from unroller.backends import Asked, is_file
from unroller.cost import Reading
from unroller.faults import MissingCapability, PluginError


class Composite:
    """Whatever its members provide.

    backends: words as on the command line (see `unroller.backends`), TOML files (see
    `primitives.backends.composite.files`), backend objects; or a mapping of capabilities to such; None: the
    TOML file that the environment's UNROLLER_COMPOSITE names. memory: bytes by device that the models may
    take together, {"cpu": 8e9, "cuda:0": "20 GB"}; where none is given, a card's is what is free on it.
    patience: seconds that a call waits for room that models in use take.

    Short names of capabilities: text, answers, pose, depth, views, tokens, image, edit, video, features. A
    backend that is made from a path is loaded when it is first called and may be unloaded for another; equal
    words mean one model; an object that was given is never unloaded. Raises UnknownName, MissingCapability or
    PluginError, in one sentence, for what is wrong with words, files and checkpoints; what goes wrong while a
    model is loaded, or finds no room, is a MissingCapability at the call that needs it, and its alone.
    """

    name = "composite"
    provides: tuple[type[Any], ...] = ()
    lacks: str | Mapping[type[Any], str] = "a TOML file in UNROLLER_COMPOSITE"

    def __init__(
        self,
        backends: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        memory: Mapping[str, Any] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        if backends is None:
            file = os.environ.get("UNROLLER_COMPOSITE")
            backends = [file] if file else []
        every, brought, given = _listed(backends)
        self._ledger = Ledger(given | limits(memory or {}), patience)
        self._by_key: dict[object, Member] = {}
        self._providers: dict[type[Any], Member] = {}
        named = [(asked, self._member(asked, brought)) for asked in every]
        for tier in _tiers(named):
            for capability, member in tier:
                if capability not in self._providers:
                    self._providers[capability] = member
                    member.serves.append(capability)
        self.provides = tuple(self._providers)
        if self.provides:
            self.lacks = _lacking(named, self.provides)
        members = self._ledger.members
        self.max_batch = min((member.max_batch for member in members if member.serves), default=1)
        for capability, member in self._providers.items():
            for method in methods_of(capability):
                self.__dict__.setdefault(method, getattr(member, method))

    @classmethod
    def from_words(cls, words: Sequence[Any]) -> Composite:
        """For the engine, which does not know what words mean that say more than a name."""
        return cls(words)

    @classmethod
    def from_toml(cls, file: str | Path) -> Composite:
        """As a TOML file says (see `primitives.backends.composite.files`)."""
        return cls([Path(file)])

    def __repr__(self) -> str:
        members = [member for member in self._ledger.members if member.serves]
        said = (f"{', '.join(map(short_name, m.serves))} by {m.model}" for m in members)
        return f"<composite: {'; '.join(said) or 'nothing'}>"

    @property
    def fingerprint(self) -> str:
        """Of who provides what, and their fingerprints."""
        from xxhash import xxh3_64_hexdigest

        held = sorted(f"{short_name(c)}={member.fingerprint}" for c, member in self._providers.items())
        return f"composite-1-{xxh3_64_hexdigest(repr(held).encode())}" if held else "composite-none"

    @property
    def reading(self) -> Reading:
        """Tokens read, found again and written so far, by all that count them."""
        total = Reading()
        for member in self._ledger.members:
            total += member.reading_so_far()
        return total

    def provider_of(self, capability: type[Any]) -> Any:
        """Who provides it. Raises MissingCapability."""
        if capability not in self._providers:
            raise MissingCapability(f"{self!r} provides no {short_name(capability)}: name a backend for it")
        return self._providers[capability]

    def ledger(self) -> list[Row]:
        """Every model, where it is, what it takes there, when it was used and how long it took to load."""
        return self._ledger.rows()

    def unload(self) -> None:
        """Give back the memory of every model that is not in use; the next call loads it again."""
        self._ledger.unload()

    def _member(self, asked: Asked, brought: Mapping[str, Any]) -> Member:
        recipe = recipe_for(asked, brought)
        member = self._by_key.get(recipe.key)
        if member is None:
            member = self._by_key[recipe.key] = member_of(recipe, self._ledger)
            self._ledger.members.append(member)
        return member


def _listed(given: Sequence[Any] | Mapping[str, Any]) -> tuple[list[Asked], dict[str, Any], dict[str, int]]:
    """What is asked for, objects among it by name, and limits of memory that files give."""
    if isinstance(given, Mapping):
        return [asked_for(said, name) for name, said in given.items()], {}, {}
    every: list[Asked] = []
    brought: dict[str, Any] = {}
    memory: dict[str, int] = {}
    for one in [given] if isinstance(given, (str, Path)) else given:
        if isinstance(one, Path) or (isinstance(one, str) and is_file(one)):
            found = contents(one)
            every += found.asked
            memory = found.memory | memory
            continue
        every.append(asked_for(one, None))
        if not isinstance(one, (str, Mapping)):
            brought.setdefault(str(getattr(one, "name", "")), one)
    every = [by_its_name(asked, brought) for asked in every]
    made = {asked.backend for asked in every if asked.path is not None}  # from a path, by a name
    return [asked for asked in every if _pathless(asked.backend) not in made], brought, memory


def _pathless(one: Any) -> str | None:
    """The name of a class that provides nothing as it is."""
    needs_more = isinstance(one, type) and not getattr(one, "provides", ())
    return getattr(one, "name", None) if needs_more else None


def _lacking(named: Sequence[tuple[Asked, Member]], provided: tuple[type[Any], ...]) -> dict[type[Any], str]:
    """Of capabilities that nobody provides, what the first who would be asked for it says that it lacks."""
    found: dict[type[Any], str] = {}
    for asked, member in named:
        own = one_of(asked.capability, member.provides) if asked.capability else None
        for capability, what in member.lacks.items():
            is_asked = own is None or capability in WITH.get(own, ())
            if is_asked and capability not in provided:
                found.setdefault(capability, f"what {member.model} lacks, {what}")
    return found


def _tiers(named: Sequence[tuple[Asked, Member]]) -> list[list[tuple[type[Any], Member]]]:
    """Capabilities and members in the order in which they are considered. Raises PluginError for a capability
    that one source names twice."""
    pinned: list[tuple[type[Any], Member]] = []
    whole: list[tuple[type[Any], Member]] = []
    beside: list[tuple[type[Any], Member]] = []
    first: dict[tuple[str, type[Any]], Asked] = {}
    for asked, member in named:
        of = [(capability, member) for capability in member.provides]
        if asked.capability is None:
            whole += of
            continue
        capability = one_of(asked.capability, member.provides)
        assert capability is not None  # or it would not have been chosen
        before = first.setdefault((asked.source, capability), asked)
        if before is not asked:
            raise PluginError(f"{before.text} and {asked.text} are for one capability: leave one of them out")
        pinned.append((capability, member))
        beside += [(other, member) for other in WITH.get(capability, ()) if other in member.provides]
    return [pinned, whole, beside]
