"""Where to start: strictly inside the parameter space, the same for every method."""

from collections.abc import Mapping

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.kernels.protocol import Kernel
from vcbench.solvers.geometry import cone_matrix, positions, put_cone

FLOOR, CEILING = 0.02, 4.0  # eigenvalues of Ω at the start, in units of the OLS residual variance per effect


def starting_theta(kernel: Kernel, start: str | Mapping[str, float] | np.ndarray) -> np.ndarray:
    """θ (p,) in natural units.

    "auto": moment estimates (MINQUE(0): one REML Fisher step from Ω = 0), eigenvalues kept within [0.02, 4] of the OLS
    residual variance. "unit": variances 1, covariances 0. A mapping by parameter name: the rest as "auto"; it must be
    strictly inside the parameter space, for an EM started on the boundary stays there.
    """
    if isinstance(start, str):
        if start == "auto":
            return auto_theta(kernel)
        if start == "unit":
            return unit_theta(kernel)
        raise MethodError(f'unknown start `{start}`. Choose "auto", "unit" or a mapping of parameter names to values.')
    names = kernel.model.theta_names
    if isinstance(start, Mapping):
        theta = auto_theta(kernel)
        for key, value in start.items():
            if key in kernel.model.X_names:  # type: ignore[operator]
                continue
            if key not in names:
                raise MethodError(f"start names `{key}`, which is no parameter.{did_you_mean(key, names)} Choose from {', '.join(names)}.")
            theta[names.index(key)] = float(value)
    else:
        theta = np.array(start, float)
        if theta.shape != (len(names),):
            raise MethodError(f"start has shape {theta.shape}; there are {len(names)} parameters: {', '.join(names)}.")
    _check_inside(kernel, theta)
    return theta


def unit_theta(kernel: Kernel) -> np.ndarray:
    """Variances 1, covariances 0."""
    lay = kernel.layout  # type: ignore[attr-defined]
    return np.append((lay.pa == lay.pb).astype(float), 1.0)


def auto_theta(kernel: Kernel) -> np.ndarray:
    """Moment estimates, pulled inside."""
    lay = kernel.layout  # type: ignore[attr-defined]
    p = len(lay.scale)
    theta = np.zeros(p)
    theta[-1] = lay.scale[-1]
    if p == 1:
        return theta
    at = kernel.evaluate(theta, need=("score", "expected"), criterion="reml")
    x = theta / lay.scale
    S, g = at.expected * np.outer(lay.scale, lay.scale), at.score * lay.scale  # type: ignore[operator]
    size = np.sqrt(np.maximum(np.diag(S), 1e-300))
    values, vectors = np.linalg.eigh(S / np.outer(size, size))
    keep = values > 1e-8 * values[-1]
    x = x + (vectors[:, keep] @ ((vectors[:, keep].T @ (g / size)) / values[keep])) / size
    where = positions(lay.pa, lay.pb, len(lay.q))
    for c in range(len(lay.cone_ptr) - 1):
        values, vectors = np.linalg.eigh(cone_matrix(x, c, lay.cone_ptr, lay.cone_effects, where))
        put_cone(x, c, lay.cone_ptr, lay.cone_effects, where, (vectors * np.clip(values, FLOOR, CEILING)) @ vectors.T)
    x[-1] = np.clip(x[-1], 0.05, 2.0)
    return x * lay.scale


def _check_inside(kernel: Kernel, theta: np.ndarray) -> None:
    names = kernel.model.theta_names
    if not np.isfinite(theta).all() or theta[-1] <= 0:
        raise MethodError(f"start: `{names[-1]}` is {theta[-1]:g}; it must be positive, and every value finite.")
    lay = kernel.layout  # type: ignore[attr-defined]
    where = positions(lay.pa, lay.pb, len(lay.q))
    for c in range(len(lay.cone_ptr) - 1):
        Omega = cone_matrix(theta / lay.scale, c, lay.cone_ptr, lay.cone_effects, where)
        if np.linalg.eigvalsh(Omega)[0] <= 0:
            effects = lay.cone_effects[lay.cone_ptr[c] : lay.cone_ptr[c + 1]]
            at = [names[j] for j in range(len(lay.pa)) if lay.pa[j] in effects and lay.pb[j] in effects]
            raise MethodError(f"start is not strictly inside the parameter space: Ω of {', '.join(f'`{a}`' for a in at)} must be positive definite.")
