"""What an environment shows: the stretches of an `Observation`, by name, as gymnasium's spaces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces

from policies.observation import Observation

MASK = "action_mask"
"""Where trainers look for what is allowed."""


def stretches(observation: Observation) -> dict[str, slice]:
    """Where each key of an environment's observation lies in the vector; one after the other, with the mask,
    they are all of it.

    problem: what is asked, and probes; counts: of values a type; embeddings: of those values, a type after
    the other; history: what was called, what failed, the last calls, how many; left: of the budget.
    """
    at = observation.layout
    return {
        "problem": slice(0, at["counts"].start),
        "counts": slice(at["counts"].start, at["counts"].stop),
        "embeddings": slice(at["embeddings"].start, at["embeddings"].stop),
        "history": slice(at["called"].start, at["left"].start),
        "left": slice(at["left"].start, at["left"].stop),
    }


def parts(vectors: np.ndarray, masks: np.ndarray, at: Mapping[str, slice]) -> dict[str, np.ndarray]:
    """An observation by key: of vectors (…, F) float32 and masks (…, actions + 1) int8, views of both."""
    found = {name: vectors[..., where] for name, where in at.items()}
    found[MASK] = masks
    return found


def observation_space(observation: Observation) -> spaces.Dict:
    """One flat Dict: float32 in one dimension each, and the mask as int8."""
    lows = {"problem": -np.inf, "embeddings": -np.inf}
    highs = {"counts": 1.0, "left": 1.0}
    found: dict[str, spaces.Space] = {
        name: spaces.Box(lows.get(name, 0.0), highs.get(name, np.inf), (at.stop - at.start,), np.float32)
        for name, at in stretches(observation).items()
    }
    found[MASK] = spaces.MultiBinary(observation.stop + 1)
    return spaces.Dict(found)


def action_space(observation: Observation) -> spaces.Discrete:
    """The actions in the observation's order, then STOP."""
    return spaces.Discrete(observation.stop + 1)
