"""A point estimate against a posterior: its place, the likelihood's maximum, standard errors, predictive checks."""

import math

import numpy as np
import pandas as pd
import pytest
from classics import dyestuff, dyestuff2, frame, sleepstudy

import vcbench as vc
from vcbench.bayes import check, quadrature, sample, twin
from vcbench.bayes.predictive import statistics
from vcbench.errors import MethodError, ModelError


@pytest.fixture(scope="module")
def checked():
    post = quadrature(dyestuff())
    fits = [vc.fit(dyestuff()), vc.fit(dyestuff(), criterion="ml"), vc.fit(dyestuff(), "moments")]
    return fits, post, check(fits, post, predictive=200, seed=4)


def test_check__places_every_estimate_in_the_posterior(checked):
    fits, post, made = checked
    frame = made.frame.set_index(["fit", "parameter"])
    assert list(dict.fromkeys(made.frame["parameter"])) == ["Batch:var((Intercept))", "residual:var", "(Intercept)"]
    row = frame.loc["auto", "residual:var"]
    value = fits[0].theta["residual:var"]
    assert row["quantile"] == pytest.approx(float(post.cdf("residual:var", value)))
    assert row["z"] == pytest.approx((value - post.theta_mean[1]) / post.theta_sd[1])
    low, high = value - 1.959964 * row["se"], value + 1.959964 * row["se"]
    lower, upper = post.quantile("residual:var", [0.025, 0.975])
    assert row["overlap"] == pytest.approx((min(high, upper) - max(low, lower)) / (max(high, upper) - min(low, lower)))
    assert frame.loc["auto", "(Intercept)"]["quantile"] == pytest.approx(0.5, abs=1e-9)  # balanced: symmetric


@pytest.mark.parametrize("data", [dyestuff, dyestuff2, "uncorrelated", "ar1"])
@pytest.mark.parametrize("criterion", ["reml", "ml"])
def test_likelihood_mode__is_the_fit_with_its_observed_information(data, criterion):
    """REML is the mode with β integrated out and ML the joint one, whatever the prior; 1e-6 on the estimate."""
    model = {
        "uncorrelated": lambda: vc.Model.from_formula("Reaction ~ Days + (Days || Subject)", frame("sleepstudy")),
        "ar1": lambda: vc.Model.from_formula(
            "Reaction ~ Days", frame("sleepstudy"), residual="ar1(Days, group=Subject)"
        ),
    }.get(data, data)()
    fit = vc.fit(model, criterion=criterion, tol=1e-10)
    theta, cov = quadrature(model, "half-normal").likelihood_mode(criterion)
    np.testing.assert_allclose(theta, fit.theta, rtol=1e-6)
    inside = fit.theta > 0
    se = np.sqrt(np.diag(cov))
    np.testing.assert_allclose(se[inside], fit.theta_se[inside], rtol=1e-5)  # second differences
    assert np.isnan(se[~inside]).all()


def test_check__tells_a_stopped_fit_from_the_maximum(checked):
    _, post, made = checked
    assert made.verdict.startswith("AGREE")
    assert made.frame["mode_distance"].max(skipna=True) < 1e-5
    early = vc.fit(dyestuff(), "em", criterion="ml", max_iter=2, start="unit")
    stopped = check({"stopped": early}, post, predictive=0)
    assert stopped.verdict.startswith("DISAGREE  stopped:")
    assert "posterior SD from the maximum" in " ".join(stopped.summary().split())


def test_check__compares_se_and_sd_on_the_scale_of_the_log(checked):
    _, post, made = checked
    row = made.frame.set_index(["fit", "parameter"]).loc["auto", "residual:var"]
    m = post.marginal("residual:var")
    u = m.squeeze.u(m.z)
    mean = m.density @ u * m.step
    assert row["scale"] == "log"
    assert row["posterior_sd_scaled"] == pytest.approx(2 * math.sqrt(m.density @ (u - mean) ** 2 * m.step), rel=1e-7)
    assert row["se_scaled"] == pytest.approx(row["se"] / row["estimate"])


@pytest.mark.slow
def test_check__of_draws_is_that_of_quadrature_within_monte_carlo_error(checked):
    fits, _, made = checked
    draws = sample(twin(dyestuff()), seed=1, cores=1)
    sampled = check(fits, draws, predictive=0)
    n = 1000  # effective draws, at the least
    p = made.frame["quantile"].to_numpy()
    assert (np.abs(sampled.frame["quantile"] - p) < 4 * np.sqrt(p * (1 - p) / n)).all()
    assert sampled.frame["mode"].isna().all()
    assert "posterior draws" in sampled.summary()


def test_check__at_a_boundary_has_no_interval_and_says_so():
    made = check([vc.fit(dyestuff2()), vc.fit(dyestuff2(), "moments")], quadrature(dyestuff2()), predictive=0)
    row = made.frame.set_index(["fit", "parameter"]).loc["auto", "Batch:var((Intercept))"]
    assert row["quantile"] == 0
    assert np.isnan(row["overlap"])
    assert np.isnan(row["se_scaled"])
    assert "Batch:var((Intercept)) is 0 or less by auto and moments" in made.summary()


def test_check__with_profile_intervals_overlaps_more(checked):
    """The posterior of a variance of six batches is skewed, as its profile is and a Wald interval is not."""
    fits, post, made = checked
    profile = check(fits[0], post, interval="profile", predictive=0)
    name = "Batch:var((Intercept))"
    own, wald = (c.frame.set_index(["fit", "parameter"]).loc["auto", name] for c in (profile, made))
    limits = fits[0].confint("profile", parameters=[name]).iloc[0]
    np.testing.assert_allclose([own["fit_lower"], own["fit_upper"]], [limits["lower"], limits["upper"]])
    assert own["overlap"] > wald["overlap"]


def test_predictive__ratio_is_msb_over_mse_and_finds_a_model_without_groups():
    model = dyestuff()
    ((name, T),) = statistics(model)
    y = frame("dyestuff")["Yield"].to_numpy(float).reshape(6, 5)
    msb = 5 * y.mean(axis=1).var(ddof=1)
    mse = y.var(axis=1, ddof=1).mean()
    assert name == "between / within Batch"
    assert float(T(model.y[:, None])[0]) == pytest.approx(msb / mse)
    right = check(vc.fit(model), quadrature(model), seed=3)
    (own,) = right.predictive
    assert 0.2 < own.p < 0.8
    assert own.mcse == pytest.approx(math.sqrt(own.p * (1 - own.p) / 400))
    # the same y under batches of almost no variance: what the data show is not to be seen in replicates
    small = {"Batch": {"family": "half-normal", "scale": 0.01}}
    rng = np.random.default_rng(1)
    strong = model.replace(y=model.y + 300 * rng.normal(size=6)[np.asarray(model.components[0].codes)])
    wrong = check(vc.fit(strong), quadrature(strong, small), seed=3)
    assert wrong.predictive[0].p < 0.01
    assert "does not reproduce between / within Batch" in " ".join(wrong.summary().split())


def test_plot__has_a_panel_for_each_parameter_with_every_estimate(checked):
    fits, _, made = checked
    spec = made.spec()
    assert len(spec["concat"]) == 3
    titles = [panel["vconcat"][0]["title"]["text"] for panel in spec["concat"]]
    assert titles == [["Batch:sd((Intercept))"], ["residual:sd"], ["(Intercept)"]]
    lanes = spec["concat"][1]["vconcat"][1]["layer"][1]["data"]["values"]
    assert [row["fit"] for row in lanes] == ["auto", "auto ml", "moments"]
    assert lanes[0]["at"] == pytest.approx(math.sqrt(fits[0].theta["residual:var"]))
    assert type(made.plot(["residual:var"])).__module__.startswith("altair")
    with pytest.raises(MethodError, match=r"no parameter `residual`\..*Did you mean `residual:var`"):
        made.plot(["residual"])


def test_check__says_what_it_cannot_do(checked):
    fits, post, _ = checked
    with pytest.raises(ModelError, match="the posterior has no `Subject:var"):
        check(vc.fit(sleepstudy()), post)
    with pytest.raises(ModelError, match="must be a Posterior"):
        check(fits[0], pd.DataFrame({"a": [1.0]})["a"].to_numpy())
    with pytest.raises(MethodError, match="unknown interval `prfile`"):
        check(fits[0], post, interval="prfile")
    with pytest.raises(MethodError, match="other parameters than the first"):
        check([fits[0], vc.fit(sleepstudy())], post)
