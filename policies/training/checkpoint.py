"""A training as it stands, on disk: what was killed goes on from there with the same curve.

    checkpoint.json               what is trained, how far it is, and the state of its random generator
    arrays-….safetensors          weights, and what the optimiser remembers
    curve.csv                     a row every few updates

The curve is written first and checkpoint.json last, each whole or not at all; rows of the curve beyond the
checkpoint are left out when it is gone on with.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from policies.files import SavedPolicyError, read_arrays, remove_others, replace_file, write_arrays

FORMAT = 1
FOLDER, CHECKPOINT, CURVE = "training", "checkpoint.json", "curve.csv"
LONGEST = 16 << 20

Array = np.ndarray[Any, Any]
Row = dict[str, float]


class Checkpoint(msgspec.Struct):
    """made: what the training is, which must be equal to go on; update, steps: how far it is; random: the
    state of the generator; held: numbers that a trainer keeps besides; arrays: the file's name; rows: of the
    curve; seconds: that were spent on it."""

    format: int
    made: dict[str, Any]
    update: int
    steps: int
    random: dict[str, Any]
    held: dict[str, float]
    arrays: str
    rows: int
    seconds: float


def write(folder: Path, point: Checkpoint, arrays: dict[str, Array], rows: list[Row]) -> None:
    """Write it down. Raises SavedPolicyError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / CURVE, _csv(rows))
        name = write_arrays(folder, arrays)
        whole = msgspec.structs.replace(point, arrays=name, rows=len(rows))
        replace_file(folder / CHECKPOINT, msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
        remove_others(folder, name)
    except OSError as error:
        raise SavedPolicyError(f"a training cannot be kept in {folder}: {error}") from None


def read(folder: Path, made: dict[str, Any]) -> tuple[Checkpoint, dict[str, Array], list[Row]] | None:
    """The checkpoint of the very same training, its arrays and the curve so far; None where there is none.

    Raises SavedPolicyError for one of another training, and for one that is damaged.
    """
    file = folder / CHECKPOINT
    again = f"delete {folder} to begin anew, or name another folder"
    try:
        if file.stat().st_size > LONGEST:
            raise SavedPolicyError(f"{file} is larger than any checkpoint: {again}")
        point = msgspec.json.decode(file.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SavedPolicyError(f"{file} cannot be read ({error.strerror}): {again}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SavedPolicyError(f"{file} is damaged or was cut short ({error}): {again}") from None
    if point.format != FORMAT:
        raise SavedPolicyError(
            f"{file} has the format {point.format}, and this version reads {FORMAT}: {again}"
        )
    # As it is read back: numbers and lists are what JSON makes of them.
    now = msgspec.json.decode(msgspec.json.encode(made))
    different = sorted(key for key in {*now, *point.made} if now.get(key) != point.made.get(key))
    if different:
        raise SavedPolicyError(
            f"{folder} holds another training (it differs in {', '.join(different)}): {again}"
        )
    return point, read_arrays(folder, point.arrays), _rows(folder / CURVE, point.rows, again)


def _csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: repr(number) for name, number in row.items()} for row in rows)
    return text.getvalue().encode()


def _rows(file: Path, count: int, again: str) -> list[Row]:
    try:
        text = file.read_text("utf-8")
        found = [_numbers(row) for row in csv.DictReader(io.StringIO(text))]
    except (OSError, ValueError, TypeError) as error:
        raise SavedPolicyError(f"{file} cannot be read ({error}): {again}") from None
    if len(found) < count:
        raise SavedPolicyError(f"{file} was cut short: {again}")
    return found[:count]


def _numbers(row: dict[str, str | None]) -> Row:
    if None in row.values():
        raise ValueError("a row is not whole")
    return {name: int(said) if said.isdigit() else float(said) for name, said in row.items() if said}
