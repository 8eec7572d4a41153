"""Closed forms: the balanced one-way layout, inverse-gamma, σ_e² integrated out; quadrature against each."""

import numpy as np
import pytest
from classics import dyestuff, dyestuff2, sleepstudy
from scipy.integrate import quad
from scipy.special import sici

import vcbench as vc
from vcbench.bayes import InverseGamma, conjugate, quadrature
from vcbench.errors import ModelError


def test_one_way__ties_to_anova_and_f():
    exact = conjugate.balanced_one_way(dyestuff())
    fit = vc.fit(dyestuff(), "moments")
    assert exact.mse == pytest.approx(fit.theta["residual:var"], rel=1e-9)
    assert (exact.msb - exact.mse) / 5 == pytest.approx(fit.theta["Batch:var((Intercept))"], rel=1e-9)
    rng = np.random.default_rng(5)
    s, lam = exact.residual.rvs(400_000, random_state=rng), exact.total_of_group.rvs(400_000, random_state=rng)
    for draws, square in ((s, exact.mse), (lam, exact.msb)):
        assert abs((1 / draws).mean() - 1 / square) < 4 * (1 / draws).std() / np.sqrt(len(draws))
    keep = lam >= s
    n = keep.sum()
    assert abs(keep.mean() - exact.admissible) < 4 * np.sqrt(exact.admissible / len(keep))
    u = (lam - s)[keep] / 5
    for value, cdf, draws in (
        (2500.0, exact.residual_cdf(2500.0), s[keep]),
        (1500.0, exact.variance_cdf(1500.0), u),
        (0.4, exact.icc_cdf(0.4), u / (u + s[keep])),
    ):
        assert abs((draws <= value).mean() - cdf) < 4 * np.sqrt(0.25 / n)


@pytest.mark.parametrize("data", [dyestuff, dyestuff2])
def test_quadrature__weighted_by_a_priors_ratio_is_the_conjugate_one_way_posterior(data):
    """1/(σ_e² λ) is no prior of independent σ; quadrature's grid under half-normal ones, reweighted, is exact."""
    model = data()
    exact = conjugate.balanced_one_way(model)
    scale = 4 * float(np.std(model.y))
    post = quadrature(model, {"default": {"family": "half-normal", "scale": scale}})
    m = post.marginals
    v, t = m.squeezes[0].u(m.z[0])[:, None], m.grid.t
    u, e = np.exp(2 * (v + t)), np.exp(2 * t)
    F = m.grid.F + m.grid.slope + 0.5 * (u + e) / scale**2 + (v + t) + t - np.log(e) - np.log(e + 5 * u)
    w = np.exp(F - F.max())
    w /= w.sum()
    at = np.array([0.05, 0.2, 0.45, 0.7])
    gap = m.squeezes[0].z(0.5 * np.log(at / (1 - at)))[:, None] - m.z[0]
    steps = 0.5 + sici(np.pi * gap / (m.z[0][1] - m.z[0][0]))[0] / np.pi
    np.testing.assert_allclose(steps @ w.sum(axis=1), exact.icc_cdf(at), atol=1e-6)
    s, lam = exact.residual, exact.total_of_group
    precision, _ = quad(lambda p: lam.sf(s.ppf(p)) / s.ppf(p), 0, 1, epsabs=0, epsrel=1e-8, limit=200)
    assert float((w / e).sum()) == pytest.approx(precision / exact.admissible, rel=1e-6)


def test_quadrature__without_random_effects_is_inverse_gamma(rng):
    X = np.column_stack([np.ones(14), rng.normal(size=14)])
    model = vc.Model(X @ [3.0, 1.0] + rng.normal(size=14), X)
    post = quadrature(model, InverseGamma(2.5, 1.7))
    exact = conjugate.residual_only(model, 2.5, 1.7)
    p = np.array([0.001, 0.1, 0.5, 0.9, 0.999])
    np.testing.assert_allclose(post.quantile("residual:var", p), exact.variance.ppf(p), rtol=1e-9)
    assert post.theta_mean[0] == pytest.approx(exact.variance.mean(), rel=1e-9)
    for j, name in enumerate(post.beta_names):
        np.testing.assert_allclose(post.quantile(name, p), exact.coefficient(j).ppf(p), rtol=1e-8)


@pytest.mark.parametrize("data", [dyestuff, dyestuff2])
def test_quadrature__is_the_ratio_posterior_with_the_residual_integrated_out(data):
    """Flat in (σ_u², σ_e²): a = −2, b = 0, π = 1; an integral over γ alone."""
    post = quadrature(data(), "flat-var")
    exact = conjugate.ratio_posterior(data(), lambda gamma: np.zeros(len(gamma)), -2.0, 0.0)
    p = np.array([0.02, 0.3, 0.5, 0.8, 0.98])
    gamma = exact.quantile(p)
    np.testing.assert_allclose(post.derive("ratio = Batch / residual").cdf(gamma), p, atol=1e-8)
    np.testing.assert_allclose(post.derive("icc = Batch / total").quantile(p), gamma / (1 + gamma), rtol=1e-6)


def test_conjugate__says_what_it_needs():
    with pytest.raises(ModelError, match="one random intercept"):
        conjugate.balanced_one_way(sleepstudy())
    with pytest.raises(ModelError, match="without random effects"):
        conjugate.residual_only(dyestuff(), 1.0, 1.0)
