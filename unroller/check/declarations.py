"""Checks of what a primitive declares, before it is called: name, parameters, cost, version, `applies`."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from unroller.actions import Action, bind
from unroller.capabilities import TextGenerator
from unroller.check.findings import Findings, named
from unroller.check.samples import Sample
from unroller.cost import FREE, Cost
from unroller.declare import FIELDS_READ, Decoder, NoParameters, Primitive, Probe
from unroller.faults import UnrollerError
from unroller.values import Value

TASK = re.compile(r"[a-z][a-z0-9_]{0,63}")


def bound(p: Primitive, findings: Findings, backends: Sequence[Any]) -> list[Action]:
    """The primitive's actions: bare, and one a preset. Reports what does not bind."""
    actions: list[Action] = []
    for preset in (None, *p.presets):
        what = f"the preset {preset!r}" if preset else "the call without a preset"
        try:
            actions.append(bind(p, backends, preset=preset))
        except UnrollerError as error:
            mend = (
                f"mend the preset, or the parameters model {p.parameters.__name__}"
                if preset
                else f"give every field of {p.parameters.__name__} a default: a primitive can always be"
                " called by its bare name"
            )
            if "no chosen backend provides" in str(error):
                mend = "pass a backend that does: backends=[…]"
            findings.fail("declaration", f"{what} cannot be bound: {error}", mend)
        except Exception as error:
            said = f"{what} cannot be bound: {type(error).__name__}: {error}"
            mend = "`cost` takes the parameters and returns a Cost; parameters are plain JSON data"
            findings.fail("declaration", said, mend)
    return [] if findings.failures else actions


def check_declaration(p: Primitive, findings: Findings) -> None:
    if not (p.__doc__ or "").strip():
        mend = "say in one sentence what it adds to the context: people and language models read it"
        findings.warn("declaration", "it has no docstring", mend)
    _check_parameters(p, findings)
    _check_cost_bound(p, findings)
    _check_version(p, findings)
    if isinstance(p, Decoder) and not TASK.fullmatch(p.task):
        mend = "use lower-case letters, digits and _"
        findings.fail("declaration", f"no problem can have the task {p.task!r}", mend)
    if not (p.fields or p.kinds or isinstance(p, Probe)):
        findings.warn(
            "declaration",
            "it reads nothing, so it gives the same value for every problem",
            'declare what it reads: reads=("images", Text)',
        )
    declared = [*p.fields, *(kind.__name__ for kind in p.kinds)]
    reads = "everything" if reads_all(p) else ", ".join(declared) or "nothing"
    writes = getattr(p.writes, "__name__", str(p.writes))
    findings.settle("declaration", f"reads {reads}; writes {writes}")


def reads_all(p: Primitive) -> bool:
    return set(p.fields) == set(FIELDS_READ) and Value in p.kinds


def _check_parameters(p: Primitive, findings: Findings) -> None:
    model: Any = p.parameters
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        mend = "declare parameters=… as a pydantic model"
        findings.fail("declaration", f"its parameters are {model!r}, no pydantic model", mend)
    elif model is not NoParameters and model.model_config.get("extra") != "forbid":
        findings.warn(
            "declaration",
            f"{model.__name__} ignores a misspelt parameter in silence",
            'model_config = ConfigDict(frozen=True, extra="forbid")',
        )


def _check_cost_bound(p: Primitive, findings: Findings) -> None:
    for preset in (None, *p.presets):
        try:
            cost: Any = p.cost
            if not isinstance(cost, Cost):
                cost = cost(p.parameters(**(p.presets[preset] if preset else {})))
        except Exception:
            return  # said when it was bound
        named = f"its cost with the preset {preset!r}" if preset else "its cost"
        if not isinstance(cost, Cost):
            said = f"{named} is {cost!r}, no Cost"
            findings.fail("cost", said, "return Cost(model_calls=…, tokens=…, price=…)")
            return
        amounts = (cost.model_calls, cost.tokens, cost.price)
        if not all(amount >= 0 and math.isfinite(amount) for amount in amounts):
            mend = "a bound is finite and not below 0"
            findings.fail("cost", f"{named} is {cost}", mend)
            return
        if p.needs and cost == FREE:
            asked = ", ".join(kind.__name__ for kind in p.needs)
            findings.warn(
                "cost",
                f"it asks for {asked} and declares that it costs nothing, so no budget holds it back",
                "cost=Cost(model_calls=1), the most that one sample may be charged",
            )
            return
        if TextGenerator in p.needs and not cost.tokens:
            findings.warn(
                "cost",
                "it generates text, and its cost counts no tokens",
                "cost=lambda p: Cost(model_calls=1, tokens=p.max_tokens), and in the call"
                " view.charge(model_calls=1, tokens=generation.tokens)",
            )
            return


def _check_version(p: Primitive, findings: Findings) -> None:
    """The version stands for the code; these are the cases in which it cannot."""
    if getattr(p, "_version", None) is not None:
        return
    code = getattr(p.function, "__code__", None)
    if code is None:
        said = f"its function is a {type(p.function).__name__}, whose source cannot be read"
        mend = 'pass version="1", and raise it when the code changes'
        findings.warn("version", said, mend)
        return
    held: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, p.function.__closure__ or (), strict=True):
        try:
            held[name] = cell.cell_contents
        except ValueError:
            continue  # not filled yet
    data = [name for name, thing in held.items() if not isinstance(thing, _CODE)]
    if data:
        findings.warn(
            "version",
            f"it closes over {', '.join(data)}, which its version does not see: two of them with the"
            " same name would answer for each other in the memo",
            f'make it a parameter, or pass version=f"{{{data[0]}}}"',
        )


_CODE = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)


def applicable(p: Primitive, tried_with: list[Sample], findings: Findings) -> list[Sample]:
    """The samples that `applies` lets through. Reports an `applies` that raises or says yes or no."""
    if p.applies is None:
        return tried_with
    kept: list[Sample] = []
    reasons: list[str] = []
    mend = "return None if it can be called, else the reason why not, as words; never raise"
    for sample in tried_with:
        try:
            reason: Any = p.applies(sample.fresh()[0])
        except Exception as error:
            said = f"`applies` raised {named(error)} on {sample.label}"
            findings.fail("applies", said, mend)
            return tried_with
        if reason is not None and not isinstance(reason, str):
            findings.fail("applies", f"`applies` returned {reason!r} for {sample.label}", mend)
            return tried_with
        if reason is None:
            kept.append(sample)
        else:
            reasons.append(reason)
    said = f"refuses {len(reasons)} of {len(tried_with)} samples"
    findings.settle("applies", said + (f", such as: {reasons[0]}" if reasons else ""))
    return kept
