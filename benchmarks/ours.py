"""Every use of our own API in the benchmarks: the one file to change when the engine does.

Each function gives the contenders for one subject, or none while the engine cannot be imported
(``absent`` says why). Everything is on, as a user has it by default: the policy is asked, views and
types are checked, the budget is kept, ids are made, the memo is asked and told, events and clocks
are recorded, and a decoder writes the answer, which counts as no step. Problems start where none
has before, so each step is computed; ``_check`` counts what was computed and raises on a hit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from measure import OURS, ROOT, Contender
from task import SerialModel, Think, expect, starts, successor

try:
    import unroller
except ModuleNotFoundError:  # a checkout that was not installed
    sys.path.insert(0, str(ROOT))

try:
    from unroller import Entry, Executor, Latents, Problem, Text, decoder, policy, primitive
except ImportError as error:
    _why_not: ImportError | None = error
else:
    _why_not = None

PACKAGES = ["unroller", "msgspec", "pydantic", "xxhash"]


def absent() -> list[str]:
    """A sentence when the engine cannot be imported, else nothing."""
    if _why_not is None:
        return []
    return [f"{OURS} cannot be imported and is left out ({_why_not}): pip install -e ."]


def _executor(think: Think, steps: int, **options: Any) -> Any:
    """An executor whose runs call ``think`` on the newest text, ``steps`` times, and answer it."""

    @primitive(reads=("question", Text), writes=Text)
    def step(view):
        newest = view.latest(Text)
        return Text(think(view.question if newest is None else newest.text))

    return Executor(
        backend=(),
        primitives=[step],
        decoders=[_answer()],
        policy=["step"] * steps,
        budget={"steps": steps},
        **options,
    )


def _answer() -> Any:
    @decoder(task="count", writes=Text)
    def count(view):
        return view.latest(Text)

    return count


def _problem(start: str | None = None) -> Any:
    return Problem(task="count", question=starts() if start is None else start)


def _check(steps: int, hits: int = 0) -> Callable[[Any, Any], None]:
    """A check that a run is ``steps`` real steps long, and all but ``hits`` of them computed."""

    def check(problem: Any, run: Any) -> None:
        start = problem if isinstance(problem, str) else problem.question
        expect(start, steps, run.output.text)
        got = sum(entry.hit for entry in run.workspace)
        if len(run.workspace) != steps or got != hits:
            raise AssertionError(f"{len(run.workspace)} steps, {got} of them from the memo")

    return check


# orchestration.py --------------------------------------------------------------------------------


def unroll_steps(
    steps: int, *, name: str = OURS, problem_too: bool = False, **options: Any
) -> list[Contender]:
    """One run of ``steps`` trivial steps. With ``problem_too`` its Problem is made on the clock."""
    if _why_not is not None:
        return []
    executor = _executor(successor, steps, **options)
    if problem_too:
        run = lambda start: executor.run(_problem(start))  # noqa: E731
        return [Contender(name, run, starts, steps, _check(steps))]
    return [Contender(name, executor.run, _problem, steps, _check(steps))]


# journal.py --------------------------------------------------------------------------------------


def persisted_steps(steps: int, folder: Path) -> list[Contender]:
    """The same with a journal in ``folder``: as it comes, and with the durability of its twins.

    By default the journal also waits for the disk whenever a run ends; ``"exit"`` waits when it is
    closed, and survives a killed process at any point, like SQLite with ``synchronous=NORMAL``.
    """
    if _why_not is not None:
        return []
    found = []
    for name, durability in JOURNALS.items():
        place = folder / durability
        executor = _executor(successor, steps, journal=place, durability=durability)
        found.append(Contender(name, executor.run, _problem, steps, _check(steps)))
    return found


JOURNALS = {OURS: "exit", f"{OURS}, fsync a run (default)": "run", f"{OURS}, fsync a step": "step"}
"""Name of the contender: its durability. The first makes the promise that the targets are about."""


class _Killed(BaseException):
    """Stands in for a kill: nothing in the engine catches it."""


def resumed(steps: int, folder: Path) -> list[Contender]:
    """A run was killed after ``steps`` steps: a new executor opens its journal and ends the run.

    The last contender only reads where the run stood, as its neighbours do.
    """
    if _why_not is not None:
        return []
    from unroller.journal import read_log

    small, large = folder / "texts", folder / "tensors"

    def read(_: Any) -> str:
        (run,) = read_log(small).runs
        return [event for event in run.events if isinstance(event, Entry)][-1].value.text

    return [
        _resumed(OURS, small, _killable(successor_of_text, steps, Text)),
        _resumed(f"{OURS}, 1 MiB tensors", large, _killable(_own_mebibyte, steps, Latents)),
        Contender(f"{OURS}, only reading", read),
    ]


def successor_of_text(view: Any) -> Any:
    newest = view.latest(Text)
    return Text(successor(view.question if newest is None else newest.text))


def _own_mebibyte(view: Any) -> Any:
    return Latents(np.full((256, 1024), len(view.entries), np.float32), "noise")


def _killable(function: Callable, steps: int, writes: Any) -> Callable[..., Any]:
    """Builds executors of ``steps`` calls of ``function``, killed as they decode if ``kill``."""
    step = primitive(name="step", reads=("question", writes), writes=writes)(function)

    def build(kill: bool, **options: Any) -> Any:
        @decoder(task="count", writes=Text, version="1")
        def count(view):
            if kill:
                raise _Killed
            return Text(str(len(view.entries)))

        return Executor(
            backend=(),
            primitives=[step],
            decoders=[count],
            policy=["step"] * steps,
            budget={"steps": steps},
            memo=None,
            durability=JOURNALS[OURS],
            **options,
        )

    return build


def _resumed(name: str, folder: Path, build: Callable[..., Any]) -> Contender:
    with build(kill=True, journal=folder) as executor, suppress(_Killed):
        executor.run(_problem())
    log = (folder / "journal.log").read_bytes()

    def fresh() -> Any:
        (folder / "journal.log").write_bytes(log)  # as the kill left it
        return build(kill=False)

    def check(executor: Any, runs: Any) -> None:
        (run,) = runs
        steps = len(run.workspace)
        if run.output.text != str(steps) or run.spent.hits != steps or run.spent.computed != 1:
            raise AssertionError(f"resumed {run} with {run.spent}")

    return Contender(name, lambda executor: executor.resume(folder), fresh, 1, check, repeat=1)


def persisted_tensors(payload: Sequence[np.ndarray]) -> dict[str, Callable[[Path], Callable]]:
    """By name: given a folder, a callable that runs one step a tensor with its journal there."""
    if _why_not is not None:
        return {}

    def builder(durability: str) -> Callable[[Path], Callable[[Any], Any]]:
        def build(folder: Path) -> Callable[[Any], Any]:
            executor = _tensor_executor(payload, journal=folder, durability=durability)
            problem = _problem()
            return lambda start: executor.run(problem)

        return build

    return {name: builder(durability) for name, durability in JOURNALS.items()}


def _tensor_executor(payload: Sequence[np.ndarray], **options: Any) -> Any:
    """Step ``i`` of a run writes ``payload[i]`` into the context; the answer counts them."""

    @primitive(reads=("question", Latents), writes=Latents)
    def imagine(view):
        return Latents(payload[len(view.entries) % len(payload)], "noise")

    @decoder(task="count", writes=Text)
    def count(view):
        return Text(str(len(view.all(Latents))))

    return Executor(
        backend=(),
        primitives=[imagine],
        decoders=[count],
        policy=["imagine"] * len(payload),
        **options,
    )


# throughput.py -----------------------------------------------------------------------------------


def map_steps(steps: int, runs: int) -> list[Contender]:
    """``runs`` runs of ``steps`` trivial steps through ``Executor.map``."""
    if _why_not is not None:
        return []
    executor = _executor(successor, steps)
    fresh = lambda: [_problem() for _ in range(runs)]  # noqa: E731
    return [Contender(OURS, lambda xs: list(executor.map(xs)), fresh, runs, _check_all(steps))]


def _check_all(steps: int) -> Callable[[Any, Any], None]:
    check = _check(steps)

    def check_all(problems: Any, runs: Any) -> None:
        for problem, run in zip(problems, runs, strict=True):
            check(problem, run)

    return check_all


def map_model(steps: int, runs: int, max_batch: int, model: SerialModel) -> list[Contender]:
    """``runs`` runs of ``steps`` calls of ``model``, which takes ``max_batch`` samples at most."""
    if _why_not is not None:
        return []

    executor = Executor(
        backend=(),
        primitives=[_model_primitive("step", model, max_batch)],
        decoders=[_answer()],
        policy=["step"] * steps,
    )

    def fresh() -> list[Any]:
        model.batches.clear()
        return [_problem() for _ in range(runs)]

    run = lambda problems: list(executor.map(problems))  # noqa: E731
    return [Contender(OURS, run, fresh, runs, _check_all(steps), repeat=1)]


def _model_primitive(name: str, model: SerialModel, max_batch: int) -> Any:
    @primitive(name=name, reads=("question", Text), writes=Text, batched=True, max_batch=max_batch)
    def call(views):
        newest = [view.latest(Text) for view in views]
        texts = [v.question if n is None else n.text for v, n in zip(views, newest, strict=True)]
        return [Text(text) for text in model(texts)]

    return call


def map_ways(
    plans: Sequence[Sequence[str]], max_batch: int, models: dict[str, SerialModel]
) -> list[Contender]:
    """Problem ``i`` calls the primitives named in ``plans[i]``, each with a model of its own."""
    if _why_not is not None:
        return []

    @policy
    def its_own_way(state):
        way = plans[state.problem.metadata["way"]]
        return way[state.step] if state.step < len(way) else unroller.STOP

    executor = Executor(
        backend=(),
        primitives=[_model_primitive(name, models[name], max_batch) for name in models],
        decoders=[_answer()],
        policy=its_own_way,
    )

    def fresh() -> list[Any]:
        for model in models.values():
            model.batches.clear()
        return [Problem(task="count", question=starts(), metadata={"way": i}) for i in range(len(plans))]

    def check(problems: Any, runs: Any) -> None:
        for plan, problem, run in zip(plans, problems, runs, strict=True):
            _check(len(plan))(problem, run)

    run = lambda problems: list(executor.map(problems))  # noqa: E731
    return [Contender(OURS, run, fresh, len(plans), check, repeat=1)]


# memory.py ---------------------------------------------------------------------------------------


def tensor_steps(steps: int, payload: np.ndarray) -> list[Contender]:
    """``steps`` steps that write ``payload``; the result is the array as the workspace holds it."""
    if _why_not is not None:
        return []
    executor = _tensor_executor([payload] * steps)
    run = lambda problem: executor.run(problem).workspace.latest(Latents).hidden  # noqa: E731
    return [Contender(OURS, run, _problem, steps)]


def less_than_a_step(steps: int) -> list[Contender]:
    """A computed run, the same run known to the memo, and a fork half-way through a run."""
    if _why_not is not None:
        return []
    executor = _executor(successor, steps)
    done = executor.run(_problem())
    half = steps // 2

    def check_fork(run: Any, snapshot: Any) -> None:
        if len(snapshot.workspace) != half:
            raise AssertionError(f"forked at {half}: {snapshot.workspace}")

    return [
        Contender(OURS, executor.run, _problem, steps, _check(steps)),
        Contender("memo hit", executor.run, lambda: done.problem, steps, _check(steps, hits=steps)),
        Contender("fork", lambda run: run.at(half), lambda: done, 1, check_fork),
    ]
