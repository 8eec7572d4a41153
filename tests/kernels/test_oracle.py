"""The oracle is itself held to what uses no V⁻¹: scipy's density, the one-way closed form, Henderson's equations."""

import numpy as np
import pytest
from hypothesis import given
from oracle import derivatives, plain, posterior, prior_covariance, stacked
from scipy.stats import multivariate_normal
from strategies import KINDS, draw_problem, problems


@pytest.mark.parametrize("kind", KINDS)
def test_oracle__is_the_multivariate_normal_density(kind):
    p = draw_problem(kind, seed=3, offset=True)
    m = p.model
    V = np.tensordot(p.theta, derivatives(m.components, m.n_obs), axes=1)
    want = multivariate_normal(m.X @ p.beta + m.offset, V).logpdf(m.y)
    assert plain(m, p.theta, "ml", p.beta).loglik == pytest.approx(want, rel=1e-10)


def test_oracle__balanced_one_way_has_the_closed_form():
    """λ = σ² + mσ_g²: −2ℓ_ML = n log 2π + a(m−1) log σ² + a log λ + SSE/σ² + SSA/λ at β = ȳ; REML adds log(n/λ)."""
    p = draw_problem("one-way", 7, 5, n_covariates=0, seed=1)
    y = p.model.y[np.argsort(p.model.components[0].codes, kind="stable")].reshape(7, 5)
    sg, s = p.theta
    lam, grand = s + 5 * sg, y.mean()
    SSE, SSA = ((y - y.mean(1, keepdims=True)) ** 2).sum(), 5 * ((y.mean(1) - grand) ** 2).sum()
    minus2 = 35 * np.log(2 * np.pi) + 28 * np.log(s) + 7 * np.log(lam) + SSE / s + SSA / lam
    ml, reml = plain(p.model, p.theta, "ml"), plain(p.model, p.theta, "reml")
    assert ml.loglik == pytest.approx(-0.5 * minus2, rel=1e-12)
    assert reml.loglik == pytest.approx(-0.5 * (minus2 - np.log(2 * np.pi) + np.log(35 / lam)), rel=1e-12)
    assert ml.beta == pytest.approx([grand])


@given(problems(kinds=("one-way-unbalanced", "slope-un", "Z-narrow", "crossed", "K")))
def test_oracle__posterior_solves_hendersons_equations(p):
    """C = [XᵀX/σ², XᵀZ/σ²; ZᵀX/σ², ZᵀZ/σ² + G⁻¹]⁻¹ is the posterior covariance of (β, u) under REML."""
    m, sigma2 = p.model, p.theta[-1]
    X, Z, d = m.X, stacked(m), m.n_fixed
    y = m.y - (0.0 if m.offset is None else m.offset)
    W = np.hstack([X, Z])
    lhs = W.T @ W / sigma2
    lhs[d:, d:] += np.linalg.inv(prior_covariance(m, p.theta))
    C = np.linalg.inv(lhs)
    solution = C @ (W.T @ y) / sigma2
    mean, cov, beta, cov_bu, cov_b = posterior(m, p.theta, "reml")
    for got, want in (
        (mean, solution[d:]),
        (beta, solution[:d]),
        (cov, C[d:, d:]),
        (cov_bu, C[:d, d:]),
        (cov_b, C[:d, :d]),
    ):
        # 1e-6: the equations are inverted with G⁻¹ in them, whose condition reaches 1e6 for a drawn K
        assert got == pytest.approx(want, rel=1e-6, abs=1e-6 * np.abs(want).max())
    # ML: u | y with β known
    mean, cov, *_ = posterior(m, p.theta, "ml", p.beta)
    C = np.linalg.inv(lhs[d:, d:])
    want = C @ (Z.T @ (y - X @ p.beta)) / sigma2
    assert mean == pytest.approx(want, rel=1e-6, abs=1e-6 * np.abs(want).max())
    assert cov == pytest.approx(C, rel=1e-6, abs=1e-6 * np.abs(C).max())
