"""Quadrature is exact: against closed forms, against brute force, against numbers of an independent grid."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy
from oracle import derivatives
from scipy import stats
from scipy.special import logsumexp
from strategies import draw_problem

import vcbench as vc
from vcbench.bayes import PC, Flat, HalfNormal, HalfT, quadrature
from vcbench.bayes.density import Squeeze
from vcbench.bayes.priors import logpdf_log
from vcbench.errors import MethodError, ModelError
from vcbench.status import Status

ONEWAY = Path(vc.__file__).parents[2] / "shared" / "data" / "measures" / "oneway_unbalanced.csv"


@pytest.fixture
def unbalanced():
    """A simulated unbalanced one-way layout with a covariate, kept with answers of an independent implementation."""
    if not ONEWAY.is_file():
        pytest.skip(f"shared data absent: measures/{ONEWAY.name} of ../shared/data")
    return vc.Model.from_formula("y ~ x + (1 | g)", pd.read_csv(ONEWAY))


def by_brute_force(model, priors, grids):
    """(log Z, mean of θ, sd of θ, masses) on the product of grids of log σ: every V formed and factorised as n × n."""
    V = derivatives(model.components, model.n_obs)
    y = model.y - (0.0 if model.offset is None else model.offset)
    W = np.column_stack([model.X, y])
    mesh = np.stack([m.ravel() for m in np.meshgrid(*grids, indexing="ij")], axis=1)
    d, n = model.n_fixed, model.n_obs
    log_p = []
    for part in np.array_split(mesh, max(1, len(mesh) * n * n // 20_000_000)):
        matrices = np.tensordot(np.exp(2 * part), V, axes=1)
        G = np.swapaxes(W[None], 1, 2) @ np.linalg.solve(matrices, np.broadcast_to(W, (len(part), *W.shape)))
        quad = G[:, d, d] - (G[:, d, :d] * np.linalg.solve(G[:, :d, :d], G[:, :d, d:])[..., 0]).sum(axis=1)
        logdet = np.linalg.slogdet(matrices)[1] + np.linalg.slogdet(G[:, :d, :d])[1]
        ll = -0.5 * ((n - d) * math.log(2 * math.pi) + logdet + quad)
        log_p.append(ll + sum(logpdf_log(p, part[:, k]) for k, p in enumerate(priors)))
    log_p = np.concatenate(log_p)
    log_z = logsumexp(log_p) + sum(math.log(g[1] - g[0]) for g in grids)
    w = np.exp(log_p - logsumexp(log_p))
    theta = np.exp(2 * mesh)
    mean = w @ theta
    return log_z, mean, np.sqrt(w @ (theta - mean) ** 2), w, mesh


def test_quadrature__is_brute_force_on_dyestuff():
    model = dyestuff()
    s = float(np.std(model.y, ddof=1))
    for priors in ([HalfNormal(s), HalfNormal(s)], [PC(2 * s), HalfT(4.0, s)]):
        post = quadrature(model, dict(zip(("Batch", "residual"), priors, strict=True)))
        top = math.log(s) + (2.5 if isinstance(priors[0], HalfNormal) else 4.5)
        grids = [np.arange(math.log(s) - 20, top, 0.15), np.arange(math.log(s) - 1.6, math.log(s) + 1.9, 0.05)]
        log_z, mean, sd, *_ = by_brute_force(model, priors, grids)
        assert post.log_evidence == pytest.approx(log_z, abs=2e-8)  # the brute grid leaves out e^-20 below
        np.testing.assert_allclose(post.theta_mean, mean, rtol=1e-7)
        np.testing.assert_allclose(post.theta_sd, sd, rtol=1e-7)
        assert post.status is Status.CONVERGED
        assert post.error < 1e-8
        assert post.edge < 1e-9


def test_quadrature__is_brute_force_with_three_variances():
    """Two matrices (one eigendecomposition a node) and two independent effects of one factor (closed forms).

    The data rule out variances of zero, so that windows of a few units on the log scale hold all but 1e-8.
    """
    rng = np.random.default_rng(8)
    Z1, Z2, codes = rng.normal(size=(36, 9)), rng.normal(size=(36, 8)), np.arange(36) % 9
    A = np.column_stack([np.ones(36), rng.normal(size=36)])
    y = 2 * Z1 @ rng.normal(size=9) + 1.5 * Z2 @ rng.normal(size=8) + 0.4 * rng.normal(size=36)
    y_groups = (A * (rng.normal(size=(9, 2)) * [2.0, 1.5])[codes]).sum(axis=1) + 0.4 * rng.normal(size=36)
    two = vc.Model(y, None, [vc.Component(Z1, name="a"), vc.Component(Z2, name="b")])
    one = vc.Model(y_groups, None, [vc.Component(A, name="g", group=codes, cov=vc.covariance.diag())])
    for model in (two, one):
        post = quadrature(model, HalfNormal(1.0))
        grids = []
        for name in model.theta_names:
            low, high = post.marginal(name).quantile([1e-9, 1 - 1e-10], "log")
            grids.append(np.linspace(low - 0.2, high + 0.2, 27))
        log_z, mean, sd, *_ = by_brute_force(model, [HalfNormal(1.0)] * 3, grids)
        assert post.log_evidence == pytest.approx(log_z, abs=1e-7)
        np.testing.assert_allclose(post.theta_mean, mean, rtol=1e-7)
        np.testing.assert_allclose(post.theta_sd, sd, rtol=1e-6)


def test_quadrature__without_random_effects_is_inverse_gamma_and_student_t(rng):
    X = np.column_stack([np.ones(12), rng.normal(size=12)])
    model = vc.Model(X @ [3.0, 1.0] + rng.normal(size=12), X)
    post = quadrature(model, Flat("log"))  # p(σ²) ∝ 1/σ²
    beta, (ss,) = np.linalg.lstsq(X, model.y, rcond=None)[:2]
    p = np.array([0.001, 0.025, 0.3, 0.5, 0.975, 0.999])
    np.testing.assert_allclose(post.quantile("residual:var", p), ss / stats.chi2.ppf(1 - p, 10), rtol=1e-9)
    assert post.theta_mean[0] == pytest.approx(ss / 8, rel=1e-9)
    assert post.theta_sd[0] == pytest.approx(ss / 8 / math.sqrt(3), rel=1e-7)
    cov = np.linalg.inv(X.T @ X) * ss / 10
    for j, name in enumerate(model.X_names):
        exact = beta[j] + math.sqrt(cov[j, j]) * stats.t.ppf(p, 10)
        np.testing.assert_allclose(post.quantile(name, p), exact, rtol=1e-8)
    np.testing.assert_allclose(post.beta_cov, cov * 10 / 8, rtol=1e-9)
    np.testing.assert_allclose(post.mode("log"), [ss / 10], rtol=1e-9)


def test_quadrature__marginals_carry_the_moments_of_the_grid():
    """Marginals are made by other sums on other nodes: their means and SDs must be the joint grid's."""
    uncorrelated = vc.Model.from_formula("Reaction ~ Days + (Days || Subject)", frame("sleepstudy"))
    for model in (dyestuff(), dyestuff2(), uncorrelated):
        post = quadrature(model)
        for k, name in enumerate(model.theta_names):
            m = post.marginal(name)
            theta = np.exp(2 * m.squeeze.u(m.z))
            mean = m.density @ theta * m.step
            sd = math.sqrt(m.density @ (theta - mean) ** 2 * m.step)
            assert mean == pytest.approx(post.theta_mean[k], rel=1e-8)
            assert sd == pytest.approx(post.theta_sd[k], rel=1e-8)


def test_marginal__cdf_density_and_quantiles_agree():
    post = quadrature(dyestuff2())
    for name in post.theta_names:
        m = post.marginal(name)
        p = np.array([0.01, 0.3, 0.5, 0.9, 0.999])
        for scale in ("var", "sd", "log"):
            x = m.quantile(p, scale)
            np.testing.assert_allclose(m.cdf(x, scale), p, atol=1e-12)
            h = 1e-5 * np.abs(x)
            slope = (m.cdf(x + h, scale) - m.cdf(x - h, scale)) / (2 * h)
            np.testing.assert_allclose(m.pdf(x, scale), slope, rtol=1e-5)  # central difference
        assert m.cdf(0.0) == 0
        assert m.pdf(-1.0) == 0
    beta = post.marginal("(Intercept)")
    np.testing.assert_allclose(beta.cdf(beta.quantile(p)), p, atol=1e-11)


def test_quadrature__has_a_half_normals_mass_at_zero():
    """p(σ) is flat at σ → 0, so P(σ ≤ ε) = ε p(0): the tail on the log scale is integrated, not cut."""
    m = quadrature(dyestuff2()).marginal("Batch:var((Intercept))")
    eps = np.array([1e-5, 1e-4, 1e-3])
    np.testing.assert_allclose(m.cdf(eps, "sd") / eps, m.pdf(1e-4, "sd"), rtol=1e-6)


def test_quadrature__is_the_independent_grid(unbalanced):
    """64 × 64 midpoint grid of an independent implementation, half-normal(2): its digits move by 9e-7 from 32 × 32."""
    post = quadrature(unbalanced, HalfNormal(2.0))
    np.testing.assert_allclose(post.sd_mean, [1.345554634904826, 0.7051413029116029], rtol=3e-6)
    np.testing.assert_allclose(post.sd_sd, [0.2504460842435658, 0.057859421327000435], rtol=2e-5)


def test_mode__is_reml_under_the_flat_prior_of_its_own_scale_and_moves_with_the_jacobian(unbalanced):
    """Numbers of the independent implementation; its maxima come from a simplex search and hold to 1e-7."""
    var, sd = quadrature(unbalanced, "flat-var"), quadrature(unbalanced, "flat-sd")
    np.testing.assert_allclose(var.mode(), [1.6288158903289938, 0.48123122964743853], rtol=2e-7)
    np.testing.assert_allclose(sd.mode(), var.mode(), rtol=1e-8)
    np.testing.assert_allclose(var.mode("log"), [1.8527333741204925, 0.49273217641835965], rtol=2e-7)
    np.testing.assert_allclose(sd.mode("log"), [1.7343981878596597, 0.48688681784955257], rtol=2e-7)
    np.testing.assert_allclose(sd.mode("log"), var.mode("sd"), rtol=1e-8)
    ml = quadrature(unbalanced, "flat-var", criterion="ml")
    np.testing.assert_allclose(ml.mode(), [1.5395960184943909, 0.4753610813911472], rtol=2e-7)
    np.testing.assert_allclose(ml.theta_mean, var.theta_mean)  # the posterior is one and the same


@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_mode__under_flat_priors_is_the_likelihood_estimate(criterion):
    uncorrelated = vc.Model.from_formula("Reaction ~ Days + (Days || Subject)", frame("sleepstudy"))
    for model in (dyestuff(), uncorrelated):
        fit = vc.fit(model, criterion=criterion, tol=1e-10)
        np.testing.assert_allclose(quadrature(model, "flat-var", criterion).mode(), fit.theta, rtol=1e-6)


def test_mode__may_be_zero():
    post = quadrature(dyestuff2())
    fit = vc.fit(dyestuff2(), criterion="reml")
    assert fit.theta.iloc[0] == 0
    assert post.mode().iloc[0] == 0
    assert post.mode("log").iloc[0] > 0  # on the log scale the density falls towards 0
    flat = quadrature(dyestuff2(), "flat-var").mode()
    np.testing.assert_allclose(flat, fit.theta, rtol=1e-7)


def test_quadrature__follows_the_units_of_y():
    data = frame("dyestuff")
    small = quadrature(vc.Model.from_formula("Yield ~ 1 + (1 | Batch)", data))
    large = quadrature(vc.Model.from_formula("y ~ 1 + (1 | Batch)", data.assign(y=1000 * data["Yield"])))
    np.testing.assert_allclose(large.theta_mean, 1e6 * small.theta_mean, rtol=1e-9)
    name = small.theta_names[0]
    np.testing.assert_allclose(large.quantile(name, [0.1, 0.9]), 1e6 * small.quantile(name, [0.1, 0.9]), rtol=1e-9)


def test_quadrature__reports_no_moment_where_the_prior_leaves_none():
    """Flat on σ with six batches: p(σ_u | y) falls like σ_u^-5, so that σ_u² has a mean but no variance."""
    post = quadrature(dyestuff(), "flat-sd")
    assert np.isfinite(post.theta_mean).all()
    assert np.isnan(post.theta_sd[0])
    assert np.isfinite(post.theta_sd[1])
    assert np.isfinite(post.quantile(post.theta_names[0], 0.975))


def test_posterior__shows_itself_as_a_table():
    text = repr(quadrature(dyestuff()))
    for part in (
        "Exact posterior, CONVERGED, log evidence -162.437285",
        "median",
        "Batch:var((Intercept))",
        "(Intercept)",
    ):
        assert part in text


def test_quadrature__says_what_it_cannot_do():
    with pytest.raises(ModelError, match=r"this model has 4 parameters: Subject:var\(\(Intercept\)\), Subject:cov"):
        quadrature(sleepstudy())
    with pytest.raises(ModelError, match='`Flat\\("log"\\)` on `Batch:var\\(\\(Intercept\\)\\)` is improper whatever'):
        quadrature(dyestuff(), "flat-log")
    two = frame("dyestuff")
    two = vc.Model.from_formula("Yield ~ 1 + (1 | Batch)", two[two["Batch"].isin(["A", "B"])])
    with pytest.raises(ModelError, match="rank\\[X Z\\] − rank X = 1, below 2"):
        quadrature(two, "flat-sd")
    with pytest.raises(ModelError, match="under a flat prior"):
        quadrature(dyestuff(), {"beta": {"family": "normal", "scale": 1}})
    with pytest.raises(MethodError, match="unknown criterion"):
        quadrature(dyestuff(), criterion="map")
    post = quadrature(dyestuff())
    with pytest.raises(MethodError, match="unknown scale `variance`"):
        post.mode("variance")
    with pytest.raises(MethodError, match="strictly between 0 and 1"):
        post.quantile("residual:var", [0.5, 1.0])
    with pytest.raises(ModelError, match=r"no parameter `residual`.*Did you mean `residual:var`"):
        post.quantile("residual", 0.5)


def test_quadrature__holds_from_one_degree_of_freedom_to_thousands_of_groups(rng):
    """Heavy tails at one end, a peak of width 0.01 in a box of 30 units at the other."""
    few = vc.Model(np.array([1.0, 2.0, 4.0, 4.5]), None, [vc.Component(np.ones(4), name="g", group=[0, 0, 1, 1])])
    codes = np.repeat(np.arange(3000), 4)
    many = vc.Model(
        rng.normal(size=3000)[codes] + rng.normal(size=12000),
        None,
        [vc.Component(np.ones(12000), name="g", group=codes)],
    )
    for model in (few, many):
        post = quadrature(model)
        assert post.status is Status.CONVERGED
        for k, name in enumerate(model.theta_names):
            m = post.marginal(name)
            theta = np.exp(2 * m.squeeze.u(m.z))
            assert m.density @ theta * m.step == pytest.approx(post.theta_mean[k], rel=1e-7)
    np.testing.assert_allclose(post.theta_mean, vc.fit(many).theta, rtol=2e-3)  # skewness is of the order 1/G


@pytest.mark.parametrize(
    "kind",
    ["one-way-unbalanced", "slope-diag", "slope-only", "K", "K-centred", "K-incidence", "Z-wide", "two-Z", "nested"],
)
def test_quadrature__settles_for_every_structure(kind):
    """Variances of zero, no rows outside Z, units of 1e-3 and 1e3: converged, and the marginals carry the moments."""
    for seed in (5, 6, 21):
        problem = draw_problem(
            kind,
            n_groups=4 + seed % 3,
            per_group=3 + seed % 3,
            n_covariates=seed % 3,
            zero=bool(seed % 2),
            log10_scale=(0, -3, 3)[seed % 3],
            seed=seed,
        )
        post = quadrature(problem.model)
        assert post.status is Status.CONVERGED
        assert np.isfinite(post.mode()).all()
        for k, name in enumerate(post.theta_names):
            m = post.marginal(name)
            theta = np.exp(2 * m.squeeze.u(m.z))
            assert m.density @ theta * m.step == pytest.approx(post.theta_mean[k], rel=1e-6)
            assert (np.diff(post.quantile(name, [0.025, 0.5, 0.975])) > 0).all()


def test_squeeze__is_inverted_by_the_wright_omega_function():
    z = np.linspace(-3, 8, 50)
    squeeze = Squeeze(0.5, 0.3)
    u = squeeze.u(z)
    assert u[0] < -1e4
    np.testing.assert_allclose(squeeze.z(u), z, rtol=1e-12)
    np.testing.assert_allclose(np.gradient(u[25:], z[25:])[1:-1], squeeze.slope(z[25:])[1:-1], rtol=0.05)
