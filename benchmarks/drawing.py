"""What a picture of the embedded model costs: sixteen through `map`, one by one, and the bare passes of it.

    python benchmarks/drawing.py [--quick] [--json PATH]

A plan, then a picture of 16 steps, of prompts of the test split. One by one, each is planned and drawn before
the next is begun. The bare passes are those that sampling cannot do without: two branches of sixteen pictures
through the model, once a step, with prompts and plans read already.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from measure import OURS, Contender, Race, Report, arguments

import nano_omni
from nano_omni import plans
from nano_omni.drawing import Together, noise, seen, velocity
from nano_omni.model import NanoOmni, load
from nano_omni.reader import Reader
from nano_omni.world.prompts import parse
from primitives.backends.nano import Nano, prompts
from unroller import Executor

COUNT, STEPS = 16, 16
WEIGHTS = Path(nano_omni.__file__).with_name("weights") / "drawing"
SINGLY, BARE, DECODER = "one by one", "bare passes", "decoder"


def executor(*calls: str) -> Any:
    """With weights read, and nothing remembered."""
    backend = Nano(steps=STEPS)
    ex = Executor(backend=backend, policy=list(calls), memo=None)
    ex.run(prompts(COUNT))
    return ex


def together() -> tuple[NanoOmni, Together, Any]:
    """The model, what sixteen prompts and nothing left behind, and noise."""
    reader = Reader(load(WEIGHTS))
    asked = [plans.prompt(parse(problem.prompt or "")) for problem in prompts.many(range(COUNT))]
    nodes = [*reader.begin(asked), *reader.begin([plans.EMPTY] * COUNT)]
    return reader.model, Together([seen(node) for node in nodes]), noise(range(COUNT)).repeat(2, 1, 1)


def passes(given: tuple[NanoOmni, Together, Any]) -> None:
    model, read, x = given
    with torch.no_grad():
        for k in range(STEPS):
            velocity(model, read, x, 1 - k / STEPS)


def main() -> None:
    options = arguments(__doc__)
    report = Report("drawing", "Pictures by the embedded model", options.quick)
    problems = prompts.many(range(COUNT))

    def checked(_: Any, runs: list[Any]) -> None:
        assert all(run.output is not None for run in runs), "not drawn"

    race = Race(3, 10) if options.quick else Race(7, 60)
    planned = race(
        [
            Contender(
                OURS,
                lambda ex: list(ex.map(problems)),
                lambda: executor("text_think_long"),
                COUNT,
                checked,
                1,
            ),
            Contender(
                SINGLY,
                lambda ex: [ex.run(one) for one in problems],
                lambda: executor("text_think_long"),
                COUNT,
                checked,
                1,
            ),
        ]
    )
    report.section("map", f"{COUNT} pictures, each after a plan", planned, "ms/picture", "wall")
    report.target("map against one by one", 6, planned[SINGLY].times(planned[OURS]), "times", at_least=True)
    bare = race(
        [
            Contender(DECODER, lambda ex: list(ex.map(problems)), executor, COUNT, checked, 1),
            Contender(BARE, passes, together, COUNT, repeat=1),
        ]
    )
    report.section("bare", f"{COUNT} pictures with no context", bare, "ms/picture", "wall")
    report.target("the decoder against its bare passes", 1.3, bare[DECODER].times(bare[BARE]), "times")
    report.finish(options.json, ["torch", "diffusers", "unroller"])


if __name__ == "__main__":
    main()
