"""`quadrature` and `nuts` are methods like any other."""

import numpy as np
import pytest
from classics import dyestuff, dyestuff2, sleepstudy

import vcbench as vc
from vcbench.bayes import quadrature
from vcbench.errors import MethodError, ModelError
from vcbench.status import Status


def test_fit__by_quadrature_is_the_exact_posterior():
    post = quadrature(dyestuff())
    median = vc.fit(dyestuff(), "quadrature")
    assert median.status is Status.CONVERGED
    assert median.criterion == "reml"
    np.testing.assert_allclose(median.theta, [post.quantile(n, 0.5) for n in post.theta_names])
    np.testing.assert_allclose(median.theta_se, post.theta_sd)
    np.testing.assert_allclose(median.beta_se, np.sqrt(np.diag(post.beta_cov)))
    np.testing.assert_allclose(vc.fit(dyestuff(), "quadrature", estimate="mean").theta, post.theta_mean)
    mode = vc.fit(dyestuff(), "quadrature", estimate="mode", priors="flat-var")
    reml = vc.fit(dyestuff(), tol=1e-10)
    np.testing.assert_allclose(mode.theta, reml.theta, rtol=1e-7)
    np.testing.assert_allclose(mode.beta, reml.beta, rtol=1e-10)
    assert mode.loglik == pytest.approx(reml.loglik, abs=1e-9)
    assert vc.fit(dyestuff2(), "quadrature", estimate="mode").status is Status.AT_BOUNDARY


def test_fit_many__by_quadrature_binds_each_response(rng):
    model = dyestuff()
    Y = np.column_stack([model.y, 50 * rng.normal(size=30), model.y + 10 * rng.normal(size=30)])
    many = vc.fit_many(model, Y, "quadrature", "ml")
    for j in range(3):
        one = quadrature(model.replace(y=Y[:, j]), criterion="ml")
        np.testing.assert_allclose(many.theta[j], [one.quantile(n, 0.5) for n in one.theta_names], rtol=1e-10)
        np.testing.assert_allclose(many.theta_se[j], one.theta_sd, rtol=1e-10)


def test_fit_many__by_quadrature_takes_milliseconds_each(rng):
    """CPU time, ten times what it takes on the machine it was written on."""
    many = vc.fit_many(dyestuff(), 50 * rng.normal(size=(30, 40)), "quadrature")
    assert np.median(many.cpu_seconds) < 0.2
    assert all(s is Status.CONVERGED for s in many.status)


def test_fit_many__by_nuts_draws_each_response_from_its_own_seed(rng):
    model = dyestuff()
    Y = np.column_stack([model.y, model.y + 5 * rng.normal(size=30)])
    seeds = np.random.SeedSequence(3).spawn(2)
    many = vc.fit_many(model, Y, "nuts", seed=seeds)
    exact = vc.fit_many(model, Y, "quadrature")
    sd = exact.theta_se
    assert (np.abs(many.theta - exact.theta) < 0.15 * sd).all()  # MCSE of a median is below 0.03 SD here
    assert all(s is Status.CONVERGED for s in many.status)
    again = vc.fit_many(model, Y[:, [1]], "nuts", seed=seeds[1:])
    np.testing.assert_array_equal(again.theta[0], many.theta[1])
    extra = many[0].extra
    assert extra["rhat"] <= 1.01
    assert extra["ess_bulk"] >= 400
    assert extra["divergences"] == 0


def test_fit__by_nuts_that_misses_a_gate_is_a_failed_row_with_its_reason():
    fit = vc.fit(dyestuff(), "nuts", draws=50, tune=50, seed=1)
    assert fit.status is Status.FAILED
    assert "ESS" in fit.message
    assert np.isfinite(fit.theta).all()


def test_methods__say_what_they_cannot_do():
    with pytest.raises(ModelError, match="up to three variances"):
        vc.fit(sleepstudy(), "quadrature")
    with pytest.raises(MethodError, match=r"unknown `estimate` 'mode'\. Choose median, mean"):
        vc.fit(dyestuff(), "nuts", estimate="mode")
    with pytest.raises(MethodError, match=r"unknown `estimate` 'medain'.*Did you mean `median`"):
        vc.fit(dyestuff(), "quadrature", estimate="medain")
    with pytest.raises(ModelError, match="improper"):
        vc.fit(dyestuff(), "quadrature", priors="flat-log")


def test_summary__of_a_posterior_says_its_priors():
    text = vc.fit(dyestuff(), "quadrature", priors={"Batch": "pc"}).summary()
    sd = dyestuff().y.std(ddof=1)
    assert f"Priors\n  Batch:var((Intercept)): SD exponential, P(SD > {sd:.6g}) = 0.05\n" in text
    assert f"  residual:var: SD half-normal, scale {sd:.6g}\n  β: flat\n" in text
    assert "Priors" not in vc.fit(dyestuff()).summary()


CARD = """\
title = "One-way layout with priors"
description = "Batches, each variance with a prior of its own."
formula = "Yield ~ 1 + (1 | Batch)"
priors = { default = "pc", Batch = { family = "half-t", df = 4, scale = 30 } }
[data]
file = "dyestuff.csv"
citation = "Davies and Goldsmith (1972)"
"""

STUDY = """\
title = "Priors of a study"
question = "Do the priors of an entry reach the posterior?"
seed = 1
replicates = 1
methods = [
  { name = "quadrature", label = "default" },
  { name = "quadrature", label = "mine", priors = { Batch = { family = "half-normal", scale = 3 }, residual = "pc" } },
]
[[data]]
card = "one_way"
real = true
"""


def test_priors__of_a_card_and_of_a_study_entry_are_those_of_python(tmp_path):
    """The same posterior from TOML as from Python, whatever the path."""
    from vcbench.cards import load_card

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dyestuff.csv").write_text((load_card("one_way").data_path()).read_text())
    (tmp_path / "mine.toml").write_text(CARD)
    card = load_card(str(tmp_path / "mine.toml"))
    from_card = vc.fit(card.model(), "quadrature", priors=card.priors)
    written = {"default": vc.bayes.PC(), "Batch": vc.bayes.HalfT(4.0, 30.0)}
    np.testing.assert_array_equal(from_card.theta, vc.fit(dyestuff(), "quadrature", priors=written).theta)

    (tmp_path / "study.toml").write_text(STUDY)
    study = vc.Study.from_toml(tmp_path / "study.toml")
    rows = study.run(out=tmp_path / "run", workers=1).rows
    rows = rows[rows["parameter"] == "Batch:var((Intercept))"].set_index("method")["estimate"]
    given = {"Batch": vc.bayes.HalfNormal(3.0), "residual": "pc"}
    for label, priors in (("default", None), ("mine", given)):
        assert rows[label] == vc.fit(dyestuff(), "quadrature", priors=priors).theta.iloc[0]


def test_study__with_a_family_that_there_is_not_is_refused_before_it_runs(tmp_path):
    from vcbench.errors import VcbenchError

    (tmp_path / "study.toml").write_text(STUDY.replace('"pc"', '"pcc"'))
    with pytest.raises(VcbenchError, match=r"unknown family 'pcc' for `residual`.*Did you mean `pc`"):
        vc.Study.from_toml(tmp_path / "study.toml")
