"""Answers what many unrollings ask for, in batches, without a barrier.

Each problem runs its own copy of equation 1 (`unrolling.unroll`) in a `Lane`. The scheduler collects what
the lanes ask for: decisions go to the policy together, calls of one action wait in one queue, whichever
problem and step they come from, and the fullest queue is the next batch. A lane goes on the moment its
calls are answered; nobody waits for a slower one.

No I/O of its own and no threads: a driver takes batches, has an engine perform them, and gives the
outcomes back. What must be on disk before the next decision is flushed through the journal it is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import msgspec

from unroller.actions import Action, with_parameters
from unroller.cost import FREE, Cost, Left
from unroller.decide import NO_PROBES, STOP, Call, Decision, Probes, State, as_decision
from unroller.declare import View
from unroller.dispatch import Failure
from unroller.events import Event, Measured, Output
from unroller.faults import (
    BudgetOverrun,
    CallFailed,
    Fault,
    NotAllowed,
    PolicyError,
    UnknownName,
    UnrollerError,
    fault_of,
)
from unroller.lane import Batch, Job, Lane, Setup
from unroller.unrolling import Apply, Choose, Request, unroll
from unroller.workspace import Entry

DECODE, PROBE = -1, -2  # slots of jobs that are not among the calls of a decision
PATIENCE = 8  # turns: that often the queue that waits longest comes first, however full the others are
_PHASES = {DECODE: "decode", PROBE: "probe"}


class Scheduler:
    """Holds the lanes in flight. `admit` lanes, `take` a batch, `give` its outcomes, collect those
    that have `ended`."""

    def __init__(self, setup: Setup, listen: bool = False) -> None:
        self.setup = setup
        self.deciding: list[Lane] = []
        self.queues: dict[Action, list[Job]] = {}
        self.in_flight: dict[bytes, Job] = {}
        self._ended: list[Lane] = []
        self.heard: deque[tuple[Lane, Event]] | None = deque() if listen else None
        self.active = 0
        self._turn = 0
        self._told = listen or setup.recorder is not None  # whether anybody is told what happens
        self._custom: dict[bytes, Action] = {}  # actions with a call's own parameters
        self._clocked = setup.budget.seconds is not None

    # ------------------------------------------------------------------------------------ for drivers

    def admit(self, lane: Lane) -> None:
        """Start a lane. Decisions in `lane.recorded` are replayed before the policy is asked."""
        lane.began = perf_counter()
        lane.unrolling = unroll(lane.problem, lane.workspace)
        if self.setup.recorder is not None:
            self.setup.recorder.begin(lane)
        self.active += 1
        self._answer(lane, None)

    def take(self) -> Batch | None:
        """Decide whatever waits for a decision, then the fullest batch there is; None if all is under
        way or done. Everything finished so far is flushed first."""
        while self.deciding:
            self._decide()
        recorder = self.setup.recorder
        if recorder is not None:
            recorder.flush()
        queues = self.queues
        if not queues:
            return None
        if len(queues) == 1:
            (action,) = queues
        else:
            # Fullness, not length: a full batch of a small model does not wait for a larger one's. But every
            # few turns whoever waits longest, so that a rare call is not passed over for ever.
            self._turn += 1
            if self._turn % PATIENCE == 0:
                action = next(iter(queues))
            else:
                action = max(queues, key=lambda a: len(queues[a]) / a.max_batch)
        jobs = queues[action]
        limit = action.max_batch
        if len(jobs) <= limit:
            del queues[action]
            return Batch(action, jobs)
        del queues[action]
        queues[action] = jobs[limit:]  # behind the others: the first queue is the one that waits longest
        return Batch(action, jobs[:limit])

    def ended(self) -> list[Lane]:
        """The lanes that have ended since the last time, safely in the journal."""
        ended = self._ended
        if ended:
            self._ended = []
            if self.setup.recorder is not None:
                self.setup.recorder.flush(ended=True)  # one fsync for all of them
        return ended

    def give(self, batch: Batch, outcomes: Sequence[Any], started: float) -> None:
        """Deliver a batch's outcomes to the lanes that asked, and to those that asked for the same."""
        jobs = batch.jobs
        seconds = (perf_counter() - started) / len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if type(outcome) is Failure:
                self._failed(job, outcome, seconds)
            else:
                self._made(job, outcome, seconds, started, len(jobs))

    # ---------------------------------------------------------------------------------------- deciding

    def _decide(self) -> None:
        setup = self.setup
        if setup.recorder is not None:
            setup.recorder.flush()  # what is finished is journaled before the next decision
        lanes, self.deciding = self.deciding, []
        if setup.probes:
            lanes = [lane for lane in lanes if self._measured(lane)]
        asked: list[Lane] = []
        states: list[State] = []
        for lane in lanes:
            if lane.recorded:
                self._replay(lane, lane.recorded)
                continue
            left, step = lane.left, lane.step
            seconds = lane.seconds_before + perf_counter() - lane.began if self._clocked else 0.0
            if step >= left.steps or seconds >= left.seconds:
                self._decided(lane, STOP)
                continue
            probes: Any = NO_PROBES if lane.probes is None else Probes(**lane.probes)
            asked.append(lane)
            states.append(
                State(
                    lane.problem,
                    lane.workspace,
                    step,
                    probes,
                    left,
                    seconds,
                    setup.actions,
                    lane.masked,
                    lane.decisions,
                    lane.failed,
                )
            )
        if not asked:
            return
        try:
            decided = setup.policy.decide(states)
            if len(decided) != len(asked):
                raise PolicyError(f"the policy made {len(decided)} decisions for {len(asked)} states")
        except Exception as error:
            self._policy_failed(asked, states, error)
            return
        for lane, answer in zip(asked, decided, strict=True):
            if type(answer) is not Decision:
                try:
                    answer = as_decision(answer)
                except Exception as error:  # a generator may raise when it is listed
                    answer = self._stopped_by(lane, error)
            self._decided(lane, answer)

    def _replay(self, lane: Lane, recorded: deque[Decision | Fault]) -> None:
        """The next decision that the journal remembers, after the policy's faults that came before it."""
        event = recorded.popleft()
        while isinstance(event, Fault):
            self._fault(lane, event, PolicyError(event.message))
            event = recorded.popleft()
        self._decided(lane, event)

    def _policy_failed(self, lanes: list[Lane], states: list[State], error: Exception) -> None:
        """A policy raised for several problems at once: ask for each alone, so that only those it cannot
        decide stop here and decode from what they have."""
        for lane, state in zip(lanes, states, strict=True):
            try:
                if len(lanes) == 1:
                    raise error
                decided = self.setup.policy.decide([state])
                if len(decided) != 1:
                    raise error
                decision = as_decision(decided[0])
            except Exception as alone:
                decision = self._stopped_by(lane, alone)
            self._decided(lane, decision)

    def _stopped_by(self, lane: Lane, error: Exception) -> Decision:
        name = str(getattr(self.setup.policy, "name", type(self.setup.policy).__name__))
        self._fault(lane, fault_of(error, action=name, step=lane.step, phase="decide"), error)
        return STOP

    def _decided(self, lane: Lane, decision: Decision) -> None:
        if decision.step != lane.step:
            decision = Decision(decision.calls, decision.log_probability, lane.step)
        if decision.calls:
            lane.step += 1
            lane.decisions.append(decision)
        lane.probes = None
        lane.events.append(decision)
        if self._told:
            self._tell(lane, decision)
        self._answer(lane, decision)

    # ----------------------------------------------------------------------------------------- calling

    def _answer(self, lane: Lane, answer: Any) -> None:
        """Send equation 1 what it asked for, and see what it asks for next."""
        try:
            request: Request = lane.unrolling.send(answer)
        except StopIteration as end:
            lane.workspace, lane.entry = end.value
            self._end(lane)
            return
        lane.workspace = request.C
        if type(request) is Choose:
            self.deciding.append(lane)
        elif type(request) is Apply:
            self._apply(lane, request.calls)
        else:
            lane.outcomes = [None]
            lane.waiting = 1
            self._call(lane, DECODE, lane.decoder, 0)

    def _apply(self, lane: Lane, calls: tuple[Call, ...]) -> None:
        lane.outcomes = [None] * len(calls)
        lane.waiting = len(calls)
        going: list[tuple[int, Action, int]] = []  # all are reserved before one is answered by the memo
        for slot, call in enumerate(calls):
            try:
                action = self._allowed(lane, call)
            except Exception as error:
                lane.waiting -= 1
                fault = fault_of(error, action=str(call), step=lane.step - 1, phase="refused")
                self._fault(lane, fault, error)
                continue
            if action.cost is not FREE:
                lane.left = lane.left.less(action.cost)  # reserved; what is not charged comes back
            going.append((slot, action, call.draw))
        for slot, action, draw in going:
            self._call(lane, slot, action, draw)
        if not going:
            self._go_on(lane, 0)

    def _allowed(self, lane: Lane, call: Call) -> Action:
        """The action of a call. Raises UnknownName, NotAllowed, or ContractError for its parameters."""
        action = self.setup.actions.get(call.action)
        if action is None:
            known = ", ".join(self.setup.actions) or "none"
            raise UnknownName(f"the policy chose {call.action!r}; the actions are: {known}")
        if call.parameters:
            action = self._with_parameters(action, call)
        if lane.masked or not action.always:
            refused = action.refusal(lane.problem, lane.left, lane.masked)
            if refused is not None:
                raise NotAllowed(refused)
        return action

    def _with_parameters(self, action: Action, call: Call) -> Action:
        key = msgspec.msgpack.encode([call.action, call.parameters], order="sorted")
        found = self._custom.get(key)
        if found is None:
            found = self._custom[key] = with_parameters(action, call)
        return found

    def _call(self, lane: Lane, slot: int, action: Action, draw: int) -> None:
        """Find the value of a call, or queue it."""
        setup = self.setup
        id = action.id(lane.problem, lane.workspace, draw)
        if setup.recorder is not None and (known := setup.recorder.known(lane, id)) is not None:
            if isinstance(known, Fault):
                self._failed_before(lane, slot, action, known)
            else:
                self._found(lane, slot, action, id, known.held, known.cost, draw, known)
            return
        if setup.memo is not None and (remembered := setup.memo.get(id)) is not None:
            self._found(lane, slot, action, id, remembered[0], remembered[1], draw, None)
            return
        view = View(action.primitive, action.parameters, lane.problem, lane.workspace, id)
        job = Job(lane, slot, action, id, view, draw)
        if setup.memo is not None:
            asked = self.in_flight.setdefault(id, job)
            if asked is not job:  # somebody is waiting for the very same value
                asked.twins = (*asked.twins, job)
                return
        queue = self.queues.get(action)
        if queue is None:
            self.queues[action] = [job]
        else:
            queue.append(job)

    def _measured(self, lane: Lane) -> bool:
        """Whether the lane's probes are all there. If they have not been asked for, asks; the lane waits
        for its decision again when the last has come."""
        if lane.probes is not None or lane.step >= lane.left.steps:
            return True
        lane.probes = {}
        going: list[Action] = []
        for action in self.setup.probes:
            if not action.primitive.kinds and (known := _measured_before(lane, action)) is not None:
                lane.probes[known.name] = known.held  # of the problem alone: it stays what it was
            elif action.refusal(lane.problem, lane.left, lane.masked) is None:
                lane.left = lane.left.less(action.cost)
                going.append(action)
            else:
                lane.probes[action.primitive.name] = None
        lane.waiting = len(going)
        for action in going:
            self._call(lane, PROBE, action, 0)
        return not going

    # ---------------------------------------------------------------------------------------- outcomes

    def _found(
        self, lane: Lane, slot: int, action: Action, id: bytes, held: Any, cost: Cost, draw: int, known: Any
    ) -> None:
        lane.spent.hits += 1
        step = lane.step - 1 if slot >= 0 else lane.step
        if slot == PROBE:
            event: Any = Measured(id, action.primitive.name, held, step, cost, 0.0, True)
        else:
            began = perf_counter() - lane.began
            event = Entry(id, action.name, held, step, cost, 0.0, began, 1, True, draw)
        if known is not None and known.step == step and _named(known) == _named(event):
            event = known  # from the journal, as it was when it happened
        self._settle(lane, slot, action, event, cost)

    def _made(self, job: Job, value: Any, seconds: float, started: float, batch: int) -> None:
        action, lane, slot, id = job.action, job.lane, job.slot, job.id
        cost = job.view.charged
        if cost is None:
            cost = action.cost
        memo = self.setup.memo
        if memo is not None:
            memo.put(id, value, cost)
            del self.in_flight[id]
        spent = lane.spent
        spent.seconds += seconds
        spent.computed += 1
        reading = job.view.reading
        if reading is not None:
            spent.reading = reading if spent.reading is None else spent.reading + reading
        step = lane.step - 1 if slot >= 0 else lane.step
        if slot == PROBE:
            event: Any = Measured(id, action.primitive.name, value, step, cost, seconds)
        else:
            began = started - lane.began
            event = Entry(id, action.name, value, step, cost, seconds, began, batch, False, job.draw)
        self._settle(lane, slot, action, event, cost)
        for twin in job.twins:
            self._found(twin.lane, twin.slot, twin.action, id, value, cost, twin.draw, None)

    def _settle(self, lane: Lane, slot: int, action: Action, event: Any, cost: Cost) -> None:
        """Charge a value, put it where it belongs, and let the lane go on if it was the last it waits for."""
        lane.waiting -= 1
        overrun = None
        if cost is not FREE or action.cost is not FREE:
            overrun = self._charge(lane, slot, action, cost, event)
        if overrun is not None:
            if slot == PROBE and lane.probes is not None:
                lane.probes[event.name] = None
            self._fault(lane, overrun, BudgetOverrun(overrun.message))
        else:
            if slot >= 0:
                lane.outcomes[slot] = event
            elif slot == DECODE:
                lane.outcomes[0] = event
            elif lane.probes is not None:
                lane.probes[event.name] = event.held
            if slot != DECODE:  # the output is told as such, at the end
                lane.events.append(event)
                if self._told:
                    self._tell(lane, event)
        if not lane.waiting:
            self._go_on(lane, slot)

    def _go_on(self, lane: Lane, slot: int) -> None:
        """All that the lane waited for is there."""
        if slot >= 0:
            outcomes = lane.outcomes
            if None in outcomes:
                made = zip(lane.decisions[-1].calls, outcomes, strict=True)
                lane.failed |= {call for call, entry in made if entry is None}
                outcomes = [entry for entry in outcomes if entry is not None]
            self._answer(lane, outcomes)
        elif slot == DECODE:
            self._answer(lane, lane.outcomes[0])
        else:
            self.deciding.append(lane)

    def _charge(self, lane: Lane, slot: int, action: Action, cost: Cost, event: Any) -> Fault | None:
        """Take the charge off the budget in place of what was reserved for it; a fault if it is more than
        was left, and then all that was left is charged."""
        left = lane.left.plus(action.cost)
        lane.left = left.less(cost)
        if left.affords(cost):
            lane.cost += cost
            return None
        charged = _within(cost, left)
        lane.cost += Cost(*charged)
        overrun = BudgetOverrun(
            f"{action.name} declared at most {action.cost} and charged {cost}, more than was left: its value"
            " was dropped; let its `cost` state the true bound"
        )
        return fault_of(
            overrun,
            action=action.name,
            step=event.step,
            id=event.id,
            phase=_PHASES.get(slot, "call"),
            charged=charged,
        )

    def _failed(self, job: Job, failure: Failure, seconds: float) -> None:
        self.in_flight.pop(job.id, None)
        for each in (job, *job.twins):
            lane = each.lane
            lane.spent.seconds += seconds
            fault = fault_of(
                failure.error,
                action=each.action.name,
                step=lane.step - 1 if each.slot >= 0 else lane.step,
                id=each.id,
                attempts=failure.attempts,
                seconds=seconds,
                phase=_PHASES.get(each.slot, "call"),
                charged=_within(job.view.charged or FREE, lane.left.plus(each.action.cost)),
            )
            self._without(lane, each.slot, each.action, fault, failure.error)

    def _failed_before(self, lane: Lane, slot: int, action: Action, fault: Fault) -> None:
        """A fault in the journal: the call was made, and failed; it is not made again."""
        lane.spent.hits += 1
        self._without(lane, slot, action, fault, UnrollerError(fault.message))

    def _without(self, lane: Lane, slot: int, action: Action, fault: Fault, error: Exception) -> None:
        """Go on without a call that failed: it is charged what it said it cost before it did, and the action
        is masked for this problem."""
        lane.waiting -= 1
        lane.left = lane.left.plus(action.cost)
        if any(fault.charged):
            lane.left = lane.left.less(Cost(*fault.charged))
            lane.cost += Cost(*fault.charged)
        if slot != DECODE and fault.kind != BudgetOverrun.__name__:
            lane.masked |= {action.name}
        if slot == PROBE and lane.probes is not None:
            lane.probes[action.primitive.name] = None
        self._fault(lane, fault, error)
        if not lane.waiting:
            self._go_on(lane, slot)

    def _fault(self, lane: Lane, fault: Fault, error: Exception) -> None:
        lane.events.append(fault)
        self._tell(lane, fault)
        if self.setup.strict:
            if self.setup.recorder is not None:
                self.setup.recorder.flush()
            raise CallFailed(fault) from error

    def _tell(self, lane: Lane, event: Event) -> None:
        if self.setup.recorder is not None:
            self.setup.recorder.write(lane, event)
        if self.heard is not None:
            self.heard.append((lane, event))

    def _end(self, lane: Lane) -> None:
        seconds = lane.seconds_before + perf_counter() - lane.began
        output = Output(lane.entry, seconds)
        lane.events.append(output)
        self._tell(lane, output)
        self.active -= 1
        self._ended.append(lane)


def _measured_before(lane: Lane, action: Action) -> Measured | None:
    """What a probe measured earlier in this run, which is not charged again."""
    name = action.primitive.name
    return next((e for e in lane.events if type(e) is Measured and e.name == name), None)


def _within(cost: Cost, left: Left) -> tuple[int, int, float]:
    """As much of a cost as there was left."""
    return (
        int(min(cost.model_calls, left.model_calls)),
        int(min(cost.tokens, left.tokens)),
        min(cost.price, left.price),
    )


def _named(event: Entry | Measured) -> tuple[str, int]:
    """Which call an event is of: presets that come to the same parameters share an id, not a name."""
    return (event.action, event.draw) if isinstance(event, Entry) else (event.name, 0)
