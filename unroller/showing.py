"""How each type of value is shown on a page.

`Showing.show` gives plain data: `as` names the macro in `templates/values.html` that lays it out,
the rest is what the macro needs. A type nobody here has heard of is shown by its words and its
fields; so is a value that could not be drawn, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

import numpy as np

from unroller.arrays import dtype_name, is_array, is_floating, to_numpy
from unroller.drawing import FIELD, two_cameras
from unroller.pictures import GRADIENT, Album, coloured_depth, heat, mosaic
from unroller.problem import Intrinsics, Problem
from unroller.values import (
    Answer,
    CameraPose,
    DepthMap,
    Image,
    Latents,
    NovelViews,
    PointMap,
    Text,
    Value,
    Video,
    VisualTokens,
    pose_errors,
)

Shown = dict[str, Any]

MAX_TEXT = 20_000
"""Longer texts are cut, in characters."""

MAX_ITEMS = 24
"""Of longer lists in a plug-in's value the first so many items are shown."""

MAX_VIEWS = 12
"""Of more views or frames than this, evenly spaced ones are shown."""


class Showing:
    """Shows the values of one run: `album` takes their pictures, `problem` says what is known of
    the cameras and of the truth. Of `backends` those whose `shows_tokens` is true, which decode visual
    tokens without loading a model, are asked what visual tokens look like."""

    def __init__(self, problem: Problem, album: Album, backends: Sequence[Any] = ()) -> None:
        self.problem = problem
        self.album = album
        self.sketchers = [one for one in backends if getattr(one, "shows_tokens", False)]

    def show(self, value: Value) -> Shown:
        """The value as data for a template. Never raises: a page must not fail for one bad
        value."""
        shown: Shown = {"type": type(value).__name__, "hue": hue_of(type(value)), "words": words_of(value)}
        show = next((SHOWN[k] for k in type(value).__mro__ if k in SHOWN), _fields)
        try:
            return shown | show(self, value)
        except Exception as error:
            return shown | _fields(self, value) | {"trouble": f"It could not be drawn: {_said(error)}"}

    def truth(self, source: int, target: int) -> CameraPose | None:
        """The true pose between two photos where the problem's metadata holds it."""
        try:
            held = self.problem.metadata["truth"]["pose"]
            tx, ty, tz, rx, ry, rz = (float(v) for v in held)
            true = CameraPose((tx, ty, tz), (rx, ry, rz), "metric" if any((tx, ty, tz)) else "none")
        except (KeyError, TypeError, ValueError):
            return None
        if (source, target) == (0, 1):
            return true
        return true.inverse if (source, target) == (1, 0) else None

    def field(self, photo: int) -> tuple[float, float]:
        """Half the width and height of what a photo's camera sees at distance 1."""
        if not 0 <= photo < len(self.problem.images):
            return FIELD
        width, height = self.problem.images[photo].size
        camera = self.problem.camera(photo) or Intrinsics.default(width, height)
        return width / 2 / camera.fx, height / 2 / camera.fy


def hue_of(kind: type[Any]) -> str:
    """The name of the colour that stands for a value type throughout the page."""
    return next((HUES[k] for k in kind.__mro__ if k in HUES), "other")


def words_of(value: Value) -> str:
    """`value.words()`, or why a plug-in could not say it."""
    try:
        return _cut(str(value.words()), 600)
    except Exception as error:
        return f"(words() raised {_said(error)})"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _cut(text: str, limit: int = MAX_TEXT) -> str:
    if len(text) <= limit:
        return text
    return text[:limit] + f" … and {len(text) - limit:,} characters more"


def _number(x: float) -> str:
    return f"{x + 0.0:.3g}"


# -------------------------------------------------------------------------------------------- words


def _text(_: Showing, value: Text) -> Shown:
    return {"as": "text", "kind": value.kind, "text": _cut(value.text)}


def _answer(showing: Showing, value: Answer) -> Shown:
    p, true = value.probabilities, true_answer(showing.problem)
    rows = [
        {"text": choice, "chosen": i == value.choice, "p": None if p is None else p[i]}
        for i, choice in enumerate(value.choices)
    ]
    shown = {"as": "answer", "text": _cut(value.text), "rows": rows, "entropy": value.entropy}
    return shown if true is None else shown | {"true": true, "right": true == value.text}


def true_answer(problem: Problem) -> str | None:
    """The true answer where the problem's metadata holds it."""
    try:
        true = problem.metadata["truth"]["answer"]
    except (KeyError, TypeError):
        return None
    return true if isinstance(true, str) else None


# ------------------------------------------------------------------------------------------ cameras

_SCALES = {
    "metric": "in metres",
    "unit": "up to scale: two photos alone give the direction, not the distance",
    "none": "a pure rotation: the cameras stand on one spot, as far as can be seen",
    "relative": "in an arbitrary unit",
}


def _pose(showing: Showing, value: CameraPose) -> Shown:
    truth = showing.truth(value.source, value.target)
    facts = [*_motion(value)]
    if value.matches is not None or value.inliers is not None:
        known = (("inliers", value.inliers), ("matches", value.matches))
        facts.append(("Support", ", ".join(f"{n:,} {what}" for what, n in known if n is not None)))
    if value.confidence is not None:
        facts.append(("Confidence", f"{value.confidence:.2f}"))
    if value.note:
        facts.append(("Note", _cut(value.note, 600)))
    errors = None
    if truth is not None:
        rotation, direction = pose_errors(value, truth)
        errors = {"rotation": f"{rotation:.2f}°", "direction": f"{direction:.2f}°", "distance": None}
        if value.scale == "metric" and truth.scale == "metric":
            off = math.dist(value.translation, truth.translation)
            errors["distance"] = f"{off:.3f} m"
    views = two_cameras(value, truth, showing.field(value.source), showing.field(value.target))
    return {
        "as": "pose",
        "campose": value.campose,
        "scale": _SCALES[value.scale],
        "facts": facts,
        "errors": errors,
        "views": views,
        "labels": (str(value.source + 1), str(value.target + 1)),
        "stretched": truth is not None and value.scale in ("unit", "relative"),
    }


def _motion(pose: CameraPose) -> list[tuple[str, str]]:
    """The move and the turn of a pose in plain words, largest parts first."""
    a, b = pose.source + 1, pose.target + 1
    length = math.hypot(*pose.translation)
    x, y, z = pose.translation
    ways = ((x, "right", "left"), (y, "down", "up"), (z, "forward", "back"))
    parts = sorted(((abs(v), plus if v > 0 else minus) for v, plus, minus in ways), reverse=True)
    told = [f"{_number(v)} {way}" for v, way in parts if v > 0.005 * (length or 1.0)]
    unit = " m" if pose.scale == "metric" else ""
    if length == 0:
        where = f"on the spot of {a}"
    else:
        where = f"{', '.join(told)} of {a}"
        if pose.scale != "unit":
            where += f" (distance {_number(length)}{unit})"
    forward = pose.rotation_matrix[:, 2]
    right = pose.rotation_matrix[:, 0]
    yaw = math.degrees(math.atan2(forward[0], forward[2]))
    pitch = math.degrees(math.atan2(-forward[1], math.hypot(forward[0], forward[2])))
    roll = math.degrees(math.atan2(right[1], math.hypot(right[0], right[2])))
    turns = ((yaw, "right", "left"), (pitch, "up", "down"), (roll, "clockwise", "anticlockwise"))
    turned = sorted(((abs(v), plus if v > 0 else minus) for v, plus, minus in turns), reverse=True)
    how = ", ".join(f"{v:.1f}° {way}" for v, way in turned if v >= 0.05) or "not at all"
    total = math.degrees(math.hypot(*pose.rotation))
    return [(f"Camera {b} stands", where), ("It is turned", f"{how} ({total:.1f}° in all)")]


# ----------------------------------------------------------------------------------------- pictures


def _image(showing: Showing, value: Image) -> Shown:
    picture = showing.album.add(value.pixels, value.valid)
    width, height = value.size
    caption = f"{width} × {height}{_share_valid(value.valid)}"
    return {"as": "pictures", "pictures": [(picture, caption)], "few": True}


def _share_valid(valid: Any) -> str:
    if valid is None:
        return ""
    share = float(to_numpy(valid).mean())
    return "" if share == 1 else f", {share:.0%} valid"


def _novel_views(showing: Showing, value: NovelViews) -> Shown:
    views, valid = cast(Any, value.views), cast(Any, value.valid)
    chosen = _spaced(len(value.directions))
    pictures: list[tuple[Any, str]] = []
    for i in chosen:
        mask = None if valid is None else valid[i]
        caption = f"{value.directions[i]}{_share_valid(mask)}"
        pictures.append((showing.album.add(views[i], mask), caption))
    return {
        "as": "pictures",
        "pictures": pictures,
        "few": False,
        "left_out": len(value.directions) - len(chosen),
    }


def _video(showing: Showing, value: Video) -> Shown:
    frames = cast(Any, value.frames)
    count = int(frames.shape[0])
    chosen = _spaced(count)
    pictures = [(showing.album.add(frames[i]), f"{i / value.fps:.2f} s") for i in chosen]
    return {"as": "pictures", "pictures": pictures, "few": False, "left_out": count - len(chosen)}


def _spaced(count: int) -> list[int]:
    """Up to MAX_VIEWS evenly spaced indices, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, MAX_VIEWS))})


# ----------------------------------------------------------------------------------------- geometry

_UNITS = {"metre": "m", "baseline": "", "relative": ""}
_UNIT_NOTES = {
    "metre": "",
    "baseline": "in units of the distance between the two cameras",
    "relative": "without a unit: scale and shift are unknown",
}


def _depth(showing: Showing, value: DepthMap) -> Shown:
    depth = to_numpy(value.depth).astype(np.float64)
    valid = depth > 0 if value.valid is None else to_numpy(value.valid)
    return _depth_scale(showing, depth, valid, value.unit, value.photo) | {"as": "depth"}


def _depth_scale(showing: Showing, depth: Any, valid: Any, unit: str, photo: int) -> Shown:
    valid = valid & np.isfinite(depth)
    pixels, near, far = coloured_depth(np.where(valid, depth, 0.0), valid)
    sign = _UNITS[unit]
    ticks = [f"{_number(near + (far - near) * i / 4)} {sign}".strip() for i in range(5)]
    caption = f"depth along the axis of photo {photo + 1}, {depth.shape[1]} × {depth.shape[0]}"
    return {
        "pictures": [(showing.album.add(pixels), caption)],
        "ticks": ticks if valid.any() else [],
        "gradient": GRADIENT,
        "unit": _UNIT_NOTES[unit],
        "valid": f"{valid.mean():.0%}",
        "all_valid": bool(valid.all()),
    }


def _point_map(showing: Showing, value: PointMap) -> Shown:
    points = to_numpy(value.points).astype(np.float64)
    finite = np.isfinite(points).all(axis=-1)
    shown = _depth_scale(showing, points[..., 2], finite, value.unit, value.photo)
    if value.confidence is not None:
        confidence = to_numpy(value.confidence).astype(np.float64)
        pixels, low, high = coloured_depth(-confidence, np.ones(confidence.shape, bool))
        note = f"confidence, {_number(-high)} (dark) to {_number(-low)} (bright)"
        shown["pictures"].append((showing.album.add(pixels), note))
    seen = points[finite]
    facts: list[tuple[str, str]] = []
    if seen.size:
        ends = np.percentile(seen, (2, 98), axis=0)
        sign = _UNITS[value.unit]
        facts = [
            (f"{axis} {way}", f"{_number(float(lo))} to {_number(float(hi))} {sign}".strip())
            for axis, way, lo, hi in zip("xyz", ("right", "down", "forward"), *ends, strict=True)
        ]
    return shown | {"as": "depth", "facts": facts}


# ------------------------------------------------------------------------------------------- tokens


def _tokens(showing: Showing, value: VisualTokens) -> Shown:
    ids = to_numpy(value.ids).astype(np.int64)
    columns = value.grid[1] if value.grid else max(1, min(64, round(math.sqrt(2 * ids.size))))
    pixels, held = mosaic(ids, columns)
    grid = f"{value.grid[0]} × {value.grid[1]}, " if value.grid else ""
    listed = " ".join(str(i) for i in ids[:48])
    caption = f"{grid}{np.unique(ids).size:,} different of {value.codebook_size:,}"
    looks = [(showing.album.add(one.pixels), "what they look like") for one in _sketches(showing, value)]
    return {
        "as": "tokens",
        "pictures": [*looks, (showing.album.add(pixels, held), caption)],
        "listed": listed + (" …" if ids.size > 48 else ""),
        "wide": columns > 2 * pixels.shape[0],
    }


def _sketches(showing: Showing, value: VisualTokens) -> list[Image]:
    """The picture of visual tokens, from the first backend that has one of these."""
    for backend in showing.sketchers:
        (found,) = backend.decode_tokens([value])
        if isinstance(found, Image):
            return [found]
    return []


def _latents(showing: Showing, value: Latents) -> Shown:
    hidden = to_numpy(value.hidden).astype(np.float64)
    norms = np.linalg.norm(hidden, axis=1)
    n, d = hidden.shape
    return {
        "as": "tokens",
        "wide": True,
        "pictures": [(showing.album.add(heat(hidden)), f"{n:,} states (down) × {d:,} channels (across)")],
        "listed": f"norm {_number(float(norms.mean()))} ± {_number(float(norms.std()))}, "
        f"mean {_number(float(hidden.mean()))}, standard deviation {_number(float(hidden.std()))}",
    }


# ------------------------------------------------------------------------------------ anything else


def _fields(_: Showing, value: Value) -> Shown:
    rows = [(name, described(getattr(value, name))) for name in value.__struct_fields__]
    return {"as": "fields", "fields": rows}


def described(thing: Any, depth: int = 3) -> str:
    """Anything in words of bounded length: arrays by shape, dtype and range, containers to a
    depth."""
    if isinstance(thing, Value):
        return f"{type(thing).__name__}: {words_of(thing)}"
    if is_array(thing):
        shape = " × ".join(str(int(n)) for n in thing.shape) or "scalar"
        text = f"{dtype_name(thing)}, {shape}"
        held = to_numpy(thing)
        if held.size and (is_floating(thing) or held.dtype.kind in "iu"):
            text += f", {_number(float(held.min()))} to {_number(float(held.max()))}"
        return text
    if isinstance(thing, str):
        return _cut(thing, 2_000)
    if isinstance(thing, float):
        return f"{thing:.6g}"
    if isinstance(thing, (Mapping, Sequence)) and not isinstance(thing, bytes):
        held = cast("Mapping[Any, Any] | Sequence[Any]", thing)
        if depth == 0 or not held:
            return f"{type(held).__name__} of {len(held)}"
        if isinstance(held, Mapping):
            parts = [f"{k}: {described(v, depth - 1)}" for k, v in islice(held.items(), MAX_ITEMS)]
        else:
            parts = [described(item, depth - 1) for item in held[:MAX_ITEMS]]
        more = "" if len(held) <= MAX_ITEMS else f" … and {len(held) - MAX_ITEMS:,} more"
        return _cut(", ".join(parts) + more, 2_000)
    return _cut(repr(thing), 2_000)


SHOWN: dict[type[Any], Callable[[Showing, Any], Shown]] = {
    Text: _text,
    Answer: _answer,
    CameraPose: _pose,
    Image: _image,
    NovelViews: _novel_views,
    Video: _video,
    DepthMap: _depth,
    PointMap: _point_map,
    VisualTokens: _tokens,
    Latents: _latents,
}

HUES = {
    Text: "text",
    Answer: "answer",
    CameraPose: "pose",
    Image: "picture",
    NovelViews: "picture",
    Video: "picture",
    DepthMap: "depth",
    PointMap: "depth",
    VisualTokens: "tokens",
    Latents: "tokens",
}
