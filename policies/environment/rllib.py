"""The same environment in the words that RLlib's action-masking modules read."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from policies.environment.single import UnrollEnv
from policies.environment.spaces import MASK, stretches


class ForRLlib(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observations {"action_mask": (actions + 1,) of 0 and 1, "observations": (F,)}, both float32: what
    RLlib's `ActionMaskingTorchRLModule` takes. The second is the flat vector, less the mask."""

    def __init__(self, env: UnrollEnv) -> None:
        super().__init__(env)
        seen = env.ground.observation
        self._keys = tuple(stretches(seen))
        size = sum(at.stop - at.start for at in stretches(seen).values())
        self.observation_space = spaces.Dict(
            {
                MASK: spaces.Box(0.0, 1.0, (seen.stop + 1,), np.float32),
                "observations": spaces.Box(-np.inf, np.inf, (size,), np.float32),
            }
        )

    def observation(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Of one observation, or of many with the same leading axes."""
        flat = np.concatenate([observation[name] for name in self._keys], -1)
        return {MASK: observation[MASK].astype(np.float32), "observations": flat}
