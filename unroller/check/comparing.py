"""Whether two results are the same, within a stated tolerance, and whether inputs were left alone."""

from __future__ import annotations

import random
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import numpy as np
from pydantic import BaseModel
from xxhash import xxh3_128

from unroller.arrays import dtype_name, is_array, is_floating, to_numpy

RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""Floating-point numbers may differ by this much between batches."""

LEVELS = 2
"""8-bit pictures may differ by this many of 255 levels."""

STRAY = 1e-3
"""Share of an array's elements that may lie outside: an argmax may flip on a tie."""

TOLERANCE = f"numbers within {RELATIVE:g}, 8-bit pictures within {LEVELS} levels, text exactly"


def differs(a: Any, b: Any, where: str = "") -> str | None:
    """What differs between two results beyond the tolerance, or None if they are the same."""
    if is_array(a) and is_array(b):
        return _arrays_differ(a, b, where)
    if _is_number(a) and _is_number(b):
        near = np.isclose(float(a), float(b), rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
        same = a == b if isinstance(a, int) and isinstance(b, int) else bool(near)
        return None if same else _said(where, a, b)
    if type(a) is not type(b):
        return _said(where, type(a).__name__, type(b).__name__)
    if isinstance(a, msgspec.Struct):
        parts = ((name, getattr(a, name), getattr(b, name)) for name in a.__struct_fields__)
        prefix = where or type(a).__name__
        return next(_differences((f"{prefix}.{n}", x, y) for n, x, y in parts), None)
    if isinstance(a, (list, tuple)):
        left, right = cast("list[Any]", a), cast("list[Any]", b)
        if len(left) != len(right):
            return _said(where, f"{len(left)} items", f"{len(right)} items")
        pairs = enumerate(zip(left, right, strict=True))
        return next(_differences((f"{where}[{i}]", x, y) for i, (x, y) in pairs), None)
    return None if bool(a == b) else _said(where, a, b)


def _differences(parts: Iterator[tuple[str, Any, Any]]) -> Iterator[str]:
    for where, a, b in parts:
        found = differs(a, b, where)
        if found is not None:
            yield found


def _is_number(thing: Any) -> bool:
    return isinstance(thing, (int, float, np.number)) and not isinstance(thing, bool)


def _said(where: str, a: Any, b: Any) -> str:
    prefix = f"{where}: " if where else ""
    return f"{prefix}{_short(a)} and {_short(b)}"


def _short(thing: Any) -> str:
    text = thing if isinstance(thing, str) else repr(thing)
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else text[:39] + "…") if isinstance(thing, str) else text[:40]


def _arrays_differ(a: Any, b: Any, where: str) -> str | None:
    if tuple(a.shape) != tuple(b.shape) or dtype_name(a) != dtype_name(b):
        first = f"{dtype_name(a)} {tuple(a.shape)}"
        return _said(where, first, f"{dtype_name(b)} {tuple(b.shape)}")
    left, right = to_numpy(a), to_numpy(b)
    if is_floating(a):
        off = ~np.isclose(left, right, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    elif dtype_name(a) == "uint8":
        off = np.abs(left.astype(np.int16) - right.astype(np.int16)) > LEVELS
    else:
        off = left != right
    if not off.size or off.mean() <= STRAY:
        return None
    return f"{where or 'the array'}: {off.mean():.0%} of its elements differ"


# --------------------------------------------------------------------------------------------- inputs


def content(thing: Any) -> bytes:
    """A digest of everything in values, problems, entries and plain data: arrays are read through."""
    hasher = xxh3_128()
    _feed(hasher, thing)
    return hasher.digest()


def _feed(hasher: Any, thing: Any) -> None:
    if is_array(thing):
        held = np.ascontiguousarray(to_numpy(thing))
        hasher.update(f"{dtype_name(thing)}{held.shape}".encode())
        hasher.update(held.tobytes())
    elif isinstance(thing, BaseModel):
        for name in type(thing).model_fields:
            hasher.update(name.encode())
            _feed(hasher, getattr(thing, name))
    elif isinstance(thing, msgspec.Struct):
        for name in thing.__struct_fields__:
            hasher.update(name.encode())
            _feed(hasher, getattr(thing, name))
    elif isinstance(thing, (list, tuple)):
        for item in cast("list[Any]", thing):
            hasher.update(b",")
            _feed(hasher, item)
    elif isinstance(thing, Mapping):
        for key, item in cast("Mapping[Any, Any]", thing).items():
            hasher.update(repr(key).encode())
            _feed(hasher, item)
    else:
        hasher.update(repr(thing).encode())


# --------------------------------------------------------------------------------- global random state


OTHER_SEEDS = (2, 5, 6)
"""Global seeds that must not matter. Several: a choice of two comes out the same every second time."""


@contextmanager
def global_seed(seed: int) -> Generator[None]:
    """Python's, numpy's and (if it is loaded) torch's global generators seeded, and put back after."""
    torch: Any = sys.modules.get("torch")
    before = random.getstate(), np.random.get_state()
    torch_before = torch.get_rng_state() if torch is not None else None
    random.seed(seed)
    np.random.seed(seed)
    if torch is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        if torch is not None and torch_before is not None:
            torch.set_rng_state(torch_before)


def global_state() -> bytes:
    """A digest of Python's and numpy's global generators: it changes when somebody draws from them."""
    return content([random.getstate(), list(np.random.get_state())])
