"""The sentences of the first screen, against rows small enough to work out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report.synthetic import write_folder

from vcbench.report import agreement, endings, evidence, findings, scorecard, verdicts, words

SE = 2.0


def rows_of(method, criterion, estimates, *, condition="000", truth=10.0, se=SE, loglik=-1.0, n_iter=5, **extra):
    """One row a replicate of `residual:var`; limits are ± 2 SE."""
    estimates = np.asarray(estimates, float)
    n = len(estimates)
    frame = pd.DataFrame(
        {
            "condition": condition,
            "factor_data": "made",
            "replicate": range(n),
            "method": method,
            "criterion": criterion,
            "parameter": "residual:var",
            "truth": truth,
            "estimate": estimates,
            "se": se,
            "lower": estimates - 2 * se,
            "upper": estimates + 2 * se,
            "interval": "wald",
            "level": 0.95,
            "loglik": loglik,
            "status": "CONVERGED",
            "code": "",
            "message": "",
            "n_iter": n_iter,
            "n_eval": n_iter,
            "seconds": 1e-3 * n_iter,
            "cpu_seconds": 1e-3 * n_iter,
        }
    )
    return frame.assign(**extra)


def find(folder: Path, *frames, traces=None, spec="", **run):
    rows = pd.concat(frames, ignore_index=True)
    methods = [{"label": m, "name": m} for m in dict.fromkeys(rows["method"])]
    known = {"study": "hand", "methods": methods, "n_planned": 1, "finished": "now", **run}
    empty = pd.DataFrame(columns=["condition", "replicate", "method", "iteration", "loglik", "seconds"])
    return findings.find(evidence.load(write_folder(folder, rows, empty if traces is None else traces, known, spec)))


def said(found, lead):
    return next(v for v in verdicts.verdicts(found) if v.lead == lead)


# sd of (9, 10, 11, 14) is √(14/3) = 2.160, so its MCSE is 1.080 and a relative bias of 10 % has one of 10.8 %
AI = [9.0, 10.0, 11.0, 14.0]


def test_agreement__one_answer_in_words_and_level(tmp_path):
    found = find(tmp_path, rows_of("ai", "reml", AI), rows_of("em-reml", "reml", np.add(AI, 2e-8)))
    verdict = said(found, "Simulated data")
    assert verdict.level == "good"
    assert verdict.section == "agreement"
    # 2e-8/2 = 1e-8 standard errors
    assert verdict.text == (
        "On 4 simulated data sets 2 REML methods give the same estimates (largest distance 1e−8 SE)."
    )


def test_agreement__a_method_that_ends_elsewhere_is_named_with_its_distance(tmp_path):
    odd = rows_of("em-reml", "reml", [9.0, 10.0, 11.0, 13.0], loglik=[-1.0, -1.0, -1.0, -1.2])
    found = find(tmp_path, rows_of("ai", "reml", AI), rows_of("newton", "reml", AI), odd)
    verdict = said(found, "Simulated data")
    assert verdict.level == "bad"
    assert "2 REML methods give the same estimates (identical)" in verdict.text
    assert "em-reml in 75.0\u202f% of its fits (farthest 0.50 SE)" in verdict.text
    table = found.agreement.set_index("method")
    assert table.loc["em-reml", "largest"] == pytest.approx(0.5)
    assert table.loc["em-reml", "share_same"] == 0.75
    assert table.loc["em-reml", "deficit"] == pytest.approx(0.2)
    assert table.loc["em-reml", "replicate"] == 3


def test_agreement__ml_and_reml_are_never_set_against_each_other(tmp_path):
    ml = [rows_of(m, "ml", np.multiply(AI, 0.9), loglik=-5.0) for m in ("em", "px-em")]
    found = find(tmp_path, rows_of("ai", "reml", AI), rows_of("newton", "reml", AI), *ml)
    assert said(found, "Simulated data").text.startswith("On 4 simulated data sets 2 ML methods and 2 REML methods")
    assert [name for name, _ in found.groups] == ["ML maximisers", "REML maximisers"]


def test_agreement__fits_that_stopped_early_are_apart(tmp_path):
    early = rows_of("em-reml", "reml", [9.0, 10.0, 11.0, 13.9])
    early.loc[3, "status"] = "MAX_ITER"
    verdict = said(find(tmp_path, rows_of("ai", "reml", AI), early), "Simulated data")
    assert verdict.level == "note"
    assert verdict.text.endswith("Not counted: 1 fit stopped early (em-reml), up to 0.050 SE away.")


def test_agreement__moments_are_no_maximiser_and_no_fault(tmp_path):
    found = find(
        tmp_path, rows_of("ai", "reml", AI), rows_of("newton", "reml", AI), rows_of("moments", "none", np.add(AI, 1))
    )
    assert said(found, "Simulated data").level == "good"
    assert said(found, "Other answers").text.endswith("moments lies 0.50 SE from REML in the median.")


def test_agreement__where_an_se_is_absent_the_usual_one_of_the_condition_is_the_unit(tmp_path):
    se = np.array([SE, SE, np.nan, SE])
    found = find(
        tmp_path, rows_of("ai", "reml", AI, se=se), rows_of("newton", "reml", [9, 10, 11.5, 14], se=se, loglik=-1.1)
    )
    assert found.agreement.set_index("method").loc["newton", "largest"] == pytest.approx(0.25)


def test_bias__counts_cells_off_by_more_than_two_mcse(tmp_path):
    # 12, 12.1, 11.9, 12: bias 2 with MCSE 0.0408, so +20.0 ± 0.4 % of the truth
    found = find(tmp_path, rows_of("ai", "reml", AI), rows_of("em", "ml", [12.0, 12.1, 11.9, 12.0]))
    verdict = said(found, "Bias")
    assert verdict.level == "note"
    assert verdict.text == (
        "Off zero by more than 2 MCSE in none of 1 cell for ai and 1 of 1 for em. "
        "The largest: em +20.0 ± 0.4 % (residual:var)."
    )


def test_bias__zero_truth_has_no_per_cent(tmp_path):
    found = find(tmp_path, rows_of("ai", "reml", [1.0, 1.1, 0.9, 1.0], truth=0.0))
    assert said(found, "Bias").text == "Off zero by more than 2 MCSE in 1 of 1 cell for ai."


def test_coverage__shares_and_the_lowest(tmp_path):
    # limits are ± 4: of 9, 10, 11, 20 the last misses 10
    found = find(tmp_path, rows_of("ai", "reml", [9.0, 10.0, 11.0, 20.0]))
    # MCSE √(.75 · .25/4) = 21.7 points, and 20 points off is less than two of them
    assert said(found, "95 % intervals") == verdicts.Verdict(
        "good",
        "95 % intervals",
        "Coverage: ai 75.0\u202f% (none of 1 cell off). The lowest: ai 75 ± 22 % (residual:var).",
        "coverage",
    )


def test_coverage__near_one_is_judged_by_the_error_it_would_have_at_the_nominal_level(tmp_path):
    # 59 of 60 cover: 3.3 points above 95, own MCSE 1.65, at the nominal level 2.81
    found = find(tmp_path, rows_of("ai", "reml", [10.0] * 30 + [10.1] * 29 + [20.0]))
    assert not found.cells["coverage_off"].any()


def test_errors__the_farthest_model_se_is_named(tmp_path):
    estimates = 10 + np.tile([-2.0, -1.0, 1.0, 2.0], 25)  # empirical SE √(250/99) = 1.589, model SE 2: 25.9 % off
    verdict = said(find(tmp_path, rows_of("ai", "reml", estimates)), "Standard errors")
    assert verdict.level == "note"
    assert verdict.text.startswith(
        "They differ from the scatter of the estimates by more than 2 MCSE in 1 of 1 cell for ai."
    )
    assert "The farthest: ai +26 ± " in verdict.text


def test_cost__iterations_relative_to_the_fewest(tmp_path):
    found = find(tmp_path, rows_of("ai", "reml", AI), rows_of("em-reml", "reml", AI, n_iter=50))
    assert said(found, "Cost").text == (
        "Iterations in the median: ai 5; em-reml 50 (10 times). CPU time of a fit from 5.0 ms (ai) to 50 ms (em-reml)."
    )


def test_cost__a_method_that_starts_at_the_maximum_needs_none(tmp_path):
    found = find(
        tmp_path, rows_of("ai", "reml", AI, n_iter=0, cpu_seconds=1e-3), rows_of("em-reml", "reml", AI, n_iter=50)
    )
    assert said(found, "Cost").text.startswith("Iterations in the median: ai 0; em-reml 50. CPU")


def test_expansion__ratios_by_condition(tmp_path):
    frames = [
        rows_of("em", "ml", AI, n_iter=100),
        rows_of("px-em", "ml", AI, n_iter=50),
        rows_of("em", "ml", AI, n_iter=300, condition="001", factor_data="other"),
        rows_of("px-em", "ml", AI, n_iter=20, condition="001", factor_data="other", cpu_seconds=9.0),
    ]
    assert said(find(tmp_path, *frames), "PX-EM or EM").text == (
        "em takes 2.0 to 15 times the iterations of px-em, least on made, most on other. "
        "Expansion saves CPU time in 1 of 2 comparisons."
    )


def test_expansion__is_held_against_the_em_of_the_same_start(tmp_path):
    frames = [
        rows_of("em", "ml", AI, n_iter=100),
        rows_of("em, unit", "ml", AI, n_iter=400),
        rows_of("px-em, unit", "ml", AI, n_iter=40),
    ]
    methods = [
        {"label": "em", "name": "em"},
        {"label": "em, unit", "name": "em", "options": {"start": "unit"}},
        {"label": "px-em, unit", "name": "px-em", "options": {"start": "unit"}},
    ]
    assert said(find(tmp_path, *frames, methods=methods), "PX-EM or EM").text.startswith(
        "em, unit takes 10 times the iterations of px-em, unit."
    )


def test_missing__is_counted_by_method_and_status_with_a_command(tmp_path):
    failed = rows_of("nuts", "reml", [9.0, 10.0, np.nan, 14.0], message=["", "", "no answer after 30 s", ""])
    failed["status"] = ["CONVERGED", "CONVERGED", "TIMEOUT", "CONVERGED"]
    at_zero = rows_of("ai", "reml", AI, status=["CONVERGED", "AT_BOUNDARY", "CONVERGED", "CONVERGED"])
    found = find(tmp_path, at_zero, failed)
    verdict = said(found, "Missing results")
    assert verdict.level == "bad"  # one in eight
    assert verdict.text.startswith("1 of 8 fits (12.5\u202f%): nuts 1 TIMEOUT. 1 fit (12.5\u202f%) ended AT_BOUNDARY")
    assert list(found.missing["row"]) == ["000/2/nuts"]
    assert list(found.missing["message"]) == ["no answer after 30 s"]


def test_missing__skipped_fits_are_not_missing(tmp_path):
    skipped = rows_of("nuts", "reml", [np.nan] * 4, status="SKIPPED")
    verdict = said(find(tmp_path, rows_of("ai", "reml", AI), skipped), "Missing results")
    assert verdict.text == "None of 4 fits."


def test_scorecard__means_over_conditions_have_the_error_of_a_mean(tmp_path):
    frames = [rows_of("ai", "reml", AI), rows_of("ai", "reml", np.add(AI, 2), condition="001", factor_data="other")]
    found = find(tmp_path, *frames)
    card = scorecard.scorecard(found, "residual:var", scorecard.ALL)
    # biases 1 and 3 of 10: mean 20 %; MCSE 10.8/√2 = 7.6 %
    assert [cell.text for cell in card.rows[0]][:2] == ["ai", "20 ± 8"]
    assert card.rows[0][1].flag == "off"


def test_acceptance__verdicts_of_the_specification_are_on_the_page(tmp_path):
    spec = """
title = "t"
question = "q"
seed = 1
replicates = 4
methods = ["ai"]
data = [{card = "one_way"}]

[[acceptance]]
measure = "bias"
tolerance = 1000.0

[[acceptance]]
measure = "interval_width"
tolerance = 1.0
"""
    found = find(tmp_path, rows_of("ai", "reml", AI), spec=spec)
    assert dict(found.checks) == {"PASS": 1, "FAIL": 1}
    assert said(found, "Acceptance") == verdicts.Verdict(
        "bad", "Acceptance", "1 PASS and 1 FAIL of 2 checks.", "acceptance"
    )
    assert [row[0].text for row in found.check_table.rows] == ["FAIL", "PASS"]


def test_parameters__stand_in_the_models_order(tmp_path):
    names = ["residual:var", "g:var(x2)", "g:var((Intercept))", "g:cov(x,x2)", "g:cov((Intercept),x2)", "g:var(x)",
             "g:cov((Intercept),x)", "x", "(Intercept)"]  # fmt: skip
    frames = [rows_of("ai", "reml", AI).assign(parameter=name) for name in names]
    assert find(tmp_path, *frames).evidence.parameters == (
        "g:var((Intercept))", "g:cov((Intercept),x)", "g:cov((Intercept),x2)", "g:var(x)", "g:cov(x,x2)", "g:var(x2)",
        "residual:var", "(Intercept)", "x",
    )  # fmt: skip


def test_zip_lines__are_order_statistics_not_rows(tmp_path):
    rng = np.random.default_rng(1)
    found = find(tmp_path, rows_of("ai", "reml", 10 + 2 * rng.standard_normal(1000)))
    lines = endings.zip_lines(found.evidence, "000", "residual:var", "ai")
    assert len(lines) == 100
    assert lines["centile"].is_monotonic_increasing
    assert lines["covers"].iloc[:90].all()
    assert not lines["covers"].iloc[-1]


def test_thin_trace__keeps_the_ends():
    trace = pd.DataFrame({"iteration": range(20001), "loglik": 0.0})
    thin = endings.thin_trace(trace)
    assert len(thin) <= 62
    assert (thin["iteration"].iloc[0], thin["iteration"].iloc[-1]) == (0, 20000)


def test_identity__complete_when_all_planned_fits_are_there(tmp_path):
    assert words.state(find(tmp_path / "a", rows_of("ai", "reml", AI), n_planned=4).evidence) == (True, "COMPLETE")
    done, text = words.state(find(tmp_path / "b", rows_of("ai", "reml", AI), n_planned=16).evidence)
    assert (done, text) == (False, "PARTIAL, 25.0\u202f% of 16 fits")


def test_groups__a_method_that_differs_stands_alone(tmp_path):
    odd = rows_of("em-reml", "reml", [9.0, 10.0, 11.0, 13.0], loglik=-2.0)
    found = find(tmp_path, rows_of("ai", "reml", AI), rows_of("newton", "reml", AI), odd)
    assert agreement.groups(found.evidence, found.agreement) == [
        ("ai/newton", ("ai", "newton")),
        ("em-reml", ("em-reml",)),
    ]
