"""Acceptance: the sequential rule against its definition, term by term, and what it decides by simulation."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vcbench.errors import SpecError
from vcbench.study.acceptance import alarm_budget, check_rows
from vcbench.study.checks import Check
from vcbench.study.groups import build_group
from vcbench.study.measures import MEASURES, measures
from vcbench.study.sequences import mean_bounds, proportion_bounds, quantile_bounds
from vcbench.study.sequential import Rule
from vcbench.study.spec import Spec, read_spec
from vcbench.study.terms import Terms, log_mean, log_relative_mse, log_variance, pseudo_values, terms_of

TEXT = """
title = "Small"
question = "Is it held?"
seed = 5
block_size = 250
{keys}
methods = ["ai", "moments"]
reference = "ai"
[[data]]
generator = "one_way"
n_groups = 6
icc = 0.4
"""


def spec_of(*checks: str, keys: str = 'replicates = 2000\nrule = "sequential"') -> Spec:
    return read_spec(TEXT.replace("{keys}", keys) + "".join(f"\n[[acceptance]]\n{c}\n" for c in checks), "s.toml")


def rows_of(errors: np.ndarray, se: np.ndarray | float = 1.0, **columns) -> pd.DataFrame:
    """Rows of one method and parameter with these errors about a truth of 2."""
    n = len(errors)
    frame = pd.DataFrame({
        "condition": "000", "replicate": np.arange(n), "method": "ai", "parameter": "residual:var", "truth": 2.0,
        "estimate": 2 + np.asarray(errors, float), "se": se, "status": "CONVERGED", "criterion": "reml",
        "loglik": 0.0, "n_iter": 5.0,
    })  # fmt: skip
    return frame.assign(**columns)


def two_methods(rng: np.random.Generator, n: int = 700) -> pd.DataFrame:
    """Two methods with correlated, skewed estimates, their own SEs, failures, and tests."""
    one = rng.chisquare(4, n) / 4
    parts = []
    for name, estimate in (("ai", one), ("moments", one + 0.1 * rng.normal(size=n))):
        part = rows_of(estimate - 1, 0.7 * np.abs(estimate) + 0.01, method=name, n_iter=rng.poisson(6, n) + 1.0)
        lost = rng.random(n) < 0.05
        part.loc[lost, ["estimate", "se"]] = np.nan
        part.loc[lost, "status"] = "FAILED"
        part["loglik"] = rng.normal(size=n)
        parts.append(part.assign(seconds=rng.exponential(size=n), cpu_seconds=rng.exponential(size=n), n_eval=3.0))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("measure", [m for m in MEASURES if m not in ("max_abs_difference", "n_valid")])
def test_terms__give_the_value_that_measures_gives(measure, rng):
    rows = two_methods(rng)
    wanted = measures(rows, only=[measure], reference="ai").set_index("method").loc["moments"]
    g = build_group(rows, ["ai", "moments"], 0.95, "available")
    terms = terms_of(measure, g, 1, 0, 0.95)
    assert isinstance(terms, Terms), terms
    rule = Rule(Check(measure=measure, tolerance=1.0, target=0.5), 0.95, 1e-3, 10**6, 2000)
    look = rule.look(terms.upto(10**6), terms, np.ones(2))
    assert look.value == pytest.approx(wanted["value"], rel=1e-12)
    assert look.n == wanted["n"]
    if terms.kind == "ratio":  # a delta step apart from the jackknife of the measure itself
        assert look.mcse == pytest.approx(wanted["mcse"], rel=0.05)
    elif terms.kind != "quantile":
        assert look.mcse == pytest.approx(wanted["mcse"], rel=1e-9)
    assert look.lower <= look.value <= look.upper or math.isnan(look.lower)


@pytest.mark.parametrize(("name", "of"), [("mean", log_mean), ("variance", log_variance), ("mse", log_relative_mse)])
def test_left_out__is_the_statistic_without_the_replicate(name, of, rng):
    x = rng.chisquare(5, (2, 40))

    def log_t(x):
        e2, s2 = x[0].var(ddof=1), x[1]
        mse = ((s2.mean() - e2) ** 2 + s2.var(ddof=1)) / e2**2
        return np.log({"mean": x[0].mean(), "variance": e2, "mse": mse}[name])

    t, without = of(x if name == "mse" else x[0])
    brute = np.array([log_t(np.delete(x, i, axis=1)) for i in range(40)])
    assert t == pytest.approx(log_t(x), rel=1e-13)
    np.testing.assert_allclose(without, brute, rtol=1e-12)
    p = pseudo_values(t, without)
    jackknife = math.sqrt(39 / 40 * ((brute - brute.mean()) ** 2).sum())
    assert p.std(ddof=1) / math.sqrt(40) == pytest.approx(jackknife, rel=1e-12)


class TestSequential:
    def test_coverage__is_the_beta_binomial_sequence_at_the_first_look_that_decides(self):
        hit = np.tile([1.0] * 19 + [0.0], 100)  # 95 %, evenly
        rows = rows_of(np.where(hit == 1, 0.0, 5.0))
        (found,) = check_rows(spec_of('measure = "coverage"', keys="alarm = 0.05\nreplicates = 2000\n" + RULE), rows)
        looks = [n for n in range(250, 2001, 250)]
        bounds = [proportion_bounds(hit[:n].sum(), n, 0.95, 0.05) for n in looks]
        first = next(i for i, (lower, upper) in enumerate(bounds) if lower >= 0.93 and upper <= 0.97)
        assert (found.verdict, found.n) == ("PASS", looks[first])
        assert (found.lower, found.upper) == tuple(map(float, bounds[first]))
        assert "at any n within" in found.detail

    def test_bias__has_its_tolerance_in_empirical_ses(self, rng):
        d = rng.normal(0.0, 3.0, 2000)
        (found,) = check_rows(spec_of('measure = "bias"', keys="alarm = 0.01\nreplicates = 2000\n" + RULE), rows_of(d))
        x = d[: found.n]
        assert found.tolerance == pytest.approx(0.1 * x.std(ddof=1), rel=1e-12)
        lower, upper = mean_bounds(x.mean(), x.std(ddof=1), found.n, 0.01, 2000)
        assert (found.lower, found.upper) == pytest.approx((float(lower), float(upper)), rel=1e-12)
        fixed = spec_of('measure = "bias"', keys="replicates = 2000")
        assert check_rows(fixed, rows_of(d))[0].tolerance == pytest.approx(0.1 * d.std(ddof=1), rel=1e-12)

    def test_model_se_error__fails_where_ses_are_too_small_by_a_third(self, rng):
        rows = rows_of(rng.uniform(-5.0, 5.0, 2000), 2.0)
        (found,) = check_rows(spec_of('measure = "model_se_error"'), rows)
        assert (found.verdict, found.n) == ("FAIL", 500)  # not looked at before
        x = rows["estimate"].to_numpy()[:500] - 2
        p = pseudo_values(*(np.log(2) - v for v in _half(log_variance(x))))
        lower, upper = (100 * math.expm1(v) for v in mean_bounds(p.mean(), p.std(ddof=1), 500, 1e-3, 2000))
        assert (found.lower, found.upper) == pytest.approx((lower, upper), rel=1e-9)

    def test_verdict__that_is_settled_stays_whatever_comes_after(self, rng):
        d = np.r_[rng.normal(1.0, 1.0, 500), rng.normal(0.0, 1.0, 1500)]
        spec = spec_of('measure = "bias"')
        early, late = check_rows(spec, rows_of(d[:250]))[0], check_rows(spec, rows_of(d))[0]
        assert early.verdict == "FAIL"
        assert late == early

    def test_median__is_held_by_order_statistics(self, rng):
        x = rng.exponential(size=600)
        spec = spec_of('measure = "n_iter"\ntarget = 0.7\ntolerance = 1e-4', keys="n_max = 600\n" + RULE)
        (found,) = check_rows(spec, rows_of(np.zeros(600), n_iter=x))
        assert found.verdict == "INCONCLUSIVE"
        assert (found.lower, found.upper) == quantile_bounds(x, 0.5, 1e-3)
        assert found.lower in x
        assert found.lower < np.log(2) < found.upper

    @pytest.mark.parametrize(("errors", "reason"), [
        (np.r_[np.ones(30), np.zeros(1970)], "fewer than 50 of the 2000 terms differ from 0"),
        (np.full(2000, 0.25), "all terms are alike"),
        (np.r_[np.full(1990, 0.01), np.full(10, 100.0)], "terms as skewed as these are looked at from n ="),
    ])  # fmt: skip
    def test_inconclusive__says_why(self, errors, reason):
        (found,) = check_rows(spec_of('measure = "bias"\ntolerance = 0.5'), rows_of(errors))
        assert found.verdict == "INCONCLUSIVE"
        assert reason in found.reason
        assert reason in found.detail

    def test_maximum__is_compared_as_it_is_and_a_reference_with_itself_passes(self, rng):
        rows = two_methods(rng)
        largest = (rows.query("method == 'moments'").estimate.array - rows.query("method == 'ai'").estimate.array).max()
        spec = spec_of(
            'measure = "max_abs_difference"\nmethod = "moments"\ntolerance = 0.1',
            f'measure = "max_abs_difference"\nmethod = "moments"\ntolerance = {abs(largest) + 1}',
            'measure = "paired_difference"\nmethod = "ai"\ntolerance = 0.1',
        )
        assert [v.verdict for v in check_rows(spec, rows)] == ["FAIL", "PASS", "PASS"]

    @pytest.mark.parametrize("measure", ["bias", "model_se_error", "n_iter"])
    def test_false_alarms__at_the_edge_of_the_region_are_at_most_alpha(self, measure):
        """Skewed estimates (χ²₈/8) with SEs that are proportional to them; the truth lies on the region's edge."""
        rng, runs, alpha = np.random.default_rng(7), 150, 0.05
        edge = {"bias": "tolerance = 0.25\ntarget = 0.25", "n_iter": "tolerance = 1.0\ntarget = 4.5"}.get(
            measure, f"tolerance = 10\ntarget = {100 * (math.sqrt(0.25 * 1.25) / 0.5 - 1) - 10!r}"
        )
        check = Check(measure=measure, **{k: float(v) for k, v in (x.split(" = ") for x in edge.split("\n"))})
        alarms = 0
        for _ in range(runs):
            estimate = rng.chisquare(8, 1500) / 8
            rows = rows_of(estimate - 1, 0.5 * estimate, n_iter=rng.integers(1, 8, 1500) + rng.random(1500))
            g = build_group(rows, ["ai"], 0.95, "available")
            alarms += Rule(check, 0.95, alpha, 250, 2000).settle(g, 0, 0).verdict == "FAIL"
        assert alarms / runs <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)


RULE = 'rule = "sequential"'


def _half(t):
    return t[0] / 2, t[1] / 2


def test_quantile_bounds__miss_the_median_at_any_n_no_more_often_than_alpha():
    rng, alpha, runs = np.random.default_rng(3), 0.05, 400
    missed = 0
    for _ in range(runs):
        x = rng.exponential(size=800)
        ends = [quantile_bounds(x[:n], 0.5, alpha) for n in range(20, 801, 20)]
        missed += any(not lower <= math.log(2) <= upper for lower, upper in ends)
    assert 0 < missed / runs <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)


def test_alarm__is_shared_by_the_comparisons_and_by_share():
    plain, shared = Check(measure="coverage"), Check(measure="bias", share=0.4)
    assert alarm_budget([plain, plain], [3, 7], 1e-3) == pytest.approx([1e-4, 1e-4])
    found = alarm_budget([plain, shared, plain], [3, 4, 7], 1e-3)
    assert found == pytest.approx([0.6e-4, 1e-4, 0.6e-4])
    assert 3 * found[0] + 4 * found[1] + 7 * found[2] == pytest.approx(1e-3)


def test_spec_hash__does_not_know_how_rows_are_judged():
    base = spec_of(keys="replicates = 10").spec_hash
    for keys in ('replicates = 10\nrule = "sequential"', "replicates = 20\nn_max = 50", "precision = { bias = 0.1 }"):
        assert spec_of('measure = "coverage"\nshare = 0.5', keys=keys).spec_hash == base


@pytest.mark.parametrize(("keys", "check", "said"), [
    ("", "", "`replicates` is missing"),
    ("replicates = 9", 'measure = "mse"', "must say its `tolerance`: only coverage, be_coverage, bias"),
    ("replicates = 9", 'measure = "mse"\ntolerance = 0.1\nunit = "empirical_se"', "mse is no difference of estimates"),
    ("replicates = 9", 'measure = "coverage"\nshare = 1.0\n[[acceptance]]\nmeasure = "bias"', "sum to 1"),
    ("replicates = 9\nprecision = { n_valid = 1.0 }", "", "n_valid has none"),
    ("precision = { coverge = 0.01 }", "", "`precision.coverge.measure` is unknown"),
    ("precision = { coverage = { mcse = 0.01, method = \"aj\" } }", "", "`method` names `aj`"),
    ('rule = "sequential"\nreplicates = 90\nn_max = 50', "", "`n_max` is 50, below the 90"),
])  # fmt: skip
def test_spec__says_what_is_wrong_with_a_rule(keys, check, said):
    with pytest.raises(SpecError) as error:
        spec_of(*[check] * bool(check), keys=keys)
    assert said in str(error.value), str(error.value)


def test_committed__studies_keep_the_fixed_rule_but_for_that_of_mutants():
    """Their reports were made with it; how soon a mutant is found is a question about the sequential one."""
    folder = Path(__file__).resolve().parents[2] / "simulations"
    specs = [read_spec(path.read_text(encoding="utf-8"), path.name) for path in folder.glob("*.toml")]
    assert [spec.name for spec in specs if spec.table.rule != "fixed"] == ["mutants.toml"]
