"""What is done of a tree that is being built: a file a chunk, whole or not there at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from xxhash import xxh3_128

from planners.tree.files import put_aside
from planners.tree.measuring import Chunk

PARTS = "parts"


def write_part(folder: Path, number: int, chunk: Chunk) -> None:
    """One chunk, as one safetensors file with a digest of its own."""
    from safetensors.numpy import save

    values = chunk.values
    arrays = {f"table.{name}": table for name, table in chunk.tables.items()}
    arrays |= {f"array.{name}": array for name, array in chunk.arrays.items()}
    arrays["probabilities"] = chunk.probabilities
    arrays["values"] = np.frombuffer(b"".join(v or b"" for v in values), np.uint8)
    arrays["lengths"] = np.array([-1 if v is None else len(v) for v in values], np.int64)
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = save(whole, {"kinds": json.dumps(chunk.kinds)})
    put_aside(part_path(folder, number), xxh3_128(content).digest() + content)


def read_part(folder: Path, number: int) -> Chunk | None:
    """A chunk that was done before; None if there is none, or if it is damaged: it is done again."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = part_path(folder, number).read_bytes()
        check, content = content[:16], content[16:]
        if xxh3_128(content).digest() != check:
            return None
        held = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (OSError, SafetensorError, ValueError):
        return None
    ends = np.maximum(held["lengths"], 0).cumsum()
    joined = held["values"].tobytes()
    values = [
        None if length < 0 else joined[end - length : end]
        for length, end in zip(held["lengths"].tolist(), ends.tolist(), strict=True)
    ]
    return Chunk(
        {name.removeprefix("table."): a for name, a in held.items() if name.startswith("table.")},
        json.loads(header["__metadata__"]["kinds"]),
        values,
        held["probabilities"],
        {name.removeprefix("array."): a for name, a in held.items() if name.startswith("array.")},
    )


def part_path(folder: Path, number: int) -> Path:
    return folder / PARTS / f"{number:06}.part"
