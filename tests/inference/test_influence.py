"""Deletion of groups: dense formulas on the rows that stay, and fits of the data without them."""

import numpy as np
import pytest
from classics import frame, sleepstudy
from joint import RESIDUALS, inner_theta, long_data, random_part, residual_covariance
from strategies import draw_problem

import vcbench as vc
from vcbench.errors import DataError, MethodError
from vcbench.inference import deletion, inverse
from vcbench.kernels import build

DATA = long_data()
KINDS = (
    "slope-un",
    "crossed-slopes",
    "K",
    "K-centred",
    "K-incidence",
    "Z-wide",
    "two-Z",
    "group-and-K",
    "pedigree-slope",
)


@pytest.fixture(params=["full", "blocks", "selected", "completed"])
def way(request, monkeypatch):
    """M⁻¹ in full, block by block, where M has entries, and that completed."""
    if request.param != "full":
        monkeypatch.setattr(inverse, "SMALL", 0)
        monkeypatch.setattr(inverse, "FULL", 2.0)
        monkeypatch.setattr(inverse, "BLOCK", 200 if request.param == "blocks" else 0)
        monkeypatch.setattr(deletion, "FULL", 6000 if request.param == "completed" else 0)


def at(model, theta, criterion="reml"):
    """The fit at given variances, β at its GLS value."""
    return vc.fit(model, "ai", criterion, start=dict(zip(model.theta_names, theta, strict=True)), max_iter=0)


def without(model, theta, R, keep):
    """(β̂_(S), (X_(S)ᵀV_(S)⁻¹X_(S))⁻¹) by dense formulas on the rows that stay."""
    Z, G, _ = random_part(model, theta)
    V = (Z @ G @ Z.T + R)[np.ix_(keep, keep)]
    y = model.y if model.offset is None else model.y - model.offset
    X, Vi = model.X[keep], np.linalg.inv(V)
    C = np.linalg.inv(X.T @ Vi @ X)
    return C @ X.T @ Vi @ y[keep], C


def check(model, theta, R, by):
    found = at(model, theta).influence(by)
    table, every = found.frame, np.arange(model.n_obs)
    beta, C = without(model, theta, R, every)
    d = len(beta)
    assert found.beta.columns.tolist() == list(model.X_names)
    for i, rows in enumerate(found.rows):
        assert table["n_rows"].iloc[i] == len(rows)
        b, Ci = without(model, theta, R, np.setdiff1d(every, rows))
        delta = beta - b
        np.testing.assert_allclose(found.beta.iloc[i], b, rtol=1e-7, atol=1e-8 * np.abs(beta).max())
        np.testing.assert_allclose(np.linalg.inv(found.information[i]), Ci, rtol=1e-7, atol=1e-9 * Ci.max())
        want = {
            "cooks_distance": delta @ np.linalg.solve(C, delta) / d,
            "mdffits": delta @ np.linalg.solve(Ci, delta) / d,
            "covratio": np.linalg.det(Ci) / np.linalg.det(C),
            "covtrace": abs(np.trace(np.linalg.solve(C, Ci)) - d),
        }
        for name, value in want.items():
            assert table[name].iloc[i] == pytest.approx(value, rel=1e-6, abs=1e-12), name
        np.testing.assert_allclose(found.dfbetas.iloc[i], delta / np.sqrt(np.diag(Ci)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("random", ["", " + (1 + x | unit)", " + (1 | unit) + (1 | site)"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_influence__is_deletion_at_the_same_theta(residual, random):
    """Groups that cut across units, so that rows that go are correlated with rows that stay."""
    model = vc.Model.from_formula(f"y ~ x{random}", DATA, residual=residual or None)
    theta = inner_theta(model) * (1.0 + 0.1 * np.arange(model.n_theta))
    R = residual_covariance(model, theta, DATA, residual)
    check(model, theta, R, DATA["t"])
    check(model, theta, R, None)


@pytest.mark.parametrize("kind", KINDS)
def test_influence__of_every_kind_of_component(kind, way):
    p = draw_problem(kind, 7, 4, seed=4, offset=True)
    R = p.theta[-1] * np.eye(p.model.n_obs)
    check(p.model, p.theta, R, np.arange(p.model.n_obs) % 4)
    grouped = next((c.name for c in p.model.components if c.codes is not None), None)
    if grouped:
        check(p.model, p.theta, R, grouped)


@pytest.mark.parametrize("criterion", ["ml", "reml"])
@pytest.mark.parametrize("residual", ["", "ar1(t, group=unit)"])
def test_influence_theta__is_one_step_by_the_score_of_the_rows_that_stay(residual, criterion):
    model = vc.Model.from_formula("y ~ x + (1 | unit) + (1 | site)", DATA, residual=residual or None)
    fit = vc.fit(model, "auto", criterion)
    moved = fit.influence(DATA["t"]).theta
    cov = np.nan_to_num(fit.theta_cov())
    for t in range(4):
        less = vc.Model.from_formula("y ~ x + (1 | unit) + (1 | site)", DATA[DATA["t"] != t], residual=residual or None)
        score = build(less, "auto").evaluate(fit.theta_values, ("score",), criterion).score
        np.testing.assert_allclose(moved.loc[t], fit.theta_values + cov @ score, rtol=1e-6, atol=1e-8)


def test_influence_theta__is_near_to_the_refit_for_a_single_row():
    """Of the rows of sleepstudy that move θ most, one step goes the way of the refit: half to twice as far."""
    fit = vc.fit(sleepstudy())
    found = fit.influence()
    step = (found.theta - fit.theta_values) / fit.theta_se.to_numpy()
    most = step.abs().max(axis=1).nlargest(4).index
    refits = (found.refit(most)[list(fit.theta.index)].astype(float) - fit.theta_values) / fit.theta_se.to_numpy()
    for row in most:
        a, b = step.loc[row].to_numpy(), refits.loc[row].to_numpy()
        j = np.abs(a).argmax()
        assert 0.5 < b[j] / a[j] < 2.0


def test_influence_ranef__is_the_blups_without_the_group():
    p = draw_problem("crossed-slopes", 6, 4, seed=4, offset=True)
    model, theta = p.model, p.theta
    by = np.arange(model.n_obs) % 5
    found = at(model, theta).influence(by).ranef(3)
    keep = np.flatnonzero(by != 3)
    Z, G, start = random_part(model, theta)
    V = (Z @ G @ Z.T + theta[-1] * np.eye(model.n_obs))[np.ix_(keep, keep)]
    beta, _ = without(model, theta, theta[-1] * np.eye(model.n_obs), keep)
    u = G @ Z[keep].T @ np.linalg.solve(V, (model.y - model.offset)[keep] - model.X[keep] @ beta)
    for k, c in enumerate(model.components):
        want = u[start[k] : start[k + 1]].reshape(-1, c.n_effects)
        np.testing.assert_allclose(found[c.name], want, rtol=1e-7, atol=1e-8)
        assert found[c.name].index.tolist() == list(c.levels)


def test_influence_refit__is_the_fit_of_the_data_without_the_group():
    data = frame("sleepstudy")
    fit = vc.fit(sleepstudy())
    found = fit.influence("Subject").refit(["308", "335"])
    for subject in (308, 335):
        want = vc.fit(vc.Model.from_formula("Reaction ~ Days + (Days | Subject)", data[data["Subject"] != subject]))
        row = found.loc[str(subject)]
        assert row["loglik"] == pytest.approx(want.loglik, abs=1e-8)
        assert row["status"] == "CONVERGED"
        np.testing.assert_allclose(row[list(fit.theta.index)].astype(float), want.theta_values, rtol=1e-4)
        np.testing.assert_allclose(row[list(fit.beta.index)].astype(float), want.beta_values, rtol=1e-6)


def test_influence__of_a_group_without_which_beta_is_unknown():
    """site `c` alone tells its own effect: what is left has no β̂; a refit says which column is gone."""
    model = vc.Model.from_formula("y ~ site + (1 | unit)", DATA)
    found = at(model, [1.0, 0.5]).influence(DATA["site"])
    assert np.isnan(found.beta.loc["c"]).all()
    assert np.isnan(found.frame.loc["c"].drop("n_rows")).all()
    assert np.isnan(found.dfbetas.loc["c"]).all()
    refit = found.refit(["c"]).loc["c"]
    assert np.isnan(refit["sitec"])
    assert np.isfinite(refit["siteb"])


def test_influence__asks_that_make_no_sense_are_refused():
    model = vc.Model.from_formula("y ~ x + (1 | unit)", DATA)
    fit = at(model, [1.0, 0.5])
    with pytest.raises(MethodError, match=r"no component.*Did you mean `unit`"):
        fit.influence("units")
    with pytest.raises(DataError, match="a label for each of the 29 rows"):
        fit.influence([1, 2])
    with pytest.raises(DataError, match="missing in row 0"):
        fit.influence([None, *range(1, 29)])
    with pytest.raises(MethodError, match="no group `99` of `unit`"):
        fit.influence("unit").ranef(99)
    with pytest.raises(MethodError, match="has no groups of rows"):
        at(draw_problem("K", seed=1).model, [1.0, 1.0]).influence("a")
    with pytest.raises(MethodError, match="maximises no likelihood"):
        _ = vc.fit(model, "minque").influence("unit").theta
