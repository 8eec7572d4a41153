"""What the compiled block-diagonal likelihood is made of: its requests by bit, and the algebra of small matrices."""

import math

import numpy as np
from numba import njit

SCORE, EXPECTED, AVERAGE, MOMENTS = 1, 2, 4, 8


@njit(cache=True)
def cholesky_in_place(M):
    """Lower Cholesky factor in the lower triangle of M; False where M is not positive definite."""
    m = M.shape[0]
    for j in range(m):
        s = M[j, j]
        for k in range(j):
            s -= M[j, k] * M[j, k]
        if not s > 0.0:
            return False
        p = math.sqrt(s)
        M[j, j] = p
        for i in range(j + 1, m):
            s = M[i, j]
            for k in range(j):
                s -= M[i, k] * M[j, k]
            M[i, j] = s / p
    return True


@njit(cache=True)
def invert_lower(L, out):
    """out = L⁻¹ for lower triangular L (its strict upper triangle is not read); out's upper triangle is zeroed."""
    m = L.shape[0]
    for j in range(m):
        for i in range(j):
            out[i, j] = 0.0
        out[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, m):
            s = 0.0
            for k in range(j, i):
                s -= L[i, k] * out[k, j]
            out[i, j] = s / L[i, i]


@njit(cache=True)
def psd_root(Omega):
    """Λ with ΛΛᵀ = Ω, negative eigenvalues taken as 0."""
    r = Omega.shape[0]
    out = np.zeros((r, r))
    if r == 1:
        out[0, 0] = math.sqrt(max(Omega[0, 0], 0.0))
        return out
    values, vectors = np.linalg.eigh(Omega)
    for a in range(r):
        for b in range(r):
            out[a, b] = vectors[a, b] * math.sqrt(max(values[b], 0.0))
    return out


@njit(cache=True)
def omega_of(theta, pa, pb, r):
    """Ω (r, r) over all components from θ's pairs."""
    Omega = np.zeros((r, r))
    for j in range(pa.shape[0]):
        Omega[pa[j], pb[j]] = theta[j]
        Omega[pb[j], pa[j]] = theta[j]
    return Omega
