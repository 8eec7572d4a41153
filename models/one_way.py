"""One-way layout in PyMC, group effects integrated out.

    y_ij = μ + u_j + e_ij,    u_j ~ N(0, σ_u²),  e_ij ~ N(0, σ_e²),    j = 1 … G groups of n_j rows, N in all

Group means and the sum of squares within groups are sufficient. The rotation that turns the rows of group j into
√n_j ȳ_j and n_j − 1 contrasts is orthogonal, so that the density of y is, constants included,

    Π_j N(√n_j ȳ_j | √n_j μ, n_j σ_u² + σ_e²)  ×  (2πσ_e²)^(−(N−G)/2) exp(−SSW / 2σ_e²).

Sampling the u_j instead, centred or not, leaves a tenth of the effective sample size.

    data = pandas.read_csv("dyestuff.csv")
    with build(data["Yield"], data["Batch"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def build(y, group, scale: float | None = None) -> pm.Model:
    """The model for y (N,) in groups labelled by `group` (N,).

    Priors: μ flat; σ_u, σ_e half-normal with `scale` (default: the standard deviation of y).
    """
    y = np.asarray(y, float)
    codes, labels = pd.factorize(np.asarray(group), sort=True)
    scale = float(np.std(y, ddof=1)) if scale is None else scale
    n = np.bincount(codes)
    mean = np.bincount(codes, y) / n
    ss_within = float(((y - mean[codes]) ** 2).sum())
    df_within = len(y) - len(n)

    with pm.Model(coords={"group": labels}) as model:
        mu = pm.Flat("mu", initval=y.mean())
        sigma_u = pm.HalfNormal("sigma_u", sigma=scale)
        sigma_e = pm.HalfNormal("sigma_e", sigma=scale)
        pm.Normal(
            "between",
            mu=np.sqrt(n) * mu,
            sigma=pm.math.sqrt(n * sigma_u**2 + sigma_e**2),
            observed=np.sqrt(n) * mean,
            dims="group",
        )
        pm.Potential("within", -0.5 * (df_within * pm.math.log(2 * np.pi * sigma_e**2) + ss_within / sigma_e**2))
        pm.Deterministic("icc", sigma_u**2 / (sigma_u**2 + sigma_e**2))
    return model
