"""Profiles of fixed effects under ML, and of functions of θ and β together.

aᵀβ = c leaves β = β_c + Nb, N a basis of a's null space: the profile at c is the ML fit of y − Xβ_c on XN, a model
whose kernel is built once and bound to each response. Its slope is dℓ_p/dc = (aᵀβ̂ − c)/aᵀ(XᵀV⁻¹X)⁻¹a; for a = e_j that
is x_jᵀV⁻¹r.

A function of both is profiled in (r, γ), γ = T(β − β_OLS) of the orthonormal X (`protocol.Basis`): θ's score is
quadratic in γ, so that its central difference in γ is the cross derivative of ℓ, exact.
"""

import copy
import math
from typing import Any

import numpy as np

from vcbench.inference.constrained import Peak, peak
from vcbench.inference.curves import Curve, Point, RangeCurve
from vcbench.inference.profiled_maximum import Reference
from vcbench.inference.quantities import Quantity
from vcbench.inference.roots import At, Likelihood, Roots
from vcbench.kernels.choose import build
from vcbench.model.model import Design, Model


class FixedCurve(Curve):
    """The profile of aᵀβ, t = (c − ĉ)/se. d = 1 leaves no β free: ℓ_ML(β_c, θ) of the model's own kernel."""

    def __init__(self, ref: Reference, a: np.ndarray) -> None:
        self.ref, self.a = ref, a
        model, top = ref.kernel.model, ref.top
        own = ref.kernel.evaluate(ref.f.theta(top.r), ("loglik",), "ml")
        self.used = 1
        self.beta_c = a / float(a @ a)
        self.kernel: Any = None
        if len(a) > 1:
            single = np.flatnonzero(a)
            N = np.delete(np.eye(len(a)), single[0], axis=1) if len(single) == 1 else np.linalg.svd(a[None])[2][1:].T
            self.kernel = build(_reduced(model, model.X @ N), ref.kernel.name)
        self.column = model.X @ self.beta_c
        self.centre, slope_unit = self._slope(own)
        self.unit = math.sqrt(1.0 / slope_unit)
        self.lo, self.hi, self.se = -math.inf, math.inf, 1.0
        self.start = Point(0.0, top.loglik, 0.0, Peak(top.r, top.loglik, 0.0, top.H, None, top.N, top.values,
                                                      top.vectors, 0.0))  # fmt: skip
        self.f = ref.f

    def natural(self, t: float) -> float:
        """c at t."""
        return self.centre + self.unit * t

    @property
    def n_eval(self) -> int:
        """Evaluations of the likelihood so far."""
        return self.used

    def theta(self, point: Point) -> np.ndarray:
        """θ at a point."""
        return self.ref.f.theta(point.peak.r)

    def _slope(self, own: Any) -> tuple[float, float]:
        """(aᵀβ̂, 1/aᵀ(XᵀV⁻¹X)⁻¹a) at an evaluation of the whole model with β profiled."""
        b = np.linalg.solve(self.ref.kernel.basis.T.T, self.a)  # aᵀβ = bᵀγ + constant
        return float(self.a @ own.beta), 1.0 / float(b @ np.linalg.solve(own.QtVinvQ, b))

    def _at(self, t: float, near: Point) -> Point | None:
        return self._from(t, near.peak.r)

    def _from(self, t: float, r: np.ndarray, known: Peak | None = None) -> Point | None:
        c = self.natural(t)
        roots = self.ref.f.roots
        if self.kernel is None:
            f: Likelihood = Given(self.ref.kernel, roots, self.beta_c * c)
        else:
            f = Likelihood(self.kernel.bind(self.ref.kernel.model.y - c * self.column), "ml", roots)
        found = peak(f, None, t, r, known=known)
        self.used += f.n_eval + 1
        if found is None:
            return None
        own = self.ref.kernel.evaluate(self.ref.f.theta(found.r), ("loglik",), "ml")
        centre, weight = self._slope(own)
        return Point(t, found.loglik, (centre - c) * weight * self.unit, found)


class Given(Likelihood):
    """ℓ_ML(β, θ) at a given β."""

    __slots__ = ("gamma",)

    def __init__(self, kernel: Any, roots: Roots, beta: np.ndarray) -> None:
        super().__init__(kernel, "ml", roots)
        self.gamma = kernel.basis.gamma(beta, kernel.beta0)

    def at(self, r: np.ndarray) -> At | None:
        """ℓ and its derivatives in r."""
        self.n_eval += 1
        x, J = self.roots.jacobian(r)
        e = self.view.evaluate(x * self.roots.scale, self.need, "ml", gamma=self.gamma)
        if e.score is None or not np.isfinite(e.loglik):
            return None
        return At(r, e.loglik, *self.pulled(e, J))


class Joint(Likelihood):
    """ℓ_ML(β, θ) as a function of z = (r, γ/s), s the residual SD at OLS."""

    __slots__ = ("size",)

    def __init__(self, kernel: Any, roots: Roots) -> None:
        super().__init__(kernel, "ml", roots)
        self.size = math.sqrt(float(roots.scale[-1]))

    def split(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(r, γ)."""
        p = len(self.roots.scale)
        return z[:p], z[p:] * self.size

    def beta(self, z: np.ndarray) -> np.ndarray:
        """β at z."""
        return self.kernel.basis.beta(self.split(z)[1], self.kernel.beta0)

    def theta(self, z: np.ndarray) -> np.ndarray:
        """θ at z."""
        return super().theta(self.split(z)[0])

    def at(self, z: np.ndarray) -> At | None:
        """ℓ and its derivatives in z; 1 + 2d evaluations."""
        r, gamma = self.split(z)
        x, J = self.roots.jacobian(r)
        w = x * self.roots.scale
        e = self.view.evaluate(w, self.need, "ml", gamma=gamma)
        self.n_eval += 1
        if e.score is None or not np.isfinite(e.loglik):
            return None
        gradient, H = self.pulled(e, J)
        cross = np.empty((len(r), len(gamma)))
        for k in range(len(gamma)):
            step = np.zeros(len(gamma))
            step[k] = self.size
            up, down = (self.view.evaluate(w, ("score",), "ml", gamma=gamma + s * step) for s in (0.5, -0.5))
            self.n_eval += 2
            cross[:, k] = -J.T @ ((up.score - down.score) * self.roots.scale)
        H = np.block([[H, cross], [cross.T, e.QtVinvQ * self.size**2]])
        return At(z, e.loglik, np.append(gradient, e.score_gamma * self.size), H)


def joint_curve(ref: Reference, q: Quantity) -> Curve | str:
    """The ML profile of a function of θ and β."""
    kernel = ref.kernel
    f = Joint(kernel, ref.f.roots)
    own = kernel.evaluate(ref.theta, ("loglik",), "ml")
    top = peak(f, None, 0.0, np.append(ref.top.r, own.gamma / f.size))
    if top is None:
        return "no maximum in θ and β was found"
    p, n_r = q.n_theta, len(ref.top.r)
    Ti = np.linalg.inv(kernel.basis.T) * f.size  # ∂β/∂z

    def jet(z: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        g, a, C = q.jet(f.theta(z), f.beta(z))
        r = f.split(z)[0]
        _, a_r, C_r = f.natural(r, (g, a[:p], C[:p, :p]))
        D = ref.f.jacobian(r)
        cross = D.T @ C[:p, p:] @ Ti
        return g, np.append(a_r, Ti.T @ a[p:]), np.block([[C_r, cross], [cross.T, Ti.T @ C[p:, p:] @ Ti]])

    g, a, _ = q.jet(f.theta(top.r), f.beta(top.r))
    if not math.isfinite(g):
        return "it does not exist at the maximum"
    near, far = ref.f.corners(top.r[:n_r], a[:p] != 0)
    return RangeCurve(f, top, jet, *q.bounds(near, far, f.beta(top.r)))


def _reduced(model: Model, X: np.ndarray) -> Model:
    """The model with another X, unchecked: its columns span a part of the model's own."""
    new = copy.copy(model)
    put = lambda key, value: object.__setattr__(new, key, value)  # noqa: E731 - a copy of a frozen model
    put("X", np.ascontiguousarray(X))
    put("X_names", tuple(f"b{j + 1}" for j in range(X.shape[1])))
    put("parsed", None)
    put("design", Design())
    return new
