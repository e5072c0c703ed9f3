"""Train a policy with RLlib's PPO on the same environment, masks read by its action-masking module.

    pip install 'unroller[rl,rllib]'
    python examples/rllib_ppo.py

What it learned is taken over as a policy and evaluated exactly, as in maskable_ppo.py.
"""

import argparse

import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule
from ray.tune.registry import register_env

from planners import tree
from policies.environment import ForRLlib, UnrollEnv, as_policy

COST_WEIGHT = 0.02  # the score that a model call has to bring
TOGETHER = 1_024


def train(made, steps, seed=0):
    """A policy for the tree."""
    register_env("unroller", lambda _: ForRLlib(UnrollEnv(made, cost_weight=COST_WEIGHT, seed=seed)))
    config = (
        PPOConfig()
        .environment("unroller")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)  # in this process, eight side by side
        .rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=ActionMaskingTorchRLModule, model_config={"fcnet_hiddens": [64, 64]}
            )
        )
        .training(
            lr=2e-3,
            gamma=1.0,
            train_batch_size_per_learner=TOGETHER,
            minibatch_size=256,
            num_epochs=8,
            entropy_coeff=0.01,
        )
        .debugging(seed=seed, log_level="ERROR")
    )
    trainer = config.build_algo()
    for _ in range(-(-steps // TOGETHER)):
        trainer.train()
    module = trainer.get_module()
    trainer.stop()
    seen = ForRLlib(UnrollEnv(made, cost_weight=COST_WEIGHT))

    def logits(observations, masks):
        given = {name: torch.from_numpy(part) for name, part in seen.observation(observations).items()}
        with torch.no_grad():
            return module.forward_inference({"obs": given})["action_dist_inputs"]

    return as_policy(logits, seen)


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("--steps", type=int, default=20_480)
    asked.add_argument("--seed", type=int, default=0)
    asked = asked.parse_args()

    torch.set_num_threads(1)
    made = tree.synthetic(n=240, helpers=3)
    best = tree.optimum(made, COST_WEIGHT)
    found = tree.evaluate(made, train(made, asked.steps, asked.seed))
    value = found.score.mean - COST_WEIGHT * found.cost.mean
    print(f"{value:.4f} of {best.value:.4f} in {asked.steps:,} steps; {found}")
