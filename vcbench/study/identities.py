"""The method `identities` of a study: what must hold exactly of an EM and its model, whatever the data.

    ascent         ℓ falls by no more than 1e-9 (1 + |ℓ|) in `steps` steps of the method `of`, and it does not fail (ML)
    one-step map   its second step is that of the formulas of MATH §3, written out densely
    ELBO           Q + entropy after the E-step is ℓ(β, θ)
    log-density    the kernel's ℓ_REML(θ) is that of the sufficient statistics of which the Bayesian twin's log-density,
                   less its log-prior, is made

A replicate gives one row an identity: `estimate` is by how much it is missed, relative to 1 + |ℓ| (the map: to the
state), `p_value` 1 where it holds to rounding and else 0. So `rejection`, with the target 0, is the share of data sets
on which it does not hold.
"""

import math
import time
from typing import Any

import numpy as np

from vcbench.bayes.reduced import Reduced
from vcbench.errors import MethodError, ModelError
from vcbench.kernels import build
from vcbench.model.model import Model
from vcbench.solvers.elbo import elbo
from vcbench.solvers.solve import solve
from vcbench.status import Status
from vcbench.study.entries import MethodEntry
from vcbench.study.mutants_steps import px_step
from vcbench.study.rows import PER_FIT, PER_PARAMETER, BlockFit

NAMES = ("ascent", "one-step map", "ELBO", "log-density")
ROUNDING = {"ascent": 1e-9, "one-step map": 1e-7, "ELBO": 1e-9, "log-density": 1e-9}
MAPS = ("px-em", "em")
STEPS = 12


def check_identities(model: Model, Y: np.ndarray, method: MethodEntry) -> BlockFit:
    """The identities on responses Y (n, R) of a model with components of one variance each and independent residuals.

    An identity that cannot be worked out is missed by an infinite amount: no estimate. For other models, and an `of`
    or `steps` that there is not, all replicates end SKIPPED, and say why.
    """
    try:
        return _check(model, Y, method)
    except (MethodError, ModelError) as error:
        return BlockFit.empty(NAMES, Y.shape[1], Status.SKIPPED, str(error))


def _check(model: Model, Y: np.ndarray, method: MethodEntry) -> BlockFit:
    of, steps = str(method.options.get("of", MAPS[0])), int(method.options.get("steps", STEPS))
    if of not in MAPS:
        raise MethodError(f"`of` of `identities` is `{of}`; there are dense formulas of {' and '.join(MAPS)}.")
    if steps < 3:
        raise MethodError(f"`steps` of `identities` is {steps}; the path needs at least 3.")
    plain = model.noise.is_plain and model.noise.weights is None and not model.is_structured
    if not plain or any(component.n_effects != 1 for component in model.components):
        raise ModelError(
            "`identities` are of components of one variance each and independent residuals of one variance."
        )
    R = Y.shape[1]
    arrays: dict[str, Any] = {name: np.full((R, len(NAMES)), np.nan) for name in PER_PARAMETER}
    arrays |= {name: np.full(R, np.nan) for name in PER_FIT}
    twin = Reduced.of(model)
    for r in range(R):
        wall, cpu = time.perf_counter(), time.process_time()
        missed = _missed(model.replace(y=Y[:, r]), twin, of, steps)
        arrays["estimate"][r] = np.where(np.isfinite(missed), missed, np.nan)
        arrays["p_value"][r] = [float(m <= ROUNDING[name]) for name, m in zip(NAMES, missed, strict=True)]
        arrays["seconds"][r], arrays["cpu_seconds"][r] = time.perf_counter() - wall, time.process_time() - cpu
    return BlockFit(NAMES, **arrays, status=[Status.CONVERGED] * R, message=[""] * R, interval=None)


def _missed(model: Model, twin: Reduced, of: str, steps: int) -> np.ndarray:
    """By how much each identity of NAMES is missed, inf where it cannot be worked out."""
    kernel: Any = build(model, "dense")
    theta = kernel.layout.scale
    with np.errstate(all="ignore"):
        found = solve(kernel, of, "ml", max_iter=steps)
        loglik = found.trace[:, 0]
        fall = np.max(-np.diff(loglik) / (1 + np.abs(loglik[1:])), initial=0.0)
        ended = found.status in (Status.CONVERGED, Status.AT_BOUNDARY, Status.MAX_ITER)
        at = kernel.evaluate(theta, ("loglik",), "ml")
        bound = abs(elbo(kernel, theta, at.beta) - at.loglik) / (1 + abs(at.loglik))
        reml = kernel.evaluate(theta, ("loglik",), "reml").loglik
        density = float(twin.bind(_centred(model)).loglik(theta, "reml")[0])
    missed = [fall if ended else math.inf, _step_missed(kernel, found.trace, of, ended), bound]
    return np.nan_to_num([*missed, abs(density - reml) / (1 + abs(density))], nan=math.inf, posinf=math.inf)


def _step_missed(kernel: Any, trace: np.ndarray, of: str, ended: bool) -> float:
    """The largest departure of the second step of a path from the formulas', relative to the scale of the state."""
    p, d = kernel.model.n_theta, kernel.model.n_fixed
    if len(trace) < 3:
        return 0.0 if ended else math.inf  # it has ended before
    at, then = trace[1, 1 : 1 + p + d], trace[2, 1 : 1 + p + d]
    theta, gamma = px_step(kernel, at[:p], at[p:], expanded=of == "px-em")
    scale = np.concatenate([kernel.layout.scale, np.full(d, np.sqrt(kernel.model.n_obs) * kernel.sd)])
    return float(np.max(np.abs(np.concatenate([theta, gamma]) - then) / scale))


def _centred(model: Model) -> np.ndarray:
    """The response less its offset."""
    y = model.y if model.offset is None else model.y - model.offset
    return np.asarray(y, float)
