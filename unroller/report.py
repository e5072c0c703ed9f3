"""A run as a page: one HTML file that opens offline, with its pictures inside and no script.

The page reads like the run: what was asked, of which pictures, what was written into the context
step by step, what came out, what each entry contributed, and what it cost. Everything a user or a
model wrote is escaped, and the page's own policy forbids it to load or run anything.
"""

from __future__ import annotations

import json
import math
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unroller.cost import Cost
from unroller.decide import Decision
from unroller.events import Measured
from unroller.explain import instructions
from unroller.faults import Fault
from unroller.pictures import Album
from unroller.problem import Intrinsics, Problem
from unroller.showing import Showing, Shown, described, hue_of
from unroller.values import Answer, Text
from unroller.workspace import Entry

if TYPE_CHECKING:
    from unroller.run import Run


def write_report(run: Run, path: str | Path, *, contributions: bool = True) -> Path:
    """Write the page of a run to `path`, making folders on the way. Returns the path.

    contributions: measure what each entry contributed, which decodes again from up to 64 subsets of
    the context (those the memo does not hold); leave it out where decoding is slow.

    Raises OSError when the file cannot be written. Nothing in a run keeps its page from being
    written: what cannot be shown or measured is replaced by a sentence that says why.
    """
    path = Path(path)
    page = _template().render(_page(run, contributions))
    path.parent.mkdir(parents=True, exist_ok=True)
    # A model may have written half a surrogate pair: UTF-8 has no bytes for it.
    path.write_bytes(page.encode("utf-8", "replace"))
    return path


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages: Any = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(percent=_percent, signed=_signed)
    return pages.get_template("report.html")


def _page(run: Run, measure: bool) -> dict[str, Any]:
    problem = run.problem
    showing = Showing(problem, Album(), run.executor.backends)
    inputs = _inputs(showing)
    output = None if run.output_entry is None else _entry(showing, run, run.output_entry, None)
    entries = [_entry(showing, run, entry, i) for i, entry in enumerate(run.entries)]
    contributions = _contributions(run, measure)
    for row in contributions["rows"]:
        entries[row["index"]]["contribution"] = row
    steps = _steps(run, entries)
    asked = problem.question or problem.prompt
    return {
        "title": f"{problem.task}: {asked or run.output_words}",
        "problem": problem,
        "asked": asked,
        "also": problem.prompt if problem.question and problem.prompt else None,
        "number": run.number,
        "policy": run.executor.policy_name,
        "output": output,
        "headline": _headline(run.output),
        "lost": [_fault(fault) for fault in run.faults if fault.phase == "decode"],
        "stats": _stats(run),
        "inputs": inputs,
        "entries": entries,
        "steps": steps,
        "faults": len(run.faults),
        "contributions": contributions,
        "costs": _costs(run),
        "facts": _facts(run),
        "metadata": _metadata(problem),
    }


# ------------------------------------------------------------------------------------------- header


def _headline(value: Any) -> str | None:
    """The output in a few words, to be set in large; None where it is no short text."""
    short = isinstance(value, (Answer, Text)) and len(value.text) <= 80
    return value.text if short else None


def _stats(run: Run) -> list[tuple[str, str, str]]:
    """(what, how much, more about it)."""
    cost, spent = run.cost, run.spent
    calls = f"{cost.model_calls} model call{'' if cost.model_calls == 1 else 's'}"
    more = [f"{cost.tokens:,} tokens"] if cost.tokens else []
    more += [f"${cost.price:.4f}"] if cost.price else []
    steps = len(run.decisions)
    stats = [
        ("Charged", calls, ", ".join(more) or "no tokens charged"),
        ("Wall clock", duration(run.seconds), f"{duration(spent.seconds)} inside calls"),
        (
            "Context",
            f"{len(run.entries)} entr{'y' if len(run.entries) == 1 else 'ies'}",
            f"in {steps} step{'' if steps == 1 else 's'}",
        ),
        ("Memo", f"{spent.hits} hit{'' if spent.hits == 1 else 's'}", f"{spent.computed} computed"),
    ]
    if spent.reading is not None:
        read = spent.reading
        more_read = f"{read.reused:,.0f} reused, {read.written:,.0f} written"
        if read.left_out:
            more_read += f", {read.left_out:.3g} pictures left out"
        stats.append(("Read", f"{read.prefilled:,.0f} tokens", more_read))
    if run.faults:
        kinds = ", ".join(dict.fromkeys(fault.kind for fault in run.faults))
        count = len(run.faults)
        stats.append(("Faults", f"{count} fault{'' if count == 1 else 's'}", kinds))
    return stats


def _facts(run: Run) -> list[tuple[str, str]]:
    """Where this came from: enough to run it again."""
    summary = run.executor.summary()
    names = zip(summary["backends"], summary["fingerprints"], strict=True)
    backends = ", ".join(f"{name} ({mark})" if mark else name for name, mark in names)
    budget = ", ".join(f"{what} {limit}" for what, limit in summary["budget"].items())
    versions = [f"unroller {summary['unroller']}", f"Python {platform.python_version()}"]
    for library in ("numpy", "torch"):
        if library in sys.modules:
            versions.append(f"{library} {sys.modules[library].__version__}")
    decoder = run.executor.decoder(run.problem.task).primitive
    told = dict.fromkeys(label for these in instructions(run).values() for label in these)
    facts = [
        ("Policy", summary["policy"]),
        ("Backends", backends or "none"),
        ("Decoder", f"{decoder.name}@{decoder.version}"),
        ("Instructions", ", ".join(told) or "none"),
        ("Budget", budget or "no limit"),
        ("Seed", str(run.problem.seed)),
        ("Versions", ", ".join(versions)),
        ("Problem", run.problem.identity.hex()),
    ]
    if run.number is not None:
        facts.insert(0, ("Journal", f"run {run.number}"))
    return facts


def _metadata(problem: Problem) -> str | None:
    if not problem.metadata:
        return None
    text = json.dumps(problem.metadata, indent=2, ensure_ascii=False, default=str)
    return text if len(text) <= 8_000 else text[:8_000] + "\n… cut"


# ------------------------------------------------------------------------------------------- inputs


def _inputs(showing: Showing) -> dict[str, Any]:
    problem = showing.problem
    photos: list[dict[str, Any]] = []
    for i, image in enumerate(problem.images):
        width, height = image.size
        camera = problem.camera(i)
        known = camera or Intrinsics.default(width, height)
        across = math.degrees(2 * math.atan(width / 2 / known.fx))
        photos.append(
            {
                "picture": showing.album.add(image.pixels, image.valid),
                # The file's name only: a page is passed around, and a path tells who made it where.
                "name": image.source.replace("\\", "/").rsplit("/", 1)[-1],
                "size": f"{width} × {height}",
                "source": known.source,
                "focal": f"f {known.fx:.1f}"
                if abs(known.fx - known.fy) < 0.05
                else f"fx {known.fx:.1f}, fy {known.fy:.1f}",
                "centre": f"c {known.cx:.1f}, {known.cy:.1f}",
                "across": f"{across:.0f}° across",
            }
        )
    wanted = None if problem.pose is None else showing.show(problem.pose)
    return {"photos": photos, "pose": wanted, "look": problem.look}


# ---------------------------------------------------------------------------------------- unrolling


def _entry(showing: Showing, run: Run, entry: Entry, index: int | None) -> dict[str, Any]:
    """An entry of the context, or with `index` None the output's."""
    try:
        shown: Shown = showing.show(entry.value)
    except Exception as error:  # a value on disk that is gone or damaged
        trouble = f"The value cannot be read: {error}"
        shown = {"as": "fields", "type": entry.kind.__name__, "hue": hue_of(entry.kind), "fields": []}
        shown |= {"words": "", "trouble": trouble}
    return {
        "index": index,
        "action": entry.action,
        "value": shown,
        "read": _read(run, entry, index),
        "cost": charged(entry.cost),
        "seconds": "memo" if entry.hit else duration(entry.seconds),
        "batch": entry.batch,
        "hit": entry.hit,
        "draw": entry.draw,
        "id": entry.id.hex(),
        "contribution": None,
        "inherited": not any(event is entry for event in run.events) and index is not None,
    }


def _read(run: Run, entry: Entry, index: int | None) -> dict[str, Any] | None:
    """What its declaration let a call read: fields of x, and entries of C by their index."""
    if index is None:
        primitive = run.executor.decoder(run.problem.task).primitive
    else:
        action = run.executor.actions.get(entry.action)
        if action is None:  # a forked run may have been made by an executor with other primitives
            return None
        primitive = action.primitive
    entries = run.entries
    visible = len(entries) if index is None else index
    while index is not None and visible and entries[visible - 1].step == entry.step:
        visible -= 1  # calls of one decision run side by side and do not see each other
    read = [i for i in range(visible) if issubclass(entries[i].kind, primitive.kinds)]
    fields = [field for field in primitive.fields if _given(run.problem, field)]
    return {"fields": fields, "entries": read, "kinds": [kind.__name__ for kind in primitive.kinds]}


def _given(problem: Problem, field: str) -> bool:
    held = getattr(problem, field)
    return held is not None and held != () and held != {}


def _steps(run: Run, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The unrolling in order: each step a decision, what it was based on, what it wrote, what
    failed."""
    steps: list[dict[str, Any]] = []
    inherited = [entry for entry in entries if entry["inherited"]]
    if inherited:
        steps.append(
            _step("inherited", None, "from the run that this one was forked from", inherited, [], [])
        )
    own = [(e, shown) for e, shown in zip(run.entries, entries, strict=True) if not shown["inherited"]]
    for event in run.events:
        if not isinstance(event, Decision):
            continue
        probes = [_measured(run, m) for m in run.measured if m.step == event.step]
        faults = [_fault(f) for f in run.faults if f.step == event.step and f.phase != "decode"]
        stop = not event.calls
        steps.append(
            _step(
                "stop" if stop else "step",
                event.step + 1,
                ", ".join(str(call) for call in event.calls),
                [] if stop else [shown for e, shown in own if e.step == event.step],
                faults,
                probes,
                event.log_probability,
            )
        )
    return steps


def _step(
    kind: str,
    number: int | None,
    calls: str,
    entries: list[dict[str, Any]],
    faults: list[dict[str, Any]],
    probes: list[dict[str, Any]],
    log_probability: float | None = None,
) -> dict[str, Any]:
    chance = None
    if log_probability is not None:
        chance = f"log p = {_signed(log_probability)} (p = {math.exp(min(log_probability, 0.0)):.2g})"
    return {
        "kind": kind,
        "number": number,
        "calls": calls,
        "entries": entries,
        "faults": faults,
        "probes": probes,
        "chance": chance,
    }


def _measured(run: Run, measured: Measured) -> dict[str, Any]:
    held = measured.held
    value = f"{held:.4g}" if isinstance(held, (int, float)) else described(held)
    return {"name": measured.name, "value": value, "cost": charged(measured.cost)}


_PHASES = {
    "call": "the call failed",
    "decode": "the decoder failed",
    "decide": "the policy failed",
    "probe": "a probe failed",
    "refused": "refused, and not called",
}


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "action": fault.action,
        "kind": fault.kind,
        "message": fault.message,
        "phase": fault.phase,
        "what": _PHASES.get(fault.phase, fault.phase),
        "attempts": fault.attempts,
        "seconds": duration(fault.seconds) if fault.seconds else "",
        "id": fault.id.hex(),
    }


# ---------------------------------------------------------------------------- contribution and cost


def _contributions(run: Run, measure: bool) -> dict[str, Any]:
    """Rows with bars, or a sentence that says why there are none."""
    none: dict[str, Any] = {"rows": [], "note": ""}
    if not run.entries:
        return none | {"why": "The context is empty: the output rests on the inputs alone."}
    if not measure:
        return none | {"why": "Contributions were not measured."}
    try:
        found = run.contributions()
        rows = list(found.rows)
        largest = max(
            [abs(v) for r in rows for v in (r.leave_one_out, r.shapley) if v is not None], default=0.0
        )
        scale = largest or 1.0
        negative = any((v or 0) < 0 for r in rows for v in (r.leave_one_out, r.shapley))
        shown = [
            {
                "index": row.entry_index,
                "action": row.action,
                "leave_one_out": _bar(row.leave_one_out, scale, negative),
                "shapley": None if row.shapley is None else _bar(row.shapley, scale, negative),
            }
            for row in rows
        ]
        return {
            "rows": shown,
            "note": found.note,
            "why": "",
            "middle": negative,
            "shapley": any(row.shapley is not None for row in rows),
        }
    except Exception as error:  # an extra decoding may fail in any way that a plug-in can
        return none | {"why": f"Contributions could not be measured: {error}"}


def _bar(value: float, scale: float, negative: bool) -> dict[str, Any]:
    """A bar from zero, in percent of its track; with negative ones about, zero is in the middle."""
    half = 50 if negative else 100
    length = min(abs(value) / scale, 1.0) * half
    left = (50 - length if value < 0 else 50) if negative else 0
    return {"value": value, "left": f"{left:.2f}", "width": f"{length:.2f}", "below": value < 0}


def _costs(run: Run) -> dict[str, Any]:
    """One row a call in the order of events, the decoder last, with what is left to explain."""
    rows: list[tuple[str, str, Cost, float, bool]] = []
    for event in run.events:
        if isinstance(event, Entry):
            rows.append((event.action, hue_of(event.kind), event.cost, event.seconds, event.hit))
        elif isinstance(event, Fault) and event.phase in ("call", "probe", "decode"):
            rows.append((f"{event.action}, failed", "fault", Cost(), event.seconds, False))
    for name in dict.fromkeys(m.name for m in run.measured):  # in one row: there is one a step
        those = [m for m in run.measured if m.name == name]
        cost = sum((m.cost for m in those), Cost())
        hit = all(m.hit for m in those)
        rows.append((f"probe {name} × {len(those)}", "probe", cost, sum(m.seconds for m in those), hit))
    output = run.output_entry
    if output is not None:
        hue = hue_of(output.kind)
        rows.append((f"decode: {output.action}", hue, output.cost, output.seconds, output.hit))
    rest = run.cost - sum((cost for _, _, cost, _, _ in rows), Cost())
    if rest.model_calls or rest.tokens or abs(rest.price) > 1e-9:
        rows.append(("inherited, or of dropped values", "other", rest, 0.0, False))
    most_calls = max([cost.model_calls for _, _, cost, _, _ in rows], default=0) or 1
    most_tokens = max([cost.tokens for _, _, cost, _, _ in rows], default=0)
    longest = max([seconds for *_, seconds, _ in rows], default=0.0) or 1.0
    return {
        "rows": [
            {
                "name": name,
                "hue": hue,
                "calls": cost.model_calls,
                "calls_width": f"{100 * cost.model_calls / most_calls:.1f}",
                "tokens": cost.tokens,
                "tokens_width": f"{100 * cost.tokens / (most_tokens or 1):.1f}",
                "price": f"${cost.price:.4f}" if cost.price else "",
                "seconds": "memo" if hit else duration(seconds),
                "seconds_width": f"{100 * seconds / longest:.1f}",
            }
            for name, hue, cost, seconds, hit in rows
        ],
        "tokens": most_tokens > 0,
        "prices": any(cost.price for _, _, cost, _, _ in rows),
        "total": {
            "calls": run.cost.model_calls,
            "tokens": run.cost.tokens,
            "price": f"${run.cost.price:.4f}",
            "seconds": duration(run.spent.seconds),
        },
    }


# ------------------------------------------------------------------------------------------ numbers


def duration(seconds: float) -> str:
    """Seconds as people say them: "0.4 ms", "230 ms", "3.2 s", "2 min 05 s"."""
    if 0 < seconds < 5e-5:
        return "< 0.1 ms"
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def charged(cost: Cost) -> str:
    """A charged cost in words; nothing at all is "free"."""
    return "free" if cost == Cost() else str(cost)


def _percent(p: float) -> str:
    return f"{p:.0%}" if 0.1 <= p <= 0.9 or p in (0, 1) else f"{p:.1%}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if abs(value) >= 5e-4 else "0"
