"""Train a policy with sb3-contrib's MaskablePPO, unchanged, on a tree; evaluate it exactly; run it.

    pip install 'unroller[rl]'
    python examples/maskable_ppo.py

The environment takes the same settings on problems and a live executor: `UnrollVecEnv(problems, 32,
executor=Executor(backend="nano"), …)`. The tree here is a made-up one whose best policy is known: look what
a problem needs, then call that helper or none.
"""

import sys
import time

import torch
from sb3_contrib import MaskablePPO

from planners import tree
from policies.environment import UnrollVecEnv, as_policy

COST_WEIGHT = 0.02  # the score that a model call has to bring
STEPS = 30_000


def train(made, seed, steps=STEPS):
    """A policy for the tree, and the seconds that it took to learn."""
    torch.set_num_threads(1)  # small networks are slower on several
    env = UnrollVecEnv(made, 32, cost_weight=COST_WEIGHT, seed=seed)
    model = MaskablePPO(
        "MultiInputPolicy",
        env,
        n_steps=32,
        batch_size=256,
        n_epochs=4,
        gamma=1.0,
        learning_rate=2e-3,
        ent_coef=0.01,
        seed=seed,
        device="cpu",
    )
    started = time.perf_counter()
    model.learn(steps)
    return as_policy(model, env.ground.observation), time.perf_counter() - started


if __name__ == "__main__":
    made = tree.synthetic(n=240, helpers=3)
    best = tree.optimum(made, COST_WEIGHT)
    for seed in map(int, sys.argv[1:] or ["0"]):
        policy, seconds = train(made, seed)
        found = tree.evaluate(made, policy)
        value = found.score.mean - COST_WEIGHT * found.cost.mean
        print(f"seed {seed}: {value:.4f} of {best.value:.4f} in {STEPS:,} steps, {seconds:.1f} s; {found}")
