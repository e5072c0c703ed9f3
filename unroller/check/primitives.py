"""Checks of primitives, decoders and probes.

`check_primitive` tries the primitive on samples and reads as the list of checks; each of them is handed
what was tried and adds its findings.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from unroller.actions import Action
from unroller.check.comparing import OTHER_SEEDS, TOLERANCE, differs
from unroller.check.declarations import TASK, applicable, bound, check_declaration, reads_all
from unroller.check.findings import Findings, named
from unroller.check.samples import EMPTY, NoExample, Sample, samples
from unroller.check.standin import StandIn
from unroller.check.trial import Trial, Tried
from unroller.check.values import check_rendering, journal_fault
from unroller.cost import Cost
from unroller.declare import Decoder, Primitive, Probe
from unroller.dispatch import Failure
from unroller.faults import (
    CallTimeout,
    InputError,
    NotFinite,
    TransientError,
    UndeclaredRead,
    WrongBatch,
    WrongType,
)
from unroller.problem import Problem
from unroller.values import Value

SLOW = 5.0
"""Seconds for one sample after which a declared timeout is missed."""

DRAWS = 4
"""How many draws of a stochastic primitive are compared."""

MOST = 8
"""How many samples are tried again and again; two of a slow primitive."""


def check_primitive(
    p: Primitive,
    findings: Findings,
    *,
    problems: Iterable[Problem] | None,
    backends: Sequence[Any],
) -> None:
    """Every check of a primitive, a decoder or a probe."""
    actions = bound(p, findings, backends)
    check_declaration(p, findings)
    if not actions or any(type(action.cost) is not Cost for action in actions):
        return  # it cannot be called
    task = p.task if isinstance(p, Decoder) and TASK.fullmatch(p.task) else "spatial"
    try:
        tried_with = samples(task, p.kinds, problems)
    except NoExample as error:
        mend = "give the type `@classmethod def example(cls)` that returns a value of it"
        findings.fail("samples", str(error), mend)
        return
    tried_with = applicable(p, tried_with, findings)

    trial = Trial(actions[0])
    first = [_examined(tried) for tried in trial.alone(tried_with)]
    good = [tried for tried in first if tried.error is None]
    _check_errors(p, first, findings)
    _check_outcomes(p, first, findings)
    _check_time(p, first, findings)
    for action in actions[1:]:
        _check_preset(p, action, tried_with, findings)
    if not good:
        _say_untried(p, first, findings)
        return
    slow = max(tried.seconds for tried in good) > SLOW
    good = good[: 2 if slow else MOST]
    again = _check_same_draw(p, trial, good, findings)
    if again:
        _check_batch(p, trial, first, good, findings)
    draws = _check_draws(p, trial, good, findings) if p.stochastic else []
    everything = [*first, *draws]
    _check_reads(p, everything, findings)
    _check_inputs(everything, findings)
    _check_random(trial, findings)
    _check_charges(p, trial.action, everything, findings)
    _check_values(p, good, findings)


# -------------------------------------------------------------------------------------- what came back

_TYPED = (InputError, TransientError, CallTimeout)
_BROKEN = (WrongType, WrongBatch, NotFinite, UndeclaredRead)


def _examined(tried: Tried) -> Tried:
    """A probe's float is examined here too: NaN is a float like any other."""
    if isinstance(tried.outcome, float) and not math.isfinite(tried.outcome):
        tried.outcome = Failure(NotFinite(f"it measured {tried.outcome}"))
    return tried


def _untyped(tried: Tried) -> bool:
    error = tried.error
    read_too_much = bool(tried.noticed.undeclared) and isinstance(error, AttributeError)
    return error is not None and not isinstance(error, (*_TYPED, *_BROKEN)) and not read_too_much


def _check_errors(p: Primitive, first: Sequence[Tried], findings: Findings) -> None:
    """Errors must be typed: InputError says that the inputs are at fault, anything else is a bug."""
    alike: dict[tuple[str, bool], list[Tried]] = {}
    for tried in first:
        if _untyped(tried):
            alike.setdefault((type(tried.error).__name__, tried.sample.poor), []).append(tried)
    for (_, poor), group in alike.items():
        where, others = group[0].sample.label, len(group) - 1
        also = f" (and {others} more like it)" if others else ""
        assert group[0].error is not None
        said = f"on {where} it raised {named(group[0].error)}{also}"
        if not poor:
            mend = "mend it; only an InputError says that the inputs are at fault"
            findings.fail("errors", said, mend)
        elif where == EMPTY:
            mend = 'raise InputError("…call this and that first"): the context may be empty'
            findings.warn("errors", said, mend)
        else:
            mend = 'raise InputError("…what to do"), or declare applies=… to refuse such a problem'
            findings.warn("errors", said, mend)
    refused = [t for t in first if isinstance(t.error, InputError)]
    computed = sum(1 for tried in first if tried.error is None)
    findings.settle("errors", f"{computed} samples computed, {len(refused)} refused in words")


def _check_outcomes(p: Primitive, first: Sequence[Tried], findings: Findings) -> None:
    writes = getattr(p.writes, "__name__", str(p.writes))
    many = f"one a sample: {'a list of values' if p.batched else 'a value'}"
    mends: dict[type[Exception], str] = {
        WrongType: f"return a {writes}, or declare the type it does return in writes=…",
        WrongBatch: f"return {many}, with an exception in place of one that cannot be computed",
        NotFinite: 'check what it divides by, or raise InputError("…") where there is no answer',
    }
    for kind, mend in mends.items():
        at_fault = [tried for tried in first if isinstance(tried.error, kind)]
        if at_fault:
            where = at_fault[0].sample.label
            if "must return a list" in str(at_fault[0].error):
                mend = "return a list, one value a view (not a generator)"
            findings.fail("types", f"on {where}: {at_fault[0].error}", mend)
    if any(tried.error is None for tried in first):
        findings.settle("types", f"returns {writes}, finite, one a sample")


def _check_time(p: Primitive, first: Sequence[Tried], findings: Findings) -> None:
    slowest = max(first, key=lambda tried: tried.seconds, default=None)
    if slowest is None:
        return
    if isinstance(slowest.error, CallTimeout):
        mend = f"raise its timeout of {p.timeout:g} s, or make it faster"
        findings.warn("time", f"on {slowest.sample.label} it outlasted its timeout", mend)
    elif slowest.seconds > SLOW and p.timeout is None:
        findings.warn(
            "time",
            f"it took {slowest.seconds:.1f} s for one sample and declares no timeout",
            "declare timeout=… seconds, so that a call that hangs does not hold up the run",
        )
    else:
        findings.settle("time", f"at most {slowest.seconds * 1000:.3g} ms a sample")


def _check_preset(p: Primitive, action: Action, tried_with: Sequence[Sample], findings: Findings) -> None:
    """A preset is tried once on each good sample: its types and errors."""
    tried = Trial(action).alone([s for s in tried_with if not s.poor][:2])
    aside = Findings(action.name)
    _check_errors(p, tried, aside)
    _check_outcomes(p, tried, aside)
    for line in aside.failures:
        findings.fail(line.subject, f"with {action.name}, {line.found}", line.mend)
    if aside.failures:
        return
    if tried and all(one.error is not None for one in tried):
        mend = "pass problems it can work with: check(…, problems=[Problem(…)])"
        said = f"{action.name} could compute no sample: {named(cast(Exception, tried[0].error))}"
        findings.warn("presets", said, mend)
    else:
        findings.passed("presets", f"{action.name} validates and runs")


def _say_untried(p: Primitive, first: Sequence[Tried], findings: Findings) -> None:
    """Nothing could be computed: the other checks say nothing, and that is said."""
    said = any(line.subject in ("errors", "types") for line in findings.failures)
    if not said and not any(tried.noticed.undeclared for tried in first):
        reason = next((named(tried.error) for tried in first if tried.error), "`applies` refused all")
        findings.fail(
            "samples",
            f"no sample could be computed, so most was left unchecked: {reason}",
            "pass problems it can work with: check(…, problems=[Problem(…)])",
        )
    _check_reads(p, first, findings)


# ----------------------------------------------------------------------------------- same in, same out


def _check_same_draw(p: Primitive, trial: Trial, good: Sequence[Tried], findings: Findings) -> bool:
    """The same call again: with the same global seeds, then with others. True if all is the same."""
    chosen = [tried.sample for tried in good]
    again = _first_difference(good, trial.alone(chosen, seed=1))
    hasty = max(tried.seconds for tried in good) < 0.5
    seeds = OTHER_SEEDS if hasty else OTHER_SEEDS[:1]
    others = (_first_difference(good, trial.alone(chosen, seed=seed)) for seed in seeds)
    other = again or next(filter(None, others), None)
    if again is None and other is None:
        findings.passed("same call", "gives the same value, whatever the global random state")
        return True
    where, what = again or other or ("", "")
    if again is not None:
        said = f"the same call twice gave different values on {where}: {what}"
        mend = "let it depend on what it reads and on view.seed alone: no clock, no counter, no OS randomness"
    else:
        said = f"its value follows a global random generator, on {where}: {what}"
        mend = "draw from view.rng, or seed what you call with view.seed"
        if not p.stochastic:
            mend += ", and declare stochastic=True"
    findings.fail("same call", said, mend)
    return False


def _first_difference(before: Sequence[Tried], after: Sequence[Tried]) -> tuple[str, str] | None:
    for a, b in zip(before, after, strict=True):
        if b.error is not None:
            return a.sample.label, f"a value, then {named(b.error)}"
        if a.charged != b.charged:
            return a.sample.label, f"charged {a.charged}, then {b.charged}"
        found = differs(a.outcome, b.outcome)
        if found is not None:
            return a.sample.label, found
    return None


def _check_draws(p: Primitive, trial: Trial, good: Sequence[Tried], findings: Findings) -> list[Tried]:
    """A stochastic primitive gives different values for different draws, from its own seed."""
    chosen = [tried.sample for tried in good]
    draws = [trial.alone(chosen, draw=draw) for draw in range(1, DRAWS)]
    varied = any(
        b.error is None and differs(a.outcome, b.outcome)
        for drawn in draws
        for a, b in zip(good, drawn, strict=True)
    )
    if not any(tried.noticed.drew for tried in good):
        findings.warn(
            "draws",
            "it is declared stochastic and never used view.seed or view.rng",
            "draw from view.rng, or hand view.seed to what you call; or do not declare it stochastic",
        )
    elif not varied and p.needs and not any(isinstance(one, StandIn) for one in trial.action.providers):
        findings.passed("draws", "all alike: with these backends chance plays no part in it")
    elif not varied:
        findings.warn(
            "draws",
            f"{DRAWS} draws of it never differed",
            "if chance plays no part in it, do not declare it stochastic: it is then computed once",
        )
    else:
        findings.passed("draws", "different draws give different values")
    return [tried for drawn in draws for tried in drawn]


def _check_batch(
    p: Primitive, trial: Trial, first: Sequence[Tried], good: Sequence[Tried], findings: Findings
) -> None:
    """A batch gives what single calls give, in whatever order, and a bad sample costs its mates nothing."""
    more = "pass more problems it can work with: check(…, problems=[Problem(…), …])"
    if trial.action.max_batch == 1:
        findings.passed("batch", "takes one sample at a time")
        return
    if len(good) < 2:
        findings.warn("batch", "only one sample could be computed, so batches were not tried", more)
        return
    chosen = [tried.sample for tried in good]
    for order, arranged in ((1, "together"), (-1, "in another order")):
        wanted, raised = list(good)[::order], len(trial.watch.raised)
        got = trial.together(chosen[::order])
        if len(trial.watch.raised) > raised:
            size, error = trial.watch.raised[raised]
            findings.fail(
                "batch",
                f"it raised {named(error)} for a batch of {size} whose samples each work alone",
                "compute all of them: the views of a batch differ in sizes and in what they hold",
            )
            return
        found = _first_difference(wanted, got)
        if found is not None:
            where, what = found
            mend = "let a sample depend on its own view alone; mind the order and any padding"
            if " values for " in what:
                mend = "return one value a view, with an exception in place of one that cannot be computed"
            if p.stochastic:
                mend += "; one generator a view: random numbers must not be shared across a batch"
            findings.fail(
                "batch", f"{len(got)} samples {arranged} differ from one by one, on {where}: {what}", mend
            )
            return
    _check_mates(p, trial, first, good, findings)
    findings.settle("batch", f"{len(good)} samples together give what they give alone ({TOLERANCE})")


def _check_mates(
    p: Primitive, trial: Trial, first: Sequence[Tried], good: Sequence[Tried], findings: Findings
) -> None:
    bad = [tried for tried in first if isinstance(tried.error, InputError)][:1]
    room = trial.action.max_batch - 1
    if not bad or room < 1:
        return
    mates = [*good[: min(2, room)]]
    raised = len(trial.watch.raised)
    got = trial.together([*(tried.sample for tried in mates), bad[0].sample])
    mend = "put the InputError in the list, in that sample's place, in place of raising it"
    where = bad[0].sample.label
    if len(trial.watch.raised) > raised:
        said = f"{where} failed its whole batch, which then had to be computed in pieces"
        findings.warn("batch", said, mend)
    elif _first_difference(mates, got[:-1]) is not None:
        findings.fail("batch", f"{where} changed the values of its batch mates", mend)


# -------------------------------------------------------------------------------- reads, inputs, costs


def _check_reads(p: Primitive, tried: Sequence[Tried], findings: Findings) -> None:
    undeclared = {what: mend for one in tried for what, mend in one.noticed.undeclared.items()}
    for what, mend in undeclared.items():
        findings.fail("reads", f"it reads {what} without declaring it", mend)
    if reads_all(p) or not any(one.error is None for one in tried):
        return
    fields = set[str]().union(*(one.noticed.fields for one in tried))
    kinds = set[type[Value]]().union(*(one.noticed.kinds for one in tried))
    unread = [f'"{field}"' for field in p.fields if field not in fields]
    unread += [kind.__name__ for kind in p.kinds if kind not in kinds]
    if unread:
        findings.warn(
            "reads",
            f"it declares {', '.join(unread)} and never read it on any sample",
            "take it out of reads=…: every change of it makes the memo compute this again",
        )
    findings.settle("reads", "what it declares is what it reads")


def _check_inputs(tried: Sequence[Tried], findings: Findings) -> None:
    changed = {what: one.sample.label for one in tried for what in one.changed}
    for what, where in changed.items():
        said = f"it changed {what} in place, on {where}"
        findings.fail("inputs", said, "work on a copy: problems and context are shared by other calls")
    findings.settle("inputs", "left as they were")


def _check_random(trial: Trial, findings: Findings) -> None:
    if trial.watch.touched_random and findings.about("same call")[0].level != "fail":
        findings.warn(
            "same call",
            "it draws from or seeds a global random generator, which others rely on",
            "make a generator of your own: view.rng, or numpy.random.default_rng(view.seed)",
        )


def _check_charges(p: Primitive, action: Action, tried: Sequence[Tried], findings: Findings) -> None:
    most = action.cost
    for one in tried:
        charged = one.charged
        if charged is None:
            continue
        amounts = (charged.model_calls, charged.tokens, charged.price)
        if not all(amount >= 0 and math.isfinite(amount) for amount in amounts):
            said = f"it charged {charged} on {one.sample.label}"
            findings.fail("cost", said, "charge what the sample cost: finite, and not below 0")
            return
        limits = (most.model_calls, most.tokens, most.price)
        if any(amount > limit + 1e-12 for amount, limit in zip(amounts, limits, strict=True)):
            findings.fail(
                "cost",
                f"it charged {charged} on {one.sample.label} and declares at most {most}",
                "let cost=… state the true bound: a value that overruns the budget is dropped",
            )
            return
    findings.settle("cost", f"at most {most} a sample")


def _check_values(p: Primitive, good: Sequence[Tried], findings: Findings) -> None:
    """What it made can be journaled, and reads well."""
    with tempfile.TemporaryDirectory() as folder:
        for tried in good:
            fault = journal_fault(tried.outcome, Path(folder))
            if fault is not None:
                mend = "hold plain data, arrays and values: see the check of the value type itself"
                findings.fail("journal", f"on {tried.sample.label}: {fault}", mend)
                break
    findings.settle("journal", "values come back equal")
    if not isinstance(p, Probe) or isinstance(good[0].outcome, Value):
        check_rendering([cast(Value, tried.outcome) for tried in good], findings, forge=False)
