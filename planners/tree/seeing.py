"""States of a tree as a policy sees them in a live run: the same types, the same names, the same offers.

Two things a tree does not keep: pictures of the problem, and values that hold arrays. Whoever asks for one
of those gets a TreeError; everything else (texts, poses, answers' probes, counts, costs, what is allowed) is
as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from planners.tree.complete import CompleteTree
from planners.tree.faults import TreeError
from planners.tree.layout import name_of
from planners.tree.recipe import ActionMade
from planners.tree.several import several_of
from unroller.codec import BlobStore, Codec, value_type
from unroller.cost import Budget, Cost, Left, left_of
from unroller.decide import NO_PROBES, Call, Decided, Decision, Policy, Probes, State, as_decision
from unroller.faults import PolicyError
from unroller.workspace import Entry, Stored, Workspace

if TYPE_CHECKING:
    from planners.tree.several import Trees


class SeenState(State, frozen=True, eq=False, gc=False):
    """A state whose offers are those of a tree."""

    offered: tuple[bool, ...] = ()
    known: tuple[bool, ...] = ()

    @property
    def mask(self) -> tuple[bool, ...]:
        return self.offered

    def provided(self, name: str) -> bool:
        """Whether the tree has the action, and it can be called on this problem at all."""
        return name in self._actions and self.known[list(self._actions).index(name)]

    def refusal(self, name: str) -> str | None:
        if name not in self._actions:
            return f"no action is called {name!r}; there are: {', '.join(self._actions) or 'none'}"
        allowed = self.offered[list(self._actions).index(name)]
        return None if allowed else "the tree does not offer it here"


class Seen:
    """Rebuilds states of one tree under one budget, for a policy with these probes.

    Raises TreeError for a probe that was not measured, BudgetError for a budget below the decoder's share.
    """

    def __init__(self, tree: CompleteTree, probes: Sequence[str] = (), budget: Any = None) -> None:
        self.tree = tree
        self.probes = tuple(getattr(probe, "name", probe) for probe in probes)
        for name in self.probes:
            if name not in tree.probes:
                raise TreeError(
                    f"the policy asks for the probe {name}, which was not measured in this tree:"
                    f" {', '.join(tree.probes) or 'none was'}; build it with --probe {name}"
                )
        self.budget = Budget.of(budget)
        if self.budget.seconds is not None:
            raise TreeError("a tree knows no clock: give a budget of calls, tokens, price or steps")
        self.limits = {task.task: left_of(self.budget, Cost(*task.most)) for task in tree.recipe.tasks}
        self.alone = {probe.name for probe in tree.recipe.probes if probe.problem_only}
        self.probe_most = {probe.name: Cost(*probe.most) for probe in tree.recipe.probes}
        self.most = [Cost(*action.most) for action in tree.recipe.actions]
        self.limited = any(
            limit is not None for limit in (self.budget.model_calls, self.budget.tokens, self.budget.price)
        )
        self.actions: Mapping[str, Any] = {a.name: _Action(a) for a in tree.recipe.actions}
        self._codec = Codec(BlobStore(_nowhere()))
        self._workspaces: dict[tuple[int, int, int], Workspace] = {}
        self._kinds = [value_type(kind) for kind in tree.kinds]

    def left(self, i: int, draw: int, s: int, measured: Cost) -> Left:
        """What is left of the budget for calls in a state, `measured` having gone to probes."""
        return self.limits[self.tree.tasks[i]].less(self._spent(i, draw, s) + measured)

    def offered(self, i: int, draw: int, s: int, left: Left) -> tuple[bool, ...]:
        """For every action, whether it is allowed and affordable."""
        allowed = self.tree.allowed[i, draw, s].tolist()
        if self.limited:
            allowed = [a and left.affords(most) for a, most in zip(allowed, self.most, strict=True)]
        return tuple(allowed)

    def state(
        self,
        i: int,
        draw: int,
        s: int,
        step: int,
        decisions: Sequence[Decision],
        left: Left,
        probe: Any = NO_PROBES,
    ) -> SeenState:
        """What a policy sees. probe: what `measured` gave."""
        tree = self.tree
        offered = self.offered(i, draw, s, left)
        return SeenState(
            tree.problem(i, draw),
            self.workspace(i, draw, s),
            step,
            probe,
            left,
            0.0,
            self.actions,
            frozenset(),
            decisions,
            self._failed(i, draw, s),
            offered if step < left.steps else (False,) * len(offered),
            tuple(tree.allowed[i, draw, 0].tolist()),
        )

    def measured(
        self, i: int, draw: int, s: int, left: Left, settled: dict[str, Any] | None = None
    ) -> tuple[Any, Cost]:
        """What the policy's probes say there, and what they are charged; None for one that could not be
        measured, or that what is left does not afford.

        settled: by name, what earlier steps of the same run leave nothing to ask about, and is neither
        reserved for nor charged again: what a probe of the problem alone said, None for one that failed. It
        is added to."""
        if not self.probes:
            return NO_PROBES, Cost()
        settled = {} if settled is None else settled
        found: dict[str, Any] = {}
        total = Cost()
        for name in self.probes:
            found[name] = settled.get(name)
            if name in settled or not left.affords(self.probe_most[name]):
                continue
            value = np.asarray(self.tree.probes[name][i, draw, s])
            there = not bool(np.isnan(value).all())
            if there:
                found[name] = float(value) if value.ndim == 0 else value.copy()
            if name in self.alone or not there:
                settled[name] = found[name]
            at = 0 if name in self.alone else s
            calls, tokens, price = self.tree.probe_cost[name][i, draw, at].tolist()
            cost = Cost(int(calls), int(tokens), price)
            if there or cost != Cost():  # one that failed is charged what it said before it did
                left = left.less(self.probe_most[name])
                total += cost
        return Probes(**found), total

    def workspace(self, i: int, draw: int, s: int) -> Workspace:
        """The context, its values read when they are asked for."""
        found = self._workspaces.get((i, draw, s))
        if found is None:
            if s == 0:
                found = Workspace()
            else:
                found = self.workspace(i, draw, int(self.tree.layout.parent[s]))
                kind = int(self.tree.kind[i, draw, s])
                if kind >= 0:
                    found = found.compose(self._entry(i, draw, s, kind))
            self._workspaces[i, draw, s] = found
        return found

    def _entry(self, i: int, draw: int, s: int, kind: int) -> Entry:
        tree = self.tree
        action = tree.actions[int(tree.layout.last[s])]
        step = int(tree.layout.size[s]) - 1
        cost = self._spent(i, draw, s) - self._spent(i, draw, int(tree.layout.parent[s]))

        def value() -> Any:
            held = tree.value_bytes(i, draw, s)
            if held is None:
                raise TreeError(
                    f"the {tree.kinds[kind]} that {action} wrote holds arrays, which this tree does not keep:"
                    " decide from probes and counts, or run live"
                )
            return self._codec.value(held)

        return Entry(tree.id[i, draw, s].tobytes(), action, Stored(self._kinds[kind], value), step, cost)

    def _spent(self, i: int, draw: int, s: int) -> Cost:
        calls, tokens, price = self.tree.context_cost[i, draw, s].tolist()
        return Cost(int(calls), int(tokens), price)

    def _failed(self, i: int, draw: int, s: int) -> frozenset[Call]:
        tree, failed = self.tree, []
        while s > 0:
            if tree.failed[i, draw, s]:
                failed.append(Call(tree.actions[int(tree.layout.last[s])]))
            s = int(tree.layout.parent[s])
        return frozenset(failed)


class _Action:
    """What a policy may look up of an action: its name, its docstring, the most it is charged. Nobody
    provides it any more, so none is left out as something that the model could not read (`unread`): whoever
    built the tree chose its actions."""

    missing = None
    providers = ()

    def __init__(self, made: ActionMade) -> None:
        self.name = made.name
        self.cost = Cost(*made.most)
        self.writes = value_type(made.writes)
        self.primitive = SimpleNamespace(
            name=made.name.partition(":")[0], __doc__=made.about, stochastic=made.stochastic, applies=None
        )
        self.primitive.__dict__["__doc__"] = made.about


class Within:
    """A policy as it is on a tree, for a live executor: the actions of the tree, each once, `depth` of them
    at most, with the tree's parameters.

    What the tree does not hold is refused, as `evaluate` refuses it. `Executor(policy=Within(policy, tree))`.
    Of several trees it is the first with problems of the same task. Raises TreeError for a task that none
    has.
    """

    def __init__(self, policy: Policy, tree: Trees) -> None:
        self.policy = policy
        self.trees = several_of(tree)
        self.name = str(getattr(policy, "name", type(policy).__name__))
        self.probes = tuple(getattr(policy, "probes", ()))
        self._made = {id(tree): {one.name: one for one in tree.recipe.actions} for tree in self.trees}

    def decide(self, states: Sequence[State]) -> list[Decided]:
        trees = [self._tree(state.problem.task) for state in states]
        seen = [self._seen(state, tree) for state, tree in zip(states, trees, strict=True)]
        answers = [as_decision(one) for one in self.policy.decide(seen)]
        if len(answers) != len(states):
            raise PolicyError(f"the policy made {len(answers)} decisions for {len(states)} states")
        given = zip(seen, answers, trees, strict=True)
        return [self._called(state, answer, self._made[id(tree)]) for state, answer, tree in given]

    def _tree(self, task: str) -> CompleteTree:
        if len(self.trees) == 1:
            return self.trees[0]
        for tree in self.trees:
            if any(one.task == task for one in tree.recipe.tasks):
                return tree
        known = ", ".join(dict.fromkeys(one.task for tree in self.trees for one in tree.recipe.tasks))
        raise TreeError(f"no tree here has problems of the task {task!r}: there are {known}")

    def _seen(self, state: State, tree: CompleteTree) -> SeenState:
        called = _called(state, tree)
        layout = tree.layout
        open_ = dict(zip(state.actions, state.mask, strict=True))
        more = len(called) < layout.depth
        offered = tuple(more and name not in called and open_.get(name, False) for name in layout.actions)
        actions = {name: state._actions[name] for name in layout.actions if name in state._actions}
        return SeenState(
            state.problem,
            state.workspace,
            state.step,
            state.probe,
            state._left,
            state._seconds,
            actions,
            state._masked,
            state._decisions,
            state.failed,
            offered,
            tuple(state.provided(name) for name in layout.actions),
        )

    def _called(self, state: SeenState, decision: Decision, made: Mapping[str, ActionMade]) -> Decision:
        """The decision with the tree's parameters, what is not offered turned into what nobody knows."""
        calls: list[Call] = []
        for call in decision.calls:
            check_call(call, made)
            if call.action in state.allowed and call.action not in [c.action for c in calls]:
                calls.append(Call(call.action, made[call.action].parameters or None))
            else:
                calls.append(Call(f"{call.action} (not in the tree here)"))
        return Decision(tuple(calls), decision.log_probability)


def _called(state: State, tree: CompleteTree) -> set[str]:
    """The tree's actions that were really called before."""
    calls = [call.action for decision in state.decisions for call in decision.calls]
    return {name for name in calls if name in tree.actions}


def check_call(call: Call, made: Mapping[str, ActionMade]) -> None:
    """Raises TreeError for a draw or parameters that a tree does not hold."""
    known = made.get(call.action)
    if call.draw:
        raise TreeError(
            f"the policy asks for draw {call.draw} of {call.action}: a tree holds draws as problems with"
            " other seeds, not calls"
        )
    if call.parameters and (known is None or dict(call.parameters) != known.parameters):
        own = name_of(()) if known is None else known.parameters
        raise TreeError(
            f"the policy calls {call}, and the tree holds {call.action} with {own}: leave them out"
        )


def _nowhere() -> Any:
    import os
    from pathlib import Path

    return Path(os.devnull)
