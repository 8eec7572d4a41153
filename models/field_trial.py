"""A field trial with AR(1) ⊗ AR(1) errors in PyMC: plots whitened along the rows, then along the columns.

    y = Xβ + e,    Cov(e_rc, e_st) = σ² ρ_row^|r−s| ρ_col^|c−t|

On a full grid of R × C plots V = σ² Σ_row ⊗ Σ_col, and both factors have bidiagonal roots of their inverse: the
whitened field a takes from each plot its neighbour, (e_t − ρe_{t−1})/√(1 − ρ²), in one direction and then in the other,
so that

    log|V| = RC log σ² + C(R − 1) log(1 − ρ_row²) + R(C − 1) log(1 − ρ_col²),    eᵀV⁻¹e = ‖a‖²/σ²,

with no matrix at all. Plots without a yield are integrated out: with B the whitened indicators of the k lost plots and
a whitened with 0 in their place, ∫ p dm leaves ‖a‖² − ‖L⁻¹Bᵀa‖², LLᵀ = BᵀB, for ‖a‖², and |BᵀB|^(−½) (2πσ²)^(k/2).

Model: Gilmour, Cullis & Verbyla (1997), Journal of Agricultural, Biological, and Environmental Statistics 2, 269–293.

    data = pandas.read_csv("agridat_gilmour_slatehall.csv")
    X = formulaic.model_matrix("gen", data)
    with build(data["yield"], X, data["row"], data["col"]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt


def build(y, X, row, col) -> pm.Model:
    """The model for y (n,), X (n, d) on plots at `row`, `col` (n,); plots of the grid that are not there are lost ones.

    Priors: β flat; σ half-normal with scale sd(y); ρ_row and ρ_col uniform on (−1, 1).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    r, rows = pd.factorize(np.asarray(row), sort=True)
    c, cols = pd.factorize(np.asarray(col), sort=True)
    R, C = len(rows), len(cols)
    plot = r * C + c
    if len(set(plot)) < len(y):
        raise ValueError("two yields are of the same plot")
    lost = np.setdiff1d(np.arange(R * C), plot)
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y)
        rho_row = pm.Uniform("rho_row", -1, 1)
        rho_col = pm.Uniform("rho_col", -1, 1)

        def whiten(fields):  # (m, R, C)
            down = (fields[:, 1:] - rho_row * fields[:, :-1]) / pm.math.sqrt(1 - rho_row**2)
            half = pt.concatenate([fields[:, :1], down], axis=1)
            across = (half[:, :, 1:] - rho_col * half[:, :, :-1]) / pm.math.sqrt(1 - rho_col**2)
            return pt.concatenate([half[:, :, :1], across], axis=2).reshape((fields.shape[0], R * C))

        e = np.eye(R * C)[:, plot] @ (y - pm.math.dot(X, beta))
        a = whiten(e.reshape((1, R, C)))[0]
        square = (a**2).sum()
        log_det = C * (R - 1) * pm.math.log(1 - rho_row**2) + R * (C - 1) * pm.math.log(1 - rho_col**2)
        if len(lost):
            B = whiten(pt.as_tensor(np.eye(R * C)[lost].reshape((len(lost), R, C))))
            chol = pt.linalg.cholesky(pt.dot(B, B.T))
            square -= (pt.linalg.solve_triangular(chol, pt.dot(B, a), lower=True) ** 2).sum()
            log_det += 2 * pm.math.log(pt.diag(chol)).sum()
        pm.Potential("y", -0.5 * (len(y) * pm.math.log(2 * np.pi * sigma**2) + log_det + square / sigma**2))
    return model
