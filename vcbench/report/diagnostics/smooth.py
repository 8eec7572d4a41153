"""A smooth line through a scatter: local linear regression with tricube weights (Cleveland 1979, no iterations)."""

import numpy as np

SPAN = 2.0 / 3.0
SHARES = np.linspace(0.01, 0.99, 40)
DISTINCT = 12  # values of x below which the window is all of them, twice as wide


def places(x: np.ndarray) -> np.ndarray:
    """Where a smooth of (x, y) is worked out: at the 1 % … 99 % points of x, so that data sets of different range
    can be compared share by share."""
    return np.quantile(x, SHARES, method="inverted_cdf")


def smooth(x: np.ndarray, y: np.ndarray, at: np.ndarray, span: float = SPAN) -> np.ndarray:
    """The line at `at` (k,): weighted least squares over the nearest share `span` of the points of (x, y)."""
    few = len(np.unique(x)) < DISTINCT
    k = len(x) if few else max(int(np.ceil(span * len(x))), min(len(x), 3))
    gap = np.abs(at[:, None] - x[None, :])
    reach = np.partition(gap, k - 1, axis=1)[:, k - 1] * (2.0 if few else 1.0)
    reach = np.maximum(reach, 1e-9 * max(np.ptp(x), 1e-300)) * (1.0 + 1e-9)
    w = np.maximum(1.0 - (gap / reach[:, None]) ** 3, 0.0) ** 3
    total = w.sum(axis=1)
    mx, my = (w @ x) / total, (w @ y) / total
    away = x[None, :] - mx[:, None]
    sxx = (w * away**2).sum(axis=1)
    sxy = (w * away * (y[None, :] - my[:, None])).sum(axis=1)
    flat = sxx <= 1e-12 * total * max(np.ptp(x), 1e-300) ** 2
    slope = np.where(flat, 0.0, sxy / np.where(flat, 1.0, sxx))
    return my + slope * (at - mx)
