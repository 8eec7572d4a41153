"""History: what runs leave behind, and the page on them."""

import json
import re
from pathlib import Path

import pytest

from vcbench.cli.app import run
from vcbench.errors import StoreError
from vcbench.report.history import render_history, study_of
from vcbench.report.nights import cost_ratio, history_bytes, read_records, released_before
from vcbench.study.store import read_rows
from vcbench.study.study import Study

TEXT = """
title = "Nightly <one> & two"
question = "Does it hold?"
seed = 1
replicates = 40
methods = ["ai", "moments"]
[[data]]
name = "groups"
generator = "one_way"
n_groups = [6, 8]
[[acceptance]]
measure = "convergence_rate"
method = "ai"
parameter = "residual:var"
tolerance = 0.9
[[acceptance]]
measure = "bias"
method = "moments"
parameter = "residual:var"
target = 5.0
tolerance = 0.1
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Two nights of a study."""
    folder = tmp_path_factory.mktemp("nights")
    study = Study.from_text(TEXT, "nightly")
    for seed in (11, 12):
        made = study.with_seed(seed).run(folder / str(seed), workers=1, progress="none", report=False)
        known = json.loads((made.folder / "run.json").read_text())
        (made.folder / "run.json").write_text(json.dumps(known | {"started": f"2026-11-{seed}T02:00:00Z"}))
    return folder


def night(day: int, verdict: str = "PASS", version: str = "0.2.0", cpu: float = 1.0, **check) -> dict:
    said = {
        "measure": "coverage", "method": "ai", "parameter": "a:var", "condition": "groups", "value": 0.95, "n": 500,
        "lower": 0.94, "upper": 0.96, "target": 0.95, "tolerance": 0.02, "verdict": verdict, "detail": "0.95",
    }  # fmt: skip
    return {
        "study": "s", "title": "S", "started": f"2026-11-{day:02d}T02:00:00Z", "seed": day, "version": version,
        "processor": "p", "checks": [said | check], "methods": {"ai": {"n_iter": 5.0, "cpu_seconds": cpu}},
    }  # fmt: skip


def test_records__hold_the_verdicts_and_costs_of_the_rows(folders):
    first, second = read_records([folders])
    assert (first["seed"], second["seed"]) == (11, 12)
    rows = Study.from_text(TEXT, "nightly").with_seed(11)
    stored = read_rows(folders / "11")
    verdicts = rows.check(folders / "11")
    assert [(c["measure"], c["verdict"], c["value"]) for c in first["checks"]] == [
        (v.measure, v.verdict, v.value) for v in verdicts
    ]
    assert {c["condition"] for c in first["checks"]} == {"groups n_groups=6", "groups n_groups=8"}
    fits = stored.drop_duplicates(["condition", "replicate", "method"]).query("method == 'ai'")
    assert first["methods"]["ai"] == {
        "n_iter": fits["n_iter"].median(), "cpu_seconds": fits["cpu_seconds"].median(), "fits": 80,
    }  # fmt: skip


def test_history__of_a_kept_file_and_new_runs_is_that_of_all_runs(folders, tmp_path, capsys):
    assert run(["history", str(folders / "11"), "--out", str(tmp_path / "one.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "one.html")
    both = read_records([tmp_path / "one.json", folders / "12", folders / "11"])  # a run named twice counts once
    assert both == read_records([folders])
    (tmp_path / "two.json").write_bytes(history_bytes(both))
    assert read_records([tmp_path / "two.json"]) == both
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "one.json", "two.json"]


def test_page__says_each_night_and_loads_nothing(folders):
    text = render_history(read_records([folders]), "0.1.0")
    assert "Nightly &lt;one&gt; &amp; two" in text
    assert text.count("2026-11-12: FAIL, bias") == 6  # two conditions: label, mark and numbers
    assert "default-src &#39;none&#39;" in text
    assert not re.search(r"https?://|<script|@import|url\(", text.replace("http://www.w3.org/2000/svg", ""))
    assert len(text) < 60_000
    for tag in ("svg", "details", "section", "div", "ul"):
        assert len(re.findall(rf"<{tag}\b", text)) == text.count(f"</{tag}>"), tag


def test_study__puts_the_worst_first_and_marks_by_shape():
    records = [night(day) for day in (1, 2, 3)] + [night(4, "FAIL", value=0.5, lower=0.4, upper=0.6)]
    for r in records:
        r["checks"].append({**r["checks"][0], "measure": "bias", "verdict": "INCONCLUSIVE"})
        r["checks"].insert(0, {**r["checks"][0], "parameter": "b:var", "verdict": "PASS", "value": 0.95})
    found = study_of(records, "s")
    assert [panel.last.verdict for panel in found.checks] == ["FAIL", "INCONCLUSIVE", "PASS"]
    assert found.counts == {"FAIL": 1, "INCONCLUSIVE": 1, "PASS": 1}
    svg = found.checks[0].svg()
    assert (svg.count("<circle"), svg.count('<rect class="fails"')) == (3, 1)
    assert found.checks[1].svg().count('<path class="unsure"') == 4
    assert found.nights[0] == ("2026-11-04", "0.2.0", "4", "500", "1 FAIL, 1 INCONCLUSIVE, 1 PASS")


def test_cpu__is_compared_with_the_newest_run_of_another_version_on_the_same_processor():
    records = [
        night(1, version="0.0.9", cpu=9.0), night(2, version="0.1.0", cpu=2.0), night(3, version="0.1.0", cpu=4.0),
        night(4, cpu=3.0), night(5, cpu=5.0), night(6, cpu=8.0) | {"processor": "another"},
    ]  # fmt: skip
    assert released_before(records, records[4]) is records[2]
    assert cost_ratio(records, records[4], "ai") == 1.25
    assert cost_ratio(records, records[1], "ai") == pytest.approx(2 / 9)
    assert cost_ratio(records, records[0], "ai") is None
    assert cost_ratio(records, records[5], "ai") is None
    assert cost_ratio(records, records[4], "none") is None


def test_evidence__of_a_calibration_is_drawn_on_the_log_scale():
    check = {"measure": "sbc", "e": 1e4, "value": None, "lower": None, "upper": None, "target": None, "tolerance": None}
    (panel,) = study_of([night(1, **check | {"e": 1.0}), night(2, "FAIL", **check)], "s").checks
    assert [p.value for p in panel.points] == [0.0, pytest.approx(4.0)]
    assert panel.title.startswith("e-value")


@pytest.mark.parametrize("content", [None, "", "{}", '{"schema": "vcbench/history/2", "runs": []}'])
def test_sources__that_are_no_history_are_refused(tmp_path, content):
    path = tmp_path / "h.json" if content is not None else tmp_path
    if content is not None:
        path.write_text(content)
    with pytest.raises(StoreError, match=r"is no history|is no run folder"):
        read_records([path])
