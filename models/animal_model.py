"""An animal model in PyMC: additive genetic effects by a pedigree, in the basis where the covariance is diagonal.

    y = Xβ + a + e,    a ~ N(0, σ_a² A),  e ~ N(0, σ_e² I),    A the numerator relationship matrix of the animals seen

A comes from the pedigree by the tabular method, parents before offspring: an animal is related to all before it by the
mean of its parents, and to itself by 1 + half of their relationship. As for genotypes (see snp_heritability.py), with
A = UDUᵀ, computed once, the rotated records are independent,

    (Uᵀy)_i ~ N((UᵀX β)_i, σ_a² d_i + σ_e²).

Thousands of animals are too many for the dense A: likelihood methods keep to its sparse inverse. Tabular method: Mrode
(2014), Linear Models for the Prediction of Animal Breeding Values, 3rd ed., §2.2; data: Wilson et al. (2010), Journal
of Animal Ecology 79, 13–26.

    data = pandas.read_csv("gryphon.csv").dropna(subset="bwt")
    pedigree = pandas.read_csv("gryphon_pedigree.csv")
    A = relationship(pedigree["id"], pedigree["father"], pedigree["mother"])
    X = np.column_stack([np.ones(len(data)), data["sex"] == 2])
    with build(data["bwt"], X, A.loc[data["animal"], data["animal"]]):
        trace = pm.sample(nuts_sampler="nutpie")
"""

import numpy as np
import pandas as pd
import pymc as pm


def relationship(animal, sire, dam) -> pd.DataFrame:
    """The relationship matrix A of a pedigree (m,) in any order; a parent that is missing, or no animal, is unknown."""
    ids = pd.Index(animal)
    m = len(ids)
    s, d = (np.where(at < 0, m, at) for at in (ids.get_indexer(sire), ids.get_indexer(dam)))  # m: unknown
    generation = np.zeros(m + 1)
    for _ in range(m):
        older = np.append(np.maximum(generation[s], generation[d]) + 1, 0)
        if (older == generation).all():
            break
        generation = older
    else:
        raise ValueError("an animal is among its own ancestors")
    A = np.zeros((m + 1, m + 1))
    for i in np.argsort(generation[:m], kind="stable"):
        A[i] = A[:, i] = (A[s[i]] + A[d[i]]) / 2
        A[i, i] = 1 + A[s[i], d[i]] / 2
    return pd.DataFrame(A[:m, :m], ids, ids)


def build(y, X, A) -> pm.Model:
    """The model for y (n,), X (n, d) and the relationships A (n, n) of the animals of its rows.

    Priors: β flat; σ_a half-normal with scale sd(y)/√(mean diagonal of A), σ_e with scale sd(y).
    """
    y, X, A = np.asarray(y, float), np.asarray(X, float), np.asarray(A, float)
    d, U = np.linalg.eigh(A)
    d = np.maximum(d, 0.0)
    sd_y = float(np.std(y, ddof=1))

    with pm.Model() as model:
        beta = pm.Flat("beta", shape=X.shape[1], initval=np.linalg.lstsq(X, y, rcond=None)[0])
        sigma_a = pm.HalfNormal("sigma_a", sigma=sd_y / np.sqrt(np.trace(A) / len(y)))
        sigma_e = pm.HalfNormal("sigma_e", sigma=sd_y)
        pm.Normal(
            "turned_y",
            mu=pm.math.dot(U.T @ X, beta),
            sigma=pm.math.sqrt(sigma_a**2 * d + sigma_e**2),
            observed=U.T @ y,
        )
        pm.Deterministic("h2", sigma_a**2 / (sigma_a**2 + sigma_e**2))
    return model
