"""The E-step of kernel `sparse` where residuals are correlated within units: second moments of w_k = Z_k u_k and of e.

Expectations over u | y at (β, θ) (ML) or over (β, u) | y (REML), in the metric R⁻¹:

    E_kl = E[w_kᵀR⁻¹w_l],   f_k = E[w_kᵀR⁻¹(y − Xβ)],   S(δ) = Σ_units E[e_u e_uᵀ],  e = y − Xβ − Σ_k δ_k w_k
"""

from dataclasses import dataclass, field

import numpy as np

from vcbench.kernels.sparse_point import Point
from vcbench.kernels.sparse_residual import Blocks


@dataclass(frozen=True, slots=True, eq=False)
class UnitMoments:
    """w (K, n, t): the mean of each w_k, then the columns H_k with Σ_t H_k H_lᵀ what the integration of β adds to
    Cov(w_k, w_l); e (n, t) the same of y − Xβ. score: ∂ℓ/∂τ."""

    at: Point = field(repr=False)
    score: np.ndarray = field(repr=False)
    R: Blocks = field(repr=False)
    Q: np.ndarray = field(repr=False)
    w: np.ndarray = field(repr=False)
    e: np.ndarray = field(repr=False)
    cov: np.ndarray = field(repr=False)  # Cov(u | y, β) where M has entries

    @classmethod
    def of(
        cls,
        at: Point,
        score: np.ndarray,
        r: np.ndarray,
        Q: np.ndarray,
        wr: np.ndarray,
        wQ: np.ndarray,
        M: np.ndarray | None,
    ) -> "UnitMoments":
        """From the residual r = y − Qγ, ŵ of it and of Q; M = (QᵀV⁻¹Q)⁻¹ where β is integrated."""
        assert isinstance(at.R, Blocks)
        d = at.design
        half = np.zeros((Q.shape[1], 0)) if M is None else np.linalg.cholesky(M)
        u = d.times_roots(np.column_stack([wr, wQ @ half]), at.roots)
        w = []
        for k in range(len(d.size)):
            own = np.zeros_like(u)
            own[d.start[k] : d.start[k + 1]] = u[d.start[k] : d.start[k + 1]]
            w.append(d.Z @ own)
        return cls(at, score, at.R, Q, np.array(w), np.column_stack([r, Q @ half]), at.covariances())

    def cross(self) -> tuple[np.ndarray, np.ndarray]:
        """(E (K, K), f (K,))."""
        pairs, K = self.at.design.pairs, len(self.w)
        Rw = np.array([self.R.solve(w) for w in self.w])
        E = np.einsum("knt,lnt->kl", Rw, self.w)
        each = self.at.B * self.cov * np.where(pairs.same_entries, 1.0, 2.0)
        sums = np.bincount(pairs.spread(pairs.k * K + pairs.m), each, K * K).reshape(K, K)
        return E + (sums + sums.T) / 2, np.einsum("knt,nt->k", Rw, self.e)

    def beta_step(self, delta: np.ndarray) -> np.ndarray:
        """Δγ = (QᵀR⁻¹Q)⁻¹ QᵀR⁻¹ E[e]."""
        RQ = self.R.solve(self.Q)
        return np.linalg.solve(self.Q.T @ RQ, RQ.T @ self._residual(delta)[:, 0])

    def second(self, delta: np.ndarray, step: np.ndarray) -> np.ndarray:
        """S(δ) (flat, by class) after a step of γ."""
        pairs = self.at.design.pairs
        e = self._residual(delta)
        e[:, 0] -= self.Q @ step
        cov = self.cov * pairs.spread(delta[pairs.k] * delta[pairs.m])
        return self.R.classes.summed(e) + self.R.within(cov, pairs.same_entries)

    def _residual(self, delta: np.ndarray) -> np.ndarray:
        return self.e - np.tensordot(delta, self.w, axes=1)
