"""One action tried on samples, under observation: what it returned, read, charged, changed and raised."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from unroller.actions import Action
from unroller.check.comparing import content, global_seed, global_state
from unroller.check.samples import Sample
from unroller.cost import Cost
from unroller.declare import View
from unroller.dispatch import Failure, perform
from unroller.problem import FIELDS
from unroller.rendering import Segment
from unroller.values import Value
from unroller.workspace import Entry

V = TypeVar("V", bound=Value)


class Noticed:
    """What a view was asked for."""

    def __init__(self) -> None:
        self.fields: set[str] = set()
        self.kinds: set[type[Value]] = set()
        self.undeclared: dict[str, str] = {}  # what was read, and how to mend it
        self.drew = False


class SpyView(View, eq=False):
    """A view that notes what is read of it, also what is refused (and the refusal perhaps swallowed)."""

    noticed: Noticed = msgspec.field(default_factory=Noticed)

    def __getattr__(self, name: str) -> Any:
        self._note_field(name)
        return super().__getattr__(name)

    def _note_field(self, name: str) -> None:
        if name in self._of.fields:
            self.noticed.fields.add(name)
        elif name in FIELDS and name != "seed":
            self.noticed.undeclared[f"x.{name}"] = f'add "{name}" to its reads'

    def _note_kind(self, kind: type[Value]) -> None:
        if issubclass(kind, self._of.kinds):
            self.noticed.kinds.update(k for k in self._of.kinds if issubclass(kind, k))
        else:
            self.noticed.undeclared[f"{kind.__name__} of C"] = f"add {kind.__name__} to its reads"

    def latest(self, kind: type[V]) -> V | None:
        self._note_kind(kind)
        return super().latest(kind)

    def all(self, kind: type[V]) -> list[V]:
        self._note_kind(kind)
        return super().all(kind)

    def current(self, kind: type[V]) -> list[V]:
        self._note_kind(kind)
        return super().current(kind)

    @property
    def entries(self) -> list[Entry]:
        return self._entries()

    def segments(self) -> list[Segment]:
        return [segment for entry in self._entries() for segment in entry.value.render()]

    def _entries(self) -> list[Entry]:
        of = self._of
        self.noticed.kinds.update(of.kinds)
        if len(of.kinds) > 1 and not of.ordered:
            self.noticed.undeclared["the order between value types"] = "declare ordered=True"
            raise self._undeclared("the order between value types", "declare ordered=True")
        return self._workspace.chain(of.kinds).entries() if of.kinds else []

    def camera(self, photo: int) -> Any:
        for field in ("images", "intrinsics"):
            self._note_field(field)
        return super().camera(photo)

    @property
    def seed(self) -> int:
        self.noticed.drew = True
        if not self._of.stochastic:
            self.noticed.undeclared["its seed"] = "declare stochastic=True"
            raise self._undeclared("its seed", "declare stochastic=True")
        return int.from_bytes(self._id[:8], "big") >> 1


class Tried(msgspec.Struct, eq=False):
    """What became of one sample."""

    sample: Sample
    outcome: Any  # a value, or a Failure
    charged: Cost | None
    noticed: Noticed
    changed: tuple[str, ...]
    seconds: float

    @property
    def error(self) -> Exception | None:
        return self.outcome.error if isinstance(self.outcome, Failure) else None


class Watch:
    """Notes what a primitive raised for a whole batch, which the engine recovers from by halving it."""

    def __init__(self) -> None:
        self.raised: list[tuple[int, Exception]] = []
        self.touched_random = False

    def on(self, action: Action) -> Action:
        """The same action with its primitive's `run` under observation."""
        watched = copy.copy(action)
        watched.primitive = copy.copy(action.primitive)
        run: Callable[..., Any] = action.primitive.run

        def noting(views: list[View], providers: tuple[Any, ...]) -> Any:
            try:
                return run(views, providers)
            except Exception as error:
                self.raised.append((len(views), error))
                raise

        watched.primitive.__dict__["run"] = noting
        return watched


class Trial:
    """An action, ready to be tried."""

    def __init__(self, action: Action) -> None:
        self.watch = Watch()
        self.action = self.watch.on(action)

    def alone(self, samples: Sequence[Sample], *, draw: int = 0, seed: int = 1) -> list[Tried]:
        """Each sample in a call of its own; `seed` seeds the *global* generators, which must not matter."""
        return [self._perform([sample], draw, seed)[0] for sample in samples]

    def together(self, samples: Sequence[Sample], *, draw: int = 0, seed: int = 1) -> list[Tried]:
        """The samples in batches as large as the action takes."""
        size = self.action.max_batch
        tried: list[Tried] = []
        for start in range(0, len(samples), size):
            tried += self._perform(samples[start : start + size], draw, seed)
        return tried

    def _perform(self, samples: Sequence[Sample], draw: int, seed: int) -> list[Tried]:
        action = self.action
        views: list[SpyView] = []
        inputs: list[dict[str, Any]] = []
        for sample in samples:
            problem, workspace = sample.fresh()
            id = action.id(problem, workspace, draw)
            views.append(SpyView(action.primitive, action.parameters, problem, workspace, id))
            held: dict[str, Any] = {f"x.{field}": getattr(problem, field) for field in FIELDS}
            held |= {f"{type(v).__name__} of C": v for v in reversed(workspace.all(Value))}
            inputs.append(held)
        before = [{what: content(thing) for what, thing in held.items()} for held in inputs]
        with global_seed(seed):
            state, started = global_state(), perf_counter()
            try:
                outcomes = perform(action, list[View](views))
            except Exception as error:  # a result that even the engine's own examination trips over
                outcomes = [Failure(error)] * len(views)
            seconds = (perf_counter() - started) / len(views)
            self.watch.touched_random |= global_state() != state
        tried: list[Tried] = []
        for i, view in enumerate(views):
            changed = tuple(w for w, thing in inputs[i].items() if content(thing) != before[i][w])
            tried.append(Tried(samples[i], outcomes[i], view.charged, view.noticed, changed, seconds))
        return tried
