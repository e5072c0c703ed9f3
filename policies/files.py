"""Files that policies and their trainings are kept in: written whole or not at all, and never a pickle.

Arrays lie in a safetensors file that is named for its content, so that what refers to it knows it: a JSON
file that is replaced last refers to one that is there, whenever the process was killed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from xxhash import xxh3_128_hexdigest

from unroller.faults import PolicyError

LARGEST = 1 << 30
"""Bytes of arrays that are read; a policy's are a few hundred thousand."""


class SavedPolicyError(PolicyError, ValueError):
    """A folder holds no policy that can be used: it is of another kind or format, cut short, or damaged."""


def replace_file(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with beside.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays into a file of the folder, which is named for what it holds; returns the name."""
    from safetensors.numpy import save

    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    name = f"arrays-{xxh3_128_hexdigest(content)}.safetensors"
    replace_file(folder / name, content)
    return name


def remove_others(folder: Path, name: str) -> None:
    """Remove the arrays that nothing refers to any more."""
    for old in folder.glob("arrays-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def read_arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of a file that `write_arrays` named. Raises SavedPolicyError."""
    if not name:
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load

    file = folder / Path(name).name
    try:
        if file.stat().st_size > LARGEST:
            raise SavedPolicyError(f"{file} is larger than any policy: it is something else")
        content = file.read_bytes()
        if name != f"arrays-{xxh3_128_hexdigest(content)}.safetensors":
            raise SavedPolicyError(f"{file} is damaged or was cut short: save the policy again")
        arrays = load(content)
    except OSError as error:
        raise SavedPolicyError(
            f"{folder} lacks {file.name} ({error.strerror}): copy the whole folder"
        ) from None
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SavedPolicyError):
            raise
        raise SavedPolicyError(f"{file} holds no arrays ({error}): save the policy again") from None
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise SavedPolicyError(
                f"{file}: {key} holds NaN or infinity: its training diverged; train it again"
            )
    return arrays
