"""Train a policy with torchrl's PPO on the same environment, its masks read by torchrl's own ActionMask.

    pip install 'unroller[rl,torchrl]'
    python examples/torchrl_ppo.py

What it learned is taken over as a policy and evaluated exactly, as in maskable_ppo.py.
"""

import argparse

import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import ActionMask, Compose, GymWrapper, InitTracker, TransformedEnv
from torchrl.modules import MaskedCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from planners import tree
from policies.environment import UnrollEnv, as_policy

COST_WEIGHT = 0.02  # the score that a model call has to bring
TOGETHER, EPOCHS = 1_024, 8
SEEN = ["problem", "counts", "embeddings", "history", "left"]


class Network(nn.Module):
    """A small network over all that is seen; given the mask as well, it hands it on as torch wants it."""

    def __init__(self, env, outputs):
        super().__init__()
        size = sum(env.observation_space[name].shape[0] for name in SEEN)
        hidden = [nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh()]
        self.layers = nn.Sequential(*hidden, nn.Linear(64, outputs))

    def forward(self, *seen):
        found = self.layers(torch.cat(seen[: len(SEEN)], -1))
        return (found, seen[-1].bool()) if len(seen) > len(SEEN) else found


def train(made, steps, seed=0):
    """A policy for the tree."""
    torch.manual_seed(seed)
    env = UnrollEnv(made, cost_weight=COST_WEIGHT, seed=seed)
    wrapped = GymWrapper(env, categorical_action_encoding=True)
    wrapped = TransformedEnv(wrapped, Compose([InitTracker(), ActionMask()]))
    scores = Network(env, len(env.actions) + 1)
    scores = TensorDictModule(scores, in_keys=[*SEEN, "action_mask"], out_keys=["logits", "mask"])
    actor = ProbabilisticActor(
        scores,
        in_keys=["logits", "mask"],
        spec=wrapped.action_spec,
        distribution_class=MaskedCategorical,
        return_log_prob=True,
    )
    critic = ValueOperator(Network(env, 1), in_keys=SEEN)
    advantage = GAE(gamma=1.0, lmbda=0.95, value_network=critic)
    loss = ClipPPOLoss(actor, critic, entropy_coeff=0.01)
    optimiser = torch.optim.Adam(loss.parameters(), lr=2e-3)
    for batch in Collector(wrapped, actor, frames_per_batch=TOGETHER, total_frames=steps):
        for _ in range(EPOCHS):
            with torch.no_grad():
                advantage(batch)
            for part in batch.reshape(-1).split(256):
                losses = loss(part)
                optimiser.zero_grad()
                (losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]).backward()
                optimiser.step()

    def logits(observations, masks):
        given = {name: torch.from_numpy(part) for name, part in observations.items()}
        with torch.no_grad():
            return scores(TensorDict(given, [len(masks)]))["logits"]

    return as_policy(logits, env)


if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    asked.add_argument("--steps", type=int, default=10_240)
    asked.add_argument("--seed", type=int, default=0)
    asked = asked.parse_args()

    torch.set_num_threads(1)
    made = tree.synthetic(n=240, helpers=3)
    best = tree.optimum(made, COST_WEIGHT)
    found = tree.evaluate(made, train(made, asked.steps, asked.seed))
    value = found.score.mean - COST_WEIGHT * found.cost.mean
    print(f"{value:.4f} of {best.value:.4f} in {asked.steps:,} steps; {found}")
