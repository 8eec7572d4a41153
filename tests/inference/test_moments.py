"""The method of moments: S θ = q from the V_j themselves, and its sandwich covariance by formula and by simulation."""

import numpy as np
import pytest
from classics import dyestuff
from hypothesis import given
from oracle import derivatives, plain
from strategies import COLUMNS, KINDS, draw_problem, problems

import vcbench as vc
from vcbench import Status, kernels
from vcbench.errors import ModelError
from vcbench.solvers.moments import moment_covariance, moments


def normal_equations(model, y=None):
    """(S, q, M V_j M) of MATH §5: S_ij = tr(M V_i M V_j), q_i = yᵀM V_i M y."""
    y = model.y if y is None else y
    y = y - (0.0 if model.offset is None else model.offset)
    X, n = model.X, model.n_obs
    M = np.eye(n) - X @ np.linalg.solve(X.T @ X, X.T)
    W = [M @ V @ M for V in derivatives(model.components, n)]
    return np.array([[np.sum(A * B) for B in W] for A in W]), np.array([y @ A @ y for A in W]), W


def sandwich(model, theta):
    """S⁻¹ Σ S⁻¹, Σ_ij = 2 tr(M V_i M V M V_j M V)."""
    S, _, W = normal_equations(model)
    V = np.tensordot(theta, derivatives(model.components, model.n_obs), axes=1)
    Sigma = np.array([[2 * np.trace(A @ V @ B @ V) for B in W] for A in W])
    return np.linalg.inv(S) @ Sigma @ np.linalg.inv(S)


@given(problems(KINDS + COLUMNS))
def test_moments__solve_the_normal_equations(p):
    S, q, _ = normal_equations(p.model)
    want = np.linalg.solve(S, q)
    unit = np.sqrt(np.diag(sandwich(p.model, p.theta)))
    for name in p.kernels:
        got = moments(kernels.build(p.model, name))
        assert (np.abs(got - want) <= 1e-8 * (unit + np.abs(want))).all()


@given(problems(KINDS + COLUMNS))
def test_moments__have_the_sandwich_covariance(p):
    want = sandwich(p.model, p.theta)
    size = np.sqrt(np.outer(np.diag(want), np.diag(want)))
    for name in p.kernels:
        got = moment_covariance(kernels.build(p.model, name), p.theta)
        assert (np.abs(got - want) <= 1e-8 * size).all()


@given(problems())
def test_moments_fit__reports_the_raw_estimate_and_the_reml_likelihood_there(p):
    fit = vc.fit(p.model, "moments")
    S, q, _ = normal_equations(p.model)
    theta = np.linalg.solve(S, q)
    assert fit.status is Status.CONVERGED
    assert fit.criterion == "none"
    assert fit.theta_values == pytest.approx(theta, rel=1e-6, abs=1e-8 * np.abs(theta).max())
    cov = sandwich(p.model, fit.theta_values)
    with np.errstate(invalid="ignore"):  # at a V that is not definite the sandwich need not be
        want = np.sqrt(np.diag(cov))
    assert fit.theta_se.to_numpy() == pytest.approx(want, rel=1e-6, nan_ok=True)
    V = np.tensordot(fit.theta_values, derivatives(p.model.components, p.model.n_obs), axes=1)
    lowest = np.linalg.eigvalsh(V)[0] / np.linalg.norm(V, 2)
    if lowest > 1e-9:
        want = plain(p.model, fit.theta_values, "reml")
        assert fit.loglik == pytest.approx(want.loglik, rel=1e-8)
        assert fit.beta_values == pytest.approx(want.beta, rel=1e-6, abs=1e-8 * np.abs(want.beta).max())
        assert fit.beta_se.to_numpy() == pytest.approx(np.sqrt(np.diag(want.beta_cov)), rel=1e-6)
    elif lowest < -1e-9:
        assert np.isnan(fit.loglik)
        assert np.isnan(fit.beta_values).all()
        assert np.isnan(fit.beta_se).all()
    for name, value, is_variance in zip(fit.theta.index, fit.theta_values, fit.facts.is_variance, strict=True):
        assert (f"`{name}`" in fit.message) == (value < 0 and is_variance)


def test_moments__of_balanced_data_are_anova():
    y = dyestuff().y.reshape(6, 5)
    msa, mse = 5 * y.mean(1).var(ddof=1), y.var(1, ddof=1).mean()
    fit = vc.fit(dyestuff(), "moments")
    assert fit.theta_values == pytest.approx([(msa - mse) / 5, mse], rel=1e-10)
    # independent mean squares: variances 2·ms²/df
    assert fit.theta_se.to_numpy() == pytest.approx([np.sqrt(2 * msa**2 / 5 + 2 * mse**2 / 24) / 5, mse / np.sqrt(12)])


@pytest.mark.parametrize("kind", ["one-way-unbalanced", "slope-un", "crossed", "K"])
def test_moments__are_unbiased_and_their_covariance_is_that_of_simulated_data(kind):
    """2000 responses at the truth: bias and covariances within 4 Monte Carlo SEs, which the draws themselves give."""
    p = draw_problem(kind, 6, 4, seed=11)
    R = 2000
    Y = p.draw_y(np.random.default_rng(2), R)
    S, _, W = normal_equations(p.model)
    Q = np.array([np.einsum("ir,ij,jr->r", Y, A, Y) for A in W])
    theta = np.linalg.solve(S, Q).T
    few = vc.fit_many(p.model, Y[:, :20], "moments").theta
    assert few == pytest.approx(theta[:20], rel=1e-6, abs=1e-8 * np.abs(theta).max())
    want = moment_covariance(kernels.build(p.model), p.truth)
    assert (np.abs(theta.mean(0) - p.truth) <= 4 * np.sqrt(np.diag(want) / R)).all()
    centred = theta - p.truth
    for i in range(len(p.truth)):
        for j in range(i + 1):
            products = centred[:, i] * centred[:, j]
            assert abs(products.mean() - want[i, j]) <= 4 * products.std() / np.sqrt(R)


def test_moments__a_component_that_X_absorbs_has_no_equation():
    group = np.repeat(np.arange(5), 4)
    X = (group[:, None] == np.arange(5)).astype(float)
    model = vc.Model(np.arange(20.0) ** 2, X, [vc.Component(np.ones(20), name="g", group=group)])
    with pytest.raises(ModelError, match=r"moment equations are singular: `g:var\(\(Intercept\)\)` leaves no trace"):
        vc.fit(model, "moments")
