"""Epipolar geometry on numpy arrays: residuals, triangulation, decomposition and refinement.

Here, and only here and in its caller, a pose is what epipolar formulas want: `x_b = R x_a + t`,
which takes a point from camera a's frame to camera b's (world-to-camera). `inverted` turns it
into the project's pose of b in a's frame and back.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from primitives.backends.pinhole import Array, projected

CAUCHY = 1.0  # pixels: the residual at which a match counts half


class Refined(NamedTuple):
    R: Array  # (3, 3)
    t: Array  # (3,) unit length
    cost: float  # sum of robust squared residuals, pixels squared
    covariance: Array  # (5, 5) of a rotation vector in radians and two tangents of t, unit noise


def inverted(R: Array, t: Array) -> tuple[Array, Array]:
    """The inverse of `x -> R x + t`."""
    return R.T, -R.T @ t


def cross_matrix(v: Array) -> Array:
    """The (3, 3) matrix of `v x`."""
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def rotation_from_vector(v: Array) -> Array:
    """Rodrigues' formula: the rotation (3, 3) about `v` (3,) by its length in radians."""
    return cv2.Rodrigues(np.asarray(v, dtype=np.float64))[0]


def rotation_angle(R: Array) -> float:
    """The angle of `R` in degrees, accurate near 0, where the trace formula is not."""
    return float(np.degrees(np.linalg.norm(cv2.Rodrigues(R)[0])))


def sampson(R: Array, t: Array, rays_a: Array, rays_b: Array, K_a: Array, K_b: Array) -> Array:
    """Signed Sampson distances (N,) in pixels of matched rays (N, 3) (Sampson 1982; Hartley and
    Zisserman, 2nd ed., eq. 11.9)."""
    E = cross_matrix(t) @ R
    lines_b, lines_a = rays_a @ E.T, rays_b @ E  # (N, 3) epipolar lines, in normalised coordinates
    # A line l in normalised coordinates is K^-T l in pixels; its normal are the first two entries.
    slope_a = lines_a @ np.linalg.inv(K_a)[:, :2]
    slope_b = lines_b @ np.linalg.inv(K_b)[:, :2]
    squares = (slope_a**2).sum(axis=1) + (slope_b**2).sum(axis=1)
    return (rays_b * lines_b).sum(axis=1) / np.sqrt(np.maximum(squares, 1e-18))


def triangulated(R: Array, t: Array, rays_a: Array, rays_b: Array) -> tuple[Array, Array]:
    """Depths (N,) along rays of depth 1 in camera a and b, by the mid-point of their shortest
    connection. Parallel rays give infinity."""
    turned = rays_a @ R.T  # (N, 3): z_b rays_b = z_a turned + t
    aa, bb = (turned**2).sum(axis=1), (rays_b**2).sum(axis=1)
    ab = (turned * rays_b).sum(axis=1)
    at, bt = turned @ t, rays_b @ t
    determinant = aa * bb - ab**2
    with np.errstate(divide="ignore", invalid="ignore"):
        z_a = (ab * bt - bb * at) / determinant
        z_b = (aa * bt - ab * at) / determinant
    flat = determinant <= 1e-15 * aa * bb
    return np.where(flat, np.inf, z_a), np.where(flat, np.inf, z_b)


def parallax(R: Array, rays_a: Array, rays_b: Array) -> Array:
    """Angles (N,) in degrees between matched rays once the rotation is undone."""
    a, b = rays_a @ R.T, rays_b
    across = np.linalg.norm(np.cross(a, b), axis=1)
    return np.degrees(np.arctan2(across, (a * b).sum(axis=1)))


def in_front(R: Array, t: Array, rays_a: Array, rays_b: Array) -> Array:
    """Which matches (N,) lie before both cameras."""
    z_a, z_b = triangulated(R, t, rays_a, rays_b)
    return (z_a > 0) & (z_b > 0)


def decomposed(E: Array, rays_a: Array, rays_b: Array) -> tuple[Array, Array]:
    """Of the four poses of an essential matrix the one with most points in front."""
    R1, R2, t = cv2.decomposeEssentialMat(E)
    t = t.ravel() / np.linalg.norm(t)
    poses = [(R, s * t) for R in (R1, R2) for s in (1, -1)]
    return max(poses, key=lambda pose: int(in_front(*pose, rays_a, rays_b).sum()))


def refined(R: Array, t: Array, rays_a: Array, rays_b: Array, K_a: Array, K_b: Array) -> Refined:
    """Levenberg-Marquardt on the five degrees of freedom, Sampson distance, Cauchy loss.

    The pose minimises sum c^2 log(1 + (r / c)^2) with c = 1 pixel. The covariance is that of the
    last linear step for residuals of unit variance."""

    def residuals(R, t):
        return sampson(R, t, rays_a, rays_b, K_a, K_b)

    def loss(r):
        return float((CAUCHY**2 * np.log1p((r / CAUCHY) ** 2)).sum())

    def moved(R, t, tangents, step):
        direction = t + tangents @ step[3:]
        return rotation_from_vector(step[:3]) @ R, direction / np.linalg.norm(direction)

    r, damping, information = residuals(R, t), 1e-3, np.eye(5)
    cost = loss(r)
    for _ in range(25):
        tangents = np.linalg.svd(t[None])[2][1:].T  # (3, 2) orthogonal to t
        jacobian = np.empty((len(r), 5))
        for i, step in enumerate(1e-6 * np.eye(5)):
            ahead, behind = moved(R, t, tangents, step), moved(R, t, tangents, -step)
            jacobian[:, i] = (residuals(*ahead) - residuals(*behind)) / 2e-6
        weighted = jacobian / (1 + (r / CAUCHY) ** 2)[:, None]
        information, gradient = weighted.T @ jacobian, weighted.T @ r
        gained = 0.0
        for _ in range(8):
            damped = information + damping * np.diag(np.diag(information) + 1e-12)
            R_new, t_new = moved(R, t, tangents, -np.linalg.solve(damped, gradient))
            r_new = residuals(R_new, t_new)
            if (cost_new := loss(r_new)) < cost:
                gained, damping = cost - cost_new, max(damping / 10, 1e-9)
                R, t, r, cost = R_new, t_new, r_new, cost_new
                break
            damping *= 10
        if gained <= 1e-9 * cost:
            break
    return Refined(R, t, cost, np.linalg.pinv(information, hermitian=True))


def rotated_residuals(R: Array, rays_a: Array, points_b: Array, K_b: Array) -> Array:
    """How far (N, 2), in pixels of b, matches lie from where a rotation alone would put them."""
    return points_b - projected(rays_a @ R.T, K_b)[0]


def turn_distances(
    R: Array, points_a: Array, points_b: Array, rays_a: Array, rays_b: Array, K_a: Array, K_b: Array
) -> Array:
    """How far (N,) matches lie from a rotation, shared out over both photos as Sampson's distance
    is: a wide turn magnifies the noise of one photo's margin in the other."""
    in_b = (rotated_residuals(R, rays_a, points_b, K_b) ** 2).sum(axis=1)
    in_a = (rotated_residuals(R.T, rays_b, points_a, K_a) ** 2).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(in_a * in_b / np.maximum(in_a + in_b, 1e-18))


def best_step(R: Array, rays_a: Array, rays_b: Array) -> Array:
    """The direction t (3,) beside a known rotation, its sign arbitrary: that most nearly in all
    planes of matched rays, iteratively re-weighted."""
    normals = np.cross(rays_a @ R.T, rays_b)  # (N, 3) of length about the parallax
    weights = np.ones(len(normals))
    t = np.array([1.0, 0, 0])
    for _ in range(10):
        weighted = normals * weights[:, None]
        t = np.linalg.eigh(weighted.T @ weighted)[1][:, 0]
        off = np.abs(normals @ t)
        weights = 1 / (1 + (off / max(2 * float(np.median(off)), 1e-9)) ** 2)
    return t


def best_rotation(
    rays_a: Array, rays_b: Array, points_b: Array, K_b: Array, bound: float, seed: int
) -> Array:
    """The rotation (3, 3) from a's frame to b's that explains most matches within `bound` pixels:
    two-point samples, then iteratively re-weighted Kabsch."""
    a = rays_a / np.linalg.norm(rays_a, axis=1, keepdims=True)
    b = rays_b / np.linalg.norm(rays_b, axis=1, keepdims=True)
    pairs = np.random.default_rng(seed).integers(len(a), size=(200, 2))
    best, most = np.eye(3), -1
    for R in _frames(b[pairs]) @ _frames(a[pairs]).transpose(0, 2, 1):
        count = int((np.abs(rotated_residuals(R, rays_a, points_b, K_b)).max(axis=1) < bound).sum())
        if count > most:
            best, most = R, count
    for _ in range(10):
        far = (rotated_residuals(best, rays_a, points_b, K_b) ** 2).sum(axis=1)
        weights = 1 / (1 + far / bound**2) ** 2
        U, _, Vt = np.linalg.svd((b * weights[:, None]).T @ a)
        best = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    return best


def _frames(pairs: Array) -> Array:
    """Right-handed orthonormal frames (N, 3, 3), as columns, spanned by pairs of rays (N, 2, 3)."""
    x = pairs[:, 0]
    z = np.cross(x, pairs[:, 1])
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    return np.stack([x, np.cross(z, x), z], axis=2)


def poses_of_plane(H: Array, rays_a: Array) -> list[tuple[Array, Array]]:
    """Poses under which the homography `H` (3, 3), on normalised coordinates, is that of a plane
    that camera a sees (Malis and Vargas 2007). At most two remain."""
    count, rotations, translations, normals = cv2.decomposeHomographyMat(H, np.eye(3))
    poses = []
    for R, t, n in list(zip(rotations, translations, normals, strict=True))[:count]:
        length = np.linalg.norm(t)
        if length > 1e-9 and np.mean(rays_a @ n.ravel() > 0) > 0.99:
            poses.append((R, t.ravel() / length))
    return poses
