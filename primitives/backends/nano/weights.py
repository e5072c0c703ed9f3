"""The embedded model's files: where they are, what tells them apart, and loading them; and those of the
networks beside it, which have one file each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from primitives.backends.checkpoints import imported, torch_device
from unroller.dispatch import is_out_of_memory
from unroller.faults import MissingCapability

NEEDED = ("model.safetensors", "config.json")
FILES = (*NEEDED, "tokenizer.json", "familiarity.safetensors")
RESTORE = "restore them, or train them with `make weights`"
DRAWING = ("drawing", "photos")
"""Of those that come along, the weights that draw from prompts, and those that draw from photos."""


class Loaded(NamedTuple):
    """A `nano_omni.reader.Reader`, a tokenizer and a `nano_omni.familiarity.Familiarity`, if it was asked
    for."""

    reader: Any
    words: Any
    familiar: Any


def shipped() -> Path:
    """The folder of the weights that come along."""
    import nano_omni

    return Path(nano_omni.__file__).with_name("weights") / "cpu"


def drawing(weights: str | Path | None) -> dict[str, Path]:
    """Of each task that can be drawn, the folder of weights that draw it: the one that is given (None:
    shipped), if it has a generation expert; else, of those that come along, the first that was taught it."""
    folder = shipped() if weights is None else Path(weights)
    folders = [folder]
    if weights is None and not draws(folder):
        folders = [shipped().with_name(name) for name in DRAWING]
    found: dict[str, Path] = {}
    for one in folders:
        for task in draws(one):
            found.setdefault(task, one)
    return found


def knows_photos(folder: Path) -> bool:
    """Whether there is what tells photos that the model knows from others: only answering needs it."""
    return (folder / FILES[-1]).is_file()


def draws(folder: Path) -> tuple[str, ...]:
    """What the weights in a folder were taught to draw, of `nano_omni.config.TASKS`; nothing, if they draw
    nothing or cannot be read."""
    try:
        held = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if held["experts"] != 2 or not (folder / "model.safetensors").is_file():
            return ()
        return tuple(map(str, held.get("draws") or ("generation",)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def check(folder: Path) -> None:
    """Raises MissingCapability for a folder that is not there, lacks files or has a configuration that is
    none. What is wrong with the weights themselves only `load` finds."""
    from nano_omni.config import Config

    if not os.path.isdir(folder):
        what = "is a file" if os.path.isfile(folder) else "no such folder"
        raise MissingCapability(
            f"{folder}: {what}; name the folder that holds {' and '.join(NEEDED)}, or train weights with"
            " `make weights`"
        )
    _check_there(folder)
    file = folder / "config.json"
    try:
        Config(**json.loads(file.read_text(encoding="utf-8")))
    except Exception as error:  # no JSON, settings that there are not, sizes that do not fit
        raise MissingCapability(
            f"the nano model's {file} cannot be read ({_why(error)}): it is damaged or of another version;"
            " restore it, or train weights with `make weights`"
        ) from None


def _check_there(folder: Path) -> None:
    for name in NEEDED:
        if not os.path.isfile(folder / name):
            raise MissingCapability(
                f"the nano model's weights are not there (no {name} in {folder}): train them with"
                " `make weights`, or name a folder: Nano(weights=…)"
            )


def _why(error: Exception) -> str:
    """In one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.300}"


def fingerprint(folder: Path) -> str:
    """Of the files' content: other weights give other values."""
    from xxhash import xxh3_64

    hasher = xxh3_64()
    for name in FILES:
        file = folder / name
        hasher.update(file.read_bytes() if file.is_file() else b"none")
    return f"nano-2-{hasher.hexdigest()}"


def load(folder: Path, device: str, max_bytes: int, familiar: bool = True) -> Loaded:
    """familiar=False: without what is known of photos, which drawing has no use for. Raises MissingCapability
    for weights that are missing, damaged or of another version, and for a device that this machine lacks."""
    _check_there(folder)
    where = torch_device(device)
    from nano_omni import familiarity, tokenizer
    from nano_omni.model import load as load_model
    from nano_omni.reader import Reader

    if familiar and not knows_photos(folder):
        raise MissingCapability(
            f"the nano model's weights in {folder} have no measure of the photos they know (no {FILES[-1]}):"
            f" fit one with `python -m nano_omni.familiarity --weights {folder}`"
        )
    try:
        model = load_model(folder)
        known = familiarity.load(folder) if familiar else None
        words = tokenizer.load(folder)
    except Exception as error:  # truncated, of another shape, of another version
        if is_out_of_memory(error):  # which the engine knows what to do with
            raise
        raise MissingCapability(
            f"the nano model's weights in {folder} cannot be loaded ({_why(error)}): they are damaged or of"
            f" another version; {RESTORE}"
        ) from None
    try:
        return Loaded(Reader(model.to(where), max_bytes), words, known)
    except Exception as error:  # a driver that does not fit, a kind of device that torch was not built for
        if is_out_of_memory(error):
            raise
        raise MissingCapability(
            f"the nano model cannot be put on the device {device!r} ({_why(error)}): choose another one"
        ) from None


def tokenizer(folder: Path) -> Any:
    """Of weights in a folder, without them. Raises MissingCapability."""
    from nano_omni import tokenizer as words

    try:
        return words.load(folder)
    except Exception as error:
        raise MissingCapability(
            f"the nano model's words in {folder} cannot be loaded ({_why(error)}): {RESTORE}"
        ) from None


def autoencoder() -> Any:
    """The `nano_omni.autoencoder.Autoencoder` that comes along. Raises MissingCapability where its weights
    are missing or damaged."""
    imported("torch", "torch")
    from nano_omni.autoencoder import autoencoder as held

    try:
        return held()
    except (OSError, ValueError) as error:
        raise MissingCapability(str(error)) from None


def verifier() -> Any:
    """The `nano_omni.verifier.Verifier` that comes along. Raises MissingCapability where its weights are
    missing or damaged."""
    imported("torch", "torch")
    from nano_omni.verifier import verifier as held

    try:
        return held()
    except (OSError, ValueError) as error:
        raise MissingCapability(str(error)) from None
