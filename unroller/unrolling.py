"""Equation 1.

    C_0 = {}          C_{t+1} = C_t ⊕ φ_t(x, C_t)          y = ψ(x | C_T)

`unroll` is the whole of it, for one problem, with no I/O and no clock: it says what it needs next and is
sent the answer. Who decides, where calls run and with whom they share a batch is not its concern; the
scheduler answers many of these side by side, and the drivers in `executor` run the scheduler.
"""

# pyright: reportConstantRedefinition=false
# C is the equation's letter for the context, and changes as it does there.

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from unroller.cost import Cost
from unroller.decide import Call, Decision
from unroller.problem import Problem
from unroller.workspace import Entry, Workspace


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A place in a run to go on from: the problem, C_t, and what it had cost. `executor.run(snapshot)`."""

    problem: Problem
    workspace: Workspace
    cost: Cost


class Choose(msgspec.Struct, frozen=True, gc=False):
    """Asks π: a Decision, please."""

    x: Problem
    C: Workspace


class Apply(msgspec.Struct, frozen=True, gc=False):
    """Asks for φ_t(x, C_t): the entries of these calls, in this order, less those that failed."""

    x: Problem
    C: Workspace
    calls: tuple[Call, ...]


class Decode(msgspec.Struct, frozen=True, gc=False):
    """Asks for ψ(x | C_T): the entry of the output, or None if it failed."""

    x: Problem
    C: Workspace


Request = Choose | Apply | Decode


def unroll(x: Problem, C: Workspace) -> Generator[Request, Any, tuple[Workspace, Entry | None]]:
    decision: Decision = yield Choose(x, C)  # π(x, C_t)
    while decision.calls:
        for entry in (yield Apply(x, C, decision.calls)):  # φ_t(x, C_t), side by side
            C = C.compose(entry)  # C_{t+1} = C_t ⊕ φ_t(x, C_t)
        decision = yield Choose(x, C)
    y: Entry | None = yield Decode(x, C)  # y = ψ(x | C_T)
    return C, y
