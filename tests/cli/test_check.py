"""`vcbench check`: JUnit XML, annotations and exit codes say the same as the table."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vcbench.cli.app import run
from vcbench.cli.verdicts import annotations, junit, step_summary, write_whole
from vcbench.errors import StoreError

STUDY = """
title = "A tiny study"
question = "Does it hold?"
seed = 1
replicates = 6
methods = ["ai", "moments"]
[[data]]
generator = "one_way"
[[acceptance]]
measure = "convergence_rate"
method = "ai"
parameter = "residual:var"
tolerance = 1.0
[[acceptance]]
measure = "max_abs_difference"
method = "moments"
parameter = "residual:var"
target = 100.0
tolerance = 1e-9
[[acceptance]]
measure = "coverage"
method = "ai"
parameter = "residual:var"
"""


def verdict(word: str, check: str = "coverage of ai", detail: str = "coverage 0.9", **more):
    return {"target": "runs/quick", "check": check, "verdict": word, "detail": detail, **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("check")
    (place / "tiny.toml").write_text(STUDY)
    assert run(["study", "run", str(place / "tiny.toml"), "--out", str(place / "run"), "--no-report", "--quiet"]) == 1
    return place / "run"


def test_check__writes_junit_and_json_that_agree(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    capsys.readouterr()
    assert run(["check", str(folder), "--json", "--junit", str(tmp_path / "new" / "junit.xml")]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["counts"] == {"PASS": 1, "FAIL": 1, "INCONCLUSIVE": 1}
    assert err == ""
    root = ElementTree.parse(tmp_path / "new" / "junit.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("skipped"), root.get("errors")) == ("3", "2", "0", "0")
    kinds = {case.get("name"): [child.get("type") for child in case.iter("failure")] for case in root.iter("testcase")}
    for v in found["verdicts"]:
        assert kinds[v["check"]] == ([] if v["verdict"] == "PASS" else [v["verdict"]])
        numbers = v["numbers"]
        assert numbers["measure"] in v["check"]
        assert numbers["n"] == 6
        assert f"{numbers['value']:.4g}" in v["detail"]
    assert os.listdir(tmp_path / "new") == ["junit.xml"]


def test_check__annotates_where_github_runs_it(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert run(["check", str(folder)]) == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines[0].startswith("::error title=FAIL ")
    assert "max_abs_difference of moments" in lines[0]
    assert lines[1].startswith("::warning title=INCONCLUSIVE ")
    assert len(lines) == 2
    assert "::" not in out
    assert (tmp_path / "summary.md").read_text().startswith("**vcbench check:** 1 PASS, 1 FAIL, 1 INCONCLUSIVE\n")


def test_check__inconclusive_alone_is_3_or_nothing_if_said_ok(tmp_path, capsys):
    text = STUDY.split("[[acceptance]]")[0] + "[[acceptance]]" + STUDY.split("[[acceptance]]")[3]
    (tmp_path / "tiny.toml").write_text(text)
    out = str(tmp_path / "run")
    assert run(["study", "run", str(tmp_path / "tiny.toml"), "--out", out, "--no-report", "--quiet"]) == 3
    assert run(["check", out]) == 3
    assert run(["check", out, "--inconclusive", "ok", "--junit", str(tmp_path / "a.xml")]) == 0
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert (root.get("failures"), root.get("skipped")) == ("0", "1")


def test_check__that_cannot_be_made_leaves_no_file(tmp_path, capsys):
    assert run(["check", str(tmp_path), "--junit", str(tmp_path / "a.xml")]) == 2
    assert not list(tmp_path.iterdir())


def test_check__of_a_card_names_its_file(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "y.csv").write_text("y,g\n1.0,a\n2.0,a\n3.5,b\n5.0,b\n4.0,c\n2.5,c\n")
    (tmp_path / "wrong.toml").write_text(
        'title = "A card"\ndescription = "Its answer is wrong."\nformula = "y ~ 1 + (1 | g)"\n[data]\nfile = "y.csv"\n'
        'citation = "nobody"\n[[published]]\ncriterion = "reml"\ncitation = "nobody"\n'
        'values = { "beta[(Intercept)]" = "99.0" }\n'
    )
    assert run(["check", "wrong.toml", "--annotate"]) == 1
    assert ",file=wrong.toml::auto reml: 1 number: beta[(Intercept)] is 3" in capsys.readouterr().err


def test_annotations__are_ten_at_most_worst_first_and_escaped():
    verdicts = [verdict("INCONCLUSIVE", f"check {i}") for i in range(9)] + [verdict("PASS")] * 5
    verdicts += [verdict("FAIL", "a, b: 5 %", "two\nlines")] * 4
    lines = annotations(verdicts)
    assert len(lines) == 11
    assert lines[0] == "::error title=FAIL runs/quick::a, b: 5 %25: two%0Alines"
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 4 + ["::warning"] * 6 + ["::notice"]
    assert lines[-1].endswith("… and 3 more that fall short")
    assert annotations([verdict("PASS")]) == []
    assert annotations([verdict("FAIL", target="a:b,c")])[0].startswith("::error title=FAIL a%3Ab%2Cc::")


def test_junit__holds_any_text(tmp_path):
    root = ElementTree.fromstring(junit([verdict("FAIL", '<a> & \x00 "b"', "h² ≥ 0 ]]>")]))
    case = root.find("testsuite/testcase")
    assert case.get("name") == '<a> & � "b"'
    assert case.find("failure").text == "h² ≥ 0 ]]>"


def test_step_summary__keeps_its_columns():
    text = step_summary([verdict("FAIL", "a | b", "one\ntwo"), verdict("SKIPPED")])
    assert text.splitlines()[-1] == "| FAIL | runs/quick | a \\| b | one two |"


def test_write_whole__leaves_nothing_behind_where_it_cannot_write(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        write_whole(tmp_path / "taken", b"x")
    assert os.listdir(tmp_path) == ["taken"]
