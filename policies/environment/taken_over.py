"""A model that another library has trained, as a policy of ours: to run live, to evaluate exactly."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from policies.environment.spaces import parts, stretches
from policies.learned import LearnedPolicy, Mode
from policies.observation import Observation
from policies.saved import SavedPolicyError
from unroller.faults import PolicyError

Scoring = Callable[[dict[str, np.ndarray], np.ndarray], Any]
"""(observations by key (B, ·), masks (B, actions + 1) bool) -> (B, actions + 1): log-probabilities, or logits
that they are the softmax of."""


class TakenOver(LearnedPolicy):
    """Chooses as another library's model does; see `as_policy`. It is saved by that library."""

    name = "taken_over"

    def __init__(self, scoring: Scoring, observation: Observation, mode: Mode, seed: int) -> None:
        super().__init__(observation=observation, mode=mode, seed=seed)
        self._scoring = scoring
        self._at = stretches(observation)

    def log_probabilities(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `LearnedPolicy` has it; values are 0."""
        vectors = np.asarray(observations, np.float32)
        allowed = self.observation.allowed(vectors)
        found = self._scoring(parts(vectors, allowed.astype(np.int8), self._at), allowed)
        logits = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found, np.float64)
        if logits.shape != allowed.shape:
            raise PolicyError(
                f"the model gave numbers of the shape {logits.shape} for {allowed.shape} choices"
            )
        logits = np.where(allowed, logits, -np.inf)
        best = logits.max(1, keepdims=True)
        if not np.isfinite(best).all():
            raise PolicyError("the model's output is not finite: its training diverged; take an earlier one")
        p = logits - best
        return p - np.log(np.exp(p).sum(1, keepdims=True)), np.zeros(len(p))

    def save(self, path: str | Path) -> Path:
        raise SavedPolicyError(
            "a policy that was taken over is saved by the library that trained it: open it there, and take it"
            " over again"
        )


def as_policy(model: Any, seen: Any, *, mode: Mode = "greedy", seed: int = 0) -> TakenOver:
    """A policy for executors and trees that decides as a trained model does.

    model: of sb3-contrib (MaskablePPO) or stable-baselines3 (PPO, A2C), or a function, see `Scoring`; seen:
    the environment it was trained in, or its observation. mode, seed: as in `LearnedPolicy`. What is not
    allowed is never chosen, whether or not the model knows masks. Raises PolicyError.
    """
    ground = getattr(getattr(seen, "unwrapped", seen), "ground", None)
    observation = seen if ground is None else ground.observation
    if not isinstance(observation, Observation):
        raise PolicyError(
            f"{type(seen).__name__} is no environment of ours and no Observation: give one of them"
        )
    if hasattr(getattr(model, "policy", None), "get_distribution"):
        return TakenOver(_of_stable_baselines(model), observation, mode, seed)
    if not callable(model):
        raise PolicyError(
            f"{type(model).__name__} cannot be taken over by itself: give a function of observations and"
            " masks that returns its logits"
        )
    return TakenOver(cast(Scoring, model), observation, mode, seed)


def _of_stable_baselines(model: Any) -> Scoring:
    policy = model.policy
    masked = "action_masks" in inspect.signature(policy.get_distribution).parameters

    def scoring(observations: dict[str, np.ndarray], masks: np.ndarray) -> Any:
        import torch

        policy.set_training_mode(False)
        given, _ = policy.obs_to_tensor(observations)
        with torch.no_grad():
            spread = policy.get_distribution(given, masks) if masked else policy.get_distribution(given)
        return spread.distribution.logits

    return scoring
