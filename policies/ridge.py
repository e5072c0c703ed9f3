"""Ridge regression in closed form, one regression an arm, with the posterior of its predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unroller.faults import PolicyError

ALPHAS = tuple(10.0**p for p in np.arange(-2, 5.5, 0.5))
"""Penalties to choose from."""

LEAST_NOISE = 1e-6


class Ridge(NamedTuple):
    """K regressions over D standardised features.

    centre, scale (D,): of the features; weights (K, D), intercept (K,): predictions are z · w + b for z = (x
    − centre) / scale; middle (K, D): mean z of each arm's rows; covariance (K, D, D): of the weights;
    variance (K,): of an intercept; noise (1,): standard deviation of what is not explained; alpha: the
    penalty.
    """

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    intercept: np.ndarray
    middle: np.ndarray
    covariance: np.ndarray
    variance: np.ndarray
    noise: np.ndarray
    alpha: np.ndarray

    def expected(self, features: np.ndarray) -> np.ndarray:
        """Expected values (B, K) for features (B, D)."""
        return (features - self.centre) / self.scale @ self.weights.T + self.intercept

    def spread(self, features: np.ndarray) -> np.ndarray:
        """The standard deviations (B, K) of those expectations."""
        z = (features - self.centre) / self.scale  # (B, D)
        apart = z - self.middle[:, None]  # (K, B, D)
        variance = (apart @ self.covariance * apart).sum(-1).T + self.variance  # (B, K)
        return np.sqrt(np.maximum(variance, 0))


def fit(features: np.ndarray, values: np.ndarray, alpha: float | None = None) -> Ridge:
    """Fit values (N, K) on features (N, D); NaN is a value that was not observed.

    For an arm with rows Z (standardised, then centred on the arm's rows) and centred values y:

        w = (ZᵀZ + αI)⁻¹ Zᵀy        Cov(w) = σ² (ZᵀZ + αI)⁻¹        σ² = Σ |y − Zw|² / Σ (n − df)

    with df the trace of the hat matrix and one for the intercept, which is not penalised; σ² is one for all
    arms, so that an arm which was observed a few times is not taken for certain. alpha=None takes the penalty
    of `ALPHAS` with the least squared leave-one-out error over all arms, in closed form. Raises PolicyError.
    """
    x, y = _checked(features, values)
    centre = x.mean(0)
    deviation = x.std(0)
    scale = np.where(deviation > 1e-9, deviation, 1.0)
    z = (x - centre) / scale
    arms = [_Arm(z[seen], y[seen, k]) for k, seen in enumerate(np.isfinite(y).T)]
    chosen = min(ALPHAS, key=lambda a: sum(arm.left_out(a) for arm in arms)) if alpha is None else alpha
    if not chosen > 0:
        raise PolicyError(f"the penalty of a ridge regression is above 0, not {chosen}")
    solved = [arm.solve(chosen) for arm in arms]
    weights, inverse = np.stack([s[0] for s in solved]), np.stack([s[1] for s in solved])
    noise = max((sum(s[2] for s in solved) / max(sum(s[3] for s in solved), 1.0)) ** 0.5, LEAST_NOISE)
    middle = np.stack([arm.middle for arm in arms])
    mean = np.array([arm.mean for arm in arms])
    variance = noise**2 / np.array([arm.n for arm in arms])
    intercept = mean - (middle * weights).sum(1)
    covariance = noise**2 * inverse
    one = np.array([noise]), np.array([chosen])
    return Ridge(centre, scale, weights, intercept, middle, covariance, variance, *one)


class _Arm:
    """One regression, its rows turned once into the axes in which every penalty is a division."""

    def __init__(self, z: np.ndarray, y: np.ndarray) -> None:
        self.n = len(y)
        self.middle, self.mean = z.mean(0), float(y.mean())
        self.y = y - self.mean
        self.u, self.s, self.vt = np.linalg.svd(z - self.middle, full_matrices=False)
        self.uy = self.u.T @ self.y

    def _kept(self, alpha: float) -> np.ndarray:
        return self.s**2 / (self.s**2 + alpha)

    def left_out(self, alpha: float) -> float:
        """The sum of squared errors where each row is predicted from the others."""
        kept = self._kept(alpha)
        errors = self.y - self.u @ (kept * self.uy)
        hat = (self.u**2) @ kept + 1 / self.n
        return float(((errors / np.maximum(1 - hat, 1e-6)) ** 2).sum())

    def solve(self, alpha: float) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Weights (D,), (ZᵀZ + αI)⁻¹ (D, D), the sum of squared errors, and n − df."""
        weights = self.vt.T @ (self.s / (self.s**2 + alpha) * self.uy)
        kept = self._kept(alpha)
        errors = self.y - self.u @ (kept * self.uy)
        size = self.vt.shape[1]
        inner = np.eye(size) / alpha + self.vt.T @ np.diag(1 / (self.s**2 + alpha) - 1 / alpha) @ self.vt
        return weights, inner, float((errors**2).sum()), max(self.n - float(kept.sum()) - 1, 0.0)


def _checked(features: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(features, float), np.asarray(values, float)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise PolicyError(f"features are (N, D) and scores (N, K), not {x.shape} and {y.shape}")
    if not np.isfinite(x).all():
        raise PolicyError("features hold NaN or infinity: leave those problems out")
    if np.isinf(y).any():
        raise PolicyError("scores hold infinity: leave those out, as NaN")
    few = np.flatnonzero(np.isfinite(y).sum(0) < 3)
    if few.size:
        raise PolicyError(
            f"arm {few[0]} was observed fewer than 3 times: leave it out, or run it on more problems"
        )
    return x, y
