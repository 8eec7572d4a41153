"""Several traits and their genetic covariances in PyMC: a matrix-normal model in the eigenbasis of the relationships.

    Y = XB + G + E,    vec G ~ N(0, Σ_g ⊗ K),  vec E ~ N(0, Σ_e ⊗ I),    Y (n, t): every individual has all t traits

With K = UDUᵀ, computed once, the rotated individuals are independent, each with a t × t covariance matrix of its own:

    (UᵀY)_i ~ N((UᵀX B)_i, d_i Σ_g + Σ_e).

The density is that of Y: n Cholesky factors of size t, where that of all records together would be of size nt. Zhou &
Stephens (2014), Nature Methods 11, 407–409. K from genotypes or from a pedigree (`relationship` in animal_model.py).

    data = pandas.read_csv("gryphon.csv").dropna(subset=["bwt", "tarsus"])
    X = np.column_stack([np.ones(len(data)), data["sex"] == 2])
    with build(data[["bwt", "tarsus"]], X, A.loc[data["animal"], data["animal"]]):
        trace = pm.sample(nuts_sampler="nutpie", target_accept=0.9)
"""

import numpy as np
import pymc as pm
import pytensor.tensor as pt


def build(Y, X, K) -> pm.Model:
    """The model for Y (n, t), X (n, d) the same for all traits, and K (n, n) positive semi-definite.

    Priors: B flat; the SDs of Σ_g half-t(3) with scale s√t/√(mean diagonal of K), those of Σ_e with scale s, where s is
    the standard deviation of all the numbers in Y; correlations LKJ(2).
    """
    Y, X, K = np.asarray(Y, float), np.asarray(X, float), np.asarray(K, float)
    if np.isnan(Y).any():
        raise ValueError("every individual must have all traits: the rotation mixes individuals")
    n, t = Y.shape
    d, U = np.linalg.eigh(K)
    d = np.maximum(d, 0.0)
    s = float(np.std(Y, ddof=1))
    s_g = s * np.sqrt(t / (np.trace(K) / n))

    def covariance(name, scale):
        chol, _, _ = pm.LKJCholeskyCov(
            name,
            eta=2,
            n=t,
            sd_dist=pm.HalfStudentT.dist(nu=3, sigma=scale, shape=t),
            initval=(0.5 * scale * np.eye(t))[np.tril_indices(t)],
        )
        return pt.dot(chol, chol.T)

    with pm.Model() as model:
        B = pm.Flat("B", shape=(X.shape[1], t), initval=np.linalg.lstsq(X, Y, rcond=None)[0])
        Sigma_g, Sigma_e = covariance("Sigma_g", s_g), covariance("Sigma_e", s)
        pm.MvNormal(
            "turned_Y",
            mu=pm.math.dot(U.T @ X, B),
            cov=d[:, None, None] * Sigma_g + Sigma_e,
            observed=U.T @ Y,
        )
    return model
