"""What values check of themselves when they are made."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import numpy as np

from unroller.arrays import Array, dtype_name, is_array, is_floating, to_numpy
from unroller.faults import ValueCheckError
from unroller.values.base import Value


def need(ok: bool, message: str) -> None:
    if not ok:
        raise ValueCheckError(message)


def as_tuple(value: Value, field: str, made_of: Any) -> None:
    """Make a field a tuple where a list or an array was given: what is equal should compare, journal and
    come back as equal."""
    given: Any = getattr(value, field)
    try:
        items: list[Any] = list(given.tolist() if is_array(given) else given)
        if type(given) is tuple and all(type(item) is made_of for item in items):
            return
        made = tuple(made_of(item) for item in items)
    except (TypeError, ValueError):
        raise ValueCheckError(f"{type(value).__name__}.{field} cannot be {given!r:.80}") from None
    msgspec.structs.force_setattr(value, field, made)


def check_array(
    what: str, array: object, shape: tuple[int | None, ...], dtypes: str | tuple[str, ...]
) -> None:
    """Raise ValueCheckError unless `array` has this shape (None: any size above 0) and dtype."""
    need(is_array(array), f"{what} must be a numpy array or a torch tensor, not {type(array).__name__}")
    held = cast(Array, array)
    got = tuple(held.shape)
    fits = len(got) == len(shape) and all(
        g > 0 and (w is None or g == w) for g, w in zip(got, shape, strict=True)
    )
    wanted = " × ".join("n" if w is None else str(w) for w in shape)
    need(fits, f"{what} has shape {got}; it must be {wanted} and not empty")
    if dtypes == "float":
        need(is_floating(held), f"{what} is {dtype_name(held)}; it must be floating point")
    elif dtypes == "int":
        need("int" in dtype_name(held), f"{what} is {dtype_name(held)}; it must be an integer type")
    else:
        need(dtype_name(held) in dtypes, f"{what} is {dtype_name(held)}; it must be {dtypes}")


def check_mask(what: str, mask: object, shape: tuple[int, ...]) -> None:
    if mask is not None:
        check_array(what, mask, shape, ("bool",))


def mean_difference(a: Array, b: Array) -> float:
    return float(np.abs(to_numpy(a).astype(np.int16) - to_numpy(b).astype(np.int16)).mean())
