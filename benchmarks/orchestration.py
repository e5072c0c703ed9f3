"""What does a step cost, when the step itself is free?

Four steps laid out one after the other, then one step many times around a loop: a run has to cost
the same a step whether it has 4 of them or 1,024. Nothing is persisted here (see journal.py).

    python benchmarks/orchestration.py [--quick] [--json PATH]
"""

from __future__ import annotations

from functools import partial

import neighbours
import ours
from measure import OURS, Contender, Race, Report, arguments
from task import expect, starts, successor

LENGTHS = (4, 64, 1024)


def main() -> None:
    options = arguments(__doc__)
    report = Report("orchestration", "Cost of a step", options.quick)
    here, absent = neighbours.present(neighbours.ORCHESTRATORS)
    for sentence in absent + ours.absent():
        report.remark(sentence)

    # Four steps in a row -------------------------------------------------------------------------
    race = Race(rounds=7, seconds=6) if options.quick else Race(rounds=25, seconds=40)
    contenders = [
        Contender(n.name, n.chain(4, successor), starts, 4, lambda start, end: expect(start, 4, end))
        for n in (neighbours.PLAIN, *here)
    ]
    contenders += ours.unroll_steps(4) + ours.unroll_steps(
        4, name=f"{OURS}, Problem made too", problem_too=True
    )
    contenders += ours.unroll_steps(4, name=f"{OURS}, no memo", memo=None)
    chain = race(contenders)
    report.section("chain of 4", "Four trivial steps, nothing persisted", chain)

    # Around a loop -------------------------------------------------------------------------------
    loops = {}
    for n in LENGTHS:
        seconds = 5 if options.quick else 30
        contenders = [
            Contender(c.name, c.loop(n, successor), starts, n, partial(_check, n))
            for c in (neighbours.PLAIN, *here)
        ]
        loops[n] = Race(rounds=5 if options.quick else 15, seconds=seconds)(contenders + ours.unroll_steps(n))
        report.section(f"loop of {n}", f"{n:,} trivial steps around a loop", loops[n])
    report.facts("flatness", "Flatness: us a step, by the length of the run", _flatness(loops))

    if OURS in chain:
        us = chain[OURS]
        report.target("4 steps", 10, us.median * 1e6, "us/step")
        for name, factor in (("langgraph", 25), ("burr", 8)):
            if name in chain:
                report.target(f"4 steps: below {name}", factor, chain[name].times(us), "times", at_least=True)
        long = loops[LENGTHS[-1]][OURS].median
        report.target(f"{LENGTHS[-1]:,} steps", 10, long * 1e6, "us/step")
        report.target(f"flat: {LENGTHS[-1]:,} steps against 64", 1.15, long / loops[64][OURS].median, "times")
    report.finish(options.json, neighbours.packages(here) + ours.PACKAGES)


def _check(n: int, start: str, end: str) -> None:
    expect(start, n, end)


def _flatness(loops: dict[int, dict]) -> dict[str, dict[str, float]]:
    """Per contender: us a step at each length, and what one step more costs (start-up out)."""
    first, last = LENGTHS[0], LENGTHS[-1]
    rows: dict[str, dict[str, float]] = {}
    for name in loops[last]:
        us = {n: loops[n][name].median * 1e6 for n in LENGTHS}
        rows[name] = {f"{n:,} steps": us[n] for n in LENGTHS}
        rows[name]["one step more"] = (us[last] * last - us[first] * first) / (last - first)
    return rows


if __name__ == "__main__":
    main()
