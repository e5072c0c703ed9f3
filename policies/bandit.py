"""A contextual bandit over whole schedules: the baseline that is hard to beat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Literal, Self, get_args

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest

from policies.observation import ProblemFeatures
from policies.price import not_negative
from policies.ridge import Ridge, fit
from policies.saved import Saveable, digests_of, shipped, warn_if_none
from policies.schedules import CERTAIN_STOP, certain
from unroller.decide import Call, Decided, Decision, State
from unroller.faults import PolicyError

Exploring = Literal["greedy", "ucb", "thompson"]

NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
"""Of Gauss-Hermite quadrature for a standard normal."""
WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class RidgeBandit(Saveable):
    """Before the first call it chooses one of its arms, which are schedules, and then follows that:

        arm = argmax_k  r_k(x) + b_k(x) − λ · c_k

    r_k(x): the score that ridge regression expects of arm k for problem features x (`ridge.fit`); c_k: the
    mean charged cost of arm k where it was observed; λ: `cost_weight`. exploring: "greedy", b = 0; "ucb", b =
    β · s_k(x) with s the standard deviation of r and β `width`; "thompson": draws the arm with the
    probability that it is the best under independent normal posteriors, which is then its log-probability.

    arms: lists of actions, the empty one being direct decoding. Of an arm whose actions do not all exist,
    have a backend and apply to the problem, nothing is considered; if none is left, it stops. What cannot be
    called when its turn comes is left out. features: what it sees of a problem; a probe among them is
    measured once a run, and where it could not be, the arm is chosen by means over the problems it was fitted
    on.

    `RidgeBandit(arms).fit(…)` fits one, `RidgeBandit.load(folder)` opens one. Raises PolicyError.
    """

    name = kind = "ridge"

    def __init__(
        self,
        arms: Iterable[Sequence[str]] | None = None,
        *,
        features: ProblemFeatures | None = None,
        cost_weight: float = 0.0,
        exploring: Exploring = "greedy",
        width: float = 1.0,
        seed: int = 0,
    ) -> None:
        if arms is None:
            self._become(shipped(type(self)))
            return
        listed = list(arms)
        if any(isinstance(arm, str) for arm in listed):
            raise PolicyError(
                "an arm is a list of actions, also where it is one: [['look'], ['look', 'think']]"
            )
        self.arms = tuple(tuple(arm) for arm in listed)
        if not self.arms or len(set(self.arms)) != len(self.arms):
            raise PolicyError("a bandit has at least one arm, and none twice")
        if any(len(set(arm)) != len(arm) for arm in self.arms):
            raise PolicyError("an arm is a list of actions, none of them twice")
        if exploring not in get_args(Exploring):
            raise PolicyError(f"{exploring!r} is no way to explore: {', '.join(get_args(Exploring))}")
        self.features = features or ProblemFeatures()
        self.cost_weight = not_negative("λ", cost_weight)
        self.exploring: Exploring = exploring
        self.width = not_negative("a width of bounds", width)
        self.seed = int(seed)
        self.ridge: Ridge | None = None
        self.costs = np.zeros(len(self.arms))
        self.digests = digests_of(list(dict.fromkeys(name for arm in self.arms for name in arm)))

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes that its features are made of."""
        return tuple(name for name, _ in self.features.probes)

    def fit(self, features: Any, scores: Any, costs: Any, *, alpha: float | None = None) -> Self:
        """Fit on problems' features (N, D), as `features.of` gives them, and for each arm its score (N, K)
        and charged cost (N, K) on each; NaN where an arm was not run. Returns itself. Raises PolicyError."""
        found, charged = fit(features, scores, alpha), np.asarray(costs, float)
        if found.weights.shape != (len(self.arms), self.features.size):
            raise PolicyError(
                f"scores must be (N, {len(self.arms)}) and features (N, {self.features.size}), not"
                f" {np.shape(scores)} and {np.shape(features)}"
            )
        seen = np.isfinite(charged)
        if charged.shape != np.shape(scores) or not seen.any(0).all() or (charged[seen] < 0).any():
            raise PolicyError("costs have the shape of scores, are 0 or more, and each arm has some")
        self.ridge = found
        self.costs = np.nanmean(charged, 0)
        return self

    def at(self, cost_weight: float) -> RidgeBandit:
        """The same with another λ: for a front of score against cost."""
        other = copy(self)
        other.cost_weight = not_negative("λ", cost_weight)
        return other

    def choose(
        self, features: np.ndarray, possible: np.ndarray | None = None, drawn: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Arms (B,) for features (B, D), and the log-probability of each choice.

        possible (B, K): which arms may be chosen, at least one a row. drawn (B,): numbers of [0, 1) that
        "thompson" chooses by. Raises PolicyError.
        """
        if self.ridge is None:
            raise PolicyError("this bandit was not fitted: RidgeBandit(arms).fit(features, scores, costs)")
        given = np.asarray(features, float)
        value = self.ridge.expected(given) - self.cost_weight * self.costs  # (B, K)
        if self.exploring == "ucb":
            value = value + self.width * self.ridge.spread(given)
        if possible is not None:
            value = np.where(possible, value, -np.inf)
        if self.exploring != "thompson":
            return value.argmax(1), np.zeros(len(value))
        if drawn is None:
            raise PolicyError("thompson draws: give numbers of [0, 1)")
        p = _best(value, np.maximum(self.ridge.spread(given), 1e-9))
        arms = np.minimum((p.cumsum(1) <= drawn[:, None]).sum(1), p.shape[1] - 1)
        arms = np.where(p[np.arange(len(p)), arms] > 0, arms, p.argmax(1))  # rounding in the sum
        return arms, np.log(p[np.arange(len(p)), arms])

    # ------------------------------------------------------------------------------------------ deciding

    def bound_to(self, actions: Mapping[str, Any]) -> RidgeBandit:
        """Itself, with a warning where no action of its arms exists."""
        warn_if_none(self.name, self.digests, actions)
        return self

    def decide(self, states: Sequence[State]) -> list[Decided]:
        possible = np.array([[all(map(s.provided, arm)) for arm in self.arms] for s in states], bool)
        rows: list[int] = np.flatnonzero(possible.any(1)).tolist() if states else []
        decisions: list[Decided] = [CERTAIN_STOP] * len(states)
        if not rows:
            return decisions
        asked = [states[i] for i in rows]
        features = self._filled(self.features.of(asked), asked)
        drawn = np.array([xxh3_64_intdigest(s.problem.identity, self.seed % 2**64) / 2**64 for s in asked])
        arms, p = self.choose(features, possible[rows], drawn)
        for i, state, arm, said in zip(rows, asked, arms, p, strict=True):
            decisions[i] = self._follow(state, self.arms[int(arm)], float(min(said, 0.0)))
        return decisions

    def _filled(self, features: np.ndarray, states: Sequence[State]) -> np.ndarray:
        """Means of what was fitted in place of features that could not be measured."""
        if self.ridge is None or not self.probes:
            return features
        lacking = [any(getattr(s.probe, name) is None for name in self.probes) for s in states]
        return np.where(np.array(lacking)[:, None], self.ridge.centre, features)

    @staticmethod
    def _follow(state: State, arm: Sequence[str], log_probability: float) -> Decision:
        """The next of the arm's actions that can be called. The choice was made at the first step: from then
        on what it does is certain."""
        called = {call.action for decision in state.decisions for call in decision.calls}
        following = next((a for a in arm if a not in called and state.refusal(a) is None), None)
        if state.step or log_probability == 0:
            return CERTAIN_STOP if following is None else certain(following)
        return Decision(() if following is None else (Call(following),), log_probability)

    # -------------------------------------------------------------------------------------------- saving

    def _settings(self) -> dict[str, Any]:
        return {
            "arms": [list(arm) for arm in self.arms],
            "features": msgspec.to_builtins(self.features),
            "cost_weight": self.cost_weight,
            "exploring": self.exploring,
            "width": self.width,
            "seed": self.seed,
        }

    def _arrays(self) -> Mapping[str, np.ndarray]:
        if self.ridge is None:
            raise PolicyError("this bandit was not fitted: there is nothing to save")
        return {"costs": self.costs, **self.ridge._asdict()}

    @classmethod
    def _made(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray], digests: dict[str, str]) -> Self:
        settings = dict(settings)
        features = msgspec.convert(settings.pop("features"), ProblemFeatures)
        made = cls(features=features, **settings)
        made.costs = arrays.pop("costs")
        made.ridge = Ridge(**arrays)
        k, d = len(made.arms), features.size
        shapes = ((d,), (d,), (k, d), (k,), (k, d), (k, d, d), (k,), (1,), (1,))
        if made.costs.shape != (k,) or tuple(array.shape for array in made.ridge) != shapes:
            raise PolicyError(f"its arrays do not fit {k} arms over {d} features")
        return made

    def _become(self, other: RidgeBandit) -> None:
        vars(self).update(vars(other))


def _best(mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The probability (B, K) of each arm to be the best, for independent normals; an arm at −∞ never is.

    By Gauss-Hermite quadrature over each arm's value, then scaled to sum to 1."""
    alive = np.isfinite(mean)
    held = np.where(alive, mean, 0.0)
    value = held[..., None] + spread[..., None] * NODES  # (B, K, Q)
    z = (value[:, :, None] - held[:, None, :, None]) / spread[:, None, :, None]  # (B, K, J, Q)
    below = 0.5 * (1 + _erf(z / math.sqrt(2)))
    below = np.where(alive[:, None, :, None], below, 1.0)
    own = np.arange(mean.shape[1])
    below[:, own, own] = 1.0
    p = (below.prod(2) @ WEIGHTS) * alive
    return p / p.sum(1, keepdims=True)


def _erf(x: np.ndarray) -> np.ndarray:
    """The error function to 1.5e-7 (Abramowitz and Stegun 7.1.26)."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - series * np.exp(-x * x))
