"""A flat vector of named fields: where each lies, what it means, and packing many at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from xxhash import xxh3_128_hexdigest

from unroller.faults import PolicyError


class Field(NamedTuple):
    """One field of a vector: elements `start` to `stop`, which have this shape (row-major), and what they
    say."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    meaning: str

    def __str__(self) -> str:
        shape = " × ".join(map(str, self.shape))
        return f"{self.start:>5} … {self.stop:<5} {self.name:<24} ({shape}) {self.meaning}"


class Layout:
    """Fields one after the other: (name, shape, meaning) each."""

    def __init__(self, fields: Iterable[tuple[str, tuple[int, ...], str]]) -> None:
        placed: list[Field] = []
        at = 0
        for name, shape, meaning in fields:
            placed.append(Field(name, at, at + prod(shape), shape, meaning))
            at += prod(shape)
        self.fields = tuple(placed)
        self.size = at
        self._by_name = {field.name: field for field in placed}

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def pack(self, parts: Mapping[str, Any], count: int | None = None) -> np.ndarray:
        """Vectors (B, size) float32 from arrays (B, *shape), or (*shape) for all alike; what is not given is
        0.

        Costs one copy a field, whatever B is. count: B, where no array says it. Raises PolicyError.
        """
        arrays = {name: np.asarray(part) for name, part in parts.items()}
        unknown = [name for name in arrays if name not in self]
        if unknown:
            raise PolicyError(
                f"an observation has no field {unknown[0]!r}: it has {', '.join(self._by_name)}"
            )
        for name, array in arrays.items():
            if count is None and array.ndim > len(self[name].shape):
                count = len(array)
        packed = np.zeros((1 if count is None else count, self.size), np.float32)
        for name, array in arrays.items():
            field = self[name]
            alike = array.shape == field.shape
            if not alike and array.shape != (len(packed), *field.shape):
                raise PolicyError(
                    f"{name} has the shape {array.shape}; it must be {(len(packed), *field.shape)}"
                )
            packed[:, field.start : field.stop] = array.reshape(1 if alike else len(packed), -1)
        return packed

    def part(self, vectors: np.ndarray, name: str) -> np.ndarray:
        """A field (B, *shape) of vectors (B, size): a view where numpy allows it."""
        field = self[name]
        return vectors[:, field.start : field.stop].reshape(len(vectors), *field.shape)

    def parts(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Every field of vectors (B, size), by name."""
        return {field.name: self.part(vectors, field.name) for field in self.fields}

    def describe(self) -> str:
        """Every field in a line of its own: where it lies, its name, shape and meaning."""
        return "\n".join(map(str, self.fields))

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits of the names, places and shapes."""
        return xxh3_128_hexdigest(repr([field[:4] for field in self.fields]).encode())
