"""Timing that can be trusted on a noisy machine, and results that can be read later.

Contenders are *interleaved*: each round runs every contender once, in a rotated order, so a slow
minute of the machine falls on all of them. A figure is the median over rounds, beside its minimum
and its spread; a ratio is the median of the ratios *within* a round, which is steadier than the
ratio of two medians. Input is made fresh outside the clock; the garbage collector stays on, because
its work is part of what a library costs, but the heap that imports left behind is frozen so that
nobody pays for another library's size.

Both clocks are read: *wall*, and *cpu*, the processor time of this process. Where nothing waits,
cpu is what wall would be if nobody else used the machine, so it is the one to go by; where the disk
is part of the cost it is wall. A race says which, and the other is kept beside it.

Nothing here fails a build: a missed target is printed and written down, and the exit code stays 0.

    python benchmarks/measure.py      # the targets of all results so far, as a Markdown table
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
OURS = "unroller"
"""The contender that the others are compared with."""

console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work.

    ``run`` is timed and called with what ``fresh`` made, untimed. One call does ``units`` units of
    work (steps, or runs), which the time is divided by. ``check(input, output)`` raises if the work
    was not done; it is called once a round, untimed. ``repeat`` fixes how many calls are timed
    together; by default as many as fill ``Race.pass_s``.
    """

    name: str
    run: Callable[[Any], Any]
    fresh: Callable[[], Any] = lambda: None
    units: int = 1
    check: Callable[[Any, Any], None] | None = None
    repeat: int | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per unit of one contender, one figure a round, rounds in order.

    ``beside``: the same by the clock that the race did not go by.
    """

    name: str
    rounds: tuple[float, ...]
    beside: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def minimum(self) -> float:
        return min(self.rounds)

    @property
    def spread(self) -> float:
        """Interquartile range as a share of the median; nan for fewer than three rounds."""
        if len(self.rounds) < 3:
            return float("nan")
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / self.median

    def times(self, other: Timing) -> float:
        """How many times as long as ``other`` this took: the median of the rounds' ratios."""
        return statistics.median(a / b for a, b in zip(self.rounds, other.rounds, strict=True))

    def as_data(self, scale: float = 1e6) -> dict[str, Any]:
        """For JSON; ``scale`` turns seconds into the unit of the result (microseconds)."""
        return {
            "median": self.median * scale,
            "min": self.minimum * scale,
            "spread": None if len(self.rounds) < 3 else self.spread,
            "rounds": [value * scale for value in self.rounds],
            "other_clock_median": statistics.median(self.beside) * scale if self.beside else None,
        }


@dataclass(frozen=True, slots=True)
class Race:
    """How long to measure: ``rounds`` rounds, or fewer (at least three) once ``seconds`` are up.

    A contender repeats its call until one pass takes about ``pass_s`` seconds, and at most
    ``max_repeat`` times. ``clock`` is "cpu" where nothing waits and "wall" where the disk counts.
    """

    rounds: int = 15
    seconds: float = 60.0
    clock: Literal["cpu", "wall"] = "cpu"
    pass_s: float = 0.03
    max_repeat: int = 2_000

    def __call__(self, contenders: Sequence[Contender]) -> dict[str, Timing]:
        """Measure ``contenders`` side by side; the result keeps their order."""
        repeats = [self._warm_up(contender) for contender in contenders]
        times: list[list[tuple[float, float]]] = [[] for _ in contenders]
        gc.collect()
        gc.freeze()
        deadline = time.perf_counter() + self.seconds
        try:
            for turn in range(self.rounds):
                for place in range(len(contenders)):
                    i = (place + turn) % len(contenders)
                    times[i].append(_timed_pass(contenders[i], repeats[i]))
                if turn >= 2 and time.perf_counter() > deadline:
                    break
        finally:
            gc.unfreeze()
        timings = {}
        for contender, passes in zip(contenders, times, strict=True):
            cpu, wall = zip(*passes, strict=True)
            clocks = (cpu, wall) if self.clock == "cpu" else (wall, cpu)
            timings[contender.name] = Timing(contender.name, *clocks)
        return timings

    def _warm_up(self, contender: Contender) -> int:
        """Run once for caches and lazy imports, then choose how often to repeat."""
        _timed_pass(contender, 1)
        if contender.repeat is not None:
            return contender.repeat
        once = min(_timed_pass(contender, 1)[1] for _ in range(2)) * contender.units
        return max(1, min(self.max_repeat, round(self.pass_s / once)))


def _timed_pass(contender: Contender, repeat: int) -> tuple[float, float]:
    """Seconds per unit over ``repeat`` calls on fresh input, by both clocks: (cpu, wall)."""
    inputs = [contender.fresh() for _ in range(repeat)]
    run, output = contender.run, None
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    for value in inputs:
        output = run(value)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if contender.check is not None:
        contender.check(inputs[-1], output)
    units = repeat * contender.units
    return cpu / units, wall / units


# What is written down ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """A promise and what was measured for it. ``measured`` is None when it could not be."""

    what: str
    limit: float
    measured: float | None
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        good = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return bool(good)

    def as_data(self) -> dict[str, Any]:
        bound = f"{'>=' if self.at_least else '<='} {self.limit:g}"
        return {
            "what": self.what,
            "target": f"{bound} {self.unit}".strip(),
            "measured": self.measured,
            "met": self.met,
        }


@dataclass(slots=True)
class Report:
    """What one script found: sections of named rows, targets, remarks. Printed and kept as JSON."""

    name: str
    title: str
    quick: bool = False
    sections: dict[str, Any] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    _begin: float = field(default_factory=time.perf_counter)
    _load: float = field(default_factory=lambda: os.getloadavg()[0])

    def section(
        self,
        key: str,
        title: str,
        timings: dict[str, Timing],
        unit: str = "us/step",
        clock: Literal["cpu", "wall"] = "cpu",
    ) -> None:
        """Keep and print one race. ``unit`` is ``us/…``, ``ms/…``, or ``runs/s`` (inverse)."""
        per_second = unit.endswith("/s")
        scale = {"us": 1e6, "ms": 1e3, "s": 1.0}.get(unit.split("/", maxsplit=1)[0], 1.0)
        ours = timings.get(OURS)
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("")
        other = "wall" if clock == "cpu" else "cpu"
        for column in (f"{unit} {clock}", "best", "spread", other, f"times {OURS}"):
            table.add_column(column, justify="right")
        rows = {}
        for name, timing in timings.items():
            ratio = timing.times(ours) if ours is not None else None
            rows[name] = {**timing.as_data(scale), "times_unroller": ratio}
            shown = [timing.median, timing.minimum, statistics.median(timing.beside)]
            if per_second:
                rows[name]["per_second"] = 1.0 / timing.median
                shown = [1.0 / value for value in shown]
            else:
                shown = [value * scale for value in shown]
            table.add_row(
                f"[bold]{name}[/]" if name == OURS else name,
                *map(significant, shown[:2]),
                "-" if len(timing.rounds) < 3 else f"{timing.spread:.0%}",
                f"[dim]{significant(shown[2])}[/]",
                "-" if ratio is None else significant(ratio),
            )
        self.sections[key] = {"title": title, "unit": unit, "clock": clock, "rows": rows}
        console.print(table)

    def facts(self, key: str, title: str, rows: dict[str, dict[str, Any]]) -> None:
        """Keep and print rows that are not timings: one dict of columns for each name."""
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("")
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        for column in columns:
            table.add_column(column, justify="right")
        for name, row in rows.items():
            table.add_row(
                f"[bold]{name}[/]" if name == OURS else name,
                *(_shown(row.get(column)) for column in columns),
            )
        self.sections[key] = {"title": title, "rows": rows}
        console.print(table)

    def target(self, *args: Any, **kwargs: Any) -> None:
        """Add a ``Target``."""
        self.targets.append(Target(*args, **kwargs))

    def remark(self, text: str) -> None:
        """Something a reader of the numbers has to know."""
        self.remarks.append(text)
        console.print(f"[dim]{text}[/]")

    def finish(self, path: Path | None, packages: Iterable[str]) -> None:
        """Print the targets and write the JSON (default ``results/<name>.json``)."""
        if self.targets:
            table = Table(title="Targets", title_justify="left", title_style="bold")
            for column in ("", "target", "measured", ""):
                table.add_column(column, justify="right" if column in ("target",) else "left")
            for target in self.targets:
                data = target.as_data()
                table.add_row(
                    target.what,
                    data["target"],
                    _shown(target.measured),
                    {True: "[green]met[/]", False: "[red]missed[/]", None: "not measured"}[target.met],
                )
            console.print(table)
        suffix = "-quick" if self.quick else ""
        path = path or RESULTS / f"{self.name}{suffix}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {
            "name": self.name,
            "title": self.title,
            "quick": self.quick,
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "took_s": round(time.perf_counter() - self._begin, 1),
            "machine": machine() | {"load_before": self._load, "load_after": os.getloadavg()[0]},
            "versions": versions(packages),
            "targets": [target.as_data() for target in self.targets],
            "remarks": self.remarks,
            "sections": self.sections,
        }
        path.write_text(json.dumps(_rounded(data), indent=1, allow_nan=False) + "\n")
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        console.print(f"[dim]written to {shown} after {data['took_s']} s[/]")


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system and interpreter, as far as this system tells."""
    cpu = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError, AttributeError):
        memory = float("nan")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1) if memory == memory else None,
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each distribution; None where it is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def filesystem(folder: Path) -> str:
    """Type of the file system that holds ``folder``, such as ``ext4``; ``unknown`` elsewhere."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    inside = [m for m in mounts if folder.resolve().is_relative_to(m[1])]
    return max(inside, key=lambda m: len(m[1]))[2] if inside else "unknown"


def bytes_in(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def arguments(doc: str | None) -> argparse.Namespace:
    """The two options that every script has: ``--quick`` and ``--json PATH``."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 30 s; noisier figures")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where to write the result")
    return parser.parse_args()


def significant(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits, never in scientific notation."""
    if value != value:
        return "-"
    if value == 0:
        return "0"
    decimals = digits - 1
    magnitude = abs(value)
    while magnitude >= 10 and decimals > 0:
        magnitude, decimals = magnitude / 10, decimals - 1
    while magnitude < 1 and decimals < 9:
        magnitude, decimals = magnitude * 10, decimals + 1
    return f"{value:,.{decimals}f}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return significant(value) if isinstance(value, float) else str(value)


def _rounded(data: Any) -> Any:
    """Floats to five significant digits, nan to null: the noise is larger than that."""
    if isinstance(data, float):
        return None if data != data else float(f"{data:.5g}")
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_rounded(value) for value in data]
    return data


def targets_as_markdown(folder: Path = RESULTS) -> str:
    """One row for each target in the full results of ``folder``."""
    lines = ["| | target | measured | |", "|---|---|---|---|"]
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        if result.get("quick", True):  # geometry has no targets
            continue
        for target in result["targets"]:
            met = {True: "met", False: "missed", None: "not measured"}[target["met"]]
            measured = _shown(target["measured"])
            what = f"{result['name']}: {target['what']}"
            lines.append(f"| {what} | {target['target']} | {measured} | {met} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(targets_as_markdown())
