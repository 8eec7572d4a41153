"""Standard errors of θ̂ are the curvature of an independent log-likelihood, differenced twice; of functions, by hand."""

from itertools import islice

import numpy as np
import pytest
from classics import dyestuff2, sleepstudy
from hypothesis import given
from oracle import derivatives, hessian, loglik_of, plain
from strategies import KINDS, draw_problem, problems

import vcbench as vc
from vcbench import Status
from vcbench.errors import MethodError

# a fourth-order difference of a difference with steps of 1e-2 SE: errors of 1e-6 at most for |ℓ| < 1000
REL = 2e-5


def curvature(model, criterion):
    """ℓ(θ) of the oracle, ready to be differenced."""
    y = model.y - (0.0 if model.offset is None else model.offset)
    Vs = derivatives(model.components, model.n_obs)
    return lambda theta: loglik_of(y, model.X, Vs, theta, criterion)


def check_covariance(got, want):
    size = np.sqrt(np.outer(np.diag(want), np.diag(want)))
    assert (np.abs(got - want) <= REL * size).all(), f"{got}\nis not\n{want}"


@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_theta_cov__of_sleepstudy_is_the_inverse_numerical_hessian(criterion):
    fit = vc.fit(sleepstudy(), criterion=criterion)
    H = hessian(curvature(fit.model, criterion), fit.theta_values, 1e-2 * fit.theta_se.to_numpy())
    check_covariance(fit.theta_cov(), np.linalg.inv(-H))


@given(problems())
def test_theta_cov__of_an_interior_fit_is_the_inverse_numerical_hessian(p):
    for criterion in ("reml", "ml"):
        fit = vc.fit(p.model, criterion=criterion)
        if fit.status is Status.CONVERGED:
            H = hessian(curvature(p.model, criterion), fit.theta_values, 2e-3 * fit.theta_se.to_numpy())
            check_covariance(fit.theta_cov(), np.linalg.inv(-H))


def singular_fits():
    """Problems of random slopes whose maximum has a rank of one."""
    for seed in range(40):
        p = draw_problem("slope-un", 8, 5, n_covariates=0, zero=True, seed=seed)
        for criterion in ("reml", "ml"):
            fit = vc.fit(p.model, criterion=criterion)
            if fit.status is Status.AT_BOUNDARY and fit.theta_values[:3].min() != 0.0 and fit.rank[0] == 1:
                yield fit, criterion


def test_theta_cov__on_a_face_is_that_of_its_own_coordinates():
    """Ω̂ of rank one is ll ᵀ: Cov(vech Ω̂, σ̂²) = J H⁻¹ Jᵀ, H the numerical Hessian in (l, σ²)."""
    fits = list(islice(singular_fits(), 4))
    assert len(fits) == 4
    for fit, criterion in fits:
        a, c, b, s = fit.theta_values
        assert a * b - c * c == pytest.approx(0, abs=1e-12 * a * b)
        ell = curvature(fit.model, criterion)
        x = np.array([np.sqrt(a), c / np.sqrt(a), s])
        J = np.array([[2 * x[0], 0, 0], [x[1], x[0], 0], [0, 2 * x[1], 0], [0, 0, 1]])
        step = 2.5e-3 * np.array([np.hypot(x[0], x[1]), np.hypot(x[0], x[1]), s])
        H = hessian(lambda x, ell=ell: ell(np.array([x[0] ** 2, x[0] * x[1], x[1] ** 2, x[2]])), x, step)
        check_covariance(fit.theta_cov(), J @ np.linalg.inv(-H) @ J.T)


def test_theta_cov__beside_a_zero_variance_is_that_of_the_smaller_model():
    seen = 0
    for seed in range(30):
        p = draw_problem("crossed", 7, 4, zero=True, seed=seed)
        fit = vc.fit(p.model)
        if fit.theta_values[0] != 0.0 or fit.theta_values[1] == 0.0:
            continue
        smaller = vc.fit(vc.Model(p.model.y, p.model.X, p.model.components[1:]))
        check_covariance(fit.theta_cov()[1:, 1:], smaller.theta_cov())
        assert np.isnan(fit.theta_cov()[0]).all()
        assert np.isnan(fit.theta_cov()[:, 0]).all()
        assert fit.beta_se.to_numpy() == pytest.approx(smaller.beta_se.to_numpy(), rel=1e-6)
        seen += 1
    assert seen >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_theta_cov__is_the_inverse_of_the_information_asked_for(kind, criterion):
    fit = next(
        f
        for f in (vc.fit(draw_problem(kind, 9, 6, seed=s).model, criterion=criterion) for s in range(60))
        if f.status is Status.CONVERGED
    )
    want = plain(fit.model, fit.theta_values, criterion)
    for name in ("observed", "expected", "average"):
        check_covariance(fit.theta_cov(name), np.linalg.inv(getattr(want, name)))
    assert np.array_equal(fit.theta_cov(), fit.theta_cov("observed"))
    assert fit.theta_se.to_numpy() == pytest.approx(np.sqrt(np.diag(fit.theta_cov())))
    assert fit.beta_cov() == pytest.approx(want.beta_cov, rel=1e-7, abs=1e-9 * np.abs(want.beta_cov).max())


def test_theta_cov__unknown_kind_is_named():
    with pytest.raises(MethodError, match=r"unknown cov_type `sandwich`\. Choose from observed, expected, average"):
        vc.fit(sleepstudy()).theta_cov("sandwich")


class TestScales:
    """`varcomp` and `derive`: the delta method in the words of a mixed model."""

    def test_varcomp__var_is_theta(self):
        fit = vc.fit(sleepstudy())
        table = fit.varcomp()
        assert list(table.columns) == ["component", "parameter", "estimate", "se", "lower", "upper"]
        assert table["component"].tolist() == ["Subject"] * 3 + ["residual"]
        assert table["parameter"].tolist() == ["var((Intercept))", "cov((Intercept),Days)", "var(Days)", "var"]
        assert (table["estimate"].to_numpy() == fit.theta_values).all()
        assert (table["se"].to_numpy() == fit.theta_se.to_numpy()).all()
        assert table["lower"].to_numpy() == pytest.approx(fit.theta_values - 1.959963984540054 * fit.theta_se)
        assert fit.varcomp(level=0.9)["upper"].to_numpy() == pytest.approx(
            fit.theta_values + 1.6448536269514722 * fit.theta_se
        )

    @pytest.mark.parametrize("cov_type", [None, "expected", "average"])
    def test_varcomp__sd_and_correlation_by_hand(self, cov_type):
        fit = vc.fit(sleepstudy())
        (a, c, b, s), cov = fit.theta_values, fit.theta_cov(cov_type)
        table = fit.varcomp("sd", cov_type=cov_type)
        assert table["parameter"].tolist() == ["sd((Intercept))", "cor((Intercept),Days)", "sd(Days)", "sd"]
        rho = c / np.sqrt(a * b)
        g = np.array([-rho / (2 * a), 1 / np.sqrt(a * b), -rho / (2 * b), 0])
        want = [
            np.sqrt(cov[0, 0] / (4 * a)),
            np.sqrt(g @ cov @ g),
            np.sqrt(cov[2, 2] / (4 * b)),
            np.sqrt(cov[3, 3] / (4 * s)),
        ]
        assert table["estimate"].to_numpy() == pytest.approx([np.sqrt(a), rho, np.sqrt(b), np.sqrt(s)], rel=1e-14)
        assert table["se"].to_numpy() == pytest.approx(want, rel=1e-10)
        only = fit.varcomp("cor", cov_type=cov_type)
        assert only["parameter"].tolist() == ["cor((Intercept),Days)"]
        assert only["se"].to_numpy() == pytest.approx([want[1]], rel=1e-10)

    def test_varcomp__names_with_commas_and_colons_keep_their_halves(self):
        rng = np.random.default_rng(1)
        Z = np.column_stack([np.ones(60), rng.normal(size=60)])
        group = np.repeat(np.arange(12), 5)
        y = rng.normal(size=60) + rng.normal(size=12)[group] + rng.normal(size=12)[group] * Z[:, 1]
        fit = vc.fit(
            vc.Model(y, components=[vc.Component(Z, name="a:b", group=group, columns=["poly(x, 2)1", "I(x,y)"])])
        )
        assert fit.varcomp()["component"].tolist() == ["a:b"] * 3 + ["residual"]
        a, c, b, _ = fit.theta_values
        table = fit.varcomp("cor")
        assert table["parameter"].tolist() == ["cor(poly(x, 2)1,I(x,y))"]
        assert table["estimate"].tolist() == pytest.approx([c / np.sqrt(a * b)])

    def test_varcomp__unknown_scale_is_named(self):
        with pytest.raises(MethodError, match=r'unknown scale `cov`\. Choose "var", "sd" or "cor"'):
            vc.fit(sleepstudy()).varcomp("cov")

    def test_derive__heritability_by_hand(self):
        fit = next(
            f
            for f in (vc.fit(draw_problem("K", 9, 6, seed=s).model) for s in range(30))
            if f.status is Status.CONVERGED
        )
        u, e = fit.theta_values
        g = np.array([e, -u]) / (u + e) ** 2
        se = np.sqrt(g @ fit.theta_cov() @ g)
        for expression in ("h2 = a / total", "h2 = a / (a + residual)", "h2 = `a:var` / (`a:var` + `residual:var`)"):
            got = fit.derive(expression)
            assert got.name == "h2"
            half = 1.959963984540054 * se
            want = {"estimate": u / (u + e), "se": se, "lower": u / (u + e) - half, "upper": u / (u + e) + half}
            assert got.to_dict() == pytest.approx(want, rel=1e-10)

    def test_derive__total_is_the_sum_of_the_variances_not_of_covariances(self):
        fit = vc.fit(sleepstudy())
        assert fit.derive("total")["estimate"] == pytest.approx(fit.theta_values[[0, 2, 3]].sum())

    def test_derive__on_the_boundary_has_a_value_and_no_error(self):
        fit = vc.fit(dyestuff2())
        got = fit.derive("icc = Batch / total")
        assert got["estimate"] == 0.0
        assert np.isnan(got["se"])
        assert fit.derive("residual")["se"] == fit.theta_se.iloc[1]

    def test_derive__unknown_name_is_named(self):
        with pytest.raises(MethodError, match=r"unknown name `batch` .* Did you mean `Batch`"):
            vc.fit(dyestuff2()).derive("icc = batch / total")

    def test_confint__wald_is_absent_on_the_boundary(self):
        fit = vc.fit(dyestuff2())
        ci = fit.confint()
        assert ci.index.tolist() == ["Batch:var((Intercept))", "residual:var", "(Intercept)"]
        assert ci.iloc[0].isna().all()
        half = 1.959963984540054 * fit.beta_se.iloc[0]
        assert ci.iloc[2].tolist() == pytest.approx([fit.beta.iloc[0] - half, fit.beta.iloc[0] + half])
        with pytest.raises(MethodError, match="unknown interval `profil`"):
            fit.confint("profil")

    def test_tidy__has_a_row_for_every_parameter(self):
        fit = vc.fit(sleepstudy())
        t = fit.tidy()
        assert t["kind"].tolist() == ["variance"] * 4 + ["fixed"] * 2
        assert t["parameter"].tolist() == [*fit.theta.index, *fit.beta.index]
        assert t["estimate"].tolist() == [*fit.theta_values, *fit.beta_values]
        assert t["se"].tolist() == [*fit.theta_se, *fit.beta_se]
        assert t[["lower", "upper"]].to_numpy() == pytest.approx(fit.confint().to_numpy())
