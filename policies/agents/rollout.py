"""One problem unrolled by an agent, call by call, and what that was worth.

    bench = Bench(executor, problems, cost_weight=0.02)
    rollout = bench.open(0)
    rollout.call("camera_pose_estimate");  rollout.call("text_think")
    (outcome,) = bench.settle([rollout])             # reward = score − λ · price of what was charged

Whatever is called is called through the executor: charged, memoised, within the budget, a fault on the
record. So the rollouts of a GRPO group, which start alike, share what they compute; and since a stochastic
primitive's first call draws the same sample in each, what tells them apart is what was decided.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from policies.agents.tools import ANSWERING, Tool, tools_of
from policies.language_model import prompt
from policies.price import Price, not_negative
from policies.schedules import ORACLES
from unroller.ablation.scoring import scorer_of
from unroller.cost import Cost
from unroller.decide import Call, Decision
from unroller.executor import Executor
from unroller.faults import CallFailed, InputError, NotAllowed, ProblemError, UnknownName
from unroller.problem import Problem
from unroller.rendering import ImageSegment, Segment, TextSegment, escape
from unroller.run import Run
from unroller.stepping import Standing, Stepping
from unroller.values import Answer

logger = logging.getLogger(__name__)

FLAT = 1e-6
"""Rewards of a group that lie closer together than this teach nothing."""


class Outcome(msgspec.Struct, frozen=True):
    """What a rollout was worth. score: 0..1, 0 without an answer; cost: all that was charged, the answer
    included; reward: score − λ · price; run: as a policy's would be, None where the agent answered itself."""

    score: float
    cost: Cost
    reward: float
    run: Run | None


class Bench:
    """What agents work at: an executor, problems by number, tools, and a reward.

    cost_weight: λ, the score that a unit of price has to bring; price: what a call, a token and a dollar
    weigh. scorer: a name or (problem, output) -> 0..1. without: patterns of actions that are no tools.
    answers: True gives the agent a tool by which it answers for itself; without it the executor's decoder
    answers from what the agent has gathered, once it calls nothing more. told: the instruction, in place of
    `policies/prompts/agent*.md`. Raises PolicyError, ProblemError, UnknownName, BudgetError.
    """

    def __init__(
        self,
        executor: Executor,
        problems: Sequence[Problem],
        *,
        scorer: Callable[[Problem, Any], Any] | str = "soft_choice",
        cost_weight: float = 0.0,
        price: Price | None = None,
        without: Sequence[str] = ORACLES,
        answers: bool = False,
        told: str | None = None,
    ) -> None:
        self.problems = tuple(problems)
        for i, problem in enumerate(self.problems):
            if not isinstance(problem, Problem):
                raise ProblemError(f"problem {i} is a {type(problem).__name__}: give Problems")
            reason = executor.decoder(problem.task).inapplicable(problem)
            if reason is not None:
                raise ProblemError(f"problem {i}, {problem.task}: {reason}")
        if not self.problems:
            raise ProblemError("there are no problems: give at least one")
        without = (without,) if isinstance(without, str) else tuple(without)
        self.executor = executor
        self.scorer = scorer_of(scorer)
        self.cost_weight = not_negative("the cost weight", cost_weight)
        self.price = price or Price()
        self.answers = answers
        self.tools = tools_of(executor.actions, without) + ((ANSWERING,) if answers else ())
        self.told = told or prompt("agent_answers" if answers else "agent")
        self._steps = Stepping(executor)
        self._by_name = {tool.name: tool for tool in self.tools}

    def tool(self, name: str) -> Tool:
        """Raises UnknownName."""
        found = self._by_name.get(name)
        if found is None:
            raise UnknownName(f"no tool is called {name!r:.80}; there are: {', '.join(self._by_name)}")
        return found

    def open(self, number: int) -> Rollout:
        """A rollout of a problem, by number. Raises ProblemError."""
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(self.problems):
            raise ProblemError(f"there is no problem {number!r:.80}: they are 0 to {len(self.problems) - 1}")
        return Rollout(self, number, self._steps.begin([self.problems[number]])[0])

    def settle(self, rollouts: Sequence[Rollout]) -> list[Outcome]:
        """What each was worth. Those that no decoder has answered yet are answered together, in batches."""
        waiting = [rollout for rollout in rollouts if rollout.outcome is None]
        deciding = [rollout for rollout in waiting if not self.answers]
        runs = self._steps.go_on([r.standing for r in deciding], [Decision()] * len(deciding))
        for rollout, run in zip(deciding, runs, strict=True):
            assert isinstance(run, Run)
            rollout.outcome = self._worth(rollout, run.output, run.cost, run)
        for rollout in waiting if self.answers else ():
            rollout.outcome = self._worth(rollout, rollout.answered, rollout.standing.cost, None)
        outcomes = [rollout.outcome for rollout in rollouts]
        assert all(outcome is not None for outcome in outcomes)
        if waiting:
            flat, groups = flat_groups([r.number for r in waiting], [r.reward for r in waiting])
            if flat:
                logger.info("all rollouts had the same reward in %d of %d groups", flat, groups)
        return [outcome for outcome in outcomes if outcome is not None]

    def _worth(self, rollout: Rollout, output: Any, cost: Cost, run: Run | None) -> Outcome:
        which = f"problem {rollout.number}"
        score = 0.0 if output is None else self.scorer(rollout.problem, output, which)
        return Outcome(score, cost, score - self.cost_weight * self.price.of(cost), run)

    def _go_on(self, standing: Standing, call: Call) -> Standing:
        (there,) = self._steps.go_on([standing], [call])
        assert isinstance(there, Standing)
        return there


class Rollout:
    """A problem on its way: number, standing (what a policy would be shown, and what it has cost), calls (by
    name), answered (what the agent answered itself), outcome (None until it is settled)."""

    def __init__(self, bench: Bench, number: int, standing: Standing) -> None:
        self.bench = bench
        self.number = number
        self.standing = standing
        self.calls: list[str] = []
        self.answered: Answer | None = None
        self.outcome: Outcome | None = None

    @property
    def problem(self) -> Problem:
        return self.standing.problem

    @property
    def reward(self) -> float:
        """Settles it if need be."""
        return self.bench.settle([self])[0].reward if self.outcome is None else self.outcome.reward

    def opening(self) -> list[Segment]:
        """What the agent is shown at first: photos, question, prompt and choices."""
        x = self.problem
        shown: list[Segment] = [
            ImageSegment(image.pixels, f"photo {i + 1}") for i, image in enumerate(x.images)
        ]
        shown += [TextSegment(escape(text)) for text in (x.question, x.prompt) if text is not None]
        shown += [TextSegment(f"- {escape(choice)}") for choice in x.choices]
        return shown

    def call(self, name: str, preset: str | None = None) -> list[Segment]:
        """Call a tool: what it wrote, as a model reads it.

        Raises UnknownName and PolicyError for what there is not, NotAllowed for what cannot be called now,
        and CallFailed for a call that was made and failed. The rollout stands where it can go on after each.
        """
        action = self.bench.tool(name).action(preset)
        call = self._allowed(action)
        there = self.bench._go_on(self.standing, call)
        before = self.standing.state.workspace.size
        self.standing, self.outcome = there, None
        self.calls.append(action)
        written = list(there.state.workspace)[before:]
        if not written:
            raise CallFailed(there.faults[-1])
        return [segment for entry in written for segment in entry.value.render()]

    def answer(self, choice: str) -> None:
        """The agent's own answer, where the bench lets it answer. Raises InputError for what is no choice."""
        if not self.bench.answers:
            raise UnknownName(f"no tool is called 'answer'; there are: {', '.join(self.bench._by_name)}")
        if self.answered is not None:
            raise NotAllowed("it is answered already: nothing more can be called")
        choices = self.problem.choices
        if not choices:
            self.answered = Answer(choice)
        elif choice not in choices:
            raise InputError(f"{choice!r:.80} is no choice: they are {', '.join(choices)}")
        else:
            which = choices.index(choice)
            sure = tuple(float(i == which) for i in range(len(choices)))
            self.answered = Answer(choice, choices, which, sure)
        self.outcome = None

    def _allowed(self, action: str) -> Call:
        """The call that an action means here: of a stochastic one that was called before, another sample.
        Raises NotAllowed."""
        state = self.standing.state
        if self.answered is not None:
            raise NotAllowed("it is answered already: nothing more can be called")
        reason = state.refusal(action)
        if state.left.steps <= 0:
            reason = "no step of the budget is left"
        if reason is not None:
            raise NotAllowed(f"{action} cannot be called now: {reason}")
        made = sum(entry.action == action for entry in state.workspace)
        bound = state.catalogue[action]
        if bound.primitive.stochastic:
            return Call(action, None, made)
        if bound.id(self.problem, state.workspace, 0) in {entry.id for entry in state.workspace}:
            raise NotAllowed(f"{action} would write what it wrote before: nothing it reads has changed")
        return Call(action)


def flat_groups(numbers: Sequence[int], rewards: Sequence[float]) -> tuple[int, int]:
    """Of the groups of rollouts with the same number: those whose rewards are all alike, so that nothing is
    learned from comparing them, and all that have two rollouts or more."""
    groups: dict[int, list[float]] = {}
    for number, reward in zip(numbers, rewards, strict=True):
        groups.setdefault(number, []).append(reward)
    compared = [group for group in groups.values() if len(group) > 1]
    return sum(max(group) - min(group) < FLAT for group in compared), len(compared)
