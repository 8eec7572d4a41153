"""Normal quantile plots with an envelope: ordered standardized residuals or BLUPs against normal scores.

The score of the k-th of n values is Φ⁻¹ of the median of Beta(k, n + 1 − k), the distribution of the k-th of n uniform
values. The envelope holds the whole ordered curve of a data set drawn from the fit with probability `level`
(`reference_sets.band`): values of a fit are neither independent nor, with few levels, spread like n independent ones.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri

from vcbench.inference.reference_sets import Drawn, band

MOST = 400  # points; of more, those evenly spaced in scores and 20 at either end
ENDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class QuantilePlot:
    """Scores and ordered values (k,) with the envelope; `which` the place of each value in the data, n of how many."""

    score: np.ndarray
    value: np.ndarray
    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray
    which: np.ndarray
    n: int

    @property
    def outside(self) -> np.ndarray:
        """(k,) True outside the envelope."""
        return (self.value < self.low) | (self.value > self.high)


def normal_scores(n: int) -> np.ndarray:
    """Φ⁻¹ of the medians of the ordered values of n uniform ones."""
    k = np.arange(1.0, n + 1.0)
    return ndtri(betaincinv(k, n + 1.0 - k, 0.5))


def quantile_plot(drawn: Drawn, level: float = 0.95) -> QuantilePlot:
    """The plot of a statistic over its standard deviation; values that never vary are left out."""
    value, sets = drawn.standardized()
    n = len(value)
    score, order = normal_scores(n), np.argsort(value, kind="stable")
    at = spread(score, MOST, ENDS)
    low, mean, high = band(np.sort(sets, axis=0)[at], level)
    return QuantilePlot(score[at], value[order][at], low, mean, high, np.flatnonzero(drawn.known)[order][at], n)


def spread(x: np.ndarray, most: int, ends: int) -> np.ndarray:
    """Positions of at most about `most` of the ascending values x: all of few, else evenly spaced in x, with the first
    and last `ends`."""
    n = len(x)
    if n <= most:
        return np.arange(n)
    even = np.searchsorted(x, np.linspace(x[0], x[-1], most - 2 * ends))
    return np.unique(np.concatenate([np.arange(ends), np.minimum(even, n - 1), np.arange(n - ends, n)]))
