"""Recorded runs as rows: for the table of `unroller runs list`, and for JSON."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich import box
from rich.table import Table

from unroller.cli.terminal import line, one_line
from unroller.cli.words import charged, counted, output_of, title, total_cost, value_words
from unroller.decide import Decision
from unroller.explain import plain
from unroller.faults import Fault, UnrollerError
from unroller.journal import Log, RecordedRun
from unroller.values import Value
from unroller.workspace import Entry, Stored


def rows_of(place: Path, log: Log) -> list[dict[str, Any]]:
    """One row a run of a journal; one that says so where it holds none."""
    rows: list[dict[str, Any]] = []
    for run in log.runs:
        try:
            rows.append(row_of(place, log, run))
        except UnrollerError as error:  # its pictures or arrays are gone: the other runs are whole
            rows.append(damaged(place, error) | {"run": run.number, "started": _started(log)})
    return rows or [{"folder": str(place), "state": "empty", "started": _started(log)}]


def damaged(place: Path, error: Exception) -> dict[str, Any]:
    """The row of a run that cannot be read, with the reason."""
    why = str(error) if isinstance(error, UnrollerError) else f"{type(error).__name__}: {error}"
    return {"folder": str(place), "state": "damaged", "why": why}


def row_of(place: Path, log: Log, run: RecordedRun) -> dict[str, Any]:
    """A run in a row: what was asked, how far it came, what it cost."""
    entry = output_of(run.events)
    state = "unfinished" if not run.ended else "done" if entry is not None else "no output"
    return {
        "folder": str(place),
        "run": run.number,
        "started": _started(log),
        "asked": title(run.problem),
        "task": run.problem.task,
        "policy": str((log.sessions[-1].setup if log.sessions else {}).get("policy", "")),
        "steps": sum(isinstance(e, Decision) and bool(e.calls) for e in run.events),
        "faults": sum(isinstance(e, Fault) for e in run.events),
        "cost": charged(total_cost(run.events)),
        "state": state,
        "output": None if entry is None else value_words(entry.value, 120),
    }


def _started(log: Log) -> str | None:
    if not log.sessions:
        return None
    return datetime.fromtimestamp(log.sessions[0].started).isoformat(" ", "seconds")


def plain_events(run: RecordedRun) -> list[dict[str, Any]]:
    """The events of a run as plain data, in the form of `Run.to_dict()["events"]`."""
    return [{"type": type(event).__name__.lower()} | _fields(event) for event in run.events]


def _fields(event: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in event.__struct_fields__:
        fields["value" if name == "held" else name] = _plain(getattr(event, name))
    return fields


def _plain(thing: Any) -> Any:
    if isinstance(thing, bytes):
        return thing.hex()
    if isinstance(thing, Entry):
        return {"type": "entry"} | _fields(thing)
    if isinstance(thing, Stored):
        thing = thing.load()
    return plain(thing) if isinstance(thing, Value) else msgspec.to_builtins(thing, enc_hook=plain)


def table_of(rows: list[dict[str, Any]], width: int) -> Any:

    styles = {"done": "green", "unfinished": "yellow", "no output": "yellow", "damaged": "red"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    roomy = width >= 120
    table.add_column("run", no_wrap=True, style="bold")
    table.add_column("asked", no_wrap=True, max_width=40 if roomy else 18)
    if roomy:
        table.add_column("policy", no_wrap=True, max_width=16)
        table.add_column("steps", no_wrap=True)
        table.add_column("charged", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("output", no_wrap=True, overflow="ellipsis", width=_rest(rows, width, roomy))
    several = len({row["folder"] for row in rows}) < len(rows)
    for row in rows:
        name = Path(row["folder"]).name + (f" #{row['run']}" if several and "run" in row else "")
        faults = f", {counted(row['faults'], 'fault')}" if row.get("faults") else ""
        cells = [line(name), line(row.get("asked", ""))]
        if roomy:
            cells += [line(row.get("policy", "")), line(f"{row.get('steps', '')}{faults}")]
            cells += [line(row.get("cost", ""))]
        words = one_line(row.get("output") or row.get("why") or "", 200)
        table.add_row(*cells, line(row["state"], styles.get(row["state"], "dim")), line(words))
    return table


def _rest(rows: list[dict[str, Any]], width: int, roomy: bool) -> int:
    """What the other columns leave for the output: their widths and three blanks between each two."""
    names = max(len(Path(row["folder"]).name) + (3 if row.get("run") else 0) for row in rows)
    asked = min(40 if roomy else 18, max(len(row.get("asked", "")) for row in rows))
    return max(12, width - names - asked - len("unfinished") - 9 - (48 if roomy else 0))
