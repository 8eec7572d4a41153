"""Runs that go on: they stop where their rows say, and nowhere else, however they were made."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vcbench.errors import SpecError
from vcbench.study.acceptance import check_rows
from vcbench.study.spec import read_spec
from vcbench.study.stopping import first_sizes, next_sizes, standings
from vcbench.study.store import read_run
from vcbench.study.study import Run, Study

TEXT = """
title = "Small"
question = "When is it enough?"
seed = 5
block_size = 10
{keys}
methods = ["ai", "moments", {{ name = "em", criterion = "ml", replicates = 4 }}]
reference = "ai"
[[data]]
name = "groups"
generator = "one_way"
n_groups = [5, 12]
group_size = 3
icc = 0.4
[[data]]
card = "one_way"
real = true
{tables}
"""
TARGET = '[precision]\nbias = {{ mcse = {mcse}, parameter = "(Intercept)" }}'


def study_of(keys: str = "", tables: str = "") -> Study:
    return Study.from_text(TEXT.format(keys=keys, tables=tables), "small")


def run_of(study: Study, folder: Path, **options) -> Run:
    return study.run(folder, **{"workers": 1, "progress": "none", "report": False, **options})


def bits(run: Run) -> pd.DataFrame:
    return run.rows.drop(columns=["seconds", "cpu_seconds"])


def sizes(run: Run) -> dict[tuple[str, str], int]:
    return run.rows.groupby(["condition", "method"])["replicate"].nunique().to_dict()


@pytest.fixture(scope="module")
def precise(tmp_path_factory) -> Run:
    return run_of(study_of(tables=TARGET.format(mcse=0.06)), tmp_path_factory.mktemp("run") / "run")


class TestPrecision:
    def test_run__goes_on_until_every_target_holds(self, precise):
        found = standings(precise.spec, precise.rows)
        assert found
        assert all(s.holds for s in found if s.method != "em")  # which has 4 replicates and no more
        n = sizes(precise)
        assert n["000", "ai"] == n["000", "moments"]
        assert n["000", "ai"] > n["001", "ai"] == n["001", "moments"]  # 5 groups need more than 12
        assert n["000", "em"] == 4
        assert n["002", "ai"] == 1
        assert all(size % 10 == 0 for (c, m), size in n.items() if m != "em" and c != "002")
        run = read_run(precise.folder)
        assert run["n_planned"] == sum(n.values())
        assert precise.summary.complete

    def test_run__makes_hardly_more_than_the_target_needs(self, precise):
        of_ai = precise.rows.query("method == 'ai' and parameter == '(Intercept)'")
        for condition in ("000", "001"):
            x = of_ai.loc[of_ai["condition"] == condition, "estimate"]
            assert x.std() / np.sqrt(len(x)) <= 0.06
            assert len(x) <= (x.std() / 0.06) ** 2 + 20

    @pytest.mark.parametrize("reps", [10, 20])
    def test_run__that_was_stopped_ends_with_the_same_bits(self, precise, tmp_path, reps):
        study = study_of(tables=TARGET.format(mcse=0.06))
        run_of(study, tmp_path / "run", reps=reps)
        pd.testing.assert_frame_equal(bits(run_of(study, tmp_path / "run")), bits(precise), check_exact=True)

    def test_run__that_has_more_than_it_needs_makes_no_more(self, precise, tmp_path):
        study = study_of(tables=TARGET.format(mcse=0.06))
        many = run_of(study, tmp_path / "run", reps=60)
        pd.testing.assert_frame_equal(bits(run_of(study, tmp_path / "run")), bits(many), check_exact=True)

    def test_until_mcse__goes_beyond_the_replicates_that_are_said(self, precise, tmp_path, capsys):
        study = study_of("replicates = 10", TARGET.format(mcse=0.06))
        short = run_of(study, tmp_path / "run", progress="plain")
        assert sizes(short)["000", "ai"] == 10
        assert "target MCSE(bias) ≤ 0.06: 0 of" in capsys.readouterr().err
        long = run_of(study, tmp_path / "run", until_mcse=True)
        pd.testing.assert_frame_equal(bits(long), bits(precise), check_exact=True)

    def test_n_max__ends_what_a_target_would_not(self, tmp_path):
        run = run_of(study_of("n_max = 27", TARGET.format(mcse=1e-9)), tmp_path / "run")
        assert {n for (c, m), n in sizes(run).items() if m != "em" and c != "002"} == {27}

    def test_until_mcse__without_targets_or_with_a_number_is_refused(self, tmp_path):
        with pytest.raises(SpecError, match="names no Monte Carlo errors"):
            run_of(study_of("replicates = 5"), tmp_path / "a", until_mcse=True)
        with pytest.raises(SpecError, match="cannot keep to both"):
            run_of(study_of(tables=TARGET.format(mcse=1.0)), tmp_path / "a", until_mcse=True, reps=4)
        assert not (tmp_path / "a").exists()


SEQUENTIAL = """
[[acceptance]]
measure = "failure_rate"
method = ["ai", "moments"]
parameter = "(Intercept)"
where = { n_groups = 5 }
tolerance = 0.2
"""


class TestSequential:
    def test_run__stops_at_the_first_block_that_decides(self, tmp_path):
        study = study_of('rule = "sequential"', SEQUENTIAL)
        run = run_of(study, tmp_path / "run")
        n = sizes(run)["000", "ai"]
        assert sizes(run) == {
            ("000", "ai"): n, ("000", "moments"): n, ("000", "em"): 4,
            ("001", "ai"): 10, ("001", "moments"): 10, ("001", "em"): 4, ("002", "ai"): 1,
            ("002", "moments"): 1, ("002", "em"): 1,
        }  # fmt: skip
        assert [v.verdict for v in check_rows(study.spec, run.rows)] == ["PASS", "PASS"]
        before = run.rows[run.rows["replicate"] < n - 10]
        assert "INCONCLUSIVE" in [v.verdict for v in check_rows(study.spec, before)]

    def test_next_sizes__leave_alone_what_cannot_be_told_by_more(self, tmp_path):
        """A check of a method without standard errors is undefined, not unfinished."""
        tables = '[[acceptance]]\nmeasure = "relative_bias"\nmethod = "ai"\nparameter = "residual:var"\n'
        spec = study_of('rule = "sequential"', tables + "tolerance = 0.001").spec
        run = run_of(Study(spec, "small"), tmp_path / "run", reps=10)
        at = first_sizes(spec)
        assert next_sizes(spec, run.rows, at) == {"000": 20, "001": 20}
        assert next_sizes(spec, run.rows.assign(truth=0.0), at) == {}


def test_with_seed__draws_other_data_and_says_so_in_its_text(tmp_path):
    study = study_of("replicates = 5")
    other = study.with_seed(20261122)
    assert other.spec.spec_hash == read_spec(other.spec.text, "x.toml").spec_hash != study.spec.spec_hash
    assert other.spec.text == study.spec.text.replace("seed = 5", "seed = 20261122")
    one, two = run_of(study, tmp_path / "a"), run_of(other, tmp_path / "b")
    simulated = one.rows["condition"] != "002"
    assert (one.rows["estimate"] != two.rows["estimate"])[simulated & (one.rows["method"] == "ai")].all()
    with pytest.raises(SpecError, match="at least 0"):
        study.with_seed(-1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_run__killed_at_random_moments_stops_where_it_would_have(precise, tmp_path, seed):
    rng = np.random.default_rng(seed)
    (tmp_path / "small.toml").write_text(precise.spec.text)
    command = [sys.executable, "-c", "from vcbench.cli.app import main; main()", "study", "run", "small.toml"]
    command += ["--out", "run", "--no-report", "--quiet", "--workers", str(1 + seed % 2)]
    rows = tmp_path / "run" / "rows"
    for _ in range(3):
        process = subprocess.Popen(command, cwd=tmp_path)
        had, wanted = len(list(rows.glob("*.parquet"))), int(rng.integers(1, 12))
        while process.poll() is None and len(list(rows.glob("*.parquet"))) < had + wanted:
            time.sleep(0.002)
        process.kill()
        process.wait()
    assert len(list(rows.glob("*.parquet"))) > 0
    run = run_of(Study(precise.spec, "small"), tmp_path / "run")
    pd.testing.assert_frame_equal(bits(run), bits(precise), check_exact=True)
    assert read_run(run.folder)["n_planned"] == read_run(precise.folder)["n_planned"]
