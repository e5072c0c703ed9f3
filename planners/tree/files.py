"""The files of a tree: parquet for tables, safetensors for arrays, JSON for how it was made.

    tree.json           how it was made, and the size and digest of the three below: written last
    problems.parquet    one row a problem
    states.parquet      one row a problem, draw and state, in that order
    arrays.safetensors  what is no number: probabilities of answers, features
    README.md           the card, which its owner may add to
    parts/              while it is being built: see `planners.tree.parts`

See docs/unrollbench.md for the fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from xxhash import xxh3_128

from planners.tree.faults import TreeError
from planners.tree.measuring import Chunk, drawn, several_sizes
from planners.tree.recipe import VERSION, Recipe
from unroller.problem import Problem

Array = np.ndarray[Any, Any]

TREE, PROBLEMS, STATES, ARRAYS, CARD = (
    "tree.json",
    "problems.parquet",
    "states.parquet",
    "arrays.safetensors",
    "README.md",
)
UNDER_WAY = "building.json"
ROWS = 65_536  # of a row group
COSTS = ("model_calls", "tokens", "price")


class FileMade(msgspec.Struct, frozen=True):
    """bytes: its size; digest: xxh3, 128 bits, of its content."""

    bytes: int
    digest: str


class Manifest(msgspec.Struct, frozen=True):
    """tree.json: how the tree was made, the value types in it, and its files."""

    recipe: Recipe
    kinds: list[str]
    files: dict[str, FileMade]


def need_pyarrow() -> Any:
    """The module, or TreeError with how to install it."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise TreeError(
            "trees are kept as parquet, which needs pyarrow: pip install 'unroller[tables]'"
        ) from None
    return pyarrow


# ------------------------------------------------------------------------------------------- writing


def put_aside(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a killed process leaves no half of it under its name."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def clear_asides(folder: Path) -> None:
    """Take away what killed processes had not finished writing."""
    for name in (STATES, PROBLEMS, ARRAYS, CARD, TREE, UNDER_WAY):
        for aside in folder.glob(f".{name}.*"):
            aside.unlink(missing_ok=True)


def as_json(thing: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(thing, order="deterministic"), indent=1) + b"\n"


def write_tree(
    folder: Path, recipe: Recipe, problems: Sequence[Problem], chunks: Sequence[Chunk], card: str
) -> Path:
    """All files of a tree from its chunks in order; tree.json last."""
    kinds = list(dict.fromkeys(kind for chunk in chunks for kind in chunk.kinds))
    table = _states(recipe, chunks, kinds)
    put_aside(folder / STATES, _parquet(table, recipe))
    put_aside(folder / PROBLEMS, _parquet(_problems(problems, recipe.draws), recipe))
    put_aside(folder / ARRAYS, _arrays(chunks))
    put_aside(folder / CARD, card.encode())
    files = {name: _made(folder / name) for name in (STATES, PROBLEMS, ARRAYS)}
    put_aside(folder / TREE, as_json(Manifest(recipe, kinds, files)))
    return folder


def _made(path: Path) -> FileMade:
    content = path.read_bytes()
    return FileMade(len(content), xxh3_128(content).hexdigest())


def _parquet(table: Any, recipe: Recipe) -> bytes:
    import io

    pyarrow = need_pyarrow()
    sink = io.BytesIO()
    told = {"unrollbench": str(recipe.format)}
    pyarrow.parquet.write_table(
        table.replace_schema_metadata(told), sink, compression="zstd", row_group_size=ROWS
    )
    return sink.getvalue()


def _states(recipe: Recipe, chunks: Sequence[Chunk], kinds: list[str]) -> Any:
    pyarrow = need_pyarrow()
    states = len(recipe.layout)
    size = recipe.n * recipe.draws * states
    every = np.arange(size)
    columns: dict[str, Any] = {
        "problem": pyarrow.array((every // (recipe.draws * states)).astype(np.int32)),
        "draw": pyarrow.array((every // states % recipe.draws).astype(np.int16)),
        "state": pyarrow.array((every % states).astype(np.int32)),
    }
    # By name: parts that were read back do not remember another order.
    for name in sorted(set(chunks[0].tables) - {"id", "kind"}):
        flat = np.concatenate([chunk.tables[name].ravel() for chunk in chunks])
        columns[name] = pyarrow.array(flat)
    ids = np.concatenate([chunk.tables["id"].reshape(-1, 16) for chunk in chunks])
    columns["id"] = pyarrow.FixedSizeBinaryArray.from_buffers(
        pyarrow.binary(16), size, [None, pyarrow.py_buffer(np.ascontiguousarray(ids))]
    )
    numbered = np.concatenate([_renumbered(chunk, kinds).ravel() for chunk in chunks])
    columns["kind"] = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(numbered, pyarrow.int16(), mask=numbered < 0), pyarrow.array(kinds, pyarrow.string())
    )
    columns["value"] = pyarrow.array([v for chunk in chunks for v in chunk.values], pyarrow.large_binary())
    return pyarrow.table(columns)


def _renumbered(chunk: Chunk, kinds: list[str]) -> Array:
    """A chunk's value types as numbers of all that are in the tree; -1 for none."""
    numbers = np.array([kinds.index(kind) for kind in chunk.kinds] + [-1], np.int16)
    return numbers[chunk.tables["kind"]]


def _problems(problems: Sequence[Problem], draws: int) -> Any:
    pyarrow = need_pyarrow()
    text = pyarrow.string()
    fields = [_fields(problem) for problem in problems]
    return pyarrow.table(
        {
            "problem": pyarrow.array(range(len(problems)), pyarrow.int32()),
            "task": pyarrow.array([p.task for p in problems], text),
            "question": pyarrow.array([p.question for p in problems], text),
            "prompt": pyarrow.array([p.prompt for p in problems], text),
            "choices": pyarrow.array([list(p.choices) for p in problems], pyarrow.list_(text)),
            "images": pyarrow.array([len(p.images) for p in problems], pyarrow.int32()),
            "cameras": pyarrow.array([len(p.intrinsics) for p in problems], pyarrow.int32()),
            "metadata": pyarrow.array([_readable(p.metadata) for p in problems], text),
            "identities": pyarrow.array(
                [[drawn(p, d).identity for d in range(draws)] for p in problems],
                pyarrow.list_(pyarrow.binary(16)),
            ),
            "fields": pyarrow.array(fields, pyarrow.large_binary()),
        }
    )


def _fields(problem: Problem) -> bytes:
    """What the problem was made with, less its pictures."""
    from unroller.codec import BlobStore, Codec

    left_out = ("images", "intrinsics")
    held = {name: getattr(problem, name) for name in problem.model_fields_set if name not in left_out}
    # Nothing in it has arrays of a kilobyte, so the folder, which would hold them, is never made.
    return Codec(BlobStore(Path(os.devnull))).encode(dict(sorted(held.items())))


def _readable(metadata: Mapping[str, Any]) -> str:
    try:
        return json.dumps(metadata, sort_keys=True)
    except (TypeError, ValueError):  # bytes, or keys that are no text: they are in `fields`
        return json.dumps(repr(metadata))


def _arrays(chunks: Sequence[Chunk]) -> bytes:
    from safetensors.numpy import save

    most = max(chunk.probabilities.shape[-1] for chunk in chunks)
    arrays = {"probabilities": np.concatenate([_wide(chunk.probabilities, most) for chunk in chunks])}
    for name in sorted({name for chunk in chunks for name in chunk.arrays}):
        found = next(chunk.arrays[name] for chunk in chunks if name in chunk.arrays)
        rows = [chunk.arrays.get(name) for chunk in chunks]
        if any(row is not None and row.shape[1:] != found.shape[1:] for row in rows):
            raise TreeError(several_sizes(name))
        lacking = [np.full((len(c.probabilities), *found.shape[1:]), np.nan, np.float32) for c in chunks]
        whole = [none if row is None else row for row, none in zip(rows, lacking, strict=True)]
        arrays[f"probe.{name}"] = np.concatenate(whole)
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _wide(probabilities: Array, most: int) -> Array:
    lacking = most - probabilities.shape[-1]
    return np.pad(probabilities, [(0, 0)] * 3 + [(0, lacking)], constant_values=np.nan)


# ------------------------------------------------------------------------------------------- reading


def read_manifest(folder: str | Path) -> Manifest:
    """tree.json, checked. Raises TreeError."""
    folder = Path(folder)
    try:
        content = (folder / TREE).read_bytes()
    except FileNotFoundError:
        if (folder / UNDER_WAY).is_file():
            raise TreeError(
                f"{folder}: the tree is not finished: run the command that builds it again"
            ) from None
        raise TreeError(
            f"{folder} holds no tree (no {TREE}): unroller tree --out {folder} builds one"
        ) from None
    except OSError as error:
        raise TreeError(f"{folder / TREE} cannot be read: {error.strerror or error}") from None
    try:
        version = msgspec.json.decode(content, type=_Versioned).recipe.format
    except msgspec.MsgspecError as error:
        raise TreeError(f"{folder / TREE} is damaged ({error}): get or build the tree again") from None
    if version != VERSION:
        raise TreeError(
            f"{folder} is a tree of format {version}, and this unroller reads format {VERSION}: build it"
            " again, or install the version that made it"
        )
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise TreeError(f"{folder / TREE} is damaged ({error}): get or build the tree again") from None


class _Format(msgspec.Struct):
    format: int


class _Versioned(msgspec.Struct):
    recipe: _Format


def read_file(folder: Path, manifest: Manifest, name: str) -> bytes:
    """A file of the tree, as it was written. Raises TreeError if it is missing, truncated or another."""
    made = manifest.files.get(name)
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TreeError(
            f"{path} is missing from the tree ({error.strerror or error}): get it again"
        ) from None
    if made is None or len(content) != made.bytes or xxh3_128(content).hexdigest() != made.digest:
        was = "unknown" if made is None else f"{made.bytes:,} bytes"
        raise TreeError(
            f"{path} is truncated or was changed ({len(content):,} bytes, {was} when it was written): get it"
            " again, or build the tree again"
        )
    return content


def read_table(content: bytes) -> Any:
    """A parquet table. On this thread alone: threads of pyarrow's that outlive the interpreter end it with an
    error, and there is little to gain."""
    pyarrow = need_pyarrow()
    source = pyarrow.BufferReader(content)
    return pyarrow.parquet.ParquetFile(source, pre_buffer=False).read(use_threads=False)
