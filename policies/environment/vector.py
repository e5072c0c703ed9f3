"""Many unrollings side by side as a gymnasium vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from policies.environment.episodes import Episodes
from policies.environment.ground import check_options
from policies.environment.live import Scorer
from policies.environment.source import Source, ground_of
from policies.environment.spaces import MASK, action_space, observation_space
from policies.observation import Observation
from policies.price import Price
from unroller.executor import Executor
from unroller.faults import PolicyError


class UnrollVectorEnv(VectorEnv[dict[str, np.ndarray], Any, np.ndarray]):
    """`UnrollEnv`, `num_envs` at a time; what is not known yet of all of them is asked for in one batch.

    By default an environment that ends begins anew in the same step (`AutoresetMode.SAME_STEP`): what is
    returned is the first observation of its next episode, the last one of the one that ended is in
    info["final_obs"], and `score`, `cost` and `illegal` are in info["final_info"], as gymnasium's own vector
    environments have it. autoreset_mode: another one, for wrappers that want it (`NEXT_STEP`, `DISABLED`).
    One order of problems, drawn from one seed, serves all of them. group: how many episodes that begin one
    after the other share a problem, as GRPO's do. `reset(options={"problem": i})` takes that problem for all,
    a list of them one each; `{"reset_mask": …}` (num_envs,) bool resets only those. Everything else as in
    `UnrollEnv`.
    """

    def __init__(
        self,
        problems: Source,
        num_envs: int = 1,
        *,
        executor: Executor | None = None,
        scorer: Scorer | None = None,
        cost_weight: float = 0.0,
        price: Price | None = None,
        observation: Observation | None = None,
        depth: int | None = None,
        dense: bool = False,
        group: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        seed: int | None = None,
    ) -> None:
        self.ground = ground_of(
            problems, executor, scorer=scorer, price=price, observation=observation, depth=depth
        )
        self.episodes = Episodes(self.ground, num_envs, cost_weight, dense, group)
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(self.ground.observation)
        self.single_action_space = action_space(self.ground.observation)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._all = np.arange(num_envs)
        self._ended = np.zeros(num_envs, bool)
        if seed is not None:
            self._np_random, self._np_random_seed = seeding.np_random(seed)

    @property
    def actions(self) -> tuple[str, ...]:
        """What each action calls; STOP comes after them."""
        return self.ground.observation.actions

    @property
    def cost_weight(self) -> float:
        """λ: what one unit of the price takes off the score. It may be changed between episodes."""
        return self.episodes.cost_weight

    @cost_weight.setter
    def cost_weight(self, weight: float) -> None:
        self.episodes.cost_weight = weight

    def action_masks(self) -> np.ndarray:
        """(num_envs, actions + 1) bool: what is allowed now."""
        return self.episodes.masks()

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        check_options(options, ("problem", "reset_mask"))
        if seed is not None:
            if isinstance(seed, (int, np.integer)):
                super().reset(seed=int(seed))
            else:
                self.np_random = np.random.default_rng(_seeds(seed))
            self.episodes.order.restart()
        options = options or {}
        which = self._all
        if "reset_mask" in options:
            mask = np.asarray(options["reset_mask"])
            if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
                raise PolicyError(
                    f"reset_mask is an array ({self.num_envs},) of bool, one of them True at least"
                )
            if (self.episodes.place[~mask] < 0).any():
                raise PolicyError(
                    "reset_mask leaves out environments that were never begun: call reset() first"
                )
            which = np.flatnonzero(mask)
        self.episodes.begin(which, self.np_random, options.get("problem"))
        self._ended[which] = False
        return self._shown()

    def step(
        self, actions: Any
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        episodes, mode = self.episodes, self.autoreset_mode
        which = None
        if mode is AutoresetMode.NEXT_STEP and self._ended.any():
            episodes.begin(np.flatnonzero(self._ended), self.np_random)
            which = np.flatnonzero(~self._ended)
        stepped = episodes.step(actions, which)
        ended = self._ended = stepped.ended
        final: dict[str, Any] = {}
        if ended.any():
            final = self._told(ended, stepped.place, stepped.illegal)
            if mode is AutoresetMode.SAME_STEP:
                final = self._final(ended, stepped.place, final)
                episodes.begin(np.flatnonzero(ended), self.np_random)
        shown, infos = self._shown()
        if mode is AutoresetMode.DISABLED:
            episodes.under_way[ended] = False
        return shown, stepped.reward, ended.copy(), np.zeros(self.num_envs, bool), infos | final

    def _shown(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        episodes = self.episodes
        shown = episodes.shown(episodes.place)
        everywhere = np.ones(self.num_envs, bool)
        problems = self.ground.problems[episodes.root]
        return shown, {
            MASK: shown[MASK].copy(),
            f"_{MASK}": everywhere,
            "problem": problems,
            "_problem": everywhere.copy(),
        }

    def _told(self, ended: np.ndarray, places: np.ndarray, illegal: np.ndarray) -> dict[str, Any]:
        """How the episodes that ended came out, each with a mask of whom it is told."""
        ground = self.ground
        held = {
            "score": np.where(ended, ground.scores[places], 0.0),
            "cost": np.where(ended, ground.costs[places], 0.0),
            "illegal": illegal & ended,
        }
        return held | {f"_{name}": ended.copy() for name in held}

    def _final(self, ended: np.ndarray, places: np.ndarray, told: dict[str, Any]) -> dict[str, Any]:
        """The same with the last observations, where the next episodes begin at once."""
        which = np.flatnonzero(ended)
        last = self.episodes.shown(places[which])
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row, i in enumerate(which.tolist()):
            final_obs[i] = {name: part[row] for name, part in last.items()}
        problems = np.where(ended, self.ground.problems[self.episodes.root], 0)
        return {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": told | {"problem": problems, "_problem": ended.copy()},
            "_final_info": ended.copy(),
        }


def _seeds(given: Any) -> list[int]:
    """Raises PolicyError for a list of seeds in which one is none."""
    seeds = list(given) if isinstance(given, (list, tuple, np.ndarray)) else [given]
    if not seeds or not all(isinstance(one, (int, np.integer)) and one >= 0 for one in seeds):
        raise PolicyError(
            f"seed is {given!r:.80}: give one whole number of 0 or more, or a list of them; all environments"
            " take their problems from one order, so none can keep its own"
        )
    return [int(one) for one in seeds]
