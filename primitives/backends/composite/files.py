"""A composite as a TOML file says it.

    text  = "hf:/models/Qwen3-VL-2B-Instruct?dtype=bfloat16"    # capability = backend:path
    pose  = "classical"
    others = ["nano"]                     # for all that they provide, where nothing is named above

    [depth]                               # the same as a table
    backend = "hf"
    path = "depth-model"                  # from the file's folder, if it is there
    device = "cuda:1"

    [memory]                              # what models may take together, by device
    "cuda:1" = "20 GB"

TOML's own trap: what follows a [table] belongs to it, so single lines come first.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from primitives.backends.composite.holding import bytes_of, device_name
from primitives.backends.composite.naming import SHORT, check_name
from unroller.backends import Asked, parsed
from unroller.faults import MissingCapability, PluginError, UnrollerError
from unroller.registry import near

_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


class Contents(NamedTuple):
    """What a file asks for, and its limits of memory in bytes by device."""

    asked: list[Asked]
    memory: dict[str, int]


def contents(file: str | Path) -> Contents:
    """Raises MissingCapability where there is no such file, PluginError where it says what cannot be."""
    path = Path(file).expanduser()
    try:
        held = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingCapability(f"{file}: no such file; write one, as examples/backends.toml") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PluginError(f"{file} cannot be read as TOML ({error})") from None
    asked: list[Asked] = []
    try:
        for name, said in held.items():
            if name == "others":
                asked += _others(said, path)
            elif name != "memory":
                asked.append(_asked(said, name, path))
        memory = limits(held.get("memory", {}))
    except UnrollerError as error:
        raise type(error)(f"{file}: {error}") from None
    if not asked and not memory:
        raise PluginError(f'{file} names no backend: write a line such as pose = "classical"')
    return Contents(asked, memory)


def limits(memory: Any) -> dict[str, int]:
    """Bytes by device. Raises PluginError."""
    if not isinstance(memory, Mapping):
        raise PluginError(f'memory = {memory!r}: give sizes by device, as "cuda:0" = "20 GB"')
    found: dict[str, int] = {}
    for device, size in memory.items():
        if not isinstance(device, str) or not _DEVICE.fullmatch(device):
            raise PluginError(f"memory: {device!r} is no device: write cpu, cuda:0, cuda:1 or mps")
        name = device_name(device)
        if name in found:
            raise PluginError(f"memory: {name} is given twice")
        try:
            found[name] = bytes_of(size)
        except PluginError as error:
            raise PluginError(f"memory of {device}: {error}") from None
    return found


def asked_for(said: Any, capability: str | None, source: str = "") -> Asked:
    """From a word, a table with `backend`, or an object. Raises PluginError."""
    label = f"{capability} = " if capability else ""
    if isinstance(said, str):
        one = parsed(said)
        if one.capability is not None and capability is not None:
            raise PluginError(f"{label}{said!r} names a capability twice: leave out {one.capability}=")
        text = f"{capability}={said}" if capability else said
        return msgspec.structs.replace(one, capability=capability or one.capability, text=text, source=source)
    if isinstance(said, Mapping):
        settings = dict(said)
        backend, path = settings.pop("backend", None), settings.pop("path", None)
        if backend is None:
            raise PluginError(f'{label}{{…}} lacks a backend: write backend = "hf:PATH" in it')
        one = asked_for(backend, capability, source)
        if path is not None and (one.path is not None or not isinstance(path, str) or not path):
            raise PluginError(f"{label}{{…}}: path = {path!r} is no path, or the backend names one already")
        if twice := sorted(set(settings) & set(one.settings)):
            raise PluginError(f"{label}{{…}} gives {twice[0]} twice: leave one of them out")
        text = one.text if path is None else f"{one.text}:{path}"
        both = {**one.settings, **settings}
        return msgspec.structs.replace(one, path=one.path or path, settings=both, text=text)
    if isinstance(said, (bool, int, float, list, tuple)) or said is None:
        raise PluginError(f'{label}{said!r} is no backend: write "classical", "hf:PATH" or a table')
    name = str(getattr(said, "name", type(said).__name__))
    text = f"{capability}={name}" if capability else name
    return Asked(text=text, backend=said, capability=capability, source=source)


def _asked(said: Any, name: str, file: Path) -> Asked:
    if name not in SHORT and not name[:1].isupper():
        raise PluginError(f"there is no {name!r}.{near(name, [*SHORT, 'others', 'memory'])}")
    if isinstance(said, Mapping):
        strange = [key for key in said if key in SHORT]
        if strange:
            raise PluginError(f"[{name}] holds {strange[0]!r}, a capability: write it above the first table")
    check_name(name)
    return _beside(asked_for(said, name, str(file)), file)


def _others(said: Any, file: Path) -> Iterator[Asked]:
    if not isinstance(said, list):
        raise PluginError(f'others = {said!r}: give a list, as ["classical"]')
    for one in said:
        yield _beside(asked_for(one, None, str(file)), file)


def _beside(asked: Asked, file: Path) -> Asked:
    """A path that is there from the file's own folder is meant from there."""
    if asked.path is None:
        return asked
    place = file.parent / Path(asked.path).expanduser()
    return msgspec.structs.replace(asked, path=str(place)) if place.is_dir() else asked
