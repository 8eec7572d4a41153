"""The log-likelihood of a fit against its iterations."""

from typing import Any

from vcbench.report.marks import Spec
from vcbench.report.plots import convergence_spec


def trace(fit: Any) -> Spec:
    """ℓ and its distance to the best against iteration (`plots.convergence_spec`)."""
    return convergence_spec({fit.method: fit.trace}, criterion=fit.criterion)
