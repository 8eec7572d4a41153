"""Kenward & Roger's adjusted covariance of β̂ and F test (Biometrics 53, 1997), for REML estimates of θ.

With Φ = (XᵀV⁻¹X)⁻¹ and, at θ̂,

    P_i = −XᵀV⁻¹V_iV⁻¹X     Q_ij = XᵀV⁻¹V_iV⁻¹V_jV⁻¹X     R_ij = XᵀV⁻¹V_ijV⁻¹X     V_ij = ∂²V/∂θ_i∂θ_j

and W the inverse expected REML information of θ,

    Φ_A = Φ + 2Φ [ Σ_ij W_ij (Q_ij − P_iΦP_j − ¼R_ij) ] Φ

adds to Φ what estimating θ costs, and takes away the bias of Φ(θ̂). For L of rank q, Θ = Lᵀ(LΦLᵀ)⁻¹L,

    A_1 = Σ W_ij tr(ΘΦP_iΦ) tr(ΘΦP_jΦ)     A_2 = Σ W_ij tr(ΘΦP_iΦΘΦP_jΦ)     B = (A_1 + 6A_2)/2q
    g = ((q+1)A_1 − (q+4)A_2)/((q+2)A_2)    c_1, c_2, c_3 = (g, q − g, q + 2 − g)/(3q + 2(1−g))
    E = 1/(1 − A_2/q)     V = (2/q)(1 + c_1B)/((1 − c_2B)²(1 − c_3B))     ρ = V/2E²
    m = 4 + (q+2)/(qρ − 1)     λ = m/(E(m − 2))     λ·β̂ᵀLᵀ(LΦ_ALᵀ)⁻¹Lβ̂/q ~ F(q, m)

For q = 1 these are m = 2/A_2 and λ = 1. R_ij is 0 where V is linear in θ; for other structures the adjustment depends
on how V is parametrised, here by the natural parameters of the model (as in SAS's DDFM=KENWARDROGER).
"""

from dataclasses import dataclass, field

import numpy as np

from vcbench.inference.denominators import FTest, full_rows
from vcbench.inference.equations import Equations
from vcbench.inference.satterthwaite import held


@dataclass(frozen=True, slots=True, eq=False)
class KenwardRoger:
    """Φ and Φ_A (d, d), P (p, d, d), W (p, p), 0 for parameters held on the boundary. `cov` is Φ_A."""

    Phi: np.ndarray = field(repr=False)
    cov: np.ndarray = field(repr=False)
    P: np.ndarray = field(repr=False)
    W: np.ndarray = field(repr=False)
    name: str = "kenward-roger"

    @classmethod
    def of(cls, equations: Equations, W: np.ndarray) -> "KenwardRoger":
        """At the θ of `equations`. W: the inverse expected REML information (p, p), NaN for a parameter on the
        boundary, which is held there."""
        W = held(W)
        Phi, T = equations.beta_cov, equations.VinvX
        p, d = len(W), len(Phi)
        moved = [equations.derivative(i, T) for i in range(p)]  # V_i V⁻¹X
        P = np.array([-_symmetric(T.T @ B) for B in moved])
        inner = np.zeros((d, d))
        for i in np.flatnonzero(W.any(axis=1)):
            solved = equations.solve(sum(W[i, j] * moved[j] for j in range(p)))
            inner += moved[i].T @ solved - P[i] @ Phi @ np.tensordot(W[i], P, axes=1)
        inner -= 0.25 * T.T @ equations.curvature(W, T)
        return cls(Phi, Phi + 2.0 * Phi @ _symmetric(inner) @ Phi, P, W)

    def rows(self, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(lᵀΦ_Al, m) of each row of L (q, d)."""
        variance = np.einsum("qd,de,qe->q", L, self.cov, L, optimize=True)
        LPhi = L @ self.Phi
        share = np.array([((LPhi @ P) * LPhi).sum(axis=1) for P in self.P]) / (LPhi * L).sum(axis=1)
        A2 = np.einsum("iq,ij,jq->q", share, self.W, share)
        m = np.full(len(L), np.inf)
        np.divide(2.0, A2, out=m, where=A2 > 0.0)
        return variance, m

    def joint(self, L: np.ndarray, estimate: np.ndarray) -> FTest:
        """λF of L(β − β_0) = 0, estimate = L(β̂ − β_0) (q,)."""
        L, estimate = full_rows(L, estimate, self.Phi)
        q = len(L)
        F = float(estimate @ np.linalg.solve(L @ self.cov @ L.T, estimate)) / q
        LPhi = L @ self.Phi
        M = np.linalg.solve(LPhi @ L.T, np.einsum("qd,ide,re->iqr", LPhi, self.P, LPhi, optimize=True))
        traces = np.einsum("iqq->i", M)
        A1 = float(traces @ self.W @ traces)
        A2 = float(np.einsum("ij,iqr,jrq->", self.W, M, M, optimize=True))
        scale, m = matched(q, A1, A2)
        if m <= 2.0 + 1e-2 and q > 1:  # F(q, m) has no mean to be matched; pbkrtest's rule near 2
            return FTest(F, q, m, 1.0, "F is not scaled: its denominator has no more than two degrees of freedom")
        return FTest(scale * F, q, m, scale)


def matched(q: int, A1: float, A2: float) -> tuple[float, float]:
    """(λ, m) such that λF has the mean and variance of F(q, m), exact for Hotelling's T² and one-way layouts."""
    if A2 <= 0.0:
        return 1.0, np.inf
    if q == 1:
        return 1.0, 2.0 / A2
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1, c2, c3 = (c / (3.0 * q + 2.0 * (1.0 - g)) for c in (g, q - g, q + 2.0 - g))
    above, below, far = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    rest = 1.0 - A2 / q  # 1/E
    ratio = 1.0 if abs(rest) < 1e-14 and abs(below) < 1e-14 else rest / below
    rho = ratio**2 * (0.0 if abs(above) < 1e-10 else above) / (q * far)
    m = 4.0 + (q + 2.0) / (q * rho - 1.0)
    return m * rest / (m - 2.0), m


def _symmetric(A: np.ndarray) -> np.ndarray:
    return (A + A.T) / 2
