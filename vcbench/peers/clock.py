"""One fit of a Python package: its time, its warnings, and its failure as an ending."""

import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

from vcbench.errors import MethodError
from vcbench.status import Status


def load(name: str) -> tuple[ModuleType, str]:
    """A module and the version of its package. MethodError where it is not installed, or does not load."""
    package = name.partition(".")[0]
    try:
        return import_module(name), version(package)
    except ImportError as error:
        raise MethodError(f"`{package}` needs the Python package {package}, which does not load: {error}.") from None


def timed(run: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What `run` returns (None if it raised), with seconds, cpu_seconds, status and message of a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    found, failure = None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = run()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    said = [*dict.fromkeys(" ".join(str(w.message).split()) for w in caught), *([failure] if failure else [])]
    return found, {**took, "status": Status.FAILED if failure else Status.CONVERGED, "message": "; ".join(said)}
