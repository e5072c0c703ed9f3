"""A small drawing of two cameras: where each stands and what it sees, from above and from the side.

Numbers only, in the units of an SVG's viewBox; `templates/values.html` turns them into lines. The
first camera is the world: +x right, +y down, +z forward. From above, forward is up the page; from
the side, forward is to the right and up is up.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from unroller.values import CameraPose

Points = np.ndarray[Any, Any]

WIDTH, HEIGHT, MARGIN = 320, 230, 34

FIELD = (math.tan(math.radians(30)), 0.75 * math.tan(math.radians(30)))
"""Half a picture's width and height at distance 1 where nothing is known: 60° across, 4 : 3."""


class Frustum(msgspec.Struct, frozen=True):
    """A camera as lines. role: "first", "second" or "truth"; sight: the outline of what it sees at
    some distance, and edges: lines from the camera to its corners, as SVG point lists."""

    role: str
    label: str
    x: float
    y: float
    label_x: float
    label_y: float
    sight: str
    edges: tuple[str, ...]


class Drawing(msgspec.Struct, frozen=True):
    """One view of the cameras.

    move: x1 y1 x2 y2 of the way between them, None where they stand on one spot, and tip: the head
    of its arrow; bar: length and label of a scale bar, None where there is no scale.
    """

    title: str
    across: str
    down: str
    cameras: tuple[Frustum, ...]
    move: tuple[float, float, float, float] | None
    tip: str
    bar: tuple[float, str] | None


def two_cameras(
    pose: CameraPose,
    truth: CameraPose | None = None,
    first: tuple[float, float] = FIELD,
    second: tuple[float, float] = FIELD,
) -> tuple[Drawing, Drawing]:
    """The cameras of a pose from above and from the side, at one scale.

    first, second: half the width and height of what each camera sees at distance 1. truth: where
    the second really stood; unless both are metric it is drawn as far away as the estimate, so that
    the directions can be compared.
    """
    centre = np.asarray(pose.translation)
    length = float(np.linalg.norm(centre))
    reach = length
    stands: list[tuple[str, str, Points, Points, tuple[float, float]]] = [
        ("first", str(pose.source + 1), np.zeros(3), np.eye(3), first),
        ("second", str(pose.target + 1), centre, pose.rotation_matrix, second),
    ]
    if truth is not None:
        true = np.asarray(truth.translation)
        far = float(np.linalg.norm(true))
        if pose.scale != "metric" and far > 0:
            true = true / far * (length or 1.0)
        reach = max(reach, float(np.linalg.norm(true)))
        stands.insert(1, ("truth", "true", true, truth.rotation_matrix, second))
    depth = 0.5 * reach or 1.0
    solid = [_corners(c, r, field, depth) for _, _, c, r, field in stands]  # (5, 3) each
    above = [np.stack([p[:, 0], -p[:, 2]], axis=1) for p in solid]
    beside = [np.stack([p[:, 2], p[:, 1]], axis=1) for p in solid]
    scale = min(_scale(above), _scale(beside))
    bar = _bar(scale) if pose.scale == "metric" and length > 0 else None
    names = [(role, label) for role, label, *_ in stands]
    moved = length > 0
    return (
        _drawing("from above", "x right", "z forward", above, names, scale, moved, bar),
        _drawing("from the side", "z forward", "y down", beside, names, scale, moved, bar),
    )


def _corners(centre: Points, rotation: Points, field: tuple[float, float], depth: float) -> Points:
    """The camera's centre and the four corners of what it sees at `depth`: (5, 3)."""
    x, y = field
    rays = np.array([[0, 0, 0], [-x, -y, 1], [x, -y, 1], [x, y, 1], [-x, y, 1]]) * depth
    return centre + rays @ rotation.T


def _scale(views: list[Points]) -> float:
    every = np.concatenate(views)
    span = np.maximum(np.ptp(every, axis=0), 1e-9)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    return float((room / span).min())


def _drawing(
    title: str,
    across: str,
    down: str,
    views: list[Points],
    names: list[tuple[str, str]],
    scale: float,
    moved: bool,
    bar: tuple[float, str] | None,
) -> Drawing:
    every = np.concatenate(views)
    middle = (every.max(axis=0) + every.min(axis=0)) / 2
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    placed = [(view - middle) * scale + centre for view in views]
    cameras: list[Frustum] = []
    for i, ((role, label), points) in enumerate(zip(names, placed, strict=True)):
        behind = points[0] - points[1:].mean(axis=0)
        away = behind / (float(np.linalg.norm(behind)) or 1.0)
        # On one spot the labels would lie on each other: each stands further off than the one
        # before.
        at = points[0] + away * (11 if moved else 11 + 13 * i)
        if role == "truth":  # the estimate's label stands where this one would
            at = points[1:].mean(axis=0) - away * 14
        edges = tuple(_points([points[0], corner]) for corner in points[1:])
        where = (points[0][0], points[0][1], at[0], at[1])
        x, y, label_x, label_y = (round(float(v), 1) for v in where)
        cameras.append(Frustum(role, label, x, y, label_x, label_y, _points(points[1:]), edges))
    a, b = cameras[0], cameras[-1]
    move, tip = None, ""
    far = math.hypot(b.x - a.x, b.y - a.y)
    if moved and far > 3:
        move = (a.x, a.y, b.x, b.y)
        # The head sits on the middle of the way: at its end it would hide the camera.
        u, v = (b.x - a.x) / far, (b.y - a.y) / far
        x, y, size = (a.x + b.x) / 2, (a.y + b.y) / 2, min(5.0, far / 4)
        ends = ((u, v), (-0.8 * u - 0.7 * v, -0.8 * v + 0.7 * u), (-0.8 * u + 0.7 * v, -0.8 * v - 0.7 * u))
        tip = _points([(x + size * p, y + size * q) for p, q in ends])
    return Drawing(title, across, down, tuple(cameras), move, tip, bar)


def _points(points: Any) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _bar(scale: float) -> tuple[float, str]:
    """A scale bar of 1, 2 or 5 times a power of ten metres, up to a quarter of the drawing long."""
    longest = WIDTH / 4 / scale
    ten = 10.0 ** math.floor(math.log10(longest))
    metres = next(n * ten for n in (5, 2, 1) if n * ten <= longest)
    return round(metres * scale, 1), f"{metres:g} m"
