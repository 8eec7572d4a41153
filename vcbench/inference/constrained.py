"""The maximum of ℓ(r) on a surface h(r) = t: Newton steps along the surface, each brought back onto it.

    tangent: Nᵀa = 0, a = ∇h      H = −∇²ℓ + λ∇²h, λ = aᵀ∇ℓ/aᵀa      Δr = N (NᵀHN)⁻¹ Nᵀ∇ℓ

Every iterate lies on the surface, so that ℓ itself says whether a step is good: it never falls. At the maximum λ is the
slope dℓ_p/dt of the profile. Negative eigenvalues of NᵀHN count by their size, and a point without slope where one is
left is no maximum: it is left along the eigenvector (a variance that was 0 comes off it).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.inference.roots import At

TOL = 1e-3  # distance to the maximum, in standard errors, from which what is left is ½ of its square up to its cube
TOL_INEXACT = 1e-4  # the same where H is not exact
MOST_STEPS = 60
LONGEST = 1.0  # of a step: r is of order one
FLOOR = 1e-10  # of the largest eigenvalue of NᵀHN: a direction below it is flat
BENT = 1e-7  # of the same: a negative eigenvalue beyond it is one
ROUNDING = 1e-11  # share of 1 + |ℓ| that is rounding
NEAR_KNOWN = 0.5  # standard errors from a known maximum within which a search ends there
NEAR_WALL = 1e-3  # a step that would cross a wall from nearer than it is not made: the search stops there
Surface = tuple[float, np.ndarray, np.ndarray | None]


@dataclass(frozen=True, slots=True)
class Coordinate:
    """h(r) = r_k: an SD whose effect comes first in L, or σ."""

    k: int

    def jet(self, r: np.ndarray) -> Surface:
        """(h, ∇h, ∇²h)."""
        a = np.zeros(len(r))
        a[self.k] = 1.0
        return float(r[self.k]), a, None

    def onto(self, r: np.ndarray, t: float) -> np.ndarray | None:
        """r moved onto h = t."""
        r = r.copy()
        r[self.k] = t
        return r

    def walls(self, r: np.ndarray, step: np.ndarray) -> list[tuple[float, float]]:
        """No walls."""
        return []


@dataclass(frozen=True, slots=True)
class Angle:
    """h(r) = arcsin ρ of the first two effects of a cone, ρ = L_21/√(L_21² + L_22²), as long as L_11 > 0."""

    i: int  # L_21
    j: int  # L_22
    first: int  # L_11

    def jet(self, r: np.ndarray) -> Surface:
        """(h, ∇h, ∇²h)."""
        u, v = float(r[self.i]), float(r[self.j])
        n2 = u * u + v * v
        a, C = np.zeros(len(r)), np.zeros((len(r), len(r)))
        a[self.i], a[self.j] = v / n2, -u / n2
        C[self.i, self.i], C[self.j, self.j] = -2 * u * v / n2**2, 2 * u * v / n2**2
        C[self.i, self.j] = C[self.j, self.i] = (u * u - v * v) / n2**2
        return math.atan2(u, v), a, C

    def onto(self, r: np.ndarray, t: float) -> np.ndarray | None:
        """r with (L_21, L_22) turned to the angle t, its length kept."""
        u, v = float(r[self.i]), float(r[self.j])
        if math.cos(math.atan2(u, v) - t) <= 0.1:
            return None
        r, n = r.copy(), math.hypot(u, v)
        r[self.i], r[self.j] = n * math.sin(t), n * math.cos(t)
        return r

    def walls(self, r: np.ndarray, step: np.ndarray) -> list[tuple[float, float]]:
        """(distance, its change over the step) of the two SDs from 0, where there is no correlation."""
        n = math.hypot(r[self.i], r[self.j])
        return [
            (float(r[self.first]), float(step[self.first])),
            (n, float(r[self.i] * step[self.i] + r[self.j] * step[self.j]) / n),
        ]


@dataclass(frozen=True, slots=True)
class Smooth:
    """Any h(r) by its value, gradient and Hessian."""

    jet: Callable[[np.ndarray], Surface]

    def onto(self, r: np.ndarray, t: float) -> np.ndarray | None:
        """r moved along ∇h until h = t; None where that does not end there."""
        for _ in range(40):
            h, a, _ = self.jet(r)
            with np.errstate(over="ignore", invalid="ignore"):  # a slope without bound is no direction
                length = float(a @ a)
            if not (math.isfinite(h) and math.isfinite(length)):
                return None
            if abs(h - t) <= 1e-12 * (1.0 + abs(t)):
                return r
            if length == 0.0:
                return None
            step = a * ((t - h) / length)
            r = r + step * min(1.0, LONGEST / math.sqrt(float(step @ step)))
        return r if abs(h - t) <= 1e-9 * (1.0 + abs(t)) else None

    def walls(self, r: np.ndarray, step: np.ndarray) -> list[tuple[float, float]]:
        """No walls."""
        return []


@dataclass(slots=True, eq=False)
class Peak:
    """The maximum of ℓ on a surface: r, ℓ, slope λ = dℓ_p/dt, and what is needed to go on from it.

    stopped: r is no maximum but where the search met a wall.
    """

    r: np.ndarray
    loglik: float
    slope: float
    H: np.ndarray = field(repr=False)
    a: np.ndarray | None = field(repr=False)
    N: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)  # of NᵀHN, by their size
    vectors: np.ndarray = field(repr=False)
    t: float = math.nan
    stopped: bool = False

    def distance(self, r: np.ndarray) -> float:
        """How far r is from the maximum, along the surface, in standard errors."""
        move = self.vectors.T @ (self.N.T @ (r - self.r))
        return math.sqrt(float(move @ (self.values * move)))

    def towards(self, t: float) -> np.ndarray:
        """r at the maximum on h = t, to first order in t."""
        if self.a is None:
            return self.r
        move = self.a * ((t - self.t) / float(self.a @ self.a))
        along = self.vectors @ ((self.vectors.T @ (self.N.T @ (self.H @ move))) / self.values)
        size = math.sqrt(float(along @ along))
        return self.r + move - self.N @ (along * min(1.0, LONGEST / size if size > 0 else 1.0))


def peak(
    f: Any, surface: Any, t: float, r: np.ndarray, tol: float | None = None, known: Peak | None = None
) -> Peak | None:
    """The maximum of f.at (a `roots.Likelihood`) on surface = t (None: everywhere) from r; None where there is none to
    be found: V is not positive definite at the start, or no end after MOST_STEPS steps. tol: distance in standard
    errors from which one step more, not evaluated, ends the search. known: a maximum on the same surface; a search that
    comes near it, and promises no more, is given up, None.
    """
    start = r if surface is None else surface.onto(r, t)
    at = None if start is None else f.at(start)
    if at is None:
        return None
    tol = tol or (TOL if f.exact else TOL_INEXACT)
    escapes = 0
    for _ in range(MOST_STEPS):
        a, N, H, slope = _frame(at, surface)
        values, vectors = np.linalg.eigh(N.T @ H @ N)
        top = max(float(np.abs(values).max(initial=0.0)), 1e-300)
        size = np.maximum(np.abs(values), FLOOR * top)
        g = vectors.T @ (N.T @ at.gradient)
        y = g / size
        gain = float(g @ y)  # the squared distance to the maximum in standard errors
        step = N @ (vectors @ y)
        if known is not None and at.loglik + 0.5 * gain <= known.loglik + 1e-6 and known.distance(at.r) < NEAR_KNOWN:
            return None
        if gain <= tol * tol:
            if escapes < 5 and len(values) and values[0] < -BENT * top:
                escapes += 1
                away = _escape(f, surface, t, at, N @ vectors[:, 0])
                if away is not None:
                    at = away
                    continue
            if a is not None:
                slope -= float(a @ (H @ step)) / float(a @ a)
            found = at.r + step
            found = at.r if surface is None or (moved := surface.onto(found, t)) is None else moved
            return Peak(found, at.loglik + 0.5 * gain, slope, H, a, N, size, vectors, t)
        length = math.sqrt(float(step @ step))
        share = min(1.0, LONGEST / length)
        for room, change in () if surface is None else surface.walls(at.r, step):
            if room + share * change <= 0.0:
                if room < NEAR_WALL:
                    return Peak(at.r, at.loglik, 0.0, H, a, N, size, vectors, t, True)
                share = min(share, -0.9 * room / change)
        new = _ascend(f, surface, t, at, step, share, gain, tol)
        if new is None:
            return None
        at = new
    return None


def _frame(at: At, surface: Any) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, float]:
    """(a, N, H, λ) at a point of the surface."""
    p = len(at.r)
    if surface is None:
        return None, np.eye(p), at.H, 0.0
    _, a, C = surface.jet(at.r)
    slope = float(a @ at.gradient) / float(a @ a)
    v = a / math.sqrt(float(a @ a))  # Householder: the reflection that takes a to the first axis, less that axis
    v[0] += math.copysign(1.0, v[0])
    N = np.eye(p) - np.outer(v, v * (2.0 / float(v @ v)))
    return a, N[:, 1:], at.H if C is None else at.H + slope * C, slope


def _ascend(
    f: Any, surface: Any, t: float, at: At, step: np.ndarray, share: float, gain: float, tol: float
) -> At | None:
    """A point of the surface along a step, as far as ℓ rises; None where it does not."""
    for _ in range(30):
        r = at.r + share * step
        r = r if surface is None else surface.onto(r, t)
        new = None if r is None else f.at(r)
        if new is not None and new.loglik >= at.loglik + 1e-4 * share * gain - ROUNDING * (1.0 + abs(at.loglik)):
            return new
        share *= 0.5
    return None


def _escape(f: Any, surface: Any, t: float, at: At, direction: np.ndarray) -> At | None:
    """A point of the surface on either side along a direction in which ℓ bends upwards; None where ℓ does not rise."""
    for s in (0.3, -0.3, 0.1, -0.1, 0.03, -0.03, 0.01, -0.01):
        r = at.r + s * direction
        r = r if surface is None else surface.onto(r, t)
        new = None if r is None else f.at(r)
        if new is not None and new.loglik > at.loglik + ROUNDING * (1.0 + abs(at.loglik)):
            return new
    return None
