"""Episodes side by side over one ground: what the vector environments of two libraries have in common.

What is not known yet of all of them is asked for together, so a step makes at most one batch of each
primitive, and one of each decoder, however many environments there are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from policies.environment.ground import Ground, Order, root_of
from policies.environment.spaces import parts, stretches
from policies.price import not_negative
from unroller.faults import PolicyError


class Stepped(NamedTuple):
    """What a step came to, (n,) each: reward; ended bool; place: where it led; illegal bool: an action that
    was not allowed was taken as STOP."""

    reward: np.ndarray
    ended: np.ndarray
    place: np.ndarray
    illegal: np.ndarray


class Episodes:
    """n episodes at a time; whoever holds them begins anew those that have ended. cost_weight, dense: see
    `UnrollEnv`. group: how many that begin one after the other begin in the same root. place, root (n,):
    where each stands, and where it began. under_way (n,) bool: whether it has begun and not been given up.
    Raises PolicyError."""

    def __init__(
        self, ground: Ground, number: int, cost_weight: float = 0.0, dense: bool = False, group: int = 1
    ) -> None:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise PolicyError(f"{number!r} environments: give a number, 1 or more")
        self.ground = ground
        self.number = number
        self.cost_weight = cost_weight
        self.dense = bool(dense)
        self.order = Order(ground.count, group)
        self.place = np.full(number, -1, np.int64)
        self.root = np.full(number, -1, np.int64)
        self.under_way = np.zeros(number, bool)
        self._before = np.zeros(number)
        self._bare = np.zeros(number)
        self._at = stretches(ground.observation)

    @property
    def cost_weight(self) -> float:
        """λ: what one unit of the price takes off the score. It may be changed between episodes."""
        return self._cost_weight

    @cost_weight.setter
    def cost_weight(self, weight: float) -> None:
        self._cost_weight = not_negative("the cost weight", weight)

    def begin(self, which: np.ndarray, rng: np.random.Generator, problems: Any = None) -> None:
        """Begin the episodes of these numbers anew. problems: the number of one for all, or one for each of
        the n, in place of the next in order."""
        count = len(which)
        if problems is None:
            roots = np.array([self.order.take(rng) for _ in range(count)], np.int64)
        else:
            roots = self._named(problems)[which]
        ground = self.ground
        if ground.full:
            going = np.setdiff1d(np.flatnonzero(self.place >= 0), which)
            self.place[going] = ground.keep(self.place[going])
        self.root[which] = roots
        self.place[which] = ground.begin(roots)
        self.under_way[which] = True
        if self.dense:
            self._before[which] = self._bare[which] = self._worth(self.place[which])

    def step(self, actions: Any, which: np.ndarray | None = None) -> Stepped:
        """Carry out one action each, (n,); only those of the numbers `which`, if they are given."""
        chosen = np.asarray(actions).reshape(-1)
        if len(chosen) != self.number:
            raise PolicyError(f"{len(chosen)} actions for {self.number} environments: give one each")
        if chosen.dtype.kind not in "iu":
            raise PolicyError(f"actions are whole numbers, not {chosen.dtype}: give the number of one each")
        stepped = Stepped(
            np.zeros(self.number), np.zeros(self.number, bool), self.place.copy(), np.zeros(self.number, bool)
        )
        if which is None:
            which = np.arange(self.number)
        if not len(which):
            return stepped
        ground, places, chosen = self.ground, self.place[which], chosen[which]
        if not self.under_way[which].all():
            raise PolicyError("there are environments in which no episode was begun: call reset() first")
        stop = ground.observation.stop
        inside = np.clip(chosen, 0, stop)
        legal = (inside == chosen) & (ground.masks[places, inside] == 1)
        chosen = np.where(legal, inside, stop)
        ended = chosen == stop
        after = np.where(ended, places, ground.following[places, chosen])
        unknown = np.where(ended, np.isnan(ground.scores[places]), after < 0)
        if unknown.any():
            after[unknown] = ground.go(places[unknown], chosen[unknown])
        reward = np.zeros(len(which))
        if self.dense:
            worth = self._worth(after)
            reward = np.where(ended, self._bare[which], worth - self._before[which])
            self._before[which] = worth
        elif ended.any():
            reward[ended] = self._worth(after[ended])
        self.place[which] = after
        for whole, part in zip(stepped, (reward, ended, after, ~legal), strict=True):
            whole[which] = part
        return stepped

    def masks(self) -> np.ndarray:
        """(n, actions + 1) bool: what is allowed now; STOP where no episode is under way."""
        found = self.ground.masks[self.place].astype(bool)
        found[~self.under_way, :-1] = False
        return found

    def shown(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """The observation of places (k,), (k, ·) by key: copies."""
        return parts(self.ground.vectors[places], self.ground.masks[places], self._at)

    def _worth(self, places: np.ndarray) -> np.ndarray:
        """(k,) score − λ × cost if it is answered there."""
        ground = self.ground
        unknown = places[np.isnan(ground.scores[places])]
        if len(unknown):
            ground.go(unknown, np.full(len(unknown), ground.observation.stop))
        return ground.scores[places] - self._cost_weight * ground.costs[places]

    def _named(self, problems: Any) -> np.ndarray:
        several = list(problems) if isinstance(problems, (list, tuple, np.ndarray)) else [problems]
        roots = [root_of(one, self.ground.problems) for one in several]
        if len(roots) not in (1, self.number):
            raise PolicyError(
                f"options name {len(roots)} problems for {self.number} environments: give one each"
            )
        return np.broadcast_to(np.array(roots, np.int64), (self.number,))
