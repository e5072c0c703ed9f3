"""Values to bytes and back, without pickle: msgpack for what is small, safetensors for arrays.

An array of a kilobyte or more is written once, under the hash of its content, as a safetensors file; the
record holds a reference. Smaller ones go into the record itself. Reading gives back numpy arrays or torch
tensors, as they were; what is read is data, never code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from unroller.arrays import Array, dtype_name, is_array, is_torch
from unroller.cost import Cost
from unroller.faults import JournalError
from unroller.values import VALUE_TYPES, Value
from unroller.workspace import Stored

INLINE_BYTES = 1024
_ARRAY = 1  # msgpack extension code


class _Inline(msgspec.Struct, array_like=True):
    library: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


class _Blob(msgspec.Struct, array_like=True):
    library: str
    dtype: str
    shape: tuple[int, ...]
    name: str


class BlobStore:
    """Arrays in a folder, each once, named by the hash of its content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unsynced: list[Path] = []
        self._damaged: set[str] = set()

    def put(self, array: np.ndarray[Any, Any]) -> str:
        """Write a contiguous array, unless it is there. Returns its name. Raises OSError."""
        from safetensors.numpy import save

        name = _name_of(array)
        path = self.folder / f"{name}.safetensors"
        if name in self._damaged or not _is_whole(path, array.nbytes):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Written aside and moved into place: a killed process leaves no half a blob under its name.
            aside = path.with_suffix(f".{os.getpid()}.tmp")
            try:
                aside.write_bytes(save({"array": array}))
                aside.replace(path)
                self._unsynced.append(path)
                self._damaged.discard(name)
            except OSError:
                aside.unlink(missing_ok=True)
                raise
        return name

    def get(self, name: str) -> np.ndarray[Any, Any]:
        """Raises JournalError when the blob is gone or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self.folder / f"{Path(name).name}.safetensors"
        try:
            array: np.ndarray[Any, Any] = cast(Any, load(path.read_bytes()))["array"]
        except (OSError, SafetensorError, KeyError) as error:
            self._damaged.add(name)
            raise JournalError(f"{path}: the array is missing or damaged ({error})") from None
        if _name_of(array) != name:
            self._damaged.add(name)
            raise JournalError(f"{path}: the array is damaged (its content is not what was written)")
        return array

    def sync(self) -> None:
        """fsync the blobs written since the last time, and the folder that names them."""
        if not self._unsynced:
            return
        while self._unsynced:
            _fsync(self._unsynced[-1])
            self._unsynced.pop()
        _fsync(self.folder)


def _fsync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _name_of(array: np.ndarray[Any, Any]) -> str:
    shape = f"{array.dtype}{array.shape}".encode()
    return xxh3_128_hexdigest(shape + xxh3_128_digest(array.data if array.size else b""))


def _is_whole(path: Path, size: int) -> bool:
    """Whether the file is there and holds as much as it should: a power cut can leave it short."""
    try:
        return path.stat().st_size > size
    except FileNotFoundError:
        return False


class Codec:
    """Encodes and decodes values, entries and events against one blob store."""

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._outgoing)
        self.encode: Callable[[Any], bytes] = self._encoder.encode

    def _outgoing(self, thing: Any) -> Any:
        if is_array(thing):
            return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(self._packed(thing)))
        if isinstance(thing, np.generic):
            return cast("np.generic[Any]", thing).item()
        if hasattr(thing, "model_dump"):  # intrinsics in a problem
            return thing.model_dump()
        if isinstance(thing, Stored):
            return thing.load()
        raise TypeError(f"{type(thing).__name__} cannot be journaled: use plain data, arrays and values")

    def _packed(self, array: Array) -> _Inline | _Blob:
        library, dtype = ("torch" if is_torch(array) else "numpy"), dtype_name(array)
        shape = tuple(int(n) for n in array.shape)
        host = np.ascontiguousarray(_bits(array))
        if host.nbytes < INLINE_BYTES:
            return _Inline(library, dtype, shape, host.tobytes())
        return _Blob(library, dtype, shape, self.blobs.put(host))

    def _incoming(self, code: int, data: memoryview) -> Any:
        if code != _ARRAY:
            raise msgspec.DecodeError(f"unknown extension {code}")
        packed: list[Any] = msgspec.msgpack.decode(data, type=list[Any])
        library, dtype, shape, content = packed
        if isinstance(content, str):
            host = self.blobs.get(content)
        else:
            host = np.frombuffer(content, _storage(dtype)).reshape(shape)
        return _as_was(host, library, dtype, tuple(shape))

    def value(self, raw: bytes | msgspec.Raw) -> Any:
        """A value (or a probe's number or array) from its bytes; an `Unread` if nobody knows its type.

        Raises msgspec.ValidationError for damaged data.
        """
        plain = msgspec.msgpack.decode(raw, ext_hook=self._incoming)
        return revived(plain)

    def fields(self, raw: msgspec.Raw) -> dict[str, Any]:
        """The fields of a problem, its pictures and pose as values."""
        plain = msgspec.msgpack.decode(raw, ext_hook=self._incoming)
        if "images" in plain:
            plain["images"] = tuple(map(revived, plain["images"]))
        if "pose" in plain:
            plain["pose"] = revived(plain["pose"])
        return plain

    def decode_pair(self, raw: bytes) -> tuple[Any, Cost]:
        """A value and its cost. Raises LookupError for a type that nobody knows."""
        plain, cost = msgspec.msgpack.decode(raw, ext_hook=self._incoming)
        value = revived(plain)
        if isinstance(value, Unread):
            raise LookupError(value.words())
        return value, msgspec.convert(cost, Cost)

    def stored(self, raw: msgspec.Raw) -> Any:
        """A value that is decoded when asked for, its type known now; a probe's result at once."""
        try:
            tag = msgspec.msgpack.decode(raw, type=_Tagged).type
        except msgspec.MsgspecError:
            return self.value(raw)
        kept = bytes(raw)
        several = len(VALUE_TYPES.get(tag, ())) > 1
        names = msgspec.msgpack.decode(raw, type=dict[str, msgspec.Raw]) if several else ()
        return Stored(value_type(tag, names), lambda: self.value(kept))


class _Tagged(msgspec.Struct):
    type: str


class Unread(Value, frozen=True, eq=False):
    """Stands in for a value whose type the running program does not know: `name` is the type's name."""

    name: str

    def words(self) -> str:
        return f"a {self.name}, whose type is not registered here"


def revived(plain: Any) -> Any:
    """Plain data as the tagged Value it was encoded from; anything else as it is."""
    if isinstance(plain, dict) and "type" in plain:
        fields = cast("dict[str, Any]", plain)
        kind = value_type(str(fields["type"]), fields)
        if kind is Unread:
            return Unread(str(fields["type"]))
        return msgspec.convert(fields, kind, dec_hook=_keep, strict=False)
    return cast(Any, plain)


def _keep(kind: type, thing: Any) -> Any:
    return thing  # arrays are what they are; their shape and dtype are checked when the value is made


def value_type(tag: str, names: Iterable[str] = ()) -> type[Value]:
    """The Value type of this name: ours, a plug-in's, or one defined in the running program. Of several, the
    newest that has just these fields. `Unread` if there is none: a name in a file imports nothing.
    """
    known = VALUE_TYPES.get(tag)
    if not known:
        from unroller.registry import load, registered

        return load("values", tag) if tag in registered("values") else Unread
    fields = set(names) - {"type"}
    fitting = (kind for kind in reversed(known) if set(kind.__struct_fields__) == fields)
    return next(fitting, known[-1])


_BIT_TYPES = {"bfloat16": "int16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


def _bits(array: Array) -> np.ndarray[Any, Any]:
    """The array on the host; types that numpy lacks as integers of the same width."""
    if isinstance(array, np.ndarray):
        return cast("np.ndarray[Any, Any]", array)
    tensor = cast(Any, array).detach().cpu()
    bits = _BIT_TYPES.get(dtype_name(array))
    if bits is not None:
        tensor = tensor.view(getattr(sys.modules["torch"], bits))
    return tensor.numpy()


def _storage(dtype: str) -> np.dtype[Any]:
    return np.dtype(_BIT_TYPES.get(dtype, dtype))


def _as_was(host: np.ndarray[Any, Any], library: str, dtype: str, shape: tuple[int, ...]) -> Any:
    if library == "numpy":
        return host.reshape(shape)
    torch: Any = import_module("torch")
    tensor = torch.from_numpy(np.array(host)).reshape(shape)
    return tensor.view(getattr(torch, dtype)) if dtype in _BIT_TYPES else tensor
