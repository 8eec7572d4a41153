"""Measures of a simulation study and their Monte Carlo standard errors, on arrays.

Everything here works on matrices with one row a method and one column a replicate, NaN where a method has nothing. The
jackknives are in closed form: with sums over the replicates in hand, leaving one out is a subtraction, so that no
replicate is visited in Python.

    leave-one-out values t_(i), i = 1..n:     MCSE = √( (n−1)/n · Σ (t_(i) − t̄)² )

Formulas and the reason for the jackknife: Morris, White & Crowther (2019, Statistics in Medicine 38:2074, table 6) give
the closed forms, which assume normal estimates and SEs unrelated to them; a variance component is neither.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Z95 = NormalDist().inv_cdf(0.975)
NO_MCSE = "too few replicates for an MCSE"
WILD = "the values are too far apart for an MCSE"


@dataclass(frozen=True, slots=True)
class Estimated:
    """One measure of every method: `value`, `mcse` and `n`, each (M,), and why a value is undefined, else "".

    `proportion` marks those whose interval is Wilson's.
    """

    value: Array
    mcse: Array
    n: Array
    reason: tuple[str, ...]
    proportion: bool = False


def _build(value: Array, mcse: Array, n: Array, reasons: Sequence[tuple[NDArray[np.bool_] | bool, str]]) -> Estimated:
    """An Estimated whose nulls carry the first reason that applies to them."""
    said = [""] * len(n)
    for where, why in [*reasons, (~np.isfinite(value), "not finite")]:
        for m in np.flatnonzero(np.broadcast_to(where, n.shape)):
            said[m] = said[m] or why
    undefined = np.array([bool(why) for why in said])
    unsure = ~undefined & ~np.isfinite(mcse)
    said = [(WILD if np.isinf(mcse[m]) else NO_MCSE) if unsure[m] else why for m, why in enumerate(said)]
    return Estimated(np.where(undefined, np.nan, value), np.where(undefined | unsure, np.nan, mcse), n, tuple(said))


def _count(x: Array) -> Array:
    return np.sum(~np.isnan(x), axis=1).astype(float)


def _sum(x: Array) -> Array:
    return np.nansum(x, axis=1)


def _centred(x: Array) -> Array:
    """x less its mean over the replicates a method has."""
    n = np.maximum(_count(x), 1.0)
    return x - (_sum(x) / n)[:, None]


def _sd(x: Array) -> Array:
    """Standard deviation with n − 1; 0/0 where n < 2."""
    return np.sqrt(_sum(_centred(x) ** 2) / (_count(x) - 1))


def jackknife(left_out: Array) -> Array:
    """√((n−1)/n Σ(t_(i) − t̄)²) of leave-one-out values (M, R), NaN where there is no replicate."""
    n = _count(left_out)
    return np.sqrt((n - 1) / n * _sum(_centred(left_out) ** 2))


def _mean_without(x: Array) -> Array:
    """Means of x with each replicate left out."""
    return (_sum(x)[:, None] - x) / (_count(x)[:, None] - 1)


def _squares_without(x: Array) -> Array:
    """Centred sums of squares with each replicate left out: SS − n/(n−1) (x_i − x̄)²."""
    n = _count(x)[:, None]
    d = _centred(x)
    return np.maximum(_sum(d**2)[:, None] - n / (n - 1) * d**2, 0.0)


def mean(x: Array, missing: str = "no estimate") -> Estimated:
    """mean(x) and sd(x)/√n. With one replicate the mean stands and its MCSE is null."""
    n = _count(x)
    return _build(_sum(x) / n, _sd(x) / np.sqrt(n), n, [(n == 0, missing)])


def mean_width(x: Array, missing: str) -> Estimated:
    """The mean of widths, which may be infinite: then there is none."""
    n = _count(x)
    unbounded = np.isinf(x).any(axis=1)
    return _build(
        _sum(x) / n,
        _sd(x) / np.sqrt(n),
        n,
        [(n == 0, missing), (unbounded, "an interval is unbounded, see the median")],
    )


def empirical_se(d: Array, normal: bool) -> Estimated:
    """e = sd(θ̂). MCSE: jackknife, or e/√(2(n−1)) under normality."""
    n, e = _count(d), _sd(d)
    mcse = e / np.sqrt(2 * (n - 1)) if normal else jackknife(np.sqrt(_squares_without(d) / (n - 2)[:, None]))
    return _build(e, mcse, n, [(n < 2, "fewer than 2 estimates")])


def root_mean_square(d: Array, missing: str = "no estimate") -> Estimated:
    """√mean(d²), its MCSE by the jackknife."""
    n = _count(d)
    return _build(np.sqrt(_sum(d**2) / n), jackknife(np.sqrt(_mean_without(d**2))), n, [(n == 0, missing)])


def model_se(s: Array) -> Estimated:
    """s̄ = √mean(s²), MCSE √(Var(s²)/(4 n s̄²))."""
    n = _count(s)
    value = np.sqrt(_sum(s**2) / n)
    return _build(value, _sd(s**2) / (2 * np.sqrt(n) * value), n, [(n == 0, "no standard errors")])


def _spread_reasons(n: Array, e: Array) -> list[tuple[NDArray[np.bool_], str]]:
    return [(n == 0, "no standard errors"), (n < 2, "fewer than 2 estimates"), (e == 0, "the estimates do not vary")]


def model_se_error(d: Array, s: Array, normal: bool) -> Estimated:
    """100(s̄/e − 1), in per cent, over the replicates with an SE.

    MCSE: jackknife, or 100(s̄/e)√(Var(s²)/(4 n s̄⁴) + 1/(2(n−1))) when SEs are unrelated to normal estimates.
    """
    d = np.where(np.isnan(s), np.nan, d)
    n, e, mean_square = _count(d), _sd(d), _sum(s**2) / _count(s)
    ratio = np.sqrt(mean_square) / e
    if normal:
        mcse = 100 * ratio * np.sqrt(_sd(s**2) ** 2 / (4 * n * mean_square**2) + 1 / (2 * (n - 1)))
    else:
        mcse = jackknife(100 * np.sqrt(_mean_without(s**2) / (_squares_without(d) / (n - 2)[:, None])))
    return _build(100 * (ratio - 1), mcse, n, _spread_reasons(n, e))


def variance_ratio(d: Array, s: Array) -> Estimated:
    """mean(s²)/e², 1 where the SEs are right on average; jackknife."""
    d = np.where(np.isnan(s), np.nan, d)
    n, e = _count(d), _sd(d)
    left_out = _mean_without(s**2) / (_squares_without(d) / (n - 2)[:, None])
    return _build(_sum(s**2) / n / e**2, jackknife(left_out), n, _spread_reasons(n, e))


def variance_relative_mse(d: Array, s: Array, root: bool = False) -> Estimated:
    """((s̄² − e²)² + Var(s²))/e⁴, the mean squared error of s² about the variance e² that it is to tell, relative to
    e⁴, or its root; jackknife."""
    d = np.where(np.isnan(s), np.nan, d)
    n, e, of = _count(d), _sd(d), np.sqrt if root else np.positive
    value = of(((_sum(s**2) / n - e**2) ** 2 + _sd(s**2) ** 2) / e**4)
    e2 = _squares_without(d) / (n - 2)[:, None]
    left_out = of(((_mean_without(s**2) - e2) ** 2 + _squares_without(s**2) / (n - 2)[:, None]) / e2**2)
    return _build(value, jackknife(left_out), n, _spread_reasons(n, e))


def winsorised(x: Array, c: float | None) -> Array:
    """x with each row clipped at its quartiles ∓ c·(q₃ − q₁); as it is without c. Infinite values do not tell the
    quartiles."""
    if c is None:
        return x
    out = x.copy()
    for m, row in enumerate(x):
        have = row[np.isfinite(row)]
        if len(have):
            low, high = np.quantile(have, (0.25, 0.75))
            out[m] = np.clip(row, low - c * (high - low), high + c * (high - low))
    return out


def relative_precision(d: Array, reference: int, normal: bool) -> Estimated:
    """100((e_A/e_B)² − 1) of each method B to the reference A, in per cent, on the replicates both have.

    MCSE: paired jackknife, or 200(e_A/e_B)²√((1−ρ²)/(n−1)), ρ the correlation of the pairs, under normality.
    """
    both = ~np.isnan(d) & ~np.isnan(d[reference])
    b, a = np.where(both, d, np.nan), np.where(both, d[reference], np.nan)
    n = _count(b)
    da, db = _centred(a), _centred(b)
    ss_a, ss_b = _sum(da**2), _sum(db**2)
    ratio = ss_a / ss_b
    if normal:
        rho2 = np.minimum(_sum(da * db) ** 2 / (ss_a * ss_b), 1.0)
        mcse = 200 * ratio * np.sqrt((1 - rho2) / (n - 1))
    else:
        mcse = jackknife(100 * _squares_without(a) / _squares_without(b))
    same = np.arange(len(d)) == reference
    value, mcse = np.where(same, 0.0, 100 * (ratio - 1)), np.where(same, 0.0, mcse)
    varied = (ss_a == 0) | (ss_b == 0)
    reasons = [(n < 2, "fewer than 2 replicates shared with the reference"), (varied, "the estimates do not vary")]
    return _build(value, mcse, n, reasons)


def proportion(x: Array, missing: str, wald: bool) -> Estimated:
    """p = mean of 0/1, MCSE √(p(1−p)/n).

    At p = 0 or 1 that is 0, which claims certainty. There the MCSE is a 1.96th of half the width of Wilson's 95 %
    interval, 1.96/(2(n + 1.96²)), unless `wald` asks for the printed convention of rsimsum and simsum.
    """
    n = _count(x)
    p = _sum(x) / n
    mcse = np.sqrt(p * (1 - p) / n)
    if not wald:
        mcse = np.where((p == 0) | (p == 1), Z95 / (2 * (n + Z95**2)), mcse)
    return replace(_build(p, mcse, n, [(n == 0, missing)]), proportion=True)


def wilson(p: Array, n: Array, z: float = Z95) -> tuple[Array, Array]:
    """Wilson's score interval of proportions p of n."""
    centre, scale = p + z * z / (2 * n), 1 + z * z / n
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return np.maximum(0.0, (centre - half) / scale), np.minimum(1.0, (centre + half) / scale)


def quantile(x: Array, q: float, missing: str) -> Estimated:
    """The q-quantile (linear interpolation; with infinite values the order statistic above), with the bootstrap's
    standard error in closed form.

    The chance that a resample's quantile is the order statistic x_(i) is a difference of incomplete beta functions, so
    infinitely many resamples cost one sum: √(Σw x² − (Σw x)²) (Maritz & Jarrett 1978, JASA 73:194), exact for the
    median of an odd number.
    """
    from scipy.special import betainc

    n = _count(x)
    value, mcse = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for m, row in enumerate(x):
        have = np.sort(row[~np.isnan(row)])
        if not len(have):
            continue
        value[m] = np.quantile(have, q, method="linear" if np.isfinite(have[-1]) else "higher")
        if len(have) > 1:
            edges = np.arange(len(have) + 1) / len(have)
            w = np.diff(betainc((len(have) + 1) * q, (len(have) + 1) * (1 - q), edges))
            w, have = w[w > 1e-12], have[w > 1e-12]  # without the wild values that no resample's quantile will be
            mcse[m] = math.sqrt(max(float(w @ (have - w @ have) ** 2), 0.0))
    return _build(value, mcse, n, [(n == 0, missing)])


def largest(x: Array, missing: str) -> Estimated:
    """max|x|; it has no Monte Carlo error."""
    n = _count(x)
    value = np.max(np.where(np.isnan(x), -np.inf, np.abs(x)), axis=1)
    found = _build(value, np.full(len(x), np.nan), n, [(n == 0, missing)])
    return replace(found, reason=tuple("a maximum has no MCSE" if why == NO_MCSE else why for why in found.reason))


def count(x: NDArray[np.bool_], present: NDArray[np.bool_]) -> Estimated:
    """How many of those present; a count of what happened has no Monte Carlo error."""
    M = len(x)
    return Estimated(
        np.sum(x & present, axis=1).astype(float),
        np.full(M, np.nan),
        np.sum(present, axis=1).astype(float),
        ("a count",) * M,
    )


def undefined(methods: int, reason: str) -> Estimated:
    """A measure that no method has, and why."""
    nothing = np.full(methods, np.nan)
    return Estimated(nothing, nothing, np.zeros(methods), (reason,) * methods)
