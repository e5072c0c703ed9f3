"""How sure a difference is: every figure on the same draws of problems, and of seeds where there are several.

A figure is a function of means. It is worked out on the problems as they are, and again on 10,000 draws of
as many problems with replacement; what lies between the 2.5th and the 97.5th percentile is its interval. All
policies are looked at in the same draws, so what makes a problem hard for all of them cancels. Of a policy
that was trained with several seeds the figure is the interquartile mean over seeds, and the seeds are drawn
with replacement too, so the interval holds what training adds (Agarwal et al. 2021, who draw runs in each
task; here all problems of a draw share their seeds, as they share the weights).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unroller.ablation.bootstrap import LEVEL, Estimate, resampled_means

Array = np.ndarray[Any, Any]


class Draws:
    """Means over draws of problems. problems n; resamples B. What `means` and the like return has 1 + B rows:
    the first is of the problems as they are."""

    def __init__(self, n: int, resamples: int, seed: int = 0) -> None:
        self.n = n
        self.resamples = resamples
        self.seed = seed
        self._seeds: dict[int, Array] = {}

    def means(self, rows: Array) -> Array:
        """(1 + B, R) of `rows` (R, n)."""
        return np.concatenate([rows.mean(1)[None], resampled_means(rows, self.resamples, self.seed)])

    def over_seeds(self, figures: Array) -> Array:
        """(1 + B,) the interquartile mean of the figures (1 + B, k) of k seeds, drawn with replacement."""
        k = figures.shape[1]
        if k == 1:
            return figures[:, 0]
        if k not in self._seeds:
            rng = np.random.default_rng([0x5EED, self.seed % 2**63, k])
            drawn = rng.integers(0, k, (self.resamples, k))
            self._seeds[k] = np.concatenate([np.arange(k)[None], drawn])
        return interquartile_mean(np.take_along_axis(figures, self._seeds[k], 1))

    def estimate(self, figures: Array) -> Estimate:
        """Of a figure (1 + B,); without an interval where one problem was drawn from."""
        mean = float(figures[0])
        if self.n < 2 or not np.isfinite(figures).all():
            return Estimate(mean, float("nan"), float("nan"))
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(figures[1:], (tail, 1 - tail))
        return Estimate(mean, float(low), float(high))


def interquartile_mean(figures: Array) -> Array:
    """(…,) the mean of what is left of figures (…, k) without the lowest and the highest quarter, of k / 4
    figures each, rounded down: fewer than four are averaged as they are."""
    k = figures.shape[-1]
    cut = k // 4
    return np.sort(figures, -1)[..., cut : k - cut].mean(-1)
