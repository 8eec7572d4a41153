"""ℓ of two phenotypes in the eigenbasis of K: V is 2 × 2 for each eigenvalue, V_i = d_i G + E.

    y_t = X_t β_t + g_t + e_t,  t = 1, 2,     Cov(g_s, g_t) = G_st K,   Cov(e_s, e_t) = E_st I,   K = U diag(d) Uᵀ

Rotated by U, (y_i1, y_i2) are independent pairs with covariance V_i. With P_i = V_i⁻¹, x_i = diag(x_i1ᵀ, x_i2ᵀ) (2 ×
D),

    A = Σ x_iᵀP_ix_i,  C = A⁻¹,  β̂ = C Σ x_iᵀP_iy_i,  g_i = P_i(y_i − x_iβ̂),  R_i = x_iCx_iᵀ
    ℓ_REML = −½ [(N − D) log 2π + Σ log|V_i| + log|A| + Σ g_iᵀ(y_i − x_iβ̂)]

and for θ = (G_11, G_21, G_22, E_11, E_21, E_22), V_a,i = c_ai B_a (c = d for G, 1 for E; B the unit matrices),

    ∂ℓ/∂θ_a  = −½ [Σ c_ai tr((P_i − P_iR_iP_i)B_a) − Σ c_ai g_iᵀB_ag_i]
    average  = ½ [Σ w_aiᵀP_iw_bi − h_aᵀCh_b],   w_ai = c_aiB_ag_i,  h_a = Σ x_iᵀP_iw_ai
    expected = ½ [Σ c_aic_bi (tr P_iB_aP_iB_b − 2 tr P_iB_aP_iB_bP_iR_i) + tr CH_aCH_b],   H_a = Σ c_ai x_iᵀP_iB_aP_ix_i
    observed = 2·average − expected                          (ML: P_i for P_i − P_iR_iP_i, and no R_i, H_a)

each exact and O(n D²). Covariates may differ between the phenotypes; a phenotype that was not measured in some rows has
an indicator column for each (`phenotypes`), which REML integrates out: exact too.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from vcbench.genetics.eigen import Eigen
from vcbench.kernels.protocol import Basis

UNITS = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])  # B of 11, 21, 22
LOG2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True, eq=False)
class PairEvaluation:
    """ℓ and what was asked for besides; loglik is −inf where V is not positive definite."""

    loglik: float
    beta: np.ndarray | None = None
    beta_cov: np.ndarray | None = None
    score: np.ndarray | None = None
    average: np.ndarray | None = None
    expected: np.ndarray | None = None

    @property
    def observed(self) -> np.ndarray | None:
        """2·average − expected: V is linear in θ."""
        return None if self.average is None or self.expected is None else 2.0 * self.average - self.expected


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """One phenotype in the eigenbasis: UᵀQ of its design X (n, D), Uᵀy of y less its OLS fit, and what lies outside."""

    n: int
    d: np.ndarray
    basis: Basis = field(repr=False)
    beta0: np.ndarray = field(repr=False)
    X: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    x_outside: np.ndarray = field(repr=False)
    y_outside: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, eigen: Eigen, X: np.ndarray, y: np.ndarray) -> "Turned":
        """Two products with U."""
        basis, U = Basis.of(X), eigen.vectors
        cells = np.column_stack([basis.Q, basis.residual(y)])
        D = X.shape[1]
        inside = U.T @ cells
        outside = cells - U @ inside if eigen.rank < eigen.n else cells[:0]
        return cls(
            eigen.n, eigen.values, basis, basis.ols(y), np.ascontiguousarray(inside[:, :D]), inside[:, D],
            outside[:, :D], outside[:, D],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class PairKernel:
    """Two phenotypes and their design in the eigenbasis.

    d (m,), X (m, D_1) and (m, D_2) of orthonormal columns, y (m, 2) less its OLS fit; n_rest rows that neither K, X
    nor y reach, which add log|E| each.
    """

    d: np.ndarray = field(repr=False)
    X: tuple[np.ndarray, np.ndarray] = field(repr=False)
    y: np.ndarray = field(repr=False)
    n_rest: int
    n_rows: int
    bases: tuple[Basis, Basis] = field(repr=False)
    beta0: tuple[np.ndarray, np.ndarray] = field(repr=False)

    @classmethod
    def build(cls, eigen: Eigen, X: tuple[np.ndarray, np.ndarray], Y: np.ndarray) -> "PairKernel":
        """X_t (n, D_t) of full rank, Y (n, 2); what is missing has its indicator column and any value."""
        return cls.of_turned(Turned.of(eigen, X[0], Y[:, 0]), Turned.of(eigen, X[1], Y[:, 1]))

    @classmethod
    def of_turned(cls, first: "Turned", second: "Turned") -> "PairKernel":
        """Of two phenotypes that are in the eigenbasis already."""
        d, parts, n = first.d, (first, second), first.n
        X = [part.X for part in parts]
        y = np.column_stack([first.y, second.y])
        n_rest = n - len(d)
        if n_rest:
            blocks = [first.x_outside, second.x_outside, first.y_outside[:, None], second.y_outside[:, None]]
            outside = np.linalg.qr(np.hstack(blocks), mode="r")[:n_rest]
            n_rest -= len(outside)
            d = np.concatenate([d, np.zeros(len(outside))])
            cuts = np.cumsum([x.shape[1] for x in X])
            X = [np.vstack([x, o]) for x, o in zip(X, np.split(outside, cuts, axis=1), strict=False)]
            y = np.vstack([y, outside[:, cuts[1] :]])
        bases, beta0 = (first.basis, second.basis), (first.beta0, second.beta0)
        return cls(d, (X[0], X[1]), y, n_rest, n, bases, beta0)

    @property
    def n_fixed(self) -> int:
        """D = D_1 + D_2."""
        return self.X[0].shape[1] + self.X[1].shape[1]

    def evaluate(
        self, G: np.ndarray, E: np.ndarray, need: tuple[str, ...] = (), criterion: str = "reml"
    ) -> PairEvaluation:
        """ℓ at G, E (2, 2), and of "score", "average", "expected", "beta" what `need` names."""
        reml = criterion == "reml"
        V = self.d[:, None, None] * G + E
        det = V[:, 0, 0] * V[:, 1, 1] - V[:, 0, 1] ** 2
        rest = E[0, 0] * E[1, 1] - E[0, 1] ** 2
        if not (det > 0).all() or not (V[:, 0, 0] > 0).all() or (self.n_rest and not rest > 0):
            return PairEvaluation(-np.inf)
        p11, p22, p12 = V[:, 1, 1] / det, V[:, 0, 0] / det, -V[:, 0, 1] / det
        A = self._gram(p11, p12, p22)
        try:
            factor = cho_factor(A, lower=True)
        except np.linalg.LinAlgError:
            return PairEvaluation(-np.inf)
        y1, y2 = self.y.T
        b = self._right(np.column_stack([p11 * y1 + p12 * y2, p12 * y1 + p22 * y2]))
        gamma = cho_solve(factor, b)
        r1, r2 = y1 - self.X[0] @ gamma[: self.X[0].shape[1]], y2 - self.X[1] @ gamma[self.X[0].shape[1] :]
        g = np.column_stack([p11 * r1 + p12 * r2, p12 * r1 + p22 * r2])
        logdet = float(np.log(det).sum()) + (self.n_rest * float(np.log(rest)) if self.n_rest else 0.0)
        N = 2 * self.n_rows - (self.n_fixed if reml else 0)
        if reml:
            logdet += 2.0 * float(np.log(np.diag(factor[0])).sum()) + self.bases[0].logdet + self.bases[1].logdet
        loglik = -0.5 * (N * LOG2PI + logdet + float(g[:, 0] @ r1 + g[:, 1] @ r2))
        if not need:
            return PairEvaluation(loglik)
        C = cho_solve(factor, np.eye(len(A)))
        P = np.stack([p11, p12, p22])
        F = _sandwich(P, self._leverage(C)) if reml else np.zeros_like(P)  # P_iR_iP_i
        g = g.T
        score = average = expected = None
        if "score" in need:
            score = -0.5 * (self._sums(P - F, E) - self._sums(np.stack([g[0] ** 2, g[0] * g[1], g[1] ** 2]), None))
        if "average" in need:
            average = self._average(P, g, C)
        if "expected" in need:
            expected = self._expected(P, F, C, E, reml)
        beta, cov = self._beta(gamma, C) if "beta" in need else (None, None)
        return PairEvaluation(loglik, beta, cov, score, average, expected)

    def _gram(self, m11: np.ndarray, m12: np.ndarray, m22: np.ndarray) -> np.ndarray:
        """Σ x_iᵀM_ix_i (D, D)."""
        X1, X2 = self.X
        cross = X1.T @ (m12[:, None] * X2)
        return np.block([[X1.T @ (m11[:, None] * X1), cross], [cross.T, X2.T @ (m22[:, None] * X2)]])

    def _right(self, u: np.ndarray) -> np.ndarray:
        """Σ x_iᵀu_i (D,), u (m, 2)."""
        return np.concatenate([self.X[0].T @ u[:, 0], self.X[1].T @ u[:, 1]])

    def _leverage(self, C: np.ndarray) -> np.ndarray:
        """R_i: its entries 11, 21, 22 (3, m)."""
        X1, X2 = self.X
        D1 = X1.shape[1]
        left, right = X1 @ C[:D1, :], X2 @ C[D1:, D1:]
        return np.stack([np.einsum("ij,ij->i", a, b) for a, b in ((left[:, :D1], X1), (left[:, D1:], X2), (right, X2))])

    def _sums(self, W: np.ndarray, E: np.ndarray | None) -> np.ndarray:
        """Σ_i c_ai tr(W_iB_a) (6,), W (3, m); with E, the rows beyond add n_rest tr(E⁻¹B_a)."""
        per_row = W * np.array([[1.0], [2.0], [1.0]])
        out = np.concatenate([per_row @ self.d, per_row.sum(axis=1)])
        if E is not None and self.n_rest:
            inverse = np.linalg.inv(E)
            out[3:] += self.n_rest * np.array([inverse[0, 0], 2.0 * inverse[0, 1], inverse[1, 1]])
        return out

    def _by_power(self, per_row: list[np.ndarray]) -> np.ndarray:
        """Σ_i c_ai c_bi v_ab,i (6, 6) from v of the pairs of B: 11·11, 11·21, 11·22, 21·21, 21·22, 22·22."""
        sums = np.stack(per_row) @ np.column_stack([self.d**2, self.d, np.ones_like(self.d)])
        at = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
        two, one, none = (sums[:, j][at] for j in range(3))
        return np.block([[two, one], [one, none]])

    def _average(self, P: np.ndarray, g: np.ndarray, C: np.ndarray) -> np.ndarray:
        (p11, p12, p22), (g1, g2) = P, g
        first, second = p11 * g2 + p12 * g1, p12 * g2 + p22 * g1  # P_iB_21g_i
        quadratic = self._by_power(
            [p11 * g1**2, g1 * first, p12 * g1 * g2, g2 * first + g1 * second, g2 * second, p22 * g2**2]
        )
        ones, twos = np.stack([p11 * g1, first, p12 * g2]), np.stack([p12 * g1, second, p22 * g2])
        h = np.vstack([np.hstack([(c * ones) @ self.X[0], (c * twos) @ self.X[1]]) for c in (self.d, 1.0)])
        return 0.5 * (quadratic - h @ C @ h.T)

    def _expected(self, P: np.ndarray, F: np.ndarray, C: np.ndarray, E: np.ndarray, reml: bool) -> np.ndarray:
        """tr P_iB_aP_iB_b − 2 tr B_aP_iB_bF_i = tr B_aP_iB_bQ_i with Q = P − 2F, symmetrised in P and Q."""
        (p11, p12, p22), (q11, q12, q22) = P, P - 2.0 * F
        out = self._by_power(
            [
                p11 * q11, p11 * q12 + p12 * q11, p12 * q12,
                p11 * q22 + p22 * q11 + 2.0 * p12 * q12, p12 * q22 + p22 * q12, p22 * q22,
            ]
        )  # fmt: skip
        if self.n_rest:
            EB = np.linalg.inv(E) @ UNITS
            out[3:, 3:] += self.n_rest * np.einsum("ast,bts->ab", EB, EB)
        if reml:
            PBP = [
                (p11**2, p11 * p12, p12**2),
                (2.0 * p11 * p12, p11 * p22 + p12**2, 2.0 * p12 * p22),
                (p12**2, p12 * p22, p22**2),
            ]
            CH = [C @ self._gram(*(c * m for m in M)) for c in (self.d, 1.0) for M in PBP]
            out += np.array([[np.vdot(x, y.T) for y in CH] for x in CH])
        return 0.5 * out

    def _beta(self, gamma: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """β̂ (D,) and its covariance in the columns of X_1, X_2."""
        D1 = self.X[0].shape[1]
        beta = np.concatenate(
            [self.bases[0].beta(gamma[:D1], self.beta0[0]), self.bases[1].beta(gamma[D1:], self.beta0[1])]
        )
        T = np.zeros_like(C)
        T[:D1, :D1], T[D1:, D1:] = np.linalg.inv(self.bases[0].T), np.linalg.inv(self.bases[1].T)
        return beta, T @ C @ T.T


def _sandwich(P: np.ndarray, R: np.ndarray) -> np.ndarray:
    """P_iR_iP_i of symmetric 2 × 2 matrices by their entries 11, 21, 22 (3, m)."""
    (p11, p12, p22), (r11, r12, r22) = P, R
    return np.stack(
        [
            p11**2 * r11 + 2.0 * p11 * p12 * r12 + p12**2 * r22,
            p11 * p12 * r11 + (p11 * p22 + p12**2) * r12 + p12 * p22 * r22,
            p12**2 * r11 + 2.0 * p12 * p22 * r12 + p22**2 * r22,
        ]
    )
