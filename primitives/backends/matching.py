"""Keypoints in two photographs and the pairs among them that look alike: SIFT, made repeatable.

Descriptors are RootSIFT (Arandjelovic and Zisserman, CVPR 2012) rounded to whole numbers. Dot
products of such descriptors stay below 2^24, so float32 sums them exactly in whatever order a
BLAS with any number of threads chooses: equal photographs give equal matches on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from primitives.backends.pinhole import Array, Image

MOST_KEYPOINTS = 4000  # a side; beyond that the exhaustive comparison dominates the running time
ENOUGH_KEYPOINTS = 800  # fewer than that, and fainter ones are looked for
CONTRAST, FAINT_CONTRAST = 0.04, 0.01  # Lowe's threshold in OpenCV's scaling, and one for dim rooms
RATIO = 0.8  # Lowe, IJCV 2004, section 7.1
UNIT = 512.0  # length of a rounded descriptor


class Keypoints(NamedTuple):
    points: Array  # (N, 2) pixels, centres at +0.5
    descriptors: NDArray[np.float32]  # (N, 128) whole numbers


def find_keypoints(image: Image) -> Keypoints:
    """SIFT keypoints of `image` (Lowe, IJCV 2004), in an order that depends on nothing else."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found, raw = _sift(grey, CONTRAST)
    if len(found) < ENOUGH_KEYPOINTS:
        found, raw = _sift(grey, FAINT_CONTRAST)
    if not found:
        return Keypoints(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    # OpenCV counts from the middle of the first pixel, we from its corner.
    points = np.array([k.pt for k in found], dtype=np.float64) + 0.5
    angles = np.array([k.angle for k in found])
    order = np.lexsort((angles, points[:, 1], points[:, 0]))
    root = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9))
    return Keypoints(points[order], np.rint(UNIT * root[order]).astype(np.float32))


def _sift(grey: Image, contrast: float):
    try:  # without it every keypoint lies a quarter of a pixel too far right and down
        detector = cv2.SIFT.create(MOST_KEYPOINTS, contrastThreshold=contrast, enable_precise_upscale=True)
    except (TypeError, cv2.error):  # OpenCV before 4.8
        detector = cv2.SIFT.create(MOST_KEYPOINTS, contrastThreshold=contrast)
    return detector.detectAndCompute(grey, None)


def match_keypoints(a: Keypoints, b: Keypoints) -> tuple[Array, Array]:
    """Pixels (M, 2) in photo a and (M, 2) in photo b that match.

    A pair is kept if each is the other's nearest, passes Lowe's ratio test in both directions, and
    no stronger pair joins the same two places (SIFT describes one place under several angles)."""
    if len(a.points) < 2 or len(b.points) < 2:
        return np.zeros((0, 2)), np.zeros((0, 2))
    squares_a = (a.descriptors**2).sum(axis=1)
    squares_b = (b.descriptors**2).sum(axis=1)
    distance = a.descriptors @ b.descriptors.T  # (N, M)
    distance *= -2
    distance += squares_a[:, None]
    distance += squares_b
    rows = np.arange(len(distance))
    nearest_b = distance.argmin(axis=1)
    nearest_a = distance.argmin(axis=0)
    best = distance[rows, nearest_b]
    columns = np.arange(distance.shape[1])
    best_of_b = distance[nearest_a, columns]
    distance[rows, nearest_b] = np.inf
    next_of_a = distance.min(axis=1)
    distance[rows, nearest_b] = best
    distance[nearest_a, columns] = np.inf
    next_of_b = distance.min(axis=0)
    mutual = nearest_a[nearest_b] == rows
    distinct = (best < RATIO**2 * next_of_a) & (best_of_b < RATIO**2 * next_of_b)[nearest_b]
    kept = np.flatnonzero(mutual & distinct)
    kept = kept[np.argsort(best[kept], kind="stable")]
    both = np.column_stack([a.points[kept], b.points[nearest_b[kept]]])  # (M, 4)
    _, first = np.unique(np.floor(both).astype(np.int64), axis=0, return_index=True)
    both = both[np.sort(first)]
    return both[:, :2], both[:, 2:]
