"""`--use package.module:object`: what a script defines, without registration.

Primitives, decoders, probes, policies, backends, planners, problem sets and value types are told apart by
what they are. A module without an object (`--use my_plugins`) brings all that it defines. The current folder
is put at the *end* of the import path, so that a file of the user's never stands in for an installed package.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec

from unroller.backends import is_object
from unroller.cli.terminal import aside
from unroller.decide import FunctionPolicy, Policy
from unroller.declare import Decoder, Primitive, Probe
from unroller.faults import PluginError
from unroller.registry import load_path, registered
from unroller.values import Value


class Used(msgspec.Struct):
    """What `--use` brought, by kind. Policies, planners and problem sets have names to choose them by.

    asked: the policies that were named one by one; those of a whole module only stand ready.
    """

    primitives: list[Primitive] = []
    decoders: list[Decoder] = []
    probes: list[Probe] = []
    backends: list[Any] = []
    policies: dict[str, Any] = {}
    planners: dict[str, Any] = {}
    problems: dict[str, Any] = {}
    values: list[type[Value]] = []
    asked: list[str] = []


def used(paths: Iterable[str]) -> Used:
    """Load what `--use` names. Raises PluginError, with what to do."""
    found = Used()
    for path in paths:
        here_on_path()
        module, _, name = file_as_module(path).partition(":")
        if name:
            thing = _load(f"{module}:{name}", path)
            if not _sort_in(found, thing, name):
                raise PluginError(
                    f"{path} is a {type(thing).__name__}: --use takes a primitive, decoder, probe, policy,"
                    " planner, backend, problem set or value type"
                )
            found.asked += [n for n, held in found.policies.items() if held is thing]
            continue
        held = cast("dict[str, Any]", _load(f"{module}:__dict__", path))
        own = [(n, t) for n, t in held.items() if getattr(t, "__module__", None) == module]
        policies = [(n, t) for n, t in held.items() if isinstance(t, FunctionPolicy)]
        sorted_in = [_sort_in(found, t, n) for n, t in [*own, *policies] if not n.startswith("_")]
        if not any(sorted_in):
            raise PluginError(f"{path} defines nothing that can be used: decorate it with @primitive(…)")
    return found


def is_path(name: str, group: str) -> bool:
    """Whether this names an object of a module, and not something registered."""
    if group == "backends":
        return is_object(name)
    return ":" in name and name not in registered(group)


def load_named(path: str) -> Any:
    """The object of `package.module:object` or `folder/file.py:object`, with the current folder on the
    import path. Raises PluginError."""
    here_on_path()
    return _load(file_as_module(path), path)


def here_on_path() -> None:
    """Let modules of the current folder be imported, after everything that is installed."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def file_as_module(path: str) -> str:
    """Of folder/file.py:object, the file:object, with its folder on the import path."""
    file, colon, name = path.partition(":")
    if not file.endswith(".py"):
        return path
    place = Path(file).resolve()
    if not place.is_file():
        raise PluginError(f"{file}: no such file")
    if str(place.parent) not in sys.path:
        sys.path.append(str(place.parent))
    return f"{place.stem}{colon}{name}"


@aside()
def _load(path: str, given: str) -> Any:
    """Import it; where an installed module of the same name came instead of the user's, say so."""
    top = path.partition(":")[0].partition(".")[0]
    try:
        return load_path(path)
    except PluginError as error:
        mine = next((p for p in (Path(f"{top}.py"), Path(top)) if p.exists()), None)
        module = sys.modules.get(top)
        theirs = getattr(module, "__file__", None) if module is not None else None
        if mine is not None and theirs is not None:
            theirs_at = Path(theirs).resolve()
            if theirs_at not in (mine.resolve(), mine.resolve() / "__init__.py"):
                raise PluginError(
                    f"{given}: {mine} is hidden by the installed module {theirs_at}: rename it"
                ) from error
        raise


def _sort_in(found: Used, thing: Any, name: str) -> bool:
    """Put a thing where it belongs. False if it is none of these."""
    if _is_value_type(thing):
        found.values.append(thing)  # known by its name since it was made
    elif isinstance(thing, Decoder):
        found.decoders.append(thing)
    elif isinstance(thing, Probe):
        found.probes.append(thing)
    elif isinstance(thing, Primitive):
        found.primitives.append(thing)
    elif all(hasattr(thing, part) for part in ("name", "fingerprint", "provides")):
        found.backends.append(thing)
    elif callable(getattr(thing, "decide", None)) and thing is not Policy:
        found.policies[_name_of(thing, name)] = thing
    elif callable(getattr(thing, "plan", None)) or callable(getattr(thing, "search", None)):
        found.planners[_name_of(thing, name)] = thing
    elif inspect.isfunction(thing) and _first_parameter(thing) == "seed":
        found.problems[name] = thing
    elif inspect.isfunction(thing) and _first_parameter(thing) == "state":
        found.policies[name] = thing
    else:
        return False
    return True


def _is_value_type(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Value)


def _name_of(thing: Any, name: str) -> str:
    own = getattr(thing, "name", None)
    return own if isinstance(own, str) else name


def _first_parameter(function: Any) -> str:
    return next(iter(inspect.signature(function).parameters), "")
