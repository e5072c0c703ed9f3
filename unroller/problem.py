"""The problem x: what is asked, and of which pictures.

Every field has a digest of its content, made once and only when something that was declared reads it;
with the digests of context entries they make up a value's provenance.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Annotated, Any, Literal, cast

import msgspec
import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, field_validator
from xxhash import xxh3_128, xxh3_128_digest

from unroller.arrays import dtype_name, is_array, to_numpy
from unroller.faults import ImageError, ProblemError, ValueCheckError
from unroller.values import CameraPose, Image, Value, arrays_of

MAX_TEXT = 32_768
"""Longest question, prompt or choice, in characters."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class Intrinsics(BaseModel):
    """A pinhole camera: focal lengths and principal point in pixels, pixel centres at +0.5.

    source: "given" by the user, read from "exif", or a stated "default".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    fx: float
    fy: float
    cx: float
    cy: float
    source: Literal["given", "exif", "default"] = "given"

    @field_validator("fx", "fy")
    @classmethod
    def _focal(cls, focal: float) -> float:
        if not (math.isfinite(focal) and focal > 0):
            raise ValueError(f"a focal length of {focal} makes the intrinsics singular: give pixels > 0")
        return focal

    @field_validator("cx", "cy")
    @classmethod
    def _centre(cls, centre: float) -> float:
        if not math.isfinite(centre):
            raise ValueError(f"a principal point at {centre} is not finite")
        return centre

    @property
    def matrix(self) -> np.ndarray[Any, Any]:
        """(3, 3) K."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @classmethod
    def of(cls, given: Any) -> Intrinsics:
        """From intrinsics, a mapping, or a 3 × 3 matrix without skew. Raises ProblemError."""
        if isinstance(given, cls):
            return given
        try:
            if isinstance(given, Mapping):
                return cls(**cast("dict[str, Any]", given))
            k = np.asarray(given, dtype=np.float64)
        except ValidationError as error:
            raise ProblemError(_plain(error)) from None
        except (TypeError, ValueError):
            raise ProblemError(f"not intrinsics: {given!r}") from None
        if k.shape != (3, 3) or not np.isfinite(k).all():
            raise ProblemError(f"intrinsics must be a finite 3 × 3 matrix, not {k.tolist()}")
        if abs(np.linalg.det(k)) < 1e-9:
            raise ProblemError("the intrinsics matrix is singular: focal lengths must be above 0")
        k = k / k[2, 2] if k[2, 2] else k
        if abs(k[0, 1]) > 1e-6 * abs(k[0, 0]) or np.abs([k[1, 0], k[2, 0], k[2, 1]]).max() > 1e-9:
            raise ProblemError("intrinsics with skew or rotation are not supported: undistort the photo")
        try:
            return cls(fx=k[0, 0], fy=k[1, 1], cx=k[0, 2], cy=k[1, 2])
        except ValidationError as error:
            raise ProblemError(_plain(error)) from None

    @classmethod
    def default(cls, width: int, height: int, fov_degrees: float = 60.0) -> Intrinsics:
        """The stated default: `fov_degrees` across the longer side, principal point in the middle."""
        focal = 0.5 * max(width, height) / math.tan(math.radians(fov_degrees) / 2)
        return cls(fx=focal, fy=focal, cx=width / 2, cy=height / 2, source="default")


def _as_image(given: Any) -> Image:
    if isinstance(given, Image):
        return given
    from unroller.images import from_pillow, open_image  # Pillow is imported when there is a picture

    if isinstance(given, (str, os.PathLike)):
        return open_image(cast("str | os.PathLike[str]", given))
    if is_array(given):
        try:
            return Image(given)
        except ValueCheckError as error:
            raise ImageError(f"{error}; for anything but 8-bit RGB give a path or a Pillow image") from None
    if hasattr(given, "convert") and hasattr(given, "size"):  # a Pillow image
        return from_pillow(given)
    raise ProblemError(f"not a picture: {type(given).__name__}; give a path, an array or an Image")


def _as_images(given: Any) -> tuple[Image, ...]:
    if isinstance(given, (list, tuple)):
        return tuple(map(_as_image, cast("Sequence[Any]", given)))
    return (_as_image(given),)


def _as_cameras(given: Any) -> tuple[Intrinsics | None, ...]:
    if given is None:
        return ()
    if isinstance(given, (Intrinsics, Mapping)) or _is_matrix(given):
        given = [given]
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise ValueError(f"give one camera a photo, or one for all, not {given!r}")
    return tuple(None if one is None else Intrinsics.of(one) for one in cast("Iterable[Any]", given))


def _is_matrix(given: Any) -> bool:
    if is_array(given):
        return given.ndim == 2
    rows = cast("Sequence[Any]", given if isinstance(given, (list, tuple)) else ())
    return bool(rows) and all(isinstance(r, (list, tuple)) and np.ndim(cast(Any, r)) == 1 for r in rows)


def _checked_text(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError(f"{len(text):,} characters is over the limit of {MAX_TEXT:,}: shorten it")
    if found := _CONTROL.search(text):
        raise ValueError(f"control character U+{ord(found[0]):04X} at position {found.start()}: remove it")
    if not text.isascii() and (found := _SURROGATE.search(text)):
        raise ValueError(f"half a character at position {found.start()}: the text was cut or misread")
    return text


def _some_text(text: Any) -> Any:
    if not isinstance(text, str):  # bytes too, which pydantic would decode, unchecked
        raise ValueError(f"must be a str, not {type(text).__name__}")
    if not text.strip():
        raise ValueError("is empty: write something, or leave it out")
    return _checked_text(text)


def _as_choices(given: Any) -> Any:
    if isinstance(given, str):
        raise ValueError(f"choices must be a list, not the one string {given!r}")
    if not isinstance(given, (list, tuple)):
        return given
    choices = [_some_text(choice) for choice in cast("Sequence[Any]", given)]
    for choice in choices:
        if choices.count(choice) > 1:
            raise ValueError(f"the choice {choice!r} is there twice")
    return tuple(choices)


def _as_metadata(given: Any) -> Any:
    try:
        _encode(given)
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"must be plain data (numbers, strings, lists, dicts): {error}") from None
    return deepcopy(given)  # what its maker changes afterwards is not this problem's


Words = Annotated[str, BeforeValidator(_some_text)]


class Problem(BaseModel):
    """x: one thing to be answered.

    task: the name of a registered decoder. images: paths, arrays (H, W, 3) uint8, Pillow images or
    `Image` values. question, prompt, choices: text, bounded and free of control characters. intrinsics:
    one a photo, or one for all, as `Intrinsics`, mapping or 3 × 3 matrix; where none is given the file's
    EXIF is used, and where that says nothing the backend states its default. pose: a camera asked for, in
    the first photo's frame. look: named directions asked for. seed: where stochastic primitives start.
    metadata: plain data that primitives may read by declaring "metadata".

    Raises ProblemError (ImageError for pictures), always with what to do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

    task: str
    images: tuple[Image, ...] = ()
    question: Words | None = None
    prompt: Words | None = None
    choices: Annotated[tuple[str, ...], BeforeValidator(_as_choices)] = ()
    intrinsics: Annotated[tuple[Intrinsics | None, ...], BeforeValidator(_as_cameras)] = ()
    pose: CameraPose | None = None
    look: tuple[str, ...] = ()
    seed: int = 0
    metadata: Annotated[dict[str, Any], BeforeValidator(_as_metadata)] = {}

    def __init__(self, **fields: Any) -> None:
        if "images" in fields:  # outside pydantic, so that an ImageError arrives as one
            fields["images"] = _as_images(fields["images"])
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ProblemError(_plain(error)) from None
        given = len(self.intrinsics)
        if given not in (0, 1, len(self.images)):
            raise ProblemError(f"{given} intrinsics for {len(self.images)} pictures: give one each, or one")
        if not -(2**63) <= self.seed < 2**64:
            raise ProblemError(f"a seed of {self.seed} does not fit 64 bits")

    def __repr__(self) -> str:
        fields = (name for name in FIELDS if name in self.model_fields_set and name != "images")
        said = [f"{name}={getattr(self, name)!r:.80}" for name in fields]
        if self.images:
            said.append("images=" + ", ".join("{} x {}".format(*image.size) for image in self.images))
        return f"Problem({', '.join(said)})"

    __str__ = __repr__

    @field_validator("task")
    @classmethod
    def _named(cls, task: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", task):
            raise ValueError(f"{task!r} is no task name: use lower-case letters, digits and _")
        return task

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Problem:
        """This problem but for `update`, checked and with digests of its own. (pydantic's copy would keep
        the digests of this one, and the memo would answer for it.)"""
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**(deepcopy(fields) if deep else fields), **(update or {})})

    def camera(self, photo: int) -> Intrinsics | None:
        """Intrinsics of a photo: given, else from its EXIF, else None."""
        if self.intrinsics:
            known = self.intrinsics[photo if len(self.intrinsics) > 1 else 0]
            if known is not None:
                return known
        focal = self.images[photo].focal_px
        if focal is None:
            return None
        width, height = self.images[photo].size
        return Intrinsics(fx=focal, fy=focal, cx=width / 2, cy=height / 2, source="exif")

    def digest(self, field: str) -> bytes:
        """16 bytes (xxh3) of one field's content, made once."""
        if field not in self.__pydantic_fields_set__:
            return _ABSENT  # every default is nothing, and has one digest
        made = self._made()
        found = made.get(field)
        if found is None:
            found = made[field] = _digest_of(getattr(self, field))
        return found

    def digests(self, fields: tuple[str, ...]) -> bytes:
        """16 bytes of several fields together, made once."""
        made = self._made()
        found = made.get(fields)
        if found is None:
            given, parts = self.__pydantic_fields_set__, b""
            for field in fields:
                if field in given and (digest := self.digest(field)) != _ABSENT:
                    parts += _NAMED[field] + digest
            found = made[fields] = xxh3_128_digest(parts)
        return found

    @cached_property
    def identity(self) -> bytes:
        """16 bytes of everything: equal for problems with equal content."""
        return self.digests(FIELDS)

    def _made(self) -> dict[str | tuple[str, ...], bytes]:
        """The digests made so far. Every new problem needs them: a cached_property would take a lock."""
        kept = vars(self)
        digests = kept.get("_digests")
        if digests is None:
            digests = kept["_digests"] = cast("dict[str | tuple[str, ...], bytes]", {})
        return digests

    # One constructor a task of ours; a plug-in's task is Problem(task="name", ...).

    @classmethod
    def understanding(cls, *images: Any, question: str, **fields: Any) -> Problem:
        """A question about pictures."""
        return cls(task="understanding", images=images, question=question, **fields)

    @classmethod
    def spatial(cls, *images: Any, question: str, **fields: Any) -> Problem:
        """A question about the space that photos show."""
        return cls(task="spatial", images=images, question=question, **fields)

    @classmethod
    def relative_pose(cls, first: Any, second: Any, **fields: Any) -> Problem:
        """How did the camera move from the first photo to the second? (task "pose")"""
        return cls(task="pose", images=(first, second), **fields)

    @classmethod
    def depth(cls, *images: Any, **fields: Any) -> Problem:
        """How far is each pixel of the first photo? A second photo of the scene may help."""
        return cls(task="depth", images=images, **fields)

    @classmethod
    def novel_view(cls, *images: Any, **fields: Any) -> Problem:
        """What would be seen from `pose`, or looking in the directions `look`?"""
        return cls(task="novel_view", images=images, **fields)

    @classmethod
    def generation(cls, prompt: str, **fields: Any) -> Problem:
        """A picture from words."""
        return cls(task="generation", prompt=prompt, **fields)

    @classmethod
    def video(cls, prompt: str, *start: Any, **fields: Any) -> Problem:
        """A clip from words, and from its first frame if that is given."""
        return cls(task="video", prompt=prompt, images=start, **fields)

    @classmethod
    def editing(cls, image: Any, prompt: str, **fields: Any) -> Problem:
        """A picture changed as the words say."""
        return cls(task="editing", images=(image,), prompt=prompt, **fields)


FIELDS = tuple(Problem.model_fields)
_NAMED = {field: field.encode().ljust(16, b"\0") for field in FIELDS}
"""What a primitive can declare to read of x; "seed" is read by declaring `stochastic=True`."""


def _digest_of(content: Any) -> bytes:
    if type(content) is str:
        return xxh3_128_digest(b"s" + content.encode("utf-8", "surrogatepass"))
    if content is None or content == () or content == {} or content == 0:
        return _ABSENT
    if isinstance(content, tuple):
        items = cast("tuple[Any, ...]", content)
        if isinstance(items[0], Value):
            return xxh3_128_digest(b"".join(_digest_of_value(item) for item in items))
        if any(isinstance(item, BaseModel) for item in items):
            return xxh3_128_digest(_encode([item and item.model_dump() for item in items]))
    if isinstance(content, Value):
        return _digest_of_value(content)
    return xxh3_128_digest(_encode(content))


_ABSENT = bytes(16)


def _digest_of_value(value: Value) -> bytes:
    """Content digest of a value that stands in x: its arrays are read through once."""
    hasher = xxh3_128(type(value).__name__.encode())
    arrays = dict(arrays_of(value))
    for field in value.__struct_fields__:
        if field == "source" and isinstance(value, Image):
            continue  # where a file lay does not change what it shows
        array = arrays.get(field)
        if array is None:
            hasher.update(_encode(getattr(value, field)))
        else:
            held = np.ascontiguousarray(to_numpy(array))
            hasher.update(f"{dtype_name(array)}{held.shape}".encode())
            hasher.update(held.data if held.size else b"")
    return hasher.digest()


def _plain(error: ValidationError) -> str:
    """pydantic's report as one sentence a field, without its links and types."""
    parts: list[str] = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        message = str(item["msg"]).removeprefix("Value error, ")
        parts.append(f"{where}: {message}" if where else message)
    return "; ".join(parts)
