"""Orthodont by residual structures, against nlme 3.1-162: gls(distance ~ age, correlation = …, method = "ML") and
lme(distance ~ age, random = ~1 | Subject, correlation = corAR1(form = ~1 | Subject)); log-likelihoods to 1e-6.
"""

import pandas as pd
import pytest
from references import table

import vcbench as vc

FOLDER = table.shared_folder()
if FOLDER is None:
    pytest.skip("the shared data are not here (VCBENCH_DATA)", allow_module_level=True)

GLS = {
    "ar1(age, group=Subject)": -227.111268,
    "cs(group=Subject)": -221.694771,
    "un_cor(age, group=Subject)": -217.934813,
    "arma11(age, group=Subject)": -221.292949,
}


@pytest.mark.parametrize("residual", GLS)
def test_gls__has_nlmes_log_likelihood(residual):
    data = pd.read_csv(FOLDER / "orthodont.csv")
    fit = vc.fit(vc.Model.from_formula("distance ~ age", data, residual=residual), criterion="ml")
    assert fit.status.ok
    assert fit.loglik == pytest.approx(GLS[residual], abs=1e-6)


@pytest.mark.parametrize(
    ("criterion", "loglik", "phi"), [("ml", -221.676091, 0.032429), ("reml", -223.462753, 0.047207)]
)
def test_lme__with_ar1_has_nlmes_phi(criterion, loglik, phi):
    data = pd.read_csv(FOLDER / "orthodont.csv")
    model = vc.Model.from_formula("distance ~ age + (1 | Subject)", data, residual="ar1(age, group=Subject)")
    fit = vc.fit(model, criterion=criterion)
    assert fit.loglik == pytest.approx(loglik, abs=1e-6)
    assert fit.theta["residual:rho"] == pytest.approx(phi, abs=1e-5)
