"""Tells a plug-in's author in plain words what is wrong with it, and how to mend it.

    >>> print(check_path("my_package:my_primitive"))
    primitive my_primitive: 1 thing to mend
      fail  reads         it reads x.question without declaring it
                          → add "question" to its reads
      ok    types         returns Text, finite, one a sample
      …

After Gymnasium's `env_checker`. What is declared is tried on sample problems, contexts and requests that
are made from the declaration; capabilities come from a stand-in that knows nothing but keeps every promise,
unless `backends` names real ones.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from unroller.backends import backends_of, says_more
from unroller.check.backends import CAPABILITIES, check_backend, check_instances
from unroller.check.findings import Finding, Findings
from unroller.check.planners import check_planner
from unroller.check.policies import check_policy
from unroller.check.primitives import check_primitive
from unroller.check.standin import StandIn
from unroller.check.values import check_value
from unroller.decide import FixedList
from unroller.declare import Decoder, Primitive, Probe
from unroller.faults import UnrollerError
from unroller.problem import Problem
from unroller.registry import load, load_all, load_path, near, registered
from unroller.values import Value

__all__ = ["Finding", "Findings", "StandIn", "check", "check_path"]


def check_path(path: str, backends: Sequence[Any] | None = None, **options: Any) -> Findings:
    """Check "package.module:object", or something by the name it is registered under. Never raises for
    what is wrong with a plug-in: that is in the findings. `options` as for `check`."""
    findings = Findings(path)
    try:
        thing = load_path(path) if ":" in path else _registered(path)
    except UnrollerError as error:
        mend = "write package.module:object, and see that it can be imported from here"
        findings.fail("import", str(error), mend)
        return findings
    return check(thing, backends=backends, **options)


def check(
    thing: Any,
    *,
    problems: Iterable[Problem] | None = None,
    backends: Sequence[Any] | None = None,
    primitives: Sequence[Primitive] = (),
    probes: Sequence[Probe] = (),
) -> Findings:
    """Check a primitive, decoder, probe, policy, planner, backend or value type.

    problems: to try it with, in place of made-up ones; backends: names or objects to take capabilities
    from, in place of a stand-in; primitives, probes: what a policy or planner counts on and nobody
    registered.
    """
    if isinstance(thing, type) and not issubclass(thing, Value):
        return _check_class(
            cast("type[Any]", thing),
            problems=problems,
            backends=backends,
            primitives=primitives,
            probes=probes,
        )
    findings = Findings(f"{_kind(thing)} {_name(thing)}".strip())
    options: dict[str, Any] = {"problems": None if problems is None else list(problems)}
    try:
        if isinstance(thing, Primitive):
            options["backends"] = _backends(backends, thing.needs, findings)
            check_primitive(thing, findings, **options)
        elif isinstance(thing, type):
            check_value(thing, findings)
        elif isinstance(thing, Value):
            check_value(type(thing), findings, given=(thing,))
        elif _is_backend(thing):
            check_backend(thing, findings, **options)
        elif isinstance(thing, (list, tuple)) or _is_policy(thing):
            options |= {"backends": _backends(backends, (), findings), "primitives": primitives}
            listed: Any = cast("Any", thing)
            policy = listed if _is_policy(thing) else FixedList(listed)
            check_policy(policy, findings, probes=probes, **options)
        elif _is_planner(thing):
            options |= {"backends": _backends(backends, (), findings), "primitives": primitives}
            check_planner(thing, findings, **options)
        else:
            _say_what_it_is_not(thing, findings)
    except Exception as error:
        # Whatever a plug-in does that no check foresaw: what was found so far is still worth having.
        said = f"the check could not go on: {type(error).__name__}: {error}"
        findings.fail("check", said, "mend what is said above first; if this is all, report it")
    return findings


# ------------------------------------------------------------------------------------- what is it then


def _is_backend(thing: Any) -> bool:
    return hasattr(thing, "provides") or hasattr(thing, "fingerprint")


def _is_policy(thing: Any) -> bool:
    return callable(getattr(thing, "decide", None))


def _is_planner(thing: Any) -> bool:
    return callable(getattr(thing, "plan", None)) or callable(getattr(thing, "search", None))


def _kind(thing: Any) -> str:
    if isinstance(thing, Primitive):
        kinds = {Decoder: "decoder", Probe: "probe"}
        return next((word for kind, word in kinds.items() if isinstance(thing, kind)), "primitive")
    if isinstance(thing, (Value, type)):
        is_value = isinstance(thing, Value) or issubclass(thing, Value)
        return "value type" if is_value else ""
    if _is_backend(thing):
        return "backend"
    if _is_policy(thing) or isinstance(thing, (list, tuple)):
        return "policy"
    return "planner" if _is_planner(thing) else ""


def _name(thing: Any) -> str:
    if isinstance(thing, Value):
        return type(thing).__name__
    for attribute in ("name", "__name__"):
        name = getattr(thing, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(thing).__name__


def _check_class(kind: type[Any], **options: Any) -> Findings:
    """Of a policy, planner or backend the class is what makes the instance."""
    findings = Findings(kind.__name__)
    if issubclass(kind, Primitive):
        said = f"{kind.__name__} is a class where an instance is needed"
        mend = f"register an instance: {kind.__name__.lower()} = {kind.__name__}(…), or decorate a function"
        findings.fail("kind", said, mend)
        return findings
    if not (_is_backend(kind) or _is_policy(kind) or _is_planner(kind)):
        _say_what_it_is_not(kind, findings)
        return findings
    try:
        made = kind()
    except Exception as error:
        said = f"{kind.__name__}() cannot be made without arguments: {type(error).__name__}: {error}"
        mend = "give every argument a default, or register an instance: the engine calls the class as it is"
        findings.fail("kind", said, mend)
        return findings
    found = check(made, **options)
    if _is_backend(made):
        check_instances(made, kind(), found)
    return found


def _say_what_it_is_not(thing: Any, findings: Findings) -> None:
    name = _name(thing)
    findings.of = name
    if isinstance(thing, types.ModuleType):
        there = [f"{name}:{n}" for n, held in vars(thing).items() if _kind(held) and not n.startswith("_")]
        mend = f"check one of: {', '.join(there)}" if there else "name the object: package.module:object"
        findings.fail("kind", f"{name} is a module", mend)
    elif inspect.isfunction(thing) or inspect.ismethod(thing):
        findings.fail("kind", f"{name} is a plain function: it was not decorated", _decoration(thing))
    elif any(callable(getattr(thing, m, None)) for c in CAPABILITIES for m in _public(c)):
        mend = "give it name, fingerprint, max_batch and provides (see unroller.capabilities)"
        findings.fail("kind", f"{name} has methods of a backend and is none", mend)
    else:
        shown = thing.__name__ if isinstance(thing, type) else f"a {type(thing).__name__}"
        findings.fail(
            "kind",
            f"{shown} is nothing that unroller knows",
            "a primitive is a function with @primitive(reads=…, writes=…); a policy has decide(states); a"
            " planner has plan(problem, actions); a backend has name, fingerprint, max_batch and provides; a"
            " value type is a subclass of unroller.Value",
        )


def _public(capability: type[Any]) -> list[str]:
    return [name for name in vars(capability) if not name.startswith("_")]


def _decoration(function: Callable[..., Any]) -> str:
    names = list(inspect.signature(function).parameters)
    first = names[0] if names else ""
    if first in ("state", "states"):
        return "put @policy above it, to make a policy of a function of one state"
    batched = ", batched=True" if first == "views" else ""
    needs = ", needs=…" if len(names) > 1 else ""
    return f"put @primitive(reads=…, writes=…{needs}{batched}) above it (or @decoder, @probe, @policy)"


# ----------------------------------------------------------------------------------------- where it is


def _registered(name: str) -> Any:
    """What is registered under a name, in whichever group. Raises UnrollerError."""
    groups = ("primitives", "decoders", "probes", "policies", "planners", "backends", "values")
    for group in groups:
        if name in registered(group):
            return load(group, name)
    known = [one for group in groups for one in registered(group)]
    raise UnrollerError(f"{name!r} is no path and nothing registered.{near(name, known)}")


def _backends(given: Sequence[Any] | None, needs: Sequence[type[Any]], findings: Findings) -> list[Any]:
    """Backends by name or as they are. By default a stand-in, and for capabilities that it has never
    heard of, whatever is registered."""
    if given is None:
        strange = [need for need in needs if need not in StandIn.provides]
        given = [StandIn()]
        if strange:
            found, _ = load_all("backends")
            given += [one for one in found.values() if set(strange) & set(one.provides)]
    every = [given] if isinstance(given, str) else list(given)
    together = any(says_more(one) for one in every if isinstance(one, str))
    made: list[Any] = []
    for several in [every] if together else [[one] for one in every]:
        try:
            made += [one() if isinstance(one, type) else one for one in backends_of(several)]
        except Exception as error:
            said = f"{', '.join(map(str, several))}: {error}"
            findings.fail("backends", said, "name a registered backend, or pass an object")
    return made
