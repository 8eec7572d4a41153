"""Hypothesis profiles: `default` is the same every time and quick, `night` looks further (VCBENCH_PROFILE=night)."""

import os

os.environ.setdefault("NUMBA_OPT", "1")  # as the command line does: compiles sooner, runs as fast

import numpy as np
import pytest
import scipy.linalg  # noqa: F401 - loads scipy's BLAS, so that the limit below reaches it
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

if "PYTEST_XDIST_WORKER" in os.environ:  # a BLAS that takes all processors in each worker waits for itself
    threadpool_limits(1)

_QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]  # models are slow to draw
settings.register_profile("default", derandomize=True, max_examples=40, deadline=None, suppress_health_check=_QUIET)
settings.register_profile("night", max_examples=1000, deadline=None, suppress_health_check=_QUIET, print_blob=True)
settings.load_profile(os.environ.get("VCBENCH_PROFILE", "default"))


@pytest.fixture
def rng():
    """A generator of its own for each test, always the same."""
    return np.random.default_rng(20261121)
