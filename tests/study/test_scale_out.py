"""Scale-out: three Dask workers, or the parts of an array job, give the rows of one process to the bit."""

import re
import subprocess
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dask_cluster import kill_one, three_workers

from vcbench.cli.app import run as command_line
from vcbench.errors import ClusterError, RunStopped, SpecError, StoreError
from vcbench.study import cluster, parcel, pool
from vcbench.study.collect import collect
from vcbench.study.plan import plan_tasks
from vcbench.study.sharding import Part
from vcbench.study.shards import list_shards
from vcbench.study.store import read_rows, read_run
from vcbench.study.study import Run, Study
from vcbench.study.work import run_task

TEXT = """
title = "Scale"
question = "Is it the same table?"
seed = 7
replicates = 24
block_size = 5
methods = ["ai", "moments", { name = "quadrature", replicates = 6 }, { name = "em", criterion = "ml", replicates = 8 }]
[[data]]
generator = "one_way"
n_groups = [5, 8]
group_size = 3
icc = 0.4
[[data]]
card = "one_way"
real = true
"""
GROWING = """
title = "Growing"
question = "Is it enough?"
seed = 5
block_size = 10
methods = ["ai", "moments"]
[[data]]
generator = "one_way"
n_groups = [5, 12]
group_size = 3
icc = 0.4
[precision]
bias = { mcse = 0.06, parameter = "(Intercept)" }
"""
QUIET = {"progress": "none", "report": False}


def run_in(folder: Path, text: str = TEXT, **options) -> Run:
    return Study.from_text(text, "scale").run(folder, **QUIET, **options)


def bits(folder: Path) -> pd.DataFrame:
    return read_rows(folder).drop(columns=["seconds", "cpu_seconds"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return run_in(tmp_path_factory.mktemp("whole") / "run", workers=1).folder


def test_dask__three_workers_give_the_same_bits_also_where_one_dies_and_where_the_run_grows(tmp_path, whole):
    """By address, as `--dask` does; then by a Client, with a worker killed in the middle; then an adaptive run."""
    growing = run_in(tmp_path / "growing here", GROWING, workers=1)
    assert growing.rows.groupby("condition")["replicate"].nunique().nunique() == 2, "it did not grow"
    with three_workers() as (workers, client):
        with cluster.dask_executor(workers.scheduler_address) as executor:
            assert cluster.size_of(executor) == 3
            run = run_in(tmp_path / "run", executor=executor)
        pd.testing.assert_frame_equal(bits(run.folder), bits(whole), check_exact=True)
        grown = run_in(tmp_path / "growing", GROWING, executor=client)
        pd.testing.assert_frame_equal(bits(grown.folder), bits(growing.folder), check_exact=True)
        rng, more = np.random.default_rng(1), TEXT.replace("block_size = 5", "block_size = 1")

        class Dying(Executor):  # as the client's, with a death after the tenth task
            _client, left = client, 10

            def submit(self, *given):
                self.left -= 1
                if self.left == 0:
                    kill_one(workers, rng)
                return client.get_executor(pure=False).submit(*given)

        died = run_in(tmp_path / "died", more, executor=Dying())
    alone = run_in(tmp_path / "alone", more, workers=1)
    pd.testing.assert_frame_equal(bits(died.folder), bits(alone.folder), check_exact=True)


def test_dask__that_cannot_be_had_is_said_with_the_remedy(tmp_path, monkeypatch):
    with (
        pytest.raises(ClusterError, match=r"no Dask scheduler answers at `tcp://127.0.0.1:9`.*dask scheduler"),
        cluster.dask_executor("tcp://127.0.0.1:9", patience=0.2),
    ):
        pass
    with pytest.raises(ClusterError, match=r"must be a concurrent.futures.Executor or a distributed.Client"):
        run_in(tmp_path / "run", executor=3)
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"Install  vcbench\[scale\]"), cluster.dask_executor("tcp://here:1"):
        pass


class Shaky(Executor):
    """Runs tasks at once, in this thread; `fail` says what becomes of one."""

    def __init__(self, fail):
        self.fail, self.calls = fail, []

    def submit(self, call, *given):
        future: Future = Future()
        self.calls.append(given)
        error = self.fail(len(self.calls), given[-1])
        if isinstance(error, RuntimeError):
            raise error
        if error is None:
            future.set_result(call(*given))
        else:
            future.set_exception(error)
        return future


KilledWorker = type("KilledWorker", (Exception,), {})


def test_executor__whose_workers_die_on_a_task_twice_has_failed_rows_and_once_has_none(tmp_path, whole):
    def once(i, task):
        return KilledWorker("lost") if i == 3 else None

    def always(i, task):
        return KilledWorker("lost") if (task.condition, task.first, task.methods) == (1, 5, (0, 1)) else None

    pd.testing.assert_frame_equal(bits(run_in(tmp_path / "a", executor=Shaky(once)).folder), bits(whole))
    rows, good = bits(run_in(tmp_path / "b", executor=Shaky(always)).folder), bits(whole)
    lost = rows["status"] != good["status"]
    assert set(zip(rows[lost]["condition"], rows[lost]["replicate"], strict=True)) == {("001", r) for r in range(5, 10)}
    assert set(rows[lost]["message"]) == {pool.DIED}


@pytest.mark.parametrize("error", [RuntimeError("cannot schedule new futures after shutdown"), ConnectionError("gone")])
def test_executor__that_is_gone_stops_the_run_which_another_continues(tmp_path, whole, error):
    gone = Shaky(lambda i, task: error if i > 6 else None)
    with pytest.raises(RunStopped, match=r"the workers are gone.*the same command continues"):
        run_in(tmp_path / "run", executor=gone)
    run_in(tmp_path / "run", workers=1)
    pd.testing.assert_frame_equal(bits(tmp_path / "run"), bits(whole), check_exact=True)


def test_parcel__is_sent_first_and_then_to_who_asks(tmp_path, whole, monkeypatch):
    """Bytes of a few hundred characters, not the study; a process that forgot asks, and another reading is refused."""
    executor = Shaky(lambda i, task: None)
    monkeypatch.setattr(parcel, "_opened", {})
    run_in(tmp_path / "a", executor=executor)
    carried = [given[2] is not None for given in executor.calls]
    assert carried == [True] * pool.AHEAD + [False] * (len(carried) - pool.AHEAD)
    assert len(executor.calls[0][2]) < len(TEXT) + 300
    spec = Study.from_text(TEXT).spec
    sent = parcel.Parcel.of(spec)
    monkeypatch.setattr(parcel, "_opened", {})
    task = plan_tasks(spec, {})[0][0]
    assert parcel.run_parcel(run_task, sent.key, None, "scale", task) is None
    assert parcel.run_parcel(run_task, sent.key, sent.content, "scale", task).task == task
    forgetful = Shaky(lambda i, task: parcel._opened.clear())
    run_in(tmp_path / "b", executor=forgetful)
    assert len(forgetful.calls) == 2 * len(executor.calls) - pool.AHEAD
    pd.testing.assert_frame_equal(bits(tmp_path / "b"), bits(whole), check_exact=True)
    for change, message in (({"version": "0.0"}, "a worker has vcbench"), ({"spec_hash": "0"}, "a worker reads")):
        known = {
            "text": spec.text,
            "name": spec.name,
            "spec_hash": spec.spec_hash,
            "version": parcel.vcbench.__version__,
        }
        with pytest.raises(ClusterError, match=message):
            parcel.Text(**known | change).open()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_executor__of_the_standard_library_gives_the_same_bits(tmp_path, whole, kind):
    import multiprocessing

    given = {} if kind is ThreadPoolExecutor else {"mp_context": multiprocessing.get_context("spawn")}
    with kind(2, **given) as executor:
        run_in(tmp_path / "run", executor=executor)
    pd.testing.assert_frame_equal(bits(tmp_path / "run"), bits(whole), check_exact=True)


class TestShards:
    def test_parts__collected_are_the_whole_study(self, tmp_path, whole, capsys):
        file, out = tmp_path / "scale.toml", tmp_path / "out"
        file.write_text(TEXT)
        for i in (3, 1):
            assert command_line(["study", "run", str(file), "--out", str(out), "--shard", f"{i}/3", "--quiet"]) == 0
        capsys.readouterr()
        assert command_line(["study", "status", str(out)]) == 0
        assert re.search(r"shard 1/3 +(\d+) of \1 fits\n.*not begun: 2", capsys.readouterr().out, re.S)
        assert command_line(["study", "collect", str(out), "--no-report"]) == 2
        said = capsys.readouterr().err
        assert re.search(r"condition 000, ai: replicates \d+–\d+", said)
        assert "made by shard 2/3: run it (again)" in said
        assert not (out / "run.json").exists()
        assert command_line(["study", "run", str(file), "--out", str(out), "--shard", "2/3", "--quiet"]) == 0
        assert command_line(["study", "collect", str(out), "--no-report", "--json"]) == 0
        pd.testing.assert_frame_equal(bits(out), bits(whole), check_exact=True)
        run, one = read_run(out), read_run(whole)
        times = {"started", "finished", "provenance", "study", "warnings"}
        assert {k: v for k, v in run.items() if k not in times} == {k: v for k, v in one.items() if k not in times}
        assert run_in(out, workers=1).rows.equals(read_rows(out))  # nothing is left to do

    def test_parts__are_even_and_none_is_made_twice(self):
        spec = Study.from_text(TEXT).spec
        sizes = {c.id: 1 if c.real else 24 for c in spec.conditions}
        dealt = [Part(i, 4).tasks(spec, sizes, {}, {}) for i in range(1, 5)]
        made = [(t.condition, m, t.first, t.n) for tasks, _ in dealt for t in tasks for m in t.methods]
        planned = [(t.condition, m, t.first, t.n) for t in plan_tasks(spec, {}, sizes)[0] for m in t.methods]
        assert sorted(made) == sorted(planned)
        assert max(len(tasks) for tasks, _ in dealt) - min(len(tasks) for tasks, _ in dealt) <= 1
        for tasks, total in dealt:
            assert total == sum(t.n * len(t.methods) for t in tasks)

    def test_parts__topped_up_make_what_is_missing_in_the_whole(self, tmp_path, whole):
        for reps in (12, 24):
            for i in (1, 2):
                run_in(tmp_path, reps=reps, shard=f"{i}/2", workers=1)
            collect([tmp_path])
        pd.testing.assert_frame_equal(bits(tmp_path), bits(whole), check_exact=True)
        made = sum(len(s.replicates) for i in (1, 2) for s in list_shards(tmp_path / "shards" / f"{i}-of-2"))
        assert made == read_run(tmp_path)["n_planned"]

    def test_parts__in_folders_of_their_own_may_overlap_but_not_disagree(self, tmp_path, whole):
        one, two, again = (tmp_path / name for name in ("one", "two", "again"))
        run_in(one, shard="1/2", workers=1)
        run_in(two, shard="2/2", workers=1)
        run_in(again, shard="2/2", workers=1)
        done = collect([one, two, again], tmp_path / "all")
        assert done.parts == 3
        pd.testing.assert_frame_equal(bits(tmp_path / "all"), bits(whole), check_exact=True)
        file = sorted((again / "shards" / "2-of-2" / "rows").iterdir())[0]
        table = pq.read_table(file)
        at = table.schema.get_field_index("estimate")
        pq.write_table(table.set_column(at, "estimate", pa.array(np.zeros(len(table)))), file)
        with pytest.raises(StoreError, match=rf"{file.name}.*hold the same replicates, but their estimate differs"):
            collect([one, two, again], tmp_path / "other")
        run_in(tmp_path / "seed", TEXT.replace("seed = 7", "seed = 8"), shard="2/2", workers=1)
        with pytest.raises(StoreError, match="results of another specification"):
            collect([one, tmp_path / "seed"], tmp_path / "other")
        with pytest.raises(StoreError, match="no run folder and holds none"):
            collect([tmp_path])
        assert not (tmp_path / "other").exists()

    @pytest.mark.parametrize("said", ["0/3", "4/3", "3", "1/0", "a/b"])
    def test_part__that_is_not_there_is_refused(self, tmp_path, said):
        with pytest.raises(SpecError, match="--array=1-" if said[1:] in ("/3", "/0") else "must be I/N"):
            run_in(tmp_path / "run", shard=said)
        assert not (tmp_path / "run").exists()

    def test_part__of_a_study_that_decides_itself_when_to_stop_needs_a_number(self, tmp_path):
        with pytest.raises(SpecError, match=r"which no shard can see. Say how many replicates with --reps"):
            run_in(tmp_path / "run", GROWING, shard="1/2")
        run_in(tmp_path / "run", GROWING, shard="1/2", reps=20, workers=1)

    def test_template__for_slurm_is_a_script_that_numbers_its_parts_from_one(self):
        file = Path(__file__).parents[2] / "simulations" / "hpc" / "slurm_array.sh"
        assert subprocess.run(["bash", "-n", str(file)], capture_output=True).returncode == 0
        text = file.read_text()
        assert re.search(r"^#SBATCH --array=1-(\d+)$", text, re.M)[1] == re.search(r"^N=(\d+)", text, re.M)[1]


def test_options__that_say_two_ways_to_run_are_refused(tmp_path, capsys):
    (tmp_path / "scale.toml").write_text(TEXT)
    for options in (["--dask", "tcp://here:1", "--workers", "2"], ["--dask", "tcp://here:1", "--shard", "1/2"]):
        assert command_line(["study", "run", str(tmp_path / "scale.toml"), *options]) == 2
        assert "they say two ways to run" in capsys.readouterr().err
