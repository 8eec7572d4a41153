"""First-order antedependence in PyMC, written as a chain.

    y_it = x_itᵀβ + e_it,    Var e_it = σ_t²,    Corr(e_is, e_it) = ρ_{s+1} ρ_{s+2} ⋯ ρ_t,    s < t

As an AR(1) whose variance and correlation change with time: given the last value seen, earlier ones say nothing more.
With e = y − Xβ, s the occasion on which the subject was last seen, and κ = ρ_{s+1} ⋯ ρ_t,

    e_first ~ N(0, σ_t²),    e_t | e_s ~ N(κ (σ_t/σ_s) e_s, σ_t²(1 − κ²)).

Gabriel (1962), Annals of Mathematical Statistics 33, 201–212; Zimmerman & Núñez-Antón (2010), Antedependence Models for
Longitudinal Data, CRC Press.

    data = pandas.read_csv("fev_data.csv").dropna(subset="FEV1")
    with build(data["FEV1"], np.ones((len(data), 1)), data["AVISIT"], data["USUBJID"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt


def build(y, X, time, subject) -> pm.Model:
    """The model for y (n,), X (n, d), at `time` (n,) of `subject` (n,); rows in any order, occasions may be missing.

    Priors: β flat; every σ_t half-normal with scale sd(y); ρ_2 … ρ_T uniform on (−1, 1).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    step, times = pd.factorize(np.asarray(time), sort=True)
    unit = pd.factorize(np.asarray(subject), sort=True)[0]
    order = np.lexsort((step, unit))
    y, X, step, unit = y[order], X[order], step[order], unit[order]
    before = np.maximum(np.arange(len(y)) - 1, 0)
    follows = np.append(False, unit[1:] == unit[:-1])
    if (follows & (step == step[before])).any():
        raise ValueError("a subject is seen twice at the same time")
    last = np.where(follows, step[before], step)
    T, sd_y = len(times), float(np.std(y, ddof=1))

    with pm.Model(coords={"time": times, "later": times[1:]}) as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y, dims="time")
        rho = pm.Uniform("rho", -1, 1, dims="later")
        reach = [[pt.zeros(()) for _ in times] for _ in times]
        for s in range(T):
            for t in range(s + 1, T):
                reach[s][t] = rho[t - 1] * (reach[s][t - 1] if t > s + 1 else 1)
        kappa = pt.stack([pt.stack(row) for row in reach])[last, step]  # 0 where a subject is seen for the first time
        mean = pm.math.dot(X, beta)
        pm.Normal(
            "y",
            mu=mean + kappa * sigma[step] / sigma[last] * (y - mean)[before],
            sigma=sigma[step] * pm.math.sqrt(1 - kappa**2),
            observed=y,
        )
    return model
