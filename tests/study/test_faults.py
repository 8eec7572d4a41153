"""Faults: whatever is killed or full, and whenever, the resumed table is that of a run that met none, to the bit."""

import errno
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from dying import half_sent

import vcbench as vc
from vcbench.cli.app import run as command_line
from vcbench.errors import RunStopped, StoreError
from vcbench.study import lock, pool, store
from vcbench.study.plan import plan_tasks
from vcbench.study.shards import list_shards, parse_name
from vcbench.study.store import open_store, read_rows
from vcbench.study.study import Run, Study

TEXT = """
title = "Faults"
question = "Is it the same table?"
seed = 20261122
replicates = 60
block_size = 4
methods = ["moments", { name = "minque", prior = 1 }, { name = "moments", label = "again", replicates = 30 }]
[[data]]
generator = "one_way"
n_groups = [5, 9]
group_size = 3
icc = 0.4
"""
N_SHARDS = 2 * (2 * 15 + 8)
FULL = "No space left on device"


def study() -> Study:
    return Study.from_text(TEXT, "faults")


def run_in(folder: Path, **options) -> Run:
    return study().run(folder, **{"workers": 1, "progress": "none", "report": False, **options})


def bits(folder: Path) -> pd.DataFrame:
    return read_rows(folder).drop(columns=["seconds", "cpu_seconds"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> pd.DataFrame:
    return bits(run_in(tmp_path_factory.mktemp("whole") / "run").folder)


def check_whole_shards(folder: Path) -> None:
    """Every file that has a shard's name is readable and holds the replicates that its name says."""
    for file in (folder / "rows").glob("*.parquet"):
        shard = parse_name(file.name)
        assert set(pq.read_table(file)["replicate"].to_pylist()) == set(shard.replicates)


def check_resumed(folder: Path, undisturbed: pd.DataFrame) -> None:
    check_whole_shards(folder)
    run_in(folder)
    pd.testing.assert_frame_equal(bits(folder), undisturbed, check_exact=True)
    assert not list(folder.rglob("*.tmp"))
    assert len(list_shards(folder)) == N_SHARDS


def when(folder: Path, shards: int, after: float, act: Callable[[], None]) -> threading.Thread:
    """A thread that acts `after` seconds from when the folder has so many shards, or the run has ended."""

    def watch() -> None:
        deadline = time.monotonic() + 60
        while len(list((folder / "rows").glob("*.parquet"))) < shards and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(after)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def kill_parent(folder: Path, rng: np.random.Generator) -> str:
    """SIGKILL of the process that runs the study, here or with two workers."""
    workers = int(rng.integers(1, 3))
    file = folder.parent / "faults.toml"
    file.write_text(TEXT)
    code = "import sys; from vcbench.cli.app import run; sys.exit(run(sys.argv[1:]))"
    root = str(Path(vc.__file__).resolve().parents[1])
    options = ["--no-report", "--quiet", "--workers", str(workers)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "study", "run", str(file), "--out", str(folder), *options],
        env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wanted, after = int(rng.integers(0, N_SHARDS)), rng.uniform(0, 0.02)
    try:
        while not (folder / "rows").is_dir() and process.poll() is None:
            time.sleep(0.001)
        while len(os.listdir(folder / "rows")) < wanted and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(after)
    finally:
        process.kill()
    return f"parent of {workers} at {wanted}, exit {process.wait()}"


def kill_worker(folder: Path, rng: np.random.Generator) -> str:
    """SIGKILL of one of two processes of the pool; the run itself goes on to its end."""
    wanted = int(rng.integers(0, N_SHARDS - 4))
    killed: list[int] = []

    def kill() -> None:
        ours = [p for p in multiprocessing.active_children() if p.name.startswith("SpawnProcess")]
        if ours:
            killed.append(ours[int(rng.integers(len(ours)))].pid)
            os.kill(killed[0], signal.SIGKILL)

    thread = when(folder, wanted, rng.uniform(0, 0.02), kill)
    run_in(folder, workers=2)
    thread.join()
    return f"worker at {wanted}, {len(killed)} killed"


def fill_disk(folder: Path, rng: np.random.Generator) -> str:
    """The disk is full when a shard is half written: at the flush, or before the renaming."""
    left, call = int(rng.integers(1, N_SHARDS)), ["fsync", "replace"][int(rng.integers(2))]
    real = getattr(os, call)

    def full(*args):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, FULL)
        return real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.os, call, full)
        with pytest.raises(RunStopped, match=FULL):
            run_in(folder)
    assert not list(folder.rglob("*.tmp"))
    return f"disk full at {call}"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of that size at `folder`; the test is skipped where none may be mounted."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"a file system may not be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(("fault", "seed"), [(kill_parent, 6), (kill_worker, 7), (fill_disk, 3)])
def test_fault__resumes_to_the_same_bits(tmp_path, undisturbed, fault, seed):
    folder = tmp_path / "run"
    fault(folder, np.random.default_rng(seed))
    check_resumed(folder, undisturbed)


@pytest.mark.slow
def test_worker__killed_in_the_middle_of_its_result_does_not_stop_the_others(tmp_path):
    """The pool itself would wait for the other half for ever."""
    spec = study().spec
    tasks = plan_tasks(spec, {})[0]
    results = [r for r in pool.run_pool(spec, str(tmp_path / "first"), tasks, 2, half_sent) if r is not None]
    assert sorted(r.task.first for r in results) == sorted(t.first for t in tasks)
    assert {status for r in results for part in r.parts for status in part.endings} <= {"CONVERGED", "AT_BOUNDARY"}


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_pool__ends_although_a_process_was_killed_while_it_waited_for_work(which):
    """One of the two holds the lock of the queue; both have been told to end when one is killed."""
    with pool._spawned(2) as executor:
        list(executor.map(time.sleep, [1.0, 1.0]))
        processes = pool._processes(executor)
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)

        def kill() -> None:
            os.kill(processes[which].pid, signal.SIGKILL)
            os.kill(processes[1 - which].pid, signal.SIGCONT)

        threading.Timer(0.5, kill).start()
    assert not any(process.is_alive() for process in processes)


@pytest.mark.slow
def test_fifty_faults__at_random_moments_resume_to_the_same_bits(tmp_path, undisturbed, capsys):
    """Worker, parent, Dask worker killed, disk full, in turn; moments from one seed."""
    from dask_cluster import kill_one, three_workers

    rng = np.random.default_rng(20261122)
    with three_workers() as (cluster, client):

        def kill_dask_worker(folder: Path, rng: np.random.Generator) -> str:
            wanted = int(rng.integers(0, N_SHARDS - 4))
            thread = when(folder, wanted, rng.uniform(0, 0.02), lambda: kill_one(cluster, rng))
            run_in(folder, workers=None, executor=client)
            thread.join()
            return f"Dask worker at {wanted}"

        faults = [kill_worker, kill_parent, kill_dask_worker, fill_disk]
        for i in range(50):
            folder = tmp_path / f"{i}" / "run"
            folder.parent.mkdir()
            said = faults[i % 4](folder, rng)
            had = len(list_shards(folder))
            check_resumed(folder, undisturbed)
            with capsys.disabled():
                print(f"{i}: {said}; {had} of {N_SHARDS} shards, then all")


def test_full_disk__of_a_real_file_system_stops_the_run_which_goes_on_once_there_is_room(tmp_path, undisturbed, capsys):
    disk, file = tmp_path / "disk", tmp_path / "faults.toml"
    file.write_text(TEXT)
    with small_disk(disk, "2m"):
        (disk / "other").write_bytes(bytes(1_800_000))
        command = ["study", "run", str(file), "--out", str(disk / "run"), "--workers", "1", "--no-report", "--quiet"]
        assert command_line(command) == 130
        said = capsys.readouterr().err
        assert said.startswith("stopped: ")
        assert f"{FULL} (" in said
        assert "the same command continues" in said
        assert 0 < len(list_shards(disk / "run")) < N_SHARDS
        assert not list(disk.rglob("*.tmp"))
        (disk / "other").unlink()
        check_resumed(disk / "run", undisturbed)


def test_full_disk__is_named_with_what_is_wanted_and_free(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(RunStopped, match=rf"spec.toml` cannot be written: {FULL} \(\d+ bytes wanted, [\d,]+ free\)"):
        run_in(tmp_path / "run")
    assert not list(tmp_path.rglob("*.tmp"))


def test_delivery__of_a_finished_task_twice_changes_nothing(tmp_path, undisturbed, monkeypatch):
    real = pool.run_here

    def twice(*args):
        for result in real(*args):
            yield from (result, result)

    monkeypatch.setattr(pool, "run_here", twice)
    run = run_in(tmp_path / "run")
    pd.testing.assert_frame_equal(bits(run.folder), undisturbed, check_exact=True)
    with open_store(run.folder, run.spec) as held:  # nor does a shard that comes again, late
        file = next((run.folder / "rows").iterdir())
        before = file.read_bytes()
        shard = parse_name(file.name)
        condition = next(c for c in run.spec.conditions if c.id == shard.condition)
        method = next(m for m in run.spec.methods if m.stream == shard.method)
        held.write(condition, method, shard.first, pq.read_table(file).slice(0, 1), len(shard.replicates), None)
        assert file.read_bytes() == before


@pytest.mark.parametrize("first", [2, 7])
def test_top_up__within_a_block_gives_the_bits_of_one_run(tmp_path, first):
    """Blocks of four, of methods whose last bits depend on how many responses are fitted together."""
    text = TEXT.replace('"moments", {', '"ai", "em", {').replace("replicates = 30", "replicates = 9")
    text = text.replace("replicates = 60", "replicates = 11")
    made = Study.from_text(text, "faults")
    quiet = {"workers": 1, "progress": "none", "report": False}
    whole = made.run(tmp_path / "whole", **quiet)
    made.run(tmp_path / "run", reps=first, **quiet)
    short = {shard.name for shard in list_shards(tmp_path / "run")}
    made.run(tmp_path / "run", **quiet)
    pd.testing.assert_frame_equal(bits(tmp_path / "run"), bits(whole.folder), check_exact=True)
    last = first // 4 * 4
    replaced = {name for name in short if f"-{last:06d}-{first - 1:06d}" in name and first % 4}
    assert replaced
    assert not replaced & {shard.name for shard in list_shards(tmp_path / "run")}
    made.run(tmp_path / "run", **quiet)  # the next runner removes what was replaced
    assert not replaced & set(os.listdir(tmp_path / "run" / "rows"))


def test_lock__refuses_a_second_runner_and_is_free_once_the_first_is_gone(tmp_path):
    """A process that holds the folder is named with its host; killed, it leaves its name but not the lock."""
    code = (
        "import sys, time; from pathlib import Path; from vcbench.study.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    root = str(Path(vc.__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    (tmp_path / "rows").mkdir()
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreError, match=f"being run by process {holder.pid} on {socket.gethostname()}"):
            run_in(tmp_path)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert (tmp_path / "lock").read_text().startswith(str(holder.pid))
    with lock.locked(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(str(os.getpid()))


@pytest.mark.parametrize(
    ("said", "free"), [("", True), ("{gone} {here}", True), ("{self} {here}", False), ("1 elsewhere", False)]
)
def test_lock__of_a_file_system_without_locks_is_told_by_its_words(tmp_path, monkeypatch, said, free):
    import fcntl

    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(fcntl, "flock", unknown)
    words = said.format(gone=ended.pid, here=socket.gethostname(), self=os.getpid())
    (tmp_path / "lock").write_text(words)
    if free:
        with lock.locked(tmp_path):
            assert (tmp_path / "lock").read_text().split()[0] == str(os.getpid())
    else:
        with pytest.raises(StoreError, match="being run by process"), lock.locked(tmp_path):
            pass


def test_shards__that_are_half_written_are_never_read(tmp_path, undisturbed):
    folder = run_in(tmp_path / "run").folder
    file = next((folder / "rows").iterdir())
    (folder / "rows" / f"{file.name}.tmp").write_bytes(file.read_bytes()[:500])
    with tempfile.TemporaryDirectory(dir=folder / "rows"):
        pd.testing.assert_frame_equal(bits(folder), undisturbed, check_exact=True)
