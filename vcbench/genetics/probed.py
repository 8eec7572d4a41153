"""Randomised moments of relationship matrices that are there: estimates, sandwich and Monte Carlo error by probes.

With D_k, c_k, a_k = tr A_k as in `randomised_traces`, G = Σ_k σ_k² D_k, τ = Σ σ_k²c_k + σ_e² and V = G + τM, each trace
of the sandwich has terms in D alone, so that it costs one more product with d_k = D_kz and g = Gz:

    rhs_k = yᵀD_ky,   Cov(rhs_k, rhs_l) = 2[tr D_kGD_lG + 2τ tr D_kGD_l + τ² tr D_kD_l]
    Cov(rhs_k, yᵀMy) = 2[tr D_kG² + 2τ tr D_kG],      Var(yᵀMy) = 2[tr G² + τ² tr M]
"""

from dataclasses import dataclass

import numpy as np

from vcbench.genetics.products import Products
from vcbench.genetics.randomised_sums import Side
from vcbench.genetics.randomised_traces import solve


@dataclass(frozen=True, slots=True, eq=False)
class Probed:
    """θ̂ (K + 1,), residual last, raw; its sandwich and its Monte Carlo covariance; tr(D_kD_l) (K, K)."""

    theta: np.ndarray
    sandwich: np.ndarray
    monte_carlo: np.ndarray
    D: np.ndarray


def moments_by_probes(products: Products, y: np.ndarray, side: Side, Z: np.ndarray) -> Probed:
    """Moment estimates of one response y (n,) with probes Z (n, B). ModelError where the equations are singular."""
    K, B, df = len(products.names), Z.shape[1], side.df
    seen = np.ones(len(y), bool) if side.observed is None else side.observed
    a = products.traces([side.Q], [seen])[:, 0]
    c = a / df
    Mz, My = side.project(Z), side.project(np.nan_to_num(y)[:, None])
    images = products.each(np.hstack([Mz, My]))
    d = np.stack([side.project(images[k, :, :B]) - c[k] * Mz for k in range(K)])  # D_k z
    by_probe = np.einsum("knb,lnb->klb", d, d)
    q, qe = (images[:, :, B] @ My)[:, :, None], My.T @ My
    total = by_probe.sum(axis=2)
    theta = solve(a, total / B, df, q, qe, products.names)[:, 0, 0]
    without = np.stack(
        [solve(a, (total - by_probe[:, :, b]) / (B - 1), df, q, qe, products.names)[:, 0, 0] for b in range(B)]
    )
    apart = without - without.mean(axis=0)
    D = total / B
    return Probed(theta, _sandwich(products, side, theta, a, D, d), (B - 1) / B * apart.T @ apart, D)


def _sandwich(
    products: Products, side: Side, theta: np.ndarray, a: np.ndarray, D: np.ndarray, d: np.ndarray
) -> np.ndarray:
    """Cov(θ̂) (K + 1, K + 1) at θ."""
    K, n, B = d.shape
    df, sigma2 = side.df, theta[:-1]
    c = a / df
    tau = float(sigma2 @ c + theta[-1])
    g = np.tensordot(sigma2, d, axes=1)
    images = products.each(np.hstack([*d, g]))
    images = np.stack([side.project(image) for image in images])
    flat = np.hstack([*d, g])
    images -= c[:, None, None] * flat  # D_k d_l and D_k g
    Dg = images[:, :, K * B :]
    Gd = np.tensordot(sigma2, images[:, :, : K * B], axes=1).reshape(n, K, B).transpose(1, 0, 2)
    four = np.einsum("knb,lnb->kl", Dg, Gd) / B
    three = np.einsum("knb,lnb->kl", d, Gd) / B
    Sigma = np.empty((K + 1, K + 1))
    Sigma[:K, :K] = four + four.T + 2 * tau * (three + three.T) + 2 * tau**2 * D
    Sigma[:K, K] = 2 * np.einsum("nb,knb->k", g, Dg) / B + 4 * tau * D @ sigma2
    Sigma[K, :K] = Sigma[:K, K]
    Sigma[K, K] = 2 * (sigma2 @ D @ sigma2 + tau**2 * df)
    L = np.zeros((K + 1, K + 1))
    L[:K, :K] = np.linalg.inv(D)
    L[K, :K], L[K, K] = -a @ L[:K, :K] / df, 1 / df
    return L @ Sigma @ L.T
