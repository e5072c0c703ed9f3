"""What every type of context is."""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Union, cast, get_args, get_origin

import msgspec

from unroller.arrays import Array, is_array
from unroller.rendering import Segment, TextSegment, escape

VALUE_TYPES: dict[str, list[type[Value]]] = {}
"""Every value type of the running program by name, the newest last. A class that is defined again in the same
place (a notebook cell run twice) takes the place of the old one; nobody takes the name of one of ours."""


class Value(msgspec.Struct, frozen=True, eq=False, tag=True):
    """Base of every value.

    composes: "append" or "replace". Both keep history. "replace" changes what stands: of the values with
    the same `slot`, only the newest is in `current()`.
    """

    composes: ClassVar[Literal["append", "replace"]] = "append"

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        named = VALUE_TYPES.setdefault(cls.__name__, [])
        place = (cls.__module__, cls.__qualname__)
        named[:] = [kind for kind in named if (kind.__module__, kind.__qualname__) != place]
        named.insert(len(named) if not named or not _is_ours(named[-1]) else 0, cls)

    @property
    def slot(self) -> Any:
        """What a replacing value replaces: values of one type with equal slots supersede each other."""
        return None

    def words(self) -> str:
        """The value in plain words: what a model without eyes reads, and what the terminal shows."""
        return type(self).__name__

    def __str__(self) -> str:
        return self.words()

    def render(self) -> tuple[Segment, ...]:
        """The value as segments for a model. Default: its words, escaped."""
        return (TextSegment(escape(self.words())),)

    def difference(self, other: Value) -> float:
        """How far another value of this type is from this one, 0 (the same) to 1.

        The contribution of a context entry is how far the output moves when the entry is left out.
        """
        return 0.0 if self == other else 1.0

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in self.__struct_fields__)

    __hash__ = object.__hash__


def _is_ours(kind: type[Value]) -> bool:
    return kind.__module__.startswith(f"{__package__}.")


def _same(a: Any, b: Any) -> bool:
    if is_array(a) or is_array(b):
        if type(a) is not type(b) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        return bool((a == b).all())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        several = cast("list[Any]", a), cast("list[Any]", b)
        return len(several[0]) == len(several[1]) and all(map(_same, *several))
    return bool(a == b)


@cache
def array_fields(kind: type[Value]) -> tuple[str, ...]:
    """The names of the fields of a value type that are declared to hold an array: `Array`, or None,
    `np.ndarray`, `torch.Tensor`. Arrays inside other things are not looked for."""
    return tuple(f.name for f in msgspec.structs.fields(kind) if _holds_array(f.type))


def _holds_array(declared: Any) -> bool:
    options = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    names = (getattr(get_origin(option) or option, "__name__", "") for option in options)
    return any(name in ("Array", "ndarray", "Tensor") for name in names)


def arrays_of(value: Value) -> list[tuple[str, Array]]:
    """The arrays a value holds, by field name."""
    held = ((name, getattr(value, name)) for name in array_fields(type(value)))
    return [(name, array) for name, array in held if array is not None]
