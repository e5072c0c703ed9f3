"""How many runs a second, over many problems: with free steps, and with a model worth batching.

*Map*: 1,000 runs of 4 trivial steps, so only the machinery is counted.
*Batching*: a model call costs 1 ms + 10 us a sample and one call runs at a time. By hand one would
write a lock-step loop over batches of 64; the question is how near an engine comes without being
told. *Different policies*: each problem takes its own way through four primitives, so no lock-step
loop fits; the question is how full the batches still are.

    python benchmarks/throughput.py [--quick] [--json PATH]
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import neighbours
import ours
from measure import OURS, Contender, Race, Report, arguments
from task import SerialModel, expect, starts, successor

STEPS = 4
RUNS = 256
MAX_BATCH = 64
PRIMITIVES = ("see", "think", "sketch", "measure")
LOCK_STEP = "lock-step by hand"


def main() -> None:
    options = arguments(__doc__)
    report = Report("throughput", "Many problems", options.quick)
    here, absent = neighbours.present(neighbours.ORCHESTRATORS)
    for sentence in absent + ours.absent():
        report.remark(sentence)
    _map(report, here, options.quick)
    _batching(report, here, options.quick)
    _different_policies(report, options.quick)
    report.finish(options.json, neighbours.packages(here) + ours.PACKAGES)


# Map ---------------------------------------------------------------------------------------------


def _map(report: Report, here: list, quick: bool) -> None:
    runs = 200 if quick else 1_000
    fresh = lambda: [starts() for _ in range(runs)]  # noqa: E731
    contenders = []
    for neighbour in (neighbours.PLAIN, *here):
        many = neighbour.many(STEPS, successor)
        contenders.append(Contender(neighbour.name, many, fresh, runs, _check_all))
        if isinstance(neighbour, neighbours.LangGraph):
            looped = neighbour.many_in_a_loop(STEPS, successor)
            name = f"{neighbour.name}, invoke in a loop"
            contenders.append(Contender(name, looped, fresh, runs, _check_all))
    contenders += ours.map_steps(STEPS, runs)
    timings = Race(3, 8)(contenders) if quick else Race(9, 50)(contenders)
    title = f"{runs:,} runs of {STEPS} trivial steps"
    report.section("map", title, timings, "runs/s")


def _check_all(begin: Sequence[str], end: Sequence[str]) -> None:
    for one, other in zip(begin, end, strict=True):
        expect(one, STEPS, other)


# Batching ----------------------------------------------------------------------------------------


def lock_step(model: SerialModel) -> neighbours.RunMany:
    """What one would write by hand: batches of 64 problems, all at the same step."""

    def run(begin: Sequence[str]) -> list[str]:
        contexts = [[start] for start in begin]
        for first in range(0, len(contexts), MAX_BATCH):
            group = contexts[first : first + MAX_BATCH]
            for _ in range(STEPS):
                texts = model([context[-1] for context in group])
                for context, text in zip(group, texts, strict=True):
                    context.append(text)
        return [context[-1] for context in contexts]

    return run


def _batching(report: Report, here: list, quick: bool) -> None:
    """In close turns with the loop by hand first; the neighbours, 60 times slower, afterwards."""
    models: dict[str, SerialModel] = {}
    by_hand = _with_model(models, LOCK_STEP, lock_step)
    models[OURS] = SerialModel()
    batched = ours.map_model(STEPS, RUNS, MAX_BATCH, models[OURS])
    close = (Race(7, 5) if quick else Race(41, 20))([by_hand, *batched])
    title = f"{RUNS} runs of {STEPS} calls of a model of 1 ms + 10 us a sample"
    report.section("batching", title, close, "runs/s")
    runs = 64 if quick else RUNS
    single = [_with_model(models, n.name, lambda model, n=n: n.many(STEPS, model.one), runs) for n in here]
    beside = (Race(3, 1) if quick else Race(5, 40))([by_hand, *batched, *single])
    report.section("batching, neighbours", f"{title}: beside the neighbours", beside, "runs/s")
    rows = {
        name: {
            "model calls": models[name].calls,
            "calls a run": STEPS * models[name].calls / sum(models[name].batches),
            "mean fill": f"{models[name].fill(MAX_BATCH):.0%}",
        }
        for name in beside
    }
    report.facts("batching, calls", f"Model calls (batches of {MAX_BATCH} at most)", rows)
    if OURS in close:
        speed = 1 / close[OURS].times(close[LOCK_STEP])
        calls = models[OURS].calls / models[LOCK_STEP].calls
        report.target("speed of the lock-step loop", 0.85, speed, "times", at_least=True)
        report.target("calls of the lock-step loop", 1.1, calls, "times")


def _with_model(
    models: dict[str, SerialModel],
    name: str,
    build: Callable[[SerialModel], neighbours.RunMany],
    runs: int = RUNS,
) -> Contender:
    """A contender with a model of its own, whose count starts again at each pass."""
    models[name] = model = SerialModel()

    def fresh() -> list[str]:
        model.batches.clear()
        return [starts() for _ in range(runs)]

    return Contender(name, build(model), fresh, runs, _check_all, repeat=1)


# Different policies ------------------------------------------------------------------------------


def ways(runs: int, shortest: int, longest: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Each problem's way: ``shortest`` to ``longest`` calls of the primitives, drawn at random."""
    rng = random.Random(seed)
    return [tuple(rng.choices(PRIMITIVES, k=rng.randint(shortest, longest))) for _ in range(runs)]


def waves(models: dict[str, SerialModel], plans: Sequence[Sequence[str]]) -> neighbours.RunMany:
    """By hand: at each step, group the problems by the primitive they want, in batches of 64."""

    def run(begin: Sequence[str]) -> list[str]:
        contexts = [[start] for start in begin]
        for step in range(max(map(len, plans))):
            for name in PRIMITIVES:
                wanting = [
                    context
                    for context, plan in zip(contexts, plans, strict=True)
                    if step < len(plan) and plan[step] == name
                ]
                for first in range(0, len(wanting), MAX_BATCH):
                    group = wanting[first : first + MAX_BATCH]
                    texts = models[name]([context[-1] for context in group])
                    for context, text in zip(group, texts, strict=True):
                        context.append(text)
        return [context[-1] for context in contexts]

    return run


def _different_policies(report: Report, quick: bool) -> None:
    """Ways of equal length, which the target is about; then of different lengths, which is harder:
    the last batches are small, because few problems are left."""
    fill = _ways(report, ways(RUNS, STEPS, STEPS), f"{STEPS} calls each", quick)
    _ways(report, ways(RUNS, 2, 6), "2 to 6 calls each", quick)
    if fill is not None:
        report.target("mean batch fill, different policies", 0.7, fill, "", at_least=True)


def _ways(report: Report, plans: list, what: str, quick: bool) -> float | None:
    """Race for one set of ways. Returns our mean fill."""
    by_hand = "waves by hand"
    models = {name: {primitive: SerialModel() for primitive in PRIMITIVES} for name in (by_hand, OURS)}

    def fresh() -> list[str]:
        for model in models[by_hand].values():
            model.batches.clear()
        return [starts() for _ in range(RUNS)]

    check = partial(_check_ways, plans)
    contenders = [Contender(by_hand, waves(models[by_hand], plans), fresh, RUNS, check, repeat=1)]
    contenders += ours.map_ways(plans, MAX_BATCH, models[OURS])
    timings = Race(3, 5)(contenders) if quick else Race(15, 20)(contenders)
    title = f"{RUNS} problems, each its own way through {len(PRIMITIVES)} primitives, {what}"
    report.section(f"ways, {what}", title, timings, "runs/s")
    samples = Counter(primitive for plan in plans for primitive in plan)
    fewest = sum(-(-count // MAX_BATCH) for count in samples.values())
    rows: dict[str, dict[str, Any]] = {}
    fills: dict[str, float] = {}
    for name in timings:
        calls = sum(model.calls for model in models[name].values())
        fills[name] = sum(samples.values()) / (calls * MAX_BATCH)
        rows[name] = {"model calls": calls, "mean fill": f"{fills[name]:.0%}"}
    best = sum(samples.values()) / (fewest * MAX_BATCH)
    rows["fewest possible"] = {"model calls": fewest, "mean fill": f"{best:.0%}"}
    report.facts(f"ways, {what}: calls", f"Model calls, all primitives together, {what}", rows)
    return fills.get(OURS)


def _check_ways(plans: Sequence[Sequence[str]], begin: Sequence[str], end: Sequence[str]) -> None:
    for plan, one, other in zip(plans, begin, end, strict=True):
        expect(one, len(plan), other)


if __name__ == "__main__":
    main()
