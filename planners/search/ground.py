"""Where a search looks: a live executor, or a tree. It asks for places, many at a time, and is told of each
how good the answer there seems, what looking was charged, and where one can go from there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from planners.search.self_scores import self_score
from planners.tree.pricing import Price, weights_of
from unroller.cost import Cost, left_of
from unroller.decide import NO_PROBES, Call, State
from unroller.executor import Executor
from unroller.faults import PlanError
from unroller.plan import Plan
from unroller.problem import Problem
from unroller.run import Run
from unroller.unrolling import Snapshot
from unroller.workspace import Entry

Calls = tuple[str, ...]


class Place(msgspec.Struct, frozen=True):
    """A place in a problem's tree: problem (its number), calls in order, and which sample of what is
    stochastic in them."""

    problem: int
    calls: Calls = ()
    sample: int = 0


class Looked(msgspec.Struct, frozen=True):
    """What is found at a place. score: of the answer there by itself, None if there is no answer; cost: of
    the calls and the answer, in all; charged: for the last call and for answering, which is what looking
    here cost; allowed: what can be called from here, each action once."""

    score: float | None
    cost: Cost
    charged: Cost
    allowed: Calls


class Ground(Protocol):
    """A live executor or a tree, for a number of problems."""

    actions: Calls
    count: int

    def look(self, places: Sequence[Place]) -> list[Looked]: ...

    def stochastic(self, action: str) -> bool: ...


class Found(msgspec.Struct, frozen=True):
    """What a search settled on for one problem: the place, its score less what its cost weighs, and what the
    whole search was charged for `looked` places."""

    place: Place
    value: float
    charged: Cost
    looked: int


class Search(ABC):
    """What every search has in common. score: how an answer is judged, by itself (see `self_scores`);
    weight: what one unit of cost is worth in score; price: what a cost is (see `planners.tree.pricing`).

    A subclass chooses: `choose(ground) -> [Found, …]`, one a problem.
    """

    name = "search"

    def __init__(
        self,
        score: Callable[[Problem, Any], float] | str = "confidence",
        weight: float = 0.0,
        price: Price = "model_calls",
    ) -> None:
        if not 0 <= weight < float("inf"):
            raise PlanError(f"a cost weight of {weight}: it is what one unit of cost is worth, 0 or more")
        self.score = self_score(score)
        self.weight = weight
        self.weights = weights_of(price)

    def __repr__(self) -> str:
        return f"<planner {self.name}: {self.score.name}>"

    @abstractmethod
    def choose(self, ground: Ground) -> list[Found]:
        """A place for each problem of the ground."""

    def search(self, problems: Sequence[Problem], executor: Executor) -> list[Plan]:
        """A plan for each problem, found by trying. What is tried is charged to nobody's budget: `find` says
        how much it was; each unrolling that is tried keeps within the executor's budget."""
        ground = LiveGround(executor, problems, self)
        return [Plan.chain(ground.calls(found.place)) for found in self.choose(ground)]

    def find(self, problems: Sequence[Problem], executor: Executor) -> list[Found]:
        """The same, with what was found and what it was charged."""
        return self.choose(LiveGround(executor, problems, self))

    def value(self, looked: Looked) -> float:
        """score - weight × cost; below everything where there is no answer."""
        if looked.score is None:
            return float("-inf")
        calls, tokens, price = self.weights.tolist()
        cost = looked.cost
        priced = calls * cost.model_calls + tokens * cost.tokens + price * cost.price
        return looked.score - self.weight * priced


class Ledger:
    """What has been looked at for each problem: nothing twice, and everything charged once."""

    def __init__(self, search: Search, ground: Ground) -> None:
        self.search = search
        self.ground = ground
        self.seen: list[dict[Place, Looked]] = [{} for _ in range(ground.count)]
        self.charged = [Cost() for _ in range(ground.count)]

    def look(self, places: Sequence[Place]) -> None:
        """Look at those that are new, all at once."""
        new = [p for p in dict.fromkeys(places) if p not in self.seen[p.problem]]
        for place, looked in zip(new, self.ground.look(new) if new else (), strict=True):
            self.seen[place.problem][place] = looked
            self.charged[place.problem] += looked.charged

    def at(self, place: Place) -> Looked:
        return self.seen[place.problem][place]

    def value(self, place: Place) -> float:
        return self.search.value(self.at(place))

    def best(self, i: int) -> Found:
        """The place of the highest value; of equal ones the first of those with the fewest calls."""
        seen = self.seen[i]
        best = min(seen, key=lambda p: (-round(self.value(p), 12), len(p.calls)))
        return Found(best, self.value(best), self.charged[i], len(seen))


class LiveGround:
    """A live executor: places are forks of places, so nothing is computed twice, and those that make the same
    call are one batch."""

    def __init__(self, executor: Executor, problems: Sequence[Problem], search: Search) -> None:
        changes: dict[str, Any] = {"memo": "memory"} if executor.memo is None else {}
        self.executor = executor.extend(policy=[], strict=False, **changes)
        self.problems = list(problems)
        self.score = search.score
        self.count = len(self.problems)
        self.actions: Calls = tuple(n for n, a in self.executor.actions.items() if a.missing is None)
        self._runs: dict[Place, tuple[Run, frozenset[str]]] = {}
        self._calling: dict[Call, Executor] = {}

    def stochastic(self, action: str) -> bool:
        found = self.executor.actions.get(action)
        return found is not None and found.primitive.stochastic

    def calls(self, place: Place) -> list[Call]:
        """The calls of a place, as a plan makes them."""
        return [Call(name, None, place.sample if self.stochastic(name) else 0) for name in place.calls]

    def look(self, places: Sequence[Place]) -> list[Looked]:
        self._visit(places)
        return [self._looked(place) for place in places]

    def _visit(self, places: Sequence[Place]) -> None:
        """Make the runs of these places that are not there, their parents' first."""
        new = [place for place in dict.fromkeys(places) if place not in self._runs]
        if not new:
            return
        roots = [place for place in new if not place.calls]
        longer = [place for place in new if place.calls]
        self._visit([_parent(place) for place in longer])
        started = self.executor.map([self.problems[place.problem] for place in roots])
        for place, run in zip(roots, started, strict=True):
            self._runs[place] = (run, frozenset())
        groups: dict[Call, list[Place]] = {}
        for place in longer:
            groups.setdefault(self.calls(place)[-1], []).append(place)
        for call, several in groups.items():
            starts: list[Snapshot] = []
            for place in several:
                before, _ = self._runs[_parent(place)]
                starts.append(Snapshot(before.problem, before.workspace, before.cost - _answering(before)))
            for place, run in zip(several, self._executor(call).map(starts), strict=True):
                failed = self._runs[_parent(place)][1]
                if not any(isinstance(event, Entry) for event in run.events):
                    failed |= {call.action}
                self._runs[place] = (run, failed)

    def _executor(self, call: Call) -> Executor:
        found = self._calling.get(call)
        if found is None:
            found = self._calling[call] = self.executor.extend(policy=[call])
        return found

    def _looked(self, place: Place) -> Looked:
        run, failed = self._runs[place]
        before = Cost()
        if place.calls:
            parent, _ = self._runs[_parent(place)]
            before = parent.cost - _answering(parent)
        which = f"problem {place.problem} after {', '.join(place.calls) or 'no call'}"
        score = None if run.output is None else self.score(run.problem, run.output, which)
        return Looked(score, run.cost, run.cost - before, self._allowed(run, place, failed))

    def _allowed(self, run: Run, place: Place, failed: frozenset[str]) -> Calls:
        """What a live state would allow, each action once."""
        executor, problem = self.executor, run.problem
        left = left_of(executor.budget, executor.decoder(problem.task).cost)
        left = left.less(run.cost - _answering(run))
        here: Mapping[str, Any] = {n: executor.actions[n] for n in self.actions if n not in place.calls}
        step = len(place.calls)
        return State(problem, run.workspace, step, NO_PROBES, left, 0.0, here, failed, ()).allowed


def _parent(place: Place) -> Place:
    return Place(place.problem, place.calls[:-1], place.sample if len(place.calls) > 1 else 0)


def _answering(run: Run) -> Cost:
    """What the answer of a run was charged, whether it came or not."""
    if run.output_entry is not None:
        return run.output_entry.cost
    return sum((Cost(*fault.charged) for fault in run.faults if fault.phase == "decode"), Cost())
