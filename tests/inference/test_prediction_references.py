"""Predictions, conditional variances, leverages and residuals are lme4's and nlme's, at their own estimates.

The numbers are in tests/references/prediction.toml, with programs and versions; prediction.R beside it made them.
"""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classics import frame

import vcbench as vc

DIGITS = 1e-8  # R's numbers are given to 15 digits; its sums run in another order


@pytest.fixture(scope="module")
def reference():
    return tomllib.loads((Path(__file__).parents[1] / "references" / "prediction.toml").read_text())


def at(model, theta):
    """The fit at given variances: nothing is estimated but β."""
    return vc.fit(model, "ai", "reml", start=dict(zip(model.theta_names, theta, strict=True)), max_iter=0)


def test_sleepstudy__is_what_lme4_says(reference):
    want = reference["sleepstudy"]
    fit = at(vc.Model.from_formula("Reaction ~ Days + (Days | Subject)", frame("sleepstudy")), want["theta"])
    np.testing.assert_allclose(fit.beta, want["beta"], rtol=DIGITS)
    np.testing.assert_allclose(fit.ranef()["Subject"].to_numpy().ravel(), want["ranef"], rtol=DIGITS, atol=1e-7)
    np.testing.assert_allclose(fit.condvar()["Subject"].ravel(), want["condvar"], rtol=DIGITS)
    np.testing.assert_allclose(fit.leverage(), want["hatvalues"], rtol=DIGITS)
    new = pd.DataFrame({"Days": [0, 5, 12, 12], "Subject": [308, 335, 372, 999]})
    np.testing.assert_allclose(fit.predict(new), want["predict"], rtol=DIGITS)
    np.testing.assert_allclose(fit.predict(new, random=False), want["predict_population"], rtol=DIGITS)


def test_penicillin__is_what_lme4_says(reference):
    want = reference["penicillin"]
    fit = at(vc.Model.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", frame("penicillin")), want["theta"])
    for name in ("plate", "sample"):
        np.testing.assert_allclose(fit.ranef()[name].iloc[:, 0], want[f"ranef_{name}"], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(fit.condvar()[name].ravel(), want[f"condvar_{name}"], rtol=DIGITS)
    np.testing.assert_allclose(fit.leverage()[:24], want["hatvalues"], rtol=DIGITS)
    np.testing.assert_allclose(fit.predict()[:24], want["predict"], rtol=DIGITS)
    np.testing.assert_allclose(fit.predict(random="plate")[:24], want["predict_plate"], rtol=DIGITS)


def test_residuals__are_nlmes_with_serial_correlation_and_variances_by_sex(reference):
    """`normalized` goes through R's own factor and conditional residuals, as residuals.lme does."""
    want = reference["orthodont"]
    data = pd.DataFrame({key: want[key] for key in ("distance", "age", "sex", "subject")})
    data["visit"] = data.groupby("subject").cumcount()
    model = vc.Model.from_formula("distance ~ age + (1 | subject)", data, residual="by(sex, ar1(visit, group=subject))")
    assert model.theta_names[1:] == ("residual:var(Female)", "residual:var(Male)", "residual:rho")
    intercept, male, female, rho = want["theta"]
    fit = at(model, [intercept, female, male, rho])
    np.testing.assert_allclose(fit.beta, want["beta"], rtol=DIGITS)
    for kind, theirs in (
        ("conditional", "response"), ("pearson", "pearson"), ("normalized", "normalized"), ("marginal", "marginal")
    ):  # fmt: skip
        np.testing.assert_allclose(fit.residuals(kind), want[theirs], rtol=1e-7, atol=1e-8, err_msg=kind)
