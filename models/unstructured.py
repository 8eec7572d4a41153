"""An unstructured covariance matrix of repeated measures in PyMC.

    y_i ~ N(X_i β, Σ),    Σ (T, T) free,    i = 1 … n subjects seen at the same T times

Σ = diag(τ) C diag(τ) with C ~ LKJ(2): one T × T Cholesky factor for all subjects. Data: Potthoff & Roy (1964),
Biometrika 51, 313–326; model: Jennrich & Schluchter (1986), Biometrics 42, 805–820. Prior: Lewandowski, Kurowicka & Joe
(2009), Journal of Multivariate Analysis 100, 1989–2001.

    data = pandas.read_csv("pr.csv")
    male = data["Gender"] == "M"
    X = np.column_stack([np.ones(len(data)), male, data["Age"], male * data["Age"]])
    with build(data["y"], X, data["Age"], data["Person"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def build(y, X, time, subject) -> pm.Model:
    """The model for y (n,), X (n, d), at `time` (n,) of `subject` (n,); every subject must be seen once at each time.

    Priors: β flat; τ half-t(3) with scale sd(y); correlations LKJ(2).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    step, times = pd.factorize(np.asarray(time), sort=True)
    unit, subjects = pd.factorize(np.asarray(subject), sort=True)
    n, T = len(subjects), len(times)
    order = np.lexsort((step, unit))
    if len(y) != n * T or len(set(zip(unit, step, strict=True))) != n * T:
        raise ValueError("every subject must be seen once at each time; see ar1.py for a structure that allows gaps")
    y, X = y[order], X[order]
    sd_y = float(np.std(y, ddof=1))

    with pm.Model(coords={"time": times, "subject": subjects}) as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        chol, _, _ = pm.LKJCholeskyCov(
            "Sigma",
            eta=2,
            n=T,
            sd_dist=pm.HalfStudentT.dist(nu=3, sigma=sd_y, shape=T),
            initval=(sd_y * np.eye(T))[np.tril_indices(T)],
        )
        mean = pm.math.dot(X, beta).reshape((n, T))
        pm.MvNormal("y", mu=mean, chol=chol, observed=y.reshape(n, T), dims=("subject", "time"))
    return model
