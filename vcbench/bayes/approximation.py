"""Approximate posteriors: Laplace, pathfinder and ADVI on one compiled density, and how far each is from the posterior.

Each gives independent draws x of a density q on the unconstrained scale, with log p(x | y) − log q(x) at them. The
Pareto k̂ of these ratios (Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25(72)) says how well q covers the posterior:
below 0.7 its means can be trusted after reweighting, above it the approximation misses part of the posterior, as Yao,
Vehtari, Simpson & Gelman (2018, ICML) propose for variational inference. Whether q was *found* is the status; whether
it is *good* is k̂, reported with it and never hidden.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.twin import Twin
from vcbench.errors import MethodError, did_you_mean
from vcbench.status import Status

if TYPE_CHECKING:
    import xarray as xr

KHAT = 0.7
METHODS = ("laplace", "pathfinder", "advi")


@dataclass(frozen=True, slots=True, eq=False)
class Approximation:
    """Draws x (n, k) on the unconstrained scale, log p − log q at draws of q (n,), and how the search for q ended."""

    x: np.ndarray = field(repr=False)
    log_ratio: np.ndarray = field(repr=False)
    status: Status
    message: str
    n_iter: int
    extra: dict[str, Any]

    @classmethod
    def none(cls, status: Status, message: str, n_iter: int) -> "Approximation":
        """A search that ended without an approximation."""
        return cls(np.zeros((0, 0)), np.zeros(0), status, message, n_iter, {})


def approximate(
    twin: Twin, method: str, draws: int = 4000, seed: Any = None, y: Any = None, **options: Any
) -> "xr.DataTree":
    """Draws of an approximate posterior, in the form that `sample` gives them: one chain, independent draws.

    method: "laplace", "pathfinder" (options `paths`) or "advi" (options `max_draws`). draws: how many. y: another
    response of the same design. The attributes hold `status`, `message`, `khat` (see the module), `method` and the
    method's own numbers; a search that found nothing has status FAILED or SINGULAR_V and no group `posterior`.
    Raises MethodError for an unknown method or counts that make no sense.
    """
    if method not in METHODS:
        raise MethodError(
            f"unknown method `{method}`. Choose from {', '.join(METHODS)}.{did_you_mean(method, METHODS)}"
        )
    if int(draws) != draws or draws < 100:
        raise MethodError(f"`draws` is {draws!r}; it must be a whole number, 100 or more.")
    import xarray as xr

    from vcbench.bayes.unconstrained import Unconstrained

    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    # not `spawn`, which would change the caller's sequence
    rng, for_beta = (np.random.default_rng(s.tolist()) for s in root.generate_state(8).reshape(2, 4))
    density = Unconstrained.of(twin, y)
    found = _door(method)(density, int(draws), rng, **options)
    out = density.draws(found.x, for_beta) if len(found.x) else xr.DataTree()
    khat = psis(found.log_ratio)[1]
    message = found.message
    if len(found.x) and not khat <= KHAT:
        poor = f"Pareto k̂ is {khat:.2f}, above {KHAT}: the approximation misses part of the posterior"
        message = f"{message}; {poor}" if message else poor
    out.attrs.update(
        status=str(found.status),
        message=message,
        criterion=twin.criterion,
        method=method,
        khat=khat,
        n_iter=found.n_iter,
        n_eval=density.calls[0],
        **found.extra,
    )
    return out


def normal_points(k: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """n standard normal points (n, k) by a scrambled Sobol sequence."""
    from scipy.stats import norm
    from scipy.stats.qmc import Sobol

    uniform = Sobol(k, rng=rng).random_base2(int(np.ceil(np.log2(n))))[:n]
    return norm.ppf(np.clip(uniform, 1e-12, 1 - 1e-12))


def psis(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """(Pareto-smoothed importance weights (n,) that add up to 1, k̂) of log p − log q at draws of q.

    k̂ is ∞ where fewer than 25 draws have any density.
    """
    from arviz_stats.base import array_stats

    if np.isfinite(log_ratio).sum() < 25:
        return np.full(len(log_ratio), 1 / max(1, len(log_ratio))), float("inf")
    # ArviZ smooths the weights of 1/p for leave-one-out: it takes the logarithms with the other sign
    logs, khat = array_stats.psislw(-np.where(np.isfinite(log_ratio), log_ratio, -1e10))
    weights = np.exp(logs - logs.max())
    return weights / weights.sum(), float(khat)


def _door(method: str) -> Callable[..., Approximation]:
    from importlib import import_module

    return getattr(import_module(f"vcbench.bayes.{method}"), method)
