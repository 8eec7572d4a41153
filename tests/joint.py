"""The joint normal of y, u and new rows, entry by entry from definitions: the oracle of predictions.

Residual covariances are written by hand for the structures in `RESIDUALS`; nothing of the package's tables is used.
"""

import numpy as np
import pandas as pd
from oracle import clipped

RESIDUALS = {
    "": lambda p, d, i, j: p["residual:var"] * (i == j),
    "weights(w)": lambda p, d, i, j: p["residual:var"] / d["w"][i] * (i == j),
    "ar1(t, group=unit)": lambda p, d, i, j: _same(d, i, j) * p["residual:var"] * _ar(p, d, i, j),
    "by(site)": lambda p, d, i, j: p[f"residual:var({d['site'][i]})"] * (i == j),
    "by(site, ar1(t, group=unit))": lambda p, d, i, j: (
        _same(d, i, j)
        * np.sqrt(p[f"residual:var({d['site'][i]})"] * p[f"residual:var({d['site'][j]})"])
        * _ar(p, d, i, j)
    ),
    "weights(w) * ar1(t, group=unit)": lambda p, d, i, j: (
        _same(d, i, j) * p["residual:var"] * _ar(p, d, i, j) / np.sqrt(d["w"][i] * d["w"][j])
    ),
    "ar1(row) * ar1(t) + nugget": lambda p, d, i, j: (
        p["residual:var"]
        * p["residual:rho_row"] ** abs(d["row"][i] - d["row"][j])
        * p["residual:rho_t"] ** abs(d["t"][i] - d["t"][j])
        + p["residual:nugget"] * (i == j)
    ),
}


def _same(d, i, j):
    return d["unit"][i] == d["unit"][j]


def _ar(p, d, i, j):
    return p["residual:rho"] ** abs(d["t"][i] - d["t"][j])


def long_data():
    """29 rows of 8 units at up to 4 times each, shuffled; `row` is the unit, `site` cuts across units."""
    rng = np.random.default_rng(8)
    unit = np.repeat(np.arange(1, 9), 4)
    frame = pd.DataFrame({
        "unit": unit, "t": np.tile(np.arange(4), 8), "row": unit, "x": rng.standard_normal(32),
        "site": rng.choice(list("abc"), 32), "w": rng.uniform(0.5, 2, 32),
        "y": rng.standard_normal(32) + rng.standard_normal(9)[unit],
    })  # fmt: skip
    return frame.sample(frac=0.9, random_state=2).reset_index(drop=True)


def inner_theta(model):
    """A θ inside its range: correlations .35, nuggets .4, covariances .3, variances 1.3."""
    inside = {"cov": 0.3, "rho": 0.35, "nugget": 0.4}
    own = [name.partition(":")[2] for name in model.theta_names]
    return np.array([next((v for key, v in inside.items() if key in name), 1.3) for name in own])


def residual_covariance(model, theta, data, text):
    """R (n, n)."""
    p = dict(zip(model.theta_names, np.asarray(theta).tolist(), strict=True))
    n, d = model.n_obs, {name: data[name].tolist() for name in data}
    return np.array([[RESIDUALS[text](p, d, i, j) for j in range(n)] for i in range(n)])


def relation(c, N):
    """A between the levels of a component."""
    if c.relation is None:
        return np.eye(N)
    return clipped(c.relation.K) if c.relation.precision is None else np.linalg.inv(c.relation.precision.toarray())


def random_part(model, theta):
    """(Z (n, q), G (q, q), first column of each component): effects side by side within a level."""
    Zs, Gs, start = [], [], [0]
    for c, Omega in zip(model.components, model.Omegas(theta), strict=True):
        r = len(Omega)
        if c.codes is not None:
            N = len(c.levels)
            Z = np.zeros((model.n_obs, N * r))
            for i in range(model.n_obs):
                Z[i, c.codes[i] * r : (c.codes[i] + 1) * r] = c.Z[i]
        elif c.n_effects > 1 and c.relation is not None:  # incidence matrices side by side
            N = c.relation.m
            Z = np.asarray(c.Z)[:, np.arange(N * r).reshape(r, N).T.ravel()]
        elif c.n_effects > 1:
            N, Z = 1, c.Z
        else:
            Z = np.eye(model.n_obs) if c.Z is None else np.asarray(c.Z)
            N = Z.shape[1]
        Zs.append(Z)
        Gs.append(np.kron(relation(c, N), Omega))
        start.append(start[-1] + N * r)
    G = np.zeros((start[-1], start[-1]))
    for a, b, g in zip(start[:-1], start[1:], Gs, strict=True):
        G[a:b, a:b] = g
    return np.hstack(Zs) if Zs else np.zeros((model.n_obs, 0)), G, start


def henderson(model, theta, R):
    """C, the inverse of [X Z]ᵀR⁻¹[X Z] + blockdiag(0, G⁻¹): errors of (β̂, û); G must have an inverse."""
    Z, G, _ = random_part(model, theta)
    T, d = np.hstack([model.X, Z]), model.n_fixed
    M = T.T @ np.linalg.solve(R, T)
    M[d:, d:] += np.linalg.inv(G)
    return np.linalg.inv(M)


def predicted(model, theta, R, X, Zn, beta_known=False):
    """(mean, covariance) of Xβ + Zn·u given y, β flat: the joint normal conditioned on y, all by V."""
    y = model.y if model.offset is None else model.y - model.offset
    Z, G, _ = random_part(model, theta)
    V = Z @ G @ Z.T + R
    Vi = np.linalg.inv(V)
    C = np.linalg.inv(model.X.T @ Vi @ model.X)
    beta = C @ model.X.T @ Vi @ y
    c = Zn @ G @ Z.T
    rest = X - c @ Vi @ model.X
    cov = Zn @ G @ Zn.T - c @ Vi @ c.T + (0 if beta_known else rest @ C @ rest.T)
    return X @ beta + c @ Vi @ (y - model.X @ beta), cov
