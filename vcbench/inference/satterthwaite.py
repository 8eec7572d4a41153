"""Satterthwaite's denominator degrees of freedom for contrasts of β.

C(θ) = (XᵀV⁻¹X)⁻¹ is estimated by C(θ̂). A scaled χ²_ν with the mean and the (delta-method) variance of lᵀC(θ̂)l has

    ν = 2 (lᵀCl)² / (gᵀAg),     g_i = lᵀ(∂C/∂θ_i)l,     ∂C/∂θ_i = C (XᵀV⁻¹V_iV⁻¹X) C,     A = Cov(θ̂)

and t = lᵀ(β̂ − β)/√(lᵀCl) is taken as t_ν (Giesbrecht & Burns 1985). For q rows (Fai & Cornelius 1996), LCLᵀ = PDPᵀ:
the squares of t_m = (PᵀLβ̂)_m/√D_m are F(1, ν_m) variables taken as independent, and their mean F as F(q, ν) of the same
expectation: E = Σ ν_m/(ν_m − 2), ν = 2E/(E − q); ν = 2 where some ν_m ≤ 2, as in lmerTest (Kuznetsova, Brockhoff &
Christensen 2017). P and so ν depend on the scale of L's rows.
"""

from dataclasses import dataclass, field

import numpy as np

from vcbench.inference.denominators import FTest
from vcbench.inference.equations import Equations

RANK = 1e-8  # eigenvalues of LCLᵀ below this share of the largest are rounding (lmerTest's √eps)


@dataclass(frozen=True, slots=True, eq=False)
class Satterthwaite:
    """C (d, d), its slopes ∂C/∂θ_i (p, d, d) and A = Cov(θ̂) (p, p), 0 for parameters held on the boundary."""

    cov: np.ndarray = field(repr=False)
    slopes: np.ndarray = field(repr=False)
    theta_cov: np.ndarray = field(repr=False)
    name: str = "satterthwaite"

    @classmethod
    def of(cls, equations: Equations, theta_cov: np.ndarray) -> "Satterthwaite":
        """At the θ of `equations`; one ∂V/∂θ_i V⁻¹X a parameter. theta_cov: NaN for a parameter on the boundary, which
        is held there."""
        return cls(equations.beta_cov, covariance_slopes(equations), held(theta_cov))

    def rows(self, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(variance, ν) of each row of L (q, d); ν infinite where the variance does not depend on θ̂."""
        variance = np.einsum("qd,de,qe->q", L, self.cov, L, optimize=True)
        g = np.array([((L @ slope) * L).sum(axis=1) for slope in self.slopes])
        return variance, _df(variance, np.einsum("iq,ij,jq->q", g, self.theta_cov, g))

    def joint(self, L: np.ndarray, estimate: np.ndarray) -> FTest:
        """F of L(β − β_0) = 0, estimate = L(β̂ − β_0) (q,)."""
        D, P = np.linalg.eigh(L @ self.cov @ L.T)
        D, P = D[::-1], P[:, ::-1]
        kept = max(RANK * D[0], 0.0) < D
        D, P = D[kept], P[:, kept]
        q = len(D)
        _, nu = self.rows(P.T @ L)
        F = float(((P.T @ estimate) ** 2 / D).sum() / q)
        return FTest(F, q, pooled_df(nu))


def covariance_slopes(equations: Equations) -> np.ndarray:
    """∂C/∂θ_i (p, d, d), natural θ."""
    C, T = equations.beta_cov, equations.VinvX
    out = np.empty((len(equations.theta), len(C), len(C)))
    for i in range(len(out)):
        inner = T.T @ equations.derivative(i, T)
        out[i] = C @ ((inner + inner.T) / 2) @ C
    return out


def held(theta_cov: np.ndarray) -> np.ndarray:
    """Cov(θ̂) with parameters on the boundary held: 0 in the place of NaN."""
    return np.where(np.isfinite(theta_cov), theta_cov, 0.0)


def pooled_df(nu: np.ndarray) -> float:
    """ν of the mean of independent F(1, ν_m), by its expectation."""
    if nu.min() >= (1.0 - 1e-6) * nu.max():  # of equal ν the mean, even below 2
        return float(nu.mean())
    if (nu <= 2.0).any():
        return 2.0
    excess = float((2.0 / (nu - 2.0)).sum())  # E − q, without cancellation
    return 2.0 * (excess + len(nu)) / excess


def _df(variance: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """2 v²/spread; infinite where spread is 0."""
    out = np.full(len(variance), np.inf)
    np.divide(2.0 * variance**2, spread, out=out, where=spread > 0.0)
    return out
