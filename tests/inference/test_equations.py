"""Equations: V⁻¹, P, ∂V and GZᵀ of every structure, against V formed entry by entry and central differences."""

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import ModelError
from vcbench.inference import equations
from vcbench.inference.equations import Equations

rng = np.random.default_rng(20261121)


def long_data(n_units=12, m=5):
    unit = np.repeat(np.arange(n_units) + 1, m)
    frame = pd.DataFrame({
        "unit": unit, "t": np.tile(np.arange(m), n_units), "row": unit, "x": rng.standard_normal(len(unit)),
        "site": rng.integers(0, 4, len(unit)), "w": rng.uniform(0.5, 2, len(unit)),
    })  # fmt: skip
    return frame.assign(y=rng.standard_normal(len(unit)) + 0.5 * frame["x"])


DATA = long_data()
PEDIGREE = pd.DataFrame({"id": range(1, 13), "sire": [0, 0, 1, 1, 1, 3, 3, 5, 5, 7, 7, 9],
                         "dam": [0, 0, 2, 2, 0, 4, 4, 4, 6, 6, 8, 8]})  # fmt: skip
CASES = {
    "grouped": ("y ~ x + (1 + x | unit)", {}),
    "crossed": ("y ~ x + (1 | unit) + (1 | site)", {}),
    "singular": ("y ~ x + (1 + x | unit)", {"theta": [1.0, 0.5, 0.25, 1.5]}),
    "diag": ("y ~ 1 + (1 + x || unit)", {}),
    "cs effects": ("y ~ 1 + (0 + factor(site) | unit)", {"cov": {"unit": "cs()"}}),
    "pedigree": ("y ~ x + (1 | unit)", {"cov": {"unit": vc.covariance.pedigree(PEDIGREE)}}),
    "ar1": ("y ~ x", {"residual": "ar1(t, group=unit)"}),
    "ar1 + slope": ("y ~ x + (1 + x | unit)", {"residual": "ar1(t, group=unit)"}),
    "heterogeneous": ("y ~ x + (1 | site)", {"residual": "by(t, iid)"}),
    "field": ("y ~ 1", {"residual": "ar1(row) * ar1(t) + nugget"}),
    "weights": ("y ~ x + (1 | unit)", {"residual": "weights(w)"}),
    "weights ar1": ("y ~ x + (1 | site)", {"residual": "weights(w) * ar1(t, group=unit)"}),
    "fixed effects only": ("y ~ x", {}),
}


def model_of(case):
    formula, options = CASES[case]
    options = dict(options)
    theta = options.pop("theta", None)
    model = vc.Model.from_formula(formula, DATA, **options)
    if theta is None:
        theta = [_inside(name) for name in model.theta_names]
    return model, np.array(theta, float)


def _inside(name):
    if ":cov" in name or "rho" in name:
        return 0.3
    return 0.4 if "nugget" in name else 1.3


def dense_V(model, theta):
    """V from the definition: incidence by hand, A and R entry by entry."""
    n = model.n_obs
    noise, tau = model.noise, model.working.tau(model.working.w(theta))
    V = np.zeros((n, n))
    if noise.is_plain:
        V += tau[-1] * np.eye(n)
    else:
        from vcbench.model.jets import variables

        k = noise.family.n_phi
        table = noise.family.table(variables(tau[len(tau) - 1 - k : -1]), k).v
        place = noise.family.index(np.arange(n))
        V += tau[-1] * np.where(np.equal.outer(noise.units, noise.units), table[place], 0.0)
        if noise.has_nugget:
            V += tau[model.working.n_pairs - 1] * np.eye(n)
    if noise.weights is not None:
        V /= np.sqrt(np.outer(noise.weights, noise.weights))
    for c, Omega in zip(model.components, model.Omegas(theta), strict=True):
        A = np.eye(len(c.levels)) if c.relation is None else np.linalg.inv(c.relation.precision.toarray())
        for i in range(n):
            for j in range(n):
                V[i, j] += c.Z[i] @ Omega @ c.Z[j] * A[c.codes[i], c.codes[j]]
    return V


@pytest.fixture(params=["M", "V"])
def way(request, monkeypatch):
    """Through M of the random effects, and through V itself."""
    monkeypatch.setattr(equations, "SMALL", 0 if request.param == "M" else 400)


@pytest.mark.parametrize("case", CASES)
def test_equations__solve_as_the_dense_matrix_does(case, way):
    model, theta = model_of(case)
    at = Equations.at(model, theta)
    V, B = dense_V(model, theta), rng.standard_normal((model.n_obs, 3))
    Vi = np.linalg.inv(V)
    C = np.linalg.inv(model.X.T @ Vi @ model.X)
    P = Vi - Vi @ model.X @ C @ model.X.T @ Vi
    np.testing.assert_allclose(at.solve(B), Vi @ B, atol=1e-10 * np.abs(Vi).max())
    np.testing.assert_allclose(at.solve(B[:, 0]), Vi @ B[:, 0], atol=1e-10 * np.abs(Vi).max())
    np.testing.assert_allclose(at.project(B), P @ B, atol=1e-10 * np.abs(Vi).max())
    np.testing.assert_allclose(at.beta_cov, C, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("case", [c for c in CASES if c != "singular"])
def test_equations__derivatives_are_those_of_the_dense_matrix(case):
    model, theta = model_of(case)
    at, B, h = Equations.at(model, theta), np.eye(model.n_obs), 1e-4
    step = h * np.eye(len(theta))
    for i in range(len(theta)):
        slope = (dense_V(model, theta + step[i]) - dense_V(model, theta - step[i])) / (2 * h)
        np.testing.assert_allclose(at.derivative(i, B), slope, atol=2e-7)
        for j in range(i + 1):
            up = Equations.at(model, theta + step[j]).derivative(i, B)
            down = Equations.at(model, theta - step[j]).derivative(i, B)
            pair = np.outer(step[i], step[j]) / (2 * h**2)
            np.testing.assert_allclose(at.curvature(pair + pair.T, B), (up - down) / (2 * h), atol=2e-6)


@pytest.mark.parametrize("case", ["grouped", "crossed", "pedigree", "ar1 + slope", "singular", "cs effects"])
def test_equations__effects_are_the_covariance_with_y(case):
    model, theta = model_of(case)
    at, B = Equations.at(model, theta), rng.standard_normal((model.n_obs, 2))
    for k, (c, Omega) in enumerate(zip(model.components, model.Omegas(theta), strict=True)):
        A = np.eye(len(c.levels)) if c.relation is None else np.linalg.inv(c.relation.precision.toarray())
        want = np.zeros((len(A), c.n_effects, 2))
        for level in range(len(A)):
            for i in range(model.n_obs):
                want[level] += A[level, c.codes[i]] * np.outer(Omega @ c.Z[i], B[i])
        np.testing.assert_allclose(at.effects(k, B), want, atol=1e-10)


def test_equations__a_relationship_matrix_or_plain_columns(way):
    n = 40
    G = rng.standard_normal((n, 60))
    K = G @ G.T / 60
    Z = rng.standard_normal((n, 6))
    y = rng.standard_normal(n)
    model = vc.Model(y, np.ones((n, 1)), [vc.Component(K=K, name="a"), vc.Component(Z, name="z")])
    at = Equations.at(model, [0.7, 0.2, 0.5])
    V = 0.7 * K + 0.2 * Z @ Z.T + 0.5 * np.eye(n)
    np.testing.assert_allclose(at.solve(np.eye(n)), np.linalg.inv(V), atol=1e-9)
    np.testing.assert_allclose(at.derivative(0, np.eye(n)), K, atol=1e-12)
    np.testing.assert_allclose(at.derivative(1, np.eye(n)), Z @ Z.T, atol=1e-12)


def test_equations__a_matrix_that_is_no_covariance_is_refused(way):
    model = vc.Model.from_formula("y ~ x + (1 | unit)", DATA)
    with pytest.raises(ModelError, match=r"matrix of `unit` has a negative eigenvalue \(-2\)"):
        Equations.at(model, [-2.0, 1.0])
    with pytest.raises(ModelError, match="not positive definite"):
        Equations.at(model, [0.1, -1.0])
