"""Residuals and BLUPs beside those of data sets drawn from the fit: dense formulas, bands by simulation."""

from functools import cache

import numpy as np
import oracle
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy
from scipy import stats

import vcbench as vc
from vcbench.errors import ModelError
from vcbench.inference.quantile_plots import MOST, normal_scores, quantile_plot, spread
from vcbench.inference.reference_sets import Drawn, ReferenceSets, band, pointwise


@cache
def penicillin() -> vc.Model:
    return vc.Model.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", frame("penicillin"))


MODELS = {"sleepstudy": sleepstudy, "dyestuff": dyestuff, "penicillin": penicillin}


@cache
def sets(name: str) -> tuple[vc.Fit, ReferenceSets, oracle.Plain]:
    fit = vc.fit(MODELS[name]())
    return fit, ReferenceSets.of(fit), oracle.plain(fit.model, fit.theta_values)


@pytest.mark.parametrize("name", MODELS)
def test_reference_sets__variances_are_those_of_dense_formulas(name):
    fit, found, dense = sets(name)
    R = fit.theta_values[-1] * np.eye(fit.model.n_obs)
    assert found.residual.sd**2 == pytest.approx(np.diag(R @ dense.P @ R), rel=1e-9)
    Z, G = oracle.stacked(fit.model), oracle.prior_covariance(fit.model, fit.theta_values)
    spread_of_blups = np.concatenate([d.sd for d in found.blups.values()])
    assert spread_of_blups**2 == pytest.approx(np.diag(G @ Z.T @ dense.P @ Z @ G), rel=1e-9)
    assert found.residual.value + found.fitted == pytest.approx(fit.model.y, abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_reference_sets__residuals_have_the_covariance_of_the_model(name):
    """Sample covariances of m sets about Σ have variance (Σ_ii Σ_jj + Σ_ij²)/m."""
    fit, found, dense = sets(name)
    Sigma = fit.theta_values[-1] ** 2 * dense.P
    m = found.residual.sets.shape[1]
    error = found.residual.sets @ found.residual.sets.T / m - Sigma
    z = error / np.sqrt((np.outer(np.diag(Sigma), np.diag(Sigma)) + Sigma**2) / m)
    assert np.abs(z).max() < 5.5
    assert z.std() == pytest.approx(1.0, abs=0.25)


def test_reference_sets__an_effect_without_variance_does_not_vary():
    fit = vc.fit(dyestuff2())
    drawn = ReferenceSets.of(fit).blups["Batch", "(Intercept)"]
    assert not drawn.known.any()
    assert (drawn.value == 0).all()


def test_reference_sets__a_negative_variance_is_refused():
    fit = vc.fit(dyestuff2(), "moments")
    with pytest.raises(ModelError, match="negative eigenvalue"):
        ReferenceSets.of(fit)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_band__holds_whole_curves_with_its_probability(level, rng):
    L = np.linalg.cholesky(0.8 ** np.abs(np.subtract.outer(range(30), range(30))))
    draw = lambda m: np.exp(0.5 * L @ rng.standard_normal((30, m)))  # noqa: E731 - skewed, of unequal spread
    low, mean, high = band(draw(4000), level)
    new = draw(20_000)
    held = ((new >= low[:, None]) & (new <= high[:, None])).all(axis=0).mean()
    assert abs(held - level) < 4 * np.sqrt(level * (1 - level) * (1 / 4000 + 1 / 20_000))
    assert mean == pytest.approx(np.full(30, np.exp(0.125)), rel=0.05)
    inner_low, _, inner_high = pointwise(draw(4000), level)
    assert ((inner_low > low) & (inner_high < high)).all()


def test_quantile_envelope__holds_the_ordered_residuals_of_new_data_sets():
    """Residuals of a fit: correlated, and as many as 18 levels allow; θ is held, as the envelope says."""
    fit, found, _ = sets("sleepstudy")
    for drawn in (found.residual, found.blups["Subject", "Days"]):
        plot = quantile_plot(drawn)
        other = ReferenceSets._drawn(fit, seed=99)
        again = other.residual if drawn is found.residual else other.blups["Subject", "Days"]
        ordered = np.sort(again.sets / again.sd[:, None], axis=0)
        held = ((ordered >= plot.low[:, None]) & (ordered <= plot.high[:, None])).all(axis=0).mean()
        assert abs(held - 0.95) < 4 * np.sqrt(0.95 * 0.05 * 2 / 999)


@pytest.mark.parametrize("n", [3, 10, 200])
def test_normal_scores__are_medians_of_order_statistics(n):
    k = np.arange(1, n + 1)
    assert normal_scores(n) == pytest.approx(stats.norm.ppf(stats.beta.median(k, n + 1 - k)), abs=1e-12)
    assert normal_scores(n) == pytest.approx(stats.probplot(np.arange(n), fit=False)[0], abs=2e-3)  # Filliben's


def test_quantile_plot__orders_standardized_values():
    fit, found, _ = sets("sleepstudy")
    plot = quantile_plot(found.residual)
    assert plot.value == pytest.approx(np.sort(fit.residuals("standardized")), abs=1e-12)
    assert (plot.which == np.argsort(fit.residuals("standardized"), kind="stable")).all()
    assert plot.outside.sum() == ((plot.value < plot.low) | (plot.value > plot.high)).sum() > 0  # heavy tails


def test_quantile_plot__thins_many_values_and_keeps_the_ends(rng):
    n = 3000
    drawn = Drawn(rng.standard_normal(n), np.ones(n), rng.standard_normal((n, 99)))
    plot = quantile_plot(drawn)
    assert len(plot.value) <= MOST
    assert plot.n == n
    ordered = np.sort(drawn.value)
    assert (plot.value[:20] == ordered[:20]).all()
    assert (plot.value[-20:] == ordered[-20:]).all()
    assert np.diff(plot.score)[20:-20].max() < 2.5 * np.ptp(plot.score) / (MOST - 40)
    assert (spread(np.arange(5.0), 10, 2) == np.arange(5)).all()
