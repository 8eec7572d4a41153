"""Degrees of freedom, adjusted covariances and ANOVA tables equal those of lmerTest and pbkrtest.

Answers and how they were made: `tests/references/fixed_effects`. lme4 stopped within 1e-10 of its optimum; lmerTest
differences numerically, which leaves about 1e-6 of its degrees of freedom. Asked for: 1e-4.
"""

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from references.fixed_effects.cases import CASES, all_cases, answers, random_cases, random_designs

import vcbench as vc
from vcbench import Status
from vcbench.inference.equations import Equations
from vcbench.inference.fixed_tests import denominator
from vcbench.inference.kenward_roger import KenwardRoger
from vcbench.kernels import build

REL = 1e-4
BY_NAME = {case.name: case for case in all_cases()}
INTERIOR_ML = [case.name for case in CASES if not answers()[case.name]["ml"]["singular"]]
INTERIOR = [name for name in BY_NAME if not answers()[name]["singular"]]
SINGULAR = [name for name in BY_NAME if answers()[name]["singular"]]
KEY = {"satterthwaite": "satterthwaite", "kenward-roger": "kenward_roger"}


@cache
def fitted(name, criterion="reml"):
    case = BY_NAME[name]
    if not case.path.exists():
        pytest.skip(f"{case.file} is not in models/data, nor in ../shared/data")
    with warnings.catch_warnings():
        if name == "missing cells":
            warnings.simplefilter("ignore")  # two columns are dropped, as R does
        model = case.model()
    return vc.fit(model, criterion=criterion)


def close(ours, theirs, rel=REL):
    np.testing.assert_allclose(np.asarray(ours, float), np.atleast_1d(np.array(theirs, float)), rtol=rel)


def check_covariance(ours, theirs):
    size = np.sqrt(np.outer(np.diag(theirs), np.diag(theirs)))
    assert (np.abs(ours - theirs) <= REL * size).all()


def check_coefficients(fit, theirs, df):
    """estimate, se, df and t of each; p where it is not so small that df's last digits decide."""
    table, theirs = fit.test_fixed(df), np.array(theirs, float)
    columns = ["estimate", "se", "df", "t"]
    scale = theirs[:, 1]  # an estimate near 0 is held to its standard error
    assert (np.abs(table["estimate"] - theirs[:, 0]) <= 1e-5 * scale).all()
    assert (np.abs(table["t"] - theirs[:, 3]) <= 1e-4 * (1 + np.abs(theirs[:, 3]))).all()
    close(table[columns[1:3]], theirs[:, 1:3])
    seen = theirs[:, 4] > 1e-8
    close(table["p"][seen], theirs[seen, 4], 1e-3)


def check_anova(fit, theirs, type_, df):
    table = fit.anova(type_, df)
    terms = [theirs["terms"]] if isinstance(theirs["terms"], str) else theirs["terms"]
    assert set(table.index) == set(terms)  # R has no order of its own for type II
    table = table.loc[terms]
    for column in ("F", "numerator_df", "denominator_df"):
        close(table[column], theirs[column])


@pytest.mark.parametrize("name", INTERIOR)
@pytest.mark.parametrize("df", KEY)
def test_coefficients__have_the_degrees_of_freedom_of_lmerTest(name, df):
    fit, theirs = fitted(name), answers()[name]
    assert fit.status is Status.CONVERGED
    assert list(fit.facts.beta_names) == theirs["names"]
    check_coefficients(fit, theirs[KEY[df]], df)


@pytest.mark.parametrize("name", INTERIOR)
def test_adjusted_covariance__is_that_of_pbkrtest(name):
    fit, theirs = fitted(name), np.array(answers()[name]["adjusted"], float)
    check_covariance(denominator(fit, "kr")[0].cov, theirs)


@pytest.mark.parametrize("name", INTERIOR)
@pytest.mark.parametrize("type_", [1, 2, 3])
@pytest.mark.parametrize("df", KEY)
def test_anova__is_that_of_lmerTest(name, type_, df):
    check_anova(fitted(name), answers()[name]["anova"][str(type_)][KEY[df]], type_, df)


@pytest.mark.parametrize("name", INTERIOR_ML)
def test_coefficients__of_ml_fits_have_the_degrees_of_freedom_of_lmerTest(name):
    check_coefficients(fitted(name, "ml"), answers()[name]["ml"]["satterthwaite"], "satterthwaite")


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_fits__keep_satterthwaite_as_lmerTest_does(name):
    fit, theirs = fitted(name), answers()[name]
    assert fit.status is Status.AT_BOUNDARY
    check_coefficients(fit, theirs["satterthwaite"], "satterthwaite")
    assert "boundary" in fit.test_fixed().attrs["notes"][0] or "singular" in fit.test_fixed().attrs["notes"][0]


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_fits__differ_from_pbkrtest_in_what_is_held(name):
    """pbkrtest inverts the information of all parameters, those on the boundary too: then our answer is its own."""
    fit, theirs = fitted(name), answers()[name]
    information = build(fit.model, fit.kernel).evaluate(fit.theta_values, ("score", "expected"), "reml").expected
    way = KenwardRoger.of(Equations.at(fit.model, fit.theta_values), np.linalg.inv(information))
    check_covariance(way.cov, np.array(theirs["adjusted"], float))
    _, df = way.rows(np.eye(len(way.cov)))
    close(df, np.array(theirs["kenward_roger"], float)[:, 2])
    assert np.abs(fit.test_fixed("kr")["df"] / df - 1).max() > 1e-2


def test_random_designs__hold_twenty_interior_ones_and_are_those_of_the_seed():
    interior = [case.name for case in random_cases() if case.name in INTERIOR]
    assert len(interior) == 20
    assert interior[-1] == random_cases()[-1].name
    kept = pd.read_csv(BY_NAME["random 0"].path)
    pd.testing.assert_frame_equal(random_designs(), kept)
