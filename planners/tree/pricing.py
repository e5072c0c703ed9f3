"""What a cost is, as one number: model calls, tokens, dollars, or a weighted sum of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from planners.tree.faults import TreeError

Array = np.ndarray[Any, Any]

Price = str | Mapping[str, float]

NAMES = ("model_calls", "tokens", "price")
_TERM = re.compile(r"(?:([0-9.eE-]+)\s*\*\s*)?([a-z_]+)")


def weights_of(price: Price) -> Array:
    """(3,) weights of model calls, tokens and list price. price: "model_calls", "model_calls+0.01*tokens", or
    a mapping of weights. Raises TreeError."""
    said = f"{price!r} is no cost: take {', '.join(NAMES)}, or a sum, as model_calls+0.01*tokens"
    weights: dict[str, float] = dict.fromkeys(NAMES, 0.0)
    try:
        terms: list[tuple[str, float]] = []
        if isinstance(price, str):
            for part in price.replace(" ", "").split("+"):
                found = _TERM.fullmatch(part)
                if found is None:
                    raise TreeError(said)
                terms.append((found[2], float(found[1] or 1.0)))
        else:
            terms = [(name, float(weight)) for name, weight in price.items()]
        for name, weight in terms:
            if not 0 <= weight < np.inf:
                raise TreeError(f"{said}; a weight is 0 or more")
            weights[name] = weights[name] + weight
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, TreeError):
            raise
        raise TreeError(said) from None
    return np.array([weights[name] for name in NAMES])


def price_of(costs: Array, price: Price) -> Array:
    """`costs` (…, 3) as one number each, (…,)."""
    return costs @ weights_of(price)
