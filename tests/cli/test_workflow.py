"""The workflow that users copy: it is YAML, and its commands are commands of this version on files that are there."""

import re
import shlex
from pathlib import Path

import pytest

from vcbench.cli.app import app, run
from vcbench.cli.studies import read_seed
from vcbench.errors import SpecError
from vcbench.study.study import Study

CHECKOUT = Path(__file__).resolve().parents[2]
WORKFLOW = CHECKOUT / "simulations" / "ci" / "vcbench-nightly.yml"


def commands() -> list[list[str]]:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the workflow")
    jobs = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
    lines = [line for job in jobs.values() for step in job["steps"] for line in step.get("run", "").splitlines()]
    return [shlex.split(re.sub(r"\$\(.*?\)", "", line)) for line in lines]


def test_workflow__commands_are_those_of_this_version_on_files_that_are_there():
    found = [words[3:] for words in commands() if words[:3] == ["uv", "run", "vcbench"]]
    assert len(found) == 7
    for words in found:
        app.parse_args(words, exit_on_error=False, print_error=False)
    for words in commands():
        for name in (word for word in words if word.startswith(("models/", "simulations/"))):
            assert (CHECKOUT / name).exists(), name


def test_workflow__jobs_have_distinct_events():
    text = WORKFLOW.read_text(encoding="utf-8")
    assert [text.count(f"github.event_name == '{name}'") for name in ("pull_request", "schedule", "release")] == [1] * 3


def test_night__is_a_sequential_study_with_a_budget_of_an_alarm_in_ten_years():
    table = Study.from_toml(CHECKOUT / "simulations" / "ci" / "nightly.toml").spec.table
    assert (table.rule, table.replicates) == ("sequential", None)
    assert table.alarm * 365.25 * 10 < 1


def test_seed__is_a_number_or_the_date():
    assert read_seed("7") == 7
    assert re.fullmatch(r"20\d\d[01]\d[0-3]\d", str(read_seed("date")))
    for text in ("-1", "1.5", "today", ""):
        with pytest.raises(SpecError, match="--seed must be"):
            read_seed(text)


def test_study_check__says_how_far_an_open_ended_study_may_go(capsys):
    assert run(["study", "check", str(CHECKOUT / "simulations" / "ci" / "nightly.toml")]) == 0
    out = capsys.readouterr().out.replace("\u202f", "")
    assert "2000 fits" in out
    assert "It goes on until its checks are decided, or 10000 replicates: 40000 fits at most" in out
