"""Commands from end to end, on models and studies that take milliseconds."""

import json
import re
import subprocess
import sys

import pytest

from vcbench import Fit
from vcbench.cards import CHECKOUT
from vcbench.cli.app import run

STUDY = """
title = "A tiny study"
question = "Does it run?"
seed = 1
replicates = 6
methods = ["ai", "moments"]
[[data]]
name = "oneway"
generator = "one_way"
[[data]]
card = "one_way"
real = true
"""
PASSING = """
[[acceptance]]
measure = "convergence_rate"
method = "ai"
tolerance = 1.0
"""
FAILING = """
[[acceptance]]
measure = "max_abs_difference"
method = "moments"
target = 100.0
tolerance = 1e-9
"""
BAD_CARD = """
title = "A card"
description = "Its published answer is wrong."
formula = "y ~ 1 + (1 | g)"
[data]
file = "y.csv"
citation = "nobody"
[[published]]
criterion = "reml"
citation = "nobody"
values = { "beta[(Intercept)]" = "99.0" }
"""


@pytest.fixture
def study(tmp_path):
    """Run a study of that text; its exit code, run folder and file."""

    def run_text(text: str, *options: str):
        file = tmp_path / "tiny.toml"
        file.write_text(text)
        folder = tmp_path / "run"
        return run(["study", "run", str(file), "--out", str(folder), "--no-report", "--quiet", *options]), folder, file

    return run_text


def data_file(folder):
    path = folder / "y.csv"
    path.write_text("y,g\n1.0,a\n2.0,a\n3.5,b\n5.0,b\n4.0,c\n2.5,c\n")
    return path


def test_fit__of_a_card_prints_its_summary(capsys):
    assert run(["fit", "one_way"]) == 0
    out, err = capsys.readouterr()
    assert "1764.05" in out
    assert "1432.75" in out
    assert err == ""


def test_fit__json_reads_back_as_a_fit(capsys):
    assert run(["fit", "one_way:boundary", "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["schema"] == "vcbench/fit/1"
    assert str(Fit.from_json(text).status) == "AT_BOUNDARY"


def test_fit__of_a_data_file_and_a_formula(tmp_path, capsys):
    assert run(["fit", "--data", str(data_file(tmp_path)), "--formula", "y ~ 1 + (1 | g)", "--method", "em"]) == 0
    assert "y ~ 1 + (1 | g)" in capsys.readouterr().out


def test_fit__that_used_all_its_iterations_has_exit_code_1(capsys):
    assert run(["fit", "one_way:boundary", "--method", "em", "--max-iter", "1"]) == 1
    assert "MAX_ITER" in capsys.readouterr().out


def test_fit__takes_the_cards_criterion_where_the_method_has_it(capsys):
    run(["fit", "random_slope", "--json"])
    assert json.loads(capsys.readouterr().out)["criterion"] == "reml"
    run(["fit", "random_slope", "--method", "em-simplified", "--json"])
    assert json.loads(capsys.readouterr().out)["criterion"] == "ml"
    run(["fit", "random_slope", "--method", "moments", "--json"])
    assert json.loads(capsys.readouterr().out)["criterion"] == "none"


def test_fit__plots_are_written_where_asked(tmp_path, capsys):
    assert run(["fit", "one_way", "--method", "em", "--start", "unit", "--plots", str(tmp_path / "plots")]) == 0
    assert (tmp_path / "plots" / "convergence-reml.svg").read_text().rstrip().endswith("</svg>")
    err = capsys.readouterr().err
    written = {path.name for path in (tmp_path / "plots").iterdir()}
    assert written == {"convergence-reml.svg", *(f"{kind}.svg" for kind in (
        "ranef", "profile", "contour", "residuals", "acf", "influence"))}  # fmt: skip
    assert all(f"wrote {tmp_path / 'plots' / name}" in err for name in written)


def test_fit__plots_of_moments_are_those_that_need_no_likelihood(tmp_path, capsys):
    assert run(["fit", "one_way", "--method", "moments", "--plots", str(tmp_path), "--quiet"]) == 0
    written = {path.stem for path in tmp_path.iterdir()}
    assert written == {"ranef", "residuals", "acf", "influence"}
    assert capsys.readouterr().err == ""


def test_compare__plots_the_path_of_every_method(tmp_path, capsys):
    arguments = ["compare", "one_way", "--methods", "ai,em,moments", "--start", "unit", "--plots", str(tmp_path)]
    assert run(arguments) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"convergence-reml.svg", "contour-reml.svg"}
    picture = (tmp_path / "contour-reml.svg").read_text(encoding="utf-8")
    assert re.search(r"ai: \d+ iterations", picture)
    assert re.search(r"em: \d+ iterations", picture)
    assert "moments" not in picture
    assert f"wrote {tmp_path / 'contour-reml.svg'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "one_way", "--method", "aireml"], ["unknown method `aireml`", "Did you mean `ai`?"]),
        (["fit", "one_way", "--method", "em-henderson", "--criterion", "ml"], ["exists under reml only"]),
        (["compare", "one_way", "--methods", "ai,emm"], ["unknown method `emm`"]),
        (["study", "check", "no.toml"], ["no study file `no.toml`"]),
        (["study", "status", "nowhere"], ["no results folder"]),
        (["check", "nowhere"], ["unknown card `nowhere`"]),
    ],
)
def test_wrong_use__has_exit_code_2(arguments, words, capsys):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [word for word in words if word not in err] == []


@pytest.mark.parametrize(
    ("name", "text"), [("constant", "y,g\n1,a\n1,a\n1,b\n1,b\n"), ("infinite", "y,g\n1,a\ninf,a\n2,b\n")]
)
def test_bad_data__have_exit_code_2(name, text, tmp_path, capsys):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert run(["fit", "--data", str(path), "--formula", "y ~ 1 + (1 | g)"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_compare__says_that_the_methods_agree(capsys):
    assert run(["compare", "one_way", "--methods", "ai,newton,em,moments"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("AGREE  3 of 3 REML methods")
    assert "moments gives the same numbers on this design" in out
    assert out.count("1764.05 (1432.75)") == 4


def test_compare__methods_that_differ_by_more_than_the_tolerance_disagree(capsys):
    assert run(["compare", "three_components", "--methods", "ai,em", "--tol", "1e-15"]) == 1
    assert capsys.readouterr().out.startswith("DISAGREE  2 of 2 ML methods")


def test_compare__a_posterior_shows_its_interval_and_says_why_it_differs(capsys):
    assert run(["compare", "one_way", "--methods", "ai,quadrature"]) == 0
    out = capsys.readouterr().out
    assert "95% CrI" in out
    assert "note     quadrature: posterior medians" in out
    assert max(map(len, out.splitlines())) <= 110


def test_compare__many_parameters_get_a_table_of_their_own(capsys):
    assert run(["compare", "random_slope", "--methods", "ai,em", "--criterion", "ml"]) == 0
    out = capsys.readouterr().out
    assert "Subject:cov((Intercept),Days)" in out
    assert "ΔlogLik" in out


def test_compare__json_holds_every_fit(capsys):
    assert run(["compare", "one_way", "--methods", "all", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["verdict"]) == ("vcbench/compare/1", "AGREE")
    assert {"ai", "em", "em-henderson", "moments"} <= set(said["fits"])
    assert "em-simplified" not in said["fits"]  # exists under ml only


def test_study_check__prices_and_runs_nothing(tmp_path, capsys):
    file = tmp_path / "tiny.toml"
    file.write_text(STUDY)
    assert run(["study", "check", str(file)]) == 0
    assert "2 conditions · 14 fits" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]
    assert run(["study", "check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] == 14


def test_study_check__a_bad_specification_names_line_and_column(tmp_path, capsys):
    file = tmp_path / "bad.toml"
    file.write_text(STUDY.replace("seed = 1", "sed = 1"))
    assert run(["study", "check", str(file)]) == 2
    err = capsys.readouterr().err
    assert "bad.toml:4:1" in err
    assert "Did you mean `seed`?" in err


def test_study_run__then_status_replay_and_check(study, capsys):
    code, folder, _ = study(STUDY + PASSING)
    assert code == 0
    out, err = capsys.readouterr()
    assert f"results  {folder}" in out
    assert err == ""
    assert run(["study", "status", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["complete"], said["done"]) == ("vcbench/run-status/1", True, 14)
    assert run(["study", "replay", str(folder), "--row", "000/3/ai"]) == 0
    assert "identical to the stored rows" in capsys.readouterr().out
    assert run(["check", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"].keys() == {"PASS"}


def test_study_run__a_failed_acceptance_has_exit_code_1(study, capsys):
    code, folder, _ = study(STUDY + FAILING)
    assert code == 1
    assert "FAIL" in capsys.readouterr().out
    assert run(["check", str(folder)]) == 1


def test_study_run__a_folder_of_another_specification_is_refused(study, capsys):
    assert study(STUDY)[0] == 0
    assert study(STUDY.replace("seed = 1", "seed = 2"))[0] == 2
    assert "another specification" in capsys.readouterr().err


def test_check__a_card_that_misses_its_published_answer_fails(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    data_file(tmp_path / "data")
    (tmp_path / "card.toml").write_text(BAD_CARD)
    assert run(["check", str(tmp_path / "card.toml")]) == 1
    out = capsys.readouterr().out
    assert "beta[(Intercept)] is " in out
    assert "published 99.0" in out


def test_check__the_cards_give_their_published_answers(capsys):
    assert run(["check", str(CHECKOUT / "models")]) == 0
    assert "FAIL" not in capsys.readouterr().out


def test_program__starts_as_a_module_and_exits_with_its_code():
    code = "import sys; sys.argv = ['vcbench', 'explain', 'nothing']; from vcbench.cli.app import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
