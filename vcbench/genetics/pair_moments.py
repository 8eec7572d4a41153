"""Method of moments for all pairs of phenotypes in one pass: Γ_g and Γ_e, (P, P), and Cov of their entries.

With y_a = Xβ_a + g_a + e_a, Cov(g_a, g_b) = Γ_g,ab K, Cov(e_a, e_b) = Γ_e,ab I, A = MKM and a_m = tr A^m (a_0 = n − d),

    S Γ = Q,   S = [a_2 a_1; a_1 a_0],   Q_g = YᵀAY,   Q_e = YᵀMY            (MATH §5, all pairs share S)
    Cov(q_i^ab, q_j^cd) = Σ_st (Γ_s,bd Γ_t,ac + Γ_s,bc Γ_t,ad) a_|i+s+j+t|,   i, s, j, t ∈ {g: 1, e: 0}

for tr(M V_i M V_s M V_j M V_t) is the trace of a power of A: four numbers of the design serve every pair and its
standard errors. They come from K itself (one product A·A), or from its eigenvalues: A is similar to D − FFᵀ, F = D^½
UᵀQ_X, and with C_k = FᵀD^kF

    a_2 = tr D² − 2 tr C_1 + tr C_0²,   a_3 = tr D³ − 3 tr C_2 + 3 tr C_0C_1 − tr C_0³
    a_4 = tr D⁴ − 4 tr C_3 + 4 tr C_0C_2 + 2 tr C_1² − 4 tr C_0²C_1 + tr C_0⁴
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dsyrk

from vcbench.errors import ModelError
from vcbench.genetics.eigen import Eigen

SINGULAR = 1e-10
PAIRS = ((0, 0), (1, 0), (1, 1))  # entries of a 2 × 2 matrix, in the order of θ


@dataclass(frozen=True, slots=True, eq=False)
class Traces:
    """a_0 … a_4 of a design (X, K)."""

    a: np.ndarray

    @classmethod
    def of_matrix(cls, K: np.ndarray, X: np.ndarray) -> "Traces":
        """From K (n, n) and X (n, d): one symmetric product, n³ operations."""
        A = projected(K, np.linalg.qr(X)[0])
        square = dsyrk(1.0, A.T, trans=0, lower=1)  # A·A, its lower triangle
        inside = np.tril(square, -1)
        diagonal = np.diag(square)
        a = [
            float(len(X) - X.shape[1]),
            float(np.trace(A)),
            float(diagonal.sum()),
            float(2.0 * np.vdot(inside, A) + diagonal @ np.diag(A)),
            float(2.0 * np.vdot(inside, inside) + diagonal @ diagonal),
        ]
        return cls(np.array(a))

    @classmethod
    def of_eigen(cls, eigen: Eigen, X: np.ndarray) -> "Traces":
        """From the decomposition of K and X (n, d): n·d² operations."""
        d = eigen.values
        F = np.sqrt(d)[:, None] * (eigen.vectors.T @ np.linalg.qr(X)[0])
        C = [F.T @ (d[:, None] ** k * F) for k in range(4)]
        square = C[0] @ C[0]
        a = [
            float(len(X) - X.shape[1]),
            d.sum() - np.trace(C[0]),
            (d**2).sum() - 2 * np.trace(C[1]) + np.trace(square),
            (d**3).sum() - 3 * np.trace(C[2]) + 3 * np.vdot(C[0], C[1]) - np.vdot(square, C[0]),
            (d**4).sum() - 4 * np.trace(C[3]) + 4 * np.vdot(C[0], C[2]) + 2 * np.vdot(C[1], C[1])
            - 4 * np.vdot(square, C[1]) + np.vdot(square, square),
        ]  # fmt: skip
        return cls(np.array(a, float))

    @property
    def S(self) -> np.ndarray:
        """The normal equations (2, 2). Raises ModelError where K leaves nothing of its own once X is taken out."""
        a = self.a
        if a[2] * a[0] - a[1] ** 2 < SINGULAR * a[2] * a[0]:
            raise ModelError("the moment equations are singular: K is a multiple of the identity once X is taken out.")
        return np.array([[a[2], a[1]], [a[1], a[0]]])


def projected(K: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """MKM (n, n), M = I − QQᵀ."""
    KQ = K @ Q
    A = K - KQ @ Q.T
    A -= Q @ (KQ.T - (Q.T @ KQ) @ Q.T)
    return A


def solve_moments(traces: Traces, Qg: np.ndarray, Qe: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Γ_g, Γ_e), each (P, P), from YᵀAY and YᵀMY."""
    out = np.linalg.solve(traces.S, np.stack([Qg.ravel(), Qe.ravel()]))
    return out[0].reshape(Qg.shape), out[1].reshape(Qe.shape)


def pair_covariance(traces: Traces, G: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Cov of (G_11, G_21, G_22, E_11, E_21, E_22), (6, 6), of one pair with G, E (2, 2): S⁻¹ Cov(q) S⁻¹."""
    gamma = np.stack([E, G])  # by the power of K
    q = np.empty((2, 3, 2, 3))  # i (g first), pair, j, pair
    for i in (0, 1):
        for j in (0, 1):
            for x, (a, b) in enumerate(PAIRS):
                for y, (c, d) in enumerate(PAIRS):
                    total = 0.0
                    for s in (0, 1):
                        for t in (0, 1):
                            both = gamma[s, b, d] * gamma[t, a, c] + gamma[s, b, c] * gamma[t, a, d]
                            total += both * traces.a[i + s + j + t]
                    q[1 - i, x, 1 - j, y] = total
    inverse = np.linalg.inv(traces.S)
    out = np.einsum("ik,kxly,lj->ixjy", inverse, q, inverse)
    return out.reshape(6, 6)
