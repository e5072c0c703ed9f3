"""What does a step cost when it must survive a killed process, and what does it leave on disk?

Small texts first: each step is on disk before the next one begins. Then four steps that each write
a tensor of 12 MiB: how long it takes, and how many bytes the disk holds for each byte of tensor.

``fsync`` at each commit protects against a power cut; an append that is flushed protects against a
killed process. Both kinds are here, and the names say which.

    python benchmarks/journal.py [--quick] [--json PATH]

Set TMPDIR to measure another disk.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import neighbours
import ours
from measure import OURS, Contender, Race, Report, arguments, bytes_in, filesystem
from task import expect, starts, successor, tensor

TENSORS = 4
FAIR = neighbours.LangGraphSqliteRelaxed.name


def main() -> None:
    options = arguments(__doc__)
    report = Report("journal", "Each step on disk", options.quick)
    here, absent = neighbours.present(neighbours.PERSISTERS)
    for sentence in absent + ours.absent():
        report.remark(sentence)
    with tempfile.TemporaryDirectory(prefix="unroller-journal-") as temporary:
        folder = Path(temporary)
        report.remark(f"journals lie in {folder.parent} ({filesystem(folder)})")

        four = _texts(report, here, folder, 4, _race(5, 4) if options.quick else _race(25, 50))
        many = _texts(report, here, folder, 64, _race(3, 4) if options.quick else _race(9, 30))
        _resume(report, here, folder, 5 if options.quick else 15)
        tensors = _tensors(report, here, folder, 3 if options.quick else 5)

    if OURS in four:
        report.target("4 steps, journaled", 15, four[OURS].median * 1e6, "us/step")
        report.target("64 steps, journaled", 15, many[OURS].median * 1e6, "us/step")
        for name in (neighbours.LangGraphSqlite.name, FAIR):
            if name in four:
                times = four[name].times(four[OURS])
                report.target(f"4 steps: below {name}", 100, times, "times", at_least=True)
    if OURS in tensors:
        report.target("disk for a byte of tensor", 1.1, tensors[OURS]["bytes/byte"], "bytes")
    report.finish(options.json, neighbours.packages(here) + ours.PACKAGES)


_race = partial(Race, clock="wall")


def _texts(report: Report, here: list, folder: Path, n: int, race: Race) -> dict:
    """Race over ``n`` small steps; also what a step leaves on disk."""
    check = partial(_check, n)
    contenders, places = [], {}
    for neighbour in (neighbours.PLAIN, *here):
        places[neighbour.name] = place = _subfolder(folder)
        run = neighbour.persisted(n, successor, place)
        contenders.append(Contender(neighbour.name, run, starts, n, check))
    place = _subfolder(folder)
    contenders += ours.persisted_steps(n, place)
    places |= {name: place / durability for name, durability in ours.JOURNALS.items()}
    counted = [_counting(contender) for contender in contenders]
    timings = race([contender for contender, _ in counted])
    for place in places.values():
        neighbours.settle(place)
    report.section(
        f"text, {n} steps", f"{n} small steps, each on disk before the next", timings, clock="wall"
    )
    report.facts(
        f"bytes, {n} steps",
        f"{n} small steps: bytes on disk",
        {
            contender.name: {"bytes/step": round(bytes_in(places[contender.name]) / (runs() * n))}
            for contender, runs in counted
        },
    )
    return timings


def _resume(report: Report, here: list, folder: Path, rounds: int) -> None:
    """A run of 64 steps is on disk: how long until another process knows it, or has ended it?"""
    contenders = []
    for neighbour in here:
        if type(neighbour) in (neighbours.LangGraphSqlite, neighbours.BurrSqlite):
            load = neighbour.resumed(64, successor, _subfolder(folder))
            contenders.append(Contender(neighbour.name, lambda _, load=load: load(), units=1))
    contenders += ours.resumed(64, _subfolder(folder))
    timings = _race(rounds, 10)(contenders)
    report.section("resume", "A killed run of 64 steps: open it, know its state", timings, "us/run", "wall")
    if OURS in timings:
        report.target("resume 64 steps", 1000, timings[OURS].median * 1e6, "us")


def _tensors(report: Report, here: list, folder: Path, rounds: int) -> dict[str, dict]:
    """Four steps that write 12 MiB each: time a step, and bytes on disk for a byte of payload."""
    payload = [tensor(12, seed) for seed in range(TENSORS)]
    made: dict[str, Path] = {}

    def contender(name: str, build: Callable[[Path], Callable]) -> Contender:
        def fresh() -> Callable:
            if name in made:
                shutil.rmtree(made[name])
            made[name] = _subfolder(folder)
            return build(made[name])

        return Contender(name, lambda run: run("start"), fresh, TENSORS, repeat=1)

    def think() -> Callable:
        """A step that hands out the next tensor each time it is called."""
        left: Iterator = iter(payload * 1_000)
        return lambda newest: next(left)

    contenders = []
    for neighbour in here:
        if type(neighbour) in (neighbours.LangGraphSqlite, neighbours.LangGraphSqliteRelaxed):
            build = lambda place, nb=neighbour: nb.persisted(TENSORS, think(), place)  # noqa: E731
            contenders.append(contender(neighbour.name, build))
    builders = ours.persisted_tensors(payload)
    contenders += [contender(name, build) for name, build in builders.items()]
    if not contenders:
        return {}
    timings = _race(rounds, 40)(contenders)
    title = f"{TENSORS} steps that write a 12 MiB tensor each"
    report.section("tensors", title, timings, "ms/step", "wall")
    size = sum(array.nbytes for array in payload)
    for place in made.values():
        neighbours.settle(place)
    rows = {
        name: {"MiB": bytes_in(place) / 2**20, "bytes/byte": bytes_in(place) / size}
        for name, place in made.items()
    }
    report.facts("tensors on disk", f"On disk for {size / 2**20:.0f} MiB of tensors", rows)
    if any(isinstance(neighbour, neighbours.BurrSqlite) for neighbour in here):
        report.remark("burr takes no part: its JSON state keeps only str() of an array.")
    return rows


def _check(n: int, start: str, end: str) -> None:
    expect(start, n, end)


def _subfolder(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def _counting(contender: Contender) -> tuple[Contender, Callable[[], int]]:
    """The contender with its inputs counted, and how many there have been."""
    made = 0

    def fresh() -> object:
        nonlocal made
        made += 1
        return contender.fresh()

    counted = Contender(
        contender.name, contender.run, fresh, contender.units, contender.check, contender.repeat
    )
    return counted, lambda: made


if __name__ == "__main__":
    main()
