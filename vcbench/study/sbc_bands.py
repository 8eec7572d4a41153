"""Are these numbers uniform? Simultaneous bands for an empirical distribution function, and the exact p-value of them.

Of n independent uniform numbers X_i = #{u ≤ z_i}, z_i = i/K, is Binomial(n, z_i). Bands that hold each X_i with
probability 1 − γ hold all of them together with a smaller one, which is exact by recursion: the counts of the K cells
are Poisson(n/K) given that their sum is n, so that with p_0 = 1{x = 0}

    p_i(x) = 1{l_i ≤ x ≤ u_i} Σ_a p_(i−1)(a) Pois(x − a; n/K),      P(l ≤ X ≤ u) = p_K(n) / Pois(n; n).

γ is the largest one for which that probability is at least the level. The smallest pointwise tail area that was seen,
in the place of γ, gives the p-value. Source: Säilynoja, Bürkner & Vehtari (2022), Statistics and Computing 32:32.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from scipy.stats import binom, poisson

from vcbench.errors import MethodError

MOST_POINTS = 100
LEAST = 1e-12  # p-values below are not told apart: 1 − P has that rounding error
ROUNDING = 1e-9  # relative: tail areas closer than that are the same one


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Counts `lower` … `upper` (K,) of n numbers at most `z` (K,) = 1/K, …, 1; pointwise γ, simultaneous `level`.

    `level` is the probability that the band holds: a step function of γ, so that it is a little above what was asked.
    """

    n: int
    z: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    gamma: float
    level: float

    def holds(self, u: np.ndarray) -> bool:
        """True if the counts of `u` (n,) stay within the band."""
        x = counts(u, self.z)
        return bool(((self.lower <= x) & (x <= self.upper)).all())


def n_points(n: int) -> int:
    """K: as many points as numbers, 100 at most."""
    return min(n, MOST_POINTS)


@lru_cache(maxsize=256)
def simultaneous_band(n: int, level: float = 0.95, points: int | None = None) -> Band:
    """The band that holds the whole empirical distribution function of n uniform numbers with probability `level`.

    points: K. Raises MethodError for n or K below 2, and for a level outside (0, 1).
    """
    K = n_points(n) if points is None else points
    if n < 2 or K < 2:
        raise MethodError(f"a band needs at least 2 numbers and 2 points, not {n} and {K}.")
    if not 0 < level < 1:
        raise MethodError(f"`level` is {level!r}; it must lie between 0 and 1.")
    z = np.arange(1, K + 1) / K
    low, high = 0.0, 1.0  # γ = 0 holds always, γ = 1 never
    held = _limits(n, z, low)
    reached = 1.0
    for _ in range(60):
        gamma = 0.5 * (low + high)
        lower, upper = _limits(n, z, gamma)
        inside = probability_inside(n, lower, upper)
        if inside >= level:
            low, held, reached = gamma, (lower, upper), inside
        else:
            high = gamma
    return Band(n, z, *held, low, reached)


def probability_inside(n: int, lower: np.ndarray, upper: np.ndarray) -> float:
    """P(lower_i ≤ X_i ≤ upper_i for all i) at z_i = i/K, K = len(lower); exact."""
    K = len(lower)
    kernel = poisson.pmf(np.arange(n + 1), n / K)
    p, first = np.ones(1), 0  # p_i on the counts first, first + 1, …
    for low, high in zip(lower.tolist(), upper.tolist(), strict=True):
        if high < low:
            return 0.0
        spread = np.convolve(p, kernel[: high - first + 1]) if high >= first else np.zeros(0)
        p = spread[max(low - first, 0) : high - first + 1]
        first = max(low, first)
        if not len(p):
            return 0.0
    return min(1.0, float(p[n - first] / poisson.pmf(n, n))) if first <= n < first + len(p) else 0.0


def uniformity(u: np.ndarray, points: int | None = None) -> tuple[float, float]:
    """(p-value, the smallest pointwise two-sided tail area) of `u` (n,) in [0, 1]: exact, and small for non-uniform."""
    u = np.asarray(u, float)
    n = len(u)
    K = n_points(n) if points is None else points
    z = np.arange(1, K + 1) / K
    x = counts(u, z)
    area = np.minimum(binom.cdf(x, n, z), binom.sf(x - 1, n, z))
    gamma = float(min(1.0, 2 * area[:-1].min())) if K > 1 else 1.0
    lower, upper = _limits(n, z, gamma * (1 + ROUNDING))
    return max(1.0 - probability_inside(n, lower, upper), LEAST), gamma


def counts(u: np.ndarray, z: np.ndarray) -> np.ndarray:
    """#{u ≤ z_i} (K,)."""
    return np.searchsorted(np.sort(np.asarray(u, float)), z, side="right")


def _limits(n: int, z: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """The counts whose lower and upper tail areas are both at least γ/2; at z = 1 it is n for sure."""
    lower = np.maximum(binom.ppf(0.5 * gamma, n, z), 0).astype(int) if gamma > 0 else np.zeros(len(z), int)
    upper = np.empty_like(lower)
    upper[:-1] = n - lower[:-1][::-1]  # n − X at z is X at 1 − z
    lower[-1] = upper[-1] = n
    return lower, upper


def half_width(band: Band) -> float:
    """The largest distance of the band from the diagonal, as a share of n."""
    middle = band.n * band.z
    return float(np.maximum(band.upper - middle, middle - band.lower).max() / band.n)


def enough(alarm: float, power: float = 0.9, shift: float = 0.2) -> int:
    """Numbers with which bands or e-process find a shift of `shift` posterior SDs at level `alarm` with that power.

    n = 1.5 ((z_(1−alarm/2) + z_power)/shift)²: what the z test of the mean takes, and half as many more for tests that
    look for anything else as well; with those they reach the power (a test measures it).
    """
    normal = NormalDist()
    return math.ceil(1.5 * ((normal.inv_cdf(1 - alarm / 2) + normal.inv_cdf(power)) / shift) ** 2)
