"""Policies π: which primitive to call next, or to stop and decode.

A policy sees names and types, never a model. It is handed a batch of states and answers with as many
decisions; `@policy` makes one from a plain function of one state:

    @policy(probes=("answer_entropy",))
    def until_sure(state):
        return STOP if state.probe.answer_entropy < 0.3 or not state.allowed else state.allowed[0]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol, cast, runtime_checkable

import msgspec

from unroller.cost import Left
from unroller.faults import PolicyError
from unroller.problem import Problem
from unroller.workspace import Workspace


class Call(msgspec.Struct, frozen=True, gc=False):
    """One call of a primitive: its action ("name", or "name:preset"), parameters that differ from the
    preset's, and `draw`, which numbers repeated samples of a stochastic primitive."""

    action: str
    parameters: Mapping[str, Any] | None = None
    draw: int = 0

    def __post_init__(self) -> None:
        if type(self.action) is not str or type(self.draw) is not int or not 0 <= self.draw < 2**63:
            raise PolicyError(f"no call: {self.action!r:.80}, draw {self.draw!r:.40}; a draw is 0 or more")
        if self.parameters is not None and not isinstance(self.parameters, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PolicyError(f"the parameters of {self.action} are a mapping, not {self.parameters!r:.80}")

    def __hash__(self) -> int:
        # Parameters are a mapping, which has no hash of its own; equal ones have equal reprs of items.
        return hash((self.action, self.draw, repr(sorted((self.parameters or {}).items()))))

    def __str__(self) -> str:
        extra = (
            ""
            if not self.parameters
            else f"({', '.join(f'{k}={v}' for k, v in self.parameters.items())})"
        )
        return self.action + extra + (f"#{self.draw}" if self.draw else "")


class Decision(msgspec.Struct, frozen=True, tag="decision", gc=False):
    """What a policy decided: calls that may run side by side, or none, which is STOP.

    log_probability: of this decision under the policy, for training; step: filled in by the executor.
    """

    calls: tuple[Call, ...] = ()
    log_probability: float | None = None
    step: int = 0

    def __post_init__(self) -> None:
        for call in self.calls:
            if type(call) is not Call:
                listed = as_decision(self.calls).calls  # names, or a list: as a policy may answer
                msgspec.structs.force_setattr(self, "calls", listed)
                break
        p = self.log_probability
        if p is not None and type(p) is not float:
            msgspec.structs.force_setattr(self, "log_probability", _number(p))


STOP = Decision()
"""Decode now."""

Decided = Decision | Call | str | Iterable["Call | str"]
"""What a policy may answer with for one state; a string is an action's name."""


class State(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a policy sees of one problem before it decides.

    problem, workspace; step: decisions made so far; left: what is left of the budget for primitives (the
    decoder's share is already taken off); allowed: the actions that can be called now; probe: the
    measurements the policy asked for; failed: the calls that were decided and wrote nothing.
    """

    problem: Problem
    workspace: Workspace
    step: int
    probe: Any
    _left: Left
    _seconds: float
    _actions: Mapping[str, Any]
    _masked: frozenset[str]
    _decisions: Sequence[Decision]
    failed: frozenset[Call] = frozenset()

    @property
    def left(self) -> Left:
        """What is left of the budget for primitives."""
        return self._left.after(self.step, self._seconds)

    @property
    def decisions(self) -> Sequence[Decision]:
        """The decisions made so far that called something."""
        return self._decisions[: self.step]

    @property
    def allowed(self) -> tuple[str, ...]:
        """Actions that are not masked, that apply to the problem, that the budget affords, and that would
        write something new: the same call on the same inputs gives the value that is there already. (Another
        sample of a stochastic one can be had all the same: `Call(name, draw=1)`.)"""
        return tuple(name for name, open_ in zip(self._actions, self.mask, strict=True) if open_)

    @property
    def mask(self) -> tuple[bool, ...]:
        """For every action, in the executor's order, whether it is allowed."""
        if self.step >= self._left.steps:
            return (False,) * len(self._actions)
        there = {entry.id for entry in self.workspace}
        return tuple(
            self.refusal(name) is None
            and not (there and action.id(self.problem, self.workspace, 0) in there)
            for name, action in self._actions.items()
        )

    @property
    def actions(self) -> tuple[str, ...]:
        """Every action there is, allowed or not, in the executor's order."""
        return tuple(self._actions)

    @property
    def catalogue(self) -> Mapping[str, Any]:
        """Every action by name (`actions.Action`): what it may cost, and through `primitive` its docstring
        and the types that it reads and writes."""
        return self._actions

    def provided(self, name: str) -> bool:
        """Whether an action exists, a backend provides what it needs, and it applies to the problem,
        whatever the budget says and whatever failed so far."""
        action = self._actions.get(name)
        return action is not None and action.missing is None and action.inapplicable(self.problem) is None

    def refusal(self, name: str) -> str | None:
        """Why an action cannot be called now, or None if it can."""
        action = self._actions.get(name)
        if action is None:
            return f"no action is called {name!r}; there are: {', '.join(self._actions) or 'none'}"
        return action.refusal(self.problem, self._left, self._masked)


class NoProbes:
    """Stands in for `state.probe` where the policy declared none."""

    def __getattr__(self, name: str) -> Any:
        raise PolicyError(f"the policy reads state.probe.{name}: declare it, probes=({name!r},)")


NO_PROBES = NoProbes()


class Probes(SimpleNamespace):
    """The probes that a policy declared, as attributes; None where one could not be computed."""

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(vars(self))
        raise PolicyError(f"the policy reads state.probe.{name} but declared probes=({known})")


@runtime_checkable
class Policy(Protocol):
    """Anything with this method (and optionally `name` and `probes`) is a policy.

    It must be a function of the states alone: a run is resumed and replayed by asking again. Randomness
    is drawn from the problem's seed and the state, as `RandomPolicy` does. One that decides by chance may
    also say all that it might decide, `distribution(states)`: for each state the possible Decisions, each
    with its log-probability. Trees then evaluate it in expectation.
    `probes` are names of registered probes, or probes. One that must know the actions before it is first
    asked, to make its probes from them, has a method `bound_to(actions)` that returns a policy for those: an
    executor calls it when it is made.
    """

    def decide(self, states: Sequence[State]) -> Sequence[Decided]: ...


class FunctionPolicy:
    """A policy from a function of one state."""

    def __init__(self, function: Callable[[State], Decided], probes: Sequence[str] = ()) -> None:
        self.function = function
        self.name: str = getattr(function, "__name__", "policy")
        self.probes = (probes,) if isinstance(probes, str) else tuple(probes)
        self.__doc__ = function.__doc__

    def __call__(self, state: State) -> Decided:
        return self.function(state)

    def decide(self, states: Sequence[State]) -> list[Decided]:
        function = self.function
        return [function(state) for state in states]

    def __repr__(self) -> str:
        return f"<policy {self.name}>"


def _number(p: Any) -> float:
    try:
        return float(p)
    except (TypeError, ValueError):
        raise PolicyError(f"a log-probability is a number, not {p!r:.80}") from None


class FixedList:
    """A list of calls, one a step, then STOP. An item that is itself a tuple runs side by side."""

    probes: tuple[str, ...] = ()

    def __init__(self, calls: Iterable[Decided], name: str = "list") -> None:
        decided = [as_decision(call) for call in calls]
        self.decisions = tuple(Decision(d.calls, d.log_probability, i) for i, d in enumerate(decided))
        self.name = name

    def decide(self, states: Sequence[State]) -> list[Decided]:
        listed = self.decisions
        return [listed[s.step] if s.step < len(listed) else STOP for s in states]

    def __repr__(self) -> str:
        return f"<policy {self.name}: {', '.join(str(c) for d in self.decisions for c in d.calls)}>"


def policy(function: Any = None, *, probes: Sequence[str] = ()) -> Any:
    """Turn a plain function of one state into a policy: `@policy`, or `@policy(probes=(…))`."""
    if function is not None:
        return FunctionPolicy(function)

    def decorate(function: Callable[[State], Decided]) -> FunctionPolicy:
        return FunctionPolicy(function, probes)

    return decorate


_BY_NAME: dict[str, Decision] = {}  # decisions to call one action by its bare name, made once


def as_decision(decided: Any) -> Decision:
    """What a policy answered, as a Decision. Raises PolicyError on anything else."""
    if type(decided) is Decision:
        return decided
    if isinstance(decided, str):
        found = _BY_NAME.get(decided)
        if found is None:
            found = _BY_NAME[decided] = Decision((Call(decided),))
        return found
    if isinstance(decided, Call):
        return Decision((decided,))
    name = getattr(decided, "name", None)
    if isinstance(name, str):  # a primitive object
        return as_decision(name)
    if isinstance(decided, Iterable):
        return Decision(
            tuple(call for one in cast("Iterable[Any]", decided) for call in as_decision(one).calls)
        )
    raise PolicyError(
        f"a policy decided {decided!r}: answer with STOP, an action's name, a Call, or several of them"
    )


def as_policy(given: Any) -> Policy:
    """A policy from a policy, a list of calls, or a function of one state. Raises PolicyError."""
    if isinstance(given, type):
        given = given()
    if isinstance(given, Policy):
        return given
    if isinstance(given, (list, tuple)):
        return FixedList(cast("Sequence[Any]", given))
    if callable(given):
        return FunctionPolicy(cast("Callable[[State], Decided]", given))
    raise PolicyError(
        f"{given!r} is no policy: give an object with decide(states), a list, or a function"
    )
