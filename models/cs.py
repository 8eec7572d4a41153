"""Compound symmetry in PyMC: two independent strata, between units and within them.

    y_ij = x_ijᵀβ + e_ij,    Var e_ij = σ²,  Cov(e_ij, e_ik) = ρσ²,    −1/(n_max − 1) < ρ < 1

The covariance matrix of a unit of n rows has the eigenvalue σ²(1 + (n − 1)ρ) for its mean and σ²(1 − ρ) for everything
within it, so that with e = y − Xβ, G units and N rows the density of y is, constants included,

    Π_i N(√n_i ē_i | 0, σ²(1 + (n_i − 1)ρ))  ×  (2πσ²(1 − ρ))^(−(N−G)/2) exp(−Σ(e_ij − ē_i)² / 2σ²(1 − ρ)).

With ρ = σ_u²/σ² it is the random intercept; but ρ may be negative, where the members of a unit compete. As a model of
growth: Jennrich & Schluchter (1986), Biometrics 42, 805–820.

    data = pandas.read_csv("rail.csv")
    with build(data["travel"], np.ones((len(data), 1)), data["Rail"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def build(y, X, unit) -> pm.Model:
    """The model for y (n,), X (n, d) in units labelled by `unit` (n,).

    Priors: β flat; σ half-normal with scale sd(y); ρ uniform on its range, −1/(n_max − 1) to 1.
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    Z = pd.get_dummies(pd.Categorical(unit)).to_numpy(float)
    n = Z.sum(axis=0)
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y)
        rho = pm.Uniform("rho", -1 / (n.max() - 1), 1)
        e = y - pm.math.dot(X, beta)
        mean = pm.math.dot(Z.T, e) / n
        between, within = sigma**2 * (1 + (n - 1) * rho), sigma**2 * (1 - rho)
        squares = (e**2).sum() - (n * mean**2).sum()
        pm.Potential("means", -0.5 * (pm.math.log(2 * np.pi * between) + n * mean**2 / between).sum())
        pm.Potential("around", -0.5 * ((len(y) - len(n)) * pm.math.log(2 * np.pi * within) + squares / within))
    return model
