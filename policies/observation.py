"""What a learned policy sees: a versioned, named vector of fixed size, computed from a state alone.

`ProblemFeatures` is the part that says what is asked; `Observation` adds the context, what was done, what is
left and what is allowed. Both are plain settings with a digest: a policy keeps those it was trained with, and
refuses vectors of another size. Seconds left are no part of it: a decision must not depend on a clock.

An environment that builds thousands a second computes problems and values once (`problem`,
`embedding.of_value`) and packs batches of arrays (`pack`), with no state at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from policies.embedding import of_value, of_words, squashed
from policies.layout import Layout
from unroller.decide import State
from unroller.faults import PolicyError
from unroller.problem import Problem
from unroller.workspace import Entry

VERSION = 1
"""Changes when a field's place or meaning does."""

TASKS = ("understanding", "spatial", "generation", "editing", "depth", "pose", "novel_view", "video")
TYPES = (
    "Text",
    "CameraPose",
    "Image",
    "NovelViews",
    "DepthMap",
    "VisualTokens",
    "Latents",
    "PointMap",
    "Answer",
)
GIVEN = ("photos", "choices", "question", "prompt", "intrinsics", "pose")
LEFT = ("model_calls", "tokens", "price", "steps")

KEPT = 100_000
"""How many problems' features, and how many entries' embeddings, are kept."""


class ProblemFeatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked, as a vector.

    tasks: one element each, and a last one for any other task. words: size of the hashed words of question,
    prompt and choices. probes: (name, size) of measurements to include, each followed by whether it is there.
    Raises PolicyError for a probe that is listed twice.
    """

    tasks: tuple[str, ...] = TASKS
    words: int = 32
    probes: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        names = [name for name, _ in self.probes]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise PolicyError(f"the probe {twice} is listed twice: name it once, as it is measured once")

    @property
    def layout(self) -> Layout:
        return _layout_of_problem(self)

    @property
    def size(self) -> int:
        return self.layout.size

    def problem(self, problem: Problem) -> np.ndarray:
        """(n,) float32 of everything but the probes, which come after it: the same for every state of it."""
        task = np.zeros(len(self.tasks) + 1, np.float32)
        task[self.tasks.index(problem.task) if problem.task in self.tasks else -1] = 1
        given = [
            squashed(len(problem.images)),
            squashed(len(problem.choices)),
            _length(problem.question),
            _length(problem.prompt),
            float(bool(problem.intrinsics)),
            float(problem.pose is not None),
        ]
        text = " ".join((problem.question or "", problem.prompt or "", *problem.choices))
        return np.concatenate([task, np.asarray(given, np.float32), of_words(text, self.words)])

    def measured(self, state: State) -> np.ndarray:
        """(m,) float32 of the probes: what each measured and 1, or zeros where it could not be measured.

        Raises PolicyError where a probe has another size than it was declared with."""
        found: list[np.ndarray] = []
        for name, size in self.probes:
            held = getattr(state.probe, name)
            part = np.zeros(size + 1, np.float32)
            if held is not None:
                numbers = np.asarray(held, np.float32).reshape(-1)
                if len(numbers) != size:
                    raise PolicyError(
                        f"the probe {name} measured {len(numbers)} numbers, and the policy was made for"
                        f" {size}:"
                        " train it again, or use the backend it was trained with"
                    )
                part[:-1], part[-1] = numbers, 1
            found.append(part)
        return np.concatenate(found) if found else np.zeros(0, np.float32)

    def of(self, states: Sequence[State]) -> np.ndarray:
        """(B, size) float32."""
        rows = [np.concatenate([self.problem(s.problem), self.measured(s)]) for s in states]
        return np.stack(rows) if rows else np.zeros((0, self.size), np.float32)


class Observation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole state as a vector; `describe()` lists its fields.

    actions: those the policy chooses from, STOP being one more, the last. problem: what is asked, see
    `ProblemFeatures`. types: of values that are counted and embedded. embedding: elements for each. history:
    how many of the last calls are listed. once: an action that was called is not allowed again,
    as in a tree in which each is used at most once. version: of the format. Raises PolicyError.
    """

    actions: tuple[str, ...]
    problem: ProblemFeatures = ProblemFeatures()
    types: tuple[str, ...] = TYPES
    embedding: int = 16
    history: int = 6
    once: bool = True
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise PolicyError(
                f"an observation of version {self.version}, and this unroller makes version {VERSION}:"
                " train again"
            )
        if len(set(self.actions)) != len(self.actions):
            raise PolicyError(f"an action is listed twice: {', '.join(self.actions)}")
        if min(self.embedding, self.history, self.problem.words) < 1:
            raise PolicyError("embedding, history and words have at least one element each")

    @property
    def layout(self) -> Layout:
        return _layout(self)

    @property
    def size(self) -> int:
        return self.layout.size

    @property
    def stop(self) -> int:
        """The index of STOP among the choices: after the last action."""
        return len(self.actions)

    @property
    def digest(self) -> str:
        """Of version, fields and names: equal where vectors mean the same."""
        return _layout_digest(self)

    def describe(self) -> str:
        """Every field in a line: where it lies, its name, shape and meaning."""
        return self.layout.describe()

    def of(self, states: Sequence[State]) -> np.ndarray:
        """(B, size) float32 of states. Raises PolicyError for a probe of another size."""
        made = np.zeros((len(states), self.size), np.float32)
        layout = self.layout
        for row, state in zip(made, states, strict=True):
            self._fill(row, state, layout)
        return made

    def pack(self, count: int | None = None, **parts: Any) -> np.ndarray:
        """(B, size) float32 from arrays by field name, as `describe` shapes them; see `Layout.pack`."""
        return self.layout.pack(parts, count)

    def allowed(self, observations: np.ndarray) -> np.ndarray:
        """(B, actions + 1) bool: the mask of observations, in which STOP is always allowed."""
        mask = self.layout.part(observations, "mask") > 0.5
        mask[:, self.stop] = True
        return mask

    def _fill(self, row: np.ndarray, state: State, at: Layout) -> None:
        asked, measured = _problem(self.problem, state.problem), self.problem.measured(state)
        row[: len(asked)] = asked
        row[len(asked) : len(asked) + len(measured)] = measured
        for entry in state.workspace:
            if entry.kind.__name__ in self.types:
                kind = self.types.index(entry.kind.__name__)
                row[at["counts"].start + kind] += 1
                start = at["embeddings"].start + kind * self.embedding
                row[start : start + self.embedding] += _embedded(entry, self.embedding)
        counts = at.part(row[None], "counts")[0]
        many = np.flatnonzero(counts > 1)
        embeddings = at.part(row[None], "embeddings")[0]
        embeddings[many] /= counts[many, None]
        counts /= 1 + counts
        calls = [call.action for decision in state.decisions for call in decision.calls]
        for i, name in enumerate(reversed(calls)):
            place = self._place(name)
            if place is not None:
                row[at["called"].start + place] += 1
                if i < self.history:
                    row[at["history"].start + i * len(self.actions) + place] = 1
        for call in state.failed:
            place = self._place(call.action)
            if place is not None:
                row[at["failed"].start + place] = 1
        left = state.left
        row[at["step"].start] = squashed(state.step)
        row[at["left"].start : at["left"].stop] = [squashed(max(0.0, getattr(left, n))) for n in LEFT]
        mask = at["mask"].start
        for name, allowed in zip(state.catalogue, state.mask, strict=True):
            place = self._place(name) if allowed else None
            if place is not None and not (self.once and row[at["called"].start + place]):
                row[mask + place] = 1
        row[mask + self.stop] = 1

    def _place(self, action: str) -> int | None:
        return _places(self.actions).get(action)


@lru_cache(maxsize=256)
def _places(actions: tuple[str, ...]) -> dict[str, int]:
    return {name: i for i, name in enumerate(actions)}


@lru_cache(maxsize=256)
def _layout_of_problem(of: ProblemFeatures) -> Layout:
    return Layout(_fields_of_problem(of))


def _fields_of_problem(of: ProblemFeatures) -> list[tuple[str, tuple[int, ...], str]]:
    fields = [
        ("task", (len(of.tasks) + 1,), f"1 for the task: {', '.join(of.tasks)}, another"),
        ("given", (len(GIVEN),), f"{', '.join(GIVEN)}: counts n/(1+n), lengths log, 1 if given"),
        ("words", (of.words,), "words of question, prompt and choices, hashed"),
    ]
    for name, size in of.probes:
        fields.append((f"probe.{name}", (size + 1,), "what the probe measured, then 1 if it could"))
    return fields


@lru_cache(maxsize=256)
def _layout(of: Observation) -> Layout:
    n, types = len(of.actions), len(of.types)
    names = ", ".join(of.actions)
    return Layout(
        [
            *_fields_of_problem(of.problem),
            ("counts", (types,), f"values in the context, n/(1+n): {', '.join(of.types)}"),
            ("embeddings", (types, of.embedding), "mean embedding of the values of each type"),
            ("called", (n,), f"how often each was called: {names}"),
            ("failed", (n,), "1 if a call of it failed"),
            ("history", (of.history, n), "the last calls, newest first, 1 for the action"),
            ("step", (1,), "decisions so far, n/(1+n)"),
            ("left", (len(LEFT),), f"of the budget, n/(1+n), 1 if unlimited: {', '.join(LEFT)}"),
            ("mask", (n + 1,), "1 for what is allowed now; the last is STOP"),
        ]
    )


@lru_cache(maxsize=256)
def _layout_digest(of: Observation) -> str:
    from xxhash import xxh3_128_hexdigest

    return xxh3_128_hexdigest(msgspec.json.encode(of))


_problems: dict[tuple[bytes, ProblemFeatures], np.ndarray] = {}
_embeddings: dict[tuple[bytes, int], np.ndarray] = {}


def _problem(of: ProblemFeatures, problem: Problem) -> np.ndarray:
    """A problem's features, by its identity."""
    return _kept(_problems, (problem.identity, of), lambda: of.problem(problem))


def _embedded(entry: Entry, size: int) -> np.ndarray:
    """A value's embedding, by its id: equal ids mean equal values."""
    return _kept(_embeddings, (entry.id, size), lambda: of_value(entry.value, size))


def _kept(held: dict[Any, np.ndarray], key: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What is held there, made if it is not; everything is forgotten when there is too much."""
    found = held.get(key)
    if found is None:
        if len(held) >= KEPT:
            held.clear()
        found = held[key] = make()
    return found


def _length(text: str | None) -> float:
    return math.log1p(len(text or "")) / 10
