"""Residuals with first-order serial correlation in PyMC, written as a chain.

    y_it = x_itᵀβ + e_it,    Cov(e_is, e_it) = σ²ρ^|t−s|,    independent between subjects i

An AR(1) process has the Markov property: given the last one seen, earlier ones say nothing more. With e = y − Xβ and g
the number of steps since the subject was last seen (1, unless occasions were missed),

    e_first ~ N(0, σ²),    e_t | e_{t−g} ~ N(ρ^g e_{t−g}, σ²(1 − ρ^{2g})),

so that n normal densities stand for the blocks of V. With the process as a latent `pm.AR` beside noise, chains do not
mix. Models of growth with such errors: Jennrich & Schluchter (1986), Biometrics 42, 805–820.

    data = pandas.read_csv("sleepstudy.csv")
    X = np.column_stack([np.ones(len(data)), data["Days"]])
    with build(data["Reaction"], X, data["Days"], data["Subject"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def build(y, X, time, subject) -> pm.Model:
    """The model for y (n,), X (n, d), at `time` (n,) of `subject` (n,); rows in any order, occasions may be missing.

    A step is from one value of `time` in the data to the next. Priors: β flat; σ half-normal with scale sd(y); ρ
    uniform on (−1, 1).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    step, unit = (pd.factorize(np.asarray(a), sort=True)[0] for a in (time, subject))
    order = np.lexsort((step, unit))
    y, X, step, unit = y[order], X[order], step[order], unit[order]
    follows = np.append(False, unit[1:] == unit[:-1])
    gap = np.where(follows, np.diff(step, prepend=0), 1)
    if (gap < 1).any():
        raise ValueError("a subject is seen twice at the same time")
    before = np.maximum(np.arange(len(y)) - 1, 0)
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y)
        rho = pm.Uniform("rho", -1, 1)
        mean = pm.math.dot(X, beta)
        carried = follows * rho**gap
        pm.Normal(
            "y",
            mu=mean + carried * (y - mean)[before],
            sigma=sigma * pm.math.sqrt(1 - carried**2),
            observed=y,
        )
    return model
