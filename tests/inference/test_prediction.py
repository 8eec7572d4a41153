"""Prediction errors of random effects: by Henderson's equations, by conditioning the joint normal, by simulation."""

import numpy as np
import pytest
from hypothesis import given
from oracle import incidence, posterior
from strategies import KINDS, draw_problem, problems

import vcbench as vc
from vcbench.inference.prediction import prediction_errors


@given(problems(KINDS))
def test_prediction_errors__are_the_posterior_variances_with_beta_integrated(p):
    _, cov, *_ = posterior(p.model, p.theta, "reml")
    variances, at = np.diag(cov), 0
    for c, got in zip(p.model.components, prediction_errors(p.model, p.theta), strict=True):
        N = incidence(c)[0].shape[1]
        want = variances[at : at + N * c.n_effects].reshape(c.n_effects, N).T
        assert got == pytest.approx(want, rel=1e-7, abs=1e-9 * want.max())
        at += N * c.n_effects


def test_ranef_se__is_laid_out_as_ranef():
    for kind in ("slope-un", "K", "K-incidence", "crossed", "Z-narrow"):
        fit = vc.fit(draw_problem(kind, seed=5).model)
        for name, se in fit.ranef_se().items():
            assert se.index.tolist() == fit.ranef()[name].index.tolist()
            assert se.columns.tolist() == fit.ranef()[name].columns.tolist()
            assert (se.to_numpy() >= 0).all()


def test_ranef_se__one_way_by_hand():
    """Balanced, σ² and σ_u² known: Var(û_j − u_j) = σ_u²(1 − h) + h²·Var(ȳ)-like terms, from the 2 × 2 equations."""
    group = np.repeat(np.arange(4), 3)
    y = np.random.default_rng(1).normal(size=12)
    model = vc.Model(y, None, [vc.Component(np.ones(12), name="g", group=group)])
    M = np.zeros((5, 5))  # [X'X/σ², X'Z/σ²; Z'X/σ², Z'Z/σ² + I/σ_u²], σ² = 2, σ_u² = 5
    M[0, 0], M[0, 1:], M[1:, 0] = 12 / 2, 3 / 2, 3 / 2
    M[1:, 1:] = np.eye(4) * (3 / 2 + 1 / 5)
    want = np.diag(np.linalg.inv(M))[1:]
    assert prediction_errors(model, np.array([5.0, 2.0]))[0][:, 0] == pytest.approx(want, rel=1e-12)


def test_ranef_se__of_a_zero_variance_is_zero():
    p = draw_problem("one-way", seed=2)
    assert (prediction_errors(p.model, np.array([0.0, 1.0]))[0] == 0).all()


def test_ranef__of_related_levels_carries_their_labels_and_predict_uses_them():
    rng = np.random.default_rng(3)
    labels = [f"a{k}" for k in range(8)]
    W = rng.normal(size=(8, 20))
    group = np.array(labels)[rng.integers(0, 6, 30)]  # a6 and a7 have no record
    c = vc.Component(np.ones(30), name="a", group=group, K=W @ W.T / 20, labels=labels)
    fit = vc.fit(
        vc.Model(rng.normal(size=30) + 2.0 * (group == "a1"), None, [c]), "ai", start={"a:var": 1.0}, max_iter=0
    )
    assert fit.ranef()["a"].index.tolist() == fit.ranef_se()["a"].index.tolist() == labels
    u = fit.ranef()["a"].iloc[:, 0]
    assert fit.predict() == pytest.approx(fit.beta_values[0] + u.loc[group].to_numpy())
    assert (fit.ranef_se()["a"].loc[["a6", "a7"]].to_numpy() > fit.ranef_se()["a"].loc["a0"].to_numpy()).all()


def test_prediction_errors__take_known_weights_of_the_residual():
    p = draw_problem("crossed", seed=4)
    w = np.random.default_rng(5).uniform(0.5, 3.0, p.model.n_obs)
    got = prediction_errors(
        vc.Model(p.model.y, p.model.X, p.model.components, residual=vc.residual.weights(w)), p.theta
    )
    root = np.sqrt(w)[:, None]
    scaled = [vc.Component(root * incidence(c)[0], name=c.name) for c in p.model.components]
    want = prediction_errors(vc.Model(p.model.y * root[:, 0], p.model.X * root, scaled), p.theta)
    for a, b in zip(got, want, strict=True):
        assert a == pytest.approx(b, rel=1e-9)
