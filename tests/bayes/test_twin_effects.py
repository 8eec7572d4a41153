"""Composition sampling: (β, u) | θ, y has mean (GLS, BLUP) and the covariance C of the mixed-model equations."""

import numpy as np
import pytest
from classics import sleepstudy
from kernels.test_effect_structures import case
from kernels.test_structures import built
from scipy import stats
from strategies import draw_problem

import vcbench as vc
from vcbench import kernels
from vcbench.bayes import random_effects, sample, twin
from vcbench.bayes.effects import compose
from vcbench.errors import ModelError
from vcbench.inference.blup_errors import BlupErrors
from vcbench.inference.equations import Equations

M = 4000
ALPHA = 1e-4  # of each test, divided among its comparisons


def models():
    """One of each kernel and kind of G and R: (name, model, θ)."""
    for kind in ("slope-un", "crossed", "K-centred", "group-and-K", "columns-un", "pedigree-maternal"):
        problem = draw_problem(kind, seed=4, offset=True)
        yield kind, problem.model, problem.theta
    yield "toeplitz effects", *case("toeplitz", " + (1 | site)")[:2]
    yield "fixed effects", *case("fixed")[:2]
    for text in ("ar1(visit, group=subject) + nugget()", "weights(w) * ar1(visit, group=subject)", "by(sex)"):
        yield text, *built(text, " + (1 | sex)")[1:3]
    yield "ar1 x ar1", *built("ar1(row) * ar1(col)", " + (1 | gen)")[1:3]


MODELS = {name: (model, theta) for name, model, theta in models()}


def dense(model, theta):
    """(mean, covariance) of (β, u of all components, level by level) by the whole V: [β̂; GZᵀPy] and C."""
    V = Equations.at(model, theta)
    eye = np.eye(model.n_obs)
    y = model.y if model.offset is None else model.y - model.offset
    Py, P = V.project(y), V.project(eye)
    GZt = np.concatenate([V.effects(k, eye).reshape(-1, model.n_obs) for k in range(len(V.terms))])
    G = np.zeros((len(GZt), len(GZt)))
    at = 0
    for t in V.terms:
        N = t.Z[0].shape[1]
        A = t.related(np.eye(N))
        G[at : at + N * len(t.Z), at : at + N * len(t.Z)] = np.kron(A, t.Omega)
        at += N * len(t.Z)
    own = V.beta_cov
    mean = np.concatenate([V.beta_cov @ (V.VinvX.T @ y), GZt @ Py])
    cross = -V.beta_cov @ (V.VinvX.T @ GZt.T)
    return mean, np.block([[own, cross], [cross.T, G - GZt @ P @ GZt.T]])


def gate(draws, mean, C):
    """Every mean, and the quadratic form of every draw: z of the first, Kolmogorov's distance of the second."""
    z = (draws.mean(axis=0) - mean) / np.sqrt(np.maximum(np.diag(C), 1e-30) / len(draws))
    free = np.diag(C) > 1e-12 * np.diag(C).max()
    assert np.abs(z[free]).max() < stats.norm.isf(ALPHA / (2 * free.sum()))
    np.testing.assert_allclose(draws[:, ~free], np.broadcast_to(mean[~free], draws[:, ~free].shape), atol=1e-6)
    values, vectors = np.linalg.eigh(C)
    keep = values > 1e-10 * values.max()
    white = (draws - mean) @ vectors[:, keep] / np.sqrt(values[keep])
    S = white.T @ white / len(draws)  # of identity mean: entries have variance (1 + δ_ij)/M
    low, high = stats.chi2.ppf([ALPHA / len(S) / 2, 1 - ALPHA / len(S) / 2], len(draws)) / len(draws)
    assert low < np.diag(S).min()
    assert np.diag(S).max() < high
    other = S - np.diag(np.diag(S))
    assert np.abs(other).max() * np.sqrt(len(draws)) < stats.norm.isf(ALPHA / len(S) ** 2)
    chi2 = (white**2).sum(axis=1)
    assert stats.kstest(chi2, "chi2", args=(keep.sum(),)).pvalue > ALPHA


@pytest.mark.parametrize("name", MODELS)
def test_compose__has_the_mean_and_covariance_of_the_mixed_model_equations(name):
    model, theta = MODELS[name]
    u, beta = compose(model, np.tile(theta, (M, 1)), None, np.random.default_rng(11))
    draws = np.concatenate([beta, *(part.reshape(M, -1) for part in u)], axis=1)
    mean, C = dense(model, theta)
    kernel = kernels.build(model)
    at = kernel.evaluate(theta)
    blup = np.concatenate([at.beta, *(np.ravel(v) for v in kernel.blup(theta, at.beta))])
    np.testing.assert_allclose(mean, blup, rtol=1e-7, atol=1e-9)
    gate(draws, mean, C)


def test_compose__given_beta_is_the_conditional_of_lme4():
    model, theta = MODELS["slope-un"]
    beta = np.tile([0.5, -0.2], (M, 1))
    (u,), same = compose(model, np.tile(theta, (M, 1)), beta, np.random.default_rng(5))
    assert (same == beta).all()
    V, errors = Equations.at(model, theta), BlupErrors.at(model, theta)
    mean = V.effects(0, V.solve(model.y - model.offset - model.X @ beta[0])[:, None])[..., 0]
    for level, C in enumerate(errors.conditional(0)):
        gate(u[:, level], mean[level], C)


def test_random_effects__draws_each_theta_its_own_effects(rng):
    import xarray as xr

    model = sleepstudy()
    made = twin(model)
    thetas = np.array([[612.0, 9.6, 35.0, 655.0], [300.0, 0.0, 20.0, 900.0]])
    shape = (2, 500)
    which = rng.integers(2, size=shape)
    values = {n: (("chain", "draw"), thetas[which, j]) for j, n in enumerate(model.theta_names)}
    out = random_effects(xr.Dataset(values), made, seed=3)
    assert out["u(Subject)"].dims == ("chain", "draw", "level(Subject)", "effect(Subject)")
    assert list(out["effect(Subject)"].values) == ["(Intercept)", "Days"]
    again = random_effects(xr.Dataset(values), made, seed=3)
    assert out.identical(again)
    for k, theta in enumerate(thetas):
        own = out["u(Subject)"].values[which == k].reshape((which == k).sum(), -1)
        beta = out["beta"].values[which == k]
        mean, C = dense(model, theta)
        se = np.sqrt(np.diag(C) / len(own))
        assert np.abs((np.concatenate([beta, own], axis=1).mean(axis=0) - mean) / se).max() < stats.norm.isf(ALPHA / 76)


def test_random_effects__says_what_it_lacks():
    import xarray as xr

    with pytest.raises(ModelError, match="the draws lack `Subject:var"):
        random_effects(xr.Dataset(), twin(sleepstudy()))
    with pytest.raises(ModelError, match="no random effects to draw"):
        random_effects(xr.Dataset(), twin(vc.Model(np.arange(5.0) ** 2)))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["centred", "non-centred"])
def test_random_effects__of_a_marginal_twin_are_those_of_a_sampled_one(form):
    """Means and SDs of every effect over the whole posterior, within their MCSE."""
    import arviz as az

    model = sleepstudy()
    marginal, sampled = twin(model), twin(model, form=form)
    draws = sample(marginal, draws=2000, tune=1000, seed=5)
    other = sample(sampled, draws=4000, tune=1500, seed=6, target_accept=0.95)
    ours = random_effects(draws, marginal, seed=7)
    theirs = other["posterior"]["u(Subject)"].values
    n = ours["u(Subject)"].shape[2] * 2
    for what in ("mean", "sd"):
        a, b = (
            (getattr(x.reshape(-1, n), "mean" if what == "mean" else "std")(axis=0))
            for x in (ours["u(Subject)"].values, theirs)
        )
        se = [
            np.array([float(az.mcse(x[..., i], method=what)) for i in range(n)])
            for x in (v.reshape(*v.shape[:2], n) for v in (ours["u(Subject)"].values, theirs))
        ]
        z = (a - b) / np.hypot(*se)
        assert np.abs(z).max() < stats.norm.isf(ALPHA / n), what
