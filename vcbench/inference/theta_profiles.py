"""The profile of a quantity of θ: in the coordinate that suits it, or by its range."""

import math

import numpy as np

from vcbench.inference.constrained import Angle, Coordinate
from vcbench.inference.curves import BESIDE, AngleCurve, Curve, Face, RangeCurve
from vcbench.inference.profiled_maximum import Reference
from vcbench.inference.quantities import HUGE, TINY, Quantity
from vcbench.inference.roots import Likelihood

ROUNDED = 1e-6  # a correlation that its φ at the limit leaves so near to ±1 is ±1
ZERO = 1e-14  # of the residual variance at OLS: a variance that is 0
UNDEFINED = "a variance is 0 at the maximum, where a correlation may be anything"


def curve_of(ref: Reference, q: Quantity) -> Curve | str:
    """The profile of a quantity of θ; a sentence where there is none."""
    f = ref.f
    alone = [f.single(at) for at in q.places]
    if q.kind in ("variance", "sd") and len(alone) == 1 and alone[0] is not None:
        return _sd_curve(ref, alone[0], q.kind == "sd")
    if q.kind == "correlation" and len(q.places) == 3 and alone[1] is not None and alone[2] is not None:
        a, b = alone[1], alone[2]
        if f.roots.x(ref.top.r)[f.roots.diagonal[[a, b]]].min() < ZERO:
            return UNDEFINED
        seen, top = ref.seen((a, b))
        cone = next(c for c in seen.roots.cones if c[0, 0] == seen.roots.diagonal[a])
        surface = Angle(int(cone[1, 0]), int(cone[1, 1]), int(cone[0, 0]))

        def faces() -> list[Face]:
            return [_face(seen, cone, _sd_curve(ref, e, True), k) for k, e in enumerate((a, b))]

        return AngleCurve(seen, top, surface, faces)
    if len(q.places) == 1 and (j := f.single_phi(q.places[0])) is not None:
        return _phi_curve(ref, q, j)
    return _range_curve(ref, q)


def _phi_curve(ref: Reference, q: Quantity, j: int) -> Curve:
    """Along the one φ of a structure of which a θ is an increasing function: a correlation, or a positive number."""
    seen = Likelihood(ref.kernel, ref.criterion, ref.f.roots)
    limit, r = seen.phi_limit(j), ref.top.r.copy()
    top, at = ref.top, q.places[0]

    def natural(phi: float) -> float:
        r[j] = min(max(phi, -limit), limit)
        value = float(seen.theta(r)[at])
        if abs(phi) >= limit and q.kind == "other":  # φ has come to its limit, the number has none
            return math.inf if phi > 0 else 0.0
        if abs(abs(value) - 1.0) < ROUNDED:
            return math.copysign(1.0, value)
        return value if TINY < abs(value) < HUGE else math.copysign(math.inf if abs(value) > 1 else 0.0, value)

    return Curve(seen, top, Coordinate(j), -limit, limit, natural)


def _range_curve(ref: Reference, q: Quantity) -> Curve | str:
    """By the range of values that can be attained."""
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
    """Of an SD, or of its square, along its own entry of L."""
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
