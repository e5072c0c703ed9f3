"""One backend of a composite: lent out by the ledger, which loads and unloads it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from primitives.backends.checkpoints import torch_device
from primitives.backends.composite.choosing import Recipe, fingerprint_of
from primitives.backends.composite.holding import device_name, expected_bytes, held_bytes
from primitives.backends.composite.ledger import Ledger, Row, State
from primitives.backends.composite.naming import short_name
from unroller.cost import Reading
from unroller.dispatch import is_out_of_memory, let_go
from unroller.faults import MissingCapability, UnrollerError


class Member:
    """What the engine is handed for the capabilities of one backend. It has the methods of those.

    Made anew after it was unloaded, unless it was given as an object, which is kept. The ledger changes what
    stands here of use and of memory, under its lock.
    """

    def __init__(self, recipe: Recipe, ledger: Ledger) -> None:
        self.model = recipe.model
        self.name = str(recipe.first.name)
        self.fingerprint = fingerprint_of(recipe.first)
        self.max_batch = int(getattr(recipe.first, "max_batch", 1024))
        self.provides: tuple[type[Any], ...] = tuple(recipe.first.provides)
        lacks = getattr(recipe.first, "lacks", None)
        self.lacks: Mapping[type[Any], str] = lacks if isinstance(lacks, Mapping) else {}
        self.unified: bool = getattr(recipe.first, "unified", False) is True
        self.unreadable: tuple[type[Any], ...] = tuple(getattr(recipe.first, "unreadable", ()))
        self.serves: list[type[Any]] = []  # of those, for which it was chosen
        self.ledger = ledger
        self.backend: Any = recipe.first
        self.loaded = False
        self.state: State = "not loaded"
        self.users = self.loads = 0
        self.used: float | None = None
        self.load_seconds: float | None = None
        self.bytes: dict[str, int] = {}
        self.stale = False
        self._make, self._settings = recipe.make, recipe.settings  # not the recipe, which holds the first
        self._expected: int | None = None
        self._before = Reading()  # of backends that were unloaded
        self._has = {name for name in ("size", "length") if hasattr(type(recipe.first), name)}
        for capability in self.provides:
            for method in methods_of(capability):
                self.__dict__.setdefault(method, self._forward(capability, method))

    def __repr__(self) -> str:
        return f"<{self.model} of a composite>"

    def _forward(self, capability: type[Any], method: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return self._called(method, args, kwargs)
            except MissingCapability as error:
                raise MissingCapability(f"{short_name(capability)}={self.model}: {error}") from error
            except Exception as error:
                # Models that nobody uses now make way for one that ran out of memory; then once more.
                if not is_out_of_memory(error) or not self.ledger.make_way(self):
                    raise
                let_go(error)
            return self._called(method, args, kwargs)

        call.__name__ = method
        return call

    def _called(self, method: str, args: Any, kwargs: Any) -> Any:
        with self.ledger.lent(self) as backend:
            timed = self.load_seconds is None  # it has no load(): its first call loads
            began = self.ledger.clock()
            outcomes = getattr(backend, method)(*args, **kwargs)
            if timed:
                self.load_seconds = self.ledger.clock() - began
            return outcomes

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height that it draws best, if it says so; loads what has to be opened to know."""
        return self._own("size")

    @property
    def length(self) -> int | None:
        """Frames of a clip where nothing is said, if it says so."""
        return self._own("length")

    def _own(self, name: str) -> Any:
        if name not in self._has:
            return None
        with self.ledger.lent(self) as backend:
            return getattr(backend, name)

    # ------------------------------------------------------------------------------- for the ledger

    @property
    def can_unload(self) -> bool:
        return self.loaded and self._make is not None

    @property
    def idle(self) -> bool:
        return self.can_unload and not self.users

    def made(self) -> Any:
        """The backend, not loaded yet. Raises MissingCapability where it is not what it was."""
        if self.backend is None:
            assert self._make is not None
            made = self._make()
            if fingerprint_of(made) != self.fingerprint:
                raise MissingCapability("its files were changed since it was chosen: start again")
            self.backend = made
        return self.backend

    def load(self, backend: Any) -> None:
        """Raises MissingCapability for whatever stands in the way but a lack of memory."""
        load = getattr(backend, "load", None)
        if not callable(load):
            return
        try:
            load()
        except Exception as error:
            if isinstance(error, UnrollerError) or is_out_of_memory(error):
                raise
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise MissingCapability(f"it cannot be loaded ({why:.300})") from error

    def began(self, seconds: float) -> None:
        """It is loaded, which took so long."""
        self.loaded, self.state, self.stale = True, "idle", True
        self.loads += 1
        self.load_seconds = seconds if callable(getattr(self.backend, "load", None)) else None

    def unload(self) -> None:
        self._before = self.reading_so_far()
        self.forget()

    def forget(self) -> None:
        """Let go of what is loaded, whole or in part."""
        self.loaded, self.state, self.bytes = False, "not loaded", {}
        if self._make is not None:
            self.backend = None

    def measure(self) -> None:
        """Count again what it holds, if it was used since."""
        if not (self.loaded and self.stale):
            return
        self.stale = self.users > 0
        try:
            self.bytes = held_bytes(self.backend)
        except RuntimeError:  # it changed meanwhile: next time
            self.stale = True

    def expected(self) -> dict[str, int]:
        """Bytes by device that it will take beyond what it holds already."""
        if not (size := self._expected_bytes()):
            return {}
        there = sum(held_bytes(self.backend).values())
        devices = self.devices()
        return {device: max(0, size - there) // len(devices) for device in devices}

    def devices(self) -> list[str]:
        """Where it is, or will be."""
        device = self._settings.get("device")
        return list(self.bytes) or ([] if device is None else _devices(str(device)))

    def _expected_bytes(self) -> int:
        if self._expected is None and self.backend is not None:
            self._expected = expected_bytes(self.backend, self._settings)
        return self._expected or 0

    def reading_so_far(self) -> Reading:
        """Tokens read and written since it was made, by all that it has been."""
        now = getattr(self.backend, "reading", None)
        return self._before + now if isinstance(now, Reading) else self._before

    def row(self, now: float) -> Row:
        state: State = "in use" if self.loaded and self.users else self.state
        return Row(
            self.model,
            tuple(short_name(capability) for capability in self.serves),
            "+".join(sorted(self.bytes)) or str(self._settings.get("device") or ""),
            sum(self.bytes.values()) if self.loaded else self._expected_bytes(),
            state,
            None if self.used is None else now - self.used,
            self.loads,
            self.load_seconds,
        )


class ReadingMember(Member):
    """A member that counts what it reads."""

    @property
    def reading(self) -> Reading:
        """Tokens read, found again and written so far."""
        return self.reading_so_far()


def member_of(recipe: Recipe, ledger: Ledger) -> Member:
    counts = "reading" in vars(recipe.first) or hasattr(type(recipe.first), "reading")
    return (ReadingMember if counts else Member)(recipe, ledger)


def methods_of(capability: type[Any]) -> list[str]:
    return [n for n, f in vars(capability).items() if not n.startswith("_") and inspect.isfunction(f)]


def _devices(name: str) -> list[str]:
    """The devices that a setting means on this machine."""
    if name == "balanced":
        torch = sys.modules.get("torch")
        count = torch.cuda.device_count() if torch is not None else 0
        return [f"cuda:{i}" for i in range(count)] or ["cpu"]
    return [device_name(str(torch_device(name)))]
