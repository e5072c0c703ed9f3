"""Words and values as a few numbers, without a model: fixed functions that need no training and no
download."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import numpy as np
from xxhash import xxh3_64_intdigest

from unroller.arrays import Array, to_numpy
from unroller.values import Text, Value, arrays_of

LOOKED_AT = 4096
"""Elements of an array that its moments are taken of, spread evenly: a depth map need not be read through."""

_WORD = re.compile(r"\w+")


@lru_cache(maxsize=65_536)
def of_words(text: str, size: int) -> np.ndarray:
    """The words of a text, hashed into (size,) signed counts and divided by the root of how many there are
    (feature hashing, Weinberger et al. 2009)."""
    found = np.zeros(size, np.float32)
    words = _WORD.findall(text.lower())
    for word in words:
        place, negative = _slot(word, size)
        found[place] += -1.0 if negative else 1.0
    found /= math.sqrt(len(words) or 1)
    found.flags.writeable = False  # it is shared by everyone who asks
    return found


def of_value(value: Value, size: int) -> np.ndarray:
    """A value as (size,) numbers within about ±1.

    Numbers among its fields in their order, n / (1 + |n|), then of each array mean, deviation, least,
    greatest and log of the number of elements; more than `size` of them wrap around and add up. Of a text its
    words, hashed.
    """
    found = np.zeros(size, np.float32)
    for i, number in enumerate(_numbers(value)):
        if math.isfinite(number):
            found[i % size] += number / (1 + abs(number))
    text = getattr(value, "text", None)
    if isinstance(text, str):
        found += of_words(text, size)
    return found


def squashed(amount: float) -> float:
    """An amount of 0 or more as n / (1 + n): 1 where there is no limit."""
    return 1.0 if math.isinf(amount) else amount / (1 + amount)


@lru_cache(maxsize=65_536)
def _slot(word: str, size: int) -> tuple[int, bool]:
    hashed = xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
    return (hashed >> 1) % size, bool(hashed & 1)


def _numbers(value: Value) -> Iterator[float]:
    if type(value) is Text:
        return
    arrays = dict(arrays_of(value))
    for name in value.__struct_fields__:
        if name not in arrays:
            yield from _numbers_of(getattr(value, name))
    for array in arrays.values():
        yield from _moments(array)


def _numbers_of(held: Any) -> Iterator[float]:
    if isinstance(held, (bool, int, float)):
        yield float(held)
    elif isinstance(held, (tuple, list)):
        for one in cast("list[Any]", held):
            yield from _numbers_of(one)


def _moments(array: Array) -> Iterator[float]:
    flat = cast(Any, array).reshape(-1)
    count = int(flat.shape[0])
    looked_at = to_numpy(flat[:: max(1, count // LOOKED_AT)]).astype(np.float64)
    if looked_at.size:
        yield from (float(looked_at.mean()), float(looked_at.std()))
        yield from (float(looked_at.min()), float(looked_at.max()))
    yield math.log1p(count)
