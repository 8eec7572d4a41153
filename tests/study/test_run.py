"""Running: rows are right, complete, resumable, and the same to the last bit however they were made."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import MethodError, SpecError, StoreError
from vcbench.status import Status
from vcbench.study import fitting, pool, progress, study, work
from vcbench.study.generators import OneWay
from vcbench.study.replay import replay
from vcbench.study.seeds import DATA, DESIGN, condition_key, generator
from vcbench.study.store import open_store, read_provenance, read_run
from vcbench.study.study import Study
from vcbench.study.summary import summarise

TEXT = """
title = "Small"
question = "Is it all there?"
seed = 5
replicates = 24
block_size = 10
methods = ["ai", "em", "moments", { name = "px-em", criterion = "ml", start = "unit", replicates = 4 }]

[[data]]
generator = "one_way"
n_groups = [5, 8]
group_size = 3
icc = 0.4

[[data]]
generator = "variance_components"
n = 30
q = [6, 8]
share = 0.5

[[data]]
card = ["one_way", "one_way:boundary"]
real = true
"""
TIMES = ["seconds", "cpu_seconds"]


def _run(folder: Path, text: str = TEXT, **options) -> study.Run:
    return Study.from_text(text, "small").run(folder, **{"workers": 1, "progress": "none", "report": False, **options})


def _bits(run: study.Run) -> pd.DataFrame:
    return run.rows.drop(columns=TIMES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> study.Run:
    """An uninterrupted run, in this process."""
    return _run(tmp_path_factory.mktemp("whole") / "run")


def test_rows__are_those_of_a_fit_by_hand(whole: study.Run) -> None:
    """Oracle: the data drawn again from the published seed rule, fitted by vc.fit."""
    settings = {"n_groups": 8, "group_size": 3, "icc": 0.4}
    key = condition_key({"generator": "one_way", **settings})
    simulator = OneWay(**settings).build(generator(5, key, DESIGN))
    rows = whole.rows
    for replicate in (0, 13, 23):
        y = simulator.draw([generator(5, key, replicate, DATA)])[:, 0]
        for method, criterion in (("ai", "reml"), ("em", "reml")):
            fit = vc.fit(simulator.model.replace(y=y), method, criterion)
            at = (rows["condition"] == "001") & (rows["replicate"] == replicate) & (rows["method"] == method)
            row = rows[at].set_index("parameter")
            for name in ("group:var((Intercept))", "residual:var"):
                assert row.loc[name, "estimate"] == pytest.approx(fit.theta[name], rel=1e-9, abs=1e-12)
                assert row.loc[name, "truth"] == {"group:var((Intercept))": 0.4, "residual:var": 0.6}[name]
                if not np.isnan(fit.theta_se[name]):
                    half = 1.959963984540054 * fit.theta_se[name]
                    assert row.loc[name, "upper"] == pytest.approx(fit.theta[name] + half, rel=1e-8)
            assert row.loc["(Intercept)", "estimate"] == pytest.approx(fit.beta["(Intercept)"], rel=1e-9)
            assert set(row["status"]) == {str(fit.status)}
            assert set(row["code"]) == {fit.code}
            assert row["loglik"].iloc[0] == pytest.approx(fit.loglik, rel=1e-12)


def test_rows__schema_and_counts(whole: study.Run) -> None:
    rows = whole.rows
    assert list(rows.columns) == [
        "study", "spec_hash", "condition", "factor_data", "factor_n_groups", "replicate", "method", "criterion",
        "parameter", "truth", "estimate", "se", "lower", "upper", "interval", "level", "p_value", "loglik", "status",
        "code", "message", "n_iter", "n_eval", "seconds", "cpu_seconds", "seed_key"]  # fmt: skip
    fits = rows.drop_duplicates(["condition", "replicate", "method"]).groupby(["condition", "method"]).size()
    for condition, replicates in (("000", 24), ("001", 24), ("002", 24), ("003", 1), ("004", 1)):
        assert fits[condition].to_dict() == {"ai": replicates, "em": replicates, "moments": replicates,
                                             "px-em": min(replicates, 4)}  # fmt: skip
    assert set(rows[rows["method"] == "moments"]["criterion"]) == {"none"}
    assert set(rows[rows["method"] == "px-em"]["criterion"]) == {"ml"}
    real = rows[rows["condition"] == "003"]
    assert real["truth"].isna().all()
    assert real.set_index(["method", "parameter"]).loc[("ai", "Batch:var((Intercept))"), "se"] == pytest.approx(
        1432.75, abs=0.01
    )
    assert set(rows[(rows["condition"] == "004") & (rows["method"] == "ai")]["status"]) == {"AT_BOUNDARY"}
    assert rows["factor_n_groups"].dropna().unique().tolist() == [5.0, 8.0]
    assert not rows["study"].isna().any()


def test_traces__end_where_the_fit_ended(whole: study.Run) -> None:
    last = whole.traces.groupby(["condition", "method"]).tail(1).set_index(["condition", "method"])
    rows = whole.rows
    rows = rows[rows["replicate"] == 0].drop_duplicates(["condition", "method"]).set_index(["condition", "method"])
    assert set(last.index) == {(c.id, m) for c in whole.spec.conditions for m in ("ai", "em", "px-em")}
    for where in last.index:
        assert last.loc[where, "iteration"] == rows.loc[where, "n_iter"]
        assert last.loc[where, "loglik"] == pytest.approx(rows.loc[where, "loglik"], rel=1e-9)


def test_run_json__says_what_the_report_needs(whole: study.Run) -> None:
    run = read_run(whole.folder)
    assert run["spec_hash"] == whole.spec.spec_hash
    assert run["n_planned"] == 3 * 76 + 8
    assert [c["id"] for c in run["conditions"]] == ["000", "001", "002", "003", "004"]
    assert run["conditions"][1]["factors"] == {"data": "one_way", "n_groups": 8}
    entry = {"label": "px-em", "name": "px-em", "criterion": "ml", "kind": "solver", "options": {"start": "unit"}}
    assert run["methods"][3] == entry
    assert run["finished"] >= run["started"]
    assert (whole.folder / "spec.toml").read_text() == TEXT
    assert {"host", "numpy", "processor"} <= set(read_provenance(whole.folder)[0])


def test_resume__topping_up_computes_what_is_missing(
    tmp_path: Path, whole: study.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 replicates, then 24: the first ten are left alone, and all are those of the run that did 24 at once."""
    _run(tmp_path / "run", reps=10)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "rows").iterdir()}
    done: list[work.Task] = []
    real = pool.run_task

    def spy(spec, stem, task):
        done.append(task)
        return real(spec, stem, task)

    monkeypatch.setattr(pool, "run_task", spy)
    run = _run(tmp_path / "run")
    assert [(task.condition, task.first, task.n) for task in done] == [
        (c, first, n) for c in range(3) for first, n in ((10, 10), (20, 4))]  # fmt: skip
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "rows").iterdir()}
    assert {name: after[name] for name in before} == before
    pd.testing.assert_frame_equal(_bits(run), _bits(whole), check_exact=True)
    done.clear()
    _run(tmp_path / "run")
    assert done == []


def test_workers__two_processes_give_the_same_bits(tmp_path: Path, whole: study.Run) -> None:
    pd.testing.assert_frame_equal(_bits(_run(tmp_path / "run", workers=2)), _bits(whole), check_exact=True)


@pytest.mark.slow
def test_workers__four_processes_give_the_same_bits(tmp_path: Path, whole: study.Run) -> None:
    pd.testing.assert_frame_equal(_bits(_run(tmp_path / "run", workers=4)), _bits(whole), check_exact=True)


def test_workers__any_executor_will_do(tmp_path: Path, whole: study.Run) -> None:
    with ThreadPoolExecutor(2) as executor:
        run = _run(tmp_path / "run", executor=executor, workers=None)
    pd.testing.assert_frame_equal(_bits(run), _bits(whole), check_exact=True)


SCRIPT = """
import sys
from vcbench.study.study import Study

if __name__ == "__main__":
    study = Study.from_toml(sys.argv[1])
    try:
        study.run(sys.argv[2], workers=int(sys.argv[3]), progress="none", report=False)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@contextmanager
def _started(tmp_path: Path, workers: int, text: str) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A study running in a process of its own, at least one shard in."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "small.toml").write_text(text)
    folder = tmp_path / "run"
    root = str(Path(vc.__file__).resolve().parent.parent)
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "small.toml"), str(folder), str(workers)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(list(folder.glob("rows/*.parquet"))) < 2:
            assert process.poll() is None, "the study ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield process, folder
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("workers", "how"),
    [
        (1, signal.SIGINT),
        pytest.param(2, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param(2, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_interrupted__resumes_to_the_same_bits(tmp_path: Path, workers: int, how: signal.Signals) -> None:
    """kill -9, Ctrl-C or a walltime in the middle, then the same run again: the rows of an uninterrupted run."""
    text = TEXT.replace("block_size = 10", "block_size = 2").replace("replicates = 24", "replicates = 60")
    with _started(tmp_path, workers, text) as (process, folder):
        process.send_signal(how)
        assert process.wait(60) == (130 if how != signal.SIGKILL else -signal.SIGKILL)
    had = {path.name for path in (folder / "rows").glob("*.parquet")}
    planned = _run(tmp_path / "other", text)
    wanted = {path.name for path in (planned.folder / "rows").iterdir()}
    assert had < wanted, "nothing was left to resume: the test did not interrupt"
    resumed = _run(folder, text)
    pd.testing.assert_frame_equal(_bits(resumed), _bits(planned), check_exact=True)
    assert {path.name for path in (folder / "rows").iterdir()} == wanted
    traces = [run.traces.drop(columns="seconds") for run in (resumed, planned)]
    pd.testing.assert_frame_equal(*traces, check_exact=True)


POSTERIOR = (
    TEXT.split("methods = ")[0].replace("= 24", "= 3")
    + """
methods = ["quadrature", "ai", NUTS]

[[data]]
generator = "one_way"
n_groups = 8
group_size = 4
icc = 0.5

[[data]]
card = "random_slope"
real = true
"""
)


@pytest.mark.parametrize(
    "nuts",
    ["'moments'", pytest.param("{ name = 'nuts', draws = 500, tune = 500, replicates = 2 }", marks=pytest.mark.slow)],
)
def test_posterior__is_a_method_like_any_other(tmp_path: Path, nuts: str) -> None:
    """The same bits by two processes and on replay; limits are the posterior's; what does not apply is SKIPPED."""
    text = POSTERIOR.replace("NUTS", nuts)
    one, two = _run(tmp_path / "one", text), _run(tmp_path / "two", text, workers=2)
    pd.testing.assert_frame_equal(_bits(one), _bits(two), check_exact=True)
    rows = one.rows.set_index(["condition", "method"])
    exact = rows.loc[("000", "quadrature")]
    assert set(exact["interval"]) == {"eti"}
    variance = exact[exact["parameter"].isin(["group:var((Intercept))", "residual:var"])]
    assert (variance["lower"] > 0).all()
    assert (exact["lower"] < exact["estimate"]).all()
    assert set(rows.loc[("001", "quadrature")]["status"]) == {"SKIPPED"}
    assert rows.loc[("001", "quadrature")]["message"].str.contains("up to three").all()
    for row in ("0/1/quadrature", *(["0/1/nuts"] if "nuts" in nuts else [])):
        assert replay(one.folder, row).identical


def test_store__of_another_specification_is_refused(tmp_path: Path) -> None:
    one = _run(tmp_path / "run", reps=1)
    other = TEXT.replace("seed = 5", "seed = 6")
    with pytest.raises(StoreError, match="another specification") as raised:
        _run(tmp_path / "run", other)
    for text in (TEXT, other):
        assert Study.from_text(text).spec.spec_hash in str(raised.value)
    assert one.spec.spec_hash == read_run(tmp_path / "run")["spec_hash"]


def test_store__other_folders_and_second_runners_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="no results folder"):
        _run(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        _run(tmp_path / "file")
    spec = Study.from_text(TEXT, "small").spec
    with open_store(tmp_path / "run", spec), pytest.raises(StoreError, match=f"being run by process {os.getpid()}"):
        _run(tmp_path / "run")
    _run(tmp_path / "run", reps=1)


def test_store__half_written_shards_are_swept_and_broken_ones_named(tmp_path: Path) -> None:
    run = _run(tmp_path / "run", reps=1)
    shard = sorted((run.folder / "rows").iterdir())[0]
    (run.folder / "rows" / f"{shard.name}.tmp").write_bytes(b"half")
    _run(tmp_path / "run", reps=1)
    assert not list(run.folder.rglob("*.tmp"))
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(StoreError, match=shard.name):
        assert len(run.rows)


def test_failures__are_rows_of_the_replicate_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One response of a block makes a method raise: that one is FAILED with its message, the others are as ever."""
    good = _bits(_run(tmp_path / "good"))
    key = condition_key({"generator": "one_way", "n_groups": 5, "group_size": 3, "icc": 0.4})
    bad = OneWay(n_groups=5, group_size=3, icc=0.4).build(generator(5, key, DESIGN)).draw([generator(5, key, 13)])[:, 0]
    real = fitting.fit_many

    def breaking(model, Y, method, *args, **options):
        if method == "ai" and any(np.array_equal(y, bad) for y in Y.T):
            raise ZeroDivisionError("no such luck")
        if method == "moments":
            raise MethodError("`moments` cannot do this")
        return real(model, Y, method, *args, **options)

    monkeypatch.setattr(fitting, "fit_many", breaking)
    run = _run(tmp_path / "bad")
    rows = _bits(run)
    lost = (rows["condition"] == "000") & (rows["replicate"] == 13) & (rows["method"] == "ai")
    assert rows[lost]["status"].tolist() == ["FAILED"] * 3
    assert set(rows[lost]["message"]) == {"ZeroDivisionError: no such luck"}
    assert rows[lost]["truth"].tolist() == good[lost]["truth"].tolist()
    assert rows[lost][["estimate", "se", "lower", "upper", "loglik", "n_iter"]].isna().all(axis=None)
    skipped = rows["method"] == "moments"
    assert set(rows[skipped]["status"]) == {"SKIPPED"}
    numbers = ["estimate", "se", "loglik"]
    pd.testing.assert_frame_equal(rows[~lost & ~skipped][numbers], good[~lost & ~skipped][numbers], rtol=1e-12)
    summary = summarise(run.folder)
    assert summary.methods.loc["ai", "failed"] == 1
    assert summary.methods.loc["ai", "where"] == "in condition 000"
    assert summary.missing == 1 + (rows[skipped].groupby(["condition", "replicate"]).ngroups)


def test_failures__data_that_are_absent_are_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vcbench import cards

    monkeypatch.setattr(cards, "_shared_folders", lambda: iter([tmp_path]))
    text = TEXT.split("[[data]]")[0] + '[[data]]\ncard = "rat_weight"\nreal = true\n'
    rows = _run(tmp_path / "run", text).rows
    assert set(rows["status"]) == {"SKIPPED"}
    assert rows["message"].str.contains("VCBENCH_DATA").all()
    assert set(rows["factor_data"]) == {"rat_weight"}


def test_pool__a_task_that_kills_its_process_ends_as_failed_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole
) -> None:
    """An executor that breaks whenever one particular task runs: all others are done, that one has failed."""
    bad = work.Task(1, (0, 1, 2), 10, 10)

    class Breaking:
        def submit(self, call, *given):
            future: Future = Future()
            if given[-1] == bad:
                future.set_exception(BrokenProcessPool("died"))
            else:
                future.set_result(call(*given))
            return future

    @contextmanager
    def spawned(workers: int) -> Iterator[Breaking]:
        yield Breaking()

    monkeypatch.setattr(pool, "_spawned", spawned)
    rows = _bits(_run(tmp_path / "run", workers=2))
    good = _bits(whole)
    lost = (rows["condition"] == "001") & rows["replicate"].between(10, 19) & (rows["method"] != "px-em")
    assert set(rows[lost]["status"]) == {str(Status.FAILED)}
    pd.testing.assert_frame_equal(rows[~lost], good[~lost], check_exact=True, check_dtype=False)
    assert rows["truth"].equals(good["truth"])


@pytest.mark.parametrize("row", ["000/13/ai", "2/3/px-em", "003/0/em", "1/23/moments"])
def test_replay__gives_the_stored_fit_to_the_last_bit(whole: study.Run, row: str) -> None:
    again = replay(whole.folder, row)
    assert again.identical, again.differences
    assert len(again.stored) == len(again.again) > 0


def test_replay__sees_a_difference_and_refuses_what_is_not_there(tmp_path: Path, whole: study.Run, monkeypatch) -> None:
    for row, message in (("9/0/ai", "no condition `009`"), ("0/0/aii", "no method `aii`"), ("0/24/ai", "not stored"),
                         ("0/5/px-em", "not stored"), ("0-1-ai", "must be CONDITION")):  # fmt: skip
        with pytest.raises(StoreError, match=message):
            replay(whole.folder, row)
    real = fitting.fit_many

    def off(*args, **options):
        many = real(*args, **options)
        many.theta[:] *= 1 + 1e-9
        return many

    monkeypatch.setattr(fitting, "fit_many", off)
    again = replay(whole.folder, "000/13/ai")
    assert not again.identical
    assert 0.9e-9 < again.largest < 1e-6
    assert any(said.startswith("estimate of residual:var") for said in again.differences)


def test_progress__plain_and_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, str] = {}
    for kind in ("plain", "json", "none"):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        _run(tmp_path / kind, progress=kind)
        said[kind] = stream.getvalue()
    monkeypatch.undo()
    assert said["none"] == ""
    lines = said["plain"].splitlines()
    assert lines[0].startswith("Small · 5 conditions × 4 methods = 236 fits   spec ")
    assert any("100% 236/236 eta=0s fail=" in line for line in lines)
    assert "DONE with 0 missing results of 236" in said["plain"]
    events = [json.loads(line) for line in said["json"].splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("condition_done") == 5
    assert [e["done"] for e in events if e["event"] == "tick"][-1] == 236
    with pytest.raises(SpecError, match="Did you mean `plain`"):
        _run(tmp_path / "other", progress="plan")


def test_progress__live_display_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(progress, "choose_progress", None)
    display = progress.Live(stream)
    monkeypatch.setattr(study, "choose_progress", lambda kind: display)
    _run(tmp_path / "run", progress="auto")
    text = stream.getvalue()
    assert "DONE with 0 missing results of 236" in text
    assert "median time" in text


def test_overhead__of_a_replicate_is_small_beside_its_fit(tmp_path: Path) -> None:
    """1000 replicates of a sleepstudy-like design cost at most twice drawing and fitting them (1.25 measured)."""
    text = TEXT.split("methods = ")[0].replace("size = 10", "size = 1000").replace("= 24", "= 1000")
    made = Study.from_text(text + 'methods = ["auto"]\n[[data]]\ngenerator = "random_slope"\n', "overhead")
    key = made.spec.conditions[0].key
    simulator = made.spec.conditions[0].generator.build(generator(5, key, DESIGN))

    def bare() -> None:
        vc.fit_many(simulator.model, simulator.draw([generator(5, key, r) for r in range(1000)]))

    def harness() -> None:
        folders.append(tmp_path / str(len(folders)))
        made.run(folders[-1], workers=1, progress="none", report=False)

    folders: list[Path] = []
    times = {call: [] for call in (bare, harness)}
    for _ in range(4):
        for call, spent in times.items():
            began = time.process_time()
            call()
            spent.append(time.process_time() - began)
    assert min(times[harness]) <= 2 * min(times[bare])


def test_run__wrong_options_and_studies(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="reps must be a whole number of at least 1, not 0"):
        _run(tmp_path / "run", reps=0)
    with pytest.raises(SpecError, match="unknown study `quickstar`"):
        Study.from_toml("quickstar")
    with pytest.raises(SpecError, match="there is no study file"):
        Study.from_toml("simulations/none.toml")


ACCEPT = (
    TEXT.split("[[data]]")[0].replace("methods = ", "methods = ").replace("replicates = 24", "replicates = 200")
    + """
[[data]]
generator = "one_way"
n_groups = 20
icc = 0.4

[[acceptance]]
measure = "relative_bias"
method = "ai"
tolerance = 0.2

[[acceptance]]
measure = "bias"
method = "moments"
parameter = "residual:var"
tolerance = 0.0001

[[acceptance]]
measure = "coverage"
method = "ai"
parameter = "(Intercept)"
target = 0.5
tolerance = 0.1
"""
)


def test_check__pass_fail_and_not_known_yet(tmp_path: Path) -> None:
    made = Study.from_text(ACCEPT.replace('parameter = "residual:var"', 'parameter = "residual:var"'), "accept")
    run = made.run(tmp_path / "run", workers=1, progress="none", report=False)
    verdicts = made.check(run)
    by = {(v.check, v.parameter): v.verdict for v in verdicts}
    assert by[0, "residual:var"] == "PASS"
    assert by[1, "residual:var"] == "INCONCLUSIVE"
    assert by[2, "(Intercept)"] == "FAIL"
    assert "target 0.5 ± 0.1" in next(v for v in verdicts if v.check == 2).detail
    wrong = Study.from_text(ACCEPT.replace("(Intercept)", "intercept"), "accept")
    with pytest.raises(SpecError, match="speaks of nothing"):
        wrong.check(run)


CHECKOUT = Path(vc.__file__).resolve().parent.parent


@pytest.mark.parametrize("path", sorted((CHECKOUT / "simulations").glob("*.toml")), ids=lambda path: path.stem)
def test_committed__a_study_is_well_specified_and_its_report_is_of_it(path: Path) -> None:
    study = Study.from_toml(path)
    assert study.spec.table.question.endswith("?")
    published = CHECKOUT / "reports" / path.stem / "provenance.json"
    if published.is_file():
        assert json.loads(published.read_text(encoding="utf-8"))["spec_hash"] == study.spec.spec_hash
