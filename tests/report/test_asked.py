"""Reports of studies that ask for intervals or tests: sentences, scorecards and pictures from rows made by hand."""

import numpy as np
import pandas as pd
import pytest
from report.synthetic import write_folder

from vcbench.report import evidence, findings, scorecard, verdicts, words
from vcbench.report.pictures import figures

GROUP = "group:var((Intercept))"
EMPTY = pd.DataFrame(columns=["condition", "replicate", "method", "iteration", "loglik", "seconds"])


def rows_of(method, n, *, condition, truth, lower, upper, kind, p_value=np.nan, criterion="reml", cpu=1e-3):
    """n replicates, limits and p-values as given (one for all, or one each); no limits where NaN."""
    frame = pd.DataFrame({"replicate": range(n), "lower": lower, "upper": upper, "p_value": p_value})
    edge = frame["lower"].isna() & (kind != "")
    return frame.assign(
        condition=condition, factor_data="one_way", factor_icc=truth, method=method, criterion=criterion,
        parameter=GROUP, truth=truth, estimate=np.where(edge, 0.0, 0.3), se=np.where(edge, np.nan, 0.1),
        interval=np.where(frame["lower"].isna(), None, kind), level=0.95, loglik=-1.0,
        status=np.where(edge, "AT_BOUNDARY", "CONVERGED"), code="", message="", n_iter=4, n_eval=4, seconds=cpu,
        cpu_seconds=cpu,
    )  # fmt: skip


def load(folder, frames, methods, only):
    run = {"study": "hand", "methods": methods, "n_planned": 1, "finished": "now", "measures": only, "level": 0.95}
    return findings.find(evidence.load(write_folder(folder, pd.concat(frames, ignore_index=True), EMPTY, run, "")))


def asked(label, what, **table):
    return {"label": label, "name": "ai", "kind": "solver", "criterion": "reml", what: table}


@pytest.fixture(scope="module")
def intervals(tmp_path_factory):
    """100 replicates: Wald covers 0.5 in 80, and 0 in half of the 50 where it has limits; the profile in 96 and 98."""
    frames = [
        rows_of("Wald", 100, condition="001", truth=0.5, lower=[0.1] * 80 + [0.6] * 20, upper=0.7, kind="wald"),
        rows_of("profile", 100, condition="001", truth=0.5, lower=[0.2] * 96 + [0.6] * 4, upper=1.4, kind="profile"),
        rows_of("Wald", 100, condition="000", truth=0.0, lower=[np.nan] * 50 + [-0.1] * 25 + [0.1] * 25,
                upper=[np.nan] * 50 + [0.5] * 50, kind="wald"),
        rows_of("profile", 100, condition="000", truth=0.0, lower=[0.0] * 98 + [0.1] * 2, upper=0.9, kind="profile",
                cpu=2e-3),
    ]  # fmt: skip
    frames[3].loc[:59, "status"] = "AT_BOUNDARY"  # a profile has limits there
    methods = [asked("Wald", "interval", kind="wald"), asked("profile", "interval", kind="profile")]
    only = ["coverage", "no_interval_rate", "interval_width_median", "cpu_seconds"]
    return load(tmp_path_factory.mktemp("intervals") / "hand", frames, methods, only)


@pytest.fixture(scope="module")
def tests(tmp_path_factory):
    """1000 replicates under the null: χ² rejects 10, the exact test 50 (p = .05 counts); 100 of 200 beside 140."""
    none = {"lower": np.nan, "upper": np.nan, "kind": ""}
    frames = [
        rows_of("χ²", 1000, condition="000", truth=0.0, p_value=[0.01] * 10 + [0.5] * 990, **none),
        rows_of("exact", 1000, condition="000", truth=0.0, p_value=[0.05] * 50 + [0.5] * 950, **none),
        rows_of("χ²", 200, condition="001", truth=0.3, p_value=[0.01] * 100 + [0.5] * 100, **none),
        rows_of("exact", 200, condition="001", truth=0.3, p_value=[0.01] * 140 + [0.5] * 60, **none),
    ]
    methods = [
        asked("χ²", "test", kind="chi2", drop="group"),
        asked("exact", "test", kind="exact", drop="group"),
    ]
    return load(tmp_path_factory.mktemp("tests") / "hand", frames, methods, ["rejection", "cpu_seconds"])


def said(found):
    return {v.lead: v for v in verdicts.verdicts(found)}


def plain(text):
    return text.replace("\u202f", " ")


def test_intervals__sentences(intervals):
    found = said(intervals)
    assert list(found) == [
        "95 % intervals", "Profile or Wald", "No interval", "Width", "Cost", "Missing results",
    ]  # fmt: skip
    # within 2 points: the profile in 1 of 2 (98 % is 3 off), Wald in none; √(.5·.5/50) = 7.1 points
    assert plain(found["95 % intervals"].text) == (
        "Within 2 points of 95 %: profile in 1 of 2 conditions (96.0 % to 98.0 %) and Wald in none of 2 (50.0 % to "
        "80.0 %); MCSE at most 7.1 points."
    )
    assert plain(found["Profile or Wald"].text) == (
        "profile is near in 1 of the 2 cells where a Wald interval is not. At most so many points off: 3.0 for profile "
        "and 45.0 for Wald; where less than 10 % of the estimates are 0 (1 condition): 1.0 for profile and 15.0 for "
        "Wald. Where the true variance is 0, a profile can "
        "miss on one side only and covers 98.0 %: its nominal level there is 97.5 %."
    )
    assert plain(found["No interval"].text) == (
        "Wald has none in up to 50.0 % of fits (icc=0); each counted as a miss, coverage is 25.0 % at worst."
    )
    # medians: 0.6 of 1.2, and (0.6 + 0.4)/2 of 0.9
    assert found["Width"].text == "Median widths, in those of profile: Wald 0.50 to 0.56."
    assert found["Cost"].text == "CPU time of a fit and what it was asked: Wald 1.0 ms and profile 1.5 ms."


def test_intervals__scorecard_holds_what_the_study_is_about(intervals):
    table = scorecard.scorecard(intervals, GROUP, "000")
    assert table.columns == (
        "method", "coverage, %", "no interval, %", "coverage, none being a miss, %", "median width", "CPU time",
        "missing",
    )  # fmt: skip
    wald = {c: cell for c, cell in zip(table.columns, table.rows[0], strict=True)}
    assert (wald["coverage, %"].text, wald["coverage, %"].flag) == ("50 ± 7", "off")
    assert wald["no interval, %"].text == "50 ± 5"
    assert wald["coverage, none being a miss, %"].text == "25 ± 4"
    whole = scorecard.scorecard(intervals, GROUP, scorecard.ALL)
    assert whole.columns[1:3] == ("coverage, %", "lowest coverage, %")
    assert [row[2].text for row in whole.rows] == ["50 ± 7", "96 ± 2"]


def test_intervals__pictures_are_of_coverage_and_cost(intervals):
    made = {f.name: f for f in figures(intervals)}
    assert set(made) == {
        "coverage-group-var-intercept", "zip-group-var-intercept", "speed", "endings",
    }  # fmt: skip
    coverage = made["coverage-group-var-intercept"]
    assert "Open diamond: with a fit that gives no interval counted as a miss." in coverage.caption
    assert "shaded within 2 points" in coverage.caption
    assert "50" in coverage.svg  # beside the symbol at the edge
    zips = made["zip-group-var-intercept"]
    assert [row[0].text for row in zips.table.rows] == ["Wald", "profile"]
    assert "icc=0.5" in zips.title
    assert "Iterations" not in made["speed"].svg


def test_tests__size_and_power(tests):
    found = said(tests)
    assert plain(found["Type-I error"].text) == (
        "At 5 %, where the variance is 0, the tests reject in: χ² 1.0 % (1 of 1 condition off) and exact 5.0 % "
        "(none of 1 off)."
    )
    assert found["Type-I error"].level == "note"
    assert plain(found["Power"].text).startswith(
        "Where the variance is not 0, exact finds it in 70.0 % of data sets; farthest from it χ² by −20.0 points "
        "(icc=0.3). MCSE of a power at most 3.5 points."
    )
    assert "Bias" not in found


def test_tests__scorecard_and_pictures(tests):
    table = scorecard.scorecard(tests, GROUP, scorecard.ALL)
    assert table.columns == ("method", "type-I error, %", "power, %", "CPU time", "missing")
    assert [[cell.text for cell in row[:3]] for row in table.rows] == [
        ["χ²", "1.0 ± 0.3", "50 ± 4"], ["exact", "5.0 ± 0.7", "70 ± 3"],
    ]  # fmt: skip
    assert [row[1].flag for row in table.rows] == ["off", ""]
    made = {f.name: f for f in figures(tests)}
    assert set(made) == {"size-group-var-intercept", "power-group-var-intercept", "speed", "endings"}
    assert "1 of 2 cells off" in made["size-group-var-intercept"].caption
    assert scorecard.precision(tests).startswith("Largest MCSE of a type-I error 0.69 points (exact, group:var")


def test_methods__say_what_they_were_asked(tests, tmp_path):
    table = words.method_table(tests)
    assert table.columns[-1] == "asked for"
    assert [row[-1].text for row in table.rows] == ["chi2 test, drop=group", "exact test, drop=group"]
    looks = [tests.styles[m].colour for m in ("χ²", "exact")]
    assert len(set(looks)) == 2
