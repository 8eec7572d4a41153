"""The exact posterior of a function g(θ): an ICC, a heritability, a total variance, a correlation, a ratio.

On the grid of quadrature p is known in coordinates x, each on an even grid. Axes on which g is constant are summed out.
Along one of the others, chosen so that g runs up or down on as much of the posterior as can be, p is read between the
nodes by the sinc interpolant, whose integral is exact, and

    P(g ≤ c) = Σ_rows h_rows ∫ 1[g(x, row) ≤ c] p(x, row) dx,    p_g(c) = Σ_rows h_rows Σ_{x: g = c} p(x, row)/|∂g/∂x|

with the crossings g(x) = c found on the local polynomial through eight nodes. Where g is smooth and runs one way along
rows, as the functions above do, both errors fall exponentially with the step; grids are refined until the distribution
function moves by less than 1e-8. Where g turns, accuracy is of the order of a step's share, and `error` says it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import sici

from vcbench.bayes.density import Density, Squeeze, along, cell, halve
from vcbench.bayes.posterior import invert_cdf
from vcbench.errors import MethodError

POINTS = 8  # of the local polynomial
GOOD = 1e-8  # what the distribution function may move by
LARGEST = 600_000  # nodes of a grid
FAINT = 1e-13  # rows with less of the mass are left out
PROBES = np.array([0.003, 0.05, 0.25, 0.5, 0.75, 0.95, 0.997])


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """The posterior of a scalar function of θ. error: what the last refinement moved in the distribution function."""

    name: str
    rows: "Rows"
    error: float
    moments: tuple[float, float] = field(default=(math.nan, math.nan))

    @classmethod
    def of(
        cls,
        density: Density,
        squeezes: Sequence[Squeeze],
        z: Sequence[np.ndarray],
        s: np.ndarray,
        log_z: float,
        g: Callable[[np.ndarray], np.ndarray],
        name: str,
    ) -> "Derived":
        """The posterior of g, θ (p, …) -> (…), on grids that start at (z, s).

        MethodError where g does not vary, or does not exist on part of the posterior.
        """
        z = list(z)
        rows = _rows(density, squeezes, z, s, log_z, g, name)
        probes = rows.rough_quantile(PROBES)
        thin = [a[::2] if k in rows.axes else a for k, a in enumerate((*z, s))]
        before, now = _rows(density, squeezes, thin[:-1], thin[-1], log_z, g, name).cdf(probes), rows.cdf(probes)
        while np.abs(now - before).max() > GOOD:
            if math.prod(len(a) for a in (*z, s)) * 2 ** len(rows.axes) > LARGEST:
                break
            z = [halve(a) if k in rows.axes else a for k, a in enumerate(z)]
            s = halve(s) if len(z) in rows.axes else s
            rows = _rows(density, squeezes, z, s, log_z, g, name)
            before, now = now, rows.cdf(probes)
        return cls(name, rows, float(np.abs(now - before).max()), rows.moments)

    @property
    def mean(self) -> float:
        """E g(θ)."""
        return self.moments[0]

    @property
    def sd(self) -> float:
        """SD g(θ)."""
        return self.moments[1]

    def cdf(self, value: Any) -> np.ndarray:
        """P(g ≤ value)."""
        return self.rows.cdf(np.asarray(value, float))

    def pdf(self, value: Any) -> np.ndarray:
        """Density at `value`."""
        return self.rows.pdf(np.asarray(value, float))

    def quantile(self, p: Any) -> np.ndarray:
        """The value below which a share p lies."""
        p = np.asarray(p, float)
        if not ((p > 0) & (p < 1)).all():
            raise MethodError(f"a quantile was asked for at p = {p}; p must lie strictly between 0 and 1.")
        low, high = self.rows.range
        return invert_cdf(self.cdf, self.pdf, p, self.rows.rough_quantile(p), low, high, self.sd)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """p (R, N) and g (R, N) along one axis of even nodes x (N,), already times the steps of the rows."""

    x: np.ndarray
    p: np.ndarray
    g: np.ndarray
    axes: tuple[int, ...]  # of the grid, those on which g varies
    moments: tuple[float, float]

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest g on the grid."""
        return float(self.g.min()), float(self.g.max())

    def rough_quantile(self, p: np.ndarray) -> np.ndarray:
        """Weighted quantiles of the nodes."""
        flat = self.g.ravel()
        order = np.argsort(flat, kind="stable")
        weight = self.p.ravel()[order]
        total = np.cumsum(weight) - 0.5 * weight
        return np.interp(p * weight.sum(), total, flat[order])

    def cdf(self, c: np.ndarray) -> np.ndarray:
        """P(g ≤ c)."""
        out = np.array([self._one(float(value))[0] for value in c.ravel()])
        return np.clip(out, 0.0, 1.0).reshape(c.shape)

    def pdf(self, c: np.ndarray) -> np.ndarray:
        """The density of g at c."""
        return np.array([self._one(float(value))[1] for value in c.ravel()]).reshape(c.shape)

    def _one(self, c: float) -> tuple[float, float]:
        """(P(g ≤ c), p_g(c))."""
        h = self.x[1] - self.x[0]
        below = self.g <= c
        total = float(self.p[below[:, -1]].sum() * h)  # rows that end below c, less what lies above on the way
        row, at = np.nonzero(below[:, 1:] != below[:, :-1])
        if not len(row):
            return total, 0.0
        first = np.clip(at - POINTS // 2 + 1, 0, max(len(self.x) - POINTS, 0))
        near = first[:, None] + np.arange(min(POINTS, len(self.x)))
        place, slope = _crossing(self.g[row[:, None], near], (at - first).astype(float), c)
        x = self.x[0] + (first + place) * h
        upward = np.where(below[row, at], 1.0, -1.0)
        inside, here = np.empty(len(row)), np.empty(len(row))
        for part in np.array_split(np.arange(len(row)), max(1, len(row) * len(self.x) // 2_000_000)):
            gap = (x[part, None] - self.x) / h
            own = self.p[row[part]]
            inside[part] = ((0.5 + sici(np.pi * gap)[0] / np.pi) * own).sum(axis=1) * h
            here[part] = (np.sinc(gap) * own).sum(axis=1)
        return total + float((upward * inside).sum()), float((here * h / np.abs(slope)).sum())


def _crossing(g: np.ndarray, left: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray]:
    """(place in node units, dg/dplace) where the polynomial through g (M, m) at 0, …, m − 1 is c, in [left, left + 1].

    Barycentric form; bisection kept by Newton steps.
    """
    m = g.shape[1]
    nodes = np.arange(m, dtype=float)
    w = np.array([(-1.0) ** k * math.comb(m - 1, k) for k in range(m)])

    def value(x: np.ndarray) -> np.ndarray:
        gap = x[:, None] - nodes
        exact = np.abs(gap) < 1e-12
        ratio = w / np.where(exact, 1.0, gap)
        out = (ratio * g).sum(axis=1) / ratio.sum(axis=1)
        hit = exact.any(axis=1)
        out[hit] = g[hit, exact[hit].argmax(axis=1)]
        return out

    low, high = left.copy(), left + 1
    rising = g[np.arange(len(g)), left.astype(int)] <= c
    f_low, f_high = value(low) - c, value(high) - c
    x = np.clip(low - f_low / np.where(f_high == f_low, 1.0, f_high - f_low), low, high)
    for _ in range(60):
        f = value(x) - c
        slope = (value(x + 1e-4) - value(x - 1e-4)) / 2e-4
        under = (f <= 0) == rising
        low, high = np.where(under, x, low), np.where(under, high, x)
        step = x - f / np.where(slope == 0, 1.0, slope)
        new = np.where((step > low) & (step < high), step, 0.5 * (low + high))
        settled = np.abs(new - x) < 1e-13 * m
        x = new
        if settled.all():
            break
    return x, (value(x + 1e-4) - value(x - 1e-4)) / 2e-4


def _rows(
    density: Density,
    squeezes: Sequence[Squeeze],
    z: list[np.ndarray],
    s: np.ndarray,
    log_z: float,
    g: Callable[[np.ndarray], np.ndarray],
    name: str,
) -> Rows:
    """p and g on the product of (z, s), axes without say in g summed out, the best line last."""
    axes = [q.u(a) for q, a in zip(squeezes, z, strict=True)]
    D, q, *_ = density.ratios.grid(axes)
    t = 0.5 * np.log(q / density.nu)[..., None] + s
    n = len(axes) + 1
    v = [along(a, k, n) for k, a in enumerate(axes)]
    with np.errstate(over="ignore"):
        F = density.at(D[..., None], q[..., None], v, t) - log_z
    for k, (squeeze, a) in enumerate(zip(squeezes, z, strict=True)):
        F = F + along(np.log(squeeze.slope(a)), k, n)
    p = np.exp(F)
    base, degree = density.ratios.scaled(axes)
    theta = np.stack(
        [np.broadcast_to(b[..., None] * np.exp(m * t), p.shape) for b, m in zip(base, degree, strict=True)]
    )
    with np.errstate(all="ignore"):
        values = np.array(np.broadcast_to(g(theta), p.shape), float)
    seen = p > p.max() * FAINT
    if not np.isfinite(values[seen]).all():
        raise MethodError(f"`{name}` does not exist, or is infinite, on part of the posterior.")
    values = _filled(values)
    total = p.sum()
    mean = float((p * values).sum() / total)
    sd = math.sqrt(float((p * (values - mean) ** 2).sum() / total))
    spread = float(values[seen].max() - values[seen].min())
    if not spread > 1e-12 * max(abs(mean), 1e-300):
        raise MethodError(f"`{name}` does not vary over the posterior: it is {mean:.6g} everywhere.")
    moving = tuple(k for k in range(n) if float(np.ptp(values, axis=k)[_any(seen, k)].max()) > 1e-11 * spread)
    still = tuple(k for k in range(n) if k not in moving)
    p = p.sum(axis=still) / (total * cell([a for k, a in enumerate((*z, s)) if k in moving], np.array([0.0, 1.0])))
    values = values[tuple(0 if k in still else slice(None) for k in range(n))]
    nodes = [a for k, a in enumerate((*z, s)) if k in moving]
    line = min(range(len(moving)), key=lambda k: (_turning(values, p, k), -len(nodes[k])))
    p, values = (np.moveaxis(a, line, -1).reshape(-1, len(nodes[line])) for a in (p, values))
    h = nodes[line][1] - nodes[line][0]
    p = p / (p.sum() * h)
    keep = p.max(axis=1) > p.max() * FAINT
    return Rows(nodes[line], p[keep], values[keep], moving, (mean, sd))


def _any(seen: np.ndarray, k: int) -> np.ndarray:
    return seen.any(axis=k)


def _filled(values: np.ndarray) -> np.ndarray:
    """What does not exist, far from the posterior, takes the nearest end."""
    good = np.isfinite(values)
    if good.all():
        return values
    low, high = values[good].min(), values[good].max()
    return np.where(np.isposinf(values), high, np.where(np.isfinite(values), values, low))


def _turning(values: np.ndarray, p: np.ndarray, k: int) -> float:
    """The share of the mass where g runs against its main direction along axis k, or stands still."""
    steps = np.diff(values, axis=k)
    mass = np.take(p, range(1, p.shape[k]), axis=k)
    up, down = float(mass[steps > 0].sum()), float(mass[steps < 0].sum())
    return 1.0 - max(up, down) / float(mass.sum())
