"""Residuals with a variance for each stratum, or with known weights, in PyMC.

    y_i = x_iᵀβ + e_i,    e_i ~ N(0, σ²_s(i) / w_i)

Observations are independent: their normal densities are the likelihood, and nothing is gained by more. What makes the
model different from one with a single σ is that strata weigh in β by what they are worth. Data: Powell, Murphy &
Gramlich (1982), NBS Journal of Research 87, 9–19.

    data = pandas.read_csv("nist_atmwtag.csv")
    X = np.column_stack([np.ones(len(data)), data["treatment"] == 2])
    with build(1e6 * (data["response"] - 107.868), X, data["treatment"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def build(y, X, stratum=None, weight=1.0) -> pm.Model:
    """The model for y (n,), X (n, d), strata labelled by `stratum` (n,) (default: one), and known weights (n,).

    Priors: β flat; every σ_s half-normal with scale sd(y).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    codes, labels = pd.factorize(np.zeros(len(y)) if stratum is None else np.asarray(stratum), sort=True)
    sd_y = float(np.std(y, ddof=1))

    with pm.Model(coords={"stratum": labels}) as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y, dims="stratum")
        pm.Normal("y", mu=pm.math.dot(X, beta), sigma=sigma[codes] / np.sqrt(np.asarray(weight, float)), observed=y)
    return model
