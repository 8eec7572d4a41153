"""Autocorrelation and semivariogram of residuals: nlme's numbers, plain loops, and where rows stand to one another."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff, frame, sleepstudy

import vcbench as vc
from vcbench.cards import load_card
from vcbench.errors import DataError, MethodError
from vcbench.inference.residual_correlation import autocorrelation, lagged_pairs, semivariograms
from vcbench.inference.row_order import row_order

NLME = pd.read_csv(Path(__file__).parents[1] / "references" / "correlograms" / "acf.csv")


def series(n_units=8, m=6, residual="ar1(t, group=unit)", formula="y ~ x", times=None) -> vc.Model:
    rng = np.random.default_rng(3)
    t = np.arange(m) if times is None else np.asarray(times, float)
    d = pd.DataFrame([(f"u{i}", v) for i in range(n_units) for v in t], columns=["unit", "t"])
    L = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(t, t)) + 1e-9 * np.eye(len(t)))
    d["x"] = rng.normal(size=len(d))
    d["y"] = 2 + d.x + np.concatenate([L @ rng.normal(size=len(t)) for _ in range(n_units)])
    return vc.Model.from_formula(formula, d.sample(frac=1, random_state=5), residual=residual)


def field(residual) -> vc.Model:
    rng = np.random.default_rng(11)
    d = pd.DataFrame([(r, c) for r in range(8) for c in range(6)], columns=["row", "col"])
    near = [np.linalg.cholesky(rho ** np.abs(np.subtract.outer(range(m), range(m)))) for rho, m in ((0.3, 8), (0.7, 6))]
    d["y"] = 10 + (near[0] @ rng.normal(size=(8, 6)) @ near[1].T).ravel()
    return vc.Model.from_formula("y ~ 1", d, residual=residual)


@cache
def fitted(name: str) -> vc.Fit:
    models = {
        "sleepstudy": sleepstudy,
        "ar1": series,
        "plane": lambda: field("ar1(row) * ar1(col)"),
        "decay": lambda: field("exponential(row, col)"),
        "unequal": lambda: series(times=[0, 1, 1.5, 4, 5.2, 9], residual="exponential(t, group=unit)"),
    }
    return vc.fit(models[name]())


def test_autocorrelation__of_random_slopes_is_that_of_nlme():
    found, theirs = autocorrelation(fitted("sleepstudy")), NLME[NLME.model == "sleepstudy"].set_index("lag").ACF
    assert found.at.tolist() == list(range(1, 10))
    assert found.value == pytest.approx(theirs.loc[1:9].to_numpy(), abs=1e-5)  # lme's θ is 1e-5 off
    assert found.text == "lag in Days within Subject"
    assert found.pairs.tolist() == [18 * (10 - lag) for lag in range(1, 10)]


def test_autocorrelation__of_a_time_series_is_that_of_nlme():
    try:
        ovary = pd.read_csv(_shared("ovary.csv"))
    except DataError:
        pytest.skip("the shared data set ovary.csv is not here")
    ovary["order"] = ovary.groupby("Mare").cumcount()
    formula = "follicles ~ sin(2 * pi * Time) + cos(2 * pi * Time)"
    ovary["pi"] = np.pi
    fit = vc.fit(vc.Model.from_formula(formula, ovary, residual="ar1(order, group=Mare)"))
    theirs = NLME[NLME.model == "ovary"].set_index("lag").ACF
    assert autocorrelation(fit).value[:10] == pytest.approx(theirs.loc[1:10].to_numpy(), abs=2e-5)


def _shared(name: str) -> Path:
    from vcbench.cards import _shared_folders

    for folder in _shared_folders():
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{name} is not here")


def test_autocorrelation__is_that_of_residuals_whitened_in_their_order():
    """By hand: the rows are shuffled, R is Cholesky-factorised unit by unit along t."""
    fit = fitted("ar1")
    model, e = fit.model, fit.residuals()
    t, units = model.noise.family.t, model.noise.units
    sigma2, rho = fit.theta["residual:var"], fit.theta["residual:rho"]
    r = np.empty(len(e))
    for u in np.unique(units):
        rows = np.flatnonzero(units == u)
        rows = rows[np.argsort(t[rows])]
        L = np.linalg.cholesky(sigma2 * rho ** np.abs(np.subtract.outer(t[rows], t[rows])))
        r[rows] = np.linalg.solve(L, e[rows])
    found = autocorrelation(fit)
    for lag, value, n in zip(found.at, found.value, found.pairs, strict=True):
        products = [r[i] * r[j] for i in range(len(r)) for j in range(len(r))
                    if units[i] == units[j] and t[j] - t[i] == lag]  # fmt: skip
        assert n == len(products)
        assert value == pytest.approx(np.mean(products) / np.mean(r**2), rel=1e-10)
    assert found.text == "lag in steps of t within unit"


def test_autocorrelation__a_wrong_structure_leaves_its_band():
    """Independent residuals for data with ρ = 0.6: what is left is seen at lag 1."""
    wrong = autocorrelation(vc.fit(series(n_units=40, residual=None, formula="y ~ x + t + (1 | unit)")))
    assert wrong.value[0] > wrong.high[0]
    right = autocorrelation(vc.fit(series(n_units=40)))
    assert ((right.low <= right.value) & (right.value <= right.high)).all()


def test_semivariogram__is_half_the_mean_square_of_differences():
    fit = fitted("ar1")
    e, t, units = fit.residuals(), fit.model.noise.family.t, fit.model.noise.units
    (found,) = semivariograms(fit)
    for d, value, n in zip(found.at, found.value, found.pairs, strict=True):
        squares = [(e[i] - e[j]) ** 2 for i in range(len(e)) for j in range(len(e))
                   if units[i] == units[j] and t[j] - t[i] == d]  # fmt: skip
        assert n == len(squares)
        assert value == pytest.approx(np.mean(squares) / 2, rel=1e-10)
    at, gamma = found.curve
    sigma2, rho = fit.theta["residual:var"], fit.theta["residual:rho"]
    assert gamma == pytest.approx(sigma2 * (1 - rho**at), rel=1e-12)


def test_semivariogram__of_a_plane_has_a_panel_a_label():
    fit = fitted("plane")
    along, across = semivariograms(fit)
    assert (along.text, across.text) == ("distance in steps of row", "distance in steps of col")
    grid = fit.residuals().reshape(8, 6)
    for d in (1, 2, 3):
        assert along.value[along.at == d] == pytest.approx(np.mean((grid[d:] - grid[:-d]) ** 2) / 2)
        assert across.value[across.at == d] == pytest.approx(np.mean((grid[:, d:] - grid[:, :-d]) ** 2) / 2)
    for found, name in ((along, "row"), (across, "col")):
        at, gamma = found.curve
        assert gamma == pytest.approx(fit.theta["residual:var"] * (1 - fit.theta[f"residual:rho_{name}"] ** at))


def test_semivariogram__of_points_is_by_classes_of_distance():
    fit = fitted("decay")
    (found,) = semivariograms(fit)
    points, e = fit.model.noise.family.points, fit.residuals()
    i, j = np.triu_indices(len(e), 1)
    d, half = np.linalg.norm(points[i] - points[j], axis=1), (e[i] - e[j]) ** 2 / 2
    width, edges = d.max() / 2 / 15, np.arange(16) * d.max() / 2 / 15
    for at, value, n in zip(found.at, found.value, found.pairs, strict=True):
        k = np.searchsorted(edges, at) - 1
        own = (d > edges[k]) & (d <= edges[k] + width)
        assert (n, at, value) == (own.sum(), pytest.approx(d[own].mean()), pytest.approx(half[own].mean()))
    lags, gamma = found.curve
    expected = fit.theta["residual:var"] * (1 - np.exp(-lags / fit.theta["residual:range"]))
    assert gamma == pytest.approx(expected, rel=1e-9)


def test_semivariogram__its_mean_is_what_the_model_implies_for_residuals():
    """E[γ̂] = Σ (Q_ii + Q_jj − 2Q_ij)/2N with Q = RPR: below σ²(1 − C) where effects are estimated."""
    from vcbench.inference.equations import Equations

    fit = fitted("plane")
    at = Equations.at(fit.model, fit.theta_values)
    R = at.R.matrix().toarray()
    Q = R @ at.project(R)
    (along, _) = semivariograms(fit)
    place = np.arange(48).reshape(8, 6)
    for d, mean in zip(along.at, along.mean, strict=True):
        i, j = place[int(d) :].ravel(), place[: -int(d)].ravel()
        expected = 0.5 * (Q[i, i] + Q[j, j] - 2 * Q[i, j]).mean()
        assert mean == pytest.approx(expected, rel=0.08)  # of 999 sets


@pytest.mark.parametrize(
    ("model", "text", "source"),
    [
        (sleepstudy, "lag in Days within Subject", "covariate"),
        (dyestuff, "lag in rows within Batch (order of the data)", "order"),
        (series, "lag in steps of t within unit", "labels"),
        (lambda: series(residual="toeplitz_h(t, group=unit)"), "lag in steps of t within unit", "labels"),
        (lambda: series(residual="un(t, group=unit)"), "lag in steps of t within unit", "labels"),
        (lambda: series(residual="cs(group=unit)", formula="y ~ t + (1 | unit)"), "lag in t within unit", "covariate"),
        (lambda: field("exponential(row, col) + nugget"), "lag in row and col", "labels"),
        (lambda: vc.Model.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", frame("penicillin")),
         "lag in rows within plate (order of the data)", "order"),
    ],
)  # fmt: skip
def test_row_order__says_where_it_comes_from(model, text, source):
    order = row_order(model())
    assert (order.text(), order.source) == (text, source)


def test_row_order__a_covariate_with_ties_within_a_unit_is_none():
    d = frame("sleepstudy").assign(half=lambda d: d.Days // 2)
    order = row_order(vc.Model.from_formula("Reaction ~ half + (1 | Subject)", d))
    assert order.source == "order"


def test_autocorrelation__says_what_to_do_where_there_are_no_lags():
    with pytest.raises(MethodError, match=r"unequal gaps in t.*variogram"):
        autocorrelation(fitted("unequal"))
    with pytest.raises(MethodError, match=r"lie in a plane.*variogram"):
        autocorrelation(fitted("plane"))
    with pytest.raises(MethodError, match="no unit of this model has two rows"):
        row_order(load_card("three_components").model())


def test_semivariogram__of_unequal_times_is_by_distance():
    (found,) = semivariograms(fitted("unequal"))
    assert found.text == "distance in t within unit"
    assert found.at.max() <= 4.5 + 1e-9
    assert (np.diff(found.at) > 0).all()


def test_lagged_pairs__count_by_time_where_rows_are_missing():
    units, t = np.repeat(np.arange(6), 3), np.tile([0.0, 2.0, 6.0], 6)
    found = {lag: (i, j) for lag, i, j in lagged_pairs(units, t, 2.0)}
    assert sorted(found) == [1.0, 2.0, 3.0]
    assert all((t[j] - t[i] == 2 * lag).all() and (units[i] == units[j]).all() for lag, (i, j) in found.items())
