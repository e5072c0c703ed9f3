"""How fast the environment steps when everything is remembered, and how many model calls remembering saves.

    python benchmarks/environment.py [--quick] [--json PATH]

*Trivial* is an environment with the same observation and action spaces that knows nothing: at each step it
hands out copies of one observation, as any environment must, since who trains on it keeps what it is given.
Episodes are the same length for all: two calls, then STOP; the time of resets is in the steps. Ours is timed
over a live executor, every place of which was visited before, and over a table. *Learning* is MaskablePPO on
32 environments, its rollouts and its updates; what it comes to is measured for the example.

*Model calls* are counted by the engine that makes them, over toy primitives whose order matters, so that a
problem has 86 places: GRPO with groups of 16 episodes, from a policy that chooses any action alike to one
that is sure, with a memo and with an executor that has none. The two runs make the same decisions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from measure import OURS, ROOT, Contender, Race, Report, arguments
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import DummyVecEnv

from planners import tree
from policies.environment import UnrollEnv, UnrollVecEnv, UnrollVectorEnv
from policies.environment.live import LiveGround
from policies.learned import LearnedPolicy
from unroller import Executor, Problem, Text, decoder, primitive
from unroller.cost import Cost
from unroller.declare import Primitive
from unroller.dispatch import perform
from unroller.values import Answer

sys.path.append(str(ROOT / "examples"))
import maskable_ppo

MANY, GROUP, DEPTH, PRIMITIVES, PROBLEMS = 32, 16, 3, 5, 64
EPISODE = (0, 1, PRIMITIVES)
"""What an episode does where nothing chooses: two calls, then STOP."""
EPISODES = 50

TRIVIAL, ONE_BY_ONE, TABLE = "trivial", "unroller, one by one", "unroller, a table"


def main() -> None:
    options = arguments(__doc__)
    torch.set_num_threads(1)
    report = Report("environment", "The environment", options.quick)
    race = Race(3, 10, pass_s=0.1) if options.quick else Race(15, 60, pass_s=0.2)
    ground = _visited()
    table = tree.synthetic(n=240, helpers=PRIMITIVES - 1).table()

    alone = race(
        [
            _contender(OURS, UnrollEnv(ground, cost_weight=0.02, seed=0), 1),
            _contender(TABLE, UnrollEnv(table, cost_weight=0.02, seed=0), 1),
            _contender(TRIVIAL, Trivial(UnrollEnv(ground)), 1),
        ]
    )
    report.section("alone", "One environment, on memo hits", alone, "steps/s")
    report.target("raw steps against the trivial one", 0.7, alone[TRIVIAL].times(alone[OURS]), "times", True)
    report.target("raw steps", 50_000, 1 / alone[OURS].median, "steps/s", True)

    trivial = [partial(Trivial, UnrollEnv(ground)) for _ in range(MANY)]
    many = race(
        [
            _contender(OURS, UnrollVectorEnv(ground, MANY, seed=0), MANY),
            _contender(TABLE, UnrollVectorEnv(table, MANY, seed=0), MANY),
            _contender(TRIVIAL, SyncVectorEnv(trivial, autoreset_mode=AutoresetMode.SAME_STEP), MANY),
        ]
    )
    report.section("many", f"{MANY} environments side by side, on memo hits", many, "steps/s")

    slow = Race(3, 30) if options.quick else Race(9, 240)
    learned = slow(
        [
            Contender(OURS, _learned, lambda: _ppo(UnrollVecEnv(ground, MANY, seed=0)), LEARNED, repeat=1),
            Contender(
                ONE_BY_ONE, _learned, lambda: _ppo(_dummy(lambda: UnrollEnv(ground))), LEARNED, repeat=1
            ),
            Contender(TRIVIAL, _learned, lambda: _ppo(DummyVecEnv(trivial)), LEARNED, repeat=1),
        ]
    )
    report.section("learning", f"MaskablePPO.learn on {MANY} environments", learned, "steps/s")
    for name in (OURS, ONE_BY_ONE):
        share = learned[TRIVIAL].times(learned[name])
        report.target(f"learning against the trivial one: {name}", 0.7, share, "times", True)

    steps, seeds = 30_000, range(1 if options.quick else 5)
    optimum = {f"seed {seed}": _share_of_the_optimum(steps, seed) for seed in seeds}
    report.facts(
        "optimum", f"MaskablePPO after {steps:,} steps on a tree whose best policy is known", optimum
    )
    worst = min(row["share of the optimum"] for row in optimum.values())
    slowest = max(row["seconds of one core"] for row in optimum.values())
    report.target("share of the optimum, worst of the seeds", 0.99, worst, "", True)
    report.target("seconds of one core to learn it, slowest of the seeds", 30, slowest, "s")

    groups = 4 if options.quick else 40
    calls = _calls_made(groups)
    report.facts("calls", f"Calls carried out, GRPO, groups of {GROUP}, {PROBLEMS} problems", calls)
    report.target("calls that a memo saves, whole training", 10, calls["all"]["times"], "times", True)
    report.finish(options.json, ("gymnasium", "numpy", "sb3-contrib", "stable-baselines3", "torch"))


# ------------------------------------------------------------------------------------------ environments


class Trivial(gymnasium.Env[Any, Any]):
    """Shows a copy of one observation, allows everything, ends after as many steps as an episode has."""

    def __init__(self, like: UnrollEnv) -> None:
        self.observation_space, self.action_space = like.observation_space, like.action_space
        self.shown, _ = like.reset(seed=0)
        self.allowed = np.ones(PRIMITIVES + 1, bool)
        self.steps = 0

    def action_masks(self) -> np.ndarray:
        return self.allowed.copy()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return {name: part.copy() for name, part in self.shown.items()}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        shown = {name: part.copy() for name, part in self.shown.items()}
        return shown, 0.0, self.steps == len(EPISODE), False, {}


def _contender(name: str, env: Any, number: int) -> Contender:
    """Steps through episodes of one environment, or of `number` side by side."""
    actions = [action if number == 1 else np.full(number, action) for action in EPISODE]

    def stepped(_: Any) -> Any:
        ended: Any = False
        for _ in range(EPISODES):
            env.reset()
            for action in actions:
                ended = env.step(action)[2]
        return ended

    def check(_: Any, ended: Any) -> None:
        assert np.all(ended)

    return Contender(name, stepped, units=EPISODES * len(EPISODE) * number, check=check)


LEARNED = 64 * MANY * 2
"""Steps of one timed call: two rollouts and the updates on them."""


def _ppo(env: Any) -> MaskablePPO:
    return MaskablePPO(
        "MultiInputPolicy", env, n_steps=64, batch_size=256, n_epochs=4, gamma=1.0, seed=0, device="cpu"
    )


def _dummy(made: Callable[[], gymnasium.Env[Any, Any]]) -> DummyVecEnv:
    return DummyVecEnv([made for _ in range(MANY)])


def _learned(model: MaskablePPO) -> None:
    model.learn(LEARNED)


def _share_of_the_optimum(steps: int, seed: int) -> dict[str, Any]:
    """What the policy of examples/maskable_ppo.py reaches, evaluated exactly."""
    made = tree.synthetic(n=240, helpers=3)
    started = time.process_time()
    policy = maskable_ppo.train(made, steps, seed)
    seconds = time.process_time() - started
    found, weight = tree.evaluate(made, policy), maskable_ppo.COST_WEIGHT
    value = found.score.mean - weight * found.cost.mean
    share = value / tree.optimum(made, weight).value
    return {"share of the optimum": share, "steps": steps, "seconds of one core": seconds}


# --------------------------------------------------------------------------------------- a live executor


def _says(number: int) -> Primitive:
    @primitive(name=f"says_{number}", reads=("question", Text), writes=Text, cost=Cost(model_calls=1))
    def says(view: Any) -> Text:
        return Text(f"{number}: {view.question} after {len(view.all(Text))} others")

    return says


@decoder(task="quiz", reads=("question", "choices", Text), writes=Answer, cost=Cost(model_calls=1))
def quiz(view: Any) -> Answer:
    p = min(0.9, 0.4 + 0.1 * len(view.all(Text)))
    return Answer(view.choices[0], view.choices, 0, (p, 1 - p))


class Counting:
    """An engine that counts what it is asked to carry out: model calls, one a sample."""

    def __init__(self) -> None:
        self.calls = 0

    def perform(self, action: Any, views: Any) -> Any:
        self.calls += len(views)
        return perform(action, views)


def _executor(**options: Any) -> Executor:
    says = [_says(number) for number in range(PRIMITIVES)]
    return Executor(backend=[], primitives=says, decoders=[quiz], policy=[], **options)


def _problems() -> list[Problem]:
    truth = {"truth": {"answer": "yes"}}
    return [
        Problem(task="quiz", question=f"question {i}?", choices=("yes", "no"), metadata=truth)
        for i in range(PROBLEMS)
    ]


def _visited() -> LiveGround:
    """Ground over a live executor of which every place is known."""
    ground = LiveGround(_problems(), _executor(), depth=DEPTH)
    places = ground.begin(np.arange(PROBLEMS))
    while len(places):
        ground.go(places, np.full(len(places), PRIMITIVES))
        at, actions = np.nonzero(ground.masks[places, :-1])
        places = ground.go(places[at], actions) if len(at) else places[:0]
    return ground


def _calls_made(groups: int) -> dict[str, dict[str, Any]]:
    """Calls with and without a memo for the first, second, fourth … group of each problem, and for all."""
    counts = {memo: np.diff(list(_trained(memo, groups)), prepend=0) for memo in ("memory", None)}
    some = [2**i for i in range(groups.bit_length()) if 2**i < groups] + [groups]
    rows = {f"group {number}": slice(number - 1, number) for number in some} | {"all": slice(None)}
    found: dict[str, dict[str, Any]] = {}
    for name, which in rows.items():
        with_memo, without = (int(counts[memo][which].sum()) for memo in ("memory", None))
        times = without / with_memo if with_memo else None
        found[name] = {"with": with_memo, "without": without, "times": times}
    return found


def _trained(memo: Any, groups: int) -> Iterator[int]:
    """Calls carried out so far, after each group of every problem, while GRPO trains on them."""
    engine = Counting()
    ground = LiveGround(_problems(), _executor(memo=memo, engine=engine), depth=DEPTH)
    env = UnrollVectorEnv(ground, 4 * GROUP, cost_weight=0.02, group=GROUP, seed=0)
    policy = LearnedPolicy(observation=ground.observation, seed=0)
    optimiser = torch.optim.Adam(policy.network.parameters(), 3e-3)
    rng = np.random.default_rng(0)
    under_way: list[list[tuple[np.ndarray, int]]] = [[] for _ in range(env.num_envs)]
    env.reset()
    for _ in range(groups):
        ended: list[tuple[int, float, list[tuple[np.ndarray, int]]]] = []
        while len(ended) < PROBLEMS * GROUP:
            vectors = ground.vectors[env.episodes.place]
            problems = ground.problems[env.episodes.root]
            chosen = policy.choose(vectors, rng.random(env.num_envs)).index
            _, rewards, ends, _, _ = env.step(chosen)
            for i in range(env.num_envs):
                under_way[i].append((vectors[i], int(chosen[i])))
                if ends[i]:
                    ended.append((int(problems[i]), float(rewards[i]), under_way[i]))
                    under_way[i] = []
        _improve(policy, optimiser, ended)
        yield engine.calls


def _improve(policy: LearnedPolicy, optimiser: torch.optim.Optimizer, ended: list[Any]) -> None:
    """One step of GRPO: what was better than its group is made likelier."""
    problems = np.array([problem for problem, _, _ in ended])
    rewards = np.array([reward for _, reward, _ in ended])
    advantages = np.zeros(len(ended))
    for problem in np.unique(problems):
        group = problems == problem
        advantages[group] = (rewards[group] - rewards[group].mean()) / (rewards[group].std() + 1e-6)
    steps = [(*step, worth) for (_, _, trail), worth in zip(ended, advantages, strict=True) for step in trail]
    vectors, actions, worth = map(np.array, zip(*steps, strict=True))
    observed = torch.from_numpy(vectors)
    log_p, _ = policy.network(observed, torch.from_numpy(policy.observation.allowed(vectors)))
    taken = log_p[torch.arange(len(actions)), torch.from_numpy(actions)]
    optimiser.zero_grad()
    (-(taken * torch.from_numpy(worth).float()).mean()).backward()
    optimiser.step()


if __name__ == "__main__":
    main()
