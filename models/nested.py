"""Two nested random effects in PyMC, integrated out from the inside: casks within batches.

    y_ijk = x_ijkᵀβ + b_i + c_ij + e_ijk,    b_i ~ N(0, σ_b²),  c_ij ~ N(0, σ_c²),  e_ijk ~ N(0, σ_e²)

With e = y − Xβ a cask's n_ij rows have the mean ē_ij ~ N(b_i, λ_ij/n_ij), λ_ij = n_ij σ_c² + σ_e², and scatter around
it by σ_e² alone; then the casks of a batch are rows with known precision w_ij = n_ij/λ_ij and a common effect. With N
rows in C casks, s_i = Σ_j w_ij and t_i = Σ_j w_ij ē_ij,

    log|V|   = (N − C) log σ_e² + Σ_ij log λ_ij + Σ_i log(1 + σ_b² s_i)
    eᵀ V⁻¹ e = Σ(e_ijk − ē_ij)²/σ_e² + Σ_ij w_ij ē_ij² − Σ_i σ_b² t_i²/(1 + σ_b² s_i):

no matrix, whatever the numbers of rows. Balanced or not; the first published answer is the analysis of variance. Data:
Davies & Goldsmith (1972), Statistical Methods in Research and Production, §6.5.

    data = pandas.read_csv("pastes.csv")
    with build(data["strength"], np.ones((len(data), 1)), data["batch"], data["cask"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def build(y, X, outer, inner) -> pm.Model:
    """The model for y (n,), X (n, d); `inner` (n,) labels units within those of `outer` (n,).

    Priors: β flat; σ_b, σ_c, σ_e half-normal with scale sd(y).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    pairs = pd.MultiIndex.from_arrays([np.asarray(outer), np.asarray(inner)])
    codes, units = pd.factorize(pairs)
    above = pd.factorize(units.get_level_values(0))[0]
    casks, batches = np.eye(len(units))[codes], np.eye(above.max() + 1)[above]
    n = casks.sum(axis=0)
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma_b = pm.HalfNormal("sigma_b", sigma=sd_y)
        sigma_c = pm.HalfNormal("sigma_c", sigma=sd_y)
        sigma_e = pm.HalfNormal("sigma_e", sigma=sd_y)
        e = y - pm.math.dot(X, beta)
        mean = pm.math.dot(casks.T, e) / n
        both = n * sigma_c**2 + sigma_e**2
        w = n / both
        s, t = pm.math.dot(batches.T, w), pm.math.dot(batches.T, w * mean)
        log_det = (
            (len(y) - len(n)) * pm.math.log(sigma_e**2)
            + pm.math.log(both).sum()
            + pm.math.log(1 + sigma_b**2 * s).sum()
        )
        square = (
            ((e**2).sum() - (n * mean**2).sum()) / sigma_e**2
            + (w * mean**2).sum()
            - (sigma_b**2 * t**2 / (1 + sigma_b**2 * s)).sum()
        )
        pm.Potential("y", -0.5 * (len(y) * np.log(2 * np.pi) + log_det + square))
    return model
