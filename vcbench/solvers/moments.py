"""The method of moments (HE regression) for V = Σ_j θ_j V_j, with its sandwich covariance (MATH §5).

    S θ = q,  S_ij = tr(M V_i M V_j),  q_i = yᵀ M V_i M y,  M = I − X(XᵀX)⁻¹Xᵀ
    Cov(θ̂) = S⁻¹ Σ S⁻¹,  Σ_ij = 2 tr(M V_i M V M V_j M V)

It is one REML Fisher step from θ_0 = (0, …, 0, 1), where P = M: θ̂ = θ_0 + I⁻¹·score. Estimates are reported raw:
they may be negative, and V may not be positive definite.
"""

from typing import Any

import numpy as np

from vcbench.errors import ModelError
from vcbench.kernels.blocks import BlockKernel

SINGULAR = 1e-10


def moment_matrix(kernel: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(θ_0, S/2, score at θ_0) of the kernel; θ_0 has residual variance 1 and the rest 0.

    Raises ModelError where S is singular: a component that X absorbs has no moment equation of its own.
    """
    theta0 = np.zeros(kernel.model.n_theta)
    theta0[-1] = kernel.layout.scale[-1]
    at = kernel.evaluate(theta0, need=("score", "expected"), criterion="reml")
    size = np.sqrt(np.diag(at.expected))
    if not (size > 0).all() or np.linalg.eigvalsh(at.expected / np.outer(size, size))[0] < SINGULAR:
        weak = kernel.model.theta_names[int(np.argmin(size * kernel.layout.scale))]
        raise ModelError(
            f"the moment equations are singular: `{weak}` leaves no trace once X is taken out. Use a likelihood method."
        )
    return theta0, at.expected, at.score


def moments(kernel: Any) -> np.ndarray:
    """θ̂ (p,) by HE regression."""
    theta0, half_S, score = moment_matrix(kernel)
    return theta0 + np.linalg.solve(half_S, score)


def moment_covariance(kernel: Any, theta: np.ndarray) -> np.ndarray:
    """Cov(θ̂) (p, p): the sandwich at V(θ)."""
    _, half_S, _ = moment_matrix(kernel)
    s0 = kernel.layout.scale[-1]
    S = 2.0 * half_S * s0**2
    Sigma = _block_sandwich(kernel, theta) if isinstance(kernel, BlockKernel) else _dense_sandwich(kernel, theta)
    inverse = np.linalg.inv(S)
    return inverse @ Sigma @ inverse


def _dense_sandwich(kernel: Any, theta: np.ndarray) -> np.ndarray:
    Q = kernel.basis.Q
    M = np.eye(len(Q)) - Q @ Q.T
    MV = M @ np.tensordot(theta, kernel.V, axes=1)
    work = [M @ V @ MV for V in kernel.V]  # M V_i M V
    return 2.0 * np.array([[np.sum(a * b.T) for b in work] for a in work])


def _block_sandwich(kernel: BlockKernel, theta: np.ndarray) -> np.ndarray:
    """Σ over blocks: M V M = V + Y C Yᵀ with Y = [X, VX] (X orthonormal), so that no n × n matrix is formed.

    tr(V_i N V_j N), N = V + Y C Yᵀ  =  tr(V_i V V_j V) + 2 tr(C YᵀV_j V V_i Y) + tr(C YᵀV_iY C YᵀV_jY)
    """
    b, lay = kernel.blocks, kernel.layout
    B, r, d = b.X.shape
    p, sigma2 = len(theta), float(theta[-1])
    Omega = np.zeros((r, r))
    Omega[lay.pa, lay.pb] = Omega[lay.pb, lay.pa] = theta[:-1]
    W = b.R @ Omega @ b.R.transpose(0, 2, 1) + sigma2 * np.eye(r)
    D = np.zeros((p, B, r, r))  # V_j in the blocks
    for j, (a, c) in enumerate(zip(lay.pa, lay.pb, strict=True)):
        outer = b.R[:, :, [a]] * b.R[:, None, :, c]
        D[j] = outer if a == c else outer + outer.transpose(0, 2, 1)
    D[-1] = np.eye(r)
    within = np.zeros(p)
    within[-1] = 1.0  # V_j outside the blocks is δ_je I
    VX = W @ b.X
    Y = np.concatenate([b.X, VX], axis=2)
    Yw = np.concatenate([b.TX, sigma2 * b.TX], axis=1)
    XVX = np.einsum("bri,brj->ij", b.X, VX) + sigma2 * b.TX.T @ b.TX
    C = np.block([[XVX, -np.eye(d)], [-np.eye(d), np.zeros((d, d))]])
    DW = D @ W
    first = np.einsum("jbac,kbca->jk", DW, DW) + np.outer(within, within) * sigma2**2 * b.n_within
    WY = W @ Y
    DY = D @ Y  # V_i Y
    left = np.einsum("jbra,brs->jbas", DY, W)  # (V_j Y)ᵀ V
    cross = np.einsum("jbas,kbsc->jkac", left, DY) + np.einsum("j,k,ac->jkac", within, within, sigma2 * Yw.T @ Yw)
    second = np.einsum("ac,jkca->jk", C, cross)
    inner = np.einsum("bra,jbrc->jac", Y, DY) + within[:, None, None] * (Yw.T @ Yw)
    third = np.einsum("ac,jcd,de,kea->jk", C, inner, C, inner, optimize=True)
    del WY
    Sigma = first + second + second.T + third
    return Sigma + Sigma.T
