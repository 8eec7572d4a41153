"""`vc.lrt`: what a larger model adds is found, the right null distribution taken, and what is doubtful said."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classics import DATA, dyestuff, dyestuff2, frame
from scipy import stats

import vcbench as vc
from vcbench.errors import MethodError, ModelError
from vcbench.inference.likelihood_ratio import UNASKED, BootstrapNull, least_squares_loglik
from vcbench.inference.nesting import extension
from vcbench.inference.random_tests import reductions, refit_smaller, without
from vcbench.status import Status

ROOT = Path(__file__).parents[2]
RANOVA = ROOT / "tests" / "references" / "random_terms" / "ranova.csv"
SHARED = ROOT.parent / "shared" / "data"


@cache
def sleep(formula: str, residual: str | None = None, criterion: str = "reml") -> vc.Fit:
    """A fit to sleepstudy, `R` for Reaction, `S` for Subject."""
    formula = formula.replace("R ~", "Reaction ~").replace("| S)", "| Subject)")
    return vc.fit(vc.Model.from_formula(formula, frame("sleepstudy"), residual=residual), criterion=criterion)


def machines(formula: str) -> vc.Fit:
    path = SHARED / "machines.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    return vc.fit(vc.Model.from_formula(formula, pd.read_csv(path)))


AR1, ARMA = "ar1(Days, group=Subject)", "arma11(Days, group=Subject)"
TOEPLITZ, CS = "toeplitz(Days, group=Subject)", "cs(group=Subject)"
ADDED = [  # smaller, larger, (fixed effects, free variance parameters, blocks on the boundary)
    (("R ~ Days",), ("R ~ Days + (1 | S)",), (0, 0, (1,))),
    (("R ~ Days + (1 | S)",), ("R ~ Days + (Days | S)",), (0, 1, (1,))),
    (("R ~ Days + (1 | S)",), ("R ~ Days + (Days || S)",), (0, 0, (1,))),
    (("R ~ Days + (Days || S)",), ("R ~ Days + (Days | S)",), (0, 1, ())),
    (("R ~ Days",), ("R ~ Days + (Days || S)",), (0, 0, (1, 1))),
    (("R ~ Days",), ("R ~ Days + (Days | S)",), (0, 0, (2,))),
    (("R ~ Days + (1 | S)",), ("R ~ Days + (Days + I(Days^2) | S)",), (0, 2, (2,))),
    (("R ~ 1",), ("R ~ Days + (1 | S)",), (1, 0, (1,))),
    (("R ~ Days + (0 + I(Days - 3) | S)",), ("R ~ Days + (Days | S)",), (0, 1, (1,))),  # a direction of Ω, not an axis
    (("R ~ Days + (I(Days - 3) || S)",), ("R ~ Days + (Days | S)",), (0, 1, ())),  # the cov of another coding
    (("R ~ Days + (1 | S)",), ("R ~ Days + (1 | S)", AR1), (0, 1, ())),
    (("R ~ Days + (1 | S)",), ("R ~ Days", TOEPLITZ), (0, 8, ())),
    (("R ~ Days", AR1), ("R ~ Days", ARMA), (0, 1, ())),
    (("R ~ Days", AR1), ("R ~ Days", AR1 + " + nugget"), (0, 0, (1,))),
    (("R ~ Days", CS), ("R ~ Days", TOEPLITZ), (0, 8, ())),
]


@pytest.mark.parametrize(("small", "large", "expected"), ADDED)
def test_extension__finds_what_the_larger_model_adds(small, large, expected):
    f0, f1 = sleep(*small), sleep(*large)
    added = extension(f0.model, f0.theta_values, f1.model, f1.theta_values)
    assert (added.n_fixed, added.n_free, added.sizes) == expected
    assert (added.on_edge, added.irregular) == ((), "")
    assert added.n_fixed + added.n_free + added.n_boundary == f1.n_parameters - f0.n_parameters


def test_extension__finds_nested_terms_in_an_unstructured_omega():
    """(1 | Worker) + (1 | Worker:Machine) is compound symmetry of (0 + Machine | Worker): four less, inside."""
    f0 = machines("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)")
    f1 = machines("score ~ Machine + (0 + Machine | Worker)")
    added = extension(f0.model, f0.theta_values, f1.model, f1.theta_values)
    assert (added.n_fixed, added.n_free, added.sizes) == (0, 4, ())
    assert vc.lrt(f0, f1).null == "χ²_4"


APART = [
    (("R ~ Days + (0 + Days | S)",), ("R ~ Days + (I(Days - 3) || S)",), "no value of the larger model's variance"),
    (
        ("R ~ Days + (I(Days - 3) || S)",),
        ("R ~ Days + (0 + Days | S)", ARMA),
        "no value of the larger model's variance",
    ),
    (("R ~ Days", AR1), ("R ~ Days + (Days | S)",), "no value of the larger model's variance"),
]


@pytest.mark.parametrize(("small", "large", "message"), APART)
def test_lrt__refuses_models_that_are_not_nested(small, large, message):
    with pytest.raises(ModelError, match=message):
        vc.lrt(sleep(*small), sleep(*large))


def test_extension__refuses_models_that_only_cross():
    """At ρ = 0 an intercept with AR(1) residuals is one of (Days | Subject), which no other ρ is."""
    f0, f1 = sleep("R ~ Days + (1 | S)", AR1), sleep("R ~ Days + (Days | S)")
    with pytest.raises(ModelError, match="may leave it in a direction that the larger one does not have"):
        extension(f0.model, np.array([900.0, 700.0, 0.0]), f1.model, f1.theta_values)


def test_lrt__refuses_fixed_effects_that_are_not_nested():
    d = frame("sleepstudy").assign(u=np.random.default_rng(1).normal(size=180))
    fits = [
        vc.fit(vc.Model.from_formula(f, d), criterion="ml") for f in ("Reaction ~ u", "Reaction ~ Days + (1|Subject)")
    ]
    with pytest.raises(ModelError, match="the fixed effect `u` of the smaller model is no combination"):
        vc.lrt(*fits)


def test_lrt__refuses_a_negative_covariance_as_a_variance():
    """Compound symmetry with ρ < 0 is not a random intercept, whatever else the larger model has."""
    rng = np.random.default_rng(3)
    e = rng.normal(size=(20, 4))
    d = pd.DataFrame({"g": np.repeat(np.arange(20), 4), "x": np.tile(np.arange(4.0), 20)})
    d["y"] = (e - 0.9 * e.mean(axis=1, keepdims=True)).ravel()
    f0 = vc.fit(vc.Model.from_formula("y ~ x", d, residual="cs(group=g)"))
    assert f0.theta["residual:rho"] < 0
    f1 = vc.fit(vc.Model.from_formula("y ~ x + (x | g)", d))
    with pytest.raises(ModelError, match="`g` that is not positive semi-definite"):
        vc.lrt(f0, f1)


def test_lrt__refuses_other_offsets():
    d = frame("sleepstudy").assign(o=1.0 * np.arange(180))
    fits = [vc.fit(vc.Model.from_formula(f, d)) for f in ("Reaction ~ 1", "Reaction ~ 1 + offset(o) + (1 | Subject)")]
    with pytest.raises(ModelError, match="their offsets differ"):
        vc.lrt(*fits)


# --- the choice of a null distribution ---
def dyestuff_fits(criterion="reml"):
    return vc.fit(vc.Model(dyestuff().y), criterion=criterion), vc.fit(dyestuff(), criterion=criterion)


def test_dyestuff__has_the_statistic_and_p_of_the_mixture_and_of_f():
    """RLRT 6.369, ½χ²_0 + ½χ²_1: p = .0058; exact: that of F = 4.598 on 5 and 24 (one-way analysis of variance)."""
    fits = dyestuff_fits()
    mixture, exact, naive = (vc.lrt(*fits, method) for method in ("mixture", "auto", "chi2"))
    assert mixture.statistic == pytest.approx(6.369, abs=5e-4)
    assert mixture.p == pytest.approx(0.0058, abs=5e-5)
    assert mixture.p == pytest.approx(0.5 * stats.chi2.sf(mixture.statistic, 1), rel=1e-12)
    y = dyestuff().y.reshape(6, 5)
    assert exact.p == pytest.approx(stats.f_oneway(*y).pvalue, rel=1e-5)
    assert (exact.method, exact.n_sim, exact.mcse) == ("exact", 0, 0.0)
    assert naive.p == pytest.approx(2 * mixture.p, rel=1e-12)
    assert "on the boundary under the null" in naive.notes[0]
    text = str(mixture)
    assert text.startswith("Likelihood-ratio test (REML) of Batch:var((Intercept))\nLRT 6.369 on 1 df, p = 0.0058")
    assert "½χ²_0 + ½χ²_1 (mixture)" in text


def test_bootstrap__agrees_with_the_exact_distribution():
    fits = dyestuff_fits("ml")
    test = vc.lrt(*fits, "bootstrap", n_sim=2000, seed=1)
    exact = vc.lrt(*fits, "exact")
    assert abs(test.p - exact.p) < 4 * test.mcse + 1 / 2001
    assert (test.n_sim, test.n_failed) == (2000, 0)
    assert vc.lrt(*fits, "bootstrap", n_sim=2000, seed=1) == test
    at_zero = vc.lrt(vc.fit(vc.Model(dyestuff2().y)), vc.fit(dyestuff2()), "bootstrap", n_sim=40)
    assert (at_zero.statistic, at_zero.p) == (pytest.approx(0, abs=1e-9), 1.0)


def test_bootstrap__counts_the_data_among_the_draws():
    """(1 + #{LRT* ≥ LRT})/(1 + B): never 0; equal up to rounding counts as equal."""
    null = BootstrapNull(np.array([0.0, 1.0, 2.0, 3.0]), {}, 1e-9)
    assert [null.p_value(t) for t in (2.0, 2.0 + 1e-10, 2.1, 9.0)] == [0.6, 0.6, 0.4, 0.2]


def test_exact__with_a_fixed_effect_dropped_too():
    f0, f1 = (sleep(f, None, "ml") for f in ("R ~ 1", "R ~ Days + (1 | S)"))
    test = vc.lrt(f0, f1)
    assert (test.method, test.df, test.n_sim) == ("exact", 2, 10_000)
    assert test.p == 1 / 10_001
    assert vc.lrt(f0, f1, "mixture").null == "½χ²_1 + ½χ²_2"


def test_auto__takes_the_mixture_for_many_levels_and_for_more_parameters():
    rng = np.random.default_rng(0)
    d = {"g": np.repeat(np.arange(60), 3), "y": np.repeat(rng.normal(size=60), 3) + rng.normal(size=180)}
    many = [vc.fit(vc.Model.from_formula(f, d)) for f in ("y ~ 1", "y ~ 1 + (1 | g)")]
    assert vc.lrt(*many).method == "mixture"
    test = vc.lrt(sleep("R ~ Days + (1 | S)"), sleep("R ~ Days + (Days | S)"))
    assert (test.method, test.null, test.df) == ("mixture", "½χ²_1 + ½χ²_2", 2)
    two = vc.lrt(sleep("R ~ Days"), sleep("R ~ Days + (Days || S)"))
    assert two.weights_df == (0, 1, 2)
    assert two.weights[1] == pytest.approx(0.5)
    inside = vc.lrt(sleep("R ~ Days + (Days || S)"), sleep("R ~ Days + (Days | S)"))
    assert (inside.method, inside.null, inside.weights) == ("chi2", "χ²_1", ())


def test_auto__takes_the_exact_distribution_for_a_relationship_matrix():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(60, 100))
    y = W @ rng.normal(size=100) / 10 + rng.normal(size=60)
    fits = [vc.fit(m) for m in (vc.Model(y), vc.Model(y, components=[vc.Component(K=W @ W.T / 100, name="a")]))]
    assert vc.lrt(*fits).method == "exact"
    assert "may not be such" in vc.lrt(*fits, "mixture").notes[0]


def at_the_edge():
    """Two factors, the first without effect: its variance is 0 in both fits."""
    rng = np.random.default_rng(2)
    d = {"g": np.repeat(np.arange(8), 8), "h": np.tile(np.arange(8), 8)}
    y = rng.normal(size=(8, 8))
    d["y"] = (y - 0.8 * y.mean(axis=1, keepdims=True) + rng.normal(0, 0.7, 8)).ravel()
    return [vc.fit(vc.Model.from_formula(f, d)) for f in ("y ~ 1 + (1 | g)", "y ~ 1 + (1 | g) + (1 | h)")]


def test_a_null_at_its_own_boundary__is_simulated_and_said():
    f0, f1 = at_the_edge()
    assert f0.status is Status.AT_BOUNDARY
    test = vc.lrt(f0, f1, n_sim=100)
    assert test.method == "bootstrap"
    assert "smaller model is at its own boundary (g): no mixture of χ² holds" in test.notes[0]
    asked = vc.lrt(f0, f1, "mixture")
    assert asked.null == "½χ²_0 + ½χ²_1"
    assert "not valid there" in asked.notes[0]


def test_a_fixed_effect__is_tested_by_chi_square_whatever_the_boundary():
    d = frame("dyestuff2").assign(x=np.tile(np.arange(5.0), 6))
    fits = [
        vc.fit(vc.Model.from_formula(f, d), criterion="ml") for f in ("Yield ~ 1 + (1|Batch)", "Yield ~ x + (1|Batch)")
    ]
    assert fits[0].status is Status.AT_BOUNDARY
    test = vc.lrt(*fits)
    assert (test.method, test.null, test.notes, test.tested) == ("chi2", "χ²_1", (), ("x",))


def test_a_parameter_without_meaning_under_the_null__has_no_mixture():
    """Exponential decay of range 0, and ARMA(1,1) with γ = 0, are independent residuals whatever ρ is."""
    f0 = sleep("R ~ Days")
    f1 = sleep("R ~ Days", ARMA)
    with pytest.raises(MethodError, match=r"not identified.*no mixture of χ² holds"):
        vc.lrt(f0, f1, "mixture")
    assert "does not hold" in vc.lrt(f0, f1, "chi2").notes[0]
    decay = sleep("R ~ Days", "exponential(Days, group=Subject)")
    with pytest.raises(MethodError, match="at the edge of its range"):
        vc.lrt(f0, decay, "mixture")


def test_ranova__tests_the_terms_that_have_a_distribution_and_says_why_others_do_not():
    fit = sleep("R ~ Days + (1 | S)", "exponential(Days, group=Subject)")
    table = fit.ranova("mixture")
    labels = list(table.index)
    assert table.loc[labels[1], "null"] == "½χ²_0 + ½χ²_1"
    assert np.isnan(table.loc[labels[2], "p"])
    assert table.loc[labels[2], "statistic"] == pytest.approx(2 * (fit.loglik - table.loc[labels[2], "loglik"]))
    assert "at the edge of its range" in table.attrs["notes"][labels[2]]
    with pytest.raises(MethodError, match="unknown method"):
        fit.ranova("mix")
    with pytest.raises(ModelError, match="maximise no likelihood"):
        vc.fit(dyestuff2(), "moments").ranova()
    with pytest.raises(ModelError, match="is a posterior"):
        vc.fit(dyestuff2(), "quadrature").ranova()


def test_auto__draws_fewer_where_refits_are_dear():
    f0, f1 = sleep("R ~ Days"), sleep("R ~ Days", "exponential(Days, group=Subject)")
    assert vc.lrt(f0, f1).n_sim == UNASKED


def test_lrt__says_what_is_wrong():
    f0, f1 = sleep("R ~ Days + (1 | S)"), sleep("R ~ Days + (Days | S)")
    with pytest.raises(MethodError, match=r"unknown method `mix` of a test.*Did you mean `mixture`"):
        vc.lrt(f0, f1, "mix")
    with pytest.raises(MethodError, match=r"one variance beside σ².*bootstrap"):
        vc.lrt(f0, f1, "exact")
    with pytest.raises(MethodError, match="`n_sim` is 3"):
        vc.lrt(f0, f1, "bootstrap", n_sim=3)
    short = vc.fit(f1.model, "px-em", max_iter=3)
    notes = vc.lrt(f0, short).notes
    assert "larger model's fit ended MAX_ITER" in notes[0]
    worse = vc.fit(f1.model, "em", start="unit", max_iter=0)
    test = vc.lrt(f0, worse)
    assert "has not reached its maximum" in test.notes[1]
    assert (test.statistic < 0, test.p) == (True, 1.0)


# --- one term less ---
def reference():
    """{(data, formula): rows} of lmerTest's `ranova`."""
    out: dict[tuple[str, str], list[dict[str, str]]] = {}
    with RANOVA.open(encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            out.setdefault((row["data"], row["formula"]), []).append(row)
    return out


@pytest.mark.parametrize(("data", "formula"), list(reference()))
def test_ranova__drops_the_terms_that_lmertest_drops(data, formula):
    """lmerTest 3.1-3 (tests/references/random_terms/ranova.R): log-likelihood, AIC, LRT, df; p-values are not χ²'s."""
    path = DATA / f"{data}.csv" if (DATA / f"{data}.csv").exists() else SHARED / f"{data}.csv"
    if not path.exists():
        pytest.skip(f"no {path}")
    table = vc.fit(vc.Model.from_formula(formula, pd.read_csv(path))).ranova(method="mixture")
    rows = reference()[data, formula]
    assert len(table) == len(rows)
    by_npar = lambda t: t.sort_values(["n_parameters", "loglik"])  # noqa: E731 - terms of one formula in any order
    ours, theirs = by_npar(table), pd.DataFrame(rows).rename(columns={"npar": "n_parameters"})
    theirs[["n_parameters", "loglik", "aic", "lrt", "df"]] = theirs[
        ["n_parameters", "loglik", "aic", "lrt", "df"]
    ].apply(pd.to_numeric, errors="coerce")
    theirs = by_npar(theirs)
    for ours_name, name in (("n_parameters",) * 2, ("loglik",) * 2, ("aic",) * 2, ("statistic", "lrt"), ("df",) * 2):
        np.testing.assert_allclose(ours[ours_name].to_numpy(float), theirs[name].to_numpy(float), rtol=1e-6, atol=2e-6)


def test_ranova__names_terms_and_their_null_distributions():
    table = sleep("R ~ Days + (Days | S)").ranova()
    assert list(table.index) == ["<none>", "Days in (Days | Subject)"]
    assert table["null"].iloc[1] == "½χ²_1 + ½χ²_2"
    table = sleep("R ~ Days + (1 | S)", AR1).ranova()
    assert list(table.index)[1:] == ["(1 | Subject)", "residual ar1(Days, group=Subject)"]
    assert list(table["null"][1:]) == ["½χ²_0 + ½χ²_1", "χ²_1"]
    crossed = vc.fit(vc.Model.from_formula("diameter ~ 1 + (1 | plate) + (1 | sample)", frame("penicillin"),
                                           equal=[["plate", "sample"]])).ranova()  # fmt: skip
    assert list(crossed.index)[1:] == ["(1 | plate = sample)"]
    assert crossed["method"].iloc[1] == "exact"


def test_test_component__is_the_test_against_the_model_without_it():
    fit = vc.fit(dyestuff())
    test = fit.test_component("Batch", method="mixture")
    assert test.p == vc.lrt(*dyestuff_fits(), "mixture").p
    slope = sleep("R ~ Days + (Days | S)")
    assert slope.test_component("Subject", "Days").null == "½χ²_1 + ½χ²_2"
    assert slope.test_component("Subject", method="mixture").null == "χ̄² from χ²_0 to χ²_3"
    assert sleep("R ~ Days + (1 | S)", AR1).test_component("residual").null == "χ²_1"
    with pytest.raises(MethodError, match=r"`batch` is no random term.*Did you mean `Batch`.*It has: Batch"):
        fit.test_component("batch")
    with pytest.raises(MethodError, match=r"`Day` is no term of `Subject`.*Did you mean `Days`"):
        slope.test_component("Subject", "Day")


def test_reductions__keep_weights_offsets_levels_and_relationships():
    rng = np.random.default_rng(0)
    n = 24
    P = {"id": range(1, 9), "sire": [0, 0, 1, 1, 3, 3, 5, 5], "dam": [0, 0, 2, 2, 4, 4, 6, 6]}
    animal = rng.permutation(np.repeat(np.arange(1, 9), 3))
    x = rng.normal(size=n)
    c = vc.Component(np.column_stack([np.ones(n), x]), name="a", group=animal, cov=vc.covariance.pedigree(P),
                     columns=["(Intercept)", "x"])  # fmt: skip
    model = vc.Model(rng.normal(size=n), None, [c], residual=vc.residual.weights(np.arange(1.0, n + 1)), offset=x)
    (smaller,) = reductions(model)
    assert (smaller.component, smaller.term, smaller.label) == ("a", "x", "x in (x | a)")
    kept = smaller.model.components[0]
    assert kept.relation is c.relation
    assert (kept.effects, kept.theta_names) == (("(Intercept)",), ["a:var"])
    np.testing.assert_array_equal(smaller.model.noise.weights, model.noise.weights)
    np.testing.assert_array_equal(smaller.model.offset, x)
    assert without(model, "a").components == ()


@pytest.mark.parametrize("criterion", ["ml", "reml"])
def test_least_squares__is_the_fit_of_a_model_without_random_terms(criterion):
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(15), rng.normal(size=15)])
    weights = vc.residual.weights(rng.uniform(0.5, 2, 15))
    model = vc.Model(rng.normal(size=15), X, residual=weights, offset=rng.normal(size=15))
    fit = vc.fit(model, criterion=criterion)
    assert least_squares_loglik(model, model.y[:, None], criterion)[0] == pytest.approx(fit.loglik, abs=1e-10)
    again = refit_smaller(fit, model)
    assert again.loglik == pytest.approx(fit.loglik, abs=1e-10)
    np.testing.assert_allclose(again.theta_values, fit.theta_values, rtol=1e-6)  # the fit's own stop rule
    np.testing.assert_allclose(again.beta_values, fit.beta_values, rtol=1e-8)
    np.testing.assert_allclose(again.beta_se.to_numpy(), fit.beta_se.to_numpy(), rtol=1e-6)
