"""What charged cost weighs: one number for calls, tokens and dollars, so that a λ can stand before it."""

from __future__ import annotations

import math

import msgspec

from unroller.cost import Cost
from unroller.faults import PolicyError


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """cost ↦ model_calls · calls + tokens · tokens + dollars · list price.

    By default a model call weighs 1 and the rest nothing, so that λ is score a model call has to bring.
    Raises PolicyError for a weight that is negative or not finite.
    """

    model_calls: float = 1.0
    tokens: float = 0.0
    dollars: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            not_negative(f"the price of {name}", getattr(self, name))

    def of(self, cost: Cost) -> float:
        """The price of a cost."""
        return self.model_calls * cost.model_calls + self.tokens * cost.tokens + self.dollars * cost.price


def not_negative(what: str, number: float) -> float:
    """`number` as a float. Raises PolicyError unless it is finite and at least 0."""
    try:
        given = float(number)
    except (TypeError, ValueError, OverflowError):
        given = math.nan
    if not 0 <= given < math.inf:
        raise PolicyError(f"{what} is {number!r}: give a finite number, 0 or more")
    return given
