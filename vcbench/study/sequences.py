"""Confidence sequences: intervals that hold at every n at once, so that a run may look after each batch and stop.

For S successes in n trials, with the mixture weight Beta(a, b), a = 20 p_0, b = 20 (1 − p_0), about the target p_0
(Robbins 1970; Ville's inequality for the beta-binomial mixture martingale):

    C_n = { p : log B(a+S, b+n−S) − log B(a, b) − S log p − (n−S) log(1−p) < log(1/α) }

For a mean x̄ of n terms with standard deviation σ̂ (Gaussian mixture; Waudby-Smith et al. 2024, Annals of Statistics 52,
asymptotic confidence sequences), narrowest about n_target:

    C_n = x̄ ± σ̂ √( 2(nρ² + 1)/(n²ρ²) · log(√(nρ² + 1)/α) ),      ρ² = (−2 log α + log(1 − 2 log α))/n_target

For a quantile q, C_n = { x : the share of terms below x is one that the first sequence, at p_0 = p = q, allows }, which
lies between two order statistics.

P(the truth is outside C_n at some n) ≤ α: exactly for a proportion; for a mean from the n on at which the central limit
theorem holds (`first_look`). With a tolerance region T the verdict is FAIL where C ∩ T is empty, PASS where C lies in
T, and INCONCLUSIVE else: more replicates are wanted.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, xlog1py, xlogy

Array = NDArray[np.float64]
WEIGHT = 20.0  # trials that the mixture about the target is worth
LEAST, SKEWED, RATIO = 200, 60.0, 500  # first looks: at a mean, per squared skewness, at a ratio of spreads
VARIED = 50  # terms other than 0 that a mean needs: rare events say nothing of their spread
STEPS = 60  # of bisection: a bound to 1e-18


def proportion_bounds(hits: Any, n: Any, target: float, alpha: float) -> tuple[Array, Array]:
    """The confidence sequence (lower, upper) of a proportion after `hits` of `n`, arrays or numbers.

    target: p_0 in (0, 1), where the sequence is narrowest; alpha: its chance of ever missing.
    """
    hits, n = np.broadcast_arrays(np.asarray(hits, float), np.asarray(n, float))
    p0 = min(max(target, 1e-3), 1 - 1e-3)  # at 0 or 1 the mixture would be a point
    a, b = WEIGHT * p0, WEIGHT * (1 - p0)
    weight = betaln(a + hits, b + n - hits) - betaln(a, b)
    limit = math.log(1 / alpha)
    peak = hits / np.maximum(n, 1)

    def outside(p: Array) -> NDArray[np.bool_]:
        return weight - xlogy(hits, p) - xlog1py(n - hits, -p) >= limit

    def edge(far: float) -> Array:
        inner, outer = peak.copy(), np.full_like(peak, far)
        for _ in range(STEPS):
            middle = 0.5 * (inner + outer)
            out = outside(middle)
            inner, outer = np.where(out, inner, middle), np.where(out, middle, outer)
        return np.where(outside(np.full_like(peak, far)), inner, far)

    with np.errstate(divide="ignore", invalid="ignore"):
        return edge(0.0), edge(1.0)


def mean_bounds(mean: Any, sd: Any, n: Any, alpha: float, n_target: float) -> tuple[Array, Array]:
    """The confidence sequence (lower, upper) of a mean with standard deviation `sd` of its `n` terms."""
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / n_target
    n = np.asarray(n, float)
    grown = n * rho2 + 1
    half = np.asarray(sd, float) * np.sqrt(2 * grown / (n * n * rho2) * np.log(np.sqrt(grown) / alpha))
    return np.asarray(mean - half, float), np.asarray(mean + half, float)


def quantile_bounds(terms: Array, q: float, alpha: float) -> tuple[float, float]:
    """The confidence sequence (lower, upper) of the q-quantile: order statistics, ±∞ where n is too small for one."""
    n = len(terms)
    hits = np.arange(n + 1)
    a, b = WEIGHT * q, WEIGHT * (1 - q)
    weight = betaln(a + hits, b + n - hits) - betaln(a, b) - xlogy(hits, q) - xlog1py(n - hits, -q)
    allowed = np.flatnonzero(weight < math.log(1 / alpha))  # counts below the quantile: an interval, never empty
    ordered = np.concatenate([[-np.inf], np.sort(terms), [np.inf]])
    return float(ordered[allowed[0]]), float(ordered[allowed[-1] + 1])


def first_look(terms: Array, ratio: bool = False) -> float:
    """The least n at which a mean may be looked at: max(200, 60 · skewness²), 500 for a ratio of spreads; ∞ where fewer
    than 50 terms differ from 0 or all are alike."""
    centred = terms - terms.mean()
    sd = math.sqrt(float((centred**2).mean()))
    if np.count_nonzero(terms) < VARIED or not sd > 1e-12 * max(1.0, float(np.abs(terms).max())):
        return math.inf
    skewness = float((centred**3).mean()) / sd**3
    return max(RATIO if ratio else LEAST, SKEWED * skewness**2)


def verdict(lower: float, upper: float, low: float, high: float) -> str:
    """What the interval [lower, upper] says of the region [low, high]: FAIL, PASS or INCONCLUSIVE."""
    if upper < low or lower > high:
        return "FAIL"
    return "PASS" if low <= lower and upper <= high else "INCONCLUSIVE"
