"""A study that is deliberately wrong says so, and one with `[mutants]` is run with each of them and without any."""

from pathlib import Path

import pytest

from vcbench.cli.app import run

SMALL = """
title = "Small"
question = "Is it found?"
seed = 5
rule = "sequential"
n_max = 100
block_size = 25
trace = false
methods = ["ai"{more}]
{table}
[[data]]
generator = "one_way"
n_groups = 30
group_size = 4

[[acceptance]]
measure = "coverage"
parameter = "residual:var"
tolerance = 0.2
"""


def _file(folder: Path, more: str = "", table: str = "") -> str:
    path = folder / "small.toml"
    path.write_text(SMALL.format(more=more, table=table), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("more", "table", "words"),
    [
        ("", "", ""),
        (
            ', { name = "ai", label = "bad", mutant = "O13" }',
            "",
            "deliberately wrong: O13 (θ̂ + z·se as the lower limit",
        ),
        ("", 'mutant = "O9"', "deliberately wrong: O9 (a block begun counts as done on resuming)."),
        ("", "mutants = { seeds = 2, clean = 3 }", "with each mutant and without any: 81 runs."),
    ],
)
def test_study_check__says_what_is_deliberately_wrong(
    tmp_path: Path, capsys, more: str, table: str, words: str
) -> None:
    assert run(["study", "check", _file(tmp_path, more, table)]) == 0
    said = capsys.readouterr().out
    assert words in said
    assert bool(words) == ("wrong" in said or "mutant" in said)


def test_study_run__makes_the_runs_with_mutants_and_their_report(tmp_path: Path, capsys) -> None:
    """Exit 0 where each is found and there is no alarm without one; 1 where one is not found."""
    spec, out = _file(tmp_path, table='mutants = { names = ["M24"], seeds = 2, clean = 1 }'), tmp_path / "out"
    assert run(["study", "run", spec, "--out", str(out), "--workers", "1", "--quiet"]) == 0
    assert "2 PASS" in capsys.readouterr().out
    assert "**1 of 1 mutants were found" in (out / "report" / "README.md").read_text(encoding="utf-8")
    assert run(["check", str(out)]) == 0
    spec, out = _file(tmp_path, table='mutants = { names = ["O16"], seeds = 1, clean = 0 }'), tmp_path / "other"
    assert run(["study", "run", spec, "--out", str(out), "--workers", "1", "--quiet", "--no-report"]) == 1
    assert "found in 0 of 1 runs" in capsys.readouterr().out
