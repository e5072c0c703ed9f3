"""Memory that models take, by device: measured on what is loaded, expected of what is not."""

from __future__ import annotations

import json
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

from unroller.faults import PluginError

ATOMS = (str, bytes, int, float, bool, type(None), type, ModuleType, BuiltinFunctionType)
CONTAINERS = (list, tuple, set, frozenset, deque)
EMPTY = CellType()
BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2}
BITS_OF = {"4bit": 4, "8bit": 8}

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*")
_POWER = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}


def held_bytes(thing: Any) -> dict[str, int]:
    """Bytes by device of every tensor that can be reached from a thing through attributes, containers and
    closures: parameters, buffers, keys and values that are kept. What shares memory counts once."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    sizes: dict[tuple[str, int], int] = {}
    seen: set[int] = set()
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        if isinstance(one, ATOMS) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            if one.device.type != "meta":
                storage = one.untyped_storage()
                sizes[device_name(str(one.device)), storage.data_ptr()] = storage.nbytes()
        elif isinstance(one, Mapping):
            waiting += list(one.values())
        elif isinstance(one, CONTAINERS):
            waiting += list(one)
        elif isinstance(one, FunctionType):
            waiting += [cell.cell_contents for cell in one.__closure__ or () if cell != EMPTY]
        elif isinstance(one, MethodType):
            waiting += [one.__self__, one.__func__]
        else:
            waiting += list(getattr(one, "__dict__", {}).values())
    held: dict[str, int] = {}
    for (device, _), size in sizes.items():
        held[device] = held.get(device, 0) + size
    return held


def device_name(name: str) -> str:
    """One name for one device: cuda is cuda:0, mps:0 is mps."""
    return {"cuda": "cuda:0", "mps:0": "mps", "cpu:0": "cpu"}.get(name, name)


def expected_bytes(backend: Any, settings: Mapping[str, Any]) -> int:
    """About how many bytes the weights of a backend's checkpoint will take: those of its files, converted to
    the dtype that was asked for. 0 for what has no checkpoint."""
    found = getattr(backend, "checkpoint", None)
    files: Iterable[Path] = getattr(found, "weights", ())
    bits = BITS_OF.get(str(settings.get("quantization")))
    return sum(_of_file(file, BYTES_OF.get(str(settings.get("dtype"))), bits) for file in files)


def _of_file(file: Path, width: int | None, bits: int | None) -> int:
    if file.suffix != ".safetensors":
        return file.stat().st_size
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        count = 1
        for side in tensor["shape"]:
            count *= side
        if bits is not None and len(tensor["shape"]) > 1:
            total += count * bits // 8
        elif width is not None and tensor["dtype"] in ("F64", "F32", "F16", "BF16"):
            total += count * width
        else:
            total += end - begin
    return total


def bytes_of(size: Any) -> int:
    """A size in bytes: 8_000_000_000, "8 GB", "7.5GiB". Raises PluginError."""
    if isinstance(size, (int, float)) and not isinstance(size, bool) and 0 < size < 2**63:
        return int(size)
    if isinstance(size, str) and (match := _SIZE.fullmatch(size)):
        number, unit, binary = match.groups()
        count = int(float(number) * (1024 if binary else 1000) ** _POWER[unit])
        if count > 0:
            return count
    raise PluginError(f'{size!r} is no size: write a number of bytes above 0, "8 GB" or "7.5 GiB"')


def shown(size: float) -> str:
    """A size in few letters: 4.3 GB."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
