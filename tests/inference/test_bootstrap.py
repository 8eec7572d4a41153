"""The parametric bootstrap against distributions that are known: χ² of a variance, cumulants of mean squares."""

from functools import cache

import numpy as np
import pytest
from classics import dyestuff, dyestuff2, sleepstudy
from scipy import stats

import vcbench as vc
from vcbench.errors import MethodError
from vcbench.inference.bootstrap import Bootstrap
from vcbench.inference.simulation import simulate
from vcbench.status import Status

B = 1000


@cache
def iid() -> Bootstrap:
    """20 observations, one variance, REML: σ̂² is σ²χ²_19/19."""
    return vc.fit(vc.Model(np.random.default_rng(5).normal(3.0, 2.0, 20))).bootstrap(B, seed=1)


def quantile_error(law, q: float, n: int) -> float:
    """Standard error of the sample quantile of n draws."""
    return float(np.sqrt(q * (1 - q) / n) / law.pdf(law.ppf(q)))


def test_percentile_and_basic__are_the_quantiles_of_chi_square_for_one_variance():
    found = iid()
    s2 = found.fit.theta_values[0]
    law = stats.chi2(19, scale=s2 / 19)
    low, high = law.ppf(0.05), law.ppf(0.95)
    errors = quantile_error(law, 0.05, B), quantile_error(law, 0.95, B)
    percentile = found.interval("residual:var", level=0.9)
    assert abs(percentile["lower"] - low) < 4 * errors[0]
    assert abs(percentile["upper"] - high) < 4 * errors[1]
    basic = found.interval("residual:var", "basic", level=0.9)
    assert basic["lower"] == pytest.approx(2 * s2 - percentile["upper"], rel=1e-12)
    assert basic["upper"] == pytest.approx(2 * s2 - percentile["lower"], rel=1e-12)
    assert abs(percentile["se"] / law.std() - 1) < 4 * np.sqrt((law.stats("k") + 2) / 4 / B)
    assert percentile["n"] == B


def test_bca__comes_near_the_exact_interval_of_a_variance_where_the_percentile_does_not():
    """[σ̂²ν/χ²_{.95}, σ̂²ν/χ²_{.05}]: BCa is right to second order, so within a few per cent at ν = 19."""
    found = iid()
    s2 = found.fit.theta_values[0]
    exact = s2 * 19 / stats.chi2.ppf([0.95, 0.05], 19)
    bca = found.interval("residual:var", "bca", level=0.9)[["lower", "upper"]].to_numpy()
    percentile = found.interval("residual:var", level=0.9)[["lower", "upper"]].to_numpy()
    assert np.abs(bca / exact - 1).max() < 0.05
    assert np.abs(percentile / exact - 1).max() > 0.15


def test_bca__turns_with_the_scale_as_percentiles_do():
    found = vc.fit(sleepstudy(), criterion="ml").bootstrap(400, seed=2)
    for kind in ("percentile", "bca"):
        var, sd = (found.interval(f"residual:{s}", kind)[["lower", "upper"]].to_numpy() for s in ("var", "sd"))
        np.testing.assert_allclose(np.sqrt(var), sd, rtol=0.01)  # limits lie between two ordered values


@pytest.mark.parametrize(("criterion", "divisor"), [("reml", 5), ("ml", 6)])
def test_acceleration__is_the_skewness_of_the_sums_of_squares_over_six(criterion, divisor):
    """Balanced one-way, τ = σ² + 5σ_b²: in (τ, σ²) the information is diagonal and I⁻¹·score is (SS_B/5, SS_E/24) but
    for a constant, SS_B/6 under ML; σ_b² = (τ − σ²)/5."""
    fit = vc.fit(dyestuff(), criterion=criterion)
    found = fit.bootstrap(200, seed=3)
    cells = fit.simulate(200, seed=3).reshape(6, 5, 200)
    means = cells.mean(axis=1)
    between, within = 5 * means.var(axis=0) * 6, ((cells - means[:, None]) ** 2).sum((0, 1))
    for name, s in (
        ("residual:var", within / 24),
        ("Batch:var((Intercept))", between / divisor - within / 24),
        (
            "Batch / residual",
            (between / divisor - within / 24) / 5 - fit.theta.iloc[0] / fit.theta.iloc[1] * within / 24,
        ),
    ):
        assert found.acceleration(name) == pytest.approx(stats.skew(s) / 6, rel=1e-8)
    assert found.acceleration("(Intercept)") == 0.0


def test_bootstrap__draws_and_refits_as_by_hand():
    fit = vc.fit(sleepstudy(), "newton", criterion="ml")
    found = fit.bootstrap(25, seed=4)
    Y = simulate(fit.model, fit.theta_values, fit.beta_values, 25, 4)
    one = vc.fit(fit.model.replace(y=Y[:, 7]), "newton", criterion="ml")
    np.testing.assert_allclose(found.theta[7], one.theta_values, rtol=1e-7)
    np.testing.assert_allclose(found.beta[7], one.beta_values, rtol=1e-9)
    assert found.loglik[7] == pytest.approx(one.loglik, abs=1e-9)
    assert list(found.frame.columns) == [*fit.facts.theta_names, *fit.facts.beta_names, "loglik", "status"]
    both = np.hstack([found.theta, found.beta])
    np.testing.assert_allclose(found.se().to_numpy(), both.std(axis=0, ddof=1), rtol=1e-12)
    np.testing.assert_array_equal(fit.bootstrap(25, seed=4).theta, found.theta)
    assert fit.bootstrap(25, seed=None).seed != fit.bootstrap(25, seed=None).seed


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | g) + (1 | h)", "y ~ 1 + (1 | g)"])
def test_bootstrap__of_moments_and_of_crossed_factors(formula):
    rng = np.random.default_rng(0)
    d = {"g": np.repeat(np.arange(6), 6), "h": np.tile(np.arange(6), 6), "y": rng.normal(size=36)}
    assert vc.fit(vc.Model.from_formula(formula, d)).bootstrap(30).n_valid == 30
    fit = vc.fit(vc.Model.from_formula(formula, {**d, "y": d["y"] + d["g"] + d["h"]}), "moments")
    found = fit.bootstrap(30)
    assert found.n_valid == 30
    with pytest.raises(MethodError, match="score of a likelihood"):
        found.interval("residual:var", "bca")


def test_failed_refits__are_rows_are_counted_and_are_said():
    fit = vc.fit(sleepstudy(), "px-em", criterion="ml")
    found = fit.bootstrap(60, seed=1, max_iter=40)
    failed = sum(s is Status.MAX_ITER for s in found.statuses)
    assert 0 < failed < 40
    assert found.n_failed == {"MAX_ITER": failed}
    assert len(found.frame) == len(found) == 60
    assert found.n_valid == 60 - failed
    interval = found.interval("Days")
    assert interval["n"] == 60 - failed
    assert f"{failed} of 60 refits failed ({failed} MAX_ITER) and are left out" in interval.attrs["note"]
    assert f"{failed} failed ({failed} MAX_ITER)" in str(found)
    with pytest.raises(MethodError, match=r"exists in 0 of 60 refits \(0 refits valid; 60 failed"):
        fit.bootstrap(60, seed=1, max_iter=0).interval("Days")


def test_boundary__refits_are_valid_and_percentiles_may_be_zero():
    found = vc.fit(dyestuff2()).bootstrap(500, seed=1)
    edge = sum(s is Status.AT_BOUNDARY for s in found.statuses)
    assert abs(edge / 500 - 0.561) < 4 * np.sqrt(0.56 * 0.44 / 500)  # P(RLRT = 0) of the design, MATH §6
    assert found.n_valid == 500
    interval = found.interval("Batch:var((Intercept))")
    assert (interval["estimate"], interval["lower"]) == (0, 0)
    assert interval["upper"] > 1
    assert f"{edge} of them at the boundary" in str(found)
    bca = found.interval("Batch:var((Intercept))", "bca")
    assert "BCa is not defined" in bca.attrs["note"]
    assert bca["upper"] == interval["upper"]
    assert found.interval("Batch:var((Intercept))", "basic")["lower"] == 0
    assert found.interval("(Intercept)", "bca").attrs["note"] == ""


def test_confint__gives_the_bootstrap_of_parameters_and_functions_from_the_same_refits():
    fit = vc.fit(sleepstudy(), criterion="ml")
    found = fit.bootstrap(200, seed=5)
    table = fit.confint("bootstrap", n=200, seed=5, scale="sd")
    assert list(table.columns) == ["lower", "upper"]
    assert list(table.index)[:2] == ["Subject:sd((Intercept))", "Subject:cor((Intercept),Days)"]
    expected = found.interval("Subject:sd(Days)")
    assert table.loc["Subject:sd(Days)", "lower"] == expected["lower"]
    ratio = fit.confint("bootstrap", n=200, seed=5, type="basic", parameters=["r = Days / sqrt(residual)"])
    assert ratio["upper"].iloc[0] == found.interval("r = Days / sqrt(residual)", "basic")["upper"]
    assert table.attrs["notes"] == {}


def test_bootstrap__says_what_is_wrong():
    fit = vc.fit(sleepstudy(), criterion="ml")
    with pytest.raises(MethodError, match="`n` is 10"):
        fit.bootstrap(10)
    found = fit.bootstrap(40)
    with pytest.raises(MethodError, match=r"unknown bootstrap interval `bcs`.*Did you mean `bca`"):
        found.interval("Days", "bcs")
    with pytest.raises(MethodError, match="`Dais` is no parameter"):
        found.interval("Dais")
    with pytest.raises(MethodError, match="`level` is 95"):
        found.interval("Days", level=95)
    assert "most extreme of 40 refits" in found.interval("Days", level=0.99).attrs["note"]
    posterior = vc.fit(dyestuff(), "quadrature")
    with pytest.raises(MethodError, match="a fit by `quadrature` is not refitted"):
        posterior.bootstrap()
