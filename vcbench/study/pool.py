"""Running tasks: in this process, on a pool of spawned processes, or on any `concurrent.futures.Executor` handed in."""

import contextlib
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as ended
from typing import Any

from vcbench.errors import RunStopped
from vcbench.status import Status
from vcbench.study import cluster
from vcbench.study.parcel import Parcel, run_parcel
from vcbench.study.work import BLAS_THREADS, lost_task, run_task, start_worker

HEARTBEAT = 0.25
AHEAD = 2  # tasks waiting a worker: enough to keep it busy, few enough to stop soon
UNNOTICED = 8  # heartbeats
AGAIN = 1  # times that a task is asked for after Dask gave it up
DIED = "the process that ran this fit died"
GONE = (ConnectionError, TimeoutError)


def run_here(spec: Any, stem: str, tasks: list[Any], run: Any = None) -> Iterator[Any]:
    """One task after the other in this process, with one BLAS thread. Long ones come last.

    run(spec, stem, task) does the work, here and below: a study's by default.
    """
    with one_thread():
        for task in sorted(tasks, key=lambda task: is_long(spec, task)):
            yield (run or run_task)(spec, stem, task)


def run_on(
    spec: Any,
    stem: str,
    tasks: list[Any],
    executor: Executor,
    workers: int,
    run: Any = None,
    lost: Any = None,
    stuck: Callable[[], bool] | None = None,
) -> Iterator[Any]:
    """Tasks on an executor, as they finish; None now and then. Long ones go first, so that none is left over alone.

    A task that Dask has given up, because the workers that ran it died, is asked for `AGAIN` times more; then it has
    failed. `stuck` is asked while nothing comes. Raises RunStopped where the executor is gone, BrokenProcessPool for a
    process pool that broke or is stuck.
    """
    waiting = deque(sorted(tasks, key=lambda task: not is_long(spec, task)))
    running: dict[Future[Any], Any] = {}
    died: Counter[int] = Counter()
    parcel, first = Parcel.of(spec), AHEAD * workers  # tasks that carry the parcel with them

    def submit(task: Any, content: bytes | None) -> None:
        try:
            running[executor.submit(run_parcel, run or run_task, parcel.key, content, stem, task)] = task
        except BrokenProcessPool:
            raise
        except (RuntimeError, *GONE) as error:
            raise _stopped(error) from error

    with one_thread():  # the executor may be one of threads
        while waiting or running:
            while waiting and len(running) < AHEAD * workers:
                submit(waiting.popleft(), parcel.content if first > 0 else None)
                first -= 1
            finished, _ = wait(running, timeout=HEARTBEAT, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    raise
                except Exception as error:
                    if cluster.is_gone(error) or isinstance(error, BrokenExecutor):
                        raise _stopped(error) from error
                    if not cluster.has_died(error):
                        raise
                    died[id(task)] += 1
                    if died[id(task)] > AGAIN:
                        yield (lost or lost_task)(spec, stem, task, Status.FAILED, DIED)
                    else:
                        submit(task, parcel.content)
                    continue
                if result is None:
                    submit(task, parcel.content)
                else:
                    yield result
            if not finished:
                if stuck is not None and stuck():
                    raise BrokenProcessPool(DIED)
                workers = max(workers, cluster.size_of(executor))  # those that have joined
                yield None


def _stopped(error: BaseException) -> RunStopped:
    return RunStopped(
        f"the workers are gone ({type(error).__name__}: {error}). What was finished is kept; the same command continues"
        " once there are workers."
    )


def run_pool(spec: Any, stem: str, tasks: list[Any], workers: int, run: Any = None, lost: Any = None) -> Iterator[Any]:
    """Tasks on a spawned pool. If a process dies, those that ran go one by one, and one that dies again has failed."""
    left = sorted(tasks, key=lambda task: not is_long(spec, task))
    alone = 0
    while left:
        rounds = [[task] for task in left[:alone]] or [list(left)]
        n = 1 if alone else workers
        try:
            with _spawned(n) as pool:
                for some in rounds:
                    for result in run_on(spec, stem, some, pool, n, run, stuck=_deaths_of(pool)):
                        if result is not None:
                            left.remove(result.task)
                        yield result
                    alone = max(0, alone - 1)
        except BrokenProcessPool:
            if alone:
                yield (lost or lost_task)(spec, stem, left.pop(0), Status.FAILED, DIED)
                alone -= 1
            else:
                alone = min(len(left), AHEAD * workers)  # exactly those that were running


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for every BLAS of this process while it lasts; scipy's is loaded first, so that it is among them."""
    import scipy.linalg  # noqa: F401 - loads scipy's BLAS, so that the limit reaches it
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def is_long(spec: Any, task: Any) -> bool:
    """True for a task of a long method."""
    return any(spec.methods[m].long for m in task.methods)


@contextlib.contextmanager
def _spawned(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of spawned processes with one BLAS thread each, ended at once if this process is interrupted."""
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)
    try:
        yield pool
        _close(pool)
    except BaseException:
        processes, results = _processes(pool), getattr(pool, "_result_queue", None)
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(5)
        if results is not None:
            results._writer.close()  # the last end of that pipe: whoever waits for the rest of a result learns its end
        raise
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _close(pool: ProcessPoolExecutor) -> None:
    """End a pool that has nothing left to do.

    One process at a time waits for work, under a lock; if that one was killed, the others wait for the lock, and the
    pool for them.
    """
    processes = _processes(pool)
    closing = threading.Thread(target=pool.shutdown)
    closing.start()
    while closing.is_alive():
        closing.join(HEARTBEAT)
        if any(process.exitcode for process in processes):
            for process in processes:
                process.terminate()


def _deaths_of(pool: Any) -> Callable[[], bool]:
    """Tells whether a process of the pool has been dead for `UNNOTICED` heartbeats.

    The pool sees a death by itself, but for one: a process killed in the middle of handing over a result leaves the
    pool waiting for the rest of it, and the other processes for the lock that it held.
    """
    beats = 0

    def stuck() -> bool:
        nonlocal beats
        beats = beats + 1 if ended([p.sentinel for p in _processes(pool)], timeout=0) else 0
        return beats >= UNNOTICED

    return stuck


def _processes(pool: Any) -> list[Any]:
    return list((getattr(pool, "_processes", None) or {}).values())


def available_processors() -> int:
    """Processors this process may use."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
