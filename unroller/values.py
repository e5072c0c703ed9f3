"""The types of context.

A value is one typed piece of C_t. It states its units, frame and convention, and checks its metadata
(shape, dtype, range of scalars) when it is made; whether its numbers are finite is checked by the
executor, once a batch. Arrays are held by reference, on the device they were made on.

Conventions throughout: OpenCV camera axes (+x right, +y down, +z forward), metres unless a `unit` says
otherwise, pixel centres at +0.5, depth is z and not ray length, poses are camera-to-world.

A plug-in adds a type by subclassing `Value`, a frozen msgspec struct:

    class Heading(Value, frozen=True, eq=False):
        degrees: float

        def words(self): return f"heading {self.degrees:.0f} degrees"
"""

from __future__ import annotations

import math
import re
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Union, cast, get_args, get_origin

import msgspec
import numpy as np

from unroller.arrays import Array, dtype_name, is_array, is_floating, to_numpy
from unroller.faults import ValueCheckError
from unroller.rendering import (
    ImageSegment,
    Segment,
    TextSegment,
    TokenSegment,
    escape,
)

Vector3 = tuple[float, float, float]


VALUE_TYPES: dict[str, list[type[Value]]] = {}
"""Every value type of the running program by name, the newest last. A class that is defined again in the same
place (a notebook cell run twice) takes the place of the old one; nobody takes the name of one of ours."""


class Value(msgspec.Struct, frozen=True, eq=False, tag=True):
    """Base of every value.

    composes: "append" or "replace". Both keep history. "replace" changes what stands: of the values with
    the same `slot`, only the newest is in `current()`.
    """

    composes: ClassVar[Literal["append", "replace"]] = "append"

    def __init_subclass__(cls, **config: Any) -> None:
        super().__init_subclass__(**config)
        named = VALUE_TYPES.setdefault(cls.__name__, [])
        place = (cls.__module__, cls.__qualname__)
        named[:] = [kind for kind in named if (kind.__module__, kind.__qualname__) != place]
        named.insert(len(named) if not named or named[-1].__module__ != __name__ else 0, cls)

    @property
    def slot(self) -> Any:
        """What a replacing value replaces: values of one type with equal slots supersede each other."""
        return None

    def words(self) -> str:
        """The value in plain words: what a model without eyes reads, and what the terminal shows."""
        return type(self).__name__

    def __str__(self) -> str:
        return self.words()

    def render(self) -> tuple[Segment, ...]:
        """The value as segments for a model. Default: its words, escaped."""
        return (TextSegment(escape(self.words())),)

    def difference(self, other: Value) -> float:
        """How far another value of this type is from this one, 0 (the same) to 1.

        The contribution of a context entry is how far the output moves when the entry is left out.
        """
        return 0.0 if self == other else 1.0

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(
            _same(getattr(self, name), getattr(other, name)) for name in self.__struct_fields__
        )

    __hash__ = object.__hash__


def _same(a: Any, b: Any) -> bool:
    if is_array(a) or is_array(b):
        if type(a) is not type(b) or a.shape != b.shape or a.dtype != b.dtype:
            return False
        return bool((a == b).all())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        several = cast("list[Any]", a), cast("list[Any]", b)
        return len(several[0]) == len(several[1]) and all(map(_same, *several))
    return bool(a == b)


@cache
def array_fields(kind: type[Value]) -> tuple[str, ...]:
    """The names of the fields of a value type that are declared to hold an array: `Array`, or None,
    `np.ndarray`, `torch.Tensor`. Arrays inside other things are not looked for."""
    return tuple(f.name for f in msgspec.structs.fields(kind) if _holds_array(f.type))


def _holds_array(declared: Any) -> bool:
    options = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
    names = (getattr(get_origin(option) or option, "__name__", "") for option in options)
    return any(name in ("Array", "ndarray", "Tensor") for name in names)


def arrays_of(value: Value) -> list[tuple[str, Array]]:
    """The arrays a value holds, by field name."""
    held = ((name, getattr(value, name)) for name in array_fields(type(value)))
    return [(name, array) for name, array in held if array is not None]


def _need(ok: bool, message: str) -> None:
    if not ok:
        raise ValueCheckError(message)


def _as_tuple(value: Value, field: str, made_of: Any) -> None:
    """Make a field a tuple where a list or an array was given: what is equal should compare, journal and
    come back as equal."""
    given: Any = getattr(value, field)
    try:
        items: list[Any] = list(given.tolist() if is_array(given) else given)
        if type(given) is tuple and all(type(item) is made_of for item in items):
            return
        made = tuple(made_of(item) for item in items)
    except (TypeError, ValueError):
        raise ValueCheckError(f"{type(value).__name__}.{field} cannot be {given!r:.80}") from None
    msgspec.structs.force_setattr(value, field, made)


def _check_array(
    what: str, array: object, shape: tuple[int | None, ...], dtypes: str | tuple[str, ...]
) -> None:
    """Raise ValueCheckError unless `array` has this shape (None: any size above 0) and dtype."""
    _need(is_array(array), f"{what} must be a numpy array or a torch tensor, not {type(array).__name__}")
    held = cast(Array, array)
    got = tuple(held.shape)
    fits = len(got) == len(shape) and all(
        g > 0 and (w is None or g == w) for g, w in zip(got, shape, strict=True)
    )
    wanted = " × ".join("n" if w is None else str(w) for w in shape)
    _need(fits, f"{what} has shape {got}; it must be {wanted} and not empty")
    if dtypes == "float":
        _need(is_floating(held), f"{what} is {dtype_name(held)}; it must be floating point")
    elif dtypes == "int":
        _need("int" in dtype_name(held), f"{what} is {dtype_name(held)}; it must be an integer type")
    else:
        _need(dtype_name(held) in dtypes, f"{what} is {dtype_name(held)}; it must be {dtypes}")


def _check_mask(what: str, mask: object, shape: tuple[int, ...]) -> None:
    if mask is not None:
        _check_array(what, mask, shape, ("bool",))


# --------------------------------------------------------------------------------------------- words

_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RESERVED = frozenset({"campose"})
_KINDS = {"think"}  # those already checked


class Text(Value, frozen=True, eq=False, gc=False):
    """Words written into the context.

    kind: what they are, and the tag they render in (`<think>…</think>`): "think", "caption",
    "depth_caption", "motion", "plan", or any lower-case word but "campose".
    """

    text: str
    kind: str = "think"

    def __post_init__(self) -> None:
        if type(self.text) is not str:
            raise ValueCheckError(f"Text holds a str, not {type(self.text).__name__}")
        if not self.text.isascii():
            _check_unicode(self.text)
        if self.kind not in _KINDS:
            ok = bool(_KIND.fullmatch(self.kind)) and self.kind not in _RESERVED
            _need(ok, f"{self.kind!r} cannot be a Text kind: use a lower-case word; campose is reserved")
            _KINDS.add(self.kind)

    def words(self) -> str:
        return self.text

    def render(self) -> tuple[Segment, ...]:
        return (TextSegment(f"<{self.kind}>{escape(self.text)}</{self.kind}>"),)


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a decoder that cut a character in two
        raise ValueCheckError(f"text that is no Unicode cannot be kept or sent: {error}") from None


class Answer(Value, frozen=True, eq=False, gc=False):
    """The answer to a question.

    text: the answer; choice: its index among `choices`, if there were any; probabilities: one a choice,
    summing to 1 within 1e-3.
    """

    text: str
    choices: tuple[str, ...] = ()
    choice: int | None = None
    probabilities: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _as_tuple(self, "choices", str)
        if self.probabilities is not None:
            _as_tuple(self, "probabilities", float)
        if self.choice is not None:
            _need(0 <= self.choice < len(self.choices), f"choice {self.choice} of {len(self.choices)}")
        p = self.probabilities
        if p is not None:
            _need(len(p) == len(self.choices), f"{len(p)} probabilities for {len(self.choices)} choices")
            good = all(0.0 <= q <= 1.0 for q in p) and abs(sum(p) - 1.0) < 1e-3
            _need(good, f"probabilities must lie in 0..1 and sum to 1: {p}")

    @property
    def entropy(self) -> float | None:
        """Entropy of the choices in nats, or None where no probabilities are known."""
        if self.probabilities is None:
            return None
        return -sum(p * math.log(p) for p in self.probabilities if p > 0)

    def words(self) -> str:
        if self.probabilities is None or self.choice is None:
            return self.text
        return f"{self.text} ({self.probabilities[self.choice]:.0%})"

    def difference(self, other: Value) -> float:
        """Total variation distance of the probabilities where both know them, else 0 or 1."""
        if isinstance(other, Answer) and self.choices == other.choices:
            p, q = self.probabilities, other.probabilities
            if p is not None and q is not None:
                return 0.5 * sum(abs(a - b) for a, b in zip(p, q, strict=True))
        return 0.0 if isinstance(other, Answer) and self.text == other.text else 1.0


# -------------------------------------------------------------------------------------------- cameras


class CameraPose(Value, frozen=True, eq=False, gc=False):
    """Where one photo was taken, seen from another.

    translation: centre of camera `target` in the frame of camera `source`; rotation: axis-angle in
    radians, so that a direction d of the target's frame is R d in the source's frame (the camera-to-world
    pose of the target, with the source as the world). scale: "metric" (metres), "unit" (the translation
    is a direction of length 1: two photos alone do not give scale), "none" (pure rotation: the translation
    is zero because its direction cannot be seen), "relative" (an arbitrary unit).
    source, target: indices of the photos, from 0.
    """

    composes: ClassVar[Literal["append", "replace"]] = "replace"

    translation: Vector3
    rotation: Vector3
    scale: Literal["metric", "unit", "none", "relative"] = "metric"
    source: int = 0
    target: int = 1
    inliers: int | None = None
    matches: int | None = None
    confidence: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _as_tuple(self, "translation", float)
        _as_tuple(self, "rotation", float)
        for what, vector in (("translation", self.translation), ("rotation", self.rotation)):
            ok = len(vector) == 3 and all(math.isfinite(v) for v in vector)
            _need(ok, f"CameraPose.{what} must be three finite numbers, not {vector}")
        length = math.hypot(*self.translation)
        if self.scale == "unit":
            _need(abs(length - 1) < 1e-3, f"a translation of scale 'unit' has length 1, not {length:.4f}")
        elif self.scale == "none":
            _need(length == 0, "a translation of scale 'none' is zero")
        else:
            _need(self.scale in ("metric", "relative"), f"unknown scale {self.scale!r}")
        angle = math.hypot(*self.rotation)
        _need(angle <= math.pi + 1e-6, f"axis-angle of {angle:.3f} rad: bring it within pi")
        c = self.confidence
        _need(c is None or 0 <= c <= 1, f"confidence {c} is not in 0..1")

    @classmethod
    def from_matrix(cls, matrix: Any, **fields: Any) -> CameraPose:
        """From a 4 × 4 (or 3 × 4) camera-to-world matrix of the target in the source's frame.

        Raises ValueCheckError when its left block is not a rotation.
        """
        m = np.asarray(matrix, dtype=np.float64)
        _need(m.shape in ((4, 4), (3, 4)), f"a pose matrix is 4 × 4 or 3 × 4, not {m.shape}")
        r = m[:3, :3]
        rigid = np.allclose(r @ r.T, np.eye(3), atol=1e-4) and np.linalg.det(r) > 0
        _need(bool(rigid), "the left 3 × 3 block is not a rotation")
        return cls(_vector(m[:3, 3]), _axis_angle(r), **fields)

    @property
    def slot(self) -> Any:
        return (self.source, self.target)

    @property
    def rotation_matrix(self) -> np.ndarray[Any, Any]:
        """(3, 3), target's axes in the source's frame."""
        return _rotation_matrix(self.rotation)

    @property
    def matrix(self) -> np.ndarray[Any, Any]:
        """(4, 4) camera-to-world of the target, the source being the world."""
        m = np.eye(4)
        m[:3, :3] = self.rotation_matrix
        m[:3, 3] = self.translation
        return m

    @property
    def inverse(self) -> CameraPose:
        """The source seen from the target."""
        r = self.rotation_matrix
        t = -r.T @ np.asarray(self.translation)
        return msgspec.structs.replace(
            self,
            translation=_vector(t),
            rotation=_vector([-v for v in self.rotation]),
            source=self.target,
            target=self.source,
        )

    @property
    def campose(self) -> str:
        """The `<campose>` text: six numbers, translation then axis-angle."""
        six = (*self.translation, *self.rotation)
        numbers = " ".join(f"{round(v, 6) + 0.0:.6f}" for v in six)  # + 0.0: no "-0.000000"
        return f"<campose>{numbers}</campose>"

    def words(self) -> str:
        unit = {"metric": "metres", "unit": "up to scale", "none": "pure rotation"}
        return f"{self.campose} ({unit.get(self.scale, 'arbitrary unit')})"

    def render(self) -> tuple[Segment, ...]:
        """The tag; where the numbers are not in metres, followed by words that say so."""
        return (TextSegment(self.campose if self.scale == "metric" else self.words()),)

    def difference(self, other: Value) -> float:
        """The larger of the rotation angle and the signed translation-direction angle, over 180°."""
        if not isinstance(other, CameraPose):
            return 1.0
        return max(pose_errors(self, other)) / 180.0


def pose_errors(a: CameraPose, b: CameraPose) -> tuple[float, float]:
    """(rotation angle, signed translation-direction angle) between two poses, in degrees.

    The direction error is signed: a flipped direction is 180°, not 0 as in the customary measure.
    Where neither has a direction it is 0; where only one has, 180.
    """
    relative = a.rotation_matrix.T @ b.rotation_matrix
    rotation = math.degrees(math.hypot(*_axis_angle(relative)))
    u, v = np.asarray(a.translation), np.asarray(b.translation)
    lengths = float(np.linalg.norm(u)), float(np.linalg.norm(v))
    if min(lengths) == 0:
        return rotation, 0.0 if max(lengths) == 0 else 180.0
    cosine = float(np.clip(u @ v / (lengths[0] * lengths[1]), -1, 1))
    return rotation, math.degrees(math.acos(cosine))


def _vector(values: Any) -> Vector3:
    x, y, z = (float(v) for v in values)
    return (x, y, z)


def _two_vectors(pose: Any) -> tuple[Vector3, Vector3]:
    translation, rotation = pose
    return _vector(translation), _vector(rotation)


def _rotation_matrix(axis_angle: Vector3) -> np.ndarray[Any, Any]:
    """Rodrigues' formula."""
    angle = math.hypot(*axis_angle)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = (v / angle for v in axis_angle)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * (k @ k)


def _axis_angle(r: np.ndarray[Any, Any]) -> Vector3:
    """The axis-angle of a rotation matrix by way of its quaternion, stable at 0 and at pi."""
    # K is the symmetric matrix whose largest eigenvector is the quaternion (Bar-Itzhack 2000).
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
            [r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
            [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    x, y, z, w = np.linalg.eigh(k)[1][:, -1]
    if w < 0:
        x, y, z, w = -x, -y, -z, -w
    sine = math.sqrt(x * x + y * y + z * z)
    if sine < 1e-12:
        return (0.0, 0.0, 0.0)
    scale = 2 * math.atan2(sine, w) / sine
    return _vector((x * scale, y * scale, z * scale))


# ------------------------------------------------------------------------------------------- pictures


class Image(Value, frozen=True, eq=False):
    """A picture: pixels (H, W, 3) uint8 RGB, and optionally which of them are valid (H, W) bool.

    source: where it came from (a path), for people; focal_px: focal length in pixels where the file's
    EXIF gives one.
    """

    pixels: Array
    valid: Array | None = None
    source: str = ""
    focal_px: float | None = None

    def __post_init__(self) -> None:
        _check_array("Image.pixels", self.pixels, (None, None, 3), ("uint8",))
        _check_mask("Image.valid", self.valid, tuple(self.pixels.shape[:2]))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    def words(self) -> str:
        return "a picture of {} × {} pixels".format(*self.size)

    def render(self) -> tuple[Segment, ...]:
        return (ImageSegment(self.pixels, self.words()),)

    def difference(self, other: Value) -> float:
        """Mean absolute difference of the pixels, 0 to 1; 1 where sizes differ."""
        if not isinstance(other, Image) or tuple(self.pixels.shape) != tuple(other.pixels.shape):
            return 1.0
        return _mean_difference(self.pixels, other.pixels) / 255.0


class NovelViews(Value, frozen=True, eq=False):
    """Views of the scene that nobody photographed.

    views: (V, H, W, 3) uint8 RGB; directions: a name for each ("left", "right", "up", "down", …);
    valid: (V, H, W) bool, False where a view was not seen by the source photo; photo: its index;
    poses: optionally where each view is looked from, translation and axis-angle in the photo's frame;
    unit: of those translations, as of a depth map's depths, where the camera moved and it is known.
    """

    views: Array
    directions: tuple[str, ...]
    valid: Array | None = None
    photo: int = 0
    poses: tuple[tuple[Vector3, Vector3], ...] | None = None
    unit: Literal["metre", "baseline", "relative"] | None = None

    def __post_init__(self) -> None:
        _check_array("NovelViews.views", self.views, (None, None, None, 3), ("uint8",))
        _as_tuple(self, "directions", str)
        if self.poses is not None:
            _as_tuple(self, "poses", _two_vectors)
        count = int(self.views.shape[0])
        _need(
            len(self.directions) == count, f"{count} views need as many names, not {self.directions}"
        )
        _need(self.poses is None or len(self.poses) == count, f"{count} views need as many poses")
        _need(self.unit in (None, "metre", "baseline", "relative"), f"unknown unit {self.unit!r}")
        _check_mask("NovelViews.valid", self.valid, tuple(self.views.shape[:3]))

    def _turned(self, view: int) -> str:
        """How far, where that is known and the camera only turned: ' 30°'."""
        if self.poses is None:
            return ""
        moved, turned = self.poses[view]
        degrees = math.degrees(math.hypot(*turned))
        return "" if any(moved) or not degrees else f" {degrees:.4g}°"

    def words(self) -> str:
        return f"views of photo {self.photo + 1} looking {', '.join(self.directions)}"

    def render(self) -> tuple[Segment, ...]:
        segments: list[Segment] = []
        for i, direction in enumerate(self.directions):
            caption = f"Photo {self.photo + 1}, looking {escape(direction)}{self._turned(i)}:"
            segments.append(TextSegment(caption))
            segments.append(ImageSegment(cast(Any, self.views)[i], caption + " (a synthesised view)"))
        return tuple(segments)

    def difference(self, other: Value) -> float:
        """Mean absolute difference of the pixels, 0 to 1; 1 where the sets of views differ."""
        if not isinstance(other, NovelViews) or self.directions != other.directions:
            return 1.0
        if tuple(self.views.shape) != tuple(other.views.shape):
            return 1.0
        return _mean_difference(self.views, other.views) / 255.0


class Video(Value, frozen=True, eq=False):
    """A clip: frames (T, H, W, 3) uint8 RGB at `fps` frames a second."""

    frames: Array
    fps: float = 8.0

    def __post_init__(self) -> None:
        _check_array("Video.frames", self.frames, (None, None, None, 3), ("uint8",))
        _need(math.isfinite(self.fps) and self.fps > 0, f"fps {self.fps} is not above 0")

    def words(self) -> str:
        return f"a clip of {self.frames.shape[0]} frames at {self.fps:g} fps"

    def render(self) -> tuple[Segment, ...]:
        frames = cast(Any, self.frames)
        return tuple(
            ImageSegment(frames[i], f"frame {i + 1}") for i in range(int(self.frames.shape[0]))
        )


# ------------------------------------------------------------------------------------------- geometry


class DepthMap(Value, frozen=True, eq=False):
    """How far each pixel is along the camera's axis (z, not ray length).

    depth: (H, W) floating point, finite everywhere, 0 where `valid` (H, W) bool is False; unit: "metre",
    "baseline" (the distance between the two cameras), or "relative" (an unknown scale and shift); photo:
    the index of the photo it belongs to.
    """

    composes: ClassVar[Literal["append", "replace"]] = "replace"

    depth: Array
    valid: Array | None = None
    unit: Literal["metre", "baseline", "relative"] = "metre"
    photo: int = 0

    def __post_init__(self) -> None:
        _check_array("DepthMap.depth", self.depth, (None, None), "float")
        _check_mask("DepthMap.valid", self.valid, tuple(self.depth.shape))
        _need(self.unit in ("metre", "baseline", "relative"), f"unknown unit {self.unit!r}")

    @property
    def slot(self) -> Any:
        return self.photo

    def words(self) -> str:
        return f"a depth map of photo {self.photo + 1}, in units of: {self.unit}"

    def difference(self, other: Value) -> float:
        """Mean of |a - b| / max(a, b) where both are valid, plus the share where only one is."""
        if not isinstance(other, DepthMap) or tuple(self.depth.shape) != tuple(other.depth.shape):
            return 1.0
        a, b = to_numpy(self.depth), to_numpy(other.depth)
        seen_a = a > 0 if self.valid is None else to_numpy(self.valid)
        seen_b = b > 0 if other.valid is None else to_numpy(other.valid)
        both = seen_a & seen_b
        either = int((seen_a | seen_b).sum())
        if not either:
            return 0.0
        ratio = np.abs(a - b)[both] / np.maximum(np.maximum(a, b)[both], 1e-9)
        return float((ratio.sum() + (either - both.sum())) / either)


class PointMap(Value, frozen=True, eq=False):
    """A 3-D point for each pixel: points (H, W, 3) floating point in the frame of photo `frame`'s
    camera; confidence: optionally (H, W) floating point above 0; photo: whose pixels they are."""

    composes: ClassVar[Literal["append", "replace"]] = "replace"

    points: Array
    confidence: Array | None = None
    photo: int = 0
    frame: int = 0
    unit: Literal["metre", "baseline", "relative"] = "metre"

    def __post_init__(self) -> None:
        _check_array("PointMap.points", self.points, (None, None, 3), "float")
        if self.confidence is not None:
            h, w = tuple(self.points.shape[:2])
            _check_array("PointMap.confidence", self.confidence, (h, w), "float")

    @property
    def slot(self) -> Any:
        return (self.photo, self.frame)

    def words(self) -> str:
        return f"a point map of photo {self.photo + 1} in camera {self.frame + 1}'s frame"


# --------------------------------------------------------------------------------------------- tokens


class VisualTokens(Value, frozen=True, eq=False):
    """Discrete visual tokens that a model rolled out: ids (N,) integers in 0..codebook_size-1 of the
    named codebook; grid: optionally (rows, columns) that they fill."""

    ids: Array
    codebook: str
    codebook_size: int
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_array("VisualTokens.ids", self.ids, (None,), "int")
        _need(self.codebook_size > 0, f"codebook_size {self.codebook_size} is not above 0")
        if self.grid is not None:
            _as_tuple(self, "grid", int)
            n = int(self.ids.shape[0])
            _need(self.grid[0] * self.grid[1] == n, f"a grid of {self.grid} does not hold {n} tokens")

    def words(self) -> str:
        return f"{self.ids.shape[0]} visual tokens of {self.codebook}"

    def render(self) -> tuple[Segment, ...]:
        return (TokenSegment(self.ids, self.codebook, escape(self.words())),)


class Latents(Value, frozen=True, eq=False):
    """The hidden representation: hidden (N, D) floating point, states of the model named by `space`."""

    hidden: Array
    space: str

    def __post_init__(self) -> None:
        _check_array("Latents.hidden", self.hidden, (None, None), "float")

    def words(self) -> str:
        return f"{self.hidden.shape[0]} hidden states of {self.space}"

    def render(self) -> tuple[Segment, ...]:
        return (TokenSegment(self.hidden, self.space, escape(self.words())),)


def _mean_difference(a: Array, b: Array) -> float:
    return float(np.abs(to_numpy(a).astype(np.int16) - to_numpy(b).astype(np.int16)).mean())
