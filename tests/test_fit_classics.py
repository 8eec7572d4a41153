"""Published answers on classic data: log-likelihoods, estimates and standard errors in natural units.

Log-likelihoods: lme4 1.1 (R 4), `logLik(lmer(...))`. SEs of sleepstudy: exact observed information; the figures that
issue a numerical Hessian of the deviance (merDeriv, `vcov(fit, full = TRUE)`) agree with it to 1e-4.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff, dyestuff2, sleepstudy

import vcbench as vc
from vcbench import Status

STOP = 1e-6  # the stop rule: within 1e-6 standard errors of the maximum, and no SE here exceeds its estimate


@pytest.mark.parametrize(
    ("criterion", "loglik", "se", "numerical"),
    [
        ("reml", -871.814136, (288.7827, 46.6785, 14.7821, 77.1855), (288.77, 46.68, 14.78, 77.18)),
        ("ml", -875.969672, (265.2661, 42.8757, 13.5726, 77.1855), (265.25, 42.87, 13.57, 77.18)),
    ],
)
def test_sleepstudy__log_likelihood_and_standard_errors(criterion, loglik, se, numerical):
    fit = vc.fit(sleepstudy(), criterion=criterion)
    assert fit.status is Status.CONVERGED
    assert fit.loglik == pytest.approx(loglik, abs=1e-6)  # six decimals are printed
    assert fit.theta_se.to_numpy() == pytest.approx(se, abs=1e-4)  # four decimals are known
    assert fit.theta_se.to_numpy() == pytest.approx(numerical, rel=2e-4)  # 77.18 for 77.1855 is rounded down


def test_sleepstudy__estimates_are_lme4s():
    """`VarCorr` and `fixef` of lmer(Reaction ~ Days + (Days | Subject), sleepstudy)."""
    fit = vc.fit(sleepstudy())
    assert fit.theta.to_dict() == pytest.approx(
        {
            "Subject:var((Intercept))": 612.1002,
            "Subject:cov((Intercept),Days)": 9.6044,
            "Subject:var(Days)": 35.0717,
            "residual:var": 654.9400,
        },
        rel=3e-5,  # lme4's optimiser stops about there
    )
    assert fit.beta.to_dict() == pytest.approx({"(Intercept)": 251.405105, "Days": 10.467286}, rel=1e-7)
    assert fit.beta_se.to_numpy() == pytest.approx([6.824597, 1.545790], rel=1e-5)
    sd = fit.varcomp("sd")
    assert sd["estimate"].to_numpy() == pytest.approx([24.7407, 0.0656, 5.9221, 25.5918], rel=2e-3)


def test_sleepstudy__aic_and_bic_are_lme4s():
    ml = vc.fit(sleepstudy(), criterion="ml")
    assert (ml.aic, ml.bic) == pytest.approx((1763.9393, 1783.0971), abs=1e-4)
    for f in (ml, vc.fit(sleepstudy())):
        assert f.n_parameters == 6
        assert f.aic == -2 * f.loglik + 12
        assert f.bic == -2 * f.loglik + 6 * np.log(180)


@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_dyestuff__has_the_closed_form_of_balanced_data(criterion):
    """σ̂² = MSE, λ̂ = MSA (REML) or MSA(a − 1)/a (ML), σ̂_g² = (λ̂ − σ̂²)/m; variances 2σ⁴/df of independent parts."""
    fit = vc.fit(dyestuff(), criterion=criterion)
    y = dyestuff().y.reshape(6, 5)
    a, m = y.shape
    mse = ((y - y.mean(1, keepdims=True)) ** 2).sum() / (a * (m - 1))
    ssa = m * ((y.mean(1) - y.mean()) ** 2).sum()
    df = a - 1 if criterion == "reml" else a
    lam = ssa / df
    assert fit.status is Status.CONVERGED
    assert fit.theta.to_numpy() == pytest.approx([(lam - mse) / m, mse], rel=STOP)
    var_lam, var_mse = 2 * lam**2 / df, 2 * mse**2 / (a * (m - 1))
    assert fit.theta_se.to_numpy() == pytest.approx([np.sqrt(var_lam + var_mse) / m, np.sqrt(var_mse)], rel=3 * STOP)
    assert fit.theta_cov()[0, 1] == pytest.approx(-var_mse / m, rel=3 * STOP)
    assert fit.beta_se.to_numpy() == pytest.approx([np.sqrt(lam / (a * m))], rel=STOP)


def test_dyestuff__the_batch_standard_error_is_1432_75():
    fit = vc.fit(dyestuff())
    assert fit.loglik == pytest.approx(-159.827138, abs=1e-6)
    assert fit.theta.to_numpy() == pytest.approx([1764.05, 2451.25], abs=1e-4)
    assert fit.theta_se.to_numpy() == pytest.approx([1432.75, 707.61], abs=5e-3)
    for cov_type in ("observed", "expected", "average"):  # all three meet at a balanced optimum
        assert np.sqrt(np.diag(fit.theta_cov(cov_type))) == pytest.approx([1432.75, 707.61], abs=5e-3)


@pytest.mark.parametrize(("criterion", "loglik", "df"), [("reml", -80.914139, 29), ("ml", -81.436518, 30)])
def test_dyestuff2__is_a_fit_on_the_boundary(criterion, loglik, df):
    fit = vc.fit(dyestuff2(), criterion=criterion)
    assert fit.status is Status.AT_BOUNDARY
    assert fit.converged
    assert fit.code == "VC-BOUNDARY"
    assert fit.theta.iloc[0] == 0.0
    assert fit.loglik == pytest.approx(loglik, abs=1e-6)
    # what is left is least squares
    y = dyestuff2().y
    sigma2 = ((y - y.mean()) ** 2).sum() / df
    assert fit.theta.iloc[1] == pytest.approx(sigma2, rel=STOP)
    assert np.isnan(fit.theta_se.iloc[0])
    assert fit.theta_se.iloc[1] == pytest.approx(sigma2 * np.sqrt(2 / df), rel=3 * STOP)
    assert fit.beta_se.iloc[0] == pytest.approx(np.sqrt(sigma2 / 30), rel=STOP)


def test_dyestuff2__moments_report_the_raw_value():
    fit = vc.fit(dyestuff2(), "moments")
    assert fit.theta.iloc[0] == pytest.approx(-1.32, abs=5e-3)
    assert fit.status is Status.CONVERGED
    assert "negative estimate of `Batch:var((Intercept))`, reported raw" in fit.message
    assert fit.criterion == "none"


def test_oats__a_singular_slope_is_found_and_said():
    """lme4's `lmer(yield ~ nitro + (nitro | Block), REML = FALSE)`: −308.081189, singular."""
    data = pd.read_csv(Path(__file__).resolve().parents[1] / "models" / "data" / "oats.csv")
    fit = vc.fit(vc.Model.from_formula("yield ~ nitro + (nitro | Block)", data), criterion="ml")
    assert fit.loglik == pytest.approx(-308.081189, abs=1e-6)
    assert fit.status is Status.AT_BOUNDARY
