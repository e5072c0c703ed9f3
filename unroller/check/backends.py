"""Checks of backends: what they say they provide is there, takes batches, and keeps to each sample."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

from unroller import capabilities
from unroller.check.comparing import content, differs, global_seed
from unroller.check.findings import Findings
from unroller.check.requests import Ask, asks, own_request
from unroller.check.samples import good_problems
from unroller.problem import Problem
from unroller.values import Value


def check_backend(backend: Any, findings: Findings, *, problems: Iterable[Problem] | None) -> None:
    """Every check of a backend."""
    provides = _check_declaration(backend, findings)
    _check_fingerprint(backend, findings)
    known = asks(list(problems) if problems is not None else good_problems())
    for capability in provides:
        name = capability.__name__
        if not _check_methods(backend, capability, findings):
            continue
        for ask in known.get(name, ()):
            _check_calls(backend, ask, findings)
        if name not in known:
            mend = "test it with requests of your own: one outcome a sample, in order"
            findings.warn(name, "there are no sample requests for it, so it was not called", mend)
    _check_forgotten(backend, provides, findings)


# ----------------------------------------------------------------------------------------- declaration


def _check_declaration(backend: Any, findings: Findings) -> list[type[Any]]:
    name: Any = getattr(backend, "name", None)
    if not (isinstance(name, str) and name):
        findings.fail("declaration", f"its name is {name!r}", 'give it `name = "…"`')
    limit: Any = getattr(backend, "max_batch", None)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        mend = "give it `max_batch = 16`: the most samples it takes in one call"
        findings.fail("declaration", f"its max_batch is {limit!r}", mend)
    provides: Any = getattr(backend, "provides", None)
    mend = "list the protocols of unroller.capabilities: provides = (PoseEstimator,)"
    if not isinstance(provides, (tuple, list)):
        findings.fail("declaration", f"its provides is {provides!r}", mend)
        return []
    listed = cast("Sequence[Any]", provides)
    kinds = [one for one in listed if isinstance(one, type)]
    if not kinds:
        if lacks := getattr(backend, "lacks", None):
            mend = f"it says that it lacks {lacks}: check one that has it, as module:Class:PATH, or an object"
        findings.fail("declaration", "it provides nothing", mend)
    for one in listed:
        if not isinstance(one, type):
            findings.fail("declaration", f"it provides {one!r}, which is no protocol", mend)
    shown = ", ".join(kind.__name__ for kind in kinds)
    findings.settle("declaration", f"backend {name}, up to {limit} a batch: {shown}")
    return kinds


def _check_fingerprint(backend: Any, findings: Findings) -> None:
    mend = (
        "make it of what decides the results: version, weights, settings; the same in every process, and"
        " another when results would be"
    )
    found: Any = getattr(backend, "fingerprint", None)
    if not (isinstance(found, str) and found):
        findings.fail("fingerprint", f"its fingerprint is {found!r}, not words", mend)
        return
    if re.search(r"\b0x[0-9a-f]{6,}", found):
        said = f"its fingerprint holds an address in memory: {found[:60]!r}"
        findings.fail("fingerprint", said, mend)
    if backend.fingerprint != found:
        findings.fail("fingerprint", "its fingerprint changes from one look to the next", mend)
    findings.settle("fingerprint", repr(found[:60]))


def check_instances(one: Any, other: Any, findings: Findings) -> None:
    """Two backends made alike have one fingerprint."""
    a, b = getattr(one, "fingerprint", None), getattr(other, "fingerprint", None)
    if a != b:
        mend = "make it of settings and weights, never of id(), hash() or a clock"
        findings.fail("fingerprint", f"two instances made alike have two fingerprints: {a!r}, {b!r}", mend)


def _methods(capability: type[Any]) -> list[str]:
    return [n for n, f in vars(capability).items() if not n.startswith("_") and inspect.isfunction(f)]


def _check_methods(backend: Any, capability: type[Any], findings: Findings) -> bool:
    """The protocol's methods are there and can be called as it calls them."""
    good = True
    for name in _methods(capability):
        declared = inspect.signature(getattr(capability, name))
        method: Any = getattr(backend, name, None)
        shown = f"{name}{_plain(declared)}"
        if not callable(method):
            said = f"it provides {capability.__name__} and has no method {name}"
            findings.fail(capability.__name__, said, f"write {shown}, or take it out of provides")
            good = False
            continue
        wanted = [p for p in declared.parameters.values() if p.name != "self"]
        positional = [p.name for p in wanted if p.kind is not p.KEYWORD_ONLY]
        named = {p.name: None for p in wanted if p.kind is p.KEYWORD_ONLY}
        try:
            inspect.signature(method).bind(*positional, **named)
        except (TypeError, ValueError) as error:
            said = f"its {name} cannot be called as {shown}: {error}"
            findings.fail(capability.__name__, said, f"give it the signature {shown}")
            good = False
    return good


def _plain(signature: inspect.Signature) -> str:
    names: list[str] = []
    for p in signature.parameters.values():
        if p.name == "self":
            continue
        if p.kind is p.KEYWORD_ONLY and "*" not in names:
            names.append("*")
        names.append(p.name)
    return f"({', '.join(names)})"


def _check_forgotten(backend: Any, provides: Sequence[type[Any]], findings: Findings) -> None:
    for capability in CAPABILITIES:
        methods = _methods(capability)
        if capability not in provides and all(callable(getattr(backend, m, None)) for m in methods):
            said = f"it has {', '.join(methods)} and does not list {capability.__name__}"
            findings.warn("declaration", said, f"add {capability.__name__} to provides, or nobody asks it")


CAPABILITIES: tuple[type[Any], ...] = tuple(
    thing
    for name, thing in vars(capabilities).items()
    if isinstance(thing, type)
    and getattr(thing, "_is_protocol", False)
    and thing.__module__ == capabilities.__name__
    and name != "Backend"
)

# --------------------------------------------------------------------------------------------- calling


def _check_calls(backend: Any, ask: Ask, findings: Findings) -> None:
    count = len(next(iter(ask.batches.values())))
    every = list(range(count))
    outcomes = _called(backend, ask, every, findings)
    if outcomes is None:
        return
    for i, outcome in enumerate(outcomes):
        wrong = None if isinstance(outcome, Exception) else ask.right(outcome, i)
        if wrong is not None:
            mend = "return what the protocol says, or an exception in the sample's place"
            findings.fail(ask.method, f"for request {i + 1} it returned {wrong}", mend)
            return
    good = [i for i in every if not isinstance(outcomes[i], Exception)]
    if not good:
        said = f"none of {count} requests could be answered, so little was checked: {outcomes[0]}"
        findings.fail(ask.method, said, "pass problems it can work with: check(…, problems=[…])")
        return
    checks = (_check_same_seed, _check_alone, _check_bad_mate)
    if all(check(backend, ask, outcomes, good, findings) for check in checks):
        findings.settle(ask.method, f"{len(good)} of {count} requests answered, together as alone")


def _called(
    backend: Any,
    ask: Ask,
    which: Sequence[int],
    findings: Findings,
    *,
    seed: int = 1,
    bad: bool = False,
) -> list[Any] | None:
    """The outcomes of some requests (and the bad one last), or None where the call itself went wrong."""
    batches = {name: [items[i] for i in which] for name, items in ask.batches.items()}
    if bad:
        for items, extra in zip(batches.values(), ask.bad, strict=True):
            items.append(extra)
    batches = {name: [own_request(item) for item in items] for name, items in batches.items()}
    before = content(list(batches.values()))
    method: Any = getattr(backend, ask.method)
    keyword = _keyword_only(ask.method)
    positional = [items for name, items in batches.items() if name not in keyword]
    named = {name: items for name, items in batches.items() if name in keyword}
    size = len(which) + bad
    try:
        with global_seed(seed):
            outcomes: Any = method(*positional, **named, **ask.fixed)
    except Exception as error:
        said = f"it raised {type(error).__name__} for a batch of {size}: {error}"
        mend = "put an exception in the place of a sample that cannot be worked with; raise for none"
        findings.fail(ask.method, said, mend)
        return None
    mend = "return a list: one outcome a sample, in order"
    if inspect.iscoroutine(outcomes):
        outcomes.close()
        findings.fail(ask.method, "it is a coroutine", "capabilities are called, not awaited: drop async")
        return None
    if isinstance(outcomes, (str, Value)) or not isinstance(outcomes, Sequence):
        findings.fail(ask.method, f"it returned {type(outcomes).__name__}", mend)
        return None
    listed = list(cast("Sequence[Any]", outcomes))
    if len(listed) != size:
        findings.fail(ask.method, f"it returned {len(listed)} outcomes for {size} samples", mend)
        return None
    if content(list(batches.values())) != before:
        said = "it changed its inputs in place"
        findings.fail(ask.method, said, "work on a copy: pictures are shared by other calls")
        return None
    return listed


def _protocol_method(name: str) -> Any:
    return next(getattr(c, name) for c in CAPABILITIES if name in _methods(c))


def _keyword_only(name: str) -> set[str]:
    declared = inspect.signature(_protocol_method(name)).parameters.values()
    return {p.name for p in declared if p.kind is p.KEYWORD_ONLY}


def _first_difference(wanted: Sequence[Any], got: Sequence[Any]) -> str | None:
    for a, b in zip(wanted, got, strict=True):
        if isinstance(a, Exception) or isinstance(b, Exception):
            if type(a) is not type(b):
                return f"{_short(a)}, then {_short(b)}"
            continue
        found = differs(a, b)
        if found is not None:
            return found
    return None


def _short(outcome: Any) -> str:
    return f"{type(outcome).__name__}: {outcome}"[:80]


def _check_same_seed(
    backend: Any, ask: Ask, outcomes: list[Any], good: list[int], findings: Findings
) -> bool:
    for seed, why in ((1, "the same call twice gives"), (2, "the global random state changes it:")):
        again = _called(backend, ask, range(len(outcomes)), findings, seed=seed)
        if again is None:
            return False
        found = _first_difference(outcomes, again)
        if found is not None:
            mend = "make a generator from each sample's seed (or none), and use no other randomness"
            findings.fail(ask.method, f"{why} {found}", mend)
            return False
    return True


def _check_alone(backend: Any, ask: Ask, outcomes: list[Any], good: list[int], findings: Findings) -> bool:
    for i in good:
        alone = _called(backend, ask, [i], findings)
        if alone is None:
            return False
        found = _first_difference([outcomes[i]], alone)
        if found is not None:
            mend = "a sample depends on its own inputs and seed alone; mind padding and shared generators"
            findings.fail(ask.method, f"together and one by one differ: {found}", mend)
            return False
    backwards = _called(backend, ask, good[::-1], findings)
    if backwards is None:
        return False
    found = _first_difference([outcomes[i] for i in good[::-1]], backwards)
    if found is not None:
        mend = "return outcomes in the order of the samples, each from its own inputs"
        findings.fail(ask.method, f"another order gives other results: {found}", mend)
        return False
    return True


def _check_bad_mate(backend: Any, ask: Ask, outcomes: list[Any], good: list[int], findings: Findings) -> bool:
    """One sample that cannot be worked with does not fail its mates."""
    limit = int(getattr(backend, "max_batch", 0) or len(good) + 1)
    if len(good) >= limit:
        good = good[: max(1, limit - 1)]
    aside = Findings(ask.method)
    mixed = _called(backend, ask, good, aside, bad=True)
    if mixed is None:
        line = aside.failures[0]
        findings.fail(ask.method, f"with a request it cannot answer among others, {line.found}", line.mend)
        return False
    found = _first_difference([outcomes[i] for i in good], mixed[:-1])
    if found is not None:
        mend = "a sample depends on its own inputs and seed alone"
        findings.fail(ask.method, f"a request that cannot be answered changed its mates: {found}", mend)
        return False
    return True
