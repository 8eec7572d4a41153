"""What a worker process does that dies at the worst moment; workers import it by name."""

import os
import signal
from multiprocessing import connection
from pathlib import Path
from typing import Any

from vcbench.study.work import run_task


def half_sent(spec: Any, marker: str, task: Any) -> Any:
    """The first to come is killed when it has handed over half of its result; others do their task."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return run_task(spec, "faults", task)

    def half(self: Any, data: Any, write: Any = os.write) -> None:
        write(self._handle, bytes(data)[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    connection.Connection._send = half  # type: ignore[attr-defined]
    return run_task(spec, "faults", task)
