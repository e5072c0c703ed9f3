"""Backends as they are named: by a registered name, as an object, or in words that say more.

    classical                              a registered one, as it is
    my_package.models:Mine                 an object of a module
    hf:/models/Qwen3-VL-2B-Instruct        a registered one, made from a path
    my_package.models:Mine:/models/x       the class of a module, made from a path
    text=hf:/models/x?device=cuda:1        the same for one capability, with settings (name=value&name=value)
    setup.toml                             what a file says

What says more than a name is for a registered backend that is put together from words: one whose class has
a classmethod `from_words`, which takes the whole list. How words are written is fixed here; what
capabilities are called for short, what a path leads to and what stands in a file is that backend's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from unroller.faults import PluginError
from unroller.registry import load, load_all, registered

_CAPABILITY = re.compile(r"([A-Za-z_]\w*)\s*=\s*(.*)", re.DOTALL)
_OBJECT = re.compile(r"(?:[A-Za-z_][\w.]*|.+\.py):[A-Za-z_][\w.]*")
_OBJECT_AT = re.compile(rf"({_OBJECT.pattern}):(.*)", re.DOTALL)
_NOTHING: Mapping[str, Any] = {}


class Asked(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A backend as somebody asked for it.

    backend: a registered name (or what several names begin with: see `family`), module:object, or the object
    itself; path: what to make it from; capability: the one it is for, by whatever name it was given; source:
    the file that says so, "" for words.
    """

    text: str
    backend: Any
    path: str | None = None
    settings: Mapping[str, Any] = _NOTHING
    capability: str | None = None
    source: str = ""


def parsed(text: str) -> Asked:
    """`[capability=]backend[:path][?name=value&…]`. Raises PluginError for what is written in another way."""
    said, capability = text.strip(), None
    if match := _CAPABILITY.fullmatch(said):
        capability, said = match.groups()
    settings: Mapping[str, Any] = _NOTHING
    if "?" in said:
        said, _, tail = said.rpartition("?")
        settings = _settings(tail, text)
    if is_object(said):
        name, path = said, None
    elif (at := _OBJECT_AT.fullmatch(said)) and is_object(at[1]):
        name, path = at.groups()
    else:
        name, colon, rest = said.partition(":")
        path = rest if colon else None
    if not name or path == "":
        what = "a path after the colon" if name else "a backend"
        raise PluginError(f"{text!r} lacks {what}: write it as text=hf:PATH, hf:PATH or text=NAME")
    return Asked(text=text, backend=name, path=path, settings=settings, capability=capability)


def _settings(tail: str, text: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for item in tail.split("&"):
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise PluginError(
                f"{text!r}: after the question mark stand settings, as ?device=cuda:1&dtype=bfloat16 (a path"
                " with a question mark goes into a TOML file)"
            )
        if name in settings:
            raise PluginError(f"{text!r} gives {name} twice: leave one of them out")
        settings[name] = _plain(value)
    return settings


def _plain(text: str) -> Any:
    """A number, true or null as JSON writes it; anything else is the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, (list, dict)) else value


def family(name: str) -> list[str]:
    """The registered backends that a name before a path may mean: `hf` is hf, hf_depth, hf_matching …"""
    every = registered("backends")
    return [*([name] if name in every else []), *sorted(n for n in every if n.startswith(f"{name}_"))]


def is_object(word: str) -> bool:
    """Whether a word names an object of a module (package.module:object, folder/file.py:object)."""
    matches = _OBJECT.fullmatch(word) is not None and not _CAPABILITY.fullmatch(word)
    return matches and word not in registered("backends") and not family(word.partition(":")[0])


def is_file(word: str) -> bool:
    """Whether a word names a file that says what is meant."""
    return word.endswith(".toml") and not _CAPABILITY.fullmatch(word) and not family(word.partition(":")[0])


def says_more(word: str) -> bool:
    """Whether a word is neither a plain name nor an object of a module."""
    if word in registered("backends") or is_object(word):
        return False
    return is_file(word) or any(mark in word for mark in "=?:")


def names_code(word: str) -> bool:
    """Whether a word may choose what code runs: an object of a module, a file that can name one, a setting
    that allows what is not safe. It is not taken up again unasked from a folder that somebody sent."""
    if is_object(word):
        return True
    if not says_more(word):
        return False
    try:
        asked = parsed(word)
    except PluginError:
        return True
    files = [part for part in (word, asked.path) if part and part.endswith(".toml")]
    return bool(files) or is_object(asked.backend) or any(name.startswith("allow") for name in asked.settings)


def backends_of(given: Sequence[Any]) -> list[Any]:
    """Backends (or classes of them) in order of preference, from names, objects and words. Where any word
    says more than a name, all of them become one backend.

    Raises UnknownName, PluginError, MissingCapability.
    """
    if not any(isinstance(one, str) and says_more(one) for one in given):
        return [load("backends", one) if isinstance(one, str) else one for one in given]
    found, _ = load_all("backends")
    for backend in found.values():
        if callable(from_words := getattr(backend, "from_words", None)):
            return [cast(Any, from_words(given))]
    said = next(one for one in given if isinstance(one, str) and says_more(one))
    raise PluginError(f"{said!r} says more than a name, and no installed backend is put together from words")
