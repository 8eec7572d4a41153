"""What a measure is made of: one term a replicate, whose mean, share, quantile or spread it is.

A sequence that holds at every n needs the terms themselves and not their summary. A measure that is a smooth function t
of means becomes a mean by the jackknife's pseudo-values of its logarithm,

    p_i = n log t − (n − 1) log t_(i),      t_(i) without replicate i       (Tukey 1958, Ann. Math. Statist. 29:614)

whose mean estimates log t and whose variance over n is the jackknife's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vcbench.study.estimators import Array
from vcbench.study.groups import COSTS, Group

EQUAL = 1e-6  # as `vcbench.measures`: estimates that agree to this much of their size
Kind = Literal["share", "mean", "quantile", "ratio"]
Ratio = Callable[[Array], tuple[float, Array]]  # of terms (2, n): log t and log t_(i)


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a measure, (R,) or, of a ratio, (2, R); NaN where a replicate has none.

    `kind`: "share" of 0/1, "mean", "quantile" `q`, or "ratio": a mean of pseudo-values of log t, `to_scale` and
    `from_scale` between the measure's unit and log t. `moving` marks a share whose 0/1 depend on what has been seen,
    and makes them from the terms.
    """

    kind: Kind
    x: Array
    q: float = 0.5
    ratio: Ratio | None = None
    percent: bool = False
    moving: Callable[[Array], Array] | None = None

    def to_scale(self, value: float) -> float:
        """The measure's value as log t, −∞ at and below what a ratio can be; as it is for the other kinds."""
        if self.kind != "ratio":
            return value
        t = 1 + value / 100 if self.percent else value
        return math.log(t) if t > 0 else -math.inf

    def from_scale(self, at: float) -> float:
        """The inverse of `to_scale`."""
        if self.kind != "ratio":
            return at
        t = math.exp(min(at, 700.0))
        return 100 * (t - 1) if self.percent else t

    def upto(self, n: int) -> Array:
        """The terms of the first n replicates, without those that have none."""
        x = self.x[..., :n]
        keep = ~np.isnan(x) if x.ndim == 1 else ~np.isnan(x).any(axis=0)
        found = x[..., keep]
        return self.moving(found) if self.moving else found


def terms_of(measure: str, g: Group, m: int, r: int, level: float) -> Terms | str:
    """The terms of a measure of method m, paired with method r (−1: not run); why not, where there are none."""
    d = g.estimate[m] - g.known[m]
    se2 = np.where(np.isnan(g.estimate[m]), np.nan, g.se[m] ** 2)
    unknown = bool(np.isnan(g.truth[g.present]).any())
    if unknown and measure in ("bias", "mse", "rmse", "coverage", *RELATIVE):
        return "the truth is not known"
    if measure in RELATIVE and np.any(g.truth[g.present] == 0):
        return "the truth is 0"
    if measure in PAIRED:
        if not g.paired or r < 0:
            return "the reference was not run here"
        return _paired(measure, g, m, r, d)
    simple: Mapping[str, Callable[[], Terms]] = {
        "bias": lambda: Terms("mean", d),
        "relative_bias": lambda: Terms("mean", d / g.truth[m]),
        "mse": lambda: Terms("mean", d**2),
        "relative_mse": lambda: Terms("mean", (d / g.truth[m]) ** 2),
        "rmse": lambda: _root_mean(d**2),
        "relative_rmse": lambda: _root_mean((d / g.truth[m]) ** 2),
        "empirical_se": lambda: _ratio(d, d, lambda x: _half(log_variance(x[0]))),
        "model_se": lambda: _root_mean(se2),
        "model_se_error": lambda: _ratio(d, se2, lambda x: _half(_less(log_mean(x[1]), log_variance(x[0]))), True),
        "variance_ratio": lambda: _ratio(d, se2, lambda x: _less(log_mean(x[1]), log_variance(x[0]))),
        "variance_relative_mse": lambda: _ratio(d, se2, log_relative_mse),
        "variance_relative_rmse": lambda: _ratio(d, se2, lambda x: _half(log_relative_mse(x))),
        "coverage": lambda: Terms("share", _covered(g, m, g.truth[m])),
        "be_coverage": lambda: _bias_eliminated(g, m, d),
        "rejection": lambda: Terms("share", _rejected(g, m, 1 - level)),
        "interval_width": lambda: Terms("mean", g.upper[m] - g.lower[m]),
        "interval_width_median": lambda: Terms("quantile", g.upper[m] - g.lower[m]),
        "no_interval_rate": lambda: Terms("share", _without(g, m)),
        "loglik_deficit": lambda: Terms("mean", _deficit(g, m)),
        "convergence_rate": lambda: _ended(g, m, "CONVERGED", "AT_BOUNDARY"),
        "boundary_rate": lambda: _ended(g, m, "AT_BOUNDARY"),
        "nonpositive_rate": lambda: Terms("share", np.where(g.observed[m], g.estimate[m] <= 0, np.nan)),
        "failure_rate": lambda: Terms("share", g.where_present(~g.observed)[m]),
    }
    if measure in simple:
        return simple[measure]()
    cost = next(c for c in COSTS if measure == c or measure in (f"{c}_mean", f"{c}_p90"))
    if cost not in g.costs:
        return f"rows have no `{cost}`"
    x = g.costs[cost][m]
    return Terms("mean", x) if measure.endswith("_mean") else Terms("quantile", x, 0.9 if measure != cost else 0.5)


RELATIVE = ("relative_bias", "relative_mse", "relative_rmse")
PAIRED = ("relative_precision", "paired_difference", "share_equal")


def pseudo_values(t: float, without: Array) -> Array:
    """n t − (n − 1) t_(i)."""
    n = len(without)
    return n * t - (n - 1) * without


def log_mean(x: Array) -> tuple[float, Array]:
    """The logarithm of the mean, and of the means with each term left out."""
    n, total = len(x), x.sum()
    return float(np.log(total / n)), np.log((total - x) / (n - 1))


def log_variance(x: Array) -> tuple[float, Array]:
    """The logarithm of the variance (n − 1), and of those with each term left out."""
    n, c = len(x), x - x.mean()
    squares = float(c @ c)
    return float(np.log(squares / (n - 1))), np.log(np.maximum(squares - n / (n - 1) * c**2, 0.0) / (n - 2))


def log_relative_mse(x: Array) -> tuple[float, Array]:
    """log of ((s̄² − e²)² + Var(s²))/e⁴ of errors x[0] and squared SEs x[1], and of those with each left out."""
    (m, m_), (v, v_), (w, w_) = log_mean(x[1]), log_variance(x[0]), log_variance(x[1])
    return (
        float(np.log((np.exp(m) - np.exp(v)) ** 2 + np.exp(w)) - 2 * v),
        np.log((np.exp(m_) - np.exp(v_)) ** 2 + np.exp(w_)) - 2 * v_,
    )


def _ratio(one: Array, two: Array, of: Ratio, percent: bool = False) -> Terms:
    return Terms("ratio", np.stack([one, two]), ratio=of, percent=percent)


def _root_mean(x: Array) -> Terms:
    return _ratio(x, x, lambda x: _half(log_mean(x[0])))


def _half(t: tuple[float, Array]) -> tuple[float, Array]:
    return t[0] / 2, t[1] / 2


def _less(one: tuple[float, Array], two: tuple[float, Array]) -> tuple[float, Array]:
    return one[0] - two[0], one[1] - two[1]


def _paired(measure: str, g: Group, m: int, r: int, d: Array) -> Terms:
    difference = g.estimate[m] - g.estimate[r]
    if measure == "relative_precision":
        of_r = g.estimate[r] - g.known[r]
        return _ratio(d, of_r, lambda x: _less(log_variance(x[1]), log_variance(x[0])), True)
    if measure == "paired_difference":
        return Terms("mean", difference)
    size = np.abs(g.estimate) + np.nan_to_num(g.se)
    same = np.abs(difference) <= EQUAL * (size[m] + size[r])
    return Terms("share", np.where(np.isnan(difference), np.nan, same))


def _covered(g: Group, m: int, value: Array) -> Array:
    return g.indicator((g.lower <= value) & (value <= g.upper))[m]


def _bias_eliminated(g: Group, m: int, d: Array) -> Terms:
    """Limits less θ, and d: covered are those that hold the mean error so far."""
    x = np.stack([g.lower[m] - g.known[m], g.upper[m] - g.known[m], d])
    return Terms("share", x, moving=lambda x: ((x[0] <= x[2].mean()) & (x[2].mean() <= x[1])).astype(float))


def _rejected(g: Group, m: int, alpha: float) -> Array:
    by_test = g.indicator(g.p_value <= alpha * (1 + 1e-9), g.p_value)[m]
    if not np.isnan(by_test).all():
        return by_test
    return g.indicator((g.lower > 0) | (g.upper < 0))[m]


def _without(g: Group, m: int) -> Array:
    has = ~np.isnan(g.lower[m])
    return np.where(g.present[m] & has.any(), (~has).astype(float), np.nan)


def _deficit(g: Group, m: int) -> Array:
    """max over the methods of the same criterion of ℓ, less ℓ."""
    kinds = ["reml" if c in ("none", "nan", "None", "<NA>") else c for c in g.criterion]
    alike = [j for j, kind in enumerate(kinds) if kind == kinds[m]]
    return np.max(np.where(np.isnan(g.loglik), -np.inf, g.loglik)[alike], axis=0) - g.loglik[m]


def _ended(g: Group, m: int, *names: str) -> Terms:
    if g.status is None:
        return Terms("share", np.full(g.estimate.shape[1], np.nan))
    return Terms("share", g.where_present(np.isin(g.status, names))[m])
