"""A live executor as ground: what was never asked for is carried out, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from policies.environment.ground import check_actions
from policies.observation import Observation
from policies.price import Price
from policies.saved import warn_if_none
from policies.schedules import ORACLES, is_one_of, unread
from unroller.ablation.scoring import scorer_of
from unroller.cost import left_of
from unroller.decide import STOP, Call
from unroller.executor import Executor
from unroller.faults import BudgetOverrun, Fault, InputError, NotAllowed, PolicyError, ProblemError
from unroller.problem import Problem
from unroller.run import Run
from unroller.stepping import Standing, Stepping

FEW = 256
"""Rows that there are at first, and how many are kept where nothing is to be remembered."""

LASTING = (InputError.__name__, BudgetOverrun.__name__, NotAllowed.__name__)
"""Faults that come again whenever the same is tried."""

Scorer = Callable[[Problem, Any], Any] | str


class LiveGround:
    """Places of problems under an executor: see `Ground` for the arrays.

    scorer: (problem, output) -> 0..1, or a registered name; an unrolling without an answer scores 0. depth:
    calls at most, beside the budget's steps. most: how many places are kept until `full`; where several
    environments (`users`) share them, all are kept. An executor without a memo remembers nothing, and neither
    does this. Raises ProblemError, PolicyError, UnknownName, BudgetError.
    """

    def __init__(
        self,
        problems: Iterable[Problem],
        executor: Executor,
        *,
        observation: Observation | None = None,
        scorer: Scorer = "soft_choice",
        price: Price | None = None,
        depth: int | None = None,
        most: int = 100_000,
    ) -> None:
        self._problems = _checked(problems, executor)
        self.observation = observation or Observation(choosable(executor))
        check_actions(self.observation)
        warn_if_none("to be trained", self.observation.actions, executor.actions)
        if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
            raise PolicyError(f"a depth of {depth!r}: it is the most calls that are made, 0 or more")
        self._depth = depth
        self._scorer = scorer_of(scorer)
        self._price = price or Price()
        self._steps = Stepping(executor, [name for name, _ in self.observation.problem.probes])
        self._remembers = executor.memo is not None
        self._most = most if self._remembers else FEW
        self.count = len(self._problems)
        self.problems = np.arange(self.count)
        self.computed = 0
        self.users = 0
        self._clear()

    @property
    def full(self) -> bool:
        return self.users < 2 and len(self._standings) >= self._most

    def begin(self, roots: np.ndarray) -> np.ndarray:
        if not self._remembers:
            return self._begun(roots.tolist())
        wanted = np.unique(roots[self.rooted[roots] < 0])
        if len(wanted):
            self.rooted[wanted] = self._begun(wanted.tolist())
        return self.rooted[roots].astype(np.int64)

    def go(self, places: np.ndarray, actions: np.ndarray) -> np.ndarray:
        stop = self.observation.stop
        found = np.where(actions == stop, places, self.following[places, actions]).astype(np.int64)
        unknown = np.where(actions == stop, np.isnan(self.scores[places]), found < 0)
        asked = [(i, int(places[i]), int(actions[i])) for i in np.flatnonzero(unknown)]
        if not asked:
            return found
        # Where nothing is remembered, twins are carried out one by one.
        jobs = {(place, action, 0 if self._remembers else i): 0 for i, place, action in asked}
        names, standings = self.observation.actions, self._standings
        decisions = [STOP if action == stop else Call(names[action]) for _, action, _ in jobs]
        came = self._steps.go_on([standings[place] for place, _, _ in jobs], decisions)
        for job, one in zip(jobs, came, strict=True):
            if isinstance(one, Run):
                self._answered(job[0], one)
        moved = [(job, one) for job, one in zip(jobs, came, strict=True) if isinstance(one, Standing)]
        rows = self._written([self._of[place] for (place, _, _), _ in moved], [one for _, one in moved])
        for (job, one), row in zip(moved, rows.tolist(), strict=True):
            place, action, _ = job
            jobs[job] = row
            self.computed += one.computed - standings[place].computed
            if self._remembers and _lasts(one.faults[len(standings[place].faults) :]):
                self.following[place, action] = row
                self._from[row] = place, action
        for i, place, action in asked:
            if action != stop:
                found[i] = jobs[place, action, 0 if self._remembers else i]
        return found

    def keep(self, places: np.ndarray) -> np.ndarray:
        kept, numbers = np.unique(places, return_inverse=True)
        known = ("vectors", "masks", "scores", "costs")
        before = {name: getattr(self, name)[kept] for name in known}
        of, standings = self._of, self._standings
        self._clear()
        self._grow(len(kept))
        for name, held in before.items():
            getattr(self, name)[: len(kept)] = held
        self._of = [of[place] for place in kept.tolist()]
        self._from = [(-1, -1)] * len(kept)
        self._standings = [standings[place] for place in kept.tolist()]
        return numbers.astype(np.int64)

    # ---------------------------------------------------------------------------------------------- rows

    def _clear(self) -> None:
        choices = self.observation.stop + 1
        self.vectors = np.zeros((FEW, self.observation.size), np.float32)
        self.masks = np.zeros((FEW, choices), np.int8)
        self.following = np.full((FEW, choices), -1, np.int32)
        self.rooted = np.full(self.count, -1, np.int32)
        self.scores = np.full(FEW, np.nan)
        self.costs = np.full(FEW, np.nan)
        self._of: list[int] = []
        self._from: list[tuple[int, int]] = []  # place and action that lead to each; -1 for what begins
        self._standings: list[Standing] = []

    def _grow(self, size: int) -> None:
        """Room for `size` rows."""
        there = len(self.vectors)
        if size <= there:
            return
        more = max(size, 2 * there) - there
        self.vectors = np.concatenate([self.vectors, np.zeros((more, self.vectors.shape[1]), np.float32)])
        self.masks = np.concatenate([self.masks, np.zeros((more, self.masks.shape[1]), np.int8)])
        self.following = np.concatenate([self.following, np.full((more, self.masks.shape[1]), -1, np.int32)])
        self.scores = np.concatenate([self.scores, np.full(more, np.nan)])
        self.costs = np.concatenate([self.costs, np.full(more, np.nan)])

    def _begun(self, roots: Sequence[int]) -> np.ndarray:
        standings = self._steps.begin([self._problems[root] for root in roots])
        self.computed += sum(standing.computed for standing in standings)
        return self._written(roots, standings)

    def _written(self, roots: Sequence[int], standings: Sequence[Standing]) -> np.ndarray:
        """New rows for standings of these roots: their numbers."""
        first, count = len(self._standings), len(standings)
        rows = slice(first, first + count)
        if not count:
            return np.zeros(0, np.int64)
        states = [standing.state for standing in standings]
        vectors = self.observation.of(states)
        if self._depth is not None:
            deep = np.array([state.step >= self._depth for state in states])
            self.observation.layout.part(vectors, "mask")[deep, :-1] = 0
        if not np.isfinite(vectors).all():
            bad = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
            raise PolicyError(
                f"the observation of {_which(roots[bad], standings[bad])} holds NaN or infinity: see which"
                " probe wrote it"
            )
        self._grow(first + count)
        self.vectors[rows] = vectors
        self.masks[rows] = self.observation.allowed(vectors)
        self._of += roots
        self._from += [(-1, -1)] * count
        self._standings += standings
        return np.arange(first, first + count)

    def _answered(self, place: int, run: Run) -> None:
        standing, root = self._standings[place], self._of[place]
        score = 0.0
        if run.output is not None:
            score = self._scorer(run.problem, run.output, _which(root, standing))
        self.computed += run.spent.computed - standing.computed
        self.scores[place] = score
        self.costs[place] = self._price.of(run.cost)
        if not _lasts([fault for fault in run.faults if fault.phase == "decode"]):
            self._forget(place)

    def _forget(self, place: int) -> None:
        """Have the place made anew when it is come to again; whoever is there now stays."""
        before, action = self._from[place]
        if before >= 0:
            self.following[before, action] = -1
        else:
            self.rooted[self.rooted == place] = -1


def _lasts(faults: Sequence[Fault]) -> bool:
    """Whether what was found is there to stay: that which failed only now is asked for again."""
    return all(fault.kind in LASTING for fault in faults)


def choosable(executor: Executor) -> tuple[str, ...]:
    """The actions of an executor that a policy may be trained to choose: those that can be called, but for
    oracles, which know the truth, and what a unified model could not read."""
    left_out = unread(executor.actions)
    return tuple(
        name
        for name, action in executor.actions.items()
        if action.missing is None and name not in left_out and not is_one_of(name, ORACLES)
    )


def _checked(problems: Iterable[Problem], executor: Executor) -> list[Problem]:
    """The problems, each with a decoder that applies to it and that the budget covers. Raises ProblemError,
    UnknownName, BudgetError."""
    given: list[Any] = [problems] if isinstance(problems, Problem) else list(problems)
    if not given:
        raise ProblemError("there are no problems: give at least one")
    for i, problem in enumerate(given):
        if not isinstance(problem, Problem):
            raise ProblemError(f"problem {i} is a {type(problem).__name__}: give Problems")
        decoder = executor.decoder(problem.task)
        left_of(executor.budget, decoder.cost)
        reason = decoder.inapplicable(problem)
        if reason is not None:
            raise ProblemError(f"problem {i}, {problem.task}: {reason}")
    return given


def _which(root: int, standing: Standing) -> str:
    calls = [str(call) for decision in standing.state.decisions for call in decision.calls]
    return f"problem {root} after {', '.join(calls) or 'no call'}"
