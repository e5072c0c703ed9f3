"""One unrolling after another as a gymnasium environment."""

from __future__ import annotations

from operator import index
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from policies.environment.ground import Ground, Order, check_options, root_of
from policies.environment.live import Scorer
from policies.environment.source import Source, ground_of
from policies.environment.spaces import MASK, action_space, observation_space, stretches
from policies.observation import Observation
from policies.price import Price, not_negative
from unroller.executor import Executor


class UnrollEnv(gymnasium.Env[Any, Any]):
    """An episode is an unrolling: an action calls a primitive; the last one, STOP, has the problem answered.

    problems: to unroll, with an `executor`; or a table or a tree, which need none. scorer: (problem, output)
    -> 0..1, or a registered name. cost_weight: λ, what one unit of `price` takes off the score. observation:
    what is seen (by default `Observation` of all actions that can be called but oracles). depth: calls at
    most, beside the budget's steps. seed: of the order in which problems come, all that is drawn here.

    Reward: 0 for a call; for STOP `score - λ × cost`, the cost being all that is charged, for calls that
    failed, for probes each time they looked, and for the answer. dense: a call is paid what it changes that
    by, and STOP what the problem was worth without any call, so that the sum is the same; to know it the
    problem is answered at every step, which is a model call really made, once a place, and charged to nobody.

    What is not allowed is taken as STOP; where the budget is gone nothing else is allowed, so a policy that
    never stops ends there. `truncated` is never True. info: `action_mask`, the very array of the observation,
    and `problem`, its number; at the end `score`, `cost`, and `illegal`: whether an action that was not
    allowed was taken as STOP. `reset(options={"problem": i})` takes that problem. Raises PolicyError for λ
    below 0, ContractError for a score that is no number.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        problems: Source,
        *,
        executor: Executor | None = None,
        scorer: Scorer | None = None,
        cost_weight: float = 0.0,
        price: Price | None = None,
        observation: Observation | None = None,
        depth: int | None = None,
        dense: bool = False,
        seed: int | None = None,
    ) -> None:
        self.cost_weight = cost_weight
        self.dense = bool(dense)
        self.ground: Ground = ground_of(
            problems, executor, scorer=scorer, price=price, observation=observation, depth=depth
        )
        seen = self.ground.observation
        self.observation_space = observation_space(seen)
        self.action_space = action_space(seen)
        self.render_mode = None
        self._stop = seen.stop
        self._at = tuple(stretches(seen).values())
        self._order = Order(self.ground.count)
        self._place = -1
        self._number = -1
        self._before = self._bare = 0.0
        if seed is not None:
            self._np_random, self._np_random_seed = seeding.np_random(seed)

    @property
    def actions(self) -> tuple[str, ...]:
        """What each action calls; STOP comes after them."""
        return self.ground.observation.actions

    @property
    def cost_weight(self) -> float:
        """λ: what one unit of the price takes off the score. It may be changed between episodes."""
        return self._cost_weight

    @cost_weight.setter
    def cost_weight(self, weight: float) -> None:
        self._cost_weight = not_negative("the cost weight", weight)

    def action_masks(self) -> np.ndarray:
        """(actions + 1,) bool: what is allowed now, as sb3-contrib asks for it; STOP after the end."""
        if self._place < 0:
            return np.arange(self._stop + 1) == self._stop
        return self.ground.masks[self._place].astype(bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._order.restart()
        ground = self.ground
        check_options(options, ("problem",))
        if options and "problem" in options:
            root = root_of(options["problem"], ground.problems)
        else:
            root = self._order.take(self.np_random)
        if ground.full:
            ground.keep(np.zeros(0, np.int64))
        place = ground.rooted.item(root)
        if place < 0:
            place = int(ground.begin(np.array([root]))[0])
        self._number, self._place = ground.problems.item(root), place
        if self.dense:
            self._before = self._bare = self._worth(self._place)
        return self._shown()

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        ground, place = self.ground, self._place
        if place < 0:
            raise gymnasium.error.ResetNeeded("the episode has ended, or none was begun: call reset()")
        action = index(action.item() if hasattr(action, "item") else action)
        stop = self._stop
        legal = 0 <= action <= stop and ground.masks.item(place, action) == 1
        if not legal or action == stop:
            return self._end(not legal)
        following = ground.following.item(place, action)
        if following < 0:
            following = int(ground.go(np.array([place]), np.array([action]))[0])
        self._place = following
        reward = 0.0
        if self.dense:
            worth = self._worth(following)
            reward, self._before = worth - self._before, worth
        shown, info = self._shown()
        return shown, reward, False, False, info

    def _end(self, illegal: bool) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        reward = self._worth(self._place)
        if self.dense:
            reward += self._bare - self._before
        shown, info = self._shown()
        ground = self.ground
        info["score"] = ground.scores.item(self._place)
        info["cost"] = ground.costs.item(self._place)
        info["illegal"] = illegal
        self._place = -1
        return shown, reward, True, False, info

    def _worth(self, place: int) -> float:
        """score - λ × cost if it is answered there."""
        ground = self.ground
        score = ground.scores.item(place)
        if score != score:
            ground.go(np.array([place]), np.array([self._stop]))
            score = ground.scores.item(place)
        return score - self._cost_weight * ground.costs.item(place)

    def _shown(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Copies of what is known of the place: nobody else holds them."""
        ground = self.ground
        place = self._place
        row, mask = ground.vectors[place].copy(), ground.masks[place].copy()
        problem, counts, embeddings, history, left = self._at
        shown = {
            "problem": row[problem],
            "counts": row[counts],
            "embeddings": row[embeddings],
            "history": row[history],
            "left": row[left],
            MASK: mask,
        }
        return shown, {MASK: mask, "problem": self._number}
