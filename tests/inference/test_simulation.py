"""Drawn responses: with unit vectors for normals a draw is the factor of V itself, which the oracle knows."""

import numpy as np
import pandas as pd
import pytest
from classics import frame, sleepstudy
from oracle import derivatives
from strategies import COLUMNS, KINDS, RELATED, draw_problem

import vcbench as vc
from vcbench.errors import DataError, MethodError, ModelError
from vcbench.inference import simulation
from vcbench.inference.simulation import simulate


class Units:
    """In the place of a Generator: response i has its i-th normal 1 and the others 0."""

    def __init__(self, size: int = 0) -> None:
        self.size = size

    def standard_normal(self, shape):
        self.size = shape[1]
        return np.eye(*shape)


def covariance(monkeypatch, model, theta, beta):
    """(V, mean) of what `simulate` draws, exactly."""
    units = Units()
    monkeypatch.setattr(simulation.np.random, "default_rng", lambda seed: units)
    simulate(model, theta, beta)
    mean = model.X @ beta + (0.0 if model.offset is None else model.offset)
    F = simulate(model, theta, beta, units.size) - mean[:, None]
    return F @ F.T


@pytest.mark.parametrize("kind", [*KINDS, *RELATED, *COLUMNS])
def test_simulate__has_the_covariance_of_the_model(kind, monkeypatch):
    """Grouped, crossed, columns of Z with one variance or an Ω, K and pedigrees; an offset in the mean."""
    p = draw_problem(kind, seed=11, offset=True)
    V = np.tensordot(p.theta, derivatives(p.model.components, p.model.n_obs), axes=1)
    drawn = covariance(monkeypatch, p.model, p.theta, p.beta)
    np.testing.assert_allclose(drawn, V, atol=1e-12 * np.abs(V).max())


def test_simulate__never_forms_the_inverse_of_a_sparse_precision():
    p = draw_problem("pedigree", seed=2)
    simulate(p.model, p.theta, p.beta, 3, seed=1)
    assert set(p.model.components[0].relation.cache) <= {"precision factor"}


def test_simulate__draws_a_singular_omega(monkeypatch):
    p = draw_problem("slope-un", seed=5, zero=True)
    V = np.tensordot(p.truth, derivatives(p.model.components, p.model.n_obs), axes=1)
    np.testing.assert_allclose(covariance(monkeypatch, p.model, p.truth, p.beta), V, atol=1e-12 * np.abs(V).max())


def visits() -> pd.DataFrame:
    """7 subjects at up to 5 visits, shuffled, some missing, with a weight."""
    rng = np.random.default_rng(3)
    rows = [(f"s{i}", v, "mf"[i % 2]) for i in range(7) for v in range(5) if rng.random() < 0.8 or v < 2]
    d = pd.DataFrame(rows, columns=["s", "v", "sex"]).sample(frac=1.0, random_state=1).reset_index(drop=True)
    d["w"], d["y"] = rng.uniform(0.5, 3.0, len(d)), rng.normal(size=len(d))
    return d


def ar1(d, rho, unit="s", label="v"):
    same = np.equal.outer(d[unit].to_numpy(), d[unit].to_numpy())
    return same * rho ** np.abs(np.subtract.outer(d[label].to_numpy(), d[label].to_numpy()))


def test_simulate__of_a_residual_structure_beside_a_random_intercept_with_weights(monkeypatch):
    d = visits()
    m = vc.Model.from_formula("y ~ 1 + (1 | s)", d, residual="weights(w) * ar1(v, group=s)")
    V = 0.7 * np.equal.outer(d.s.to_numpy(), d.s.to_numpy()) + 1.3 * ar1(d, 0.6) / np.sqrt(np.outer(d.w, d.w))
    np.testing.assert_allclose(covariance(monkeypatch, m, [0.7, 1.3, 0.6], [2.0]), V, atol=1e-13)


def test_simulate__of_weights_alone(monkeypatch):
    d = visits()
    m = vc.Model.from_formula("y ~ 1", d, residual="weights(w)")
    np.testing.assert_allclose(covariance(monkeypatch, m, [1.7], [2.0]), np.diag(1.7 / d.w), atol=1e-14)


def test_simulate__of_a_variance_for_each_sex(monkeypatch):
    d = visits()
    m = vc.Model.from_formula("y ~ 1", d, residual="by(sex, iid())")
    V = np.diag(np.where(d.sex == "f", 0.5, 2.5))
    assert m.theta_names == ("residual:var(f)", "residual:var(m)")
    np.testing.assert_allclose(covariance(monkeypatch, m, [0.5, 2.5], [0.0]), V, atol=1e-14)


def test_simulate__of_a_field_with_lost_plots_and_a_nugget(monkeypatch):
    d = pd.DataFrame([(r, c) for r in range(4) for c in range(5)], columns=["row", "col"]).drop([7, 13])
    d = d.reset_index(drop=True).assign(y=np.arange(18.0), one=0)
    m = vc.Model.from_formula("y ~ 1", d, residual="ar1(row) * ar1(col) + nugget")
    V = 2.0 * ar1(d, 0.5, "one", "row") * ar1(d, 0.3, "one", "col") + 0.4 * np.eye(18)
    assert m.theta_names == ("residual:var", "residual:rho_row", "residual:rho_col", "residual:nugget")
    np.testing.assert_allclose(covariance(monkeypatch, m, [2.0, 0.5, 0.3, 0.4], [0.0]), V, atol=1e-13)


def test_simulate__of_tied_and_structured_terms(monkeypatch):
    d = frame("penicillin")
    m = vc.Model.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", d, equal=[["plate", "sample"]])
    same = [np.equal.outer(d[g].to_numpy(), d[g].to_numpy()).astype(float) for g in ("plate", "sample")]
    V = 0.6 * (same[0] + same[1]) + 0.2 * np.eye(len(d))
    np.testing.assert_allclose(covariance(monkeypatch, m, [0.6, 0.2], [0.0]), V, atol=1e-13)


def test_simulate__first_responses_do_not_depend_on_how_many_are_drawn():
    fit = vc.fit(sleepstudy())
    few, many = fit.simulate(3, seed=7), fit.simulate(500, seed=7)
    np.testing.assert_allclose(few, many[:, :3], rtol=1e-13)
    assert many.shape == (180, 500)
    assert not np.array_equal(fit.simulate(3, seed=8), few)


def test_simulate__of_a_fit_has_the_fitted_mean_and_spread():
    """Mean and variance of 4000 draws, each within 5 of its standard errors (180 observations)."""
    fit = vc.fit(sleepstudy())
    Y = fit.simulate(4000, seed=1)
    V = np.tensordot(fit.theta_values, derivatives(fit.model.components, 180), axes=1)
    z = (Y.mean(axis=1) - fit.model.X @ fit.beta_values) / np.sqrt(np.diag(V) / 4000)
    assert np.abs(z).max() < 5
    z = (Y.var(axis=1, ddof=1) / np.diag(V) - 1) / np.sqrt(2 / 3999)
    assert np.abs(z).max() < 5


def test_simulate__says_what_is_wrong():
    m = sleepstudy()
    with pytest.raises(ModelError, match=r"θ is \[1.0\]; it must be 4 finite numbers: Subject:var"):
        simulate(m, [1.0], [0.0, 0.0])
    with pytest.raises(ModelError, match=r"β is .* 2 finite numbers"):
        simulate(m, [1.0, 0.0, 1.0, 1.0], [0.0, np.nan])
    with pytest.raises(DataError, match="covariance matrix of `Subject` is not positive semi-definite"):
        simulate(m, [1.0, 2.0, 1.0, 1.0], [0.0, 0.0])
    with pytest.raises(ModelError, match="residual variance is -1"):
        simulate(m, [1.0, 0.0, 1.0, -1.0], [0.0, 0.0])
    with pytest.raises(MethodError, match="`n` is 0"):
        simulate(m, [1.0, 0.0, 1.0, 1.0], [0.0, 0.0], 0)
