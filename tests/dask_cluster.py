"""A Dask cluster of three worker processes on this machine, for tests."""

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def three_workers() -> Iterator[tuple[Any, Any]]:
    """(cluster, client): one thread a worker, no dashboard, restarted by their nannies when they die."""
    import dask
    from distributed import Client, LocalCluster

    for name in ("distributed.nanny", "distributed.scheduler", "distributed.worker", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they are killed on purpose
    with warnings.catch_warnings(), dask.config.set({"distributed.nanny.pre-spawn-environ.NUMBA_OPT": "1"}):
        warnings.simplefilter("ignore")  # Dask's own
        with (
            LocalCluster(
                n_workers=3, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield cluster, client


def kill_one(cluster: Any, rng: np.random.Generator) -> None:
    """SIGKILL of a worker's process."""
    pids = [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
    if pids:
        os.kill(pids[int(rng.integers(len(pids)))], signal.SIGKILL)
