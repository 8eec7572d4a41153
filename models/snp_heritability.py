"""Heritability from one relationship matrix in PyMC, in the basis where the covariance is diagonal.

    y = Xβ + g + e,    g ~ N(0, σ_g² K),  e ~ N(0, σ_e² I),    K = WWᵀ/p from standardised genotypes W (n, p)

With K = UDUᵀ, computed once, the rotated response has independent elements, and its density is that of y:

    (Uᵀy)_i ~ N((UᵀX β)_i, σ_g² d_i + σ_e²).

A step of NUTS costs O(n d) instead of the O(n³) of an n × n covariance matrix. Source: Kang et al. (2008), Genetics
178, 1709–1723 (EMMA).

    with build(y, K):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pymc as pm


def build(y, K, X=None) -> pm.Model:
    """The model for y (n,), K (n, n) positive semi-definite, X (n, d) (default: an intercept).

    Priors: β flat; σ_g half-normal with scale sd(y)/√(mean diagonal of K), σ_e with scale sd(y).
    """
    y, K = np.asarray(y, float), np.asarray(K, float)
    X = np.ones((len(y), 1)) if X is None else np.asarray(X, float)
    d, U = np.linalg.eigh((K + K.T) / 2)
    d = np.maximum(d, 0.0)
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma_g = pm.HalfNormal("sigma_g", sigma=sd_y / np.sqrt(np.trace(K) / len(y)))
        sigma_e = pm.HalfNormal("sigma_e", sigma=sd_y)
        pm.Normal(
            "turned_y",
            mu=pm.math.dot(U.T @ X, beta),
            sigma=pm.math.sqrt(sigma_g**2 * d + sigma_e**2),
            observed=U.T @ y,
        )
        pm.Deterministic("h2", sigma_g**2 / (sigma_g**2 + sigma_e**2))
    return model
