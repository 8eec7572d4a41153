"""A replicate crossover in PyMC: correlated effects of subject by product, noise with a variance for each product.

    y_ijk = x_ijkᵀβ + b_ij + e_ijk,    (b_iR, b_iT) ~ N(0, Ω),  e_ijk ~ N(0, σ_j²),    j the product, k the replicate

Subject i took product j n_ij times. Means of these cells carry all that is known of the effects, and the rows around
them all that is left: with e = y − Xβ,

    (ē_iR, ē_iT) ~ N(0, Ω + diag(σ_R²/n_iR, σ_T²/n_iT)),
    p(y) = Π_i N(ē_i | ·) Π_ij n_ij^(−½) (2πσ_j²)^(−(n_ij − 1)/2) exp(−Σ_k (e_ijk − ē_ij)² / 2σ_j²).

The model of the FDA's guidance on average bioequivalence (2001); data: Schuetz et al. (2020), AAPS Journal 22:44.

    data = pandas.read_csv("be_rds11.csv")
    X = formulaic.model_matrix("C(sequence) + C(period) + treatment", data)
    with build(np.log(data["PK"]), X, data["treatment"], data["subject"]):
        trace = pm.sample(nuts_sampler="nutpie", target_accept=0.9)
"""

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt


def build(y, X, product, subject) -> pm.Model:
    """The model for y (n,), X (n, d), `product` (n,) and `subject` (n,); every subject must take every product.

    Priors: β flat; σ_j half-normal with scale sd(y); the SDs of Ω half-t(3) with scale sd(y)/√(share of the rows that
    belong to the product); correlation LKJ(2).
    """
    y, X = np.asarray(y, float), np.asarray(X, float)
    own, products = pd.factorize(np.asarray(product), sort=True)
    unit, subjects = pd.factorize(np.asarray(subject), sort=True)
    G, J = len(subjects), len(products)
    cell = np.eye(G * J)[unit * J + own]
    count = cell.sum(axis=0)
    if (count == 0).any():
        raise ValueError("every subject must take every product")
    per_product = np.bincount(own)
    sd_y = float(np.std(y, ddof=1))
    scale = sd_y / np.sqrt(per_product / len(y))

    with pm.Model(coords={"product": products, "subject": subjects}) as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma = pm.HalfNormal("sigma", sigma=sd_y, dims="product")
        chol, _, _ = pm.LKJCholeskyCov(
            "Omega",
            eta=2,
            n=J,
            sd_dist=pm.HalfStudentT.dist(nu=3, sigma=scale, shape=J),
            initval=np.diag(scale)[np.tril_indices(J)],
        )
        e = y - pm.math.dot(X, beta)
        mean = pm.math.dot(cell.T, e) / count
        noise = sigma**2 / count.reshape((G, J))
        cov = pt.dot(chol, chol.T) + noise[:, :, None] * np.eye(J)
        around = ((e - mean[unit * J + own]) ** 2)[:, None] * np.eye(J)[own]
        pm.Potential("cells", pm.logp(pm.MvNormal.dist(mu=np.zeros(J), cov=cov), mean.reshape((G, J))).sum())
        pm.Potential(
            "around",
            -0.5 * ((per_product - G) * pm.math.log(2 * np.pi * sigma**2) + around.sum(axis=0) / sigma**2).sum()
            - 0.5 * np.log(count).sum(),
        )
    return model
