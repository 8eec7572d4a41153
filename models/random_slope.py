"""Random intercepts and slopes in PyMC, integrated out, for subjects seen at the same times.

    y_it = β_0 + β_1 t + b_0i + b_1i t + e_it,    b_i ~ N(0, Ω),  e_it ~ N(0, σ²)

With A (T, 2) the rows (1, t), every subject's responses are y_i ~ N(Aβ, AΩAᵀ + σ²I): one T × T covariance matrix, and
one Cholesky factor of it, for all subjects. Ω = diag(τ) C diag(τ) with C ~ LKJ(2).

Data: Belenky et al. (2003), Journal of Sleep Research 12, 1–12. Prior: Lewandowski, Kurowicka & Joe (2009), Journal of
Multivariate Analysis 100, 1989–2001.

    data = pandas.read_csv("sleepstudy.csv")
    with build(data["Reaction"], data["Days"], data["Subject"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt


def build(y, time, subject) -> pm.Model:
    """The model for y (n,) at `time` (n,) of `subject` (n,); every subject must be seen once at each time.

    Priors: β flat; σ half-normal with scale sd(y); τ half-t(3) with scale sd(y) for the intercept and sd(y)/rms(time)
    for the slope; correlation LKJ(2).
    """
    table = pd.DataFrame({"y": np.asarray(y, float), "time": np.asarray(time, float), "subject": np.asarray(subject)})
    wide = table.pivot(index="subject", columns="time", values="y")
    if wide.isna().any(axis=None):
        raise ValueError("every subject must be seen once at each time; see rat_weight.py for other designs")
    A = np.column_stack([np.ones(wide.shape[1]), wide.columns])
    sd_y = float(table["y"].std())
    scale = sd_y / np.sqrt((A**2).mean(axis=0))

    coords = {"effect": ["(Intercept)", "time"], "subject": wide.index, "time": wide.columns}
    with pm.Model(coords=coords) as model:
        beta = pm.Flat("beta", dims="effect", initval=np.linalg.lstsq(A, wide.mean(axis=0), rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y)
        chol, _, _ = pm.LKJCholeskyCov(
            "Omega",
            eta=2,
            n=2,
            sd_dist=pm.HalfStudentT.dist(nu=3, sigma=scale, shape=2),
            initval=np.diag(scale)[np.tril_indices(2)],
        )
        factor = pt.dot(A, chol)
        pm.MvNormal(
            "y",
            mu=pt.dot(A, beta),
            cov=pt.dot(factor, factor.T) + sigma**2 * pt.eye(len(A)),
            observed=wide.to_numpy(),
            dims=("subject", "time"),
        )
    return model
