"""Kenward and Roger's and Satterthwaite's formulas with n × n matrices, differences, and cases known exactly."""

import numpy as np
import pandas as pd
import pytest
from classics import sleepstudy
from oracle import central_difference, derivatives, hessian, loglik_of
from scipy import stats
from strategies import draw_problem

import vcbench as vc
from vcbench import Status
from vcbench.errors import MethodError
from vcbench.inference.equations import Equations
from vcbench.inference.kenward_roger import KenwardRoger
from vcbench.inference.satterthwaite import covariance_slopes, pooled_df

REL = 1e-8


def close(ours, theirs, rel=REL):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=rel, atol=rel * scale)


def adjusted(X, V, Vi, Vij):
    """(Φ, Φ_A, P, W) of Kenward & Roger (1997) from V, ∂V and ∂²V (p, p, n, n)."""
    p = len(Vi)
    S = np.linalg.inv(V)
    Phi = np.linalg.inv(X.T @ S @ X)
    T = S - S @ X @ Phi @ X.T @ S
    W = np.linalg.inv([[0.5 * np.trace(T @ Vi[i] @ T @ Vi[j]) for j in range(p)] for i in range(p)])
    P = [-X.T @ S @ Vi[i] @ S @ X for i in range(p)]
    inner = np.zeros_like(Phi)
    for i in range(p):
        for j in range(p):
            Q = X.T @ S @ Vi[i] @ S @ Vi[j] @ S @ X
            R = X.T @ S @ Vij[i][j] @ S @ X
            inner += W[i, j] * (Q - P[i] @ Phi @ P[j] - R / 4)
    return Phi, Phi + 2 * Phi @ inner @ Phi, P, W


def f_test(L, r, Phi, PhiA, P, W):
    """(λF, m, λ), L of full row rank."""
    q, p = len(L), len(P)
    Theta = L.T @ np.linalg.inv(L @ Phi @ L.T) @ L
    half = [Theta @ Phi @ P[i] @ Phi for i in range(p)]
    A1 = sum(W[i, j] * np.trace(half[i]) * np.trace(half[j]) for i in range(p) for j in range(p))
    A2 = sum(W[i, j] * np.trace(half[i] @ half[j]) for i in range(p) for j in range(p))
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    below = 3 * q + 2 * (1 - g)
    c1, c2, c3 = g / below, (q - g) / below, (q + 2 - g) / below
    E = 1 / (1 - A2 / q)
    V = (2 / q) * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
    rho = V / (2 * E**2)
    m = 4 + (q + 2) / (q * rho - 1)
    scale = m / (E * (m - 2))
    return scale * r @ np.linalg.inv(L @ PhiA @ L.T) @ r / q, m, scale


def dense(model, theta):
    """What `adjusted` takes, of a model linear in θ."""
    Vi = derivatives(model.components, model.n_obs)
    return model.X, np.tensordot(theta, Vi, axes=1), Vi, np.zeros((len(Vi), len(Vi), *Vi[0].shape))


KINDS = (
    "slope-un", "slope-blocks", "pedigree", "pedigree-slope", "columns-un", "K", "K-incidence", "Z-narrow", "two-Z",
    "crossed", "nested", "crossed-slopes", "group-and-K",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_kenward_roger__is_the_dense_formula(kind):
    problem = draw_problem(kind, n_covariates=3, seed=11)
    model, theta = problem.model, problem.theta
    Phi, PhiA, P, W = adjusted(*dense(model, theta))
    way = KenwardRoger.of(Equations.at(model, theta), W)
    close(way.Phi, Phi)
    close(way.cov, PhiA)
    L = np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0], [1.0, 0.5, 0.0, 2.0]])
    r = L @ problem.beta
    for rows in (L, L[:2]):
        F, m, scale = f_test(rows, rows @ problem.beta, Phi, PhiA, P, W)
        test = way.joint(rows, rows @ problem.beta)
        close((test.F, test.denominator, test.scale), (F, m, scale), 1e-6)
        assert test.numerator == len(rows)
    variance, df = way.rows(L)
    close(variance, np.diag(L @ PhiA @ L.T))
    close(df, [f_test(row[None], r[:1], Phi, PhiA, P, W)[1] for row in L], 1e-6)
    close(1.0, f_test(L[:1], r[:1], Phi, PhiA, P, W)[2], 1e-6)  # λ of one row


@pytest.mark.parametrize("kind", KINDS)
def test_covariance_slopes__are_differences(kind):
    model = draw_problem(kind, n_covariates=2, seed=5).model
    theta = draw_problem(kind, n_covariates=2, seed=5).theta

    def C(at):
        return Equations.at(model, at).beta_cov

    close(covariance_slopes(Equations.at(model, theta)), central_difference(C, theta, 1e-3 * np.abs(theta)), 1e-7)


def long_data(n_units=9, m=4, seed=2, between=0.0):
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(n_units), m)
    t = np.tile(np.arange(m), n_units)
    e = np.zeros((n_units, m))
    for j in range(m):
        e[:, j] = (0.6 * e[:, j - 1] if j else 0) + rng.normal(size=n_units)
    frame = pd.DataFrame(
        {
            "unit": unit,
            "t": t,
            "x": rng.normal(size=len(unit)),
            "y": e.ravel() + 0.3 * t + between * rng.normal(size=n_units)[unit],
        }
    )
    return frame.drop(index=[3, 10, 11, 25]).reset_index(drop=True)


def autoregressive(data):
    """θ = (τ², σ², ρ) -> V, a random intercept and AR(1) within units, from its definition."""
    same = np.equal.outer(data["unit"].to_numpy(), data["unit"].to_numpy())
    lag = np.abs(np.subtract.outer(data["t"].to_numpy(), data["t"].to_numpy()))
    return lambda theta: same * (theta[0] + theta[1] * theta[2] ** lag)


def test_kenward_roger__of_an_autoregression_has_the_second_derivatives_in_it():
    data = long_data()
    model = vc.Model.from_formula("y ~ t + x + (1 | unit)", data, residual="ar1(t, group=unit)")
    assert model.theta_names == ("unit:var((Intercept))", "residual:var", "residual:rho")
    theta = np.array([0.4, 1.2, 0.45])
    V, n = autoregressive(data), len(data)
    step = np.full(3, 1e-3)
    Vi = central_difference(V, theta, step)
    Vij = np.array([
        central_difference(lambda at, i=i: central_difference(V, at, step)[i], theta, step) for i in range(3)
    ])  # fmt: skip
    assert np.abs(Vij[2, 2]).max() > 0.5  # there is something to be missed
    Phi, PhiA, P, W = adjusted(model.X, V(theta), Vi, Vij)
    way = KenwardRoger.of(Equations.at(model, theta), W)
    close(way.cov, PhiA, 1e-7)
    without = adjusted(model.X, V(theta), Vi, np.zeros((3, 3, n, n)))[1]
    assert np.abs(way.cov - without).max() > 1e-4 * np.abs(PhiA).max()
    L = np.eye(3)[1:]
    test = way.joint(L, np.array([0.2, 0.1]))
    close((test.F, test.denominator, test.scale), f_test(L, np.array([0.2, 0.1]), Phi, PhiA, P, W), 1e-6)


@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_satterthwaite__of_an_autoregression_is_that_of_differences(criterion):
    data = long_data(30, 8, 5, between=2.0)
    model = vc.Model.from_formula("y ~ t + x + (1 | unit)", data, residual="ar1(t, group=unit)")
    fit = vc.fit(model, criterion=criterion, tol=1e-9)
    assert fit.status is Status.CONVERGED
    V, theta = autoregressive(data), fit.theta_values
    step = 1e-2 * fit.theta_se.to_numpy()

    def loglik(at):
        return loglik_of(model.y, model.X, V(at)[None], np.ones(1), criterion)

    A = np.linalg.inv(-hessian(loglik, theta, step))

    def C(at):
        return np.diag(np.linalg.inv(model.X.T @ np.linalg.solve(V(at), model.X)))

    g = central_difference(C, theta, step)
    close(fit.test_fixed()["df"], 2 * C(theta) ** 2 / np.einsum("ik,ij,jk->k", g, A, g), 1e-4)


def test_regression__has_exact_tests_by_every_way():
    """Without random effects all is the F test of least squares: λ = 1, n − d degrees of freedom, Φ_A = Φ."""
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(17), rng.normal(size=(17, 3))])
    y = X @ [1.0, 0.5, 0.0, -0.4] + rng.normal(size=17)
    fit = vc.fit(vc.Model(y, X))
    rest = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    less = y - X[:, :2] @ np.linalg.lstsq(X[:, :2], y, rcond=None)[0]
    F = (less @ less - rest @ rest) / 2 / (rest @ rest / 13)
    for df in ("satterthwaite", "kenward-roger", "residual"):
        test = fit.contrast(np.eye(4)[2:], df)
        close((test.F, test.denominator_df), (F, 13.0), 1e-7)
        close(test.p_value, stats.f.sf(F, 2, 13), 1e-7)
        close(fit.test_fixed(df)["df"], 13.0, 1e-7)
        close(fit.test_fixed(df)["se"], fit.beta_se, 1e-7)


def test_kenward_roger__of_an_unstructured_covariance_is_hotelling():
    """q visits of N subjects, V free within subjects: (N − q)/(q(N − 1)) T² is F(q, N − q), exactly."""
    rng = np.random.default_rng(8)
    N, q = 14, 3
    Y = rng.multivariate_normal([0.3, 0.2, -0.1], [[2.0, 0.8, 0.3], [0.8, 1.5, 0.6], [0.3, 0.6, 1.0]], N)
    data = pd.DataFrame({"id": np.repeat(np.arange(N), q), "visit": np.tile(list("abc"), N), "y": Y.ravel()})
    fit = vc.fit(vc.Model.from_formula("y ~ 0 + visit", data, residual="un(visit, group=id)"), tol=1e-9)
    mean, S = Y.mean(0), np.cov(Y.T)
    T2 = N * mean @ np.linalg.solve(S, mean)
    test = fit.contrast(np.eye(q), "kr")
    close((test.F, test.denominator_df), ((N - q) / (q * (N - 1)) * T2, N - q), 1e-5)
    close(test.p_value, stats.f.sf((N - q) / (q * (N - 1)) * T2, q, N - q), 1e-5)


def test_pooled_df__is_the_expectation_of_fai_and_cornelius():
    close(pooled_df(np.array([7.0, 7.0, 7.0])), 7.0)
    close(pooled_df(np.array([1.5, 1.5])), 1.5)
    assert pooled_df(np.array([1.9, 40.0])) == 2.0
    E = 5 / 3 + 10 / 8
    close(pooled_df(np.array([5.0, 10.0])), 2 * E / (E - 2))
    assert pooled_df(np.array([np.inf, np.inf])) == np.inf
    close(pooled_df(np.array([np.inf, 6.0])), 2 * (1 + 1.5) / 0.5)


def test_kenward_roger__is_refused_where_it_is_not_defined():
    with pytest.raises(MethodError, match="REML; this fit is by maximum likelihood"):
        vc.fit(sleepstudy(), criterion="ml").test_fixed("kr")
    with pytest.raises(MethodError, match="REML; this fit is by moments"):
        vc.fit(sleepstudy(), method="moments").test_fixed("kr")
