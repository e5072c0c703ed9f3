"""Which backend is meant: by a name, and where it is made from a path by what lies there.

Before a path stands the name of a registered backend, or what the names of several begin with: `hf` is hf,
hf_depth, hf_matching. The first of them that takes what lies there and provides what is wanted is meant. So
whoever registers `diffusers_image`, a class that is made from a path, can be asked for as diffusers:PATH.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from primitives.backends.checkpoints import WrongKind, torch_device, torch_dtype
from primitives.backends.composite.naming import check_name, one_of, short_name
from unroller.backends import Asked, family, is_object
from unroller.faults import MissingCapability, PluginError, UnknownName, UnrollerError
from unroller.registry import load, load_path, near, registered


class Recipe(NamedTuple):
    """A backend that was made to see what it provides, and is not loaded. make: another like it, None where
    an object was given; key: equal for what can share one; settings: defaults included."""

    model: str
    first: Any
    make: Callable[[], Any] | None
    key: object
    settings: Mapping[str, Any]


def recipe_for(asked: Asked, brought: Mapping[str, Any]) -> Recipe:
    """brought: objects that were given beside, by name.

    Raises UnknownName, MissingCapability or PluginError in one sentence that says what was asked for.
    """
    try:
        if asked.capability is not None:
            check_name(asked.capability)
        if asked.path is None or not isinstance(asked.backend, str):
            said = asked.text if asked.capability is None else asked.text.partition("=")[2].strip()
            recipe = _made(_thing(asked, brought), asked, said)
        else:
            recipe = _from_path(asked, brought)
        _check(recipe, asked)
        return recipe
    except UnrollerError as error:
        if str(error).startswith(asked.text):
            raise
        kind = MissingCapability if isinstance(error, MissingCapability) else type(error)
        raise kind(f"{asked.text}: {error}") from error


def by_its_name(asked: Asked, brought: Mapping[str, Any]) -> Asked:
    """name:file.pt of something that was brought, which reads like an object of a module."""
    if asked.path is None and isinstance(asked.backend, str):
        name, colon, path = asked.backend.partition(":")
        if colon and name in brought:
            return msgspec.structs.replace(asked, backend=name, path=path)
    return asked


def _thing(asked: Asked, brought: Mapping[str, Any]) -> Any:
    """What a name without a path stands for: a class, or an object."""
    name = asked.backend
    if not isinstance(name, str):
        return name
    if name in brought:
        return brought[name]
    if is_object(name):
        return load_path(name)
    if name not in registered("backends") and family(name):
        raise UnknownName(f"no backend is called {name!r} alone: name a path, {name}:PATH")
    return load("backends", name)


def _from_path(asked: Asked, brought: Mapping[str, Any]) -> Recipe:
    if asked.backend in brought or is_object(asked.backend):
        return _made(_thing(asked, brought), asked, f"{asked.backend}:{asked.path}")
    names = family(asked.backend)
    if not names:
        known = near(asked.backend, registered("backends"))
        raise UnknownName(f"no backend is called {asked.backend!r}.{known}")
    found: list[Recipe] = []
    refused: list[UnrollerError] = []
    for name in names:
        try:
            recipe = _made(load("backends", name), asked, f"{asked.backend}:{asked.path}")
            _ = fingerprint_of(recipe.first)  # opens the checkpoint
        except UnrollerError as error:
            refused.append(error)
            continue
        found.append(recipe)
        provided = recipe.first.provides
        if provided and (not asked.capability or one_of(asked.capability, provided)):
            return recipe
    trouble = next((error for error in refused if not isinstance(error, WrongKind)), None)
    if found and trouble is None:  # it is of use, and not for this
        provided = tuple(dict.fromkeys(c for recipe in found for c in recipe.first.provides))
        what = ", ".join(short_name(capability) for capability in provided) or "nothing"
        raise MissingCapability(f"its checkpoint is for {what}, not {asked.capability}: name another one")
    if trouble is None:
        kinds = str(refused[0]).partition(", and this backend needs ")[0]
        raise MissingCapability(f"{kinds}, which none of {', '.join(names)} can use: name another one")
    raise trouble


def _made(thing: Any, asked: Asked, model: str) -> Recipe:
    """Make it with those settings that it has; about others see `_check`."""
    if not isinstance(thing, type):
        if asked.path is not None or asked.settings:
            raise PluginError(f"{model} is an object, and takes neither path nor settings")
        name = str(getattr(thing, "name", model))
        return Recipe(name, thing, None, id(thing), {"device": _own_device(thing)})
    parameters = _parameters(thing)
    path = () if asked.path is None else (asked.path,)
    if path and not (parameters and next(iter(parameters.values())).kind in (0, 1, 2)):  # positional
        raise PluginError(f"{getattr(thing, 'name', thing.__name__)} is made without a path: leave it out")
    for name in list(parameters)[: len(path)]:  # what the path is called
        del parameters[name]
    chosen = {k: v for k, v in asked.settings.items() if k in parameters}

    def make() -> Any:
        try:
            return thing(*path, **chosen)
        except (UnrollerError, MemoryError):
            raise
        except Exception as error:
            how = ", ".join(f"{k}={v!r}" for k, v in chosen.items()) or "as it is"
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            raise PluginError(f"{thing.__name__} cannot be made, {how} ({why:.300})") from error

    first = make()
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    settings = defaults | chosen
    where = None if asked.path is None else _resolved(asked.path)
    key = (thing, where, repr(sorted(settings.items())))
    return Recipe(model, first, make, key, settings)


def _parameters(thing: type[Any]) -> dict[str, inspect.Parameter]:
    """What a class is made with, and what its `**settings` hand on to the class that it extends."""
    found: dict[str, inspect.Parameter] = {}
    for kind in (thing, *(one for one in thing.__mro__[1:-1] if "__init__" in vars(one))):
        own = inspect.signature(kind).parameters
        found |= {name: p for name, p in own.items() if name not in found and p.kind is not p.VAR_KEYWORD}
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            break
    return found


def _own_device(thing: Any) -> Any:
    settings = getattr(thing, "settings", None)
    device = getattr(thing, "device", None) or getattr(settings, "device", None)
    return None if device is None else str(device)


def _resolved(path: str) -> str:
    try:
        folder = Path(path).expanduser()
        return str(folder.resolve()) if folder.exists() else path
    except (OSError, ValueError, RuntimeError):  # too long, no such home
        return path


def fingerprint_of(backend: Any) -> str:
    """Raises MissingCapability where what it is made of cannot be read."""
    try:
        found = getattr(backend, "fingerprint", None)
    except OSError as error:
        raise MissingCapability(f"its files cannot be read ({error!s:.300})") from None
    if not isinstance(found, str):
        raise PluginError(f"{backend!r} is no backend: its fingerprint is no text")
    return found


def _check(recipe: Recipe, asked: Asked) -> None:
    """That it is a backend, has what is wanted and every setting, and that its checkpoint and device are
    there. Its fingerprint is asked for because that opens the checkpoint."""
    first = recipe.first
    if lacking := [a for a in ("name", "provides") if not hasattr(first, a)]:
        raise PluginError(f"{recipe.model} is no backend: it has no {', '.join(lacking)}")
    _ = fingerprint_of(first)
    limit = getattr(first, "max_batch", 1)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise PluginError(f"{recipe.model} has a max_batch of {limit!r}: give 1 or more")
    if not first.provides:
        raise MissingCapability(f"it provides nothing without {getattr(first, 'lacks', 'more')}: name a path")
    if asked.capability and one_of(asked.capability, tuple(first.provides)) is None:
        what = ", ".join(short_name(capability) for capability in first.provides)
        raise MissingCapability(f"{first.name} provides {what}, not {asked.capability}: name another backend")
    if unknown := [name for name in asked.settings if name not in recipe.settings]:
        known = ", ".join(name for name in recipe.settings if name != "path") or "none"
        raise PluginError(f"{first.name} has no setting {unknown[0]!r}: it has {known}")
    if getattr(first, "checkpoint", None) is not None:
        if asked.settings.get("device", "auto") not in ("auto", "cpu", "balanced"):
            torch_device(asked.settings["device"])
        if asked.settings.get("dtype", "auto") != "auto":
            torch_dtype(asked.settings["dtype"])
