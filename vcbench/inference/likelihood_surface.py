"""ℓ over two parameters, all others at their maximum: the surface whose contours bound likelihood regions.

    ℓ_p(a, b) = max ℓ(θ) over {θ: g_x(θ) = a, g_y(θ) = b}      {ℓ̂ − ℓ_p ≤ ½ χ²_{2, level}} is a region of that level

β is profiled out (ML) or integrated out (REML). Each point is climbed from its neighbour nearer to the maximum.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import brentq

from vcbench.errors import MethodError
from vcbench.inference.pinned import Axis, Pinned, axis_of

LEVELS = (0.5, 0.8, 0.95, 0.99)
MARGIN = 1.15  # of the outermost region's χ²: how far a surface reaches beyond it
STEPS = 25  # of a surface along each axis
WIDEST = 60.0  # times a first step beyond which no limit is looked for
OPEN = 8.0  # first steps to which an axis without a limit is drawn
POINT = 1e-12  # the width of a range that is none


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """ℓ_p on a grid: loglik (len(y_values), len(x_values)), NaN where V is not positive definite; `top` is ℓ̂.

    `others`: "profiled", or "none" where the model has no other variance parameter.
    """

    x: Axis
    y: Axis
    x_values: np.ndarray
    y_values: np.ndarray
    loglik: np.ndarray = field(repr=False)
    top: float
    criterion: str
    others: str

    @property
    def deviance(self) -> np.ndarray:
        """2(ℓ̂ − ℓ_p), ∞ where V is not positive definite."""
        return np.where(np.isnan(self.loglik), np.inf, np.maximum(2.0 * (self.top - self.loglik), 0.0))


def surface(
    fit: Any,
    x: str,
    y: str,
    *,
    x_values: np.ndarray | None = None,
    y_values: np.ndarray | None = None,
    steps: int = STEPS,
) -> Surface:
    """ℓ_p over two parameters of a fit by maximum likelihood; without values, over the 99 % region and a little more.

    Raises MethodError for parameters that cannot be pinned together, and for a fit that is no maximum.
    """
    first, second = axis_of(fit, x), axis_of(fit, y)
    if first.name == second.name:
        raise MethodError(f"x and y are both `{first.name}`; a surface needs two parameters.")
    pinned = Pinned.of(fit, (first, second))
    if x_values is None:
        x_values = np.linspace(*_range(pinned, 0), steps)
    if y_values is None:
        y_values = np.linspace(*_range(pinned, 1), steps)
    x_values, y_values = np.asarray(x_values, float), np.asarray(y_values, float)
    loglik = _grid(pinned, x_values, y_values)
    others = "none" if len(fit.theta_values) == 2 else "profiled"
    return Surface(first, second, x_values, y_values, loglik, pinned.top, fit.criterion, others)


def _grid(pinned: Pinned, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """ℓ_p (len(ys), len(xs)), outwards from the maximum."""
    centre = [a.estimate for a in pinned.axes]
    spread = [max(np.ptp(v), POINT) for v in (xs, ys)]
    X, Y = np.meshgrid(xs, ys)
    far = np.hypot((X - centre[0]) / spread[0], (Y - centre[1]) / spread[1])
    out = np.full(X.shape, np.nan)
    known: dict[tuple[int, int], np.ndarray] = {}
    for flat in np.argsort(far, axis=None, kind="stable"):
        i, j = divmod(int(flat), len(xs))
        near = [(far[a, b], a, b) for a in (i - 1, i, i + 1) for b in (j - 1, j, j + 1) if (a, b) in known]
        start = known[min(near)[1:]] if near else pinned.best
        value, q = pinned.climb(((0, float(xs[j])), (1, float(ys[i]))), start)
        out[i, j] = value
        if not math.isnan(value):
            known[i, j] = q
    return out


def _range(pinned: Pinned, i: int) -> tuple[float, float]:
    """The values of axis i within MARGIN · χ²_2(99 %) of the maximum, the other axis profiled too."""
    reach = MARGIN * quantile_two(LEVELS[-1])
    axis = pinned.axes[i]
    size = pinned.size(i)
    state = {"q": pinned.best}

    def off(value: float) -> float:
        """√deviance less that of the limit; the deviance beyond V's reach counts as far."""
        value_l, q = pinned.climb(((i, value),), state["q"])
        if math.isnan(value_l):
            return math.sqrt(reach)
        state["q"] = q
        return math.sqrt(max(2.0 * (pinned.top - value_l), 0.0)) - math.sqrt(reach)

    ends, (low, high) = [], pinned.limits(i)
    for sign in (-1.0, 1.0):
        state["q"] = pinned.best
        limit = low if sign < 0 else min(high, axis.estimate + WIDEST * size)
        inner, step = axis.estimate, size
        while True:
            outer = inner + sign * step
            outer = max(outer, limit) if sign < 0 else min(outer, limit)
            if off(outer) >= 0:
                ends.append(brentq(off, inner, outer, xtol=1e-3 * size, rtol=1e-3) if off(inner) < 0 else inner)
                break
            if outer == limit:
                ends.append(limit if limit in (low, high) else pinned.axes[i].estimate + sign * OPEN * size)
                break
            inner, step = outer, 1.6 * step
    return min(ends), max(ends)


def quantile_two(level: float) -> float:
    """χ²_2 at a level, −2 log(1 − level)."""
    return -2.0 * math.log1p(-level)
