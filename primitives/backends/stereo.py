"""Dense depth of one photograph from a second one, their cameras being known.

Where the camera moved sideways or up, both photos are rectified and matched by semi-global
matching (Hirschmueller, PAMI 2008; OpenCV's StereoSGBM); where it moved ahead, so that the epipole
falls into or near a picture, planes are swept instead (`plane_sweep`). Both are run from either
photo and kept where the two agree.

Rectification is that of Fusiello, Trucco and Verri (2000), written out here: OpenCV's
`stereoRectify` wants equal picture sizes, treats vertical steps as another case and may crop; a
common x axis along the baseline treats steps in any direction, and any two cameras, alike.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from primitives.backends import epipolar, plane_sweep
from primitives.backends.matching import find_keypoints, match_keypoints
from primitives.backends.pinhole import (
    Array,
    GeometryError,
    Image,
    checked_image,
    checked_intrinsics,
    checked_pose,
    normalised,
    pixel_centres,
    projected,
    sampling_grid,
    shrunk,
)

LONGEST = 640  # pixels a side that are matched; depth is returned at the size of the photo
LONGEST_SWEEP = 320
STEEPEST = 0.35  # least cosine between a corner's ray and the rectified axis: 69 degrees
LARGEST = 3.0  # a rectified picture may have that many times the pixels of the photo
MOST_CELLS = 40e6  # pixels times disparities; a larger search runs on a reduced pair
AGREEMENT = 0.04  # relative difference of depth between the two directions
MARGIN = 1.4  # the search goes that factor beyond the nearest and farthest triangulated match
LEAST_DISPARITY = 0.75  # pixels: less parallax gives no depth


class NoParallax(GeometryError):
    """The two photos were taken from one place, so they hold no depth."""


class NoDepth(GeometryError):
    """Too little agrees between the two photos under the pose that was given."""


class Depth(NamedTuple):
    depth: NDArray[np.float32]  # (H, W) z in the unit of the translation, 0 where not valid
    valid: NDArray[np.bool_]  # (H, W)
    coverage: float  # share of valid pixels
    method: str  # "rectified" or "plane sweep"


def two_view_depth(
    image_a: ArrayLike,
    image_b: ArrayLike,
    K_a: ArrayLike,
    K_b: ArrayLike,
    rotation: ArrayLike,
    translation: ArrayLike,
    points: tuple[ArrayLike, ArrayLike] | None = None,
    method: str | None = None,
) -> Depth:
    """Depth of photo a, given the pose of camera b in a's frame.

    The pose is `x_a = rotation @ x_b + translation`, as `RelativePose` has it. Depth is z along a's
    axis, in the unit of `translation`: baselines if that has unit length, metres if it is metric.
    `points` are matched pixels (N, 2) in a and in b, as `RelativePose` has them, which bound the
    search; without them they are found. `method` forces "rectified" or "plane sweep".

    Raises `InvalidImage`, `InvalidIntrinsics`, `InvalidPose`; `NoParallax` for a zero translation;
    `NoDepth` where hardly any match fits the pose."""
    image_a, image_b = checked_image(image_a, "image_a"), checked_image(image_b, "image_b")
    K_a, K_b = checked_intrinsics(K_a, "K_a"), checked_intrinsics(K_b, "K_b")
    rotation, translation = checked_pose(rotation, translation)
    baseline = float(np.linalg.norm(translation))
    if baseline < 1e-9:
        raise NoParallax(
            "The camera turned without moving, and such photos hold no depth: take the second one "
            "from a step aside, or ask a learned depth model."
        )
    R, t = epipolar.inverted(rotation, translation / baseline)  # x_b = R x_a + t
    near, far = depth_range(image_a, image_b, K_a, K_b, R, t, points)

    height, width = image_a.shape[:2]
    small_a, small_K_a = shrunk(image_a, K_a, LONGEST)
    small_b, small_K_b = shrunk(image_b, K_b, LONGEST)
    pair = _rectification(small_a, small_b, small_K_a, small_K_b, R, t, near, far)
    if method is None:
        method = "plane sweep" if pair is None else "rectified"
    if method == "rectified":
        if pair is None:
            raise NoDepth("These photos cannot be rectified: the camera moved ahead. Sweep planes instead.")
        depth, valid = _rectified_depth(small_a, small_K_a, pair)
    elif method == "plane sweep":
        depth, valid = _swept_depth(image_a, image_b, K_a, K_b, R, t, near, far)
    else:
        raise ValueError(f'method must be "rectified", "plane sweep" or None, not {method!r}.')

    valid &= np.isfinite(depth) & (depth > near / 2) & (depth < 2 * far)
    depth, valid = _without_specks(depth, valid)
    if depth.shape != (height, width):
        depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST)
        valid = cv2.resize(valid.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    depth = np.where(valid, baseline * depth, 0).astype(np.float32)
    return Depth(depth, valid, float(valid.mean()), method)


def depth_range(image_a, image_b, K_a, K_b, R, t, points=None) -> tuple[float, float]:
    """Nearest and farthest depth in photo a worth searching, from triangulated matches.

    `x_b = R x_a + t`. Raises `NoDepth` if fewer than eight matches fit the pose with parallax."""
    if points is None:
        (small_a, small_K_a), (small_b, small_K_b) = (
            shrunk(image_a, K_a, 800),
            shrunk(image_b, K_b, 800),
        )
        points = match_keypoints(find_keypoints(small_a), find_keypoints(small_b))
    else:
        small_K_a, small_K_b = K_a, K_b
    points_a, points_b = (np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in points)
    rays_a, rays_b = normalised(points_a, small_K_a), normalised(points_b, small_K_b)
    bound = 2.0 * max(1.0, max(image_a.shape) / 1600 if small_K_a is K_a else 1.0)
    fits = np.abs(epipolar.sampson(R, t, rays_a, rays_b, small_K_a, small_K_b)) < bound
    z_a, z_b = epipolar.triangulated(R, t, rays_a, rays_b)
    z_a = z_a[fits & (z_a > 0) & (z_b > 0) & (z_a < 1e3)]
    if len(z_a) < 8:
        raise NoDepth(
            f"Only {len(z_a)} points of the two photos fit the given pose with any parallax: check "
            "the pose and intrinsics, or take the second photo from farther aside."
        )
    nearest, farthest = np.quantile(z_a, (0.01, 0.99))
    return float(nearest / MARGIN), float(farthest * MARGIN)


class _Rectified(NamedTuple):
    """Two pictures whose rows match: a place at x in the left lies at x - disparity in the right,
    with z = focal / (disparity - offset) baselines along the common axis."""

    left: Image
    right: Image
    seen_left: NDArray[np.bool_]
    rotation: Array  # (3, 3) from camera a's frame to the rectified one
    K: Array  # (3, 3) of the left picture
    offset: float  # pixels: difference of the two principal points
    lowest: int  # least disparity to be searched
    count: int  # disparities to be searched


def _rectification(image_a, image_b, K_a, K_b, R, t, near, far, scale=1.0) -> _Rectified | None:
    """Both photos in planes parallel to the baseline, or None if a picture would grow too far."""
    centre_b = -R.T @ t  # unit length: the x axis, which makes a the left camera of the two
    ahead = np.array([0, 0, 1.0]) + R[2]  # mean of the two optical axes, in a's frame
    y = np.cross(ahead, centre_b)
    if np.linalg.norm(y) < 0.2:
        return None
    y /= np.linalg.norm(y)
    to_common = np.stack([centre_b, y, np.cross(centre_b, y)])  # (3, 3), rows
    focal = scale * math.sqrt(K_a[0, 0] * K_a[1, 1])
    boxes = []
    for image, K, turn in ((image_a, K_a, to_common), (image_b, K_b, to_common @ R.T)):
        rays = normalised(_border(image.shape), K)
        rays = rays / np.linalg.norm(rays, axis=1, keepdims=True) @ turn.T
        if rays[:, 2].min() < STEEPEST:
            return None
        plane = focal * rays[:, :2] / rays[:, 2:]
        boxes.append((plane.min(axis=0), plane.max(axis=0)))
    # One range of rows, those that both show; each its own range of columns, of equal width.
    (low_a, high_a), (low_b, high_b) = boxes
    top, bottom = max(low_a[1], low_b[1]), min(high_a[1], high_b[1])
    width = math.ceil(max(high_a[0] - low_a[0], high_b[0] - low_b[0]))
    height = math.ceil(bottom - top)
    if height < 32 * scale or width * height > LARGEST * image_a.shape[0] * image_a.shape[1]:
        return None
    offset = low_b[0] - low_a[0]
    slant = _slant(image_a, K_a, to_common)
    lowest = math.floor(focal / (far * slant.max()) + offset) - 1
    highest = math.ceil(focal / (near * slant.min()) + offset) + 1
    count = 16 * math.ceil((highest - lowest) / 16)
    if scale == 1.0 and (excess := width * height * count / MOST_CELLS) > 1:
        smaller = excess ** (-1 / 3)
        return _rectification(image_a, image_b, K_a, K_b, R, t, near, far, smaller)
    pictures = []
    for image, K, turn, left in (
        (image_a, K_a, to_common, low_a[0]),
        (image_b, K_b, to_common @ R.T, low_b[0]),
    ):
        K_new = np.array([[focal, 0, -left], [0, focal, -top], [0, 0, 1]])
        rays = pixel_centres(height, width) @ np.linalg.inv(K_new).T @ turn
        pixels, z = projected(rays, K)
        maps = sampling_grid(pixels)
        picture = cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        seen = ((pixels >= 0) & (pixels <= (image.shape[1], image.shape[0]))).all(axis=-1) & (z > 0)
        pictures.append((picture, seen, K_new))
    (left, seen_left, K_left), (right, _, _) = pictures
    return _Rectified(left, right, seen_left, to_common, K_left, offset, lowest, count)


def _slant(image, K, to_common) -> Array:
    """Depth along the rectified axis over depth along the photo's own, (N,) along its frame."""
    return normalised(_border(image.shape), K) @ to_common[2]


def _border(shape) -> Array:
    """Points (N, 2) along the frame of a picture."""
    x, y = np.linspace(0, shape[1], 9), np.linspace(0, shape[0], 9)
    sides = [(x, 0 * x), (x, 0 * x + shape[0]), (0 * y, y), (0 * y + shape[1], y)]
    return np.concatenate([np.column_stack(side) for side in sides])


def _rectified_depth(image_a, K_a, pair: _Rectified):
    """Depth (H, W) and validity of photo a by semi-global matching of the rectified pair."""
    height, width = image_a.shape[:2]
    rays = pixel_centres(height, width) @ np.linalg.inv(K_a).T @ pair.rotation.T  # (H, W, 3)
    focal, lowest, count = pair.K[0, 0], pair.lowest, pair.count

    disparity = _disparity(pair.left, pair.right, lowest, count)
    # The other direction: mirrored, the right picture is the left one of the pair.
    mirrored = _disparity(pair.right[:, ::-1], pair.left[:, ::-1], lowest, count)[:, ::-1]
    columns = np.arange(pair.left.shape[1])
    there = np.clip(np.rint(columns - disparity), 0, len(columns) - 1).astype(np.intp)
    agrees = np.abs(np.take_along_axis(mirrored, there, axis=1) - disparity) <= 1.0
    disparity = _polished(pair.left, pair.right, disparity, agrees)
    parallax = disparity - np.float32(pair.offset)
    agrees &= (disparity >= lowest) & (parallax > LEAST_DISPARITY) & pair.seen_left

    maps = sampling_grid(projected(rays, pair.K)[0])
    parallax = cv2.remap(parallax, *maps, cv2.INTER_NEAREST)
    valid = cv2.remap(agrees.astype(np.uint8), *maps, cv2.INTER_NEAREST) > 0
    depth = focal / np.where(valid, parallax, 1) / rays[..., 2]
    return depth.astype(np.float32), valid


def _disparity(left: Image, right: Image, lowest: int, count: int) -> Array:
    """Disparities (H, W) in pixels; below `lowest` where none was found."""
    block = 5
    # StereoSGBM leaves a strip of `lowest + count` columns unmatched at the left: pad it.
    strip = max(0, lowest + count)
    matcher = cv2.StereoSGBM.create(
        minDisparity=lowest,
        numDisparities=count,
        blockSize=block,
        P1=8 * block**2,
        P2=32 * block**2,
        disp12MaxDiff=-1,
        uniquenessRatio=5,
        preFilterCap=63,
        mode=cv2.StereoSGBM_MODE_HH,
    )
    grey = [cv2.cvtColor(np.ascontiguousarray(i), cv2.COLOR_RGB2GRAY) for i in (left, right)]
    padded = [cv2.copyMakeBorder(g, 0, 0, strip, 0, cv2.BORDER_REPLICATE) for g in grey]
    return matcher.compute(*padded)[:, strip:].astype(np.float32) / 16


def _polished(left: Image, right: Image, disparity, known) -> NDArray[np.float32]:
    """`disparity` with the fraction of a pixel found anew where `known`.

    StereoSGBM pulls fractions towards whole pixels, by up to a third of one; a parabola through
    three window correlations at full precision does not."""
    grey_left, grey_right = (cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).astype(np.float32) for i in (left, right))
    grid = pixel_centres(*disparity.shape).astype(np.float32) - 0.5
    x, y = grid[..., 0], np.ascontiguousarray(grid[..., 1])
    start = np.where(known, disparity, 0).astype(np.float32)
    scores = []
    for step in (-1.0, 0.0, 1.0):
        warped = cv2.remap(grey_right, x - start - np.float32(step), y, cv2.INTER_CUBIC)
        scores.append(plane_sweep.correlation(grey_left, warped))
    before, at, after = scores
    curvature = before - 2 * at + after
    peak = known & (at > before) & (at > after) & (curvature < -1e-3)
    shift = 0.5 * (before - after) / np.where(peak, curvature, -1)
    return np.where(peak, disparity + np.clip(shift, -0.5, 0.5), disparity).astype(np.float32)


def _swept_depth(image_a, image_b, K_a, K_b, R, t, near: float, far: float):
    """Depth (h, w) and validity of photo a, reduced, where sweeps from both photos agree."""
    small_a, small_K_a = shrunk(image_a, K_a, LONGEST_SWEEP)
    small_b, small_K_b = shrunk(image_b, K_b, LONGEST_SWEEP)
    depth, valid = plane_sweep.sweep(small_a, small_b, small_K_a, small_K_b, R, t, near, far)
    rays = pixel_centres(*depth.shape) @ np.linalg.inv(small_K_a).T
    pixels, z = projected((depth[..., None] * rays) @ R.T + t, small_K_b)
    if not valid.any():
        return depth, valid
    near_b, far_b = np.quantile(z[valid], (0.005, 0.995))
    near_b = max(near_b / 1.1, near / 10)
    other, sure = plane_sweep.sweep(
        small_b, small_a, small_K_b, small_K_a, *epipolar.inverted(R, t), near_b, far_b * 1.1
    )
    maps = sampling_grid(pixels)
    there = cv2.remap(other, *maps, cv2.INTER_NEAREST)
    sure = cv2.remap(sure.astype(np.uint8), *maps, cv2.INTER_NEAREST) > 0
    return depth, valid & sure & (np.abs(there - z) < AGREEMENT * np.abs(z))


def _without_specks(depth, valid, share: float = 0.0005):
    """Islands of depth smaller than that share of the picture are chance agreements."""
    # On a logarithmic scale the step of 10 % that ends an island is one constant.
    scale = 1000 / math.log(1e4)
    low = float(np.log(depth[valid].min())) if valid.any() else 0.0
    levels = np.where(valid, np.log(np.maximum(depth, 1e-9)) - low, 0) * scale + 1
    levels = np.where(valid, np.clip(levels, 1, 32000), 0).astype(np.int16)
    cv2.filterSpeckles(levels, 0, int(share * depth.size), scale * math.log(1.1))
    valid = levels > 0
    return np.where(valid, depth, 0).astype(np.float32), valid
