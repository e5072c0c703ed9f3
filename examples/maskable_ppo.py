"""Train a policy with sb3-contrib's MaskablePPO, unchanged, on a tree; evaluate it exactly.

    pip install 'unroller[rl]'
    python examples/maskable_ppo.py

The tree is a made-up one whose best policy is known: look what a problem needs, then call that helper or
none. On problems and a live executor the environment is made with the same words,
`UnrollVecEnv(problems, 32, executor=Executor(backend="nano"), cost_weight=0.02)`, and what was learned is
run by `Executor(backend="nano", policy=policy)`.
"""

import argparse
import time

import torch
from sb3_contrib import MaskablePPO

from planners import tree
from policies.environment import UnrollVecEnv, as_policy

COST_WEIGHT = 0.02  # the score that a model call has to bring


def train(made, steps, seed=0):
    """A policy for the tree."""
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
    model.learn(steps)
    return as_policy(model, env)


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("--steps", type=int, default=30_000)
    asked.add_argument("--seed", type=int, default=0)
    asked = asked.parse_args()

    torch.set_num_threads(1)  # small networks are slower on several
    made = tree.synthetic(n=240, helpers=3)
    best = tree.optimum(made, COST_WEIGHT)
    started = time.process_time()
    policy = train(made, asked.steps, asked.seed)
    seconds = time.process_time() - started
    found = tree.evaluate(made, policy)
    value = found.score.mean - COST_WEIGHT * found.cost.mean
    took = f"{asked.steps:,} steps, {seconds:.1f} s of one core"
    print(f"{value:.4f} of {best.value:.4f} in {took}; {found}")
