"""The executor: one object to run problems with.

    ex = Executor(backend="classical", policy="schedule", budget={"model_calls": 6})
    run = ex.run(x)                 # one problem
    runs = list(ex.map(problems))   # many, batched across problems

It binds primitives to backends once, makes lanes of problems, and drives the scheduler. The drivers are at
the end of this file: synchronous, streaming, asynchronous; each is a few lines around the same scheduler.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from unroller.actions import Action, bind
from unroller.cost import FREE, Budget, Left, left_of
from unroller.decide import FixedList, Policy, as_policy
from unroller.declare import Decoder, Primitive, Probe, as_primitive
from unroller.dispatch import Engine, InlineEngine
from unroller.events import Event
from unroller.faults import MissingCapability, PluginError, ProblemError, UnknownName
from unroller.lane import Batch, Lane, Setup
from unroller.memo import as_memo
from unroller.problem import Problem
from unroller.run import Run
from unroller.scheduler import Scheduler
from unroller.unrolling import Snapshot
from unroller.workspace import Workspace

if TYPE_CHECKING:
    import asyncio

    from unroller.journal import Durability
    from unroller.tree import Tree

WINDOW = 256
"""How many problems `map` has under way at a time: enough to fill batches, few enough to hold in memory."""


AHEAD = 16
"""How many windows of runs that have ended `map` keeps while an earlier one holds up their order."""


class Executor:
    """Runs problems through equation 1.

    backend: a registered name, a backend object, words such as "text=hf:PATH" (see `unroller.backends`), or
    several, in order of preference; None takes every registered one. policy: a registered name, a policy,
    the folder where one was saved, a list of calls, or a function of one state. planner: makes a plan for
    each problem before its first call, in place of a policy. budget: per problem. primitives, decoders,
    probes: registered names or objects; None takes every registered one.
    memo: "memory", a folder, a memo object, or None for none. journal: a folder, or None; with
    `resume=True` it goes on from what the folder holds. durability: see `journal`. strict: raise
    CallFailed at the first fault in place of recording it. engine: where batches run.

    Raises UnknownName, MissingCapability, PluginError, JournalError, MemoError, each with what to do.
    """

    def __init__(
        self,
        *,
        backend: Any = None,
        policy: Any = "schedule",
        planner: Any = None,
        budget: Budget | Mapping[str, Any] | None = None,
        primitives: Sequence[Any] | None = None,
        decoders: Sequence[Any] | None = None,
        probes: Sequence[Any] = (),
        memo: Any = "memory",
        journal: str | Path | None = None,
        resume: bool = False,
        durability: Durability = "run",
        strict: bool = False,
        engine: Engine | None = None,
        window: int = WINDOW,
    ) -> None:
        self._given: dict[str, Any] = {
            "backend": backend,
            "policy": policy,
            "planner": planner,
            "budget": budget,
            "primitives": primitives,
            "decoders": decoders,
            "probes": probes,
            "memo": memo,
            "journal": journal,
            "resume": resume,
            "durability": durability,
            "strict": strict,
            "engine": engine,
            "window": window,
        }
        self.broken: dict[str, str] = {}
        self.backends = self._backends(backend)
        self.budget = Budget.of(budget)
        self.memo = self._given["memo"] = as_memo(memo)
        self.strict = strict
        self.window = max(1, window)
        self.engine: Engine = engine or InlineEngine()
        self.actions = self._actions(primitives)
        self._decoders = self._by_task(decoders)
        self._bound_decoders: dict[str, Action] = {}
        self._budgets: dict[str, Left] = {}
        self.policy = self._policy(policy, planner)
        self._probes = self._probe_actions(probes)
        self.journal: Any = None
        if journal is not None:
            from unroller.journal import Journal

            self.journal = Journal(journal, durability=durability, resume=resume, setup=self.summary())

        self._setup = self._shared()

    def __repr__(self) -> str:
        names = ", ".join(b.name for b in self.backends) or "no backend"
        return f"<executor: {names}; policy {self.policy_name}; {len(self.actions)} actions>"

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the journal, so that another process or executor may open it."""
        if self.journal is not None:
            self.journal.close()

    # ------------------------------------------------------------------------------------- running

    def run(self, x: Problem | Snapshot) -> Run:
        """Unroll one problem, or go on from a place in an earlier run (`run.at(step)`)."""
        scheduler = Scheduler(self._setup)
        self._admit(scheduler, x)
        while scheduler.active:
            batch = scheduler.take()
            if batch is not None:
                self._perform(scheduler, batch)
        return Run(scheduler.ended()[0], self)

    def map(
        self, problems: Iterable[Problem | Snapshot], *, ordered: bool = True
    ) -> Iterator[Run]:
        """Unroll many problems, batched across problems; yields runs in the problems' order, or with
        `ordered=False` as they end. An error in the iterable is raised after what is under way has ended
        and been yielded."""
        return self._in_order(problems) if ordered else self._unordered(problems)

    def stream(self, x: Problem | Snapshot) -> Iterator[Event | Run]:
        """Unroll one problem and yield what happens as it happens: decisions, entries, faults, measured
        probes, the output, and last the Run."""
        scheduler = Scheduler(self._setup, listen=True)
        assert scheduler.heard is not None
        self._admit(scheduler, x)
        while scheduler.active or scheduler.heard:
            batch = scheduler.take()
            while scheduler.heard:
                yield scheduler.heard.popleft()[1]
            if batch is not None:
                self._perform(scheduler, batch)
        (lane,) = scheduler.ended()
        yield Run(lane, self)

    async def arun(self, x: Problem | Snapshot) -> Run:
        """`run`, without blocking the event loop."""
        async for run in self.amap((x,)):
            return run
        raise AssertionError("a problem always ends")

    async def amap(
        self, problems: Iterable[Problem | Snapshot], *, concurrency: int = 4
    ) -> AsyncIterator[Run]:
        """`map` as runs end, without blocking the event loop; up to `concurrency` batches at a time run on
        threads, so a slow model call holds up no other primitive's."""
        import asyncio  # costs 16 ms, and only the async drivers need it

        concurrency = max(1, concurrency)
        scheduler, feed = Scheduler(self._setup), _Feed(self, problems)
        under_way: dict[asyncio.Future[Any], Any] = {}
        while True:
            more = feed.top_up(scheduler)
            while len(under_way) < concurrency and (batch := scheduler.take()) is not None:
                views, started = [job.view for job in batch.jobs], perf_counter()
                task = asyncio.ensure_future(asyncio.to_thread(self.engine.perform, batch.action, views))
                under_way[task] = (batch, started)
            for lane in scheduler.ended():
                yield Run(lane, self)
            if not under_way:
                if not more and not scheduler.active:
                    break
                continue
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                batch, started = under_way.pop(task)
                scheduler.give(batch, task.result(), started)
        feed.raise_error()

    async def astream(self, x: Problem | Snapshot) -> AsyncIterator[Event | Run]:
        """`stream`, without blocking the event loop."""
        import asyncio

        events = self.stream(x)
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event

    def resume(self, folder: str | Path) -> list[Run]:
        """Go on with every run that a journal holds, from its last finished call, and return all of them:
        those that had ended come back as they were. Raises JournalError."""
        with self.extend(journal=folder, resume=True) as resumed:
            return list(resumed.map([recorded.start for recorded in resumed.journal.recorded]))

    def fork(self, run: Run, at: int) -> Snapshot:
        """The run as it stood after `at` decisions: give it to `run` of this or another executor."""
        return run.at(at)

    def tree(self, problems: Problem | Iterable[Problem], **options: Any) -> Tree:
        """Every unrolling of these problems, lazily: see `unroller.tree`."""
        from unroller.tree import Tree

        several = (problems,) if isinstance(problems, Problem) else tuple(problems)
        return Tree(self, several, **options)

    def extend(self, **changes: Any) -> Executor:
        """A new executor like this one but for `changes`; it shares backends, memo and engine.

        `primitives`, `decoders` and `probes` are added to those there are (a same name replaces);
        everything else is replaced. The journal is not shared: name a folder to have one.
        """
        given = dict(self._given)
        given["backend"] = self.backends
        given["journal"] = None
        given["resume"] = False
        there: dict[str, Iterable[Any]] = {
            "primitives": (action.primitive for action in self.actions.values()),
            "decoders": self._decoders.values(),
            "probes": self._given["probes"],
        }
        for group, held in there.items():
            if group in changes:
                both = (*held, *self._plugins(group, changes.pop(group)))
                given[group] = list({_key(one): one for one in both}.values())
        if "policy" in changes:
            given["planner"] = None
        unknown = set(changes) - set(given)
        if unknown:
            raise TypeError(f"an executor has no {', '.join(sorted(unknown))}: it has {', '.join(given)}")
        given.update(changes)
        extended = Executor(**given)
        extended.broken = {**self.broken, **extended.broken}
        return extended

    # ------------------------------------------------------------------------------------- binding

    @property
    def policy_name(self) -> str:
        return str(getattr(self.policy, "name", type(self.policy).__name__))

    def summary(self) -> dict[str, Any]:
        """What this executor is, as plain data, for journals and reports."""
        from unroller import __version__

        return {
            "unroller": __version__,
            "backends": [b.name for b in self.backends],
            "fingerprints": [str(b.fingerprint) for b in self.backends],
            "policy": self.policy_name,
            "actions": list(self.actions),
            "instructions": self.told,
            "budget": self.budget.model_dump(exclude_none=True),
        }

    @property
    def told(self) -> dict[str, list[str]]:
        """Name and version of what primitives and decoders tell a model: {"text_think": ["think@1"]}."""
        ours = (*(action.primitive for action in self.actions.values()), *self._decoders.values())
        return {one.name: list(one.told) for one in ours if one.told}

    def decoder(self, task: str) -> Action:
        """The decoder of a task, bound. Raises UnknownName or MissingCapability."""
        bound = self._bound_decoders.get(task)
        if bound is None:
            from unroller.registry import near

            if task not in self._decoders:
                hint = near(task, self._decoders) + self._not_imported()
                raise UnknownName(f"no decoder for the task {task!r}.{hint}")
            bound = bind(self._decoders[task], self.backends, who_could=who_could)
            self._bound_decoders[task] = bound
        return bound

    def _backends(self, given: Any) -> list[Any]:
        from unroller.backends import backends_of
        from unroller.registry import load_all

        if given is None:
            found, broken = load_all("backends")
            self.broken.update(broken)
            return [_made(backend) for backend in found.values()]
        several = cast("Sequence[Any]", given if isinstance(given, (list, tuple)) else [given])
        backends = [_made(backend) for backend in backends_of(several)]
        for backend in backends:
            lacks = [a for a in ("name", "fingerprint", "provides") if not hasattr(backend, a)]
            if lacks:
                raise PluginError(f"{backend!r} is no backend: it has no {', '.join(lacks)}")
            if getattr(backend, "max_batch", 1) < 1:
                what = f"the backend {backend.name} has a max_batch of {backend.max_batch}"
                raise PluginError(f"{what}: give 1 or more")
        return backends

    def _plugins(self, group: str, given: Sequence[Any] | None) -> list[Any]:
        from unroller.registry import load, load_all

        if given is None:
            found, broken = load_all(group)
            self.broken.update(broken)
            return list(found.values())
        return [load(group, one) if isinstance(one, str) else one for one in given]

    def _actions(self, given: Sequence[Any] | None) -> dict[str, Action]:
        actions: dict[str, Action] = {}
        for one in self._plugins("primitives", given):
            p: Primitive = as_primitive(one)
            if p.name in actions:
                raise PluginError(f"two primitives are called {p.name!r}: give one of them another name")
            for preset in (None, *p.presets):
                action = bind(p, self.backends, preset=preset, who_could=who_could, strict=False)
                actions[action.name] = action
        return actions

    def _by_task(self, given: Sequence[Any] | None) -> dict[str, Decoder]:
        decoders: dict[str, Decoder] = {}
        for one in self._plugins("decoders", given):
            if not isinstance(one, Decoder):
                raise PluginError(f"{one!r} is no decoder: decorate it with @decoder(task=…, writes=…)")
            if one.task in decoders:
                raise PluginError(f"two decoders are for the task {one.task!r}: leave one of them out")
            decoders[one.task] = one
        return decoders

    def _policy(self, given: Any, planner: Any) -> Policy:
        from unroller.registry import load, policy_named

        if planner is not None:
            from unroller.plan import PlannedPolicy

            planner = load("planners", planner) if isinstance(planner, str) else planner
            return PlannedPolicy(planner() if isinstance(planner, type) else planner, self)
        policy = as_policy(policy_named(given) if isinstance(given, (str, Path)) else given)
        if (bound_to := getattr(policy, "bound_to", None)) is not None:
            policy = as_policy(bound_to(self.actions))
        if isinstance(policy, FixedList):  # a list can be checked before anything is spent on it
            for decision in policy.decisions:
                for call in decision.calls:
                    self._callable(call.action)
        return policy

    def _callable(self, name: str) -> None:
        action = self.actions.get(name)
        if action is None:
            from unroller.registry import near

            hint = near(name, self.actions) + self._not_imported()
            raise UnknownName(f"no action is called {name!r}.{hint}")
        if action.missing is not None:
            raise MissingCapability(f"{name} {action.missing}")

    def _not_imported(self) -> str:
        """What registered plug-ins could not be imported, and why: it may be what is missing."""
        return "".join(f" {reason}" for reason in dict.fromkeys(self.broken.values()))

    def _probe_actions(self, extra: Sequence[Any]) -> list[Action]:
        from unroller.registry import load

        objects = {p.name: p for p in extra if isinstance(p, Probe)}
        bound: list[Action] = []
        for named in (*getattr(self.policy, "probes", ()), *(p for p in extra if isinstance(p, str))):
            one = named if isinstance(named, Probe) else objects.get(named) or load("probes", named)
            bound.append(bind(one, self.backends, who_could=who_could))
        return bound

    def _shared(self) -> Setup:
        return Setup(
            self.actions,
            self._bound_decoders,
            self._probes,
            self.policy,
            self.budget,
            self.memo,
            self.journal,
            self.strict,
        )

    # ------------------------------------------------------------------------------------- driving

    def _admit(self, scheduler: Scheduler, x: Problem | Snapshot, key: Any = None) -> Lane:
        if isinstance(x, Snapshot):
            problem, workspace, cost = x.problem, x.workspace, x.cost
        elif isinstance(x, Problem):  # pyright: ignore[reportUnnecessaryIsInstance]
            problem, workspace, cost = x, Workspace(), FREE
        else:
            raise ProblemError(f"run() takes a Problem, map() several; this is a {type(x).__name__}")
        decoder = self.decoder(problem.task)
        reason = decoder.inapplicable(problem)
        if reason is not None:
            raise ProblemError(f"{problem.task}: {reason}")
        left = self._budgets.get(problem.task) or self._left(problem.task, decoder)
        lane = Lane(problem, decoder, left.less(cost), workspace, cost, key)
        scheduler.admit(lane)
        return lane

    def _left(self, task: str, decoder: Action) -> Left:
        """What the budget leaves for primitives in a task. Raises BudgetError."""
        left = self._budgets[task] = left_of(self.budget, decoder.cost)
        return left

    def _perform(self, scheduler: Scheduler, batch: Batch) -> None:
        """Have the engine perform a batch, and deliver what comes of it."""
        started = perf_counter()
        outcomes = self.engine.perform(batch.action, [job.view for job in batch.jobs])
        scheduler.give(batch, outcomes, started)

    def _drive(
        self, problems: Iterable[Problem | Snapshot], waiting: Sized = ()
    ) -> Iterator[Lane]:
        """The synchronous driver: lanes as they end."""
        scheduler, feed = Scheduler(self._setup), _Feed(self, problems)
        while feed.top_up(scheduler, len(waiting)) or scheduler.active:
            batch = scheduler.take()
            if batch is not None:
                self._perform(scheduler, batch)
            yield from scheduler.ended()
        feed.raise_error()

    def _unordered(self, problems: Iterable[Problem | Snapshot]) -> Iterator[Run]:
        for lane in self._drive(problems):
            yield Run(lane, self)

    def _in_order(self, problems: Iterable[Problem | Snapshot]) -> Iterator[Run]:
        early: dict[int, Run] = {}
        following = 0
        for lane in self._drive(problems, early):
            early[lane.key] = Run(lane, self)
            while following in early:
                yield early.pop(following)
                following += 1


class _Feed:
    """Admits problems while the window has room. An error ends the feed; it is raised at the very end, so
    that what is under way is finished first."""

    def __init__(self, executor: Executor, problems: Iterable[Problem | Snapshot]) -> None:
        self.executor = executor
        self.problems = iter(problems)
        self.count = 0
        self.error: Exception | None = None
        self.empty = False

    def top_up(self, scheduler: Scheduler, waiting: int = 0) -> bool:
        """Admit what fits, unless many that have ended wait for an earlier one. True while there is more."""
        window = self.executor.window
        while not self.empty and scheduler.active < window and waiting < AHEAD * window:
            try:
                x = next(self.problems)
                self.executor._admit(scheduler, x, self.count)  # pyright: ignore[reportPrivateUsage]
            except StopIteration:
                self.empty = True
            except Exception as error:
                self.error, self.empty = error, True
            self.count += 1
        return not self.empty

    def raise_error(self) -> None:
        if self.error is not None:
            raise self.error


def _key(plugin: Any) -> Any:
    """What a plug-in replaces another of: the same name, or for decoders the same task."""
    return getattr(plugin, "task", None) or getattr(plugin, "name", plugin)


def _made(backend: Any) -> Any:
    return backend() if isinstance(backend, type) else backend


def who_could(capability: type[Any]) -> str:
    """A sentence that names the registered backends that provide a capability."""
    from unroller.registry import load_all

    found, _ = load_all("backends")
    able = [
        f"{name} (needs the extra {backend.extra!r})" if getattr(backend, "extra", None) else name
        for name, backend in found.items()
        if capability in backend.provides
    ]
    if able:
        return f" These do: {', '.join(able)}; choose one with backend=…"
    return f" No installed backend provides {capability.__name__}: install or write one that does."

