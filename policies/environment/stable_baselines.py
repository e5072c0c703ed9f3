"""Many unrollings side by side as stable-baselines3 and sb3-contrib take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from stable_baselines3.common.vec_env import VecEnv

from policies.environment.episodes import Episodes
from policies.environment.ground import check_options
from policies.environment.live import Scorer
from policies.environment.source import Source, ground_of
from policies.environment.spaces import action_space, observation_space
from policies.observation import Observation
from policies.price import Price
from unroller.executor import Executor
from unroller.faults import PolicyError


class UnrollVecEnv(VecEnv):
    """`UnrollVectorEnv` for `MaskablePPO("MultiInputPolicy", env)` and whatever else takes a `VecEnv`.

    An environment that ends begins anew in the same step; the info of that step holds
    `terminal_observation`, `score`, `cost`, `illegal` and `problem`. `VecMonitor(env)` adds what the trainers
    log of episodes.
    """

    def __init__(
        self,
        problems: Source,
        n_envs: int = 1,
        *,
        executor: Executor | None = None,
        scorer: Scorer | None = None,
        cost_weight: float = 0.0,
        price: Price | None = None,
        observation: Observation | None = None,
        depth: int | None = None,
        dense: bool = False,
        group: int = 1,
        seed: int | None = None,
    ) -> None:
        self.ground = ground_of(
            problems, executor, scorer=scorer, price=price, observation=observation, depth=depth
        )
        self.episodes = Episodes(self.ground, n_envs, cost_weight, dense, group)
        seen = self.ground.observation
        self.render_mode = None
        super().__init__(n_envs, observation_space(seen), action_space(seen))
        self._rng, _ = seeding.np_random(seed)
        self._actions: Any = None

    @property
    def cost_weight(self) -> float:
        """λ; `set_attr("cost_weight", …)` changes it for all."""
        return self.episodes.cost_weight

    @cost_weight.setter
    def cost_weight(self, weight: float) -> None:
        self.episodes.cost_weight = weight

    @property
    def actions(self) -> tuple[str, ...]:
        """What each action calls; STOP comes after them."""
        return self.ground.observation.actions

    def action_masks(self) -> np.ndarray:
        """(n_envs, actions + 1) bool: what is allowed now."""
        return self.episodes.masks()

    def reset(self) -> dict[str, np.ndarray]:
        for options in self._options:
            check_options(options, ("problem",))
        if self._seeds[0] is not None:
            self._rng, _ = seeding.np_random(self._seeds[0])
            self.episodes.order.restart()
        named = [options.get("problem") for options in self._options]
        if None in named and any(number is not None for number in named):
            raise PolicyError("options name a problem for some environments: name one for each, or for none")
        self.episodes.begin(np.arange(self.num_envs), self._rng, None if None in named else named)
        self._reset_seeds()
        self._reset_options()
        problems = self.ground.problems[self.episodes.root]
        self.reset_infos = [{"problem": number} for number in problems.tolist()]
        return self.episodes.shown(self.episodes.place)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
        episodes = self.episodes
        stepped = episodes.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if stepped.ended.any():
            which = np.flatnonzero(stepped.ended)
            self._tell(infos, which, stepped.place[which], stepped.illegal)
            episodes.begin(which, self._rng)
        rewards = stepped.reward.astype(np.float32)
        return episodes.shown(episodes.place), rewards, stepped.ended, infos

    def _tell(
        self, infos: list[dict[str, Any]], which: np.ndarray, places: np.ndarray, illegal: np.ndarray
    ) -> None:
        """Write into the infos of those that have ended how they did."""
        ground = self.ground
        last = self.episodes.shown(places)
        scores, costs = ground.scores[places].tolist(), ground.costs[places].tolist()
        problems = ground.problems[self.episodes.root[which]].tolist()
        for row, i in enumerate(which.tolist()):
            infos[i] = {
                "terminal_observation": {name: part[row] for name, part in last.items()},
                "TimeLimit.truncated": False,
                "score": scores[row],
                "cost": costs[row],
                "illegal": bool(illegal[i]),
                "problem": problems[row],
            }

    # ------------------------------------------------------------------- what trainers ask for by name

    def close(self) -> None:
        """Nothing is held that would have to be closed."""

    def has_attr(self, attr_name: str) -> bool:
        return hasattr(self, attr_name)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        if len(set(self._get_indices(indices))) < self.num_envs:
            raise PolicyError(f"{attr_name} is the same for all of these environments: set it for all")
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Of `action_masks`, the row of each; there is no other method that each has of its own."""
        if method_name != "action_masks":
            raise AttributeError(
                f"these environments have no method {method_name!r} of their own: action_masks"
            )
        masks = self.action_masks(*method_args, **method_kwargs)
        return [masks[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))

    def get_images(self) -> Sequence[np.ndarray | None]:
        return [None] * self.num_envs
