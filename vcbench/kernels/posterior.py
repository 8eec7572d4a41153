"""The E-step in reduced form: expected complete-data statistics from R with ZᵀZ = RᵀR (MATH §3)."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dpotrf, dpotri

from vcbench.kernels.blocks import Layout
from vcbench.kernels.protocol import Moments
from vcbench.model.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """Z, X, y in the span of Z, or in all rows: R (m, q) with the columns of effect a at `at[a]`, X (m, d), y (m,)."""

    model: Model
    layout: Layout
    at: list[slice]
    component: np.ndarray
    R: np.ndarray
    X: np.ndarray
    y: np.ndarray


def moments_of(part: Reduced, theta: np.ndarray, r: np.ndarray, rest: tuple[float, float], A_factor) -> Moments:
    """`protocol.Moments` at θ; r (q,) the residual inside the span, rest the sums of squares of y and of r outside it.

    A_factor: Cholesky of QᵀV⁻¹Q where β is integrated (REML), None where it is fixed. With u = Λw, w ~ N(0, I):

        Cov(w | y) = (I + ΛᵀRᵀRΛ/σ²)⁻¹ = C,   E[w | y] = C ΛᵀRᵀr/σ²,   Cov(w, γ) = −C ΛᵀRᵀX/σ² · (QᵀV⁻¹Q)⁻¹

    Raises LinAlgError where rounding leaves no definite precision.
    """
    lay, at, sigma2 = part.layout, part.at, float(theta[-1])
    roots = _roots(part, theta)
    RL = _times(part, part.R.T, roots, transpose=True).T
    q = RL.shape[1]
    precision = RL.T @ RL / sigma2
    precision.flat[:: q + 1] += 1.0
    factor, info = dpotrf(precision.T, lower=1, clean=1, overwrite_a=1)
    if info:
        raise np.linalg.LinAlgError("the E-step's precision is not positive definite")
    logdet = 2.0 * np.log(np.diag(factor)).sum()
    C = dpotri(factor, lower=1, overwrite_c=1)[0] if q else factor
    C = C + np.tril(C, -1).T
    mean = C @ (RL.T @ r) / sigma2
    cov_wg = None
    if A_factor is not None:
        K = C @ (RL.T @ part.X) / sigma2
        M = cho_solve(A_factor, np.eye(K.shape[1]))
        cov_wg = -K @ M
        C = C - cov_wg @ K.T
    u = _times(part, mean[:, None], roots)[:, 0]
    cov = _times(part, _times(part, C, roots).T, roots).T
    B = part.R.T @ part.R
    pairs = list(zip(lay.fa, lay.fb, strict=True))
    W = np.column_stack([part.R[:, at[a]] @ u[at[b]] for a, b in pairs]) if pairs else np.empty((len(r), 0))
    F = W.T @ W
    for j, (a, b) in enumerate(pairs):
        for k, (c, e) in enumerate(pairs):
            F[j, k] += np.vdot(B[at[a], at[c]], cov[at[b], at[e]])
    n_effects = len(at)
    S = np.zeros((n_effects, n_effects))
    for k, Omega in enumerate(part.model.Omegas(theta)):
        effects = np.flatnonzero(part.component == k)
        for i, a in enumerate(effects):
            for j, b in enumerate(effects):
                missing = lay.q[a] - len(u[at[a]])  # levels that the factor does not reach keep their prior
                S[a, b] = u[at[a]] @ u[at[b]] + np.trace(cov[at[a], at[b]]) + missing * Omega[i, j]
    f = W.T @ r
    E0 = float(r @ r) + rest[1]
    if cov_wg is not None:
        cov_ug = _times(part, cov_wg, roots)
        ZX = part.R.T @ part.X
        f -= [np.vdot(ZX[at[a]], cov_ug[at[b]]) for a, b in pairs]
        E0 += float(np.trace(M))
    yty = float(part.y @ part.y) + rest[0]
    return Moments(np.column_stack([lay.fa, lay.fb]), F, W.T @ part.y, part.X.T @ W, S, yty, f, E0, float(logdet))


def _roots(part: Reduced, theta: np.ndarray) -> list[np.ndarray]:
    """Λ_k with Ω_k = Λ_kΛ_kᵀ; exact where Ω_k is singular."""
    return [psd_root(Omega) for Omega in part.model.Omegas(theta)]


def psd_root(Omega: np.ndarray) -> np.ndarray:
    """Λ with Ω = ΛΛᵀ, from eigenvectors; negative eigenvalues count as 0."""
    values, vectors = np.linalg.eigh(Omega)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def _times(part: Reduced, A: np.ndarray, roots: list[np.ndarray], transpose: bool = False) -> np.ndarray:
    """(Λ ⊗ I) A for each component's rows of A (q, m); Λᵀ with `transpose`."""
    out = np.empty_like(A)
    for k, root in enumerate(roots):
        effects = np.flatnonzero(part.component == k)
        rows = slice(part.at[effects[0]].start, part.at[effects[-1]].stop)
        block = A[rows].reshape(len(root), -1, A.shape[1])
        out[rows] = np.tensordot(root.T if transpose else root, block, axes=1).reshape(-1, A.shape[1])
    return out
