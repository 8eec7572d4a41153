"""Residuals and leverage: definitions by dense algebra, and what they must be under the model."""

import numpy as np
import pytest
from joint import RESIDUALS, inner_theta, long_data, random_part, residual_covariance
from strategies import draw_problem

import vcbench as vc
from vcbench.errors import MethodError, ModelError
from vcbench.inference import residuals as module

DATA = long_data()


def at(model, theta):
    """The fit at given variances, β at its GLS value."""
    return vc.fit(model, "ai", start=dict(zip(model.theta_names, theta, strict=True)), max_iter=0)


def dense(model, theta, R):
    """(V, P, C_11) by their definitions."""
    Z, G, _ = random_part(model, theta)
    V = Z @ G @ Z.T + R
    Vi = np.linalg.inv(V)
    C = np.linalg.inv(model.X.T @ Vi @ model.X)
    return V, Vi - Vi @ model.X @ C @ model.X.T @ Vi, C


def check(model, theta, R):
    fit, (V, P, C) = at(model, theta), dense(model, theta, R)
    y = model.y if model.offset is None else model.y - model.offset
    e, r = R @ P @ y, V @ P @ y
    want = {
        "conditional": e,
        "marginal": r,
        "pearson": e / np.sqrt(np.diag(R)),
        "standardized": e / np.sqrt(np.diag(R @ P @ R)),
        "standardized-marginal": r / np.sqrt(np.diag(V - model.X @ C @ model.X.T)),
        "normalized": np.linalg.solve(np.linalg.cholesky(R), e),
        "scaled": np.linalg.solve(np.linalg.cholesky(V), r),
    }
    assert set(want) == set(module.KINDS)
    for kind, values in want.items():
        np.testing.assert_allclose(fit.residuals(kind), values, rtol=1e-7, atol=1e-8, err_msg=kind)
    np.testing.assert_allclose(fit.fitted_values(), model.y - e, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(fit.fitted_values(random=False), model.y - r, rtol=1e-8, atol=1e-8)
    H = np.eye(model.n_obs) - R @ P
    np.testing.assert_allclose(fit.leverage(), np.diag(H), rtol=1e-8, atol=1e-9)
    X = model.X
    np.testing.assert_allclose(
        fit.leverage(random=False), np.diag(X @ C @ X.T @ np.linalg.inv(V)), rtol=1e-8, atol=1e-9
    )
    assert fit.leverage(random=False).sum() == pytest.approx(model.n_fixed, rel=1e-9)


@pytest.mark.parametrize("random", ["", " + (1 + x | unit)", " + (1 | unit) + (1 | site)"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_residuals__are_their_definitions(residual, random):
    model = vc.Model.from_formula(f"y ~ x{random}", DATA, residual=residual or None)
    theta = inner_theta(model) * (1.0 + 0.1 * np.arange(model.n_theta))
    check(model, theta, residual_covariance(model, theta, DATA, residual))


@pytest.mark.parametrize("kind", ["K", "K-centred", "K-incidence", "Z-wide", "two-Z", "nested", "pedigree-slope"])
def test_residuals__of_every_kind_of_component(kind):
    p = draw_problem(kind, seed=4, offset=True)
    check(p.model, p.theta, p.theta[-1] * np.eye(p.model.n_obs))


def test_leverage__counts_parameters_between_d_and_all():
    """ρ = Σ leverage: d where the random effects have no variance, d + levels − 1 where they are as good as fixed."""
    p = draw_problem("one-way", 6, 4, n_covariates=1, seed=2)
    sums = [at(p.model, [v, 1.0]).leverage().sum() for v in (1e-10, 0.3, 1.0, 1e10)]
    assert sums == sorted(sums)
    assert sums[0] == pytest.approx(2.0, abs=1e-6)
    assert sums[-1] == pytest.approx(2 + 6 - 1, abs=1e-6)


def test_residuals__on_their_own_scales_have_variance_one_under_the_model():
    """At known θ each kind is linear in y, r = By with BX = 0: the diagonal of BVBᵀ is 1; of `scaled` BVBᵀ is of rank
    n − d with eigenvalues 1."""
    p = draw_problem("slope-un", 5, 4, seed=5)
    n, d = p.model.n_obs, p.model.n_fixed
    V, _, _ = dense(p.model, p.theta, p.theta[-1] * np.eye(n))
    fits = [at(p.model.replace(y=unit), p.theta) for unit in np.eye(n)]
    for kind in ("standardized", "standardized-marginal", "scaled"):
        B = np.column_stack([fit.residuals(kind) for fit in fits])
        assert np.abs(B @ p.model.X).max() < 1e-8
        covariance = B @ V @ B.T
        if kind != "scaled":
            np.testing.assert_allclose(np.diag(covariance), 1.0, rtol=1e-8, err_msg=kind)
        else:
            want = np.repeat([0.0, 1.0], [d, n - d])
            np.testing.assert_allclose(np.linalg.eigvalsh(covariance), want, atol=1e-8)


def test_residuals__that_are_always_zero_have_no_standard_scale():
    """A row with a column of X of its own is fitted exactly."""
    data = DATA.assign(own=(DATA.index == 3).astype(float))
    model = vc.Model.from_formula("y ~ x + own + (1 | unit)", data)
    r = at(model, [1.0, 0.5]).residuals("standardized-marginal")
    assert np.isfinite(r).sum() >= len(r) - 1
    assert at(model, [1.0, 0.5]).leverage()[3] == pytest.approx(1.0, abs=1e-9)
    assert np.isnan(at(model, [1.0, 0.5]).residuals("standardized")[3])


def test_residuals__what_cannot_be_asked_is_refused(monkeypatch):
    fit = at(vc.Model.from_formula("y ~ x + (1 | unit)", DATA), [1.0, 0.5])
    with pytest.raises(MethodError, match=r"unknown residuals `pearsn`.*Did you mean `pearson`"):
        fit.residuals("pearsn")
    monkeypatch.setattr(module, "LARGEST", 3)
    with pytest.raises(ModelError, match="4 rows that are joined"):
        fit.residuals("scaled")
