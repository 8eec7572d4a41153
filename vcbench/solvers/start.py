"""Where to start: strictly inside the parameter space, the same for every method."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit

from vcbench.errors import MethodError, did_you_mean
from vcbench.kernels.block_core import cholesky_in_place
from vcbench.kernels.protocol import Kernel
from vcbench.solvers.geometry import cone_matrix, eigen, positions, put_cone, solve_spd

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
                raise MethodError(
                    f"start names `{key}`, which is no parameter.{did_you_mean(key, names)} Choose from "
                    f"{', '.join(names)}."
                )
            try:
                theta[names.index(key)] = float(value)
            except (TypeError, ValueError):
                raise MethodError(f"start: `{key}` is {value!r}; it must be a number.") from None
    else:
        theta = np.array(start, float)
        if theta.shape != (len(names),):
            raise MethodError(f"start has shape {theta.shape}; there are {len(names)} parameters: {', '.join(names)}.")
    _check_inside(kernel, theta)
    return theta


def starting_point(kernel: Any, start: str | Mapping[str, float] | np.ndarray) -> np.ndarray:
    """Where the solvers start, in their coordinates: θ, or w where the model has structures.

    Structures start at a small positive correlation under "auto" and nearest to independence under "unit"; a mapping
    names natural parameters, which must lie within their ranges.
    """
    if not hasattr(kernel, "view"):
        return starting_theta(kernel, start)
    view = kernel.view
    work, lay = view.maps, view.layout
    if isinstance(start, str) and start == "unit":
        linear = np.append((lay.pa == lay.pb).astype(float), 1.0)
        return np.concatenate([linear[:-1], work.smooth_start(neutral=True), linear[-1:]])
    if isinstance(start, str) and start != "auto":
        raise MethodError(f'unknown start `{start}`. Choose "auto", "unit" or a mapping of parameter names to values.')
    w = _auto_working(view)
    if isinstance(start, str):
        return w
    theta, names = work.theta(w), work.names
    if not isinstance(start, Mapping):
        theta = np.array(start, float)
    else:
        for key, value in start.items():
            if key in kernel.model.X_names:
                continue
            if key not in names:
                raise MethodError(
                    f"start names `{key}`, which is no parameter.{did_you_mean(key, names)} Choose from "
                    f"{', '.join(names)}."
                )
            try:
                theta[names.index(key)] = float(value)
            except (TypeError, ValueError):
                raise MethodError(f"start: `{key}` is {value!r}; it must be a number.") from None
    w = work.w(theta)
    _check_cones(view, w, names)
    return w


def _auto_working(view: Any) -> np.ndarray:
    """The moment step for the linear part and σ², φ at its start."""
    work, lay = view.maps, view.layout
    w = np.concatenate([np.zeros(work.n_linear), view.smooth_start(), lay.scale[-1:]])
    what = getattr(view.inner, "start_information", "expected")
    at = view.evaluate(w, ("score", what), "reml")
    if at.score is None:
        return np.concatenate([lay.scale[: work.n_linear] * (lay.pa == lay.pb), view.smooth_start(), lay.scale[-1:]])
    own = np.append(np.arange(work.n_linear), len(w) - 1)
    scale = lay.scale[own]
    information = getattr(at, what)[np.ix_(own, own)] * np.outer(scale, scale)
    x = moment_start(at.score[own] * scale, information, lay.cone_ptr, lay.cone_effects, _where(lay))
    w[own] = x * scale
    return w


def other_points(lay: Any, point: np.ndarray, n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """n further starts: every effect's SD times e^N(0, 0.75²), φ plus N(0, 1); Ω stays positive definite."""
    out = []
    for _ in range(n):
        new = point.copy()
        size = np.exp(rng.normal(0.0, 0.75, len(lay.q)))
        pairs = len(lay.pa)
        new[:pairs] *= size[lay.pa] * size[lay.pb]
        new[pairs:-1] += rng.normal(0.0, 1.0, len(point) - 1 - pairs)
        out.append(new)
    return out


def even_point(lay: Any, point: np.ndarray) -> np.ndarray:
    """The OLS variance shared evenly by all terms and the residual, covariances 0, φ as at `point`."""
    new, share = point.copy(), 1.0 / (1 + int((lay.pa == lay.pb).sum()))
    pairs = len(lay.pa)
    new[:pairs] = lay.scale[:pairs] * (lay.pa == lay.pb) * share
    new[-1] = lay.scale[-1] * share
    return new


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
    what = getattr(kernel, "start_information", "expected")  # average where the expected would be dear
    at = kernel.evaluate(theta, need=("score", what), criterion="reml")
    units = np.outer(lay.scale, lay.scale)
    x = moment_start(at.score * lay.scale, getattr(at, what) * units, lay.cone_ptr, lay.cone_effects, _where(lay))
    return x * lay.scale


@njit(cache=True)
def moment_start(score, S, ptr, effects, where):
    """x = θ/scale from the score and REML information at x_0 = (0, …, 0, 1): the moment step, pulled inside."""
    p = score.shape[0]
    size = np.empty(p)
    for j in range(p):
        size[j] = math.sqrt(max(S[j, j], 1e-300))
    H, g = np.empty((p, p)), score / size
    for i in range(p):
        for j in range(p):
            H[i, j] = S[i, j] / (size[i] * size[j])
    L = H.copy()
    det = 1.0 if cholesky_in_place(L) else 0.0
    for j in range(p):
        det *= L[j, j] * L[j, j]
    x = np.zeros(p)
    x[p - 1] = 1.0
    if det > 1e-6 * p:  # λ_1 ≥ |H|/e and λ_p ≤ p: no eigenvalue is left out
        _, step = solve_spd(H, g)
        x += step / size
    else:
        values, vectors = np.linalg.eigh(H)
        for j in range(p):
            if values[j] > 1e-8 * values[p - 1]:
                v = np.ascontiguousarray(vectors[:, j])
                x += (v @ g) / values[j] * v / size
    for c in range(ptr.shape[0] - 1):
        e, v = eigen(cone_matrix(x, c, ptr, effects, where))
        k = e.shape[0]
        inside = np.zeros((k, k))
        for j in range(k):
            inside += min(max(e[j], FLOOR), CEILING) * np.outer(v[:, j], v[:, j])
        put_cone(x, c, ptr, effects, where, inside)
    x[p - 1] = min(max(x[p - 1], 0.05), 2.0)
    return x


def inside(x: np.ndarray, lay: Any) -> np.ndarray:
    """x = θ/scale with the cones that are on a face (an eigenvalue of 0 up to rounding) pulled off it, to FLOOR."""
    out, where = x.copy(), _where(lay)
    for c in range(len(lay.cone_ptr)):
        values, vectors = eigen(cone_matrix(x, c, lay.cone_ptr, lay.cone_effects, where))
        if values[0] <= 1e-10 * max(values[-1], 1.0):
            Omega = (vectors * np.maximum(values, FLOOR)) @ vectors.T
            put_cone(out, c, lay.cone_ptr, lay.cone_effects, where, Omega)
    return out


def _where(lay: Any) -> np.ndarray:
    return positions(lay.pa, lay.pb, len(lay.q))


def _check_inside(kernel: Kernel, theta: np.ndarray) -> None:
    _check_cones(kernel, theta, kernel.model.theta_names)


def _check_cones(kernel: Any, theta: np.ndarray, names: Any) -> None:
    if not np.isfinite(theta).all() or theta[-1] <= 0:
        raise MethodError(f"start: `{names[-1]}` is {theta[-1]:g}; it must be positive, and every value finite.")
    lay = kernel.layout  # type: ignore[attr-defined]
    where = _where(lay)
    for c in range(len(lay.cone_ptr) - 1):
        Omega = cone_matrix(theta / lay.scale, c, lay.cone_ptr, lay.cone_effects, where)
        if np.linalg.eigvalsh(Omega)[0] <= 0:
            effects = lay.cone_effects[lay.cone_ptr[c] : lay.cone_ptr[c + 1]]
            at = [names[j] for j in range(len(lay.pa)) if lay.pa[j] in effects and lay.pb[j] in effects]
            raise MethodError(
                f"start is not strictly inside the parameter space: Ω of {', '.join(f'`{a}`' for a in at)} must "
                f"be positive definite."
            )
