"""What a run was started with, and the executor that this makes.

It is written beside the journal as `command.json`, so that `unroller runs resume` knows more than the names
in the journal: the list of calls, the planner. What `--use` and `--memo` named is written down but not
taken up again unasked: a folder somebody sent must not choose what code runs, or where files are written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from unroller.backends import names_code
from unroller.cli.options import calls_of
from unroller.cli.terminal import aside
from unroller.cli.used import Used, file_as_module, here_on_path, is_path, load_named, used
from unroller.executor import Executor
from unroller.faults import JournalError, PluginError, ProblemError, UnknownName
from unroller.problem import Problem
from unroller.registry import load, load_all, near, registered

FILE = "command.json"


class Setup(msgspec.Struct, kw_only=True):
    """The options that make an executor, as they were typed."""

    backends: list[str] = []
    policy: str | None = None
    planner: str | None = None
    calls: str | None = None
    budget: dict[str, float] = {}
    use: list[str] = []
    memo: str | None = None
    strict: bool = False

    @property
    def paths(self) -> list[str]:
        """What of its policy, planner and backends may choose what code runs: the user's own, by
        module:object, and the words of backends that can name such."""
        named = [(self.policy, "policies"), (self.planner, "planners")]
        paths = [name for name, group in named if name is not None and is_path(name, group)]
        return [*paths, *filter(names_code, self.backends)]

    def write(self, folder: Path) -> None:
        """Raises OSError."""
        (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def read_setup(folder: Path, session: dict[str, Any] | None) -> Setup:
    """What a journal folder was run with: from `command.json`, else from the journal's last session."""
    try:
        setup = msgspec.json.decode((folder / FILE).read_bytes(), type=Setup)
        setup.memo = None
        return setup
    except FileNotFoundError:
        pass
    except (OSError, msgspec.MsgspecError) as error:
        raise JournalError(f"{folder / FILE} cannot be read: {error}") from None
    held = session or {}
    name = str(held.get("policy", "schedule"))
    return Setup(
        backends=[str(backend) for backend in held.get("backends", [])],
        policy=name if name in registered("policies") else None,
        budget=dict(held.get("budget", {})),
    )


@aside()
def executor_of(
    setup: Setup, brought: Used, task: str | None = None, problem: Problem | None = None
) -> Executor:
    """An executor without a journal. `task`: one that it must be able to decode; `problem`: one of those that
    it is for, if they are at hand.

    Raises UnknownName, MissingCapability, PluginError, BudgetError, MemoError.
    """
    if sum(chosen is not None for chosen in (setup.policy, setup.planner, setup.calls)) > 1:
        raise ProblemError("choose one of --policy, --planner and --calls")
    _import_or_say_why(setup, brought, task)
    budget = {name: _whole(amount) for name, amount in setup.budget.items()}
    backends, broken = _backends(setup, brought, task, problem)
    base = Executor(backend=backends, policy=[], budget=budget, memo=setup.memo or "memory")
    base.broken.update(broken)
    executor = base.extend(
        primitives=brought.primitives,
        decoders=brought.decoders,
        probes=brought.probes,
        strict=setup.strict,
        policy=_policy(setup, brought),
    )
    if setup.planner is not None:
        executor = executor.extend(planner=_planner(setup.planner, brought))
    executor.broken.update(base.broken)  # `extend` binds what was found, and forgets what was not
    if task is not None:
        executor.decoder(task)
    return executor


@aside()
def brought_by(setup: Setup) -> Used:
    """What the setup's `--use` brings. Raises PluginError."""
    return used(setup.use)


def _backends(
    setup: Setup, brought: Used, task: str | None, problem: Problem | None
) -> tuple[list[Any], dict[str, str]]:
    """Objects and names in order of preference, and what could not be imported.

    Where none is named: those that can decode the task, first those that say they know the problem,
    last those that say they do not; a unified model alone, since it reads only what it writes; after them
    every other registered one.
    """
    if setup.backends:
        return backends_named(setup.backends, brought), {}
    found, broken = load_all("backends")
    every = [*brought.backends, *found.values()]
    decoders = {decoder.task: decoder for decoder in brought.decoders}
    if task is not None and task not in decoders and task in registered("decoders"):
        decoders[task] = load("decoders", task)
    needs = decoders[task].needs if task in decoders else ()
    able = [backend for backend in every if needs and all(need in backend.provides for need in needs)]
    others = [backend for backend in every if backend not in able]
    if problem is not None and len(able) > 1:
        able = [one() if isinstance(one, type) and hasattr(one, "knows") else one for one in able]
        able.sort(key=lambda one: _foreign(one, problem))
    if able and getattr(able[0], "unified", False):
        return able[:1], broken
    return [*able, *others], broken


def _foreign(backend: Any, problem: Problem) -> int:
    """0 for a backend that says it knows a problem, 2 for one that says it does not."""
    knows = getattr(backend, "knows", None)
    return 1 if knows is None else 0 if knows(problem) else 2


def backends_named(words: Sequence[str], brought: Used) -> list[Any]:
    """What the executor takes for `--backend …`: names and words as they are, the objects that paths name,
    and last what `--use` brought and nobody named."""
    here_on_path()
    own = {str(backend.name): backend for backend in brought.backends}
    unchosen = [backend for name, backend in own.items() if name not in words]
    named = (own.get(w) or (load_named(w) if is_path(w, "backends") else _as_module(w)) for w in words)
    return [*named, *unchosen]


def _as_module(word: str) -> str:
    """A word such as depth=folder/mine.py:Model:PATH with the file as a module, its folder being on the
    import path."""
    match = re.fullmatch(r"(\w+=)?(.+\.py:.+)", word, re.DOTALL)
    return word if match is None else (match[1] or "") + file_as_module(match[2])


def _planner(name: str, brought: Used) -> Any:
    if name in brought.planners or not is_path(name, "planners"):
        return brought.planners.get(name, name)
    planner = load_named(name)
    if not callable(getattr(planner, "plan", None)) and not callable(getattr(planner, "search", None)):
        raise PluginError(f"--planner {name} is no planner: it has no plan(…) and no search(…)")
    return planner


def _policy(setup: Setup, brought: Used) -> Any:
    if setup.calls is not None:
        return calls_of(setup.calls)
    if setup.policy is None:
        if len(brought.asked) > 1:
            names = ", ".join(brought.asked)
            raise ProblemError(f"--use names several policies: choose one with --policy ({names})")
        return brought.policies[brought.asked[0]] if brought.asked else "schedule"
    if setup.policy in brought.policies:
        return brought.policies[setup.policy]
    if is_path(setup.policy, "policies"):
        return load_named(setup.policy)
    known = setup.policy in registered("policies") or os.path.isdir(setup.policy)
    if brought.policies and not known:
        named = [*brought.policies, *registered("policies")]
        raise UnknownName(f"no policy is called {setup.policy!r}.{near(setup.policy, named)}")
    return setup.policy


def _import_or_say_why(setup: Setup, brought: Used, task: str | None) -> None:
    """Where something is named that is registered but broken, say so, and not that nobody knows it."""
    own = {decoder.task for decoder in brought.decoders}
    if task is not None and task not in own and task in registered("decoders"):
        load("decoders", task)
    called = calls_of(setup.calls).decisions if setup.calls is not None else ()
    mine = {primitive.name for primitive in brought.primitives}
    for name in {call.action.partition(":")[0] for decision in called for call in decision.calls}:
        if name not in mine and name in registered("primitives"):
            load("primitives", name)


def _whole(amount: float) -> float | int:
    return int(amount) if float(amount).is_integer() else amount
