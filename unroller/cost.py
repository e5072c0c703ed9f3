"""Budget and cost.

*Charged* cost (model calls, generated tokens, list price) is deterministic and the same on a memo hit,
so a policy trained with a memo and one that runs without it see the same prices. *Spent* cost (seconds,
hits) is what really happened, and is recorded beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unroller.faults import BudgetError


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What a call is charged: model calls (per sample), generated tokens, list price in dollars."""

    model_calls: int = 0
    tokens: int = 0
    price: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.model_calls + other.model_calls,
            self.tokens + other.tokens,
            self.price + other.price,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.model_calls - other.model_calls,
            self.tokens - other.tokens,
            self.price - other.price,
        )

    def __str__(self) -> str:
        parts = [f"{self.model_calls} call{'' if self.model_calls == 1 else 's'}"]
        if self.tokens:
            parts.append(f"{self.tokens} tokens")
        if self.price:
            parts.append(f"${self.price:.4f}")
        return ", ".join(parts)


FREE = Cost()
_ROUNDING = 1e-9  # dollars: 0.3 - 0.1 - 0.1 is a little less than 0.1


class Reading(msgspec.Struct, gc=False):
    """Tokens that models ran over: prefilled, read for the first time; reused, found as they were read
    before; written. left_out: pictures of the context for which prompts had no room in a model's window,
    where its backend was told to go on without the oldest. Of a backend: since it was made. Of a run: its
    share, a batch's shared evenly; calls of one backend that run side by side count each other's."""

    prefilled: float = 0.0
    reused: float = 0.0
    written: float = 0.0
    left_out: float = 0.0

    def __add__(self, other: Reading) -> Reading:
        return Reading(
            self.prefilled + other.prefilled,
            self.reused + other.reused,
            self.written + other.written,
            self.left_out + other.left_out,
        )

    def since(self, before: Reading, samples: int = 1) -> Reading:
        """What was added, for each of `samples`."""
        return Reading(
            (self.prefilled - before.prefilled) / samples,
            (self.reused - before.reused) / samples,
            (self.written - before.written) / samples,
            (self.left_out - before.left_out) / samples,
        )

    def __str__(self) -> str:
        read = f"{self.prefilled:,.0f} tokens prefilled, {self.reused:,.0f} reused"
        lost = f", {self.left_out:.3g} pictures left out of prompts" if self.left_out else ""
        return f"{read}, {self.written:,.0f} written{lost}"


class Spent(msgspec.Struct, gc=False):
    """What a run really took: seconds of wall clock inside calls (a batch's time shared evenly by its
    samples), calls computed, and calls answered by the memo or the journal; reading: of backends that count
    what they read, None without one."""

    seconds: float = 0.0
    computed: int = 0
    hits: int = 0
    reading: Reading | None = None


class Budget(BaseModel):
    """A hard limit, per problem. `None` means no limit.

    model_calls, tokens, price: charged cost, the decoder's included (it is reserved first).
    steps: decisions that make calls (64 unless said otherwise, so that a policy that never stops does).
    seconds: wall clock since the problem was admitted; checked before each decision.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    model_calls: Annotated[int, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    steps: Annotated[int, Field(ge=0)] | None = 64
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @classmethod
    def of(cls, budget: Budget | Mapping[str, Any] | None) -> Budget:
        """A budget from a budget, a mapping of limits, or None (no limit but 64 steps).

        Raises BudgetError on an unknown limit, a negative one, or NaN.
        """
        if isinstance(budget, Budget):
            return budget
        try:
            return cls(**(budget or {}))
        except (ValidationError, TypeError) as error:
            known = ", ".join(cls.model_fields)
            wrong = str(error)
            if isinstance(error, ValidationError):
                wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise BudgetError(f"not a budget: {budget!r}. Limits are {known}. {wrong}") from None


class Left(msgspec.Struct, frozen=True, gc=False):
    """What is left of a budget for φ calls: the decoder's reserve is already taken off.

    Unlimited amounts are `math.inf`. Policies read this as `state.left`.
    """

    model_calls: float = math.inf
    tokens: float = math.inf
    price: float = math.inf
    steps: float = math.inf
    seconds: float = math.inf

    def affords(self, cost: Cost) -> bool:
        """Whether a call that may charge up to `cost` fits."""
        return (
            cost.model_calls <= self.model_calls
            and cost.tokens <= self.tokens
            and cost.price <= self.price + _ROUNDING
        )

    def less(self, cost: Cost) -> Left:
        """With `cost` taken off, never below nothing."""
        if cost is FREE:
            return self
        return Left(
            max(0, self.model_calls - cost.model_calls),
            max(0, self.tokens - cost.tokens),
            max(0.0, self.price - cost.price),
            self.steps,
            self.seconds,
        )

    def plus(self, cost: Cost) -> Left:
        """With `cost`, which had been set aside, put back."""
        if cost is FREE:
            return self
        return Left(
            self.model_calls + cost.model_calls,
            self.tokens + cost.tokens,
            self.price + cost.price,
            self.steps,
            self.seconds,
        )

    def after(self, steps: int, seconds: float) -> Left:
        """With this many steps and seconds gone."""
        gone = self.steps - steps, self.seconds - seconds
        return Left(self.model_calls, self.tokens, self.price, *gone)


def left_of(budget: Budget, reserve: Cost) -> Left:
    """What a budget leaves for φ once the decoder's cost is reserved.

    Raises BudgetError when not even the decoder fits.
    """
    limits = Left(
        *(
            math.inf if limit is None else limit
            for limit in (
                budget.model_calls,
                budget.tokens,
                budget.price,
                budget.steps,
                budget.seconds,
            )
        )
    )
    if not limits.affords(reserve):
        amounts = {"model_calls": budget.model_calls, "tokens": budget.tokens, "price": budget.price}
        limited = ", ".join(f"{name} {limit}" for name, limit in amounts.items() if limit is not None)
        raise BudgetError(
            f"the budget ({limited}) does not cover the decoder, which is charged up to {reserve}: raise it"
        )
    return limits.less(reserve)
