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
from operator import index
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from xxhash import xxh3_128_digest, xxh3_128_hexdigest

from unroller.arrays import Array, dtype_name, is_array, is_torch
from unroller.cost import Cost
from unroller.faults import JournalError, PluginError
from unroller.values import VALUE_TYPES, CameraPose, Image, Value
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
            item = cast("np.generic[Any]", thing).item()
            return float(cast(Any, item)) if isinstance(item, np.generic) else item  # a longdouble stays one
        if hasattr(thing, "model_dump"):  # intrinsics in a problem
            return thing.model_dump()
        if isinstance(thing, Stored):
            return thing.load()
        raise TypeError(f"{type(thing).__name__} cannot be journaled: use plain data, arrays and values")

    def _packed(self, array: Array) -> _Inline | _Blob:
        library, dtype = ("torch" if is_torch(array) else "numpy"), dtype_name(array)
        shape = tuple(int(n) for n in array.shape)
        host = np.ascontiguousarray(_bits(array))
        kind = host.dtype
        if kind.kind not in _KINDS or not kind.itemsize:
            raise TypeError(f"an array of {dtype} cannot be journaled: use numbers, dates or text")
        if host.nbytes < INLINE_BYTES:
            return _Inline(library, dtype, shape, host.tobytes())
        if not kind.isnative:  # safetensors knows one byte order
            host = host.astype(kind.newbyteorder("="))
        if kind.kind not in "biuf" or kind.itemsize > 8:  # … and no longdouble, dates or text
            host = host.reshape(-1).view(np.uint8)
        return _Blob(library, dtype, shape, self.blobs.put(host))

    def _incoming(self, code: int, data: memoryview) -> Any:
        if code != _ARRAY:
            raise msgspec.DecodeError(f"unknown extension {code}")
        packed: list[Any] = msgspec.msgpack.decode(data, type=list[Any])
        try:
            library, dtype, shape, content = packed
            shape, storage = tuple(map(index, shape)), _storage(dtype)
            if isinstance(content, str):
                host = _as_stored(self.blobs.get(content), storage)
            else:
                host = np.frombuffer(content, storage)
            if any(n < 0 for n in shape):
                raise ValueError(f"an array of shape {shape}")
            return _as_was(host, library, dtype, shape)
        except JournalError:
            raise
        except ImportError as error:
            raise JournalError(f"a tensor cannot be read here: {error}") from None
        except Exception as error:  # numpy and torch raise whatever they like
            raise JournalError(f"the array is damaged: {error}") from None

    def value(self, raw: bytes | msgspec.Raw) -> Any:
        """A value (or a probe's number or array) from its bytes; an `Unread` if nobody knows its type.

        Raises JournalError for damaged data.
        """
        try:
            return revived(msgspec.msgpack.decode(raw, ext_hook=self._incoming))
        except (JournalError, PluginError):
            raise
        except Exception as error:
            raise JournalError(f"damaged value: {error}") from None

    def fields(self, raw: bytes | msgspec.Raw) -> dict[str, Any]:
        """The fields of a problem, its pictures and pose as values. Raises JournalError for damaged data:
        a picture is one that was journaled, never the path of a file."""
        check_fields(raw)
        try:
            plain: dict[str, Any] = msgspec.msgpack.decode(raw, ext_hook=self._incoming)
            if "images" in plain:
                plain["images"] = tuple(map(revived, plain["images"]))
            if "pose" in plain:
                plain["pose"] = revived(plain["pose"])
        except (JournalError, PluginError):
            raise
        except Exception as error:
            raise JournalError(f"damaged record of a problem: {error}") from None
        if not all(isinstance(image, Image) for image in plain.get("images", ())):
            raise JournalError("damaged record of a problem: not a picture among its images")
        if not isinstance(plain.get("pose"), CameraPose | None):
            raise JournalError("damaged record of a problem: its pose is none")
        return plain

    def encode_mended(self, thing: Any) -> bytes:
        """Encode what `encode` could not: half a character is spelled out (\\udc80), a value that cannot be
        encoded leaves an `Unread` in its place, anything else its repr. Raises OSError when the disk is at
        fault."""
        return self.encode(self._mended(thing))

    def _mended(self, thing: Any) -> Any:
        if isinstance(thing, Value):
            return self._mended_value(thing)
        if isinstance(thing, msgspec.Struct):
            value = self._mended_value
            return _tagged(thing, lambda name, held: (value if name == "held" else self._mended)(held))
        mended = _spelled(thing, self._mended)
        return mended if self._fails(mended) is None else _spelled(repr(thing)[:200])

    def _mended_value(self, held: Any) -> Any:
        if isinstance(held, Stored):
            held = held.load()
        try:
            mended = _tagged(held, lambda _, part: _spelled(part)) if isinstance(held, Value) else held
            error = self._fails(mended)
        except RecursionError as too_deep:
            mended, error = held, too_deep
        if error is None:
            return mended
        why = f"{type(error).__name__}: {error}"[:500]
        return Unread(_spelled(type(held).__name__), _spelled(why))

    def _fails(self, thing: Any) -> Exception | None:
        try:
            self.encode(thing)
        except OSError:
            raise
        except Exception as error:
            return error
        return None

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


class _Fields(msgspec.Struct):
    """What is looked at of a problem before its pictures are read."""

    images: tuple[_Tagged, ...] = ()
    pose: _Tagged | None = None


def check_fields(raw: bytes | msgspec.Raw) -> int:
    """How many pictures the fields of a problem hold. Raises JournalError unless they are fields, the
    pictures and the pose being values."""
    try:
        return len(msgspec.msgpack.decode(raw, type=_Fields).images)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise JournalError(f"damaged record of a problem: {error}") from None


class Unread(Value, frozen=True, eq=False):
    """Stands in for a value whose type the running program does not know, or (`why`) for one that could not
    be journaled: `name` is the type's name."""

    name: str
    why: str = ""

    def words(self) -> str:
        if self.why:
            return f"a {self.name}, which could not be journaled ({self.why})"
        return f"a {self.name}, whose type is not registered here"


def revived(plain: Any) -> Any:
    """Plain data as the tagged Value it was encoded from; anything else as it is."""
    if isinstance(plain, dict) and "type" in plain:
        fields = cast("dict[str, Any]", plain)
        kind = value_type(str(fields["type"]), fields)
        if kind is Unread and fields["type"] != Unread.__name__:
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


def _tagged(thing: msgspec.Struct, mended: Callable[[str, Any], Any]) -> dict[str, Any]:
    """A struct as the map it is encoded as, its fields `mended`."""
    fields = msgspec.structs.fields(thing)
    made = {f.encode_name: mended(f.name, getattr(thing, f.name)) for f in fields}
    config = thing.__struct_config__
    return made if config.tag is None else {str(config.tag_field): config.tag, **made}


def _spelled(thing: Any, otherwise: Callable[[Any], Any] | None = None) -> Any:
    """Text with its half characters spelled out, in lists and maps too; what is in them is mended by
    `otherwise`, or likewise."""
    if isinstance(thing, str):
        return thing.encode("utf-8", "backslashreplace").decode()
    each = otherwise or _spelled
    if isinstance(thing, dict):
        pairs = cast("dict[Any, Any]", thing).items()
        return {_spelled(key) if isinstance(key, str) else key: each(held) for key, held in pairs}
    if isinstance(thing, (list, tuple)):
        return [each(held) for held in cast("list[Any]", thing)]
    return thing


_KINDS = frozenset("biufcmMSU")  # of numpy's types: those whose bytes are their content
_BIT_TYPES = {"bfloat16": "int16"} | dict.fromkeys(
    ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), "uint8"
)


def _bits(array: Array) -> np.ndarray[Any, Any]:
    """The array on the host; types that numpy lacks as integers of the same width."""
    if isinstance(array, np.ndarray):
        return cast("np.ndarray[Any, Any]", array)
    tensor = cast(Any, array).detach().cpu().resolve_conj().resolve_neg()
    bits = _BIT_TYPES.get(dtype_name(array))
    if bits is not None:
        tensor = tensor.view(getattr(sys.modules["torch"], bits))
    return tensor.numpy()


def _storage(dtype: str) -> np.dtype[Any]:
    storage = np.dtype(_BIT_TYPES.get(dtype, dtype))
    if storage.kind not in _KINDS:
        raise TypeError(f"an array of {dtype}")
    return storage


def _as_stored(host: np.ndarray[Any, Any], storage: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """What `_packed` gave to the blobs, as it was before."""
    native = storage.newbyteorder("=")
    if host.dtype != native:
        if host.dtype != np.uint8:
            raise ValueError(f"{host.dtype} where {storage} was written")
        host = host.reshape(-1).view(native)
    return host.astype(storage, copy=False)


def _as_was(host: np.ndarray[Any, Any], library: str, dtype: str, shape: tuple[int, ...]) -> Any:
    if library == "numpy":
        return host.reshape(shape)
    torch: Any = import_module("torch")
    tensor = torch.from_numpy(np.array(host)).reshape(shape)
    return tensor.view(getattr(torch, dtype)) if dtype in _BIT_TYPES else tensor
