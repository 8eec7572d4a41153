"""ℓ with two parameters held: the others at their maximum.

A pinned parameter is a standard deviation, a correlation of two effects of one Ω, or a parameter of a structure that
depends on one φ alone (ρ, a range). Each is one coordinate of q, which is r of `roots` with the Cholesky factors
beginning with the pinned effects, and the second row of a factor read as (L_21, L_22) = (s sin t, s cos t): s is its SD
and sin t the correlation. The rest is climbed by `constrained.peak`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.inference.constrained import peak
from vcbench.inference.profiled_maximum import reference
from vcbench.inference.quantities import Quantity, quantity_of
from vcbench.inference.roots import At, Likelihood, Roots
from vcbench.inference.variances import rows_of

EDGE = 1.0 - 1e-9  # of a correlation
MIRROR = 1e-3  # an SD below it starts there: at 0 the slope is 0, whatever lies behind the mirror


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """One parameter of the surface: its name on the scale drawn, its value at the maximum, the limits of its range."""

    name: str
    quantity: Quantity = field(repr=False)
    kind: str  # "sd", "correlation" or "other"
    estimate: float
    low: float
    high: float
    places: tuple[int, ...]

    def along(self, theta: np.ndarray, beta: np.ndarray) -> np.ndarray:
        """Its value at every row of θ (m, p)."""
        x = np.column_stack([theta, np.tile(beta, (len(theta), 1))])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.quantity.of.at(x.T), float)


def axis_of(fit: Any, said: str) -> Axis:
    """The axis that a name asks for: a variance or its SD, a correlation, a parameter of a structure; or a component
    with one variance.

    MethodError for names that are unknown, and for parameters that cannot be pinned alone.
    """
    facts = fit.facts
    q = quantity_of(facts, said)
    names = [r.name for r in rows_of(facts.theta_names, facts.is_variance, "sd")]
    if q.kind == "variance":
        q = _sd_of(facts, q, names[q.places[0]])
    if q.kind not in ("sd", "correlation", "other") or not q.places:
        raise MethodError(f"`{said}` cannot be an axis: choose SDs, correlations or parameters of structures, of "
                          f"{', '.join(names)}.")  # fmt: skip
    at = reference(fit, fit.criterion)
    estimate = q.value(at.theta, at.beta)
    low, high = (0.0, math.inf) if q.kind == "sd" else (-EDGE, EDGE) if q.kind == "correlation" else (1e-9, math.inf)
    return Axis(q.name, q, q.kind, estimate, low, high, q.places)


def _sd_of(facts: Any, variance: Quantity, name: str) -> Quantity:
    """The SD of a variance; that of a nugget has no name of its own."""
    found = quantity_of(facts, name)
    if found.kind == "sd":
        return found
    root = quantity_of(facts, f"sqrt(`{facts.theta_names[variance.places[0]]}`)")
    return replace(root, name=f"sd of {name}", kind="sd", places=variance.places)


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """ℓ as a function of the coordinates that are not pinned: what `constrained.peak` climbs.

    q is r with (L_21, L_22) of the pinned cone as (s, t): L_21 = s sin t, L_22 = s cos t. `at` gives derivatives in q's
    free entries; `exact` as the likelihood's.
    """

    f: Likelihood
    q: np.ndarray
    free: np.ndarray
    polar: tuple[int, int] | None
    exact: bool

    def r(self, z: np.ndarray) -> np.ndarray:
        """r at free entries z."""
        return _cartesian(self.full(z), self.polar)

    def full(self, z: np.ndarray) -> np.ndarray:
        """q with its free entries at z."""
        q = self.q.copy()
        q[self.free] = z
        return q

    def at(self, z: np.ndarray) -> At | None:
        """ℓ and its derivatives in z; None where V is not positive definite."""
        q = self.full(z)
        at = self.f.at(_cartesian(q, self.polar))
        if at is None:
            return None
        g, H = at.gradient, at.H
        if self.polar is not None:
            i, j = self.polar
            s, sin, cos = q[i], math.sin(q[j]), math.cos(q[j])
            J = np.eye(len(q))
            J[np.ix_((i, j), (i, j))] = [[sin, s * cos], [cos, -s * sin]]
            bend = np.zeros_like(H)
            bend[i, j] = bend[j, i] = g[i] * cos - g[j] * sin
            bend[j, j] = -s * (g[i] * sin + g[j] * cos)
            g, H = J.T @ g, J.T @ H @ J - bend
        return At(z, at.loglik, g[self.free], H[np.ix_(self.free, self.free)])


def _cartesian(q: np.ndarray, polar: tuple[int, int] | None) -> np.ndarray:
    if polar is None:
        return q
    r, (i, j) = q.copy(), polar
    r[i], r[j] = q[i] * math.sin(q[j]), q[i] * math.cos(q[j])
    return r


def _polar(r: np.ndarray, polar: tuple[int, int] | None) -> np.ndarray:
    if polar is None:
        return r
    q, (i, j) = r.copy(), polar
    q[i], q[j] = math.hypot(r[i], r[j]), math.atan2(r[i], r[j])
    return q


@dataclass(frozen=True, slots=True, eq=False)
class Pinned:
    """Where the two parameters sit in q, and the maximum in q."""

    f: Likelihood
    axes: tuple[Axis, Axis]
    pins: tuple[int, int]
    polar: tuple[int, int] | None
    theta: np.ndarray
    best: np.ndarray  # q at the maximum
    top: float

    @classmethod
    def of(cls, fit: Any, axes: tuple[Axis, Axis]) -> "Pinned":
        at = reference(fit, fit.criterion)
        plain = at.f
        singles = [[_single(plain, a, k) for k in (a.places if a.kind == "sd" else a.places[1:])] for a in axes]
        effects = list(dict.fromkeys(e for own in singles for e in own))
        last = len(plain.roots.diagonal) - 1
        roots = Roots.of(plain.view.layout, first=[e for e in effects if e != last])
        f = Likelihood(at.kernel, fit.criterion, roots)
        pins, polar = cls._places(f, axes, singles)
        best = _polar(f.roots.of_x(plain.roots.x(at.top.r)), polar)
        return cls(f, axes, pins, polar, np.array(at.theta, float), best, at.top.loglik)

    @staticmethod
    def _places(f: Likelihood, axes: Any, singles: Any) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """(positions in q of the two parameters, positions of (s, t)). MethodError where they do not fit together."""
        cone_of = {int(c[k, k]): (c, k) for c in f.roots.cones for k in range(len(c))}
        spots = [[cone_of[int(f.roots.diagonal[e])] for e in own] for own in singles]
        flat = [spot for own in spots for spot in own]
        second = {(int(c[1, 0]), int(c[1, 1])) for c, k in flat if k == 1}
        if len(second) > 1 or any(k > 1 for _, k in flat):
            raise _together(axes)
        polar = next(iter(second), None)
        pins = []
        for axis, own in zip(axes, spots, strict=True):
            if axis.kind == "correlation" and len(axis.places) == 3:
                assert polar is not None
                pins.append(polar[1])
            elif axis.kind == "sd":
                c, k = own[0]
                pins.append(polar[0] if k == 1 and polar is not None else int(c[k, k]))
            else:
                pins.append(_smooth_place(f, axis))
        return (pins[0], pins[1]), polar

    def coordinate(self, i: int, value: float) -> float:
        """q's entry at a value of axis i."""
        axis = self.axes[i]
        if axis.kind == "sd":
            scale = self.f.roots.scale
            own = self.pins[i] if self.polar is None or self.pins[i] != self.polar[0] else self.polar[1]
            return value / math.sqrt(scale[own])
        if len(axis.places) == 3:
            return math.asin(min(max(value, -1.0), 1.0))
        theta, maps = self.theta.copy(), self.f.maps
        assert maps is not None
        theta[axis.places[0]] = value
        w = maps.w(theta)
        return float(maps.inside(w)[self.pins[i]] / self.f.roots.scale[self.pins[i]])

    def climb(self, pinned: Sequence[tuple[int, float]], start: np.ndarray) -> tuple[float, np.ndarray]:
        """(ℓ_p, q) with axes pinned at values, climbed from q = `start`; NaN where there is no maximum."""
        q = start.copy()
        for i, value in pinned:
            q[self.pins[i]] = self.coordinate(i, value)
        held = [self.pins[i] for i, _ in pinned]
        free = np.array([j for j in range(len(q)) if j not in held], int)
        part = Slice(self.f, q, free, self.polar, self.f.exact)
        if not len(free):
            at = part.at(q[free])
            return (math.nan if at is None else at.loglik), q
        z = q[free]
        diagonal = np.isin(free, self.f.roots.diagonal) & (free != (-1 if self.polar is None else self.polar[1]))
        z = np.where(diagonal & (np.abs(z) < MIRROR), MIRROR, z)
        found = peak(part, None, math.nan, z)
        return (math.nan, q) if found is None else (found.loglik, part.full(found.r))

    def limits(self, i: int) -> tuple[float, float]:
        """The range of axis i; of a structure's parameter its values where φ is at its limits."""
        axis = self.axes[i]
        if axis.kind == "sd" or len(axis.places) == 3:
            return axis.low, axis.high
        maps = self.f.maps
        assert maps is not None
        w, ends = maps.w(self.theta), []
        for side in (-np.inf, np.inf):
            w[self.pins[i]] = side
            ends.append(float(maps.theta(maps.inside(w))[axis.places[0]]))
        return min(ends), max(ends)

    def size(self, i: int) -> float:
        """A first step along axis i: half the estimate, a tenth of the OLS residual SD at 0; of a correlation 0.2."""
        axis = self.axes[i]
        if axis.kind == "correlation":
            return 0.2
        if axis.kind == "sd":
            own = self.pins[i] if self.polar is None or self.pins[i] != self.polar[0] else self.polar[1]
            return max(0.5 * axis.estimate, 0.1 * math.sqrt(self.f.roots.scale[own]))
        return 0.5 * abs(axis.estimate)


def _single(f: Likelihood, axis: Axis, at: int) -> int:
    """The effect whose variance is θ[at]. MethodError where it is no variance of its own."""
    effect = f.single(at)
    if effect is None:
        raise _tied(axis)
    return effect


def _smooth_place(f: Likelihood, axis: Axis) -> int:
    """Where the φ of a structure's parameter sits in w. MethodError where it depends on more than one."""
    if f.maps is None:
        raise _tied(axis)
    probe = np.ones(len(f.roots.scale))
    probe[f.roots.linear > 0] = np.random.default_rng(0).uniform(0.2, 0.4, int(f.roots.linear.sum()))
    row = f.maps.theta_jacobian(probe)[1][axis.places[0]]
    if np.count_nonzero(row) != 1:
        raise _tied(axis)
    return int(np.argmax(np.abs(row)))


def _tied(axis: Axis) -> MethodError:
    return MethodError(f"`{axis.name}` depends on several coordinates of its structure and cannot be pinned alone. "
                       "Choose another axis.")  # fmt: skip


def _together(axes: Sequence[Axis]) -> MethodError:
    return MethodError(
        f"`{axes[0].name}` and `{axes[1].name}` cannot be pinned together: their correlations involve more than one "
        "pair of effects. Choose two SDs, or an SD and its correlation."
    )
