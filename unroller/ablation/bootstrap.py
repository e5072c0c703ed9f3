"""Paired bootstrap: how sure a mean, or the difference of two rows on the same problems, is.

Problems are drawn with replacement, as many as there are; the percentiles of the means of many such draws
are the interval (Efron 1979, the percentile interval). All rows are looked at in the same draws, so that the
difference of two rows is a difference problem by problem, and what makes a problem hard for both cancels.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

Array = np.ndarray[Any, Any]

RESAMPLES = 10_000
LEVEL = 0.95

_AT_ONCE = 1 << 20
"""How many drawn problems are held at a time: 16 MB, whatever the number of problems."""


class Estimate(msgspec.Struct, frozen=True):
    """A mean and its 95 % interval; the interval is NaN where there are fewer than two problems."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def resampled_means(scores: Array, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Means of `scores` (R, n) over the same `resamples` draws of n problems: (resamples, R)."""
    n = scores.shape[1]
    rng = np.random.default_rng(seed % 2**63)
    columns = np.ascontiguousarray(scores.T, np.float64)  # (n, R)
    rows = max(1, _AT_ONCE // n)
    means: list[Array] = []
    for begun in range(0, resamples, rows):
        count = min(rows, resamples - begun)
        drawn = rng.integers(0, n, (count, n))  # (count, n)
        drawn += np.arange(count)[:, None] * n
        times = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
        means.append(times.astype(np.float64) @ columns / n)  # (count, R)
    return np.concatenate(means)


def estimate(values: Array, means: Array) -> Estimate:
    """The mean of `values` (n,) with the interval from the means of its draws, (resamples,)."""
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, float("nan"), float("nan"))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return Estimate(mean, float(low), float(high))


def difference(scores: Array, means: Array, a: int, b: int) -> Estimate:
    """How much better row a of scores (R, n) is than row b, with `means` of the draws, (resamples, R)."""
    return estimate(scores[a] - scores[b], means[:, a] - means[:, b])


def paired_gain(a: Any, b: Any, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of a - b over the same problems (n,), with its 95 % paired bootstrap interval."""
    gains = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if gains.ndim != 1 or not len(gains):
        raise ValueError(f"give two equally long lists of scores, not shapes {np.shape(a)} and {np.shape(b)}")
    return estimate(gains, resampled_means(gains[None], resamples, seed)[:, 0])
