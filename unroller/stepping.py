"""Unrollings that are decided from outside: one decision at a time, for many problems at once.

    steps = Stepping(executor)
    (here,) = steps.begin([x])
    (there,) = steps.go_on([here], [here.state.allowed[0]])
    (run,) = steps.go_on([there], [STOP])

An executor asks a policy; here whoever steps is shown the state and says what to do when they like: an
environment that a policy is trained in, an agent, a person. Everything else is as in a run: the same
entries, charges, faults, probes and batches. One can go on from a place as often as one likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Any

from unroller.cost import Cost
from unroller.decide import NO_PROBES, STOP, Decided, Decision, Probes, State, as_decision
from unroller.executor import Executor
from unroller.faults import BudgetError, Fault, PolicyError
from unroller.lane import Lane, Setup
from unroller.problem import Problem
from unroller.run import Run
from unroller.scheduler import Scheduler
from unroller.unrolling import Snapshot


class Standing:
    """Where an unrolling stands before a decision.

    problem; cost: charged so far, probes' included; computed: how many calls and probes were really carried
    out on the way here, what a memo knew left out; faults: what failed, or was refused, on the way here.
    """

    def __init__(self, lane: Lane, setup: Setup) -> None:
        self.problem: Problem = lane.problem
        self.cost: Cost = lane.cost
        self.computed = lane.spent.computed
        self.faults = [event for event in lane.events if isinstance(event, Fault)]
        self._lane = lane
        self._setup = setup

    def __repr__(self) -> str:
        calls = " → ".join(str(c) for d in self._lane.decisions for c in d.calls)
        return f"<{self.problem.task} after {calls or 'no call'}>"

    @cached_property
    def state(self) -> State:
        """What a policy would be shown. Where the budget's steps are gone a policy is not asked, and nothing
        is measured for it: nothing is allowed there, and every probe is None."""
        lane, setup = self._lane, self._setup
        probes: Any = NO_PROBES
        if setup.probes:
            probes = Probes(**(lane.probes or dict.fromkeys((p.primitive.name for p in setup.probes), None)))
        return State(
            lane.problem,
            lane.workspace,
            lane.step,
            probes,
            lane.left,
            0.0,
            setup.actions,
            lane.masked,
            lane.decisions,
            lane.failed,
        )


class Stepping:
    """Unrollings under an executor's backends, budget and memo, decided by whoever calls this.

    probes: names or objects, measured and charged before every decision as a policy's would be. Nothing is
    journaled. A limit of seconds has no meaning here: BudgetError. Raises what `Executor` raises.
    """

    def __init__(self, executor: Executor, probes: Sequence[Any] = ()) -> None:
        if executor.budget.seconds is not None:
            raise BudgetError(
                "an unrolling that waits to be told has no clock: give a budget of calls, tokens, price or"
                " steps"
            )
        self.executor = executor.extend(policy=_Nobody(probes))
        self._setup: Setup = self.executor._setup  # pyright: ignore[reportPrivateUsage]

    def begin(self, problems: Sequence[Problem | Snapshot]) -> list[Standing]:
        """Where each problem, or place in an earlier run, stands before its first decision."""
        scheduler = _Held(self._setup)
        for i, x in enumerate(problems):
            self.executor._admit(scheduler, x, i)  # pyright: ignore[reportPrivateUsage]
        return [found for found in self._driven(scheduler, len(problems)) if isinstance(found, Standing)]

    def go_on(self, standings: Sequence[Standing], decisions: Sequence[Decided]) -> list[Standing | Run]:
        """Carry out a decision for each, all of them together: where it stands then, or for STOP its run.

        What is not allowed is refused, as in a run: it takes a step and writes nothing. Raises PolicyError
        for what is no decision.
        """
        if len(standings) != len(decisions):
            raise PolicyError(f"{len(decisions)} decisions for {len(standings)} unrollings: give one each")
        scheduler = _Held(self._setup)
        decided = [as_decision(decision) for decision in decisions]
        for i, (standing, decision) in enumerate(zip(standings, decided, strict=True)):
            told = Decision(decision.calls, decision.log_probability)
            scheduler.admit(_forked(standing._lane, i, told))  # pyright: ignore[reportPrivateUsage]
        return self._driven(scheduler, len(standings))

    def _driven(self, scheduler: _Held, count: int) -> list[Standing | Run]:
        found: dict[int, Standing | Run] = {}
        while scheduler.active:
            batch = scheduler.take()
            if batch is not None:
                self.executor._perform(scheduler, batch)  # pyright: ignore[reportPrivateUsage]
        for lane in scheduler.held:
            found[lane.key] = Standing(lane, self._setup)
        for lane in scheduler.ended():
            found[lane.key] = Run(lane, self.executor)
        return [found[i] for i in range(count)]


class _Nobody:
    """The policy that stands in for whoever is outside: it is always about to be told."""

    name = "from outside"

    def __init__(self, probes: Sequence[Any]) -> None:
        self.probes = tuple(probes)

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [STOP] * len(states)


class _Held(Scheduler):
    """Takes lanes as far as their next decision, and holds them there. To stop they must be told to, by a
    decision of their own: `STOP` itself comes from `_Nobody`, or from a budget whose steps are gone."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.held: list[Lane] = []

    def _decided(self, lane: Lane, decision: Decision) -> None:
        if decision is STOP:
            self.active -= 1
            self.held.append(lane)
        else:
            super()._decided(lane, decision)


def _forked(lane: Lane, key: int, told: Decision) -> Lane:
    """A lane that stands where another one does, and is told what to do."""
    return Lane(
        lane.problem,
        lane.decoder,
        lane.left,
        lane.workspace,
        lane.cost,
        key,
        decisions=list(lane.decisions),
        step=lane.step,
        spent=copy(lane.spent),
        events=list(lane.events),
        masked=lane.masked,
        failed=lane.failed,
        probes=lane.probes,
        recorded=deque([told]),
    )
