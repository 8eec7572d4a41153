"""Standard errors of θ̂: an information matrix inverted on the free coordinates.

Cov(θ̂) = T (Tᵀ I T)⁻¹ Tᵀ, T the directions in which θ̂ may move (all of them inside the parameter space; on the edge the
tangent of the face, so that a variance at 0 has no standard error). I is the observed, expected or average information
of ℓ with β profiled (ML) or integrated (REML), natural units (MATH §2, 6).
"""

import math
from typing import Any

import numpy as np
from numba import njit

from vcbench.errors import MethodError
from vcbench.kernels.block_core import cholesky_in_place, invert_lower
from vcbench.solvers.geometry import face_curvature, positions, tangent

COV_TYPES = ("observed", "expected", "average")


def theta_covariance(
    kernel: Any, theta: np.ndarray, criterion: str, rank: np.ndarray, cov_type: str | None = None
) -> tuple[np.ndarray, str]:
    """(Cov (p, p), the information that was used); rows and columns of parameters on the boundary are NaN.

    cov_type None: observed, or what the kernel's `standard_information` says where that would be dear. Observed
    information that is not positive definite (it need not be away from a maximum) gives way to the expected.
    """
    if cov_type is None:
        cov_type = getattr(kernel, "standard_information", "observed")
    if cov_type not in COV_TYPES:
        raise MethodError(f"unknown cov_type `{cov_type}`. Choose from {', '.join(COV_TYPES)}.")
    if hasattr(kernel, "view"):
        return _structured_covariance(kernel, theta, criterion, rank, cov_type)
    lay = kernel.layout
    units = np.outer(lay.scale, lay.scale)
    where = positions(lay.pa, lay.pb, len(lay.q))
    at = kernel.evaluate(theta, ("score", cov_type), criterion)
    for name in dict.fromkeys((cov_type, "expected")):
        if getattr(at, name) is None:
            at = kernel.evaluate(theta, ("score", name), criterion)
        ok, cov = free_covariance(
            theta / lay.scale,
            at.score * lay.scale,
            getattr(at, name) * units,
            rank,
            lay.cone_ptr,
            lay.cone_effects,
            where,
        )
        if ok:
            return cov * units, name
    return np.full((len(theta), len(theta)), np.nan), "none"


def _structured_covariance(
    kernel: Any, theta: np.ndarray, criterion: str, rank: np.ndarray, cov_type: str
) -> tuple[np.ndarray, str]:
    """Cov(θ̂) = D Cov(ŵ) Dᵀ, D = ∂θ/∂w; NaN for parameters that depend on one at the boundary."""
    view = kernel.view
    w = view.maps.w(theta)
    need = ("score", "average") if cov_type == "average" else ("score", "expected", "average")
    at = view.evaluate(w, need, criterion)
    _, D = view.maps.theta_jacobian(w)
    lay = view.layout
    units = np.outer(lay.scale, lay.scale)
    where = positions(lay.pa, lay.pb, len(lay.q))
    for name in dict.fromkeys((cov_type, "expected")):
        if getattr(at, name) is None:
            at = view.evaluate(w, ("score", name), criterion)
        info = getattr(at, name)
        ok, cov = free_covariance(
            w / lay.scale, at.score * lay.scale, info * units, rank, lay.cone_ptr, lay.cone_effects, where
        )
        if ok:
            cov = cov * units
            free = np.isfinite(np.diag(cov))
            out = D[:, free] @ cov[np.ix_(free, free)] @ D[:, free].T
            bound = (D[:, ~free] != 0).any(axis=1)
            out[bound, :] = out[:, bound] = np.nan
            return out, name
    return np.full((len(theta), len(theta)), np.nan), "none"


@njit(cache=True)
def free_covariance(x, score, info, rank, ptr, effects, where):
    """(ok, Cov) in units of `scale`: T(TᵀIT + bend)⁻¹Tᵀ; NaN where T does not reach; not ok if not PD."""
    p = x.shape[0]
    out = np.full((p, p), np.nan)
    T = tangent(x, rank, ptr, effects, where)
    m = T.shape[1]
    H = info.copy() if m == p else T.T @ info @ T + face_curvature(x, score, rank, ptr, effects, where, m)
    size = np.empty(m)
    for j in range(m):
        if H[j, j] == 0.0 and (H[j] == 0.0).all():  # φ of a structure whose variance is 0: nothing is known of it
            T[:, j] = 0.0
            H[j, j] = 1.0
        if not H[j, j] > 0.0:
            return False, out
        size[j] = math.sqrt(H[j, j])
    for i in range(m):
        for j in range(m):
            H[i, j] /= size[i] * size[j]
        H[i, i] *= 1.0 - 1e-13
    if not cholesky_in_place(H):
        return False, out
    L = np.empty((m, m))
    invert_lower(H, L)
    half, reached = np.zeros((m, p)), np.zeros(p, np.bool_)  # half = L⁻¹ of the scaled H, times Tᵀ
    for i in range(p):
        for j in range(m):
            reached[i] |= T[i, j] != 0.0
            for k in range(j, m):
                half[k, i] += L[k, j] * T[i, j] / size[j]
    for i in range(p):
        for j in range(p):
            if reached[i] and reached[j]:
                s = 0.0
                for k in range(m):
                    s += half[k, i] * half[k, j]
                out[i, j] = s
    return True, out
