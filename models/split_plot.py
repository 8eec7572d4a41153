"""A split plot in PyMC, by its three strata: blocks, whole plots within them, subplots within those.

    y = Xβ + Z_b u_b + Z_w u_w + e,    u_b ~ N(0, σ_b² I),  u_w ~ N(0, σ_w² I),  e ~ N(0, σ_e² I)

In a balanced layout of B blocks of W whole plots of S subplots, V has three eigenvalues whatever the variances, and
their eigenspaces are the strata of the analysis of variance. With orthonormal bases Q_s of these (eigenvectors of
Z_bZ_bᵀ + Z_wZ_wᵀ), constants included,

    Q_bᵀy ~ N(Q_bᵀXβ, WSσ_b² + Sσ_w² + σ_e²),    B directions: block means
    Q_wᵀy ~ N(Q_wᵀXβ, Sσ_w² + σ_e²),             B(W − 1): whole plots within blocks
    Q_eᵀy ~ N(Q_eᵀXβ, σ_e²),                     BW(S − 1): subplots within whole plots,

independent of each other. Strata: Nelder (1965), Proceedings of the Royal Society A 283, 147–178. Data: Yates (1935).

    data = pandas.read_csv("oats.csv")
    X = formulaic.model_matrix("Variety * C(nitro)", data)
    with build(data["yield"], X, data["Block"], data["Variety"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def build(y, X, block, whole_plot) -> pm.Model:
    """The model for y (n,), X (n, d); `whole_plot` (n,) labels whole plots within each `block` (n,). Balanced only.

    Priors: β flat; σ_b, σ_w, σ_e half-normal with scale sd(y).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    blocks = pd.get_dummies(pd.Categorical(block)).to_numpy(float)
    pairs = pd.MultiIndex.from_arrays([np.asarray(block), np.asarray(whole_plot)])
    plots = pd.get_dummies(pd.factorize(pairs)[0]).to_numpy(float)
    n, B, P = len(y), blocks.shape[1], plots.shape[1]
    if np.ptp(plots.sum(axis=0)) or np.ptp(blocks.sum(axis=0)):
        raise ValueError("blocks or whole plots differ in size; see nested.py for layouts that are not balanced")
    size, U = np.linalg.eigh(blocks @ blocks.T + plots @ plots.T)
    S, WS = n / P, n / B
    in_plot, in_block = size > 0.5 * S, size > 1.5 * S  # eigenvalues WS + S, S and 0
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma_b = pm.HalfNormal("sigma_b", sigma=sd_y)
        sigma_w = pm.HalfNormal("sigma_w", sigma=sd_y)
        sigma_e = pm.HalfNormal("sigma_e", sigma=sd_y)
        pm.Normal(
            "turned_y",
            mu=pm.math.dot(U.T @ X, beta),
            sigma=pm.math.sqrt(WS * sigma_b**2 * in_block + S * sigma_w**2 * in_plot + sigma_e**2),
            observed=U.T @ y,
        )
    return model
