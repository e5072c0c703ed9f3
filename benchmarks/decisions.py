"""How many decisions a second each policy makes, alone and for 256 problems at once.

    python benchmarks/decisions.py [--quick] [--json PATH]

States are those of real runs over toy primitives that bear the registered names: two to four values in the
context, fourteen actions. A policy's own work is timed, and what it asks of a state (its mask, what is left),
not its probes, which are model calls: entropies and replies are given. *Observations* are vectors made
from states, and packed from arrays as an environment does that has no states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from measure import Contender, Race, Report, arguments

from policies.bandit import RidgeBandit
from policies.confidence import ConfidencePolicy
from policies.language_model import LanguageModelPolicy
from policies.learned import LearnedPolicy
from policies.observation import Observation
from policies.random import RandomPolicy
from policies.schedules import AllPrimitives, DirectPolicy, schedule
from unroller import Executor, State
from unroller.check import StandIn
from unroller.check.toys import task_problems, toy_decoders, toy_primitives
from unroller.decide import Probes
from unroller.problem import Problem

BATCHES = (1, 256)
SCHEDULES = [
    [],
    ["text_think"],
    ["text_think_long"],
    ["camera_pose_estimate"],
    ["camera_pose_estimate", "text_think"],
    ["camera_pose_estimate", "novel_view_synthesis"],
    ["camera_pose_estimate", "novel_view_synthesis", "text_think"],
    ["detailed_caption"],
    ["detailed_caption", "text_think"],
    ["depth_estimate"],
    ["depth_estimate", "text_think"],
    ["depth_caption", "text_think"],
]


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    report = Report("decisions", "Decisions of policies", options.quick)
    executor, states = _states()
    race = Race(3, 5) if options.quick else Race(15, 40)
    contestants = _policies(executor)
    for batch in BATCHES:
        contenders = [
            Contender(name, _deciding(policy), _some(states, batch), batch, _as_many)
            for name, policy in contestants.items()
        ]
        title = f"Decisions for {batch} problem{'s' * (batch > 1)} at a time"
        report.section(f"decisions, {batch}", title, race(contenders), "decisions/s")
    seen = Observation(tuple(executor.actions))
    for batch in BATCHES:
        report.section(
            f"observations, {batch}",
            f"Observations of {seen.size} numbers, {batch} at a time",
            race(_observing(seen, states, batch)),
            "observations/s",
        )
    report.remark("toy primitives, entropies and replies given: what a model takes is not in it")
    report.finish(options.json, ("numpy", "torch"))


def _states() -> tuple[Executor, list[State]]:
    """States of 300 problems after two to four calls, each of its own problem."""
    kept: list[State] = []

    class Keeping:
        name, probes = "keeping", ()

        def decide(self, states: Sequence[State]) -> list[Any]:
            kept.extend(s for s in states if s.step == 2 + s.problem.seed % 3)
            return RandomPolicy(0.01).decide(states)

    problems = [x.model_copy(update={"seed": seed}) for seed in range(40) for x in task_problems(None)]
    problems = [Problem(**{name: getattr(x, name) for name in x.model_fields_set}) for x in problems]
    executor = Executor(
        backend=StandIn(),
        policy=Keeping(),
        primitives=toy_primitives(),
        decoders=toy_decoders(problems),
        budget={"steps": 5},
    )
    list(executor.map(problems))
    reply = np.array([1.0, -2.0, 3.0, 1.0])
    probes = Probes(answer_entropy=0.9, next_call=reply)
    return executor, [msgspec.structs.replace(state, probe=probes) for state in kept]


def _policies(executor: Executor) -> dict[str, Any]:
    actions = tuple(executor.actions)
    rng = np.random.default_rng(0)
    bandits = {}
    for exploring in ("greedy", "thompson"):
        bandit = RidgeBandit(SCHEDULES, exploring=exploring)
        x = rng.normal(size=(500, bandit.features.size))
        scores = rng.random((500, len(SCHEDULES)))
        bandits[f"ridge, {exploring}"] = bandit.fit(x, scores, np.ones_like(scores))
    return {
        "direct": DirectPolicy(),
        "schedule": schedule,
        "all": AllPrimitives(),
        "random": RandomPolicy(),
        "confidence": ConfidencePolicy(gains=dict.fromkeys(actions, 0.1), cost_weight=0.01),
        **bandits,
        "learned, greedy": LearnedPolicy(actions),
        "learned, drawn": LearnedPolicy(actions, mode="sample"),
        "language model, less the model": LanguageModelPolicy().bound_to(executor.actions),
    }


def _deciding(policy: Any) -> Callable[[list[State]], Any]:
    return policy.decide


def _some(states: list[State], batch: int) -> Callable[[], list[State]]:
    """The next `batch` states, going round: a batch of one is not always the same one."""
    at = 0

    def fresh() -> list[State]:
        nonlocal at
        at += batch
        return [states[(at + i) % len(states)] for i in range(batch)]

    return fresh


def _as_many(asked: list[State], decided: list[Any]) -> None:
    assert len(asked) == len(decided)


def _observing(seen: Observation, states: list[State], batch: int) -> list[Contender]:
    parts = seen.layout.parts(seen.of([states[i % len(states)] for i in range(batch)]))
    policy = LearnedPolicy(seen.actions)
    packed = seen.pack(**parts)
    return [
        Contender("from states", seen.of, _some(states, batch), batch),
        Contender("packed from arrays", lambda given: seen.pack(**given), lambda: parts, batch),
        Contender("chosen for, by a network", policy.choose, lambda: packed, batch),
    ]


if __name__ == "__main__":
    main()
