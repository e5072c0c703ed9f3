"""One chunk of problems through the engine: every state of the layout, level by level.

A state is made from its parent by forking it: the parent's workspace, one more call, one more answer. So a
context is written once however many states share it, and calls of one action meet in one batch, whichever
problem, draw and state they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from planners.tree.faults import TreeError
from planners.tree.layout import Layout
from planners.tree.recipe import ActionMade, ProbeMade, numbers
from unroller.ablation.scoring import Scorer
from unroller.cost import Cost, Left
from unroller.decide import NO_PROBES, Call, FixedList, State
from unroller.events import Measured
from unroller.executor import Executor
from unroller.memo import MemoryMemo
from unroller.problem import Problem
from unroller.run import Run
from unroller.unrolling import Snapshot
from unroller.values import Answer, array_fields
from unroller.workspace import Entry, Workspace

Array = np.ndarray[Any, Any]
Tell = Callable[[int, int], None]
"""Told how many states have been measured, and of how many."""

SEEDS = 2**64


class Chunk(msgspec.Struct):
    """What was measured of c problems in D draws and S states. Tables are (c, D, S) and indexed by name; see
    `planners.tree.files` for what each means."""

    tables: dict[str, Array]
    kinds: list[str]
    values: list[bytes | None]
    probabilities: Array
    arrays: dict[str, Array]


class _Place(msgspec.Struct):
    """Where one problem and draw stands in a state: what a fork begins with."""

    workspace: Workspace
    context: Cost
    failed: frozenset[str]


def drawn(problem: Problem, draw: int) -> Problem:
    """The problem in its draw number `draw`: with another seed, so that all that is stochastic draws anew and
    all else is found in the memo. Draw 0 is the problem as it is."""
    if draw == 0:
        return problem
    return problem.model_copy(update={"seed": (problem.seed + draw) % SEEDS})


def scorer_name(scorer: Scorer | None) -> str | None:
    return None if scorer is None else scorer.name


class Measuring:
    """Measures chunks of problems, each by itself: what comes of one does not depend on the others."""

    def __init__(
        self,
        executor: Executor,
        layout: Layout,
        actions: Sequence[ActionMade],
        probes: Sequence[ProbeMade],
        given_probes: Sequence[Any],
        draws: int,
        scorer: Scorer,
        hard: Scorer | None,
    ) -> None:
        self.executor = executor
        self.layout = layout
        self.actions = actions
        self.probes = probes
        self.given_probes = list(given_probes)
        self.draws = draws
        self.scorer = scorer
        self.hard = hard

    def chunk(self, problems: Sequence[Problem], first: int, tell: Callable[[], None]) -> Chunk:
        """Every state of these problems; `first` is the number of the first of them, for errors. tell: called
        once for each state of each problem and draw."""
        bound = self._bound()
        root = bound.extend(policy=asking([], self.given_probes))
        calls = [Call(action.name, action.parameters or None) for action in self.actions]
        forks = [bound.extend(policy=asking([call], self.given_probes)) for call in calls]
        filled = _Filling(self, problems, first)
        lanes = [drawn(problem, draw) for problem in problems for draw in range(self.draws)]
        level: dict[int, dict[int, _Place]] = {0: {}}
        for j, run in enumerate(root.map(lanes)):
            level[0][j] = filled.write(j, 0, run, _Place(Workspace(), Cost(), frozenset()))
            tell()
        layout = self.layout
        for size in range(1, layout.depth + 1):
            reached: dict[int, dict[int, _Place]] = {}
            for k, executor in enumerate(forks):
                grown = np.nonzero((layout.size == size) & (layout.last == k))[0].tolist()
                wanted: list[tuple[int, int]] = []
                for s in grown:
                    parent = int(layout.parent[s])
                    for j in range(len(lanes)):
                        if j in level[parent] and filled.open(j, parent, k):
                            wanted.append((s, j))
                        else:
                            tell()
                starts = (
                    Snapshot(lanes[j], level[int(layout.parent[s])][j].workspace, Cost()) for s, j in wanted
                )
                for (s, j), run in zip(wanted, executor.map(starts), strict=True):
                    before = level[int(layout.parent[s])][j]
                    reached.setdefault(s, {})[j] = filled.write(j, s, run, before)
                    tell()
            level = {s: reached.get(s, {}) for s in np.nonzero(layout.size == size)[0].tolist()}
        return filled.chunk()

    def _bound(self) -> Executor:
        """Without a budget, which is up to whoever uses the tree; a memo in memory only as long as a chunk,
        whose problems no other one shares."""
        kept = self.executor.memo
        memo = "memory" if kept is None or isinstance(kept, MemoryMemo) else kept
        return self.executor.extend(policy=[], budget=None, strict=False, memo=memo)


def asking(calls: Sequence[Call], probes: Sequence[Any]) -> FixedList:
    """A list of calls that asks for probes on the way."""
    listed = FixedList(calls)
    listed.probes = tuple(probes)
    return listed


class _Filling:
    """The tables of a chunk as they fill up."""

    def __init__(self, of: Measuring, problems: Sequence[Problem], first: int) -> None:
        self.of = of
        self.problems = problems
        self.first = first
        self.executor = of.executor
        count, states = len(problems) * of.draws, len(of.layout)
        self.shape = (count, states)
        nothing, none = np.nan, np.zeros
        self.tables: dict[str, Array] = {
            "reached": none(self.shape, bool),
            "failed": none(self.shape, bool),
            "answered": none(self.shape, bool),
            "allowed": none(self.shape, np.uint64),
            "score": np.full(self.shape, nothing),
            "hard": np.full(self.shape, nothing),
            "entropy": np.full(self.shape, nothing),
            "id": none((*self.shape, 16), np.uint8),
            "kind": np.full(self.shape, -1, np.int16),
        }
        for what in ("", "context_"):
            self.tables |= cost_tables(what, self.shape)
        for probe in of.probes:
            self.tables |= cost_tables(f"probe.{probe.name}.", self.shape)
            if not probe.array:
                self.tables[f"probe.{probe.name}"] = np.full(self.shape, nothing)
        self.kinds: dict[str, int] = {}
        self.values: list[bytes | None] = [None] * (count * states)
        self.answers: dict[tuple[int, int], tuple[float, ...]] = {}
        self.measured: dict[str, dict[tuple[int, int], Any]] = {p.name: {} for p in of.probes}

    def open(self, j: int, s: int, k: int) -> bool:
        """Whether action k is allowed in state s."""
        return bool(int(self.tables["allowed"][j, s]) >> k & 1)

    def write(self, j: int, s: int, run: Run, before: _Place) -> _Place:
        """Write down what a run, which made one call beyond `before`, came to."""
        tables, root, step = self.tables, s == 0, int(s > 0)
        made = [event for event in run.events if isinstance(event, Entry)]
        context = sum((entry.cost for entry in made), before.context)
        answering = Cost() if run.output_entry is None else run.output_entry.cost
        for fault in run.faults:
            if fault.phase == "call":
                context += Cost(*fault.charged)
            elif fault.phase == "decode":
                answering += Cost(*fault.charged)
            elif fault.phase == "probe" and fault.step == step and fault.action in self.measured:
                _put(tables, f"probe.{fault.action}.", (j, s), Cost(*fault.charged))
        failed = before.failed
        if not root and not made:
            failed |= {self.of.actions[int(self.of.layout.last[s])].name}
            tables["failed"][j, s] = True
        for entry in made:
            self._entry(j, s, entry)
        tables["reached"][j, s] = True
        _put(tables, "context_", (j, s), context)
        _put(tables, "", (j, s), context + answering)
        self._output(j, s, run)
        for event in run.measured:
            if event.step == step:
                self._probe(j, s, event)
        place = _Place(run.workspace, context, failed)
        tables["allowed"][j, s] = self._allowed(run.problem, s, place)
        return place

    def _entry(self, j: int, s: int, entry: Entry) -> None:
        name = entry.kind.__name__
        self.tables["kind"][j, s] = self.kinds.setdefault(name, len(self.kinds))
        self.tables["id"][j, s] = np.frombuffer(entry.id, np.uint8)
        if not array_fields(entry.kind):
            self.values[j * self.shape[1] + s] = _encoded(entry.value)

    def _output(self, j: int, s: int, run: Run) -> None:
        of, output = self.of, run.output
        i, draw = divmod(j, of.draws)
        problem = self.problems[i]
        which = f"problem {self.first + i}, draw {draw}, after {', '.join(of.layout.states[s]) or 'no call'}"
        answered = output is not None
        self.tables["answered"][j, s] = answered
        self.tables["score"][j, s] = of.scorer(problem, output, which) if answered else 0.0
        if of.hard is not None:
            self.tables["hard"][j, s] = of.hard(problem, output, which) if answered else 0.0
        if isinstance(output, Answer) and output.probabilities is not None:
            self.answers[j, s] = output.probabilities
            self.tables["entropy"][j, s] = output.entropy

    def _probe(self, j: int, s: int, event: Measured) -> None:
        if event.name not in self.measured:
            return  # one that the executor was given for itself
        number = isinstance(event.held, (int, float))
        if number != (f"probe.{event.name}" in self.tables):
            now, before = ("a number", "arrays") if number else ("an array", "numbers")
            raise TreeError(
                f"the probe {event.name} measured {now}, and {before} before or by its `writes`: it needs one"
                " of them"
            )
        _put(self.tables, f"probe.{event.name}.", (j, s), event.cost)
        if number:
            self.tables[f"probe.{event.name}"][j, s] = float(event.held)
        else:
            from unroller.arrays import to_numpy

            self.measured[event.name][j, s] = to_numpy(event.held).astype(np.float32, copy=False)

    def _allowed(self, problem: Problem, s: int, place: _Place) -> int:
        """What a live state would allow, of the tree's actions, each once, as bits."""
        layout, actions = self.of.layout, self.executor.actions
        wanted = [(k, a.name) for k, a in enumerate(self.of.actions) if layout.child[s, k] >= 0]
        if not wanted:
            return 0
        here = {name: actions[name] for _, name in wanted}
        state = State(problem, place.workspace, 0, NO_PROBES, Left(), 0.0, here, place.failed, ())
        return sum(1 << k for (k, _), open_ in zip(wanted, state.mask, strict=True) if open_)

    def chunk(self) -> Chunk:
        """All of it, with the tables as (c, D, S)."""
        c, draws, states = len(self.problems), self.of.draws, self.shape[1]
        most = max((len(p) for p in self.answers.values()), default=0)
        probabilities = np.full((*self.shape, most), np.nan)
        for at, p in self.answers.items():
            probabilities[at][: len(p)] = p
        arrays: dict[str, Array] = {}
        for probe in self.of.probes:
            held = self.measured[probe.name]
            if probe.array and held:
                arrays[probe.name] = self._stacked(probe, held)
        shaped = {
            name: table.reshape(c, draws, states, *table.shape[2:]) for name, table in self.tables.items()
        }
        return Chunk(
            shaped,
            list(self.kinds),
            self.values,
            probabilities.reshape(c, draws, states, most),
            arrays,
        )

    def _stacked(self, probe: ProbeMade, held: dict[tuple[int, int], Any]) -> Array:
        """(c, D, F), or (c, D, S, F) where the context matters; NaN where there is none."""
        c, draws, states = len(self.problems), self.of.draws, self.shape[1]
        width = next(iter(held.values())).size
        if any(array.size != width for array in held.values()):
            raise TreeError(several_sizes(probe.name))
        found = np.full((c * draws, 1 if probe.problem_only else states, width), np.nan, np.float32)
        for (j, s), array in held.items():
            if s < found.shape[1]:
                found[j, s] = array.ravel()
        return found.reshape((c, draws, width) if probe.problem_only else (c, draws, states, width))


def several_sizes(probe: str) -> str:
    return f"the probe {probe} measured arrays of different sizes: it needs one size"


def cost_tables(prefix: str, shape: tuple[int, ...]) -> dict[str, Array]:
    """Tables of nothing for a cost, by name."""
    return {
        f"{prefix}model_calls": np.zeros(shape, np.int32),
        f"{prefix}tokens": np.zeros(shape, np.int32),
        f"{prefix}price": np.zeros(shape, np.float64),
    }


def _put(tables: dict[str, Array], prefix: str, at: tuple[int, int], cost: Cost) -> None:
    for name, amount in zip(("model_calls", "tokens", "price"), numbers(cost), strict=True):
        tables[prefix + name][at] = amount


def _encoded(value: Any) -> bytes | None:
    """A value without arrays as bytes; None for one that cannot be written down."""
    try:
        return msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
