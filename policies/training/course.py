"""The course of a training: what all trainers share, so that each file says only what is its own.

A course has the table, a copy of the policy, its optimiser and a random generator. It counts steps, notes
the curve, keeps checkpoints, and goes on from one. A trainer is then a loop:

    with Course("mine", policy, data, settings, cost_weight, seed) as course:
        while course.goes_on():
            roots = course.roots(settings.problems)
            ...
            course.learn(loss)
            course.passed(decisions)
    return course.policy
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import torch
from torch import Tensor

from policies.learned import LearnedPolicy
from policies.network import one_thread
from policies.price import not_negative
from policies.saved import registry
from policies.table import Table, Tabular, as_table
from policies.training.checkpoint import FOLDER, FORMAT, Checkpoint, Row, read, write
from policies.training.expectation import expectations
from unroller.faults import PolicyError

Array = np.ndarray[Any, Any]
Tell = Callable[[Row], None]

WATCHED = 256
"""Roots that the curve is taken on, the same ones all the time."""

LONGEST_STEP = 1.0
"""Norm that a gradient is cut to."""

EXPLORING = 0.8
"""The share of a training in which the entropy bonus falls to nothing."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every trainer can be told.

    steps: decisions to learn from, in all. problems: roots of the table in an update. learning_rate: of Adam,
    falling to nothing by the end. entropy: what a nat of the policy's entropy is worth at first, in score,
    falling to nothing by four fifths: without it a policy never finds out what two calls together are good
    for. every: updates between two rows of the curve, and two checkpoints. Raises PolicyError.
    """

    steps: int = 60_000
    problems: int = 16
    learning_rate: float = 5e-3
    entropy: float = 0.1
    weight_decay: float = 0.0
    every: int = 20

    def __post_init__(self) -> None:
        for field in msgspec.structs.fields(self):
            name, given = field.name, getattr(self, field.name)
            if field.type is bool:
                if not isinstance(given, bool):
                    raise PolicyError(f"{name} is {given!r}: give True or False")
            elif field.type is int:
                if isinstance(given, bool) or not isinstance(given, int) or given < 1:
                    raise PolicyError(f"{name} is {given!r}: give a whole number, 1 or more")
            elif field.type is float:
                if isinstance(given, (bool, str)):
                    raise PolicyError(f"{name} is {given!r}: give a number, 0 or more")
                msgspec.structs.force_setattr(self, name, not_negative(name, given))
        if self.learning_rate == 0:
            raise PolicyError("learning_rate is 0, with which nothing is learned: give a number above 0")


class Course(AbstractContextManager["Course"]):
    """One training of one policy. Nothing of what is given is changed: `policy` is a copy, which is trained.

    trainer: its name. data: a tree, or a table made for the policy's observation. cost_weight: λ. out: a
    folder in which a folder `training` keeps checkpoints and the curve; the same training that it holds
    already is gone on with, and the policy may be saved in `out` as well. tell: is handed every row of the
    curve. held: numbers of the trainer's own that are kept with a checkpoint.

    Raises PolicyError for data that do not fit the policy, SavedPolicyError for what `out` holds.
    """

    def __init__(
        self,
        trainer: str,
        policy: LearnedPolicy,
        data: Table | Tabular,
        settings: Settings,
        cost_weight: float,
        seed: int,
        *,
        price: Any = None,
        out: str | Path | None = None,
        tell: Tell | None = None,
        held: dict[str, float] | None = None,
    ) -> None:
        self.settings = settings
        self.cost_weight = not_negative("λ", cost_weight)
        self.table = as_table(data, policy.observation, price)
        if not self.table.allowed[..., :-1].any():
            raise PolicyError("there is nothing to choose: in no state of the table is a call allowed")
        self.policy = _copied(policy)
        self.network = self.policy.network
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.random = np.random.default_rng([0x7EAC, int(seed) % 2**63])
        self.update = self.steps = 0
        self.held = dict(held or {})
        self.rows: list[Row] = []
        self.out = None if out is None else Path(out) / FOLDER
        self.tell = tell
        self.watched = some_of(self.table, WATCHED)
        self.noted: Row = {}
        self.seconds = 0.0
        self.made = self._made(trainer, int(seed) % 2**63)

    def _made(self, trainer: str, seed: int) -> dict[str, Any]:
        """What must be the same to go on with a training."""
        from xxhash import xxh3_128

        weights = xxh3_128()
        for tensor in self.network.state_dict().values():
            weights.update(tensor.cpu().numpy().tobytes())
        return {
            "trainer": trainer,
            "settings": msgspec.to_builtins(self.settings),
            "cost_weight": self.cost_weight,
            "seed": seed,
            "actions": registry(self.policy.digests),
            "observation": self.policy.observation.digest,
            "table": self.table.digest,
            "initial weights": weights.hexdigest(),
        }

    # ------------------------------------------------------------------------------------ for trainers

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        with ExitStack() as after:
            after.enter_context(one_thread())
            found = None if self.out is None else read(self.out, self.made)
            if found is not None:
                self._take_up(*found)
            else:
                self._note()
            self._after = after.pop_all()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._after.close()

    @property
    def gone(self) -> float:
        """The share of the steps that is gone, 0 to 1."""
        return min(1.0, self.steps / self.settings.steps)

    @property
    def entropy(self) -> float:
        """What a nat of entropy is worth now."""
        return self.settings.entropy * max(0.0, 1 - self.gone / EXPLORING)

    def goes_on(self) -> bool:
        """Whether there are steps left; where there are none, the last of the curve is noted and kept."""
        if self.steps < self.settings.steps:
            return True
        if not self.rows or self.rows[-1]["update"] < self.update:
            self._note()
        return False

    def roots(self, count: int) -> Array:
        """Different roots of the table, drawn at random, `count` of them if there are as many."""
        return self.random.choice(len(self.table), min(count, len(self.table)), replace=False)

    def asked(self, rows: Array, states: Array) -> tuple[Tensor, Tensor]:
        """Observations (M, F) and what is allowed (M, A + 1) in states of some roots."""
        observations = torch.from_numpy(self.table.observations[rows, states])
        return observations, torch.from_numpy(self.table.allowed[rows, states])

    def learn(self, loss: Tensor) -> None:
        """One step of the optimiser. Raises PolicyError where the loss is no number."""
        if not math.isfinite(loss.item()):
            raise PolicyError(
                f"the loss is {loss.item()} after {self.steps} steps, the training diverged: give a smaller"
                " learning_rate"
            )
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * (1 - self.gone)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_STEP)
        self.optimiser.step()

    def passed(self, decisions: int, **noted: float) -> None:
        """An update is done that learned from so many decisions. noted: columns of the curve."""
        self.steps += decisions
        self.update += 1
        self.noted = noted
        if self.update % self.settings.every == 0:
            self._note()

    # ---------------------------------------------------------------------------- curve and checkpoints

    def _note(self) -> None:
        """A row of the curve: what the policy is worth now on the roots that are watched, exactly."""
        drawn, greedy = expectations(self.watched, self.policy, ("sample", "greedy"))
        row: Row = {
            "update": self.update,
            "steps": self.steps,
            "value": drawn.value(self.cost_weight),
            "score": float(drawn.score.mean()),
            "cost": float(drawn.cost.mean()),
            "greedy_value": greedy.value(self.cost_weight),
            "greedy_score": float(greedy.score.mean()),
            "greedy_cost": float(greedy.cost.mean()),
            "entropy": drawn.entropy,
            **self.held,
            **self.noted,
        }
        self.rows.append(row)
        if self.out is not None and self.update:
            self._keep(self.out)
        if self.tell is not None:
            self.tell(row)

    def _keep(self, out: Path) -> None:
        arrays = {f"network.{name}": _array(tensor) for name, tensor in self.network.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser.{i}.{name}": _array(tensor) for name, tensor in state.items()}
        point = Checkpoint(
            FORMAT,
            self.made,
            self.update,
            self.steps,
            _in_words(self.random.bit_generator.state),
            self.held,
            "",
            0,
            self.seconds + time.perf_counter() - self._began,
        )
        write(out, point, arrays, self._table_rows())

    def _table_rows(self) -> list[Row]:
        """The rows with the same columns; what was not noted at first is NaN there."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        return [{name: row.get(name, math.nan) for name in columns} for row in self.rows]

    def _take_up(self, point: Checkpoint, arrays: dict[str, Array], rows: list[Row]) -> None:
        parts: dict[str, dict[str, Tensor]] = {}
        for name, array in arrays.items():
            place, _, last = name.rpartition(".")
            if name.startswith("network."):
                place, last = "network", name.removeprefix("network.")
            parts.setdefault(place, {})[last] = torch.from_numpy(array.copy())
        try:
            self.network.load_state_dict(parts.pop("network"))
            state = {int(place.removeprefix("optimiser.")): held for place, held in parts.items()}
            whole = self.optimiser.state_dict() | {"state": state}
            self.optimiser.load_state_dict(whole)
            self.random.bit_generator.state = _in_numbers(point.random)
            kept = {name: point.held[name] for name in self.held}
        except (KeyError, ValueError, RuntimeError, TypeError, OverflowError) as error:
            from policies.files import SavedPolicyError

            raise SavedPolicyError(
                f"{self.out} holds a checkpoint that does not fit this training ({error!s:.200}): delete it"
                " to begin anew"
            ) from None
        self.update, self.steps, self.held = point.update, point.steps, kept | point.held
        self.rows, self.seconds = rows, point.seconds


def some_of(table: Table, most: int) -> Table:
    """Roots of a table, drawn at random and always the same; all of them if there are no more than `most`."""
    some = np.random.default_rng(0x7EAC).permutation(len(table))[:most]
    return table.of_roots(np.sort(some))


def _copied(policy: LearnedPolicy) -> LearnedPolicy:
    """The same policy with a network of its own, and every one of its settings."""
    found = copy(policy)
    found._network = deepcopy(policy.network)
    return found


def _array(tensor: Tensor) -> Array:
    return np.atleast_1d(tensor.detach().cpu().numpy()).copy()


def _in_words(state: Any) -> Any:
    """The state of a generator as JSON can hold it: its numbers have 128 bits."""
    if isinstance(state, dict):
        return {name: _in_words(held) for name, held in state.items()}
    return str(state) if isinstance(state, int) else state


def _in_numbers(state: Any) -> Any:
    if isinstance(state, dict):
        return {name: _in_numbers(held) for name, held in state.items()}
    return int(state) if isinstance(state, str) and state.isdigit() else state


def columns_of(rows: Sequence[Row], name: str) -> list[float]:
    """One column of a curve."""
    return [row[name] for row in rows]
