"""Finding what is registered: ours and a stranger's alike, through entry points.

    [project.entry-points."unroller.primitives"]
    motion = "my_package.motion:motion"

Names are looked up without importing anything; a plug-in is imported when it is used.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from unroller.faults import PluginError, UnknownName, UnrollerError

GROUPS = (
    "values",
    "primitives",
    "decoders",
    "probes",
    "policies",
    "planners",
    "backends",
    "problems",
    "scorers",
    "commands",
)

POLICY_FILE = "policy.json"
"""What makes a folder the folder of a saved policy."""

ROOMS = ("unroller", "primitives", "policies", "planners", "nano_omni")


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """Every entry point of a group, by name. Where two packages claim a name, the first installed wins."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"unroller.{group}"):
        found.setdefault(point.name, point)
    return found


@cache
def load(group: str, name: str) -> Any:
    """Import what is registered under this name.

    Raises UnknownName (with near names) when there is none, PluginError when it cannot be imported.
    """
    point = registered(group).get(name)
    if point is None:
        one = {"policies": "policy", "values": "value type"}.get(group, group.removesuffix("s"))
        raise UnknownName(f"no {one} is called {name!r}.{near(name, registered(group))}")
    return _imported(point.value, f"the plug-in {name!r} of unroller.{group}")


def policy_named(name: str | Path) -> Any:
    """A policy by the name it is registered under, or by the folder where `save` wrote it.

    Of a folder, `kind` in its policy.json says which registered policy opens it: what runs is installed
    code. Raises UnknownName, PluginError, and what that policy's `load` raises.
    """
    folder = Path(name)
    if not str(name) or str(name) in registered("policies") or not os.path.isdir(folder):
        return load("policies", str(name))
    if not (folder / POLICY_FILE).is_file():
        raise UnknownName(f"{name} is a folder without a {POLICY_FILE}: name one that a policy was saved in")
    try:
        kind = json.loads((folder / POLICY_FILE).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PluginError(f"{folder / POLICY_FILE} says no kind of policy ({error}): save it again") from None
    found = load("policies", str(kind))
    opens = getattr(found, "load", None)
    if opens is None:
        raise PluginError(
            f"{folder} holds a policy of the kind {kind!r}, which cannot be loaded from a folder"
        )
    return opens(folder)


def load_path(path: str) -> Any:
    """Import "package.module:object". Raises PluginError."""
    if ":" not in path:
        raise PluginError(f"{path!r} is no plug-in path: write package.module:object")
    return _imported(path, repr(path))


def load_all(group: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Everything of a group that can be imported, and for the rest why not."""
    found: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for name in registered(group):
        try:
            found[name] = load(group, name)
        except UnrollerError as error:
            broken[name] = str(error)
    return found, broken


def near(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest one, then all of them."""
    listed = sorted(known)
    close = difflib.get_close_matches(name, listed, n=1)
    did_you_mean = f" Did you mean {close[0]!r}?" if close else ""
    return f"{did_you_mean} Known: {', '.join(listed) or 'none'}."


def _imported(path: str, what: str) -> Any:
    point = EntryPoint(name="", value=path, group="")
    try:
        return point.load()
    except UnrollerError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        shadow = shadowed(path.split(":", maxsplit=1)[0].split(".", maxsplit=1)[0])
        if shadow:
            raise PluginError(shadow) from error
        raise PluginError(f"{what} ({path}) cannot be imported: {type(error).__name__}: {error}") from error


def shadowed(room: str) -> str | None:
    """One clear sentence when a folder beside the user's script stands in the way of one of our rooms."""
    module = sys.modules.get(room)
    if room not in ROOMS or module is None:
        return None
    home = Path(__file__).resolve().parent.parent
    places = [Path(p).resolve() for p in getattr(module, "__path__", [])]
    if not places and module.__file__:  # a policies.py
        places = [Path(module.__file__).resolve()]
    stranger = next((p for p in places if p.parent != home), None)
    if stranger is None:
        return None
    return f"{stranger} is in the way of unroller's own package {room!r}: rename it, or work elsewhere."
