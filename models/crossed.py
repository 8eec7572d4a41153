"""Two crossed random effects in PyMC, integrated out one after the other.

    y = Xβ + Z_1 u_1 + Z_2 u_2 + e,    u_k ~ N(0, σ_k² I),  e ~ N(0, σ_e² I)

Z_1 and Z_2 say which level of each factor a row belongs to. Given u_2 the levels of the first factor are independent,
and their covariance matrix V_1 = σ_1² Z_1Z_1ᵀ + σ_e² I has a closed inverse; what is left is a matrix of the size of
the second factor. With counts n_1, n_2 of the levels and N = Z_1ᵀZ_2 of their pairs, r = y − Xβ and
w = σ_1²/(σ_e² + n_1 σ_1²),

    A = Z_2ᵀ V_1⁻¹ Z_2 = (diag(n_2) − Nᵀ diag(w) N)/σ_e²,    b = Z_2ᵀ V_1⁻¹ r = (Z_2ᵀr − Nᵀ(w·Z_1ᵀr))/σ_e²
    log|V|   = (n − q_1) log σ_e² + Σ log(σ_e² + n_1 σ_1²) + log|I + σ_2² A|
    rᵀ V⁻¹ r = (rᵀr − Σ w (Z_1ᵀr)²)/σ_e² − σ_2² bᵀ(I + σ_2² A)⁻¹ b.

Six samples on 24 plates cost a 6 × 6 Cholesky factor instead of one of 144 × 144. The same order of elimination is that
of the block factorisation of Bates, Mächler, Bolker & Walker (2015), Journal of Statistical Software 67(1).

    data = pandas.read_csv("penicillin.csv")
    with build(data["diameter"], np.ones((len(data), 1)), data["plate"], data["sample"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt


def build(y, X, first, second) -> pm.Model:
    """The model for y (n,), X (n, d) and the labels (n,) of two factors, `first` the one with more levels.

    Priors: β flat; σ_1, σ_2, σ_e half-normal with scale sd(y).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    Z1, Z2 = (pd.get_dummies(pd.Categorical(labels)).to_numpy(float) for labels in (first, second))
    n1, n2, N = Z1.sum(axis=0), Z2.sum(axis=0), Z1.T @ Z2
    n, q1 = Z1.shape
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma_1 = pm.HalfNormal("sigma_1", sigma=sd_y)
        sigma_2 = pm.HalfNormal("sigma_2", sigma=sd_y)
        sigma_e = pm.HalfNormal("sigma_e", sigma=sd_y)
        r = y - pm.math.dot(X, beta)
        r1, r2 = pm.math.dot(Z1.T, r), pm.math.dot(Z2.T, r)
        both = sigma_e**2 + n1 * sigma_1**2
        w = sigma_1**2 / both
        A = (np.diag(n2) - pm.math.dot(N.T, w[:, None] * N)) / sigma_e**2
        b = (r2 - pm.math.dot(N.T, w * r1)) / sigma_e**2
        chol = pt.linalg.cholesky(np.eye(len(n2)) + sigma_2**2 * A)
        h = pt.linalg.solve_triangular(chol, sigma_2 * b, lower=True)
        log_det = (n - q1) * pm.math.log(sigma_e**2) + pm.math.log(both).sum() + 2 * pm.math.log(pt.diag(chol)).sum()
        square = ((r**2).sum() - (w * r1**2).sum()) / sigma_e**2 - (h**2).sum()
        pm.Potential("y", -0.5 * (n * np.log(2 * np.pi) + log_det + square))
    return model
