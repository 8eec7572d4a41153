"""Quadrature by a model's own kernel is exact: structured residuals and effects, splits, against dense grids."""

import math

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff, frame
from scipy import stats
from scipy.integrate import dblquad
from scipy.special import expit, logsumexp

import vcbench as vc
from vcbench import kernels
from vcbench.bayes import Beta, Flat, HalfNormal, InverseGamma, Split, quadrature
from vcbench.bayes.by_kernel import ByKernel
from vcbench.bayes.closed_form import ClosedForm
from vcbench.bayes.log_prior import log_split
from vcbench.bayes.priors import logpdf_log
from vcbench.bayes.quadrature import check_model, integrate
from vcbench.errors import MethodError, ModelError
from vcbench.status import Status


def ar1_layout(rng, n_units=6, m=5, rho=0.5):
    """Six short series with an AR(1) residual and a slope."""
    unit, time = np.repeat(np.arange(n_units), m), np.tile(np.arange(m), n_units)
    R = rho ** np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    e = rng.standard_normal((n_units, m)) @ np.linalg.cholesky(R).T
    data = pd.DataFrame({"unit": unit, "time": time, "x": rng.standard_normal(len(unit))})
    return data.assign(y=1 + data["x"] + 2 * e.ravel())


def dense_loglik(y, X, V, t=0.0):
    """ℓ_REML(e^2t V) by the plain formula, at one t or at many."""
    n, d = X.shape
    Vi = np.linalg.inv(V)
    A = X.T @ Vi @ X
    r = y - X @ np.linalg.solve(A, X.T @ Vi @ y)
    logdet = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1]
    return -0.5 * ((n - d) * (math.log(2 * math.pi) + 2 * t) + logdet + r @ Vi @ r * np.exp(-2 * t))


@pytest.fixture(scope="module")
def series():
    data = ar1_layout(np.random.default_rng(4))
    return data, vc.Model.from_formula("y ~ x", data, residual="ar1(time, group=unit)")


def test_quadrature__of_ar1_is_a_dense_grid_in_variance_and_rho(series):
    """Gauss–Legendre in ρ, even nodes in log σ, every V formed and inverted: another sum in other coordinates."""
    data, model = series
    post = quadrature(model, {"residual": [HalfNormal(3.0), Beta(2.0, 1.5)]})
    y, X = data["y"].to_numpy(), np.column_stack([np.ones(len(data)), data["x"]])
    same = np.equal.outer(data["unit"].to_numpy(), data["unit"].to_numpy())
    gap = np.abs(np.subtract.outer(data["time"].to_numpy(), data["time"].to_numpy()))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    u = np.linspace(-1.0, 3.0, 81)
    log_p = np.empty((len(nodes), len(u)))
    for i, rho in enumerate(nodes):
        R = np.where(same, rho**gap, 0.0)
        prior = stats.beta(2.0, 1.5).logpdf((rho + 1) / 2) - math.log(2)
        log_p[i] = dense_loglik(y, X, R, u) + prior + logpdf_log(HalfNormal(3.0), u) + math.log(weights[i])
    log_z = float(logsumexp(log_p)) + math.log(u[1] - u[0])
    assert post.log_evidence == pytest.approx(log_z, abs=1e-7)
    w = np.exp(log_p - logsumexp(log_p))
    rho_mean = float((w * nodes[:, None]).sum())
    assert post.theta_mean[1] == pytest.approx(rho_mean, rel=1e-7)
    assert post.theta_sd[1] == pytest.approx(math.sqrt((w * (nodes[:, None] - rho_mean) ** 2).sum()), rel=1e-6)
    assert post.theta_mean[0] == pytest.approx(float((w * np.exp(2 * u)).sum()), rel=1e-7)
    assert post.status is Status.CONVERGED


def test_quadrature__by_kernel_is_that_by_sufficient_statistics():
    """The same likelihood asked of the kernel, θ by θ: evidence, moments, marginals and mode agree."""
    for model, priors in ((dyestuff(), "half-normal"), (dyestuff(), InverseGamma(3.0))):
        plain = quadrature(model, priors)
        by_kernel = integrate(ByKernel(kernels.build(model)), model, priors)
        assert by_kernel.log_evidence == pytest.approx(plain.log_evidence, abs=2e-8)
        np.testing.assert_allclose(by_kernel.theta_mean, plain.theta_mean, rtol=1e-7)
        np.testing.assert_allclose(by_kernel.theta_sd, plain.theta_sd, rtol=1e-7)
        np.testing.assert_allclose(by_kernel.beta_cov, plain.beta_cov, rtol=1e-7)
        np.testing.assert_allclose(by_kernel.mode("var"), plain.mode("var"), rtol=1e-7)
        for name in model.theta_names:
            p = [0.025, 0.5, 0.975]
            np.testing.assert_allclose(by_kernel.quantile(name, p), plain.quantile(name, p), rtol=1e-6)


def test_quadrature__by_a_closed_form_is_that_by_the_kernel(series):
    """AR(1) has a likelihood of a few sums; the model's kernel gives the same posterior."""
    _, model = series
    by_kernel = integrate(ByKernel(kernels.build(model)), model)
    closed = quadrature(model)
    assert isinstance(closed.modes.density.ratios.likelihood, ClosedForm)
    assert closed.log_evidence == pytest.approx(by_kernel.log_evidence, abs=1e-9)
    np.testing.assert_allclose(closed.theta_mean, by_kernel.theta_mean, rtol=1e-9)
    np.testing.assert_allclose(closed.beta_cov, by_kernel.beta_cov, rtol=1e-9)


@pytest.mark.slow
def test_quadrature__of_three_structured_parameters_settles_and_keeps_its_moments():
    """An intercept beside AR(1), a decay with a nugget, compound symmetry of effects: margins carry the moments."""
    data = frame("sleepstudy")
    layouts = [
        {"formula": "Reaction ~ Days + (1 | Subject)", "residual": "ar1(Days, group=Subject)"},
        {"formula": "Reaction ~ Days", "residual": "exponential(Days, group=Subject) + nugget"},
        {"formula": "Reaction ~ Days + (Days | Subject)", "cov": {"Subject": "cs"}},
    ]
    for layout in layouts:
        model = vc.Model.from_formula(data=data, **layout)
        post = quadrature(model)
        assert post.status is Status.CONVERGED
        for k, name in enumerate(model.theta_names):
            m = post.marginal(name)
            mean = m.mean if hasattr(m, "mean") else m.density @ np.exp(2 * m.squeeze.u(m.z)) * m.step
            assert mean == pytest.approx(post.theta_mean[k], rel=1e-6)
            p = np.array([0.01, 0.5, 0.99])
            np.testing.assert_allclose(m.cdf(m.quantile(p)), p, atol=1e-8)


@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_mode__of_a_structured_model_under_flat_priors_is_the_likelihood_estimate(series, criterion):
    _, model = series
    fit = vc.fit(model, criterion=criterion, tol=1e-10)
    np.testing.assert_allclose(quadrature(model, "flat-var", criterion).mode(), fit.theta, rtol=1e-6)
    post = quadrature(model, "flat-var", criterion)
    np.testing.assert_allclose(post.beta_at(post.mode().to_numpy()), fit.beta, rtol=1e-6)


def test_split__in_log_sd_is_its_density_with_the_jacobian(rng):
    split = Split((1.5, 0.7, 2.0), HalfNormal(3.0), ("a", "b", "c"), (1.0, 2.5, 0.4))
    u = rng.normal(size=(3, 5))
    expected = split.logpdf(np.exp(2 * u.T)) + (2 * u + math.log(2)).sum(axis=0)
    np.testing.assert_allclose(log_split(split, list(u)), expected, rtol=1e-12)


def test_quadrature__under_a_split_of_the_total_is_a_dense_grid():
    """T half-normal, the batch's share uniform: integrated in (log T, logit w), where the prior is written by hand."""
    model = dyestuff()
    post = quadrature(model, {"total": Split(1.0, HalfNormal(60.0))})
    batch = frame("dyestuff")["Batch"].to_numpy()
    y, Z = model.y, np.equal.outer(batch, batch).astype(float)
    X = np.ones((30, 1))
    lt, lw = np.linspace(2.5, 5.6, 63), np.linspace(-24.0, 14.0, 153)
    log_p = np.empty((len(lw), len(lt)))
    for i, w in enumerate(expit(lw)):
        H = w * Z + (1 - w) * np.eye(30)
        own = math.log(w) + math.log1p(-w)  # dw = w(1 − w) d logit w
        log_p[i] = dense_loglik(y, X, H, lt) + own + stats.halfnorm(scale=60.0).logpdf(np.exp(lt)) + lt
    log_z = float(logsumexp(log_p)) + math.log((lt[1] - lt[0]) * (lw[1] - lw[0]))
    w = np.exp(log_p - logsumexp(log_p))
    assert post.log_evidence == pytest.approx(log_z, abs=1e-7)
    share = post.derive("icc = Batch / total")
    assert share.mean == pytest.approx(float((w * expit(lw)[:, None]).sum()), rel=1e-7)
    assert share.sd == pytest.approx(
        math.sqrt(float((w * expit(lw)[:, None] ** 2).sum()) - share.mean**2), rel=1e-6
    )  # fmt: skip
    assert post.theta_mean.sum() == pytest.approx(float((w * np.exp(2 * lt)).sum()), rel=1e-7)


def test_quadrature__is_adaptive_cubature_of_scipy():
    """Two variances integrated by scipy's nested adaptive rule in (σ_1, log σ_e), ℓ by its formula."""
    rng = np.random.default_rng(3)
    Z = rng.normal(size=(12, 4))
    y = Z @ rng.normal(size=4) + rng.normal(size=12)
    post = quadrature(vc.Model(y, None, [vc.Component(Z, name="a")]), HalfNormal(1.0))
    A, X = Z @ Z.T, np.ones((12, 1))
    top = float(dense_loglik(y, X, A + np.eye(12)))

    def density(u, a):
        V = a * a * A + math.exp(2 * u) * np.eye(12)
        prior = math.log(2 / math.pi) - 0.5 * (a * a + math.exp(2 * u)) + u
        return math.exp(dense_loglik(y, X, V) + prior - top)

    total, _ = dblquad(density, 0, 6.0, -6, 1.7, epsabs=0, epsrel=1e-7)
    assert post.log_evidence == pytest.approx(math.log(total) + top, abs=1e-6)


def test_quadrature__says_what_it_cannot_do_of_structures():
    data = frame("sleepstudy")
    fixed = vc.Model.from_formula(
        "Reaction ~ Days + (1 | Subject)",
        data,
        cov={"Subject": vc.covariance.fixed([[900.0]])},
        residual="ar1(Days, group=Subject)",
    )
    with pytest.raises(ModelError, match="the covariance of `Subject` is fixed"):
        check_model(fixed, None, "reml")
    series = vc.Model.from_formula("Reaction ~ Days + (1 | Subject)", data, residual="ar1(Days, group=Subject)")
    with pytest.raises(ModelError, match=r'`Flat\("log"\)` on `Subject:var\(\(Intercept\)\)` is improper'):
        quadrature(series, Flat("log"))


# --- functions of θ ---


def draws_of(post, n):
    """Independent draws of θ: cells of the grid, smoothed by rejection."""
    from vcbench.bayes.exact_draws import exact_draws

    return exact_draws(post, n, np.random.default_rng(2))[0]


def test_derive__of_an_icc_is_the_distribution_of_draws():
    """Against 40,000 independent draws, each quantile gated by the binomial error of its share (z = 4)."""
    post = quadrature(dyestuff())
    theta = draws_of(post, 40_000)
    for said, values in (
        ("icc = Batch / total", theta[:, 0] / theta.sum(axis=1)),
        ("total", theta.sum(axis=1)),
        ("cv = sqrt(residual) / sqrt(Batch + 100)", np.sqrt(theta[:, 1]) / np.sqrt(theta[:, 0] + 100)),
        ("bump = (Batch - residual)**2", (theta[:, 0] - theta[:, 1]) ** 2),
    ):
        made = post.derive(said)
        p = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
        seen = (values[:, None] <= made.quantile(p)).mean(axis=0)
        assert (np.abs(seen - p) < 4 * np.sqrt(p * (1 - p) / len(values)) + 2 * made.error).all(), said
        assert abs(values.mean() - made.mean) < 5 * values.std() / math.sqrt(len(values)), said


def test_derive__of_a_parameter_is_its_marginal():
    """Two ways of summing: the marginal along its own axis, and level sets of θ_k on the joint grid."""
    post = quadrature(dyestuff())
    for name in post.theta_names:
        made = post.derive(name)
        x = post.quantile(name, [0.01, 0.3, 0.5, 0.9, 0.999])
        np.testing.assert_allclose(made.cdf(x), [0.01, 0.3, 0.5, 0.9, 0.999], atol=3e-8)
        np.testing.assert_allclose(made.pdf(x), post.marginal(name).pdf(x), rtol=1e-5)
    sd = post.derive("residual:sd")
    np.testing.assert_allclose(sd.quantile([0.1, 0.9]) ** 2, post.quantile("residual:var", [0.1, 0.9]), rtol=1e-7)


def test_derive__says_what_it_cannot_do():
    post = quadrature(dyestuff())
    with pytest.raises(MethodError, match="holds coefficients"):
        post.derive("cv = sqrt(Batch) / `(Intercept)`")
    with pytest.raises(MethodError, match="unknown name `Btach`"):
        post.derive("icc = Btach / total")
    with pytest.raises(MethodError, match="does not vary"):
        post.derive("one = Batch / Batch")
    with pytest.raises(MethodError, match="does not exist"):
        post.derive("sqrt(Batch - 1000)")
