"""Draws from the prior have its law, for every structure; without a proper prior there are none."""

import numpy as np
import pytest
from classics import dyestuff, frame, sleepstudy
from scipy.stats import beta as beta_law
from scipy.stats import halfnorm, kstest

import vcbench as vc
from vcbench.bayes import LKJ, Beta, HalfNormal, Normal, Split, prior_predictive, twin
from vcbench.bayes.prior_choice import resolve
from vcbench.bayes.prior_draws import draw_theta
from vcbench.errors import MethodError, ModelError

ALPHA = 1e-4  # of each Kolmogorov–Smirnov test


def test_draw_theta__of_correlated_slopes_has_half_normal_sds_and_an_lkj_correlation():
    model = sleepstudy()
    priors = resolve(model, {"default": HalfNormal(3.0), "Subject": LKJ(2.0)})
    theta = draw_theta(model, priors, 2000, np.random.default_rng(1))
    names = list(model.theta_names)
    v0, c, v1, e = (theta[:, names.index(n)] for n in (names[0], names[1], names[2], names[3]))
    for variance in (v0, v1, e):
        assert kstest(np.sqrt(variance), halfnorm(scale=3.0).cdf).pvalue > ALPHA
    rho = c / np.sqrt(v0 * v1)
    assert kstest(0.5 * (1 + rho), beta_law(2.0, 2.0).cdf).pvalue > ALPHA
    assert abs(np.corrcoef(rho, v0)[0, 1]) < 4.5 / np.sqrt(2000)


def test_draw_theta__of_structures_has_the_parameters_own_laws():
    data = frame("sleepstudy")
    residual = vc.residual.ar1("Days", group="Subject")
    model = vc.Model.from_formula("Reaction ~ 1 + (1 | Subject)", data, residual=residual)
    priors = resolve(model, {"total": Split((2.0, 3.0), HalfNormal(5.0)), "residual:rho": Beta(3.0, 1.0)})
    theta = draw_theta(model, priors, 2000, np.random.default_rng(2))
    at = dict(zip(model.theta_names, theta.T, strict=True))
    assert kstest(0.5 * (1 + at["residual:rho"]), beta_law(3.0, 1.0).cdf).pvalue > ALPHA
    total = at["Subject:var((Intercept))"] + at["residual:var"]
    assert kstest(np.sqrt(total), halfnorm(scale=5.0).cdf).pvalue > ALPHA
    assert kstest(at["Subject:var((Intercept))"] / total, beta_law(2.0, 3.0).cdf).pvalue > ALPHA
    banded = vc.residual.banded(2, "Days", group="Subject")
    bands = vc.Model.from_formula("Reaction ~ 1", data, residual=banded)
    drawn = draw_theta(bands, resolve(bands), 100, np.random.default_rng(3))
    lags = np.abs(np.subtract.outer(np.arange(10), np.arange(10)))
    for _, rho1, rho2 in drawn:  # what is not positive definite was drawn again
        assert np.linalg.eigvalsh(np.choose(np.minimum(lags, 3), [1, rho1, rho2, 0]))[0] > 0


def test_prior_predictive__has_the_variance_that_its_draws_say():
    """y given (θ, β) has covariance V(θ): Σ (y − Xβ)²/diag V over draws and rows is about n each."""
    model = dyestuff()
    made = twin(model, {"default": HalfNormal(2.0), "beta": Normal(10.0)}, criterion="ml")
    drawn = prior_predictive(made, 2000, seed=4)
    theta = [np.asarray(drawn["prior"][n])[0] for n in model.theta_names]
    y, beta = np.asarray(drawn["prior_predictive"]["y"])[0], np.asarray(drawn["prior"]["beta"])[0]
    assert kstest(beta[:, 0] / 10, "norm").pvalue > ALPHA
    z = (y - beta) / np.sqrt(theta[0] + theta[1])[:, None]
    assert kstest(z[:, 0], "norm").pvalue > ALPHA
    within = (y - y.reshape(-1, 6, 5).mean(axis=2).repeat(5, axis=1)) / np.sqrt(theta[1])[:, None]
    ss = (within**2).sum(axis=1)
    assert abs(ss.mean() - 24) < 4.5 * np.sqrt(48 / 2000)
    again = prior_predictive(made, 2000, seed=4)
    np.testing.assert_array_equal(again["prior_predictive"]["y"], drawn["prior_predictive"]["y"])
    np.testing.assert_array_equal(drawn["observed_data"]["y"], model.y)


def test_prior_predictive__needs_proper_priors_and_says_so():
    made = twin(dyestuff())
    held = prior_predictive(made, 3, seed=1, beta=[5.0])
    assert (held["prior"]["beta"] == 5.0).all()
    with pytest.raises(ModelError, match=r"β has a flat prior.*pass `beta=`"):
        prior_predictive(made, 3)
    with pytest.raises(ModelError, match=r"`beta` has shape \(2,\); it must hold 1 finite"):
        prior_predictive(made, 3, beta=[1, 2])
    with pytest.raises(ModelError, match=r"`Batch:var\(\(Intercept\)\)` has a flat prior"):
        prior_predictive(twin(dyestuff(), {"Batch": "flat-sd"}), 3, beta=[0.0])
    with pytest.raises(MethodError, match="`n` is 0"):
        prior_predictive(made, 0, beta=[0.0])
    kept = twin(dyestuff(), {"beta": Normal(1.0)}, criterion="ml")
    with pytest.raises(ModelError, match="leave out `beta`"):
        prior_predictive(kept, 3, beta=[0.0])
