"""Two-view geometry as a backend: any photographs, no weights.

Pose by SIFT and MAGSAC, depth by rectification (or a plane sweep) and dense stereo, views by rotation
homography and depth warp. OpenCV is imported at the first call. Geometry alone cannot know scale: a pose
from two photos has a translation of length 1, and depth is in units of the distance between the cameras.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from xxhash import xxh3_128_digest

from primitives.backends.asked_views import asked_of, depth_like, moves, seen_from
from unroller.arrays import to_numpy
from unroller.capabilities import (
    DepthEstimator,
    DepthRequest,
    Outcomes,
    PhotoPair,
    PoseEstimator,
    ViewRequest,
    ViewSynthesizer,
)
from unroller.dispatch import is_out_of_memory
from unroller.faults import InputError, MissingCapability
from unroller.problem import Intrinsics
from unroller.values import CameraPose, DepthMap, Image, NovelViews

DEFAULT_FOV = 60.0
"""Degrees across the longer side, where neither the problem nor EXIF knows: a phone's main camera has
about 65, a normal lens 47."""

MOST_ASSUMED = 0.8
"""The most confidence in a pose whose camera is assumed: the photos do not show a wrong focal length."""

LONGEST_VIEW = 1600
"""Pixels on the longer side of a synthesised view: drawing one of 12 megapixels takes seconds."""

REMEMBERED = 64
"""Matched photo pairs kept: depth after pose, and decoding after both, match the same two photos again."""


class Classical:
    """`PoseEstimator`, `ViewSynthesizer` and `DepthEstimator` for photographs.

    Deterministic: equal pictures, cameras and seeds give equal results. Raises MissingCapability at the
    first call where OpenCV is not installed.
    """

    name = "classical"
    fingerprint = "classical-1"
    max_batch = 16
    extra = "vision"
    provides: ClassVar[tuple[type[Any], ...]] = (PoseEstimator, ViewSynthesizer, DepthEstimator)

    def __init__(self) -> None:
        self._poses: OrderedDict[tuple[bytes, ...], Any] = OrderedDict()

    def estimate_pose(self, pairs: Sequence[PhotoPair], *, seeds: Sequence[int]) -> Outcomes[CameraPose]:
        """Scale "unit" (the translation is a direction), or "none" where the camera only turned."""
        return _each(self._pose, zip(pairs, seeds, strict=True))

    def estimate_depth(self, requests: Sequence[DepthRequest], *, seeds: Sequence[int]) -> Outcomes[DepthMap]:
        """Unit "metre" where the request's pose is metric, "baseline" otherwise. Needs a second photo."""
        return _each(self._depth, zip(requests, seeds, strict=True))

    def synthesize_views(
        self, requests: Sequence[ViewRequest], *, seeds: Sequence[int]
    ) -> Outcomes[NovelViews]:
        """Named directions by rotation homography; a camera that moves needs the photo's depth. Views have
        the photo's size, but at most LONGEST_VIEW pixels on the longer side."""
        return _each(self._views, zip(requests, seeds, strict=True))

    def _pose(self, pair: PhotoPair, seed: int) -> CameraPose:
        found = self.matched(pair, seed)
        cameras = {
            "first": camera_of(pair.first, pair.first_camera),
            "second": camera_of(pair.second, pair.second_camera),
        }
        assumed = [which for which, camera in cameras.items() if camera.source == "default"]
        notes = [found.note] if found.note else []
        if assumed:
            which = "both photos" if len(assumed) == 2 else f"the {assumed[0]} photo"
            notes.append(f"The focal length of {which} is assumed ({DEFAULT_FOV:g}° field of view).")
        return CameraPose.from_matrix(
            found.matrix,
            scale="unit" if np.any(found.translation) else "none",
            inliers=int(found.inliers),
            matches=int(found.matches),
            confidence=float(np.clip(found.confidence, 0, MOST_ASSUMED if assumed else 1)),
            note=" ".join(notes),
        )

    def _depth(self, request: DepthRequest, seed: int) -> DepthMap:
        from primitives.backends.stereo import two_view_depth

        if request.second is None:
            raise InputError(
                "depth from geometry needs a second photo of the scene, taken from a step aside; with one"
                " photo choose a backend with a learned depth model"
            )
        pose, points = request.pose, None
        if pose is None:
            pair = PhotoPair(request.photo, request.second, request.camera, request.second_camera)
            found = self.matched(pair, seed)
            rotation, translation = found.rotation, found.translation
            points = (found.points_a, found.points_b)
        else:
            rotation, translation = pose.rotation_matrix, np.asarray(pose.translation)
        depth, valid, _, _ = two_view_depth(
            _pixels(request.photo),
            _pixels(request.second),
            camera_of(request.photo, request.camera).matrix,
            camera_of(request.second, request.second_camera).matrix,
            rotation,
            translation,
            points,
        )
        unit = "metre" if pose is not None and pose.scale == "metric" else "baseline"
        return DepthMap(depth, valid, unit, request.index)

    def _views(self, request: ViewRequest, seed: int) -> NovelViews:
        from primitives.backends.pinhole import shrunk

        k = camera_of(request.photo, request.camera).matrix
        pixels, k = shrunk(_pixels(request.photo), k, LONGEST_VIEW)
        asked, known = asked_of(request), None
        if moves(request):
            if request.depth is None:
                raise InputError(
                    "a camera that moves needs the photo's depth: give a second photo, so that"
                    " depth_estimate can write it into the context"
                )
            known = depth_like(request.depth, pixels)
        views = [seen_from(pixels, k, one.at(1.0), known) for one in asked]
        return NovelViews(
            np.stack([view for view, _ in views]),
            tuple(one.name for one in asked),
            np.stack([seen for _, seen in views]),
            request.index,
            tuple((one.translation, one.rotation) for one in asked),
            request.depth.unit if moves(request) and request.depth is not None else None,
        )

    def matched(self, pair: PhotoPair, seed: int) -> Any:
        """The relative pose of a pair, remembered. Raises GeometryError, remembered too."""
        from primitives.backends.two_view import relative_pose

        first, second = _pixels(pair.first), _pixels(pair.second)
        k_a = camera_of(pair.first, pair.first_camera).matrix
        k_b = camera_of(pair.second, pair.second_camera).matrix
        arrays = (first, second, k_a, k_b)
        key = (*map(_content, arrays), str([array.shape for array in arrays]).encode())
        found = self._poses.get(key)
        if found is None:
            try:
                found = relative_pose(first, second, k_a, k_b, seed=0)
            except ValueError as error:
                found = error
            self._poses[key] = found
            if len(self._poses) > REMEMBERED:
                self._poses.popitem(last=False)
        if isinstance(found, Exception):
            raise found
        return found


def _each(work: Callable[..., Any], samples: Any) -> list[Any]:
    """One outcome a sample: what geometry refuses becomes that sample's InputError."""
    try:
        from primitives.backends.pinhole import GeometryError
    except ImportError as error:
        raise MissingCapability(
            f"the classical backend needs OpenCV ({error}): pip install 'unroller[vision]'"
        ) from None
    outcomes: list[Any] = []
    for sample in samples:
        try:
            outcomes.append(work(*sample))
        except (GeometryError, InputError) as error:
            outcomes.append(InputError(str(error)))
        except Exception as error:
            if is_out_of_memory(error):  # of a learned matcher: the engine halves the batch
                raise
            outcomes.append(error)
    return outcomes


def _pixels(photo: Image) -> np.ndarray[Any, Any]:
    return to_numpy(photo.pixels)


def _content(array: np.ndarray[Any, Any]) -> bytes:
    return xxh3_128_digest(np.ascontiguousarray(array).data)


def camera_of(photo: Image, known: Intrinsics | None) -> Intrinsics:
    return known if known is not None else Intrinsics.default(*photo.size, fov_degrees=DEFAULT_FOV)
