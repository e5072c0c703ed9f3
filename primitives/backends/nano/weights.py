"""The embedded model's files: where they are, what tells them apart, and loading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from primitives.backends.checkpoints import imported
from unroller.faults import MissingCapability

NEEDED = ("model.safetensors", "config.json")
FILES = (*NEEDED, "tokenizer.json", "familiarity.safetensors")
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
    for weights that are missing, damaged or of another version."""
    for name in NEEDED:
        if not (folder / name).is_file():
            raise MissingCapability(
                f"the nano model's weights are not there (no {name} in {folder}): train them with"
                " `make weights`, or name a folder: Nano(weights=…)"
            )
    imported("torch", "torch")
    from nano_omni import familiarity, tokenizer
    from nano_omni.model import load as load_model
    from nano_omni.reader import Reader

    try:
        model = load_model(folder).to(device)
        known = familiarity.load(folder) if familiar else None
        return Loaded(Reader(model, max_bytes), tokenizer.load(folder), known)
    except Exception as error:  # truncated, of another shape, of another version
        why = f"{type(error).__name__}: {error}"
        raise MissingCapability(
            f"the nano model's weights in {folder} cannot be loaded ({why}): they are damaged or of another"
            " version; restore them, or train them with `make weights`"
        ) from None
