"""What a function does, as a hash that is the same in every process.

The version of a primitive must differ wherever its results could: so this looks at the function's own source
and byte code, its defaults, what it closes over, the object it is a method of, down to the content of arrays.
It does not follow names that the code looks up when it runs (globals, imports). What cannot be described, and
arrays too large to read through, make the hash one of this process alone: a memo then misses where it might
have hit, and never the other way round.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import types
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np

from unroller.arrays import dtype_name, is_array, nbytes, to_numpy

LARGEST_ARRAY = 16 << 20
"""Bytes; reading through a model's weights to tell two closures apart is not worth it."""

_THIS_PROCESS = os.urandom(16)
_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def fingerprint(function: Any, prompts: Iterable[str] = ()) -> str:
    """12 hexadecimal digits for a callable and the prompts it uses."""
    description = _Description()
    description.add(function)
    description.add(tuple(prompts))
    return description.hash.hexdigest()


class _Description:
    """Feeds a hash with everything that a thing is made of; each part is preceded by what it is."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=6)
        self.seen: dict[int, Any] = {}  # by id, holding on to the things so that ids stay theirs

    def add(self, thing: Any) -> None:
        if isinstance(thing, _PLAIN):
            self._say(type(thing).__name__, repr(thing))
        elif id(thing) in self.seen:
            self._say("again", str(list(self.seen).index(id(thing))))
        else:
            self.seen[id(thing)] = thing
            self._add(thing)

    def _say(self, *words: str) -> None:
        for word in words:
            said = word.encode("utf-8", "backslashreplace")
            self.hash.update(len(said).to_bytes(8, "big") + said)

    def _add(self, thing: Any) -> None:
        if isinstance(thing, types.FunctionType):
            self._function(thing)
        elif isinstance(thing, types.MethodType):
            self._say("method")
            self.add(thing.__func__)
            self.add(thing.__self__)
        elif isinstance(thing, functools.partial):
            held = cast("functools.partial[Any]", thing)
            self._say("partial")
            self._each((held.func, held.args, held.keywords))
        elif isinstance(thing, type):
            self._say("class", f"{thing.__module__}.{thing.__qualname__}", _source(thing))
        elif isinstance(thing, (types.ModuleType, types.BuiltinFunctionType)):
            self._say("named", str(getattr(thing, "__module__", "")), thing.__name__)
        elif isinstance(thing, Mapping):
            self._say("mapping")
            for key, value in cast("Mapping[Any, Any]", thing).items():
                self._each((key, value))
        elif isinstance(thing, (set, frozenset)):
            self._say("set")
            self._each(sorted(cast("set[Any]", thing), key=repr))
        elif isinstance(thing, (list, tuple)):
            self._say("tuple" if isinstance(thing, tuple) else "list", str(len(cast("list[Any]", thing))))
            self._each(cast("list[Any]", thing))
        elif is_array(thing):
            self._array(thing)
        else:
            self._object(thing)

    def _each(self, things: Iterable[Any]) -> None:
        for thing in things:
            self.add(thing)

    def _function(self, function: types.FunctionType) -> None:
        # Of the code, not of the function: `inspect` would follow __wrapped__ to what a decorator hides.
        self._say("function", _source(function.__code__))
        self._code(function.__code__)
        self._each((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:
                held = None  # a name that is not bound yet
            self.add(held)

    def _code(self, code: types.CodeType) -> None:
        self._say("code", code.co_code.hex(), repr(code.co_names))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant)
            else:
                self._say(repr(constant))

    def _array(self, array: Any) -> None:
        self._say("array", dtype_name(array), str(tuple(array.shape)))
        if nbytes(array) > LARGEST_ARRAY or dtype_name(array) == "object":
            self._only_here(array)
        else:
            self.hash.update(np.ascontiguousarray(to_numpy(array)).tobytes())

    def _object(self, thing: Any) -> None:
        kind = cast("type[Any]", type(thing))
        self.add(kind)
        names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__slots__", ())
        held = {name: getattr(thing, name, None) for name in ((names,) if isinstance(names, str) else names)}
        held |= getattr(thing, "__dict__", {})
        if held or kind.__module__ != "builtins":
            self.add(held)
        if not held and (kind.__init__ is not object.__init__ or kind.__module__ == "builtins"):
            self._only_here(thing)  # it keeps what it was made of where Python does not show it

    def _only_here(self, thing: Any) -> None:
        self._say("only here", _THIS_PROCESS.hex(), str(id(thing)))


def _source(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return ""  # the byte code speaks for itself
