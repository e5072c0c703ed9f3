"""Plans: what to call, laid out before the first call.

A plan is a directed acyclic graph of calls (networkx). It runs as a policy: at each step, every call whose
predecessors are done, side by side. A call whose predecessor failed has nothing to stand on and is left
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from unroller.actions import Action
from unroller.decide import STOP, Call, Decided, Decision, State, as_decision
from unroller.faults import PlanError
from unroller.problem import Problem

if TYPE_CHECKING:
    from unroller.executor import Executor


class Plan:
    """A DAG of calls. Nodes are `Call`s; an edge a → b says that b waits for a.

    Raises PlanError when the graph has a cycle.
    """

    def __init__(self, calls: Iterable[Any] = (), edges: Iterable[tuple[Any, Any]] = ()) -> None:
        import networkx

        self.graph: Any = networkx.DiGraph()
        self.graph.add_nodes_from(one for call in calls for one in as_decision(call).calls)
        for before, after in edges:
            self.graph.add_edge(_call(before), _call(after))
        if not networkx.is_directed_acyclic_graph(self.graph):
            found: list[tuple[Any, Any]] = cast(Any, networkx).find_cycle(self.graph)
            cycle = " → ".join(str(a) for a, _ in found)
            raise PlanError(f"the plan goes round in a circle: {cycle} → …")

    @classmethod
    def chain(cls, calls: Sequence[Any]) -> Plan:
        """One call after the other."""
        return cls(calls, pairwise(calls))

    @property
    def calls(self) -> list[Call]:
        """Every call, each after those it waits for."""
        import networkx

        return list(networkx.lexicographical_topological_sort(self.graph, key=str))

    def layers(self) -> list[list[Call]]:
        """The calls by when they can start: everything in one layer can run side by side."""
        import networkx

        return [list(layer) for layer in networkx.topological_generations(self.graph)]

    def ready(self, done: Set[Call], failed: Set[Call]) -> list[Call]:
        """Calls not yet made whose predecessors are all done and have not failed."""
        return [
            call
            for call in self.graph.nodes
            if call not in done
            and all(p in done and p not in failed for p in self.graph.predecessors(call))
        ]


@runtime_checkable
class Planner(Protocol):
    """Lays out a plan for a problem from what can be called: actions by name, with the types that their
    primitives read and write."""

    def plan(self, problem: Problem, actions: Mapping[str, Action]) -> Plan: ...


@runtime_checkable
class Searcher(Protocol):
    """A planner that finds its plans by trying: it is handed the executor, without a planner, and forks."""

    def search(self, problems: Sequence[Problem], executor: Executor) -> Sequence[Plan]: ...


def plans_of(planner: Any, problems: Sequence[Problem], executor: Executor) -> list[Plan]:
    """A plan for each problem. Raises PlanError for what is no planner, or gives no plans."""
    name = str(getattr(planner, "name", type(planner).__name__))
    if isinstance(planner, Searcher):
        # What is tried must not be taken for the run's own calls, nor plan again.
        plans: list[Any] = list(planner.search(problems, executor.extend(policy=[])))
    elif isinstance(planner, Planner):
        plans = [planner.plan(problem, executor.actions) for problem in problems]
    else:
        raise PlanError(f"{planner!r} is no planner: it has no plan(problem, actions)")
    wrong = next((plan for plan in plans if not isinstance(plan, Plan)), None)
    if wrong is not None:
        raise PlanError(f"the planner {name} returned {type(wrong).__name__}, not a Plan")
    if len(plans) != len(problems):
        raise PlanError(f"the planner {name} made {len(plans)} plans for {len(problems)} problems")
    return plans


class PlannedPolicy:
    """A planner's plan, as a policy: made once a problem, carried out side by side."""

    probes: tuple[str, ...] = ()

    def __init__(self, planner: Planner | Searcher, executor: Executor) -> None:
        if not isinstance(planner, (Planner, Searcher)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PlanError(f"{planner!r} is no planner: it has no plan(problem, actions)")
        self.planner = planner
        self.executor = executor
        self.name = str(getattr(planner, "name", type(planner).__name__))
        self._plans: dict[bytes, Plan] = {}

    def decide(self, states: Sequence[State]) -> list[Decided]:
        plans = self._planned([state.problem for state in states])
        return [self._next(state, plan) for state, plan in zip(states, plans, strict=True)]

    def _next(self, state: State, plan: Plan) -> Decided:
        done = {call for decision in state.decisions for call in decision.calls}
        ready = plan.ready(done, state.failed)
        return Decision(tuple(ready)) if ready else STOP

    def _planned(self, problems: Sequence[Problem]) -> list[Plan]:
        """The plans of these problems, those that are not there made together."""
        new = {x.identity: x for x in problems if x.identity not in self._plans}
        if new:
            if len(self._plans) > 10_000:
                self._plans.clear()  # they can be made again
                new = {x.identity: x for x in problems}
            made = plans_of(self.planner, list(new.values()), self.executor)
            self._plans.update(zip(new, made, strict=True))
        return [self._plans[x.identity] for x in problems]


def _call(thing: Any) -> Call:
    (call,) = as_decision(thing).calls
    return call
