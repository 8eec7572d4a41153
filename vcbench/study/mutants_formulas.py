"""Mutants of single formulas outside the EM step: each opens by its name in `FORMULAS`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from vcbench.solvers import elbo as bound

_entropy = bound.entropy


@contextmanager
def _m8() -> Iterator[None]:
    """½ log|2πΣ̃|, as printed."""

    def without_half_p(kernel: Any, theta: np.ndarray, moments: Any) -> float:
        effects = sum(component.n_levels * component.n_effects for component in kernel.model.components)
        return float(_entropy(kernel, theta, moments)) - 0.5 * effects

    with mock.patch.object(bound, "entropy", without_half_p):
        yield


FORMULAS: dict[str, Callable[[], AbstractContextManager[None]]] = {"M8": _m8}
