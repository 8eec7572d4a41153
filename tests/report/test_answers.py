"""The answer of a study: its figures are the measures of the rows, and what has no estimate is told with its reason."""

import json
import re
from pathlib import Path

import pytest

import vcbench as vc
from vcbench import numbers as num
from vcbench.errors import SpecError
from vcbench.report import evidence
from vcbench.report.answers import answer
from vcbench.report.files import readme
from vcbench.report.findings import find
from vcbench.report.page import render_page
from vcbench.report.pictures.judged import errors
from vcbench.report.verdicts.ends import unestimated
from vcbench.study import study
from vcbench.study.spec import read_spec
from vcbench.study.store import read_run
from vcbench.study.study import Study

TEXT = """
title = "Pairs"
question = "Is there a correlation?"
seed = 11
replicates = 12
trace = false
measures = ["bias", "coverage", "failure_rate"]
answer = "One {one}, several {several}, lost {lost}, time {time}, nothing {nothing}."

[figures]
one = { measure = "bias", method = "correlation-moments", parameter = "h2_first", where = { h2 = 0.5 } }
several = { measure = "coverage", parameter = ["h2_first", "h2_second"] }
lost = { measure = "failure_rate", parameter = "rho_g", where = { h2 = 0.1 } }
time = { measure = "cpu_seconds", parameter = "rho_g" }
nothing = { measure = "bias", parameter = "no such" }

[[methods]]
name = "correlation-moments"

[[data]]
generator = "snp_traits"
n = 24
p = 60
h2 = [0.1, 0.5]
rho_g = 0.5
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> study.Run:
    folder = tmp_path_factory.mktemp("answers") / "run"
    return Study.from_text(TEXT, "pairs").run(folder, workers=1, progress="none", report=False)


def test_answer__figures_are_the_measures_of_the_rows(run: study.Run) -> None:
    """Oracle: `vc.measures` of the rows, picked by hand."""
    found = vc.measures(run.rows, only=["bias", "coverage", "failure_rate"]).set_index(
        ["condition", "parameter", "measure"]
    )
    said = answer(evidence.load(run.folder))
    one = found.loc[("001", "h2_first", "bias")]
    assert f"One {num.plus_minus(one['value'], one['mcse'])}, several" in said
    lost = found.loc[("000", "rho_g", "failure_rate")]
    assert lost["value"] > 0
    assert f"lost {num.plus_minus(100 * lost['value'], 100 * lost['mcse'])} %," in said
    shares = found.xs("coverage", level="measure")
    shares = shares[shares.index.get_level_values("parameter").str.startswith("h2")]["value"]
    low, high = re.search(r"several (\d+) to (\d+) % \(± \d+\)", said).groups()
    assert (int(low), int(high)) == (round(100 * shares.min()), round(100 * shares.max()))
    assert re.search(r"time [\d.]+ (ms|µs)( to [\d.]+ (ms|µs))?, nothing –\. \(±: the Monte", said)


def test_answer__is_the_first_paragraph(run: study.Run) -> None:
    found = find(evidence.load(run.folder))
    said = answer(found.evidence)
    assert readme(found, []).split("\n\n")[1] == f"**Answer.** {said}"
    assert '<p class="answer">One' in render_page(found, [], "0")


def test_parameters__of_traits_stand_in_their_order(run: study.Run) -> None:
    assert evidence.load(run.folder).parameters == ("rho_g", "rho_e", "h2_first", "h2_second")


def test_unestimated__says_how_many_where_and_why(run: study.Run) -> None:
    verdict = unestimated(find(evidence.load(run.folder)))
    assert verdict is not None
    lost = run.rows[(run.rows["parameter"] == "rho_g") & run.rows["estimate"].isna()]
    most = lost.groupby("condition").size().max() / 12
    assert re.match(rf"rho_g by correlation-moments in up to {round(100 * most)} ± \d+ % of data sets", verdict.text)
    assert "Why: no correlation: V(G) of the" in verdict.text


def test_unestimated__is_for_studies_that_are_about_it(run: study.Run, tmp_path: Path) -> None:
    other = TEXT.replace(', "failure_rate"]', "]").replace(", lost {lost}", "")
    other = re.sub(r"lost = .*\n", "", other)
    made = Study.from_text(other, "pairs").run(tmp_path / "run", workers=1, progress="none", report=False)
    assert unestimated(find(evidence.load(made.folder))) is None


def test_answer__changes_no_row(run: study.Run) -> None:
    """An answer is written when the rows are there: it is no part of what determines them, and a resumed run takes it
    over."""
    plain = re.sub(r"answer = .*\n\n\[figures\]\n(.* = \{.*\n)+", "", TEXT)
    assert "figures" not in plain
    assert read_spec(plain, "s").spec_hash == read_spec(TEXT, "s").spec_hash
    again = Study.from_text(TEXT.replace("One {one}", "First {one}"), "pairs")
    again.run(run.folder, workers=1, progress="none", report=False)
    assert read_run(run.folder)["answer"].startswith("First")
    Study.from_text(TEXT, "pairs").run(run.folder, workers=1, progress="none", report=False)
    assert json.loads((run.folder / "run.json").read_text())["answer"].startswith("One")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("One {one}", "One {won}", "`won`, which is not there. Did you mean `one`?"),
        ("One {one}", "One", "the figure `one` is not in `answer`"),
        ('one = { measure = "bias"', 'one = { measure = "bias", tolerance = 1', "unknown key `tolerance`"),
        ("where = { h2 = 0.5 }", "where = { h2 = 0.7 }", "which no condition has"),
        ('measure = "bias", method = "correlation-moments"', 'measure = "bias", method = "ai"', "no method of this"),
    ],
)
def test_spec__answers_and_figures_go_together(old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError, match="problem") as caught:
        read_spec(TEXT.replace(old, new), "pairs.toml")
    assert said in str(caught.value)


def test_errors__an_absurd_standard_error_presses_no_other_together(run: study.Run) -> None:
    """Near V(G) = 0 the delta method's errors of ρ_g have no bound: drawn at the edge, told in the table."""
    found = find(evidence.load(run.folder))
    cells = found.cells[found.cells["parameter"] == "rho_g"]
    assert cells["model_se"].max() > 2 * cells["empirical_se"].max()
    (picture,) = errors(found, "rho_g")
    assert "are drawn at the right edge." in picture.caption
    assert num.significant(cells["model_se"].max(), 2)[:2] in picture.table.markdown()
