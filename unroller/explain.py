"""A run in plain words, and as plain data."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from unroller.arrays import dtype_name, is_array
from unroller.decide import Decision
from unroller.events import Measured, Output
from unroller.faults import Fault, UnrollerError
from unroller.values import Value
from unroller.workspace import Entry

if TYPE_CHECKING:
    from unroller.run import Run


def explain(run: Run, contributions: bool = True) -> str:
    """What was decided, what each call wrote, what failed, what it cost, and what it contributed."""
    lines = [f"Task {run.problem.task}. Policy {run.executor.policy_name}."]
    asked = run.problem.question or run.problem.prompt
    if asked:
        lines.append(f"Asked: {asked}")
    for event in run.events:
        if isinstance(event, Decision):
            called = ", ".join(str(call) for call in event.calls)
            lines.append(f"step {event.step + 1}: {called}" if called else "then: decode")
        elif isinstance(event, Entry):
            how = "from the memo" if event.hit else f"in {event.seconds * 1e3:.1f} ms"
            lines.append(
                f"    {event.action} wrote {_cut(event.value.words())} ({event.cost}, {how})"
            )
        elif isinstance(event, Measured):
            lines.append(f"    probe {event.name} = {_shown(event.held)} ({event.cost})")
        elif isinstance(event, Fault):
            verb = "was refused" if event.phase == "refused" else f"failed ({event.kind})"
            lines.append(f"    {event.action} {verb}: {event.message}")
        elif event.entry is not None:
            lines.append(f"Output: {_cut(event.entry.value.words())}")
        else:
            lines.append("No output: decoding failed.")
    if told := instructions(run):
        said = "; ".join(f"{name} {', '.join(these)}" for name, these in told.items())
        lines.append(f"Instructions: {said}.")
    lines.append(f"Charged {run.cost}; {run.seconds:.2f} s, {run.spent.hits} memo hits.")
    if run.spent.reading is not None:
        lines.append(f"Read: {run.spent.reading}.")
    if contributions and run.entries and run.output is not None:
        try:
            shares = run.contributions()
        except UnrollerError as error:
            lines.append(f"Contributions could not be measured: {error}")
        else:
            lines.append(f"Contribution of each entry ({shares.note}; leave-one-out, Shapley):")
            for row in shares.rows:
                shapley = "" if row.shapley is None else f", {row.shapley:+.3f}"
                lines.append(f"    {row.action}: {row.leave_one_out:+.3f}{shapley}")
    return "\n".join(lines)


def instructions(run: Run) -> dict[str, list[str]]:
    """Name and version of what a model was told, by the primitive that told it: those called in this run,
    and the decoder. {"text_think": ["think@1"], "spatial": ["answer@1"]}"""
    executor = run.executor
    called = [executor.actions[e.action].primitive for e in run.entries if e.action in executor.actions]
    with suppress(UnrollerError):  # a run may be looked at where nobody could decode it
        called.append(executor.decoder(run.problem.task).primitive)
    told = {one.name: list(one.told_for(run.problem)) for one in called}
    return {name: these for name, these in told.items() if these}


def as_dict(run: Run) -> dict[str, Any]:
    """The run as plain data: arrays appear as their shape and dtype."""
    problem = run.problem
    return {
        "task": problem.task,
        "question": problem.question,
        "prompt": problem.prompt,
        "choices": list(problem.choices),
        "images": [
            image.source or f"{image.size[0]} x {image.size[1]}" for image in problem.images
        ],
        "problem": problem.identity.hex(),
        "run": run.executor.summary(),
        "instructions": instructions(run),
        "output": None if run.output is None else plain(run.output),
        "words": run.output_words,
        "cost": msgspec.to_builtins(run.cost),
        "spent": msgspec.to_builtins(run.spent),
        "seconds": run.seconds,
        "events": [_event(event) for event in run.events],
    }


def _event(event: Any) -> dict[str, Any]:
    if isinstance(event, (Entry, Measured)):
        fields = {
            f: getattr(event, f) for f in event.__struct_fields__ if f not in ("held", "id", "cost")
        }
        held = event.value if isinstance(event, Entry) else event.held
        kind = "entry" if isinstance(event, Entry) else "measured"
        cost = msgspec.to_builtins(event.cost)
        return {"type": kind, "id": event.id.hex(), **fields, "cost": cost, "value": plain(held)}
    if isinstance(event, Output):
        entry = None if event.entry is None else _event(event.entry)
        return {"type": "output", "entry": entry, "seconds": event.seconds}
    builtins: dict[str, Any] = msgspec.to_builtins(event, enc_hook=plain)
    return builtins | (
        {"id": event.id.hex()} if isinstance(event, Fault) else {}
    )


def plain(thing: Any) -> Any:
    """A value, or a part of one, as JSON can hold it."""
    if isinstance(thing, Value):
        fields = {name: plain(getattr(thing, name)) for name in thing.__struct_fields__}
        return {"type": type(thing).__name__, **fields}
    if is_array(thing):
        return {"shape": [int(n) for n in thing.shape], "dtype": dtype_name(thing)}
    if isinstance(thing, (list, tuple)):
        return [plain(item) for item in cast("list[Any]", thing)]
    if isinstance(thing, np.generic):
        return cast("np.generic[Any]", thing).item()
    if thing is None or isinstance(thing, (str, int, float, bool)):
        return thing
    return str(thing)


def _cut(words: str, limit: int = 160) -> str:
    words = " ".join(words.split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def _shown(held: Any) -> str:
    if isinstance(held, (int, float)):
        return f"{held:.4g}"
    return "nothing" if held is None else f"an array of {tuple(held.shape)}"
