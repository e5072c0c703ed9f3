"""A tree in memory: numpy arrays that nobody can write to, over n problems, D draws and S states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
import numpy as np

from planners.tree.faults import TreeError
from planners.tree.files import (
    ARRAYS,
    COSTS,
    PROBLEMS,
    STATES,
    Manifest,
    read_file,
    read_manifest,
    read_table,
)
from planners.tree.layout import Layout, State, name_of
from planners.tree.measuring import Chunk, drawn
from planners.tree.recipe import Recipe
from unroller.problem import Problem

if TYPE_CHECKING:
    from policies.observation import Observation
    from policies.table import Table

Array = np.ndarray[Any, Any]

Judged = Literal["score", "hard"]
"""Which of a tree's two scores counts."""


class CompleteTree:
    """Every state of every problem, measured.

    recipe: how it was made. layout: its states, S of them, and how actions lead from one to another.
    reached (n, D, S) bool: whether a live run can get there; where it cannot, the numbers mean nothing.
    allowed (n, D, S, K) bool: what a live state would offer, of the tree's actions, each once.
    score, hard (n, D, S): of the answer given there (`hard` is NaN where it was not measured).
    cost (n, D, S, 3): charged in all if it is answered there: model calls, tokens, price. context_cost: the
    same without the answer. failed (n, D, S): the last call of the state wrote nothing. entropy (n, D, S):
    of the answer, in nats, NaN where it has no probabilities. probabilities (n, D, S, C): of the choices, NaN
    beyond their number. kind (n, D, S): the number in `kinds` of the value type that the last call wrote, -1
    for none. id (n, D, S, 16): the provenance id of that value. probes: (n, D, S) or (n, D, S, F) by
    name; probe_cost: (n, D, S, 3) by name.

    All arrays are read-only. Make one with `load`, or `synthetic`.
    """

    def __init__(
        self,
        recipe: Recipe,
        kinds: Sequence[str],
        tables: Mapping[str, Array],
        probabilities: Array,
        arrays: Mapping[str, Array],
        problems: Sequence[Problem],
        identities: Sequence[Sequence[bytes]],
        value: Callable[[int], bytes | None],
    ) -> None:
        self.recipe = recipe
        self.layout: Layout = recipe.layout
        self.kinds = tuple(kinds)
        self.reached = _fixed(tables["reached"])
        self.failed = _fixed(tables["failed"])
        self.answered = _fixed(tables["answered"])
        self.score = _fixed(tables["score"])
        self.hard = _fixed(tables["hard"])
        self.entropy = _fixed(tables["entropy"])
        self.cost = _costs(tables, "")
        self.context_cost = _costs(tables, "context_")
        self.kind = _fixed(tables["kind"])
        self.id = _fixed(tables["id"])
        self.probabilities = _fixed(probabilities)
        bits = np.arange(len(self.actions), dtype=np.uint64)
        self.allowed = _fixed((tables["allowed"][..., None] >> bits & np.uint64(1)).astype(bool))
        self.probes: dict[str, Array] = {}
        self.probe_cost: dict[str, Array] = {}
        for probe in recipe.probes:
            held = arrays.get(probe.name) if probe.array else tables[f"probe.{probe.name}"]
            if held is not None:
                if held.ndim == 3 and probe.array:  # (n, D, F): of the problem, the same in all of its states
                    held = np.broadcast_to(held[:, :, None], (*self.score.shape, held.shape[-1]))
                elif probe.problem_only:  # written down where nothing was called, and it stays what it was
                    held = np.broadcast_to(held[:, :, :1], held.shape)
                self.probes[probe.name] = _fixed(held)
            self.probe_cost[probe.name] = _costs(tables, f"probe.{probe.name}.")
        self.problems = tuple(problems)
        self._identities = identities
        self._value = value
        self._drawn: dict[tuple[int, int], Problem] = {}
        self._softly: CompleteTree | None = None  # of one that is judged by right and wrong

    def __repr__(self) -> str:
        return f"<tree: {len(self)} problems, {self.draws} draws, {self.layout!r}>"

    def __len__(self) -> int:
        return self.recipe.n

    @property
    def actions(self) -> State:
        return self.layout.actions

    @property
    def states(self) -> tuple[State, ...]:
        return self.layout.states

    @property
    def draws(self) -> int:
        return self.recipe.draws

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """The task of each problem."""
        return tuple(problem.task for problem in self.problems)

    @cached_property
    def counts(self) -> Array:
        """(n, D, S, T) uint8: how many values of each of `kinds` the context holds."""
        wrote = self.kind[..., None] == np.arange(len(self.kinds))
        found = wrote.astype(np.uint8)
        for s in range(1, len(self.states)):
            found[:, :, s] += found[:, :, self.layout.parent[s]]
        return _fixed(found)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """What the columns of `features` are."""
        names = ["answer entropy", "answer probability", "calls made", *(f"written {k}" for k in self.kinds)]
        for name, held in self.probes.items():
            names += [name] if held.ndim == 3 else [f"{name} {i}" for i in range(held.shape[-1])]
        return tuple(names)

    @cached_property
    def features(self) -> Array:
        """(n, D, S, F) float32: what is known of each state without the truth, as `feature_names` says; 0
        where it could not be measured."""
        shape = self.score.shape
        with np.errstate(all="ignore"):
            best = np.nan_to_num(self.probabilities).max(-1, initial=0.0)
        parts = [self.entropy, best, np.broadcast_to(self.layout.size, shape)]
        columns = [part[..., None] for part in parts] + [self.counts]
        for held in self.probes.values():
            columns.append(held[..., None] if held.ndim == 3 else held)
        return _fixed(np.nan_to_num(np.concatenate([c.astype(np.float32) for c in columns], -1)))

    def problem(self, i: int, draw: int = 0) -> Problem:
        """Problem number i in a draw: as it was, less its pictures; its identity is the whole problem's."""
        found = self._drawn.get((i, draw))
        if found is None:
            found = drawn(self.problems[i], draw)
            if found is self.problems[i]:
                found = found.model_copy()
            for field in ("images", "intrinsics"):
                vars(found)[field] = getattr(self.problems[i], field)
            vars(found)["identity"] = self._identities[i][draw]
            self._drawn[i, draw] = found
        return found

    def value_bytes(self, i: int, draw: int, s: int) -> bytes | None:
        """What the last call of a state wrote, encoded; None for what holds arrays, which is not kept."""
        return self._value((i * self.draws + draw) * len(self.states) + s)

    def number(self, state: Sequence[str]) -> int:
        """The number of a state by its actions. Raises TreeError."""
        found = (
            self.layout.number.get(self.layout.canonical(state)) if set(state) <= set(self.actions) else None
        )
        if found is None:
            raise TreeError(f"the tree does not hold {name_of(state)}: it holds {self.layout!r}")
        return found

    def judged(self, by: Judged) -> CompleteTree:
        """The same tree, scored by its scorer ("score") or by its hard scorer, right or wrong ("hard").

        What is trained, compared, or searched on it then pursues that. A hard score is 0 or 1 in each draw:
        more problems, and several draws, are needed before anything is known. Raises TreeError where no hard
        score was measured.
        """
        if by == "score":
            return self._softly or self
        if by != "hard":
            raise TreeError(f"a tree is judged by score or by hard, not by {by!r}")
        if self.recipe.hard is None:
            raise TreeError("this tree has no hard score: build it with --hard SCORER, or judge by score")
        found = copy(self)
        found._softly = self._softly or self
        found.recipe = msgspec.structs.replace(
            self.recipe, scorer=self.recipe.hard, scorer_version=self.recipe.hard_version
        )
        found.score = self.hard
        return found

    def table(
        self,
        observation: Observation | None = None,
        *,
        price: Any = "model_calls",
        budget: Any = None,
        problems: Sequence[int] | None = None,
        by: Any = None,
    ) -> Table:
        """The tree as arrays for one observation, to train on: see `planners.tree.tables.table`."""
        from planners.tree.tables import table

        return table(self, observation, price=price, budget=budget, problems=problems, by=by)

    def follow(self, calls: Sequence[str]) -> Array:
        """(n, D): the state in which a list of calls ends up; as in a live run, a call that is not allowed
        is refused, and the others are made all the same. Raises TreeError for an action it does not have."""
        n, draws = self.score.shape[:2]
        at = np.zeros((n, draws), np.int32)
        i, d = np.ogrid[:n, :draws]
        for name in calls:
            if name not in self.actions:
                raise TreeError(
                    f"the tree has no action {name!r}: it has {', '.join(self.actions) or 'none'}"
                )
            k = self.actions.index(name)
            at = np.where(self.allowed[i, d, at, k], self.layout.child[at, k], at)
        return at

    def at(self, table: Array, states: Array) -> Array:
        """`table` (n, D, S, …) in one state of each problem and draw, (n, D): (n, D, …)."""
        n, draws = states.shape
        i, d = np.ogrid[:n, :draws]
        return table[i, d, states]


def load(folder: str | Path) -> CompleteTree:
    """Read a tree from its folder. Raises TreeError for one that is missing, unfinished, truncated, changed,
    or of another version."""
    from safetensors.numpy import load as load_arrays

    folder = Path(folder)
    manifest = read_manifest(folder)
    contents = {name: read_file(folder, manifest, name) for name in (STATES, PROBLEMS, ARRAYS)}
    try:
        states, problems = read_table(contents[STATES]), read_table(contents[PROBLEMS])
        arrays = load_arrays(contents[ARRAYS])
        return _assembled(manifest, states, problems, arrays)
    except TreeError:
        raise
    except Exception as error:  # each library has errors of its own for what it cannot read
        raise TreeError(f"{folder} cannot be read: {type(error).__name__}: {error}") from error


def _assembled(manifest: Manifest, states: Any, problems: Any, arrays: Mapping[str, Array]) -> CompleteTree:
    recipe = manifest.recipe
    shape = (recipe.n, recipe.draws, len(recipe.layout))
    size = shape[0] * shape[1] * shape[2]
    if states.num_rows != size or problems.num_rows != recipe.n:
        raise TreeError(f"there are {states.num_rows} states and {problems.num_rows} problems, not {shape}")
    tables: dict[str, Array] = {}
    for name in states.column_names:
        if name not in ("problem", "draw", "state", "id", "kind", "value"):
            tables[name] = states[name].to_numpy().reshape(shape)
    ids = b"".join(chunk.buffers()[1].to_pybytes()[: 16 * len(chunk)] for chunk in states["id"].chunks)
    tables["id"] = np.frombuffer(ids, np.uint8).reshape(*shape, 16)
    tables["kind"] = _numbered(states["kind"], manifest.kinds).reshape(shape)
    values = states["value"]
    identities = cast("list[list[bytes]]", problems["identities"].to_pylist())
    return CompleteTree(
        recipe,
        manifest.kinds,
        tables,
        arrays["probabilities"],
        {name.removeprefix("probe."): array for name, array in arrays.items() if name.startswith("probe.")},
        _problems(problems),
        identities,
        lambda row: values[row].as_py(),
    )


def _numbered(column: Any, kinds: Sequence[str]) -> Array:
    """The value types of a column as numbers of `kinds`, -1 for none."""
    parts: list[Array] = []
    for chunk in column.chunks:
        coded = chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode()
        numbers = np.array([kinds.index(name) for name in coded.dictionary.to_pylist()] + [-1], np.int16)
        parts.append(numbers[coded.indices.fill_null(len(numbers) - 1).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def assembled(recipe: Recipe, problems: Sequence[Problem], chunk: Chunk) -> CompleteTree:
    """A tree in memory from one chunk that holds all of its problems."""
    identities = [[drawn(problem, d).identity for d in range(recipe.draws)] for problem in problems]
    return CompleteTree(
        recipe,
        chunk.kinds,
        chunk.tables,
        chunk.probabilities,
        chunk.arrays,
        problems,
        identities,
        lambda row: chunk.values[row],
    )


class _NotKept:
    """Stands where a picture or a camera was: it can be counted, and nothing else."""

    size = ("?", "?")

    def __getattr__(self, name: str) -> Any:
        raise TreeError(
            f"a tree does not keep pictures and cameras, and a policy asks for the {name} of one: decide from"
            " words, probes and counts, or run live"
        )


def _problems(table: Any) -> list[Problem]:
    """The problems of a tree, with as many pictures and cameras as they had."""
    import os

    from unroller.codec import BlobStore, Codec

    codec, nothing = Codec(BlobStore(Path(os.devnull))), _NotKept()
    found = [Problem(**codec.fields(raw)) for raw in table["fields"].to_pylist()]
    for column, field in (("images", "images"), ("cameras", "intrinsics")):
        if column in table.column_names:  # trees of the first days did not count cameras
            for problem, count in zip(found, table[column].to_pylist(), strict=True):
                vars(problem)[field] = (nothing,) * count
    return found


def _costs(tables: Mapping[str, Array], prefix: str) -> Array:
    return _fixed(np.stack([tables[prefix + name].astype(np.float64) for name in COSTS], -1))


def _fixed(array: Array) -> Array:
    array = array.view()
    array.flags.writeable = False
    return array
