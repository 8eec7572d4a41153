"""reports/posterior_checks: card by card, every point method in the posterior."""

import json

import pandas as pd
import pytest

from vcbench.cards import load_card
from vcbench.cli.app import run
from vcbench.fit import fit
from vcbench.report.posterior_checks import answer, publish, readme
from vcbench.study.posterior_checks import check_card, check_cards, point_fits


@pytest.fixture(scope="module")
def found():
    return [check_card("one_way"), check_card("one_way:boundary")]


def test_check_card__holds_every_point_method_under_each_criterion(found):
    fits = found[0].check.fits
    assert {"ai", "ai ml", "em ml", "em-reml", "lbfgs", "moments", "anova", "minque"} <= set(fits)
    assert found[0].kind == "exact"
    model = load_card("one_way").model()
    pd.testing.assert_series_equal(fits["fisher"].theta, fit(model, "fisher", "reml", max_iter=3000).theta)
    frame = found[0].frame
    at = frame[frame["criterion"].isin(["reml", "ml"]) & frame["mode"].notna()]
    assert at["mode_distance"].max() < 1e-5


def test_report__answers_its_question_first_and_names_the_boundary(found, tmp_path):
    text = readme(found, {"absent": "no data"})
    assert text.splitlines()[2].startswith("**Yes.** On 2 models with an exact posterior")
    assert answer(found) == text.splitlines()[2]
    assert "On one_way:boundary," in text
    assert "`absent`: no data" in text
    out = publish(found, {}, tmp_path, {"python": "3.13", "host": "nowhere", "path": "/somewhere"})
    again = publish(found, {}, tmp_path / "again", {"python": "3.13"})
    for name in ("README.md", "summary.csv", "figures/one-way.svg", "figures/one-way-boundary.svg", "provenance.json"):
        assert (out / name).read_bytes() == (again / name).read_bytes()
    assert json.loads((out / "provenance.json").read_text())["provenance"] == [{"python": "3.13"}]
    rows = pd.read_csv(out / "summary.csv")
    assert set(rows["card"]) == {"one_way", "one_way:boundary"}
    assert len(rows) == 3 * sum(len(one.check.fits) for one in found)


def test_check_cards__leaves_out_what_cannot_be_done_and_says_why():
    found, missing = check_cards(["genetic_correlation:all_records", "no_such_card"])
    assert found == []
    assert set(missing) == {"genetic_correlation:all_records", "no_such_card"}
    assert "unknown card" in missing["no_such_card"]


def test_point_fits__report_no_method_that_the_model_has_not():
    fits, left_out = point_fits(load_card("cs").model())
    assert "ai" in fits
    assert "moments" not in fits
    assert left_out["moments"]


@pytest.mark.slow
def test_command__writes_the_report(tmp_path, capsys):
    assert run(["check", "cs:negative", "--posterior", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip().endswith("posterior_checks")
    assert (tmp_path / "posterior_checks" / "README.md").is_file()
