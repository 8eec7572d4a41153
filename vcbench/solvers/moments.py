"""MINQUE for V = Σ_j θ_j V_j, with its sandwich covariance (MATH §2, §5); `moments` is its case of no prior knowledge.

    S θ = q,  S_ij = tr(P_0 V_i P_0 V_j),  q_i = yᵀ P_0 V_i P_0 y,  P_0 = P(θ_0)
    Cov(θ̂) = S⁻¹ Σ S⁻¹,  Σ_ij = 2 tr(P_0 V_i P_0 V P_0 V_j P_0 V)

It is one unguarded REML Fisher step: θ̂ = θ_0 + I(θ_0)⁻¹·score(θ_0). With θ_0 = (0, …, 0, 1) P_0 = M, and the
equations are those of HE regression (`moments`, MINQUE(0)). Estimates are reported raw: they may be negative, and V may
not be positive definite. Repeated from its own estimate to a fixed point it is I-MINQUE, where the REML score is zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.kernels.blocks import BlockKernel
from vcbench.model.model import Model
from vcbench.solvers.moment_space import MomentSpace
from vcbench.status import Status

SINGULAR = 1e-10
NOTHING = 1e-7  # of the largest: the root of what rounding leaves of a trace that is 0
PRIORS = '0, 1, "iterated" or a mapping of parameter names to values'


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """θ̂ by moments: the prior θ_0 of its last equations, the information S/2 there, how it ended, and at what cost."""

    theta: np.ndarray
    prior: np.ndarray
    information: np.ndarray | None = None
    status: Status = Status.CONVERGED
    message: str = ""
    n_iter: int = 1
    n_eval: int = 1


def no_prior(kernel: Any) -> np.ndarray:
    """θ_0 = (0, …, 0, σ²): P_0 ∝ M. σ² is that of OLS, for the size of numbers only."""
    theta = np.zeros(kernel.model.n_theta)
    theta[-1] = kernel.layout.scale[-1]
    return theta


def prior_theta(kernel: Any, prior: Any) -> np.ndarray:
    """θ_0 (p,) of a `prior`: 0, 1 (every variance 1, every covariance 0), or values by name, the rest as in 1.

    Raises MethodError for anything else, an unknown name, and a θ_0 at which V is not positive definite.
    """
    names, lay = kernel.model.theta_names, kernel.layout
    if isinstance(prior, Mapping):
        theta = np.append((lay.pa == lay.pb).astype(float), 1.0)
        for name, value in prior.items():
            if name not in names:
                raise MethodError(
                    f"`prior` names `{name}`, which is no parameter.{did_you_mean(name, names)} Choose from "
                    f"{', '.join(names)}."
                )
            try:
                theta[names.index(name)] = float(value)
            except (TypeError, ValueError):
                raise MethodError(f"prior: `{name}` is {value!r}; it must be a number.") from None
        if not np.isfinite(theta).all() or not np.isfinite(kernel.evaluate(theta, (), "reml").loglik):
            values = ", ".join(f"{name} = {v:g}" for name, v in zip(names, theta, strict=True))
            raise MethodError(f"V is not positive definite at the prior {values}. Give variances above 0.")
        return theta
    if isinstance(prior, bool) or not isinstance(prior, int | float | str) or prior not in (0, 1):
        raise MethodError(f"`prior` is {prior!r}; it must be {PRIORS}.")
    return np.append((lay.pa == lay.pb).astype(float), 1.0) if prior else no_prior(kernel)


def check_linear(model: Model, method: str) -> None:
    """ModelError unless V = Σ_j θ_j V_j with R = σ²I or σ²/weights, which the moment equations are for."""
    odd = [f"`{c.cov.kind}` of `{c.name}`" for c in model.components if not c.cov.is_linear]  # type: ignore[union-attr]
    odd += ["components said to be equal"] if model.equal else []
    odd += [] if model.noise.is_plain else [f"residual `{model.residual}`"]
    if odd:
        raise ModelError(
            f"method `{method}` needs a V that is linear in its parameters, with independent residuals of one "
            f"variance; this model has {odd[0]}. Use a likelihood method."
        )


def moment_matrix(kernel: Any, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S/2, score) of the kernel at the prior.

    Raises ModelError where S is singular: a component that X absorbs has no moment equation of its own.
    """
    at = kernel.evaluate(prior, need=("score", "expected"), criterion="reml")
    size = np.sqrt(np.maximum(np.diag(at.expected), 0.0))
    seen = size * kernel.layout.scale  # of order √n in these units; what X absorbs leaves rounding errors
    if not (seen > NOTHING * seen.max()).all() or np.linalg.eigvalsh(at.expected / np.outer(size, size))[0] < SINGULAR:
        weak = kernel.model.theta_names[int(np.argmin(seen))]
        raise ModelError(
            f"the moment equations are singular: `{weak}` leaves no trace once X is taken out. Use a likelihood method."
        )
    return at.expected, at.score


def moments(kernel: Any) -> np.ndarray:
    """θ̂ (p,) by HE regression."""
    return minque(kernel, 0).theta


def minque(kernel: Any, prior: Any = 0, tol: float = 1e-6, max_iter: int = 200) -> Estimate:
    """MINQUE(θ_0); `prior="iterated"` repeats it, from θ_0 of `prior=0`, until a step is below `tol` standard errors.

    A V that is not positive definite on the way ends it with SINGULAR_V and says at which θ.
    """
    if not (isinstance(prior, str) and prior == "iterated"):
        theta0 = prior_theta(kernel, prior)
        if theta0[-1] > 0:  # the ratios of a prior matter, not its size: at the data's own nothing cancels
            theta0 = theta0 * (kernel.layout.scale[-1] / theta0[-1])
        half_S, score = moment_matrix(kernel, theta0)
        return Estimate(theta0 + np.linalg.solve(half_S, score), theta0, half_S)
    theta = no_prior(kernel)
    for n_iter in range(max_iter + 1):
        if not np.isfinite(kernel.evaluate(theta, (), "reml").loglik):
            return Estimate(theta, theta, None, Status.SINGULAR_V, _not_definite(kernel, theta, n_iter), n_iter, n_iter)
        half_S, score = moment_matrix(kernel, theta)
        step = np.linalg.solve(half_S, score)
        distance = float(np.sqrt(max(float(score @ step), 0.0)))
        if distance <= tol:
            return Estimate(theta, theta, half_S, Status.CONVERGED, "", n_iter, n_iter + 1)
        if n_iter == max_iter:
            break
        theta = theta + step
    message = f"stopped at {max_iter} iterations, {distance:.2g} standard errors from a fixed point"
    return Estimate(theta, theta, half_S, Status.MAX_ITER, message, max_iter, max_iter + 1)


def _not_definite(kernel: Any, theta: np.ndarray, n_iter: int) -> str:
    at = ", ".join(f"`{name}` = {v:.6g}" for name, v in zip(kernel.model.theta_names, theta, strict=True))
    return f"V is not positive definite after {n_iter} steps of MINQUE, at {at}: iterated MINQUE is not guarded"


def moment_covariance(
    kernel: Any, theta: np.ndarray, prior: np.ndarray | None = None, half_S: np.ndarray | None = None
) -> np.ndarray:
    """Cov(θ̂) (p, p): the sandwich at V(θ), of equations at the prior (none: those of `moments`), S/2 if it is known."""
    prior = no_prior(kernel) if prior is None else prior
    half_S = moment_matrix(kernel, prior)[0] if half_S is None else half_S
    if isinstance(kernel, BlockKernel) and prior[-1] > 0:
        Sigma = _block_sandwich(kernel, theta, prior)
    else:
        Sigma = MomentSpace.of(kernel.model).sandwich(theta, prior)
    inverse = np.linalg.inv(2.0 * half_S)
    return inverse @ Sigma @ inverse


def _block_sandwich(kernel: BlockKernel, theta: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Σ over blocks whitened by V_0, P_0 = V_0^−½ M V_0^−½: O(B r³), no n × n matrix.

    M V M = V + Y C Yᵀ with Y = [X, VX] (X orthonormal), and with N = V + Y C Yᵀ
    tr(V_i N V_j N) = tr(V_i V V_j V) + 2 tr(C YᵀV_j V V_i Y) + tr(C YᵀV_iY C YᵀV_jY)
    """
    b, lay = kernel.blocks, kernel.layout
    B, r, d = b.X.shape
    p, s0 = len(theta), float(prior[-1])
    L = np.linalg.inv(np.linalg.cholesky(_block_matrix(kernel, prior)))  # V_0^−½
    Lt = L.transpose(0, 2, 1)
    W, sigma2 = L @ _block_matrix(kernel, theta) @ Lt, float(theta[-1]) / s0
    D = np.zeros((p, B, r, r))  # V_j in the blocks
    for j, (a, c) in enumerate(zip(lay.pa, lay.pb, strict=True)):
        outer = b.R[:, :, [a]] * b.R[:, None, :, c]
        D[j] = outer if a == c else outer + outer.transpose(0, 2, 1)
    D[-1] = np.eye(r)
    D = L @ D @ Lt
    within = np.zeros(p)
    within[-1] = 1.0 / s0  # V_j outside the blocks is δ_je I
    X, TX = L @ b.X, b.TX / np.sqrt(s0)
    T = np.linalg.inv(np.linalg.cholesky(np.einsum("bri,brj->ij", X, X) + TX.T @ TX)).T
    X, TX = X @ T, TX @ T
    VX = W @ X
    Y = np.concatenate([X, VX], axis=2)
    Yw = np.concatenate([TX, sigma2 * TX], axis=1)
    XVX = np.einsum("bri,brj->ij", X, VX) + sigma2 * TX.T @ TX
    C = np.block([[XVX, -np.eye(d)], [-np.eye(d), np.zeros((d, d))]])
    DW = D @ W
    first = np.einsum("jbac,kbca->jk", DW, DW) + np.outer(within, within) * sigma2**2 * b.n_within
    DY = D @ Y  # V_i Y
    left = np.einsum("jbra,brs->jbas", DY, W)  # (V_j Y)ᵀ V
    cross = np.einsum("jbas,kbsc->jkac", left, DY) + np.einsum("j,k,ac->jkac", within, within, sigma2 * Yw.T @ Yw)
    second = np.einsum("ac,jkca->jk", C, cross)
    inner = np.einsum("bra,jbrc->jac", Y, DY) + within[:, None, None] * (Yw.T @ Yw)
    third = np.einsum("ac,jcd,de,kea->jk", C, inner, C, inner, optimize=True)
    Sigma = first + second + second.T + third
    return Sigma + Sigma.T


def _block_matrix(kernel: BlockKernel, theta: np.ndarray) -> np.ndarray:
    """R_i Ω R_iᵀ + σ² I (B, r, r)."""
    b, lay = kernel.blocks, kernel.layout
    r = b.R.shape[1]
    Omega = np.zeros((r, r))
    Omega[lay.pa, lay.pb] = Omega[lay.pb, lay.pa] = theta[:-1]
    return b.R @ Omega @ b.R.transpose(0, 2, 1) + theta[-1] * np.eye(r)
