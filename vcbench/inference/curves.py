"""Profiles ℓ_p(t) = max{ℓ : h = t} of a quantity, t a coordinate in which they are smooth up to the edge of its range.

| quantity | t |
| --- | --- |
| a variance, an SD | the SD, an entry of L (`roots`) |
| a correlation in Ω | arcsin ρ, an angle in L |
| a parameter that is a function of one φ of a structure | φ |
| a function with a finite range [lo, hi] | arcsin √((g − lo)/(hi − lo)) |
| … [lo, ∞) | √((g − lo)/u), u a unit that makes it of order one |
| … without a range, a fixed effect | g/u |

Where t meets an edge, dℓ_p/dt = 0: beyond it the profile would be its own mirror image, or levels off.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vcbench.inference.constrained import Angle, Peak, Smooth, peak

AT_EDGE = 2e-4  # an estimate whose t is nearer to an edge lies on it
OFF_EDGE = 1e-4  # where ∇h does not exist on the edge, the profile there is taken so far inside: it is flat
FLAT = 1e-8  # share of ∇²g's largest entry below which ∇g is 0
NEARBY = 4.0  # maxima beside a face are looked for where its ℓ lies no further down than so many times the profile's
BESIDE = 0.1  # SD, of the residual's at OLS, from which they are looked for
POOR = 3.0  # an SD of fewer standard errors is poorly determined
OTHER = 1e-6  # ℓ by which another maximum is higher
HALVINGS = 5  # of a step along the curve that found no maximum


@dataclass(slots=True, eq=False)
class Point:
    """A point of a profile: t, ℓ_p, dℓ_p/dt, and where the maximum is. plateau: ℓ_p is that of a face where the
    quantity is not defined and may be anything."""

    t: float
    loglik: float
    slope: float
    peak: Peak = field(repr=False)
    plateau: bool = False


class Curve:
    """A profile about its maximum: `start`, range of t [lo, hi], `se` of t̂ by the curvature, g = `natural`(t)."""

    def __init__(
        self, f: Any, top: Peak, surface: Any, lo: float, hi: float, natural: Callable[[float], float]
    ) -> None:
        self.f, self.surface, self.lo, self.hi, self.natural = f, surface, lo, hi, natural
        t, a, _ = surface.jet(top.r)
        self.start = Point(t, top.loglik, 0.0, top)
        self.se = _spread(top, a)

    @property
    def rate(self) -> float:
        """dt/dζ at t̂; NaN where it is not the standard error."""
        return self.se

    @property
    def n_eval(self) -> int:
        """Evaluations of the likelihood so far."""
        return self.f.n_eval

    def theta(self, point: Point) -> np.ndarray:
        """θ at a point."""
        return self.f.theta(point.peak.r)

    def is_edge(self, t: float) -> int:
        """−1 or 1 where t lies on the lower or upper edge of its range, else 0."""
        return -1 if t <= self.lo + AT_EDGE else 1 if t >= self.hi - AT_EDGE else 0

    def edge(self, side: int) -> float:
        """t at the edge."""
        return self.lo if side < 0 else self.hi

    def point(self, t: float, near: Point) -> Point | None:
        """The profile at t from a point of it; None where no maximum is found. The edge is tried once: ℓ may be −∞."""
        return self._reach(t, near, 0 if self.is_edge(t) else HALVINGS)

    def elsewhere(self, point: Point) -> Point:
        """The highest of the maxima at the same t found from other sizes of the variances that are poorly determined
        there: those at 0 come off it, the others start near it."""
        if not self.f.exact:
            return point
        best, top = point, point.peak
        spread = ((top.N @ top.vectors) ** 2 / top.values).sum(axis=1)  # variances of r along the surface
        for j in self.f.roots.diagonal[:-1]:
            size = abs(top.r[j])
            if spread[j] > 0.0 and size * size < POOR * POOR * spread[j]:
                r = top.r.copy()
                r[j] = BESIDE if size > 3 * BESIDE else 5 * BESIDE
                found = self._from(point.t, r, top)
                if found is not None and found.loglik > best.loglik + OTHER:
                    best = found
        return best

    def _reach(self, t: float, near: Point, halvings: int) -> Point | None:
        found = self._at(t, near)
        if found is None and halvings > 0:
            between = self._reach(0.5 * (t + near.t), near, halvings - 1)
            return None if between is None else self._at(t, between)
        return found

    def _at(self, t: float, near: Point) -> Point | None:
        found = self._from(t, near.peak.towards(t))
        return self._from(t, near.peak.r) if found is None else found

    def _from(self, t: float, r: np.ndarray, known: Peak | None = None) -> Point | None:
        found = peak(self.f, self.surface, t, r, known=known)
        return None if found is None or found.stopped else Point(t, found.loglik, found.slope, found)


@dataclass(frozen=True, slots=True)
class Face:
    """Where one of two variances is 0: the greatest ℓ there, and r of points beside it, as a function of the angle."""

    loglik: float
    beside: Callable[[float], np.ndarray]


class AngleCurve(Curve):
    """The profile of a correlation. Where a variance is 0, ρ may be anything: ℓ_p is never below ℓ there, and it may
    have a maximum of its own beside it."""

    def __init__(self, f: Any, top: Peak, surface: Angle, faces: Callable[[], list[Face]]) -> None:
        super().__init__(f, top, surface, -math.pi / 2, math.pi / 2, math.sin)
        self._faces = faces

    @cached_property
    def faces(self) -> list[Face]:
        """Both faces."""
        return self._faces()

    def point(self, t: float, near: Point) -> Point | None:
        """The profile at t: of the maxima followed, beside a face where that is no further down than NEARBY times, and
        on the faces."""
        found = super().point(t, near)
        top = self.start.loglik
        for face in self.faces:
            if found is None or top - face.loglik < NEARBY * (top - found.loglik):
                other = self._from(t, face.beside(t))
                if other is not None and (found is None or other.loglik > found.loglik):
                    found = other
        bound = max(face.loglik for face in self.faces)
        if found is None or found.loglik < bound:
            return Point(t, bound, 0.0, near.peak if found is None else found.peak, True)
        return found


class RangeCurve(Curve):
    """The profile of a function g of θ (or of θ and β) whose attainable values are [g_lo, g_hi]."""

    def __init__(self, f: Any, top: Peak, jet: Callable, g_lo: float, g_hi: float) -> None:
        _, a, C = jet(top.r)
        self.scale = Scale(g_lo, g_hi, max(float(np.abs(a).max()), float(np.abs(C).max())) or 1.0)
        self.raw = jet
        super().__init__(f, top, Smooth(self._jet), *self.scale.limits, self.scale.natural)
        self.off: dict[int, tuple[np.ndarray, float]] = {}
        side = self.is_edge(self.start.t)
        if side:
            self.start.t = self.edge(side)
        if side or not np.abs(a).max() > FLAT * np.abs(C).max():
            self._leave(top, C)

    @property
    def rate(self) -> float:
        """dt/dζ at t̂; NaN where t is no root and ∇g = 0, for then t − t̂ grows with ζ²."""
        return math.nan if self.off and math.isinf(self.scale.limits[0]) else self.se

    def edge(self, side: int) -> float:
        """t a little inside the edge, where ∇h exists."""
        t = super().edge(side)
        return t - side * OFF_EDGE if math.isfinite(t) else t

    def _jet(self, r: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        g, a, C = self.raw(r)
        t, first, second = self.scale.jet(g)
        return t, first * a, first * C + second * np.outer(a, a)

    def _leave(self, top: Peak, C: np.ndarray) -> None:
        """From an estimate where ∇g = 0, on an edge or at a saddle: along the curvature of g, g = ĝ ± ½κs²."""
        values, vectors = np.linalg.eigh(C)
        for sign, j in ((1, -1), (-1, 0)):
            if sign * values[j] > 0:
                u, kappa = vectors[:, j], abs(float(values[j]))
                bend = float(u @ top.H @ u)
                self.off[sign] = u, kappa
                self.se = math.sqrt(0.5 * kappa / (self.scale.unit * bend)) if bend > 0 else math.inf

    def _at(self, t: float, near: Point) -> Point | None:
        if near is not self.start or not self.off:
            return super()._at(t, near)
        g, here = self.natural(t), self.natural(near.t)
        u, kappa = self.off.get(1 if g > here else -1, (np.zeros(len(near.peak.r)), 1.0))
        return self._from(t, near.peak.r + u * math.sqrt(2.0 * abs(g - here) / kappa))


class Scale:
    """g ∈ [lo, hi] ↔ t; see the module. unit: hi − lo where it is finite, else as given."""

    def __init__(self, lo: float, hi: float, unit: float = 1.0) -> None:
        self.lo, self.hi = lo, hi
        self.unit = hi - lo if math.isfinite(hi - lo) else unit

    @property
    def limits(self) -> tuple[float, float]:
        """The range of t."""
        if math.isfinite(self.hi - self.lo):
            return 0.0, math.pi / 2
        return (0.0, math.inf) if math.isfinite(self.lo) else (-math.inf, 0.0 if math.isfinite(self.hi) else math.inf)

    def natural(self, t: float) -> float:
        """g at t."""
        if math.isfinite(self.hi - self.lo):
            return self.lo + self.unit * math.sin(t) ** 2
        if math.isfinite(self.lo):
            return self.lo + self.unit * t * t
        return self.hi - self.unit * t * t if math.isfinite(self.hi) else self.unit * t

    def jet(self, g: float) -> tuple[float, float, float]:
        """(t, dt/dg, d²t/dg²) at g."""
        u = self.unit
        if math.isfinite(self.hi - self.lo):
            t = math.asin(math.sqrt(min(max((g - self.lo) / u, 0.0), 1.0)))
            s = max(math.sin(2.0 * t), 1e-300)
            return t, 1.0 / (s * u), -2.0 * math.cos(2.0 * t) / s**3 / u**2 if s > 1e-100 else 0.0
        if math.isfinite(self.lo) or math.isfinite(self.hi):
            sign = 1.0 if math.isfinite(self.lo) else -1.0
            t = math.sqrt(max((g - self.lo if sign > 0 else self.hi - g) / u, 0.0))
            return sign * t, 0.5 / max(t * u, 1e-300), -0.25 * sign / (t**3 * u**2) if t > 1e-90 else 0.0
        return g / u, 1.0 / u, 0.0


def _spread(top: Peak, a: np.ndarray) -> float:
    """√(aᵀH⁻¹a), the standard error of t̂; inf along a flat direction."""
    b = top.vectors.T @ (top.N.T @ a)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        v = float(b @ (b / top.values))
    return math.sqrt(v) if math.isfinite(v) and v > 0 else math.inf
