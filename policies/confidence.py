"""Unroll until the answer is sure, or until no call is worth its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from policies.price import Price, not_negative
from policies.saved import Saveable
from policies.schedules import CERTAIN_STOP, ORACLES, certain, is_one_of, schedule, unread
from unroller.decide import Decided, Decision, State
from unroller.faults import PolicyError


class ConfidencePolicy(Saveable):
    """With H the entropy, in nats, of the answer that would be given now (the probe `answer_entropy`):

        H ≤ threshold                             → STOP: it is sure
        a* = argmax_a  G(a, H) − λ · cost(a)      over allowed actions that were not called yet
        G(a*, H) − λ · cost(a*) ≤ 0               → STOP: nothing is worth its price
        otherwise                                 → call a*

    G(a, H) is what calling `a` is expected to add to the score where the entropy is H: `gains`, a number an
    action, or one for each stretch of entropy between `edges` (B − 1 edges, B numbers). Actions without a
    gain are not called. Without `gains` every allowed action is tried once until H ≤ threshold, in `order`,
    or else those of the task's schedule first, less what a unified model could not read. cost(a) is what the
    action may be charged at most, at `price`; `cost_weight` is λ. Where H cannot be measured (no question
    with choices, no budget for the probe) it stops.

    The probe is charged one model call a decision. Raises PolicyError for settings that make no sense.
    """

    name = kind = "confidence"
    probes = ("answer_entropy",)

    def __init__(
        self,
        threshold: float = 0.3,
        *,
        cost_weight: float = 0.0,
        gains: Mapping[str, float | Sequence[float]] | None = None,
        edges: Sequence[float] = (),
        order: Sequence[str] | None = None,
        price: Price | Mapping[str, float] | None = None,
        without: Sequence[str] = ORACLES,
    ) -> None:
        self.threshold = not_negative("a threshold of entropy", threshold)
        self.cost_weight = not_negative("λ", cost_weight)
        self.price = price if isinstance(price, Price) else Price(**(price or {}))
        self.edges = tuple(not_negative("an edge", edge) for edge in edges)
        if list(self.edges) != sorted(set(self.edges)):
            raise PolicyError(f"edges of entropy rise, and none is there twice: {self.edges}")
        if cost_weight and gains is None:
            raise PolicyError("a λ above 0 weighs cost against expected gains: give gains=…, or fit them")
        self.gains = None if gains is None else {a: self._row(a, gains[a]) for a in gains}
        self.order = None if order is None else tuple(map(str, order))
        self.without = (without,) if isinstance(without, str) else tuple(map(str, without))

    def at(self, cost_weight: float) -> ConfidencePolicy:
        """The same with another λ: for a front of score against cost. Raises PolicyError."""
        settings: dict[str, Any] = self._settings() | {"cost_weight": cost_weight}
        return ConfidencePolicy(**settings)

    def decide(self, states: Sequence[State]) -> list[Decided]:
        return [self._next(state) for state in states]

    def _next(self, state: State) -> Decision:
        entropy = state.probe.answer_entropy
        if entropy is None or not float(entropy) > self.threshold:
            return CERTAIN_STOP
        called = {call.action for decision in state.decisions for call in decision.calls}
        open_ = [a for a in state.allowed if a not in called and not is_one_of(a, self.without)]
        if self.gains is None:
            order = [a for a in self._order(state, open_) if a in open_]
            return certain(order[0]) if order else CERTAIN_STOP
        worth = {a: self.worth(a, float(entropy), state) for a in open_ if a in self.gains}
        best = max(worth, key=lambda a: worth[a], default=None)
        return certain(best) if best is not None and worth[best] > 0 else CERTAIN_STOP

    def _order(self, state: State, open_: Sequence[str]) -> Sequence[str]:
        if self.order is not None:
            return self.order
        listed = (name for one in schedule.schedules.get(state.problem.task, ()) for name in one)
        left_out = unread(state.catalogue)
        return [name for name in dict.fromkeys((*listed, *open_)) if name not in left_out]

    def worth(self, action: str, entropy: float, state: State) -> float:
        """G(a, H) − λ · cost(a), for an action that has a gain."""
        assert self.gains is not None
        gain = self.gains[action][int(np.searchsorted(self.edges, entropy, side="right"))]
        return gain - self.cost_weight * self.price.of(state.catalogue[action].cost)

    @classmethod
    def fit(
        cls,
        entropies: Any,
        actions: Sequence[str],
        gains: Any,
        *,
        stretches: int = 4,
        shrink: float = 10.0,
        **settings: Any,
    ) -> Self:
        """Fit G from logged calls, one row each: the entropy before the call (N,), the action's name (N,),
        and what the score gained by it (N,).

        Edges are quantiles of the entropies. With n calls of an action in a stretch, of which the gains sum
        to s, and N and S those of the action over all stretches:

            m(a) = S / (N + k)          G(a, b) = (s + k · m(a)) / (n + k)          k = shrink

        so that few calls say little, and none say nothing. Other settings as of the class.
        Raises PolicyError.
        """
        before, gained = np.asarray(entropies, float), np.asarray(gains, float)
        if before.ndim != 1 or before.shape != gained.shape or len(actions) != len(before) or not len(before):
            raise PolicyError("give as many entropies as actions and gains, at least one of each")
        if not (np.isfinite(before).all() and np.isfinite(gained).all() and (before >= 0).all()):
            raise PolicyError(
                "entropies and gains must be finite, entropies 0 or more: leave out what failed"
            )
        if stretches < 1 or not shrink > 0:
            raise PolicyError("stretches is 1 or more, and shrink above 0")
        inner = np.quantile(before, np.linspace(0, 1, stretches + 1)[1:-1])
        edges = sorted({float(edge) for edge in inner})
        stretch = np.searchsorted(edges, before, side="right")
        table: dict[str, list[float]] = {}
        names = np.asarray(actions)
        for action in dict.fromkeys(actions):
            of = names == action
            mean = gained[of].sum() / (of.sum() + shrink)
            sums = np.bincount(stretch[of], gained[of], len(edges) + 1)
            counts = np.bincount(stretch[of], minlength=len(edges) + 1)
            table[action] = ((sums + shrink * mean) / (counts + shrink)).tolist()
        settings.setdefault("threshold", 0.0)
        return cls(**settings, gains=table, edges=edges)

    def _row(self, action: str, given: float | Sequence[float]) -> list[float]:
        row = [float(given)] * (len(self.edges) + 1) if np.ndim(given) == 0 else [float(g) for g in given]  # type: ignore[union-attr, arg-type]
        if len(row) != len(self.edges) + 1 or not np.isfinite(row).all():
            raise PolicyError(
                f"the gains of {action} are {len(self.edges) + 1} finite numbers, one a stretch, not"
                f" {given!r:.80}"
            )
        return row

    def _settings(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "cost_weight": self.cost_weight,
            "gains": self.gains,
            "edges": list(self.edges),
            "order": None if self.order is None else list(self.order),
            "price": {name: getattr(self.price, name) for name in Price.__struct_fields__},
            "without": list(self.without),
        }
