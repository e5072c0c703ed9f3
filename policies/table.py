"""A tree as plain arrays for one observation: what trainers and environments work on.

Whoever has a tree makes a table of it (`planners.tree.table`, or the tree's own method `table`); this room
knows no trees. A *root* is one problem in one draw. A *state* is a sequence of calls that begins at the root,
the same ones for all roots; number 0 is the bare problem, and a state comes after the one it was made from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np

from policies.observation import Observation
from policies.price import Price, not_negative
from unroller.faults import PolicyError

Array = np.ndarray[Any, Any]


class Table(msgspec.Struct, frozen=True, eq=False, dict=True):
    """N roots, S states, A actions and STOP, which is the last choice. All arrays are read-only.

    observation: what is seen, with F numbers. observations (N, S, F) float32: as `observation.of` gives them
    in a live run. allowed (N, S, A + 1) bool: what may be chosen there; STOP always. next (S, A) int32: the
    state that a call leads to, -1 where the tree ends. states: S sequences of actions, what each state's
    number means. score (N, S): soft, of the answer given there; hard: right or wrong, NaN where it was not
    measured. cost (N, S): as one number of `price`, all that is charged if the answer is given there: the
    calls, the answer, and the observation's probes every time the policy looked, this time included. reached
    (N, S) bool: whether what is allowed leads there; elsewhere numbers are 0 and mean nothing. problem, draw
    (N,): numbers of each root's problem and draw; groups: each root's label.

    Raises PolicyError for arrays that do not fit, scores or costs that are no number, a state where nothing
    is allowed, and no roots at all.
    """

    observation: Observation
    states: tuple[tuple[str, ...], ...]
    observations: Array
    allowed: Array
    next: Array
    score: Array
    hard: Array
    cost: Array
    reached: Array
    problem: Array
    draw: Array
    groups: tuple[str, ...]
    price: Price = Price()

    def __post_init__(self) -> None:
        _check(self)
        for name in self.__struct_fields__:
            held = getattr(self, name)
            if isinstance(held, np.ndarray):
                held.flags.writeable = False

    def __len__(self) -> int:
        return len(self.score)

    def __repr__(self) -> str:
        size = ", ".join(f"{n} {what}" for n, what in zip(self.shape, ("roots", "states"), strict=True))
        return f"<table: {size}, {self.observation.size} numbers each, {self.nbytes / 2**20:,.0f} MiB>"

    @property
    def shape(self) -> tuple[int, int]:
        """(N, S)."""
        return self.score.shape[0], self.score.shape[1]

    @property
    def actions(self) -> tuple[str, ...]:
        return self.observation.actions

    @property
    def stop(self) -> int:
        """The index of STOP among the choices."""
        return self.observation.stop

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(getattr(self, name), "nbytes", 0) for name in self.__struct_fields__)

    @cached_property
    def size(self) -> Array:
        """(S,) how many calls led to each state."""
        return np.array([len(state) for state in self.states], np.int32)

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits of all of it: equal where training on it would be the same."""
        from xxhash import xxh3_128

        found = xxh3_128(msgspec.json.encode([self.observation.digest, self.price, self.states]))
        for name in self.__struct_fields__:
            held = getattr(self, name)
            if isinstance(held, np.ndarray):
                found.update(f"{name} {held.dtype} {held.shape}".encode())
                found.update(np.ascontiguousarray(held).data)
        return found.hexdigest()

    def value(self, cost_weight: float) -> Array:
        """(N, S) score − λ · cost. Raises PolicyError for λ below 0."""
        return self.score - not_negative("λ", cost_weight) * self.cost

    def of_problems(self, problems: Sequence[int] | Array) -> Table:
        """The roots of some problems, copied. Raises PolicyError for a problem that is not there."""
        wanted = np.asarray(problems)
        lacking = np.setdiff1d(wanted, self.problem)
        if lacking.size:
            raise PolicyError(f"the table has no problem number {lacking[0]}")
        return self.of_roots(np.flatnonzero(np.isin(self.problem, wanted)))

    def of_roots(self, rows: Array) -> Table:
        """The roots with these numbers, copied, in their order."""
        by_root = ("observations", "allowed", "score", "hard", "cost", "reached", "problem", "draw")
        taken = {name: getattr(self, name)[rows] for name in by_root}
        return msgspec.structs.replace(self, **taken, groups=tuple(self.groups[row] for row in rows.tolist()))

    def split(self, held_out: float = 0.2, seed: int = 0) -> tuple[Table, Table]:
        """Two tables of different problems: to learn on, and to be evaluated on. See `split`."""
        numbers = np.unique(self.problem)
        train, held = split(len(numbers), held_out, seed)
        return self.of_problems(numbers[train]), self.of_problems(numbers[held])


@runtime_checkable
class Tabular(Protocol):
    """What can be made a table of: a tree (`planners.tree.CompleteTree`)."""

    def table(self, observation: Observation, *, price: Any) -> Table: ...


def as_table(data: Table | Tabular, observation: Observation, price: Any = None) -> Table:
    """A table for this observation, at this price (a model call costs 1 unless it says otherwise).

    Raises PolicyError for a table that was made for another observation, other actions or another price.
    """
    if not isinstance(data, Table):
        if not isinstance(data, Tabular):
            raise PolicyError(
                f"a policy is trained on a tree or a table, not on {type(data).__name__}: build one with"
                " planners.tree.build"
            )
        return data.table(observation, price=Price() if price is None else price)
    if data.actions != observation.actions:
        raise PolicyError(
            f"the table holds the actions {', '.join(data.actions)}, and the policy chooses from"
            f" {', '.join(observation.actions)}: make the policy for the table's"
        )
    if data.observation != observation:
        raise PolicyError(
            "the table was made for another observation than the policy's: make both with the same one"
        )
    if isinstance(price, Price) and price != data.price:
        raise PolicyError(f"the table was made for {data.price}, not for {price}: make it again")
    return data


def split(n: int, held_out: float = 0.2, seed: int = 0) -> tuple[Array, Array]:
    """Numbers of n problems in two parts, drawn by `seed`, each in order: to learn on, and a share that is
    held out. Each has one at least. Raises PolicyError."""
    if not 0 < held_out < 1 or n < 2:
        raise PolicyError(
            f"{held_out} of {n} problems cannot be held out: give a share above 0, and 2 problems or more"
        )
    count = min(max(1, round(n * held_out)), n - 1)
    order = np.random.default_rng([0x5817, seed % 2**63]).permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


def _check(table: Table) -> None:
    """Raises PolicyError, in one sentence."""
    seen = table.observation
    n, s, a = len(table.score), len(table.states), len(seen.actions)
    if n == 0 or s == 0:
        raise PolicyError("the table is empty: it has no problem to learn from")
    shapes = {
        "observations": (n, s, seen.size),
        "allowed": (n, s, a + 1),
        "next": (s, a),
        **dict.fromkeys(("score", "hard", "cost", "reached"), (n, s)),
        **dict.fromkeys(("problem", "draw"), (n,)),
    }
    for name, shape in shapes.items():
        if getattr(table, name).shape != shape:
            raise PolicyError(f"{name} has the shape {getattr(table, name).shape} in place of {shape}")
    if len(table.groups) != n:
        raise PolicyError(f"there are {len(table.groups)} labels for {n} roots")
    if not table.allowed[..., seen.stop].all():
        raise PolicyError("there is a state in which nothing can be chosen: STOP is always allowed")
    later = table.next > np.arange(s)[:, None]
    if not (later | (table.next == -1)).all() or (table.next >= s).any():
        raise PolicyError("a call leads to no later state: states are numbered from the bare problem on")
    if (table.allowed[..., :-1] & (table.next < 0)).any():
        raise PolicyError("a call is allowed that leads nowhere: what is allowed has a next state")
    if not (table.reached[:, 0].all() and _leads_to_reached(table)):
        raise PolicyError("what is allowed leads to a state that is not reached")
    for name in ("score", "cost"):
        wrong = np.argwhere(~np.isfinite(getattr(table, name)))
        if wrong.size:
            i, state = wrong[0].tolist()
            after = ", ".join(table.states[state]) or "no call"
            raise PolicyError(
                f"the {name} of problem {int(table.problem[i])} after {after} is"
                f" {getattr(table, name)[i, state]}: mend the scorer, or leave the problem out"
            )
    if not math.isfinite(float(table.observations.sum(dtype=np.float64))):
        raise PolicyError("an observation holds NaN or infinity: see which probe measured it")
    mask = table.observations[..., seen.layout["mask"].start : seen.layout["mask"].stop - 1] > 0.5
    if (mask != table.allowed[..., :-1]).any():
        raise PolicyError("what is allowed is not what the observations say: make both of the same states")


def _leads_to_reached(table: Table) -> bool:
    states, actions = np.nonzero(table.next >= 0)
    allowed = table.allowed[:, states, actions] & table.reached[:, states]
    return bool(table.reached[:, table.next[states, actions]][allowed].all())
