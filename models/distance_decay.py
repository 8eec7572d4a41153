"""Residuals whose correlation decays with distance in time, in PyMC, written as a chain.

    y_it = x_itᵀβ + e_it,    Cov(e_is, e_it) = σ² exp(−|t − s|/φ),    independent between subjects i

The Ornstein–Uhlenbeck process has the Markov property at any set of times: with e = y − Xβ, s the time at which the
subject was last seen and κ = exp(−(t − s)/φ),

    e_first ~ N(0, σ²),    e_t | e_s ~ N(κ e_s, σ²(1 − κ²)),

so that n normal densities stand for the blocks of V. On equal steps Δ it is the AR(1) with ρ = exp(−Δ/φ).
Diggle, Liang & Zeger (1994), Analysis of Longitudinal Data.

    data = pandas.read_csv("agridat_diggle_cow.csv").dropna(subset="weight")
    X = formulaic.model_matrix("C(day) + iron * infect", data)
    with build(data["weight"], X, data["day"], data["animal"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def build(y, X, time, subject) -> pm.Model:
    """The model for y (n,), X (n, d), at `time` (n,) of `subject` (n,); rows in any order, times as they come.

    Priors: β flat; σ half-normal with scale sd(y); φ half-normal with the longest time between two rows of a subject.
    """
    y, X, time = np.asarray(y, float), np.asarray(X, float), np.asarray(time, float)
    unit = pd.factorize(np.asarray(subject))[0]
    order = np.lexsort((time, unit))
    y, X, time, unit = y[order], X[order], time[order], unit[order]
    follows = np.append(False, unit[1:] == unit[:-1])
    step = np.where(follows, np.diff(time, prepend=0), 1.0)
    if (step <= 0).any():
        raise ValueError("a subject is seen twice at the same time")
    before = np.maximum(np.arange(len(y)) - 1, 0)
    longest = pd.Series(time).groupby(unit).agg(np.ptp).max()
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y)
        phi = pm.HalfNormal("phi", sigma=longest)
        mean = pm.math.dot(X, beta)
        kappa = follows * pm.math.exp(-step / phi)
        share = pm.math.where(follows, -pm.math.expm1(-2 * step / phi), 1.0)
        pm.Normal("y", mu=mean + kappa * (y - mean)[before], sigma=sigma * pm.math.sqrt(share), observed=y)
    return model
