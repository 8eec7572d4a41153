"""Profiles ℓ_p(t) = max{ℓ : h = t} of a quantity, t a coordinate in which they are smooth up to the edge of its range.

| quantity | t |
| --- | --- |
| a variance, an SD | the SD, an entry of L (`roots`) |
| a correlation in Ω | arcsin ρ, an angle in L |
| a function with a finite range [lo, hi] | arcsin √((g − lo)/(hi − lo)) |
| … [lo, ∞) | √(g − lo) |
| … without a range, a fixed effect | itself |

In all but the last t meets an edge with dℓ_p/dt = 0: beyond it the profile would be its own mirror image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.inference.constrained import Angle, Coordinate, Peak, Smooth, peak
from vcbench.inference.quantities import Quantity
from vcbench.inference.roots import Likelihood, Roots
from vcbench.kernels.choose import build
from vcbench.kernels.low_rank import n_columns
from vcbench.model.model import Model

AT_EDGE = 2e-5  # an estimate whose t is nearer to an edge lies on it
OFF_EDGE = 1e-5  # where ∇h does not exist on the edge, the profile there is taken so far inside: it is flat
FLAT = 1e-8  # share of ∇²g's largest entry below which ∇g is 0
NEARBY = 4.0  # maxima beside a face are looked for where its ℓ lies no further down than so many times the profile's
BESIDE = 0.1  # SD, of the residual's at OLS, from which they are looked for
SMALL = 100  # columns of Z up to which that is so
POOR = 3.0  # an SD of fewer standard errors is poorly determined
OTHER = 1e-6  # ℓ by which another maximum is higher
HALVINGS = 5  # of a step along the curve that found no maximum
TOL_AT_TOP = 1e-6  # distance to the maximum of the whole likelihood, in standard errors
SHORT = 1e-6  # a fit whose ℓ lies further below the maximum next to it is said to have stopped short


UNDEFINED = "a variance is 0 at the maximum, where a correlation may be anything"


@dataclass(slots=True, eq=False)
class Point:
    """A point of a profile: t, ℓ_p, dℓ_p/dt, and where the maximum is. plateau: ℓ_p is that of a face where the
    quantity is not defined and may be anything."""

    t: float
    loglik: float
    slope: float
    peak: Peak = field(repr=False)
    plateau: bool = False


class Reference:
    """The maximum about which a fit is profiled, under one criterion: kernel, likelihood, θ̂, ℓ̂."""

    def __init__(self, fit: Any, criterion: str) -> None:
        from vcbench.solvers.solve import solve

        model = fit._need_model("a profile")
        self.kernel: Any = build(model, _kernel_name(model, fit.kernel or "auto"))
        own = criterion == fit.criterion and not fit.is_moments and fit.is_estimate
        theta = fit.theta_values if own else solve(self.kernel, "auto", criterion, trace=False).theta
        self.criterion = criterion
        self.f = Likelihood(self.kernel, criterion)
        top = peak(self.f, None, 0.0, self.f.r(theta), TOL_AT_TOP)
        if top is None:
            raise MethodError(
                f"no maximum of ℓ_{criterion.upper()} was found near the fit ({fit.status}): there is nothing to "
                "profile about. Fit again, with other starts (`n_starts=`) or another method."
            )
        self.top: Peak = top
        self.higher = ""  # what was said of a higher maximum, once a profile came upon one
        self.short = own and top.loglik - fit.loglik > SHORT * (1.0 + abs(top.loglik)) ** 0.5
        self.theta = theta if own and not self.short else self.f.theta(top.r)

    @cached_property
    def beta(self) -> np.ndarray:
        """β̂ at θ̂."""
        return self.kernel.evaluate(self.theta, ("loglik",), self.criterion).beta

    def seen(self, first: tuple[int, ...]) -> tuple[Likelihood, Peak]:
        """The likelihood and its maximum in coordinates with these effects first."""
        if all(len(c) == 1 for c in self.f.roots.cones):
            f, r = Likelihood(self.kernel, self.criterion, self.f.roots), self.top.r
        else:
            f = Likelihood(self.kernel, self.criterion, Roots.of(self.f.view.layout, first))
            r = f.roots.of_x(self.f.roots.x(self.top.r))
        top = peak(f, None, 0.0, r)
        assert top is not None
        return f, top


def _kernel_name(model: Model, name: str) -> str:
    """The fit's kernel; `low_rank` for a small crossed design, whose second derivatives it answers in half the time."""
    small = name == "crossed" and n_columns(model) <= min(SMALL, model.n_obs - model.n_fixed - 1)
    return "low_rank" if small else name


def reference(fit: Any, criterion: str) -> Reference:
    """`Reference`, kept with the fit."""
    key = f"profile:{criterion}"
    if key not in fit.cache:
        fit.cache[key] = Reference(fit, criterion)
    return fit.cache[key]


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
        self.scale = Scale(g_lo, g_hi)
        self.raw = jet
        super().__init__(f, top, Smooth(self._jet), *self.scale.limits, self.scale.natural)
        self.off: dict[int, tuple[np.ndarray, float]] = {}
        _, a, C = jet(top.r)
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
                width = self.scale.width if math.isfinite(self.scale.width) else 1.0
                self.off[sign] = u, kappa
                self.se = math.sqrt(0.5 * kappa / (width * bend)) if bend > 0 else math.inf

    def _at(self, t: float, near: Point) -> Point | None:
        if near is not self.start or not self.off:
            return super()._at(t, near)
        g, here = self.natural(t), self.natural(near.t)
        u, kappa = self.off.get(1 if g > here else -1, (np.zeros(len(near.peak.r)), 1.0))
        return self._from(t, near.peak.r + u * math.sqrt(2.0 * abs(g - here) / kappa))


@dataclass(frozen=True, slots=True)
class Scale:
    """g ∈ [lo, hi] ↔ t; see the module."""

    lo: float
    hi: float

    @property
    def width(self) -> float:
        """hi − lo."""
        return self.hi - self.lo

    @property
    def limits(self) -> tuple[float, float]:
        """The range of t."""
        if math.isfinite(self.width):
            return 0.0, math.pi / 2
        return (0.0, math.inf) if math.isfinite(self.lo) else (-math.inf, 0.0 if math.isfinite(self.hi) else math.inf)

    def natural(self, t: float) -> float:
        """g at t."""
        if math.isfinite(self.width):
            return self.lo + self.width * math.sin(t) ** 2
        if math.isfinite(self.lo):
            return self.lo + t * t
        return self.hi - t * t if math.isfinite(self.hi) else t

    def jet(self, g: float) -> tuple[float, float, float]:
        """(t, dt/dg, d²t/dg²) at g."""
        if math.isfinite(self.width):
            t = math.asin(math.sqrt(min(max((g - self.lo) / self.width, 0.0), 1.0)))
            s = max(math.sin(2.0 * t), 1e-300)
            return t, 1.0 / (s * self.width), -2.0 * math.cos(2.0 * t) / s**3 / self.width**2 if s > 1e-100 else 0.0
        if math.isfinite(self.lo) or math.isfinite(self.hi):
            sign = 1.0 if math.isfinite(self.lo) else -1.0
            t = math.sqrt(max(g - self.lo if sign > 0 else self.hi - g, 0.0))
            return sign * t, 0.5 / max(t, 1e-300), -0.25 * sign / t**3 if t > 1e-100 else 0.0
        return g, 1.0, 0.0


def _spread(top: Peak, a: np.ndarray) -> float:
    """√(aᵀH⁻¹a), the standard error of t̂; inf along a flat direction."""
    b = top.vectors.T @ (top.N.T @ a)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        v = float(b @ (b / top.values))
    return math.sqrt(v) if math.isfinite(v) and v > 0 else math.inf


def curve_of(ref: Reference, q: Quantity) -> Curve | str:
    """The profile of a quantity of θ; a sentence where there is none."""
    f = ref.f
    alone = [f.single(at) for at in q.places]
    if q.kind in ("variance", "sd") and len(alone) == 1 and alone[0] is not None:
        return _sd_curve(ref, alone[0], q.kind == "sd")
    if q.kind == "correlation" and len(q.places) == 3 and alone[1] is not None and alone[2] is not None:
        a, b = alone[1], alone[2]
        lay = f.view.layout
        if 0.0 in (f.roots.x(ref.top.r)[f.roots.diagonal[e]] for e in (a, b)):
            return UNDEFINED
        seen, top = ref.seen((a, b))
        cone = next(c for c in seen.roots.cones if c[0, 0] == seen.roots.diagonal[a])
        assert len(lay.pa) > cone[1, 0]
        surface = Angle(int(cone[1, 0]), int(cone[1, 1]), int(cone[0, 0]))

        def faces() -> list[Face]:
            return [_face(seen, cone, _sd_curve(ref, e, True), k) for k, e in enumerate((a, b))]

        return AngleCurve(seen, top, surface, faces)
    return _range_curve(ref, q)


def _range_curve(ref: Reference, q: Quantity) -> Curve | str:
    seen = Likelihood(ref.kernel, ref.criterion, ref.f.roots)
    p = q.n_theta

    def jet(r: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        g, a, C = q.jet(seen.theta(r), ref.beta)
        return seen.natural(r, (g, a[:p], C[:p, :p]))

    g = q.value(ref.theta, ref.beta)
    if not math.isfinite(g):
        return "it does not exist at the maximum"
    _, a, _ = q.jet(seen.theta(ref.top.r * 1.01 + 0.01), ref.beta)
    near, far = seen.corners(ref.top.r, a[:p] != 0)
    return RangeCurve(seen, ref.top, jet, *q.bounds(near, far, ref.beta))


def _sd_curve(ref: Reference, effect: int, is_sd: bool) -> Curve:
    f, top = ref.seen((effect,))
    k = int(f.roots.diagonal[effect])
    scale = float(f.roots.scale[k])
    root = math.sqrt(scale)
    top.r[k] = abs(top.r[k])
    return Curve(f, top, Coordinate(k), 0.0, math.inf, (lambda t: t * root) if is_sd else (lambda t: t * t * scale))


def _face(seen: Likelihood, cone: np.ndarray, curve: Curve, which: int) -> Face:
    """The face where the SD of a curve is 0, the first (0) or second (1) of the cone in the coordinates of `seen`."""
    found = curve.point(0.0, curve.start)
    seen.n_eval += curve.n_eval
    if found is None:
        return Face(-math.inf, lambda t: np.full(len(seen.roots.scale), np.nan))
    flat = seen.roots.of_x(curve.f.roots.x(found.peak.r))
    size = math.sqrt(seen.roots.x(flat)[cone[1 - which, 1 - which]])
    first, second = (BESIDE, size) if which == 0 else (size, BESIDE)

    def beside(t: float) -> np.ndarray:
        r = flat.copy()
        r[cone[0, 0]] = first
        r[cone[1, 0]], r[cone[1, 1]] = second * math.sin(t), second * math.cos(t)
        return r

    return Face(found.loglik, beside)
