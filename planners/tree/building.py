"""Building a tree: chunk after chunk, each kept when it is done, so that what was killed goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from planners.tree.card import card
from planners.tree.faults import TreeError
from planners.tree.files import (
    TREE,
    UNDER_WAY,
    as_json,
    clear_asides,
    need_pyarrow,
    put_aside,
    read_manifest,
    write_tree,
)
from planners.tree.layout import Layout, Orders
from planners.tree.measuring import Chunk, Measuring, asking, scorer_name
from planners.tree.parts import PARTS, part_path, read_part, write_part
from planners.tree.recipe import (
    VERSION,
    DecoderMade,
    ProbeMade,
    Recipe,
    about,
    actions_made,
    differing,
    digest_of,
    numbers,
)
from unroller.ablation.scoring import Scorer, scorer_of
from unroller.declare import Probe
from unroller.executor import Executor
from unroller.faults import ProblemError, UnrollerError
from unroller.fingerprint import fingerprint
from unroller.problem import Problem
from unroller.registry import load_all, registered

CHUNK = 64
TRIED = 8
"""Problems on which actions that nobody named are tried."""

Tell = Callable[[str, int, int], None]


def build(
    executor: Executor,
    problems: Iterable[Problem],
    out: str | Path,
    *,
    actions: Sequence[str] | None = None,
    depth: int | None = None,
    orders: Orders = "sequences",
    draws: int = 1,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    scorer: Callable[[Problem, Any], float] | str | None = None,
    hard: Callable[[Problem, Any], float] | str | None = None,
    probes: Sequence[Any] | None = None,
    sets: Sequence[Mapping[str, Any]] = (),
    licence: str = "unknown",
    chunk: int = CHUNK,
    tell: Tell | None = None,
) -> Path:
    """Measure every state of every problem with the executor's backends, and write the tree into the folder
    `out`, which is returned. See `planners.tree.layout` for the states.

    actions: names, in the order they are declared; None: every one that can be called, reads no metadata
    (where the truth stands), and works on one of the first problems, alone or after one other. depth: calls
    at most (None: all actions). draws: how often all that is stochastic is drawn. parameters: by action, in
    place of its own. scorer: a soft one, the probability of the right answer; hard: right or wrong. None
    takes `soft_choice` and `choice` where all problems have choices, else the scorer that is named like the
    task. probes: names or objects; None takes every registered one that the backends can carry out. sets:
    where the problems are from, for the card. chunk: problems that are worked on together.

    A folder that holds part of the very same tree is gone on with: finished chunks are kept. A tree that is
    complete is left as it is. Raises TreeError, UnknownName, MissingCapability, ProblemError, ContractError.
    """
    need_pyarrow()
    several = tuple(problems)
    out = Path(out)
    if not several:
        raise TreeError("there are no problems: give at least one")
    if draws < 1 or chunk < 1:
        raise TreeError(f"draws={draws}, chunk={chunk}: both are 1 or more")
    soft, hard_ = _scorers(several, scorer, hard)
    _check_problems(executor, several)
    kept = _kept(out)
    if actions is None:
        actions = usable(executor, several) if kept is None else _as_before(executor, kept, out)
    given, measured = _probes(executor, probes)
    measured = _shaped(executor, given, measured, several[0])
    recipe = Recipe(
        unroller=_version(),
        backends=[str(backend.name) for backend in executor.backends],
        fingerprints=[str(backend.fingerprint) for backend in executor.backends],
        n=len(several),
        problems=digest_of(several),
        sets=[dict(one) for one in sets],
        tasks=_decoders(executor, several),
        actions=actions_made(executor, actions, parameters or {}),
        depth=Layout(actions, depth, orders).depth,
        orders=orders,
        draws=draws,
        scorer=soft.name,
        hard=scorer_name(hard_),
        probes=measured,
        chunk=chunk,
        licence=licence,
        format=VERSION,
        scorer_version=fingerprint(soft.function),
        hard_version=None if hard_ is None else fingerprint(hard_.function),
    )
    if _taken_up(out, recipe, kept):
        _clear(out)  # a kill may have come between the last file and this
        return out
    measuring = Measuring(executor, recipe.layout, recipe.actions, measured, given, draws, soft, hard_)
    chunks = _chunks(measuring, recipe, several, out, tell)
    write_tree(out, recipe, several, chunks, card(recipe, chunks))
    _clear(out)
    return out


def _clear(out: Path) -> None:
    """Take away what was only kept until the tree was finished."""
    (out / UNDER_WAY).unlink(missing_ok=True)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    clear_asides(out)


def _chunks(
    measuring: Measuring, recipe: Recipe, problems: Sequence[Problem], out: Path, tell: Tell | None
) -> list[Chunk]:
    """Every chunk: those that are there, and the others measured and kept."""
    states = recipe.draws * len(recipe.layout)
    done, total = 0, recipe.n * states

    def one_more() -> None:
        nonlocal done
        done += 1
        if tell is not None:
            tell("states", done, total)

    chunks: list[Chunk] = []
    for number, first in enumerate(range(0, recipe.n, recipe.chunk)):
        some = problems[first : first + recipe.chunk]
        found = read_part(out, number) if part_path(out, number).exists() else None
        if found is None:
            found = measuring.chunk(some, first, one_more)
            write_part(out, number, found)
        else:
            done += len(some) * states
        chunks.append(found)
    return chunks


def _version() -> str:
    from unroller import __version__

    return __version__


# -------------------------------------------------------------------------------- what was there before


def _kept(out: Path) -> Recipe | None:
    """The recipe of what the folder holds, finished or not. Raises TreeError."""
    if (out / TREE).is_file():
        return read_manifest(out).recipe
    try:
        return msgspec.json.decode((out / UNDER_WAY).read_bytes(), type=Recipe)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, msgspec.MsgspecError) as error:
        raise TreeError(
            f"{out / UNDER_WAY} cannot be read ({error}): delete {out}, or name another folder"
        ) from None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TreeError(f"{out} holds something else than a tree: name another folder")
    return None


def _another(out: Path, why: str) -> TreeError:
    return TreeError(f"{out} holds another tree ({why}): name another folder, or delete it")


def _as_before(executor: Executor, kept: Recipe, out: Path) -> list[str]:
    """The actions of what is kept, which nobody has named again. Raises TreeError where one is lacking."""
    names = [action.name for action in kept.actions]
    there = executor.actions
    lacking = [name for name in names if name not in there or there[name].missing is not None]
    if lacking:
        raise _another(out, f"it has the actions {', '.join(lacking)}, which are not to be had here")
    return names


def _taken_up(out: Path, recipe: Recipe, kept: Recipe | None) -> bool:
    """Whether the tree is there already; else the folder is ready to hold its parts. Raises TreeError."""
    # As it is read back: numbers and lists are what JSON makes of them.
    recipe = msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe)
    if kept is not None and (different := differing(recipe, kept)):
        raise _another(out, f"it differs in {', '.join(different)}")
    if (out / TREE).is_file():
        return True
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    if kept is None:
        put_aside(out / UNDER_WAY, as_json(recipe))
    return False


# ------------------------------------------------------------------------------- what nobody has named


def usable(executor: Executor, problems: Sequence[Problem]) -> list[str]:
    """The actions that write something, after which there is still an answer, for at least one of the first
    problems, alone or after another action. What reads the problems' metadata, where the truth stands, is
    left out unless it is named."""
    first = problems[:TRIED]
    able = [
        name
        for name, action in executor.actions.items()
        if action.missing is None and "metadata" not in action.primitive.fields
    ]
    works: set[str] = set()
    for before in (None, *able):
        for name in able:
            calls = [name] if before is None else [before, name]
            if name in works or name == before:
                continue
            runs = executor.extend(policy=calls, budget=None, strict=False).map(first)
            if any(e.action == name for run in runs if run.output is not None for e in run.entries):
                works.add(name)
    return [name for name in able if name in works]


def _scorers(problems: Sequence[Problem], scorer: Any, hard: Any) -> tuple[Scorer, Scorer | None]:
    if scorer is None:
        tasks = sorted({problem.task for problem in problems})
        if all(problem.choices for problem in problems):
            scorer, hard = "soft_choice", hard or "choice"
        elif len(tasks) == 1 and tasks[0] in registered("scorers"):
            scorer = tasks[0]
        else:
            raise TreeError(
                f"how good is an answer of {', '.join(tasks)}? Name a scorer: one that gives the probability"
                " of the right answer, or how near it is"
            )
    return scorer_of(scorer), None if hard is None else scorer_of(hard)


def _check_problems(executor: Executor, problems: Sequence[Problem]) -> None:
    for i, problem in enumerate(problems):
        if (reason := executor.decoder(problem.task).inapplicable(problem)) is not None:
            raise ProblemError(f"problem {i}: {problem.task}: {reason}")


def _decoders(executor: Executor, problems: Sequence[Problem]) -> list[DecoderMade]:
    tasks = sorted({problem.task for problem in problems})
    bound = {task: executor.decoder(task) for task in tasks}
    return [DecoderMade(task, a.primitive.version, numbers(a.cost)) for task, a in bound.items()]


def _probes(executor: Executor, given: Sequence[Any] | None) -> tuple[list[Any], list[ProbeMade]]:
    """Probes as the executor takes them, and what they are."""
    from unroller.registry import load

    if given is None:
        wanted = [probe for probe in load_all("probes")[0].values() if _can(executor, probe)]
    else:
        wanted = [load("probes", one) if isinstance(one, str) else one for one in given]
    made: list[ProbeMade] = []
    for probe in wanted:
        if not isinstance(probe, Probe):
            raise TreeError(f"{probe!r} is no probe: decorate it with @probe(…)")
        action = _bound(executor, probe)
        array, only = not issubclass(probe.writes, (int, float)), not action.primitive.kinds
        made.append(
            ProbeMade(probe.name, probe.version, about(probe), numbers(action.cost), array, problem_only=only)
        )
    return wanted, made


def _bound(executor: Executor, probe: Probe) -> Any:
    from unroller.actions import bind

    return bind(probe, executor.backends)


def _can(executor: Executor, probe: Any) -> bool:
    try:
        _bound(executor, probe)
    except UnrollerError:
        return False
    return True


def _shaped(
    executor: Executor, given: Sequence[Any], probes: list[ProbeMade], problem: Problem
) -> list[ProbeMade]:
    """The same with `array` told for those that measure arrays, which is seen by measuring one; of a probe
    that fails there, what it declares holds."""
    if not given:
        return probes
    run = executor.extend(policy=asking([], given), budget=None, strict=False).run(problem)
    seen = {event.name: not isinstance(event.held, (int, float)) for event in run.measured}
    return [msgspec.structs.replace(probe, array=seen.get(probe.name, probe.array)) for probe in probes]
