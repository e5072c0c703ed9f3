"""Checks of value types, and of what any value must do: come back from the journal, and read well."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from unroller.arrays import is_array
from unroller.check.comparing import differs
from unroller.check.findings import Findings
from unroller.check.samples import FORGED, NoExample, example, unseen_arrays
from unroller.codec import BlobStore, Codec
from unroller.rendering import ImageSegment, TextSegment, TokenSegment
from unroller.values import CameraPose, Text, Value, array_fields


def check_value(kind: type[Value], findings: Findings, *, given: Iterable[Value] = ()) -> None:
    """Every check of a value type, on `given` values or on its examples."""
    _check_type(kind, findings)
    several = list(given)
    if not several:
        try:
            several = [example(kind, None, n) for n in range(2)]
        except NoExample as error:
            mend = "give the type `@classmethod def example(cls)` that returns a value of it"
            findings.fail("example", str(error), mend)
            return
    _check_arrays(several[0], findings)
    with tempfile.TemporaryDirectory() as folder:
        for value in several:
            fault = journal_fault(value, Path(folder))
            if fault is not None:
                mend = (
                    "fields hold plain data, arrays (annotated unroller.arrays.Array), or other structs,"
                    " annotated with their types; `__post_init__` must accept what it was made from"
                )
                findings.fail("journal", fault, mend)
                break
    findings.settle("journal", "comes back equal")
    check_rendering(several, findings)
    _check_difference(several, findings)
    _check_composition(several[0], findings)


def _check_type(kind: type[Value], findings: Findings) -> None:
    if not (kind.__doc__ or "").strip() or kind.__doc__ == Value.__doc__:
        mend = "say what it holds: units, frame and convention"
        findings.warn("declaration", "it has no docstring", mend)
    if not kind.__struct_config__.frozen:
        mend = "leave frozen=False out: workspaces share values, so they must not change"
        findings.fail("declaration", "its fields can be assigned to", mend)
    if not kind.__struct_config__.tag:
        mend = "leave tag=… out: the journal finds the type by its name"
        findings.fail("declaration", "it has no tag to be found by when it is read back", mend)
    if kind.composes not in ("append", "replace"):
        mend = 'composes is "append" or "replace"'
        findings.fail("declaration", f"it composes by {kind.composes!r}", mend)
    mutable = [
        f.name for f in msgspec.structs.fields(kind) if f.type in (list, dict, set) or _built_of(f.type)
    ]
    if mutable:
        mend = "use a tuple: what a list holds could change after the value was composed"
        findings.warn("declaration", f"its field {mutable[0]!r} can change in place", mend)
    if _twins(kind):
        mend = f"call it something else: the journal finds types by name, and {kind.__name__} is taken"
        findings.fail("declaration", f"another Value type is called {kind.__name__} too", mend)
    fields = ", ".join(f.name for f in msgspec.structs.fields(kind)) or "nothing"
    findings.settle("declaration", f"holds {fields}; composes by {kind.composes}")


def _built_of(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) in (list, dict, set)


def _twins(kind: type[Value]) -> list[type[Value]]:
    """Other types of this name from elsewhere. A cell or module that was run again does not count."""
    pending: list[type[Value]] = [Value]
    found: list[type[Value]] = []
    while pending:
        one = pending.pop()
        pending.extend(one.__subclasses__())
        places = (one.__module__, one.__qualname__), (kind.__module__, kind.__qualname__)
        if one is not kind and one.__name__ == kind.__name__ and places[0] != places[1]:
            found.append(one)
    return found


def _check_arrays(value: Value, findings: Findings) -> None:
    mend = "annotate it `unroller.arrays.Array`, or `Array | None`: one array a field"
    for name in unseen_arrays(value):
        inside = "" if is_array(getattr(value, name)) else f" inside a {type(getattr(value, name)).__name__}"
        said = f"its field {name!r} holds an array{inside} and is not annotated so: NaN in it goes unseen"
        findings.fail("arrays", said, mend)
    for name in array_fields(type(value)):
        held = getattr(value, name)
        if held is not None and not is_array(held):
            said = f"its field {name!r} is annotated as an array and holds {type(held).__name__}"
            findings.fail("arrays", said, mend)


def _check_difference(several: Sequence[Value], findings: Findings) -> None:
    one, other = several[0], several[-1]
    stranger = Text("another") if not isinstance(one, Text) else CameraPose((0, 0, 0), (0, 0, 0))
    mend = "difference(other) is a number from 0 (the same) to 1, for values of any type"
    for named, another in (("itself", one), ("another value", other), ("another type", stranger)):
        try:
            found: Any = one.difference(another)
            ok = 0 <= float(found) <= 1 + 1e-9
        except Exception as error:
            said = f"the difference to {named} raised {type(error).__name__}: {error}"
            findings.fail("difference", said, mend)
            return
        if not ok or (another is one and found > 1e-6):
            findings.fail("difference", f"the difference to {named} is {found}", mend)
            return
    findings.passed("difference", "0 to itself, within 0..1 to others")


def _check_composition(value: Value, findings: Findings) -> None:
    try:
        hash(value.slot)
    except Exception as error:
        said = f"its slot cannot be compared: {type(error).__name__}: {error}"
        findings.fail("slot", said, "return a number, a word, or a tuple of them")


# ------------------------------------------------------------------------------- what any value must do


def journal_fault(value: Any, folder: Path) -> str | None:
    """Why a value (or a probe's number or array) does not come back equal from the journal, or None."""
    codec = Codec(BlobStore(folder / "blobs"))
    try:
        back = codec.value(codec.encode(value))
    except Exception as error:
        return f"it cannot be written and read back: {type(error).__name__}: {error}"
    found = differs(value, back)
    return None if found is None else f"it comes back different: {found}"


def check_rendering(several: Sequence[Value], findings: Findings, *, forge: bool = True) -> None:
    """Words are words, segments are segments, and no tag can be forged.

    With `forge`, each text field in turn holds a forged tag; without, whatever the values hold is read.
    """
    for value in several:
        for one in (value, *(_forging(value) if forge else ())):
            if not _renders(one, findings, forging=one is not value):
                return
    findings.passed("rendering", f"words and segments, such as: {several[0].words()[:60]}")


def _renders(value: Value, findings: Findings, forging: bool) -> bool:
    try:
        words: Any = value.words()
        segments: Any = value.render()
    except Exception as error:
        said = f"words() or render() raised {type(error).__name__}: {error}"
        findings.fail("rendering", said, "return words, and segments, for every value that can be made")
        return False
    if not isinstance(words, str):
        said = f"words() returned {type(words).__name__}"
        findings.fail("rendering", said, "return a str")
        return False
    kinds = (TextSegment, ImageSegment, TokenSegment)
    if not (isinstance(segments, (tuple, list)) and all(isinstance(s, kinds) for s in _listed(segments))):
        mend = "return a tuple of TextSegment, ImageSegment and TokenSegment (unroller.rendering)"
        findings.fail("rendering", f"render() returned {segments!r:.60}", mend)
        return False
    for segment in _listed(segments):
        text: str = segment.text if isinstance(segment, TextSegment) else segment.words
        forged = "<campose" in text and not isinstance(value, CameraPose)
        if not (forged or FORGED in text or "<|" in text):
            continue
        said = "text in it can forge a tag: " + repr(text[max(0, text.find("<")) :][:60])
        mend = "put text through unroller.rendering.escape before it goes into a segment"
        if not isinstance(segment, TextSegment):
            findings.warn("rendering", f"{said} (in the words of a {type(segment).__name__})", mend)
            return False
        findings.fail("rendering", said, mend)
        return False
    if not segments and not forging:
        findings.warn("rendering", "render() gave no segment: no model sees this value", "render its words")
        return False
    return True


def _listed(segments: Any) -> list[Any]:
    return list(cast("Sequence[Any]", segments))


def _forging(value: Value) -> list[Value]:
    """The value with forged tags in those of its text fields that take any text."""
    out: list[Value] = []
    for name in value.__struct_fields__:
        if isinstance(getattr(value, name), str):
            try:
                out.append(msgspec.structs.replace(value, **{name: FORGED}))
            except Exception:
                continue  # it checks that field: no forging there
    return out
