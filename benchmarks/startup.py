"""How long does an import take, in a fresh process?

``import unroller`` should cost little more than the two libraries it stands on, pydantic and numpy,
and load none of the heavy ones. ``import pydantic`` is lazy and brings a small part of pydantic, so
there is a second yardstick, with one model made.

Fresh processes, taken in turns; each times its own import statement, so the start of the
interpreter is left out. Files are in the disk cache by then: a first import after boot is slower
for everybody. numpy is held to one thread, so that processor time
is what one waits for.

    python benchmarks/startup.py [--quick] [--json PATH]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict

import neighbours
import ours
from measure import OURS, ROOT, Report, Timing, arguments, console

BASE = "pydantic, numpy"
MODEL = "pydantic with one model, numpy"
MODEL_CODE = "Model = type('Model', (pydantic.BaseModel,), {})"
"""``import pydantic`` alone is lazy: most of pydantic is imported when the first model is made."""
USED = f"{OURS}, Executor and Problem"
HEAVY = ("torch", "transformers", "diffusers", "cv2")

CHILD = """
import json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
{statement}
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
loaded = [name for name in {heavy!r} if name in sys.modules]
print(json.dumps({{"cpu": cpu, "wall": wall, "modules": len(sys.modules), "loaded": loaded}}))
"""


def main() -> None:
    options = arguments(__doc__)
    report = Report("startup", "Import", options.quick)
    here, absent = neighbours.present(neighbours.ORCHESTRATORS)
    for sentence in absent + ours.absent():
        report.remark(sentence)

    statements = {BASE: f"import {BASE}", MODEL: f"import {BASE}; {MODEL_CODE}"}
    if not ours.absent():
        statements[OURS] = f"import {OURS}"
        statements[USED] = f"from {OURS} import Executor, Problem"
    statements |= {n.name: f"import {', '.join(n.modules)}" for n in here}
    if neighbours.importable("torch"):
        statements["torch"] = "import torch"

    rounds = 5 if options.quick else 21
    seen = {name: fresh_import(code) for name, code in statements.items()}  # writes .pyc
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for turn in range(rounds):
        names = list(statements)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name == "torch" and turn >= 5:  # for scale only, and slow
                continue
            child = fresh_import(statements[name])
            times[name].append((child["cpu"], child["wall"]))
    timings = {name: Timing(name, *zip(*pairs, strict=True)) for name, pairs in times.items()}
    base = timings[BASE]
    rows = {
        name: {
            "ms cpu": timing.median * 1e3,
            "best": timing.minimum * 1e3,
            "spread": f"{timing.spread:.0%}",
            "wall": statistics.median(timing.beside) * 1e3,
            "times the first": timing.median / base.median,
            "modules": seen[name]["modules"],
            "heavy ones": ", ".join(seen[name]["loaded"]) or "none",
        }
        for name, timing in timings.items()
    }
    report.facts("import", "import, in a fresh process", rows)
    report.sections["rounds, ms"] = {n: [1e3 * t for t in ts.rounds] for n, ts in timings.items()}
    if OURS in timings:
        report.sections["slowest modules"] = slowest = slowest_modules(OURS)
        console.print("Slowest modules of ours by -X importtime (own time, ms):")
        for module, ms in slowest.items():
            console.print(f"  {ms:6.1f}  {module}")
        report.target("import unroller", 1.3, timings[OURS].times(base), f"times {BASE}")
        used = timings[USED].times(timings[MODEL])
        report.target("import what a script uses", 1.3, used, f"times {MODEL}")
        report.target("heavy libraries loaded", 0, len(seen[OURS]["loaded"]))
    report.finish(options.json, [*neighbours.packages(here), *ours.PACKAGES, "numpy", "torch"])


def fresh_import(statement: str) -> dict:
    """A statement in a new process: seconds, modules loaded, heavy ones among them."""
    code = CHILD.format(statement=statement, heavy=HEAVY)
    return json.loads(_child("-c", code).stdout.splitlines()[-1])


def slowest_modules(imports: str, most: int = 12) -> dict[str, float]:
    """Own milliseconds of the slowest packages, summed over their modules."""
    own: dict[str, float] = defaultdict(float)
    for line in _child("-X", "importtime", "-c", f"import {imports}").stderr.splitlines():
        fields = line.removeprefix("import time:").split("|")
        if len(fields) == 3 and fields[0].strip().isdigit():
            own[".".join(fields[2].strip().split(".")[:1])] += int(fields[0]) / 1e3
    return dict(sorted(own.items(), key=lambda item: -item[1])[:most])


def _child(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )


if __name__ == "__main__":
    main()
