"""What a user would pick instead: each library in its own idiom, doing the same step.

Every neighbour gives the same few functions (``Neighbour``), and each function returns a *run*: a
callable that takes the starting value and returns the last value of the context. A step reads the
newest value of the state and appends one; the state keeps all of them, as a context must. Graphs
are built once, outside the clock, where the library allows it. No tracing, no callbacks, default
settings, and nothing that its documentation advises against.

What is *not* made equal is what the libraries are for: langgraph brings interrupts and streaming,
burr a tracking UI. The figures are about the cost of a step, not about worth.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import operator
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, TypedDict

from task import Think

Run = Callable[[Any], Any]
"""Starting value in, last value of the context out."""

RunMany = Callable[[Sequence[Any]], list[Any]]
"""The same for many runs, in the library's own way of running many."""


class Neighbour(Protocol):
    """What each library is asked to do. A library that has no such feature lacks the method."""

    name: str
    modules: tuple[str, ...]  # what must be importable
    packages: tuple[str, ...]  # what to install; their versions go into the result

    def chain(self, n: int, think: Think) -> Run:
        """``n`` steps laid out one after the other."""

    def loop(self, n: int, think: Think) -> Run:
        """One step, ``n`` times around."""

    def many(self, n: int, think: Think) -> RunMany:
        """Chains of ``n`` steps over many starting values."""

    # Optional: persisted(n, think, folder) -> Run, each step on disk before the next begins.


class PlainLoop:
    """No library at all: a list and a ``for``. The floor."""

    name = "plain loop"
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def chain(self, n: int, think: Think) -> Run:
        steps = [think] * n

        def run(start: Any) -> Any:
            context = [start]
            for step in steps:
                context.append(step(context[-1]))
            return context[-1]

        return run

    def loop(self, n: int, think: Think) -> Run:
        return self.chain(n, think)

    def many(self, n: int, think: Think) -> RunMany:
        run = self.chain(n, think)
        return lambda starts: [run(start) for start in starts]

    def persisted(self, n: int, think: Think, folder: Path) -> Run:
        """One msgpack record a step, flushed to the system: as plain as a journal can be."""
        import msgspec

        encode = msgspec.msgpack.Encoder().encode
        file = (folder / "log.msgpack").open("ab")

        def run(start: Any) -> Any:
            context = [start]
            for step in range(n):
                context.append(think(context[-1]))
                file.write(encode((start, step, context[-1])))
                file.flush()
            return context[-1]

        return run


class LangGraph:
    """``StateGraph`` with a reducer, compiled once, ``invoke`` for each run."""

    name = "langgraph"
    modules = ("langgraph.graph",)
    packages = ("langgraph",)

    def _compile(self, n: int, think: Think, *, loop: bool, saver: Any = None) -> Any:
        from langgraph.graph import END, START, StateGraph

        class Context(TypedDict):
            thoughts: Annotated[list, operator.add]

        def step(context: Context) -> dict[str, list]:
            return {"thoughts": [think(context["thoughts"][-1])]}

        builder = StateGraph(Context)
        if loop:
            builder.add_node("step", step)
            builder.add_edge(START, "step")
            builder.add_conditional_edges(
                "step", lambda context: "step" if len(context["thoughts"]) <= n else END
            )
        else:
            for i in range(n):
                builder.add_node(f"step_{i}", step)
            names = [START, *(f"step_{i}" for i in range(n)), END]
            for before, after in itertools.pairwise(names):
                builder.add_edge(before, after)
        return builder.compile(checkpointer=saver)

    def chain(self, n: int, think: Think) -> Run:
        graph = self._compile(n, think, loop=False)
        return lambda start: graph.invoke({"thoughts": [start]})["thoughts"][-1]

    def loop(self, n: int, think: Think) -> Run:
        graph = self._compile(n, think, loop=True)
        config = {"recursion_limit": n + 2}
        return lambda start: graph.invoke({"thoughts": [start]}, config)["thoughts"][-1]

    def many(self, n: int, think: Think) -> RunMany:
        """``batch``: the library's way, one thread a run."""
        graph = self._compile(n, think, loop=False)

        def run(starts: Sequence[Any]) -> list[Any]:
            contexts = graph.batch([{"thoughts": [start]} for start in starts])
            return [context["thoughts"][-1] for context in contexts]

        return run

    def many_in_a_loop(self, n: int, think: Think) -> RunMany:
        """``invoke`` one after the other: what ``batch`` costs or saves, seen from beside it."""
        run = self.chain(n, think)
        return lambda starts: [run(start) for start in starts]


class LangGraphSqlite(LangGraph):
    """``SqliteSaver`` on a file, ``durability="sync"``: each step is on disk before the next.

    ``pragma`` and ``durability`` soften that, to see how much of the cost is the disk's.
    """

    name = "langgraph SqliteSaver"
    modules = ("langgraph.graph", "langgraph.checkpoint.sqlite")
    packages = ("langgraph", "langgraph-checkpoint-sqlite")
    durability = "sync"
    pragma = ""

    def persisted(self, n: int, think: Think, folder: Path) -> Run:
        from langgraph.checkpoint.sqlite import SqliteSaver

        connection = sqlite3.connect(folder / "checkpoints.sqlite", check_same_thread=False)
        saver = SqliteSaver(connection)
        saver.setup()
        if self.pragma:
            connection.execute(self.pragma)
        graph = self._compile(n, think, loop=n > 4, saver=saver)
        threads = itertools.count()

        def run(start: Any) -> Any:
            config = {"configurable": {"thread_id": str(next(threads))}, "recursion_limit": n + 2}
            context = graph.invoke({"thoughts": [start]}, config, durability=self.durability)
            return context["thoughts"][-1]

        return run

    def resumed(self, n: int, think: Think, folder: Path) -> Callable[[], Any]:
        """A run of ``n`` steps is on disk in ``folder``; open it and read its state."""
        from langgraph.checkpoint.sqlite import SqliteSaver

        self.persisted(n, think, folder)("0")
        builder = self._compile(n, think, loop=n > 4).builder

        def load() -> Any:
            with SqliteSaver.from_conn_string(str(folder / "checkpoints.sqlite")) as saver:
                graph = builder.compile(checkpointer=saver)
                state = graph.get_state({"configurable": {"thread_id": "0"}})
            return state.values["thoughts"][-1]

        return load


class LangGraphSqliteRelaxed(LangGraphSqlite):
    """The same without ``fsync`` at each commit: survives a killed process, not a power cut.

    That is the promise of an append-only log that is flushed, so the fairest twin of our journal.
    """

    name = "langgraph SqliteSaver, synchronous=NORMAL"
    pragma = "PRAGMA synchronous=NORMAL"


class LangGraphSqliteAsync(LangGraphSqlite):
    """langgraph's default: a step is saved while the next one runs, so a kill can lose one."""

    name = "langgraph SqliteSaver, durability=async"
    durability = "async"


class Burr:
    """One ``Graph``, shared; one ``Application`` a run, because the application holds the state."""

    name = "burr"
    modules = ("burr.core",)
    packages = ("apache-burr",)

    def _action(self, think: Think) -> Any:
        from burr.core import State, action

        @action(reads=["thoughts"], writes=["thoughts"])
        def step(state: State) -> State:
            return state.append(thoughts=think(state["thoughts"][-1]))

        return step

    def _start(self, graph: Any, first: str, last: str, persister: Any = None) -> Run:
        from burr.core import ApplicationBuilder

        def run(start: Any) -> Any:
            builder = (
                ApplicationBuilder().with_graph(graph).with_state(thoughts=[start]).with_entrypoint(first)
            )
            if persister is not None:
                builder = builder.with_state_persister(persister)
            *_, state = builder.build().run(halt_after=[last])
            return state["thoughts"][-1]

        return run

    def chain(self, n: int, think: Think, persister: Any = None) -> Run:
        from burr.core import GraphBuilder

        names = [f"step_{i}" for i in range(n)]
        actions = {name: self._action(think) for name in names}
        graph = GraphBuilder().with_actions(**actions).with_transitions(*itertools.pairwise(names)).build()
        return self._start(graph, names[0], names[-1], persister)

    def loop(self, n: int, think: Think, persister: Any = None) -> Run:
        from burr.core import Condition, GraphBuilder, State, action, default

        @action(reads=[], writes=[])
        def done(state: State) -> State:
            return state

        more = Condition(["thoughts"], lambda state: len(state["thoughts"]) <= n, name="more")
        graph = (
            GraphBuilder()
            .with_actions(step=self._action(think), done=done)
            .with_transitions(("step", "step", more), ("step", "done", default))
            .build()
        )
        return self._start(graph, "step", "done", persister)

    def many(self, n: int, think: Think) -> RunMany:
        """A loop: burr maps inside one application (``MapStates``), not over applications."""
        run = self.chain(n, think)
        return lambda starts: [run(start) for start in starts]


def settle(folder: Path) -> None:
    """Fold write-ahead logs back into their databases: what a closed process leaves on disk."""
    for path in folder.glob("*.sqlite"):
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class BurrSqlite(Burr):
    """``SQLitePersister`` as it comes: a rollback journal and an ``fsync`` at each commit."""

    name = "burr SQLitePersister"
    pragmas: tuple[str, ...] = ()

    def persisted(self, n: int, think: Think, folder: Path) -> Run:
        from burr.core.persistence import SQLitePersister

        persister = SQLitePersister(str(folder / "burr.sqlite"))
        persister.initialize()
        for pragma in self.pragmas:
            persister.connection.execute(pragma)
        return (self.loop if n > 4 else self.chain)(n, think, persister)

    def resumed(self, n: int, think: Think, folder: Path) -> Callable[[], Any]:
        """A run of ``n`` steps is on disk in ``folder``; open it and read its state."""
        from burr.core.persistence import SQLitePersister

        self.persisted(n, think, folder)("0")

        def load() -> Any:
            with SQLitePersister(str(folder / "burr.sqlite")) as persister:
                (run,) = persister.list_app_ids(None)
                return persister.load(None, run)["state"]["thoughts"][-1]

        return load


class BurrSqliteRelaxed(BurrSqlite):
    """The same with a write-ahead log and no ``fsync`` at each commit, set on its connection."""

    name = "burr SQLitePersister, WAL, synchronous=NORMAL"
    pragmas = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")


@dataclass
class _Context:
    """State of the pydantic-graph runs; at module level, because the library reads type hints."""

    thoughts: list[Any]


class PydanticGraph:
    """``GraphBuilder`` steps for a chain, a ``BaseNode`` for a loop; one event loop for all runs.

    Version 2 has no persistence of its own, so it takes no part in ``journal.py``.
    """

    name = "pydantic-graph"
    modules = ("pydantic_graph",)
    packages = ("pydantic-graph",)

    def _chain(self, n: int, think: Think) -> Any:
        from pydantic_graph import GraphBuilder

        async def step(ctx) -> None:
            ctx.state.thoughts.append(think(ctx.state.thoughts[-1]))

        graph = GraphBuilder(name="chain", state_type=_Context, output_type=type(None))
        steps = [graph.step(step, node_id=f"step_{i}") for i in range(n)]
        path = [graph.start_node, *steps, graph.end_node]
        graph.add(*(graph.edge_from(a).to(b) for a, b in itertools.pairwise(path)))
        return graph.build()

    def chain(self, n: int, think: Think) -> Run:
        graph = self._chain(n, think)

        def run(start: Any) -> Any:
            context = _Context([start])
            graph.run_sync(state=context)
            return context.thoughts[-1]

        return run

    def loop(self, n: int, think: Think) -> Run:
        from pydantic_graph import BaseNode, End, GraphBuilder, GraphRunContext

        @dataclass
        class Step(BaseNode[_Context, None, None]):
            left: int

            async def run(self, ctx: GraphRunContext[_Context]):
                ctx.state.thoughts.append(think(ctx.state.thoughts[-1]))
                return Step(self.left - 1) if self.left > 1 else End(None)

        Step.run.__annotations__["return"] = Step | End[None]  # a local class has no global name
        Step.run.__annotations__["ctx"] = GraphRunContext[_Context]
        builder = GraphBuilder(name="loop", state_type=_Context, input_type=Step, output_type=type(None))
        builder.add(builder.node(Step), builder.edge_from(builder.start_node).to(Step))
        graph = builder.build()

        def run(start: Any) -> Any:
            context = _Context([start])
            graph.run_sync(state=context, inputs=Step(n))
            return context.thoughts[-1]

        return run

    def many(self, n: int, think: Think) -> RunMany:
        """One event loop, runs in turn: steps that never wait gain nothing from ``gather``."""
        graph = self._chain(n, think)

        async def all_of(starts: Sequence[Any]) -> list[Any]:
            contexts = [_Context([start]) for start in starts]
            for context in contexts:
                await graph.run(state=context)
            return [context.thoughts[-1] for context in contexts]

        return lambda starts: asyncio.run(all_of(starts))


PLAIN = PlainLoop()
ORCHESTRATORS: tuple[Neighbour, ...] = (LangGraph(), Burr(), PydanticGraph())
PERSISTERS = (
    LangGraphSqlite(),
    LangGraphSqliteRelaxed(),
    LangGraphSqliteAsync(),
    BurrSqlite(),
    BurrSqliteRelaxed(),
)


def present(candidates: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """The candidates that can be imported, and a sentence for each that cannot."""
    here, absent = [], []
    for candidate in candidates:
        missing = [module for module in candidate.modules if not importable(module)]
        if missing:
            install = " ".join(candidate.packages)
            absent.append(f"{candidate.name} is not installed and left out: pip install {install}")
        else:
            here.append(candidate)
    return here, absent


def packages(candidates: Sequence[Any]) -> list[str]:
    """Distributions whose versions belong beside the figures."""
    return list(dict.fromkeys(package for c in candidates for package in c.packages))


def importable(module: str) -> bool:
    """Whether ``module`` is there, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
