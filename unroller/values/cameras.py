"""Camera poses, and how far two are apart."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from unroller.rendering import Segment, TextSegment
from unroller.values.base import Value
from unroller.values.checks import as_tuple, need

Vector3 = tuple[float, float, float]


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
        as_tuple(self, "translation", float)
        as_tuple(self, "rotation", float)
        for what, vector in (("translation", self.translation), ("rotation", self.rotation)):
            ok = len(vector) == 3 and all(math.isfinite(v) for v in vector)
            need(ok, f"CameraPose.{what} must be three finite numbers, not {vector}")
        length = math.hypot(*self.translation)
        if self.scale == "unit":
            need(abs(length - 1) < 1e-3, f"a translation of scale 'unit' has length 1, not {length:.4f}")
        elif self.scale == "none":
            need(length == 0, "a translation of scale 'none' is zero")
        else:
            need(self.scale in ("metric", "relative"), f"unknown scale {self.scale!r}")
        angle = math.hypot(*self.rotation)
        need(angle <= math.pi + 1e-6, f"axis-angle of {angle:.3f} rad: bring it within pi")
        c = self.confidence
        need(c is None or 0 <= c <= 1, f"confidence {c} is not in 0..1")

    @classmethod
    def from_matrix(cls, matrix: Any, **fields: Any) -> CameraPose:
        """From a 4 × 4 (or 3 × 4) camera-to-world matrix of the target in the source's frame.

        Raises ValueCheckError when its left block is not a rotation.
        """
        m = np.asarray(matrix, dtype=np.float64)
        need(m.shape in ((4, 4), (3, 4)), f"a pose matrix is 4 × 4 or 3 × 4, not {m.shape}")
        r = m[:3, :3]
        rigid = np.allclose(r @ r.T, np.eye(3), atol=1e-4) and np.linalg.det(r) > 0
        need(bool(rigid), "the left 3 × 3 block is not a rotation")
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


def two_vectors(pose: Any) -> tuple[Vector3, Vector3]:
    """A pose that was given as a translation and a rotation."""
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
