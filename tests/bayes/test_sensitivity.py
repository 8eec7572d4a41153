"""Power-scaling sensitivity: its logarithms are the twin's, and it sees a prior that decides."""

import numpy as np
import pytest
from classics import dyestuff, sleepstudy

from vcbench.bayes import HalfNormal, approximate, psense, sample, twin
from vcbench.bayes.sensitivity import with_logs
from vcbench.errors import ModelError


def test_with_logs__are_the_twins_log_prior_and_likelihood_at_every_draw():
    """Against the PyMC graph and `Twin.log_prior`, for a split of the total and for a prior on β (criterion "ml")."""
    for priors, criterion in ((None, "reml"), ({"default": HalfNormal(60.0)}, "reml")):
        made = twin(dyestuff(), priors, criterion)
        draws = approximate(made, "laplace", draws=100, seed=1)
        data = with_logs(draws, made)
        for i in (0, 57):
            theta = [float(draws["posterior"][n][0, i]) for n in made.theta_names]
            prior = sum(float(v[0, i]) for v in data["log_prior"].data_vars.values())
            assert prior == pytest.approx(made.log_prior(theta), abs=1e-9)
            assert float(data["log_likelihood"]["y"][0, i]) == pytest.approx(made.loglik(theta), abs=1e-8)


def test_psense__is_high_where_the_prior_decides_and_near_none_where_the_data_do():
    tight = {"Batch": HalfNormal(5.0)}  # where the data say 42
    made = twin(dyestuff(), tight)
    report = psense(sample(made, seed=1, cores=1), made)
    assert list(report.index) == ["Batch:var((Intercept))", "residual:var", "(Intercept)"]
    assert list(report.columns) == ["Batch:var((Intercept))", "residual:var", "prior", "likelihood", "diagnosis"]
    assert report.loc["Batch:var((Intercept))", "prior"] > 0.3
    assert "disagree" in report.loc["Batch:var((Intercept))", "diagnosis"]
    loose = twin(dyestuff(), {"default": HalfNormal(1000.0)})
    own = psense(sample(loose, seed=1, cores=1), loose)
    assert (own["prior"] < 0.05).all()
    assert own.loc["residual:var", "likelihood"] > 0.1
    assert (own["diagnosis"] == "").all()


def test_psense__refuses_draws_of_another_model():
    made = twin(dyestuff())
    with pytest.raises(ModelError, match="they are of another model"):
        psense(approximate(made, "laplace", draws=100, seed=1), twin(sleepstudy()))


def test_psense__leaves_out_flat_priors():
    draws = approximate(twin(dyestuff()), "laplace", draws=1000, seed=1)
    report = psense(draws, twin(dyestuff(), "flat-sd"))  # of the same parameters: nothing more is compiled
    assert list(report.columns) == ["likelihood", "diagnosis"]
    assert np.isfinite(report["likelihood"]).all()
