"""Where episodes take place: everything that is known of every place, as arrays that are indexed by number.

A place is a problem and the calls made so far. On memo hits a step is nothing but reading these arrays; what
is not in them yet is asked for, many at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from policies.observation import Observation
from unroller.faults import PolicyError


class Ground(Protocol):
    """A live executor or a table, as arrays over C places.

    observation: what each place looks like. count: how many roots there are, places to begin in. problems
    (count,): the number of the problem of each root. vectors (C, F) float32; masks (C, A + 1) int8, STOP last
    and always 1; following (C, A + 1) int32: the place that each action leads to, -1 where it is not known
    (yet), and for STOP. rooted (count,) int32: the place of each root, -1 where it is not known yet. scores,
    costs (C,) float64: of the answer given there, and what is charged in all for it; NaN where it is not
    known yet. computed: calls and probes that were really carried out.
    """

    observation: Observation
    count: int
    problems: np.ndarray
    vectors: np.ndarray
    masks: np.ndarray
    following: np.ndarray
    rooted: np.ndarray
    scores: np.ndarray
    costs: np.ndarray
    computed: int

    @property
    def full(self) -> bool:
        """Whether more is kept than should be."""
        ...

    def begin(self, roots: np.ndarray) -> np.ndarray:
        """The places (k,) of roots (k,)."""
        ...

    def go(self, places: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Carry out allowed actions (k,) from places (k,), all together: the places (k,) that they lead to.
        STOP leads nowhere, and `scores` and `costs` are known there afterwards."""
        ...

    def keep(self, places: np.ndarray) -> np.ndarray:
        """Forget all places but these (k,): their new numbers (k,)."""
        ...


class Order:
    """In which order roots come: all of them, shuffled, then all of them again. group: how many episodes in
    a row begin in the same root, as GRPO's do."""

    def __init__(self, count: int, group: int = 1) -> None:
        if isinstance(group, bool) or not isinstance(group, int) or group < 1:
            raise PolicyError(f"a group of {group!r}: it is how many episodes share a problem, 1 or more")
        self.count = count
        self.group = group
        self._coming: list[int] = []

    def restart(self) -> None:
        """Begin anew, as after a seed."""
        self._coming = []

    def take(self, rng: np.random.Generator) -> int:
        """The next root."""
        if not self._coming:
            self._coming = np.repeat(rng.permutation(self.count), self.group).tolist()
        return self._coming.pop()


def check_options(options: Mapping[str, Any] | None, known: Sequence[str]) -> None:
    """Raises PolicyError for an option of `reset` that there is not."""
    unknown = next((name for name in options or () if name not in known), None)
    if unknown is not None:
        raise PolicyError(f"reset has no option {unknown!r}: it has {', '.join(known)}")


def root_of(given: object, problems: np.ndarray) -> int:
    """The root of the problem that `options` name; of a problem in several draws the first. Raises
    PolicyError for a number that there is not."""
    whole = isinstance(given, (int, np.integer)) and not isinstance(given, bool)
    found = np.flatnonzero(problems == given) if whole else np.zeros(0, np.int64)
    if not len(found):
        raise PolicyError(
            f"options name the problem {given!r:.80}: there are {len(np.unique(problems))}, numbered from"
            f" {problems.min()} to {problems.max()}"
        )
    return int(found[0])


def check_actions(observation: Observation) -> None:
    """Raises PolicyError where there is nothing to choose from."""
    if not observation.actions:
        raise PolicyError(
            "an environment chooses from at least one action, and there is none: give the executor a"
            " primitive that a backend can carry out"
        )
