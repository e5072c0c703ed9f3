"""One unrolling after another as a gymnasium environment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from policies.environment.ground import Ground, Order, chosen
from policies.environment.live import LiveGround, Scorer
from policies.environment.source import ground_of
from policies.environment.spaces import MASK, action_space, observation_space, stretches
from policies.observation import Observation
from policies.price import Price, not_negative
from unroller.executor import Executor
from unroller.problem import Problem


class UnrollEnv(gymnasium.Env[dict[str, np.ndarray], Any]):
    """An episode is an unrolling: each action calls a primitive, the last one, STOP, has the problem answered.

    problems: to unroll, with an `executor`; or a ground made before. scorer: (problem, output) -> 0..1, or a
    registered name. cost_weight: λ, what one unit of `price` takes off the score. observation: what is seen
    (by default `Observation` of all actions that can be called but oracles). depth: calls at most, beside the
    budget's steps. seed: of the order in which problems come, which is all that is drawn.

    Reward: 0 for a call; for STOP `score - λ × cost`, the cost being all that is charged, for calls that
    failed, for probes each time they looked, and for the answer. dense: a call is paid what it changes that
    by, and STOP what the problem was worth without any call, so that the sum is the same; to know it the
    problem is answered at every step, which is a model call really made, once a place, and charged to nobody.

    What is not allowed is taken as STOP. Where the budget's steps are gone, the problem is answered at once.
    `truncated` is never True. info: `action_mask`, `problem` (its number); at the end `score`, `cost`, and
    `illegal`: whether STOP is what came of an action that was not allowed. `reset(options={"problem": i})`
    takes that problem. Raises PolicyError for λ below 0, ContractError for a score that is no number.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        problems: Iterable[Problem] | Ground | Any,
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
        self.cost_weight = not_negative("the cost weight", cost_weight)
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
        self._root = -1
        self._before = self._bare = 0.0
        if seed is not None:
            self._np_random, self._np_random_seed = seeding.np_random(seed)

    @property
    def actions(self) -> tuple[str, ...]:
        """What each action calls; STOP comes after them."""
        return self.ground.observation.actions

    def action_masks(self) -> np.ndarray:
        """(actions + 1,) bool: what is allowed now, as sb3-contrib asks for it."""
        return self.ground.masks[self._place].astype(bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._order.restart()
        ground = self.ground
        wanted = (options or {}).get("problem")
        if wanted is None:
            roots = self._order.take(self.np_random)
        else:
            roots = chosen(wanted, ground.problems)[:1]
        if ground.full:
            ground.keep(np.zeros(0, np.int64))
        self._root = int(roots[0])
        self._place = int(ground.begin(roots)[0])
        if self.dense:
            self._before = self._bare = self._worth(self._place)
        return self._shown()

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        ground, place = self.ground, self._place
        if place < 0:
            raise gymnasium.error.ResetNeeded("the episode has ended, or none was begun: call reset()")
        action = int(action)
        stop = self._stop
        legal = 0 <= action <= stop and ground.masks.item(place, action) == 1
        if not legal or action == stop:
            return self._end(not legal)
        following = ground.following.item(place, action)
        if following < 0:
            following = int(ground.go(np.array([place]), np.array([action]))[0])
        self._place = following
        if ground.over.item(following):
            return self._end(False)
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
        return score - self.cost_weight * ground.costs.item(place)

    def _shown(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Copies of what is known of the place: nobody else holds them."""
        ground = self.ground
        row = ground.vectors[self._place].copy()
        mask = ground.masks[self._place]
        problem, counts, embeddings, history, left = self._at
        shown = {
            "problem": row[problem],
            "counts": row[counts],
            "embeddings": row[embeddings],
            "history": row[history],
            "left": row[left],
            MASK: mask.copy(),
        }
        return shown, {MASK: mask.copy(), "problem": self._root}
