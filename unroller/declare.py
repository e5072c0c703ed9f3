"""Primitives φ, decoders ψ and probes: what can be called, and what a call is handed.

All three are the same kind of thing, a *batched function with a declaration*. They differ in what becomes
of the result: a primitive's value is written into the workspace, a decoder's is the output, a probe's
(a number or a vector) is shown to the policy and never rendered.

    @primitive(reads=(CameraPose,), writes=Text)
    def motion(view):
        pose = view.latest(CameraPose)
        if pose is None:
            raise InputError("call camera_pose_estimate first")
        return Text("moved right" if pose.translation[0] > 0 else "moved left")
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, overload

import msgspec
from pydantic import BaseModel, ConfigDict

from unroller.cost import FREE, Cost, Reading
from unroller.faults import ContractError, PluginError, UndeclaredRead
from unroller.fingerprint import fingerprint
from unroller.instructions import labels
from unroller.problem import FIELDS, Problem
from unroller.rendering import Segment
from unroller.values import Value
from unroller.workspace import Entry, Kinds, Workspace, standing

if TYPE_CHECKING:
    import numpy as np

V = TypeVar("V", bound=Value)


class NoParameters(BaseModel):
    """For primitives that have none."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Primitive:
    """A function over a batch of views, and what it declares.

    name; version: a hash of the source by default; fields, kinds: what of x and of C it reads; writes:
    the type it returns; needs: the capabilities it asks for, handed to it after the views; parameters:
    a pydantic model, with named presets; cost: the most one sample may be charged (a Cost, or a function
    of the parameters), by default one model call if it needs a capability and nothing otherwise; timeout:
    seconds, or None; max_batch; stochastic: it draws random numbers, from `view.seed` or `view.rng`;
    ordered: the order between values of different types matters to it (only then may it ask for
    `view.segments()` of several); applies: given a problem, None or the reason why it cannot be called;
    prompts: the texts that it tells a model, by which its version is told from others; those that are an
    `Instruction` have a name and a version of their own, which a run names; tells: given a problem, those of
    its prompts that a model is told then, by default all.
    """

    role: ClassVar[str] = "primitive"

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        reads: Sequence[str | type[Value]],
        writes: type[Any],
        name: str | None = None,
        needs: type[Any] | Sequence[type[Any]] = (),
        parameters: type[BaseModel] = NoParameters,
        presets: Mapping[str, Mapping[str, Any]] | None = None,
        cost: Cost | Callable[[Any], Cost] | None = None,
        timeout: float | None = None,
        max_batch: int = 1024,
        stochastic: bool = False,
        ordered: bool = True,
        batched: bool = False,
        applies: Callable[[Problem], str | None] | None = None,
        version: str | None = None,
        prompts: Sequence[str] = (),
        tells: Callable[[Problem], Sequence[str]] | None = None,
    ) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.writes = writes
        self.needs: tuple[type[Any], ...] = (needs,) if isinstance(needs, type) else tuple(needs)
        self.parameters = parameters
        self.presets: dict[str, Mapping[str, Any]] = dict(presets or {})
        self.cost = cost if cost is not None else (Cost(model_calls=1) if self.needs else FREE)
        self.timeout = timeout
        self.max_batch = max_batch
        self.stochastic = stochastic
        self.ordered = ordered
        self.batched = batched
        self.is_async = inspect.iscoroutinefunction(function)
        self.applies = applies
        self.prompts = tuple(prompts)
        self.tells = tells
        self._version = version
        self.__doc__ = function.__doc__
        self.__name__ = self.name
        self.__module__ = getattr(function, "__module__", __name__)
        self.fields, self.kinds = _declared(self.name, reads)
        if not (self.name.isidentifier() and self.name.islower()):
            raise PluginError(f"{self.name!r} cannot name a primitive: use a lower-case identifier")
        if max_batch < 1 or (timeout is not None and not timeout > 0):
            raise PluginError(f"{self.name}: max_batch must be at least 1 and timeout above 0 seconds")
        _check_writes(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function, as a test would."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name}@{self.version}>"

    @cached_property
    def version(self) -> str:
        """Given, or a hash of what the function is and holds and of the prompts it names (see
        `fingerprint`). It does not see into functions that this one calls: bump it by hand for those."""
        return self._version or fingerprint(self.function, (*self.prompts, *self.told))

    @property
    def told(self) -> tuple[str, ...]:
        """Name and version of each of its prompts that has them: ("think@1",)."""
        return labels(self.prompts)

    def told_for(self, problem: Problem) -> tuple[str, ...]:
        """Those of `told` that a model is told when it is called for this problem."""
        return self.told if self.tells is None else labels(tuple(self.tells(problem)))

    def run(self, views: list[View], providers: tuple[Any, ...]) -> Any:
        """Call the function with a batch: one outcome a view (checked by the caller)."""
        if self.batched:
            return self.function(views, *providers)
        function = self.function
        if len(views) == 1:
            return [function(views[0], *providers)]
        outcomes: list[Any] = []
        for view in views:
            # One bad sample must not cost its mates what they have computed.
            try:
                outcomes.append(function(view, *providers))
            except Exception as error:
                outcomes.append(error)
        return outcomes


class Decoder(Primitive):
    """ψ: the last call. Reads everything, writes the output of `task`."""

    role = "decoder"

    def __init__(self, function: Callable[..., Any], *, task: str | None = None, **declared: Any) -> None:
        declared.setdefault("reads", (*FIELDS_READ, Value))
        super().__init__(function, **declared)
        self.task = task or self.name


class Probe(Primitive):
    """A measurement of the state for a policy: memoised, charged, never rendered into the context."""

    role = "probe"


def primitive(**declared: Any) -> Callable[[Callable[..., Any]], Primitive]:
    """Turn a function into a primitive.

    A plain function takes one view (then the providers it needs) and returns one value; with
    `batched=True` it takes a list of views and returns a list of as many values, where an exception in
    place of a value is that sample's fault alone. See `Primitive` for what can be declared.
    """
    return lambda function: Primitive(function, **declared)


def decoder(**declared: Any) -> Callable[[Callable[..., Any]], Decoder]:
    """Turn a function into the decoder of a task: `@decoder(task="pose", writes=CameraPose)`."""
    return lambda function: Decoder(function, **declared)


def probe(**declared: Any) -> Callable[[Callable[..., Any]], Probe]:
    """Turn a function into a probe; it may write a float, or an array of features."""
    declared.setdefault("reads", (*FIELDS_READ, Value))
    declared.setdefault("writes", float)
    return lambda function: Probe(function, **declared)


FIELDS_READ = tuple(field for field in FIELDS if field != "seed")


def _declared(name: str, reads: Sequence[str | type[Value]]) -> tuple[tuple[str, ...], Kinds]:
    if isinstance(reads, (str, type)):
        reads = (reads,)
    fields: list[str] = []
    kinds: list[type[Value]] = []
    for read in reads:
        if isinstance(read, str):
            if read not in FIELDS_READ:
                known = ", ".join(FIELDS_READ)
                raise PluginError(f"{name} reads {read!r}, which is no field of a problem: {known}")
            fields.append(read)
        elif isinstance(read, type) and issubclass(read, Value):  # pyright: ignore[reportUnnecessaryIsInstance]
            kinds.append(read)
        else:
            raise PluginError(f"{name} reads {read!r}: give field names and value types")
    return tuple(fields), tuple(kinds)


def _check_writes(p: Primitive) -> None:
    is_value = isinstance(p.writes, type) and issubclass(p.writes, Value)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_value and not isinstance(p, Probe):
        raise PluginError(f"{p.name} writes {p.writes!r}, which is no Value type")


class View(msgspec.Struct, eq=False, gc=False):
    """What one call of one sample may see: the declared fields of x, the declared types of C, its
    parameters and its seed. Anything else raises UndeclaredRead: what is not declared cannot be read, so
    it cannot make a memo hit wrong.

    Fields of the problem are attributes (`view.images`, `view.question`).
    """

    _of: Any
    parameters: Any
    _problem: Problem
    _workspace: Workspace
    _id: bytes
    charged: Cost | None = None
    reading: Reading | None = None

    def __getattr__(self, name: str) -> Any:
        if name in self._of.fields:
            return getattr(self._problem, name)
        if name in FIELDS:
            raise self._undeclared(f"x.{name}", f'add "{name}" to its reads')
        raise AttributeError(f"a view has no {name!r}")

    def _undeclared(self, what: str, mend: str) -> UndeclaredRead:
        return UndeclaredRead(f"{self._of.name} read {what} without declaring it: {mend}")

    def _may_read(self, kind: type[Value]) -> None:
        if not issubclass(kind, self._of.kinds):
            raise self._undeclared(f"{kind.__name__} of C", f"add {kind.__name__} to its reads")

    def latest(self, kind: type[V]) -> V | None:
        """The newest value of this type in C, or None. Raises UndeclaredRead."""
        if kind not in self._of.kinds:
            self._may_read(kind)
        return self._workspace.latest(kind)

    def all(self, kind: type[V]) -> list[V]:
        """Every value of this type in C, oldest first. Raises UndeclaredRead."""
        self._may_read(kind)
        return self._workspace.all(kind)

    def current(self, kind: type[V]) -> list[V]:
        """The values of this type that stand (see `Value.composes`). Raises UndeclaredRead."""
        self._may_read(kind)
        return standing(self._workspace.all(kind))

    @property
    def entries(self) -> list[Entry]:
        """The entries of the declared types, in the order they were written."""
        of = self._of
        if len(of.kinds) > 1 and not of.ordered:
            raise self._undeclared("the order between value types", "declare ordered=True")
        return self._workspace.chain(of.kinds).entries() if of.kinds else []

    def segments(self) -> list[Segment]:
        """The declared part of C as a model reads it, in the order it was written."""
        return [segment for entry in self.entries for segment in entry.value.render()]

    def camera(self, photo: int) -> Any:
        """Intrinsics of a photo: given, else from its EXIF, else None. Reads "images", "intrinsics"."""
        for field in ("images", "intrinsics"):
            if field not in self._of.fields:
                raise self._undeclared(f"x.{field}", f'add "{field}" to its reads')
        return self._problem.camera(photo)

    @property
    def seed(self) -> int:
        """63 bits from the entry's id: the same call has the same seed wherever and whenever."""
        if not self._of.stochastic:
            raise self._undeclared("its seed", "declare stochastic=True")
        return int.from_bytes(self._id[:8], "big") >> 1

    @property
    def rng(self) -> np.random.Generator:
        """A numpy generator, freshly seeded by `seed`."""
        import numpy as np

        return np.random.default_rng(self.seed)

    def charge(self, model_calls: int = 0, tokens: int = 0, price: float = 0.0) -> None:
        """Say what this sample cost, in place of the declared bound. Several charges add up."""
        try:
            model_calls, tokens = operator.index(model_calls), operator.index(tokens)
            price = float(price)
        except (TypeError, ValueError):
            what = f"{self._of.name} charged what is no number"
            raise ContractError(f"{what}: calls and tokens are whole") from None
        if not (0 <= model_calls < 2**53 and 0 <= tokens < 2**53 and 0 <= price < math.inf):
            charged = f"{model_calls} calls, {tokens} tokens, {price}"
            raise ContractError(f"{self._of.name} charged {charged}: a charge only ever adds")
        more = Cost(model_calls, tokens, price)
        self.charged = more if self.charged is None else self.charged + more


@overload
def as_primitive(thing: Primitive) -> Primitive: ...
@overload
def as_primitive(thing: object) -> Primitive: ...
def as_primitive(thing: object) -> Primitive:
    """`thing` if it is a primitive; raises PluginError with what to do if it is not."""
    if isinstance(thing, Primitive):
        return thing
    shown = getattr(cast(Any, thing), "__name__", repr(thing))
    raise PluginError(f"{shown} is no primitive: decorate it with @primitive(reads=…, writes=…)")
