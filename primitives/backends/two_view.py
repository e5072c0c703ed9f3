"""How the camera moved between two photographs, without any learned model.

SIFT matches, an essential matrix by MAGSAC++ (Barath et al., CVPR 2020, in OpenCV's USAC), then a
robust non-linear refinement. Departing from the usual recipe, the answer also says when the
question has none: unrelated photographs are refused by the a-contrario test of Moisan and Stival
(IJCV 2004), a turn on the spot is told from a step, and the two readings of a planar scene are
both returned when the matches cannot tell them apart.

Two pictures never give the length of a step. The translation has unit length, or is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from primitives.backends import epipolar
from primitives.backends.epipolar import Refined
from primitives.backends.matching import find_keypoints, match_keypoints
from primitives.backends.pinhole import (
    Array,
    GeometryError,
    checked_image,
    checked_intrinsics,
    normalised,
    shrunk,
)

LONGEST = 1600  # pixels a side are matched; more only costs time
INLIER = 1.5  # pixels of Sampson distance at that size
FEWEST_KEYPOINTS = 16
FEWEST_MATCHES = 8
# log10 of the number of equally good fits that chance provides; see `_false_alarms`. Measured: all
# unrelated photographs above +5, the two halves of one facade with rows of equal windows down to
# -11, sixty pairs of noisy rooms seen from up to 45 degrees apart all below -35. It asks for 15
# inliers where every match is one, as COLMAP does.
LARGEST_FALSE_ALARMS = -12.0
SMALLEST_SPOT = 0.002  # share of a photo that inliers must span; less is a watermark or a logo
STILL = 1.0  # pixels: what moves less, once the rotation is undone, has no visible parallax
FEW, FEW_SHARE = 8, 0.05  # so few matches beside a simpler model are its outliers
# Keypoints share errors (shadows, edges that slide with the view): against exact poses, errors
# were twice what independent noise of the residuals' size explains. None is below 0.1 pixel.
OPTIMISM = 2.0
INDEPENDENT = 100  # as many matches at most have errors of their own
# Measured on rooms: 160 turns on the spot at most 5.5, 80 steps of 2 to 3 cm at least 11.5.
STRETCH = 8.0  # variance along epipolar lines over that across: noise has about 1 to 2
AS_MANY = 0.95  # of the best reading's close matches make another one its equal
SEEDS = 3


class NoKeypoints(GeometryError):
    """A photograph without enough texture to match."""


class NoOverlap(GeometryError):
    """The two photographs show no common scene that could be recognised."""


@dataclass(frozen=True)
class RelativePose:
    """Where camera b stood, seen from camera a: `x_a = rotation @ x_b + translation`.

    `alternative` holds the other rotation and translation that a planar scene allows when the
    matches cannot tell which is right."""

    rotation: Array  # (3, 3) of b's axes in a's frame
    translation: Array  # (3,) direction from camera a to camera b in a's frame: unit length or zero
    points_a: Array  # (N, 2) inliers, pixels of photo a
    points_b: Array  # (N, 2) the same places in photo b
    matches: int  # tentative matches, of which N are inliers
    parallax: float  # median angle between the two rays to a place, degrees
    rotation_error: float  # expected error of the rotation, degrees (one standard deviation)
    direction_error: float  # expected error of the direction, degrees; 180 if there is none
    confidence: float  # probability in [0, 1] that rotation and direction are within 5 degrees
    false_alarms: float  # log10 of the expected number of such fits among random matches
    pure_rotation: bool = False  # the camera turned without visibly moving: translation is zero
    identical: bool = False  # the photographs are one and the same: rotation is the identity
    planar: bool = False  # all inliers lie on one plane
    alternative: tuple[Array, Array] | None = None
    note: str = ""  # one sentence for a reader, where something is to be said

    @property
    def inliers(self) -> int:
        return len(self.points_a)

    @property
    def matrix(self) -> Array:
        """(4, 4) inv(c2w_a) @ c2w_b."""
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = self.rotation, self.translation
        return T


def relative_pose(
    image_a: ArrayLike, image_b: ArrayLike, K_a: ArrayLike, K_b: ArrayLike, seed: int = 0
) -> RelativePose:
    """The pose of photo b's camera in photo a's frame.

    Images are uint8 RGB (H, W, 3) and may differ in size; intrinsics are (3, 3) in pixels with
    centres at +0.5. Equal arguments give bit-equal answers.

    Raises `InvalidImage`, `InvalidIntrinsics`; `NoKeypoints` where a picture is blank; `NoOverlap`
    where the two do not show one scene."""
    image_a, image_b = checked_image(image_a, "image_a"), checked_image(image_b, "image_b")
    K_a, K_b = checked_intrinsics(K_a, "K_a"), checked_intrinsics(K_b, "K_b")
    small_a, small_K_a = shrunk(image_a, K_a, LONGEST)
    small_b, small_K_b = shrunk(image_b, K_b, LONGEST)
    keypoints_a, keypoints_b = find_keypoints(small_a), find_keypoints(small_b)
    for name, keypoints in (("first", keypoints_a), ("second", keypoints_b)):
        if len(keypoints.points) < FEWEST_KEYPOINTS:
            raise NoKeypoints(
                f"The {name} photo has only {len(keypoints.points)} distinct points: it is blank, "
                "blurred or dark. Take one with more texture or light."
            )
    points_a, points_b = match_keypoints(keypoints_a, keypoints_b)
    pose = pose_from_matches(
        points_a, points_b, small_K_a, small_K_b, small_a.shape[:2], small_b.shape[:2], seed
    )
    same = np.array_equal(image_a, image_b) and np.allclose(K_a, K_b)
    return at_full_size(pose, image_a.shape, small_a.shape, image_b.shape, small_b.shape, same)


def pose_from_matches(
    points_a: ArrayLike,
    points_b: ArrayLike,
    K_a: ArrayLike,
    K_b: ArrayLike,
    size_a: tuple[int, int],
    size_b: tuple[int, int],
    seed: int = 0,
) -> RelativePose:
    """The same from matched pixels (M, 2) of any matcher; sizes are (height, width).

    Bounds are in these pixels: bring coordinates to a scale at which a keypoint is placed to about
    a pixel. Raises `InvalidIntrinsics`, `NoOverlap`."""
    points_a, points_b = (
        np.asarray(points_a, dtype=np.float64),
        np.asarray(points_b, dtype=np.float64),
    )
    K_a, K_b = checked_intrinsics(K_a, "K_a"), checked_intrinsics(K_b, "K_b")
    matches = len(points_a)
    if matches < FEWEST_MATCHES:
        raise NoOverlap(_no_overlap(matches, 0))
    rays_a, rays_b = normalised(points_a, K_a), normalised(points_b, K_b)

    turn = epipolar.best_rotation(rays_a, rays_b, points_b, K_b, 2 * STILL, seed)
    turned = epipolar.turn_distances(turn, points_a, points_b, rays_a, rays_b, K_a, K_b)  # (M,)
    reading = _best_reading(turn, turned, points_a, points_b, rays_a, rays_b, K_a, K_b, seed)
    noise = STILL if reading is None else reading.noise
    still = turned < max(STILL, 3 * noise)
    if reading is None or _only_turned(turned, reading):
        _refuse_chance(points_a, points_b, still, size_a, size_b, rotation_only=True)
        return _rotation_pose(turn, points_a, points_b, rays_a, rays_b, K_b, still, matches, size_a, size_b)

    best, planar, alternative, kept = (
        reading.best,
        reading.planar,
        reading.alternative,
        reading.kept,
    )
    _refuse_chance(points_a, points_b, kept, size_a, size_b)

    shared = max(1.0, kept.sum() / INDEPENDENT)
    spread = (OPTIMISM * max(noise, 0.1)) ** 2 * shared * best.covariance
    rotation_error = math.degrees(math.sqrt(np.trace(spread[:3, :3])))
    direction_error = math.degrees(math.sqrt(np.trace(spread[3:, 3:])))
    rotation, translation = epipolar.inverted(best.R, best.t)
    note = ""
    if alternative is not None:
        note = (
            "Two motions explain the matches about equally well, as when most lie on one plane: "
            "add a photo in which something stands in front of the plane."
        )
    return RelativePose(
        rotation=rotation,
        translation=translation,
        points_a=points_a[kept],
        points_b=points_b[kept],
        matches=matches,
        parallax=float(np.median(epipolar.parallax(best.R, rays_a[kept], rays_b[kept]))),
        rotation_error=rotation_error,
        direction_error=min(direction_error, 180.0),
        confidence=_confidence(rotation_error, direction_error)
        * _trust(kept.sum() / matches)
        * (0.5 if alternative is not None else 1.0),
        false_alarms=_false_alarms(matches, int(kept.sum()), size_a, size_b),
        planar=planar,
        alternative=None if alternative is None else epipolar.inverted(alternative.R, alternative.t),
        note=note,
    )


class _Reading(NamedTuple):
    """The motion that explains the matches best."""

    best: Refined
    alternative: Refined | None  # another that is about as good
    planar: bool  # all that fits lies on one plane
    kept: Array  # (M,) which matches fit, before both cameras
    distances: Array  # (M,) pixels
    noise: float  # pixels, one standard deviation of what fits


def _only_turned(turned: Array, reading: _Reading) -> bool:
    """Whether what moved beyond a rotation is noise.

    Noise has no preferred direction: it is as large along the epipolar lines as across them.
    Parallax is along them only. Few matches that moved may be outliers."""
    # What is a pixel in one photo is a root 2 less when both share it.
    bound = max(STILL / math.sqrt(2), 3 * reading.noise)
    moved = int((reading.kept & (turned > bound)).sum())
    return moved < max(FEW, FEW_SHARE * reading.kept.sum()) or _stretch(turned, reading) < STRETCH


def _stretch(turned: Array, reading: _Reading) -> float:
    """Variance along the epipolar lines over that across; outliers count 3 pixels."""
    across = reading.distances[reading.kept] ** 2
    along = np.clip(turned[reading.kept] ** 2 - across, 0, (3 * STILL) ** 2)
    return float(along.mean() / max(across.mean(), 0.02**2))


def _essential_pose(points_a, points_b, rays_a, rays_b, K_a, K_b, seed) -> Refined | None:
    """MAGSAC++, decomposition, and refinement on what fits."""
    params = cv2.UsacParams()
    params.threshold, params.confidence, params.maxIterations = INLIER, 0.9999, 5000
    params.sampler, params.score = cv2.SAMPLING_UNIFORM, cv2.SCORE_METHOD_MAGSAC
    params.loMethod, params.loIterations, params.loSampleSize = cv2.LOCAL_OPTIM_SIGMA, 10, 50
    params.isParallel, params.randomGeneratorState = False, seed % 2**31
    E, mask = cv2.findEssentialMat(points_a, points_b, K_a, K_b, None, None, params)
    if E is None or E.shape != (3, 3) or not np.isfinite(E).all():
        return None
    fits = mask.ravel() > 0
    if fits.sum() < 5:
        return None
    pose = epipolar.decomposed(E, rays_a[fits], rays_b[fits])
    return _refined_on_inliers(*pose, fits, rays_a, rays_b, K_a, K_b)


def _refined_on_inliers(R, t, fits, rays_a, rays_b, K_a, K_b, wide=False) -> Refined | None:
    """Rounds of refinement, each on what fits then; `wide` first takes in what nearly fits."""
    pose = None
    for bound in (4.0, 2.0, 1.0, 1.0) if wide else (1.0, 1.0):
        if fits.sum() < FEWEST_MATCHES:
            return None
        pose = epipolar.refined(R, t, rays_a[fits], rays_b[fits], K_a, K_b)
        R, t = pose.R, pose.t
        fits = np.abs(epipolar.sampson(R, t, rays_a, rays_b, K_a, K_b)) < bound * INLIER
    return pose


def _rotation_pose(turn, points_a, points_b, rays_a, rays_b, K_b, kept, matches, size_a, size_b):
    """The answer for a camera that only turned."""
    count = int(kept.sum())
    focal = math.sqrt(K_b[0, 0] * K_b[1, 1])
    error = math.degrees(STILL / focal / math.sqrt(count) * math.sqrt(3))
    shift = np.linalg.norm(points_b[kept] - points_a[kept], axis=1)
    rotation = turn.T
    identical = bool(size_a == size_b and np.quantile(shift, 0.95) < 0.1)
    return RelativePose(
        rotation=np.eye(3) if identical else rotation,
        translation=np.zeros(3),
        points_a=points_a[kept],
        points_b=points_b[kept],
        matches=matches,
        parallax=float(np.median(epipolar.parallax(turn, rays_a[kept], rays_b[kept]))),
        rotation_error=error,
        direction_error=180.0,
        confidence=_confidence(error, 0.0),
        false_alarms=_false_alarms(matches, count, size_a, size_b, rotation_only=True),
        pure_rotation=True,
        identical=identical,
        note="The two photos are the same: the camera did not move."
        if identical
        else "The camera turned on the spot, or everything is too far away to show that it moved: "
        "its direction of motion is unknown.",
    )


def _best_reading(turn, turned, points_a, points_b, rays_a, rays_b, K_a, K_b, seed) -> _Reading | None:
    """The best of several motions, each refined on all matches, or None if none fits.

    Two motions explain one plane (Longuet-Higgins 1986), a small step may hide behind a rotation,
    and random samples may find either: samples of several seeds, both motions of the dominant
    plane, and a step beside the best rotation compete."""
    rays, away = (rays_a, rays_b, K_a, K_b), None
    poses = [_essential_pose(points_a, points_b, *rays, seed + i) for i in range(SEEDS)]
    near = turned < max(4 * INLIER, float(np.median(turned)))
    step = epipolar.best_step(turn, rays_a[near], rays_b[near])
    poses.append(_refined_on_inliers(turn, step, near, *rays, wide=True))
    H = _homography(points_a, points_b, seed)
    if H is not None:
        predicted = np.column_stack([points_a, np.ones(len(points_a))]) @ H.T
        with np.errstate(divide="ignore", invalid="ignore"):
            away = np.linalg.norm(predicted[:, :2] / predicted[:, 2:] - points_b, axis=1)
        on_plane = away < 2 * INLIER
        if on_plane.sum() >= FEWEST_MATCHES:
            planes = epipolar.poses_of_plane(np.linalg.inv(K_b) @ H @ K_a, rays_a[on_plane])
            for pose in planes:
                for wide in (False, True):
                    poses.append(_refined_on_inliers(*pose, on_plane, *rays, wide=wide))

    readings = []
    for pose in poses:
        if pose is None:
            continue
        distances = np.abs(epipolar.sampson(pose.R, pose.t, *rays))
        fits = distances < INLIER
        if not fits.any():
            continue
        noise = 1.4826 * float(np.median(distances[fits]))
        # A place without parallax may fall behind a camera by noise alone; others may not.
        still = turned < max(STILL, 3 * noise)
        ahead = epipolar.in_front(pose.R, pose.t, rays_a, rays_b)
        behind = epipolar.in_front(pose.R, -pose.t, rays_a, rays_b)
        if (behind & fits).sum() > (ahead & fits).sum():
            pose, ahead = pose._replace(t=-pose.t), behind
        kept = fits & (still | ahead)
        if kept.sum() < FEWEST_MATCHES:
            continue
        cost = float((np.where(kept, distances, INLIER) ** 2).sum())
        noise = 1.4826 * float(np.median(distances[kept]))
        readings.append((cost, _Reading(pose, None, False, kept, distances, noise)))
    if not readings:
        return None
    readings.sort(key=lambda pair: pair[0])
    least, best = readings[0]
    noise, count = max(best.noise, 0.1), int(best.kept.sum())
    planar = False
    if away is not None:
        # Transfer errors hold the noise of both photos in both directions: five are ample.
        off_plane = int((best.kept & ~(away < 5 * noise)).sum())
        planar = off_plane < max(FEW, FEW_SHARE * count)
    # Each reading measures another component of the same noise: even two perfect ones differ in
    # cost like two chi-squares with n matches as degrees of freedom, of variance 4 n noise^4.
    tie = 3 * math.sqrt(4 * count) * (OPTIMISM * noise) ** 2
    close = min(INLIER, 3 * noise)
    close_count = int((best.kept & (best.distances < close)).sum())
    for cost, other in readings[1:]:
        apart = max(
            epipolar.rotation_angle(best.best.R.T @ other.best.R),
            angle_between(best.best.t, other.best.t),
        )
        as_many = (other.kept & (other.distances < close)).sum() >= AS_MANY * close_count
        if apart > 3 and (cost - least < tie or as_many):
            return best._replace(planar=planar, alternative=other.best)
    return best._replace(planar=planar)


def _homography(points_a, points_b, seed) -> Array | None:
    params = cv2.UsacParams()
    params.threshold, params.confidence, params.maxIterations = 2 * INLIER, 0.9999, 2000
    params.score, params.randomGeneratorState = cv2.SCORE_METHOD_MAGSAC, seed % 2**31
    H, _ = cv2.findHomography(points_a, points_b, params)
    return H if H is not None and H.shape == (3, 3) and np.isfinite(H).all() else None


def angle_between(u: Array, v: Array) -> float:
    """The angle of two vectors (3,) in degrees, signed directions: opposite ones are 180 apart."""
    return math.degrees(math.atan2(np.linalg.norm(np.cross(u, v)), float(u @ v)))


def _confidence(rotation_error: float, direction_error: float) -> float:
    """Chance that both errors stay below 5 degrees if they are Gaussian: the rotation's in three
    dimensions is bounded by its norm's exponential tail, the direction's in two is Rayleigh."""
    chance = 1.0
    for sigma, dimensions in ((rotation_error, 3), (direction_error, 2)):
        per_axis = sigma / math.sqrt(dimensions)
        chance *= 1.0 - math.exp(-0.5 * (5.0 / max(per_axis, 1e-6)) ** 2)
    return chance


def _trust(share: float) -> float:
    """What a fit is worth of which only this share of the matches is an inlier."""
    return float(np.interp(share, (0.4, 0.8), (0.5, 1.0)))


def _false_alarms(matches: int, fits: int, size_a, size_b, rotation_only: bool = False) -> float:
    """log10 of the number of models with `fits` of `matches` inliers that chance alone provides.

    Moisan and Stival, "A probabilistic criterion to detect rigid point matches" (IJCV 2004), eq. 6,
    with the five-point solver's ten solutions; for a rotation, two-point samples and discs."""
    sample, solutions = (2, 1) if rotation_only else (5, 10)
    if fits <= sample:
        return math.inf
    share = 0.0  # of the photo that lies within the inlier bound of a line, or of a point
    for height, width in (size_a, size_b):
        # Sampson distance is a root 2 shorter than the distance to the line in one photo.
        band = 2 * math.sqrt(2) * INLIER * math.hypot(height, width)
        disc = math.pi * (3 * STILL) ** 2
        share = max(share, min(1.0, (disc if rotation_only else band) / (height * width)))
    return (
        math.log10(solutions * (matches - sample))
        + _log10_choose(matches, fits)
        + _log10_choose(fits, sample)
        + (fits - sample) * math.log10(share)
    )


def _log10_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)


def _refuse_chance(points_a, points_b, kept, size_a, size_b, rotation_only: bool = False) -> None:
    """Raise `NoOverlap` if such a fit may be luck, or all of it is one small spot."""
    count = int(kept.sum())
    if _false_alarms(len(points_a), count, size_a, size_b, rotation_only) > LARGEST_FALSE_ALARMS:
        raise NoOverlap(_no_overlap(len(points_a), count))
    for points, (height, width) in ((points_a[kept], size_a), (points_b[kept], size_b)):
        hull = cv2.convexHull(points.astype(np.float32))
        if cv2.contourArea(hull) < SMALLEST_SPOT * height * width:
            raise NoOverlap(
                "All that the two photos share is one small spot, such as a watermark. "
                "Choose photos that show the same scene."
            )


def _no_overlap(matches: int, fits: int) -> str:
    return (
        f"The two photos could not be matched: {fits} of {matches} matches agree on "
        "a camera motion, no more than chance would give. Choose photos taken closer together, "
        "with at least a third of the picture in common, or use a learned matcher."
    )


def at_full_size(pose, full_a, small_a, full_b, small_b, same: bool) -> RelativePose:
    """`pose` with its points in pixels of the photographs as given."""
    scale_a = np.array([full_a[1] / small_a[1], full_a[0] / small_a[0]])
    scale_b = np.array([full_b[1] / small_b[1], full_b[0] / small_b[0]])
    fields = {
        **pose.__dict__,
        "points_a": pose.points_a * scale_a,
        "points_b": pose.points_b * scale_b,
    }
    if pose.identical and not same:
        fields["note"] = "The two photos are taken from the same place in the same direction."
    return RelativePose(**fields)
