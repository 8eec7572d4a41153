"""NUTS on a twin agrees with the exact posterior within its Monte Carlo error, compiles once, and is gated.

Two structures are compiled for the whole file: seconds each, minutes on a machine that never compiled one.
"""

import time

import numpy as np
import pytest
from bayes.problems import card_model
from classics import dyestuff, frame, sleepstudy

import vcbench as vc
from vcbench.bayes import diagnose, quadrature, sample, sampling, twin
from vcbench.errors import MethodError
from vcbench.status import Status

Z = 4.5  # |z| beyond which a comparison fails: 7e-6 two-sided, below 1e-3 for the hundred made here


def z_scores(made, draws, post):
    """(estimate − exact)/MCSE of the mean, SD and three quantiles of every σ, and of β.

    On σ and not log σ, whose exponential tail towards σ = 0 no estimate of an MCSE survives.
    """
    import arviz as az

    theta = sampling.theta_draws(draws, made)
    out = []
    for k, name in enumerate(made.theta_names):
        sigma, m = np.sqrt(theta[..., k]), post.marginal(name)
        out.append((sigma.mean() - post.sd_mean[k]) / az.mcse(sigma, method="mean"))
        out.append((sigma.std(ddof=1) - post.sd_sd[k]) / az.mcse(sigma, method="sd"))
        for p in (0.05, 0.5, 0.95):
            out.append((np.quantile(sigma, p) - m.quantile(p, "sd")) / az.mcse(sigma, method="quantile", prob=p))
    beta = np.asarray(draws["posterior"]["beta"])
    for j, name in enumerate(post.beta_names):
        b = beta[..., j]
        out.append((b.mean() - post.beta_mean[j]) / az.mcse(b, method="mean"))
        out.append((b.std(ddof=1) - np.sqrt(post.beta_cov[j, j])) / az.mcse(b, method="sd"))
        for p in (0.05, 0.5, 0.95):
            out.append((np.quantile(b, p) - post.quantile(name, p)) / az.mcse(b, method="quantile", prob=p))
    return np.array(out, float)


@pytest.mark.parametrize("name", ["one_way", "snp_heritability"])
def test_sample__agrees_with_quadrature_within_its_mcse(name):
    model = card_model(name)
    made = twin(model)
    draws = sample(made, draws=1000, tune=1000, chains=4, seed=20261121, cores=1)
    assert draws.attrs["status"] == "CONVERGED", draws.attrs["message"]
    assert np.abs(z_scores(made, draws, quadrature(model))).max() < Z


def test_sample__takes_another_response_without_compiling(rng):
    """Another response, another size of the same structure, another twin: one compiled model, the right posterior."""
    made = twin(dyestuff())
    sample(made, draws=10, tune=10, chains=1, seed=1, cores=1)
    compiled = len(sampling._COMPILED)
    start = time.process_time()
    y = 1e4 + 300 * (rng.normal(size=6)[np.repeat(np.arange(6), 5)] + rng.normal(size=30))
    draws = sample(made, seed=2, cores=1, y=y)
    assert np.abs(z_scores(made, draws, quadrature(made.source.replace(y=y)))).max() < Z
    data = frame("dyestuff").iloc[:-3]  # 27 rows: two distinct sizes of batch
    other = twin(vc.Model.from_formula("Yield ~ 1 + (1 | Batch)", data))
    assert other.key == made.key
    draws = sample(other, seed=3, cores=1)
    assert np.abs(z_scores(other, draws, quadrature(other.source))).max() < Z
    assert len(sampling._COMPILED) == compiled
    assert time.process_time() - start < 5  # compiling alone takes longer


def test_sample__is_repeated_by_its_seed():
    made = twin(dyestuff())
    runs = [sample(made, draws=50, tune=50, chains=2, seed=s, cores=1) for s in (7, 7, 8)]
    theta = [sampling.theta_draws(r, made) for r in runs]
    beta = [np.asarray(r["posterior"]["beta"]) for r in runs]
    np.testing.assert_array_equal(theta[0], theta[1])
    np.testing.assert_array_equal(beta[0], beta[1])
    assert not np.array_equal(theta[0], theta[2])


def test_diagnose__names_each_gate_that_was_missed():
    made = twin(dyestuff())
    short = sample(made, draws=60, tune=60, chains=4, seed=4, cores=1)
    verdict = diagnose(short, made)
    assert verdict.status is Status.FAILED
    assert short.attrs["status"] == "FAILED"
    assert "bulk ESS of `" in verdict.message
    assert "below 400" in verdict.message
    assert "Raise `draws` and `tune`" in verdict.message
    stuck = sample(made, draws=1000, tune=500, chains=4, seed=5, cores=1)
    stuck["posterior"]["residual:var"][0] = stuck["posterior"]["residual:var"][0] + 1e4
    stuck["sample_stats"]["diverging"][0, :3] = True
    verdict = diagnose(stuck, made)
    assert "R̂ of `residual:var` is" in verdict.message
    assert "above 1.01" in verdict.message
    assert "3 divergent transitions" in verdict.message
    assert list(verdict.frame.columns) == ["rhat", "ess_bulk", "ess_tail"]
    assert list(verdict.frame.index) == ["Batch:var((Intercept))", "residual:var", "beta[(Intercept)]"]


@pytest.mark.parametrize(("option", "value"), [("draws", 0), ("tune", -1), ("chains", 0), ("chains", 1.5)])
def test_sample__refuses_counts_that_make_no_sense(option, value):
    with pytest.raises(MethodError, match=f"`{option}` is {value}"):
        sample(twin(dyestuff()), **{option: value})
    with pytest.raises(MethodError, match="`target_accept` is 2"):
        sample(twin(dyestuff()), target_accept=2)


def test_compiled__density_has_the_kernels_gradient(rng):
    """What nutpie calls, in the unconstrained scale: its gradient is the central difference of its value."""
    made = twin(dyestuff())
    f = sampling.compile_twin(made).logp_func
    x = rng.normal(4.0, 0.3, 2)
    value, gradient = (np.asarray(a) for a in f(x))
    h = 1e-5
    numeric = [(float(f(x + h * e)[0]) - float(f(x - h * e)[0])) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6)
    theta = np.exp(2 * x)
    jacobian = x.sum()
    assert float(value) == pytest.approx(made.logp(theta) + jacobian, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_sample__of_correlated_slopes_has_both_criteria_in_one_posterior(criterion):
    """β integrated or kept: either posterior holds the REML estimates near its middle."""
    made = twin(sleepstudy(), criterion=criterion)
    draws = sample(made, draws=2000, seed=11)
    assert draws.attrs["status"] == "CONVERGED", draws.attrs["message"]
    report = vc.bayes.check(vc.fit(sleepstudy()), draws).frame
    assert report["quantile"].between(0.1, 0.9).all()
    assert (report["z"].abs() < 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rat_weight", "three_components"])
def test_sample__passes_its_gates_on_the_larger_cards(name):
    model = card_model(name)
    draws = sample(twin(model), seed=12)
    assert draws.attrs["status"] == "CONVERGED", draws.attrs["message"]
    report = vc.bayes.check(vc.fit(model), draws).frame
    assert report["quantile"].between(0.01, 0.99).all()


SIX = ("one_way", "one_way:boundary", "random_slope:uncorrelated", "snp_heritability", "nested", "crossed")
ALPHA_RUN = 1e-3  # of a false alarm anywhere in the six


@pytest.mark.slow
def test_sample__has_the_moments_and_quantiles_of_quadrature_on_six_models():
    """Mean, SD, 5/50/95 % of every σ and β; z from a budget shared by all comparisons (Bonferroni), seeds fixed."""
    from scipy.stats import norm

    scores = {}
    for name in SIX:
        model = card_model(name)
        made = twin(model)
        draws = sample(made, seed=20261121)
        assert draws.attrs["status"] == "CONVERGED", f"{name}: {draws.attrs['message']}"
        scores[name] = z_scores(made, draws, quadrature(model))
    n = sum(len(z) for z in scores.values())
    limit = norm.isf(ALPHA_RUN / (2 * n))
    worst = {name: float(np.abs(z).max()) for name, z in scores.items()}
    assert max(worst.values()) < limit, (worst, limit)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ar1", "cs", "heteroscedastic", "field_trial", "toeplitz", "unstructured", "split_plot"]
)
def test_sample__of_structures_passes_its_gates(name):
    """4 chains × 3 seeds with the defaults: R̂ ≤ 1.01, ESS ≥ 400, no more than 0.1 % of the draws divergent."""
    made = twin(card_model(name))
    found = [diagnose(sample(made, seed=seed), made) for seed in (1, 2, 3)]
    frames = [f.frame for f in found]
    assert max(f["rhat"].max() for f in frames) <= 1.01
    assert min(min(f["ess_bulk"].min(), f["ess_tail"].min()) for f in frames) >= 400
    assert sum(f.divergences for f in found) <= 1e-3 * 3 * 4000
