"""A growth curve with a 3 × 3 covariance of its coefficients in PyMC, for animals seen at different weeks.

    y_i = A_i (β + b_i) + e_i,    b_i ~ N(0, Ω),  e_i ~ N(0, σ²I),    A_i (n_i, 3) the rows (1, week, week²)

Every animal's own least-squares curve β̂_i = (A_iᵀA_i)⁻¹A_iᵀy_i and its residual sum of squares RSS_i are sufficient,
and independent of each other:

    β̂_i ~ N(β, Ω + σ²(A_iᵀA_i)⁻¹),    p(y_i) = N(β̂_i | ·) |A_iᵀA_i|^(−½) (2πσ²)^(−(n_i−3)/2) exp(−RSS_i / 2σ²).

So the likelihood needs one 3 × 3 Cholesky factor an animal, however many weeks there are. Data and model: M. Lavielle,
Statistics in Action with R; the two stages: Vonesh & Carter (1987), Biometrics 43, 617–628.

    data = pandas.read_csv("ratweight.csv")
    with build(data["weight"], data["week"], data["id"]):
        trace = pm.sample(nuts_sampler="nutpie", target_accept=0.9)
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt


def build(y, week, animal) -> pm.Model:
    """The model for y (n,) at `week` (n,) of `animal` (n,); every animal must be seen at three weeks or more.

    Priors: β flat; σ half-normal with scale sd(y); the SDs of Ω half-t(3) with scale sd(y)/rms of their column;
    correlations LKJ(2).
    """
    y, week = np.asarray(y, float), np.asarray(week, float)
    codes, labels = pd.factorize(np.asarray(animal), sort=True)
    A = np.column_stack([np.ones_like(week), week, week**2])
    sd_y = float(np.std(y, ddof=1))
    scale = sd_y / np.sqrt((A**2).mean(axis=0))

    curves, spread, rss, constant = [], [], 0.0, 0.0
    for i in range(len(labels)):
        rows = A[codes == i]
        if np.linalg.matrix_rank(rows) < 3:
            raise ValueError(f"animal {labels[i]!r} is seen at fewer than three different weeks")
        Q, R = np.linalg.qr(rows)
        own = np.linalg.solve(R, Q.T @ y[codes == i])
        inverse = np.linalg.inv(R)
        curves.append(own)
        spread.append(inverse @ inverse.T)
        rss += float(((y[codes == i] - rows @ own) ** 2).sum())
        constant -= float(np.log(np.abs(np.diag(R))).sum())
    df = len(y) - 3 * len(labels)

    with pm.Model(coords={"effect": ["(Intercept)", "week", "week2"], "animal": labels}) as model:
        beta = pm.Flat("beta", dims="effect", initval=np.mean(curves, axis=0))
        sigma = pm.HalfNormal("sigma", sigma=sd_y)
        chol, _, _ = pm.LKJCholeskyCov(
            "Omega",
            eta=2,
            n=3,
            sd_dist=pm.HalfStudentT.dist(nu=3, sigma=scale, shape=3),
            initval=np.diag(scale)[np.tril_indices(3)],
        )
        Omega = pt.dot(chol, chol.T)
        pm.MvNormal(
            "curves",
            mu=beta,
            cov=Omega + sigma**2 * np.array(spread),
            observed=np.array(curves),
            dims=("animal", "effect"),
        )
        pm.Potential("around", constant - 0.5 * (df * pm.math.log(2 * np.pi * sigma**2) + rss / sigma**2))
    return model
