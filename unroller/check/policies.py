"""Checks of policies, on states that come from real runs with toy primitives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from unroller.capabilities import Backend
from unroller.check.comparing import OTHER_SEEDS, global_seed
from unroller.check.findings import Findings
from unroller.check.toys import STEPS, task_problems, toy_decoders, toy_primitives, toy_probe
from unroller.decide import Decision, FixedList, Policy, State, as_decision, as_policy
from unroller.declare import Primitive, Probe
from unroller.executor import Executor
from unroller.faults import Fault
from unroller.problem import Problem
from unroller.registry import load_all

MOST_STATES = 48
"""How many states of the runs are asked about again."""


class Recording:
    """A policy around a policy that keeps the states it was asked about and what it answered."""

    def __init__(self, inner: Policy) -> None:
        self.inner = inner
        self.name = str(getattr(inner, "name", type(inner).__name__))
        self.probes = tuple(getattr(inner, "probes", ()))
        self.states: list[State] = []
        self.miscounted: tuple[int, int] | None = None  # decisions, states

    def decide(self, states: Sequence[State]) -> Sequence[Any]:
        self.states += states
        decided = self.inner.decide(states)
        if len(decided) != len(states):
            self.miscounted = self.miscounted or (len(decided), len(states))
        return decided


def check_policy(
    policy: Policy,
    findings: Findings,
    *,
    problems: Iterable[Problem] | None,
    backends: Sequence[Backend],
    primitives: Sequence[Primitive] = (),
    probes: Sequence[Probe] = (),
) -> None:
    """Every check of a policy."""
    _check_declaration(policy, findings)
    toys = toy_primitives(primitives)
    if (bound_to := getattr(policy, "bound_to", None)) is not None:
        policy = as_policy(bound_to(Executor(backend=list(backends), policy=[], primitives=toys).actions))
    wanted = _check_probes(policy, probes, findings)
    if wanted is None:
        return
    recording, tried_with = Recording(policy), task_problems(problems)
    with (
        Executor(
            backend=list(backends),
            policy=recording,
            budget={"steps": STEPS},
            primitives=toys,
            decoders=toy_decoders(tried_with),
            probes=wanted,
        ) as executor,
        global_seed(1),
    ):
        runs = list(executor.map(tried_with))
    faults = [fault for run in runs for fault in run.faults]
    if not _check_decisions(policy, recording, faults, findings):
        return
    _check_names(faults, executor, findings)
    states = recording.states[:MOST_STATES]
    if _check_repeatable(policy, states, findings):
        _check_batch(policy, states, findings)
    _check_stops(policy, [len(run.decisions) for run in runs], findings)
    looks = not isinstance(policy, FixedList)  # a list does not look at the state: refusals are its way
    if looks and _check_starved(policy, states, executor, findings):
        _check_masks(policy, states, executor, findings)
    _check_likelihoods(policy, states, findings)


# ------------------------------------------------------------------------------------------ the checks


def _check_declaration(policy: Policy, findings: Findings) -> None:
    if not (getattr(policy, "__doc__", None) or "").strip():
        mend = "say in one sentence how it chooses: reports and the command line show it"
        findings.warn("declaration", "it has no docstring", mend)
    name: Any = getattr(policy, "name", None)
    if not (isinstance(name, str) and name):
        said = "it has no name, so runs and reports show its class's"
        findings.warn("declaration", said, 'give it `name = "…"`')
    elif name == "<lambda>":
        findings.warn("declaration", "it is called <lambda>", "write it as a function with a name")
    findings.settle("declaration", f"policy {name}")


def _check_probes(policy: Policy, given: Sequence[Probe], findings: Findings) -> list[Probe] | None:
    """The policy's probes: given, registered, or toys. None where the declaration is broken."""
    declared: Any = getattr(policy, "probes", ())
    if not isinstance(declared, str) and len(declared) > 1 and all(len(str(name)) == 1 for name in declared):
        declared = "".join(declared)  # @policy(probes="entropy"): a word, taken letter by letter
    if isinstance(declared, str) or not all(isinstance(name, (str, Probe)) for name in declared):
        said = f"its probes are {declared!r}"
        findings.fail("probes", said, 'declare a tuple of names: probes=("answer_entropy",)')
        return None
    mine = {probe.name: probe for probe in given}
    known, broken = load_all("probes")
    found: list[Probe] = []
    for name in declared:
        if isinstance(name, Probe):
            found.append(name)
            continue
        probe: Any = mine.get(name) or known.get(name)
        if isinstance(probe, Probe):
            found.append(probe)
            continue
        said = f"it declares the probe {name!r}, which is not registered"
        if name in broken:
            said = f"it declares the probe {name!r}: {broken[name]}"
        there = ", ".join(sorted({*mine, *known})) or "none"
        mend = f"register it under unroller.probes, or pass probes=[…]; there are: {there}"
        findings.fail("probes", said, mend)
        found.append(toy_probe(name))
    if declared:
        named = ", ".join(probe.name for probe in found)
        findings.settle("probes", f"{named}: registered or given")
    return found


def _check_decisions(
    policy: Policy, recording: Recording, faults: Sequence[Fault], findings: Findings
) -> bool:
    """Whether it decides at all, as many decisions as states."""
    if recording.miscounted is not None:
        said = "{} decisions for {} states".format(*recording.miscounted)
        mend = "decide(states) returns one decision for each state, in their order"
        findings.fail("decisions", said, mend)
        return False
    wrong = [fault for fault in faults if fault.phase == "decide" and fault.kind != "UnknownName"]
    if wrong:
        mend = "answer with STOP, an action's name from state.allowed, a Call, or several of them"
        message = f"{wrong[0].kind}: {wrong[0].message}"
        if wrong[0].kind == "PolicyError" and "state.probe" in wrong[0].message:
            mend = "declare every probe it reads: probes=(…)"
        elif wrong[0].kind not in ("PolicyError", "ContractError"):
            mend = "a policy must decide every state; return STOP where it does not know better"
        findings.fail("decisions", f"at step {wrong[0].step}: {message}", mend)
        return False
    if not recording.states:
        findings.fail("decisions", "it was never asked", "pass problems=[Problem(…)]")
        return False
    findings.passed("decisions", f"one for each of {len(recording.states)} states")
    return True


def _check_names(faults: Sequence[Fault], executor: Executor, findings: Findings) -> None:
    unknown = [fault for fault in faults if fault.kind == "UnknownName"]
    if unknown:
        mend = "choose from state.allowed, or pass the primitives it counts on: primitives=[…]"
        findings.fail("actions", unknown[0].message, mend)
    findings.settle("actions", f"chooses among the {len(executor.actions)} there are")


def _said(policy: Policy, states: Sequence[State], seed: int = 1) -> list[Decision]:
    with global_seed(seed):
        return [as_decision(one) for one in policy.decide(states)]


def _first_difference(a: Sequence[Decision], b: Sequence[Decision]) -> str | None:
    for one, other in zip(a, b, strict=True):
        p, q = one.log_probability, other.log_probability
        same = p == q or (p is not None and q is not None and math.isclose(p, q, rel_tol=1e-3, abs_tol=1e-4))
        if one.calls != other.calls or not same:
            return f"{_words(one)}, then {_words(other)}"
    return None


def _words(decision: Decision) -> str:
    calls = " and ".join(map(str, decision.calls)) or "STOP"
    return calls if decision.log_probability is None else f"{calls} ({decision.log_probability:.4g})"


def _check_repeatable(policy: Policy, states: Sequence[State], findings: Findings) -> bool:
    """The same states, the same decisions: otherwise no run could be resumed or replayed."""
    try:
        first = _said(policy, states)
        _said(policy, states[:1])  # a policy that counts its calls must not be back in step by luck
        again = _first_difference(first, _said(policy, states))
        others = (_first_difference(first, _said(policy, states, seed)) for seed in OTHER_SEEDS)
        other = again or next(filter(None, others), None)
    except Exception as error:
        said = f"asked again about the same states, it raised {type(error).__name__}: {error}"
        findings.fail("same states", said, "keep nothing between calls: the states say everything")
        return False
    if again is not None:
        mend = "keep nothing between calls, and look at no clock: decide from the states alone"
        findings.fail("same states", f"it decided otherwise the second time: {again}", mend)
        return False
    if other is not None:
        findings.fail(
            "same states",
            f"its decisions follow a global random generator: {other}",
            "draw from a generator made of the problem and the step:"
            " numpy.random.default_rng([state.problem.seed, state.step])",
        )
        return False
    findings.passed("same states", "the same decisions, whatever the global random state")
    return True


def _check_batch(policy: Policy, states: Sequence[State], findings: Findings) -> None:
    together = _said(policy, states)
    try:
        alone = [_said(policy, [state])[0] for state in states]
        backwards = _said(policy, states[::-1])[::-1]
    except Exception as error:
        said = f"asked about one state, or in another order, it raised {type(error).__name__}: {error}"
        findings.fail("batch", said, "decide(states) takes any number of states, in any order")
        return
    for what, got in (("one by one", alone), ("in another order", backwards)):
        found = _first_difference(together, got)
        if found is not None:
            mend = "decide each state by itself: who else is in the batch is chance"
            findings.fail("batch", f"states together and {what} are decided differently: {found}", mend)
            return
    findings.passed("batch", f"{len(states)} states together are decided as one by one")


def _check_stops(policy: Policy, steps: Sequence[int], findings: Findings) -> None:
    if max(steps) >= STEPS:
        findings.warn(
            "stopping",
            f"it did not stop by itself within {STEPS} steps",
            "return STOP at some point: a run without a budget goes on until its 64th step",
        )
    else:
        findings.passed("stopping", f"after {min(steps)} to {max(steps)} steps")


def _masking(state: State, masked: frozenset[str]) -> State:
    """The state with some actions masked, as after they failed."""
    return msgspec.structs.replace(state, _masked=masked)


def _check_starved(policy: Policy, states: Sequence[State], executor: Executor, findings: Findings) -> bool:
    nothing = [_masking(state, frozenset(executor.actions)) for state in states]
    try:
        said = _said(policy, nothing)
    except Exception as error:
        found = f"it raised {type(error).__name__} where nothing is allowed: {error}"
        findings.fail("masks", found, "if not state.allowed: return STOP")
        return False
    calls = next((decision for decision in said if decision.calls), None)
    if calls is not None:
        found = f"it decided {_words(calls)} where nothing is allowed"
        findings.warn("masks", found, "if not state.allowed: return STOP")
    return calls is None


def _check_masks(policy: Policy, states: Sequence[State], executor: Executor, findings: Findings) -> None:
    """Mask what it chose, and ask again."""
    chosen = _said(policy, states)
    asked = [
        (_masking(state, masked), masked)
        for state, decision in zip(states, chosen, strict=True)
        if (masked := frozenset(call.action for call in decision.calls) & set(executor.actions))
    ]
    try:
        decided = _said(policy, [state for state, _ in asked]) if asked else []
    except Exception as error:
        found = f"it raised {type(error).__name__} when an action was masked: {error}"
        findings.fail("masks", found, "choose from state.allowed; return STOP if what it wants is not there")
        return
    for (_, masked), decision in zip(asked, decided, strict=True):
        again = masked & {call.action for call in decision.calls}
        if again:
            found = f"it chose {sorted(again)[0]} although that is masked, as after a fault"
            mend = "choose from state.allowed: a refused call costs a step and adds nothing"
            findings.warn("masks", found, mend)
            return
    findings.settle("masks", "chooses nothing that is masked")


def _check_likelihoods(policy: Policy, states: Sequence[State], findings: Findings) -> None:
    given = [d.log_probability for d in _said(policy, states) if d.log_probability is not None]
    for p in given:
        if not (math.isfinite(p) and p <= 1e-6):
            mend = "it is the logarithm of a probability: finite, and not above 0"
            findings.fail("likelihood", f"a log-probability of {p}", mend)
            return
    if given:
        findings.passed("likelihood", f"{min(given):.3g} to {max(given):.3g}")
