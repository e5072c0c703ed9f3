"""What is copied, what is done twice, and what does it cost to go back?

A tensor of 12 MiB in the context: the time of a step, the memory that it takes beyond the tensor,
and whether what is read back is the very same memory. Then what an engine must make cheaper than a
step, or nobody will use it: a step whose result is known (a memo hit), and a fork.

    python benchmarks/memory.py [--quick] [--json PATH]
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import neighbours
import numpy as np
import ours
from measure import OURS, Contender, Race, Report, arguments
from task import MEBIBYTE, starts, successor, tensor

STEPS = 4


def main() -> None:
    options = arguments(__doc__)
    report = Report("memory", "Tensors, memo and forks", options.quick)
    here, absent = neighbours.present(neighbours.ORCHESTRATORS)
    for sentence in absent + ours.absent():
        report.remark(sentence)
    _tensors(report, here, options.quick)
    _less_than_a_step(report, options.quick)
    report.finish(options.json, neighbours.packages(here) + ours.PACKAGES)


def _tensors(report: Report, here: list, quick: bool) -> None:
    """Every step returns one and the same tensor, so any further byte is the framework's."""
    payload = tensor(12)
    contenders = [
        Contender(n.name, n.chain(STEPS, lambda newest: payload), lambda: payload, STEPS)
        for n in (neighbours.PLAIN, *here)
    ]
    contenders += ours.tensor_steps(STEPS, payload)
    timings = Race(5, 6)(contenders) if quick else Race(15, 30)(contenders)
    title = f"{STEPS} steps that put a 12 MiB tensor into the context"
    report.section("tensor", title, timings)
    rows = {}
    for contender in contenders:
        peak, output = _peak(contender.run, contender.fresh())
        same = output is payload or np.shares_memory(output, payload)
        rows[contender.name] = {"MiB beyond the tensor": peak / MEBIBYTE, "same memory": same}
    report.facts("tensor, copies", "Copies: memory taken during the run, at its peak", rows)
    if OURS in rows:
        report.target("copies of a 12 MiB tensor", 0.05, rows[OURS]["MiB beyond the tensor"], "MiB")


def _peak(run: Callable[[Any], Any], value: Any) -> tuple[int, Any]:
    """Peak bytes that ``run(value)`` allocated beyond what was there, and its result."""
    run(value)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        output = run(value)
        return tracemalloc.get_traced_memory()[1] - before, output
    finally:
        tracemalloc.stop()


def _less_than_a_step(report: Report, quick: bool) -> None:
    """A step, a step known to the memo, and a fork, side by side."""
    plain = neighbours.PLAIN.chain(STEPS, successor)
    contenders = [Contender(neighbours.PLAIN.name, plain, starts, STEPS)]
    contenders += ours.less_than_a_step(STEPS)
    timings = Race(7, 6)(contenders) if quick else Race(25, 30)(contenders)
    report.section("memo and fork", "Cheaper than a step", timings)
    step = timings.get(OURS)
    for name, timing in timings.items():
        if step is not None and name not in (OURS, neighbours.PLAIN.name):
            report.target(f"{name} against a step", 1.0, timing.times(step), "times")


if __name__ == "__main__":
    main()
