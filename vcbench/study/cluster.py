"""Workers of a Dask cluster as a `concurrent.futures.Executor`. Dask is the extra `vcbench[scale]`."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor
from typing import Any

from vcbench.errors import ClusterError

PATIENCE = 30.0  # seconds for a scheduler to answer, and for its first worker


@contextlib.contextmanager
def dask_executor(address: str, patience: float = PATIENCE) -> Iterator[Executor]:
    """The workers behind the scheduler at `address` ("tcp://host:8786", or the path of a scheduler file, *.json).

    Raises ClusterError where Dask is not installed, nothing answers, or there is no worker.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ClusterError(
            f"--dask needs dask and distributed, which are not installed ({error}). Install  vcbench[scale] , or run on"
            " this machine with --workers."
        ) from error
    where: dict[str, Any] = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    try:
        client = Client(**where, timeout=patience, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at `{address}` ({type(error).__name__}: {error}). Start one with"
            "  dask scheduler  and give the address it prints."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=patience)
        except TimeoutError as error:
            raise ClusterError(
                f"the Dask scheduler at `{address}` has no worker. Start one a core with  dask worker {address}"
                " --nworkers auto --nthreads 1"
            ) from error
        yield client.get_executor(pure=False)


def executor_of(workers: Any) -> Executor:
    """An Executor, or that of a Dask Client."""
    if isinstance(workers, Executor):
        return workers
    if hasattr(workers, "get_executor"):
        return workers.get_executor(pure=False)
    raise ClusterError(
        f"executor is {workers!r}; it must be a concurrent.futures.Executor or a distributed.Client. Without one, the"
        " study runs on this machine."
    )


def size_of(executor: Executor) -> int:
    """The processes (or threads) of an executor now; 1 where it does not say."""
    client = getattr(executor, "_client", None)
    if client is not None:
        return max(1, len(client.nthreads()))
    return int(getattr(executor, "_max_workers", None) or 1)


def has_died(error: BaseException) -> bool:
    """True for Dask's word that the workers which ran a task died, as often as it allows."""
    return type(error).__name__ == "KilledWorker"


def is_gone(error: BaseException) -> bool:
    """True where an executor says that it can do no more: cancelled, shut down, or its scheduler lost."""
    named = type(error).__name__ in ("CommClosedError", "FutureCancelledError", "FuturesCancelledError")
    return named or isinstance(error, CancelledError | ConnectionError)
