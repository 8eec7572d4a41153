"""Toeplitz correlation of the residuals in PyMC, by the Durbin–Levinson recursion.

    y_it = x_itᵀβ + e_it,    Corr(e_is, e_it) = ρ_|t−s|,    Var e_it = σ²,    t = 1 … T

Correlations ρ_1 … ρ_{T−1} must form a positive definite matrix; the partial autocorrelations π_1 … π_{T−1} need only be
between −1 and 1, and are what the recursion predicts with. From k past values, e = y − Xβ,

    e_t | past ~ N(Σ_j φ_kj e_{t−j}, σ² Π_{j≤k}(1 − π_j²)),    k = t − 1,
    φ_kk = π_k,    φ_kj = φ_{k−1,j} − π_k φ_{k−1,k−j},

which gives the joint density without a matrix. Recursion: Brockwell & Davis (1991), Time Series: Theory and Methods,
§5.2; partial autocorrelations as free parameters: Barndorff-Nielsen & Schou (1973), Journal of Multivariate Analysis 3,
408–419. Data: Potthoff & Roy (1964), Biometrika 51, 313–326.

    data = pandas.read_csv("pr.csv")
    male = data["Gender"] == "M"
    X = np.column_stack([np.ones(len(data)), male, data["Age"], male * data["Age"]])
    with build(data["y"], X, data["Age"], data["Person"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt


def build(y, X, time, subject) -> pm.Model:
    """The model for y (n,), X (n, d), at `time` (n,) of `subject` (n,); every subject must be seen once at each time.

    Priors: β flat; σ half-normal with scale sd(y); partial autocorrelations uniform on (−1, 1). `rho`: ρ_1 … ρ_{T−1}.
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

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y)
        partial = pm.Uniform("partial", -1, 1, shape=T - 1)
        e = (y - pm.math.dot(X, beta)).reshape((n, T))
        predicted, share = [pt.zeros(n)], [pt.ones(())]
        rho, phi = [pt.ones(())], []
        for k in range(1, T):
            left = sum(phi[j] * rho[k - 1 - j] for j in range(k - 1))
            rho.append(left + partial[k - 1] * share[-1])
            phi = [phi[j] - partial[k - 1] * phi[k - 2 - j] for j in range(k - 1)] + [partial[k - 1]]
            predicted.append(sum(phi[j] * e[:, k - 1 - j] for j in range(k)))
            share.append(share[-1] * (1 - partial[k - 1] ** 2))
        pm.Deterministic("rho", pt.stack(rho[1:]))
        surprise = e - pt.stack(predicted, axis=1)
        sd = sigma * pt.sqrt(pt.stack(share))
        pm.Potential("y", pm.logp(pm.Normal.dist(0, sd), surprise).sum())
    return model
