"""The embedded model's files: where they are, what tells them apart, and loading them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from primitives.backends.checkpoints import imported
from unroller.faults import MissingCapability

NEEDED = ("model.safetensors", "config.json")
FILES = (*NEEDED, "tokenizer.json", "familiarity.safetensors")


class Loaded(NamedTuple):
    """A `nano_omni.reader.Reader`, a tokenizer and a `nano_omni.familiarity.Familiarity`."""

    reader: Any
    words: Any
    familiar: Any


def shipped() -> Path:
    """The folder of the weights that come along."""
    import nano_omni

    return Path(nano_omni.__file__).with_name("weights") / "cpu"


def fingerprint(folder: Path) -> str:
    """Of the files' content: other weights give other values."""
    from xxhash import xxh3_64

    hasher = xxh3_64()
    for name in FILES:
        file = folder / name
        hasher.update(file.read_bytes() if file.is_file() else b"none")
    return f"nano-2-{hasher.hexdigest()}"


def load(folder: Path, device: str, max_bytes: int) -> Loaded:
    """Raises MissingCapability for weights that are missing, damaged or of another version."""
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
        return Loaded(Reader(model, max_bytes), tokenizer.load(folder), familiarity.load(folder))
    except Exception as error:  # truncated, of another shape, of another version
        why = f"{type(error).__name__}: {error}"
        raise MissingCapability(
            f"the nano model's weights in {folder} cannot be loaded ({why}): they are damaged or of another"
            " version; restore them, or train them with `make weights`"
        ) from None
