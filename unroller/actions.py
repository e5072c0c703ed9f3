"""Actions: primitives bound to parameters and to the backends that provide what they need.

An action is what a policy names: ("text_think", "text_think:long"). Binding happens once, when the
executor is made; what is left for each call is one hash for its provenance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
from pydantic import BaseModel, ValidationError
from xxhash import xxh3_128_digest

from unroller.cost import FREE, Cost, Left
from unroller.decide import Call
from unroller.declare import Primitive
from unroller.faults import ContractError, MissingCapability, PluginError, UnknownName
from unroller.fingerprint import fingerprint
from unroller.problem import Problem
from unroller.values import Value, array_fields
from unroller.workspace import Workspace

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class Action:
    """A primitive with its parameters and providers: everything about a call but the sample."""

    def __init__(
        self,
        primitive: Primitive,
        name: str,
        parameters: Any,
        providers: tuple[Any, ...],
        missing: str | None = None,
    ) -> None:
        self.primitive = primitive
        self.name = name
        self.parameters = parameters
        self.providers = providers
        self.missing = missing
        self.writes = primitive.writes
        self.is_value: bool = issubclass(primitive.writes, Value)
        self.holds_arrays = self.is_value and bool(array_fields(primitive.writes))
        self.cost = _priced(
            _checked_cost(
                name, primitive.cost if isinstance(primitive.cost, Cost) else primitive.cost(parameters)
            ),
            providers,
        )
        self.always = missing is None and self.cost is FREE and primitive.applies is None
        self.meters = tuple(filter(_counts, dict.fromkeys(providers)))
        limits = [int(getattr(provider, "max_batch", primitive.max_batch)) for provider in providers]
        self.max_batch = min([primitive.max_batch, *limits])
        self._fields = primitive.fields + (("seed",) if primitive.stochastic else ())
        kinds = primitive.kinds
        together = primitive.ordered and bool(kinds)
        self._chains = (kinds,) if together else tuple((kind,) for kind in kinds)
        self._spec = xxh3_128_digest(
            _encode(
                [
                    primitive.role,
                    primitive.name,
                    primitive.version,
                    _parameters(parameters),
                    [str(getattr(provider, "fingerprint", "")) for provider in providers],
                    list(self._fields),
                    [kind.__name__ for kind in primitive.kinds],
                    primitive.ordered,
                ]
            )
        )

    def __repr__(self) -> str:
        return f"<action {self.name}>"

    def id(self, problem: Problem, workspace: Workspace, draw: int) -> bytes:
        """The provenance id (16 bytes) of the value that this call gives for this input."""
        parts = self._spec  # every part has 16 bytes, so no two inputs run into the same bytes
        if self._fields:
            parts += problem.digests(self._fields)
        for kinds in self._chains:
            parts += workspace.chain(kinds).digest
        if draw:
            parts += b"#%d" % draw
        return xxh3_128_digest(parts)

    def refusal(self, problem: Problem, left: Left, masked: frozenset[str]) -> str | None:
        """Why this cannot be called for a problem now, or None if it can."""
        if self.missing is not None:
            return self.missing
        if masked and self.name in masked:
            return "it failed earlier on this problem"
        cost = self.cost
        if not left.affords(cost):
            return f"it may cost {cost}, and the budget has less left once the decoder's share is set aside"
        return self.inapplicable(problem)

    def inapplicable(self, problem: Problem) -> str | None:
        """Why the primitive says it cannot work on a problem, or None if it can."""
        applies = self.primitive.applies
        if applies is None:
            return None
        try:
            return applies(problem)
        except Exception as error:
            return f"its `applies` raised {type(error).__name__}: {error}"


def _counts(backend: Any) -> bool:
    """Whether it says how many tokens it read. Its property is not asked for: that may load a model."""
    own: dict[str, Any] = getattr(backend, "__dict__", {})
    return "reading" in own or any("reading" in vars(kind) for kind in type(backend).__mro__)


def bind(
    primitive: Primitive,
    backends: Sequence[Any],
    *,
    preset: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    who_could: Any = None,
    strict: bool = True,
) -> Action:
    """Bind a primitive to the first backend that provides each capability it needs.

    With `strict`, raises MissingCapability when none does; otherwise the action stands, and every state
    refuses it with that reason. Raises UnknownName for a preset it does not have and PluginError for
    parameters that do not validate.
    """
    name = primitive.name if preset is None else f"{primitive.name}:{preset}"
    chosen: dict[str, Any] = {}
    if preset is not None:
        if preset not in primitive.presets:
            known = ", ".join(primitive.presets) or "none"
            raise UnknownName(f"{primitive.name} has no preset {preset!r}; it has: {known}")
        chosen.update(primitive.presets[preset])
    chosen.update(parameters or {})
    try:
        bound = primitive.parameters(**chosen)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise PluginError(f"{name}: parameters {chosen} do not fit: {wrong}") from None
    providers: list[Any] = []
    missing: str | None = None
    for capability in primitive.needs:
        provider = next((b for b in backends if capability in b.provides), None)
        if provider is None:
            hint = who_could(capability) if who_could else ""
            chose = ", ".join(b.name for b in backends) or "none"
            idle = [(b.name, lacked) for b in backends if (lacked := _lacked(b, capability))]
            hint = "".join(f" {name} lacks {lacked}." for name, lacked in idle) + hint
            missing = f"needs {capability.__name__}, which no chosen backend provides ({chose}).{hint}"
            if strict:
                raise MissingCapability(f"{name} {missing}")
            break
        inner = getattr(provider, "provider_of", None)
        providers.append(inner(capability) if callable(inner) else provider)
    return Action(primitive, name, bound, tuple(providers), missing)


def _lacked(backend: Any, capability: type[Any]) -> str | None:
    """What it says it lacks for this capability, if anything."""
    lacks: Any = getattr(backend, "lacks", None)
    if isinstance(lacks, Mapping):
        return cast("Mapping[Any, str]", lacks).get(capability)
    return None if backend.provides else lacks


def _parameters(parameters: Any) -> list[Any]:
    """Every parameter by name, nothing masked or left out as a dump for people would."""
    held: BaseModel = parameters
    return [[name, fingerprint(getattr(held, name))] for name in held.__class__.model_fields]


def _checked_cost(name: str, cost: Any) -> Cost:
    if not isinstance(cost, Cost):
        raise PluginError(f"{name}: cost must be a Cost, or a function that returns one, not {cost!r}")
    if min(cost.model_calls, cost.tokens, cost.price) < 0:
        raise PluginError(f"{name}: a cost cannot be negative: {cost}")
    return cost


def _priced(cost: Cost, providers: Sequence[Any]) -> Cost:
    """With the most that providers which are paid for may ask for it."""
    bounds = [getattr(provider, "price_bound", None) for provider in dict.fromkeys(providers)]
    dollars = sum(bound(cost) for bound in bounds if bound is not None)
    return cost + Cost(price=dollars) if dollars else cost


def with_parameters(action: Action, call: Call) -> Action:
    """The action with a call's own parameters in place of its preset's. Raises PluginError."""
    merged = {**action.parameters.model_dump(exclude_unset=True), **dict(call.parameters or {})}
    try:
        parameters = action.primitive.parameters(**merged)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ContractError(f"{action.name}: parameters {merged} do not fit: {wrong}") from None
    return Action(action.primitive, action.name, parameters, action.providers, action.missing)
