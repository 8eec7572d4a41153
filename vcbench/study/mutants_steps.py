"""PX-EM's M-step written out densely from its formulas, and its mutants.

Without a mutant `px_step` is the kit's own to rounding: a second oracle of it. Each mutant spoils one line.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np

from vcbench.study.mutants_solvers import stepping


def px_step(
    kernel: Any, theta: np.ndarray, gamma: np.ndarray, mutant: str = "", expanded: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(θ′, γ′): one ML step of PX-EM with one δ, for components of one variance each (MATH §3), mutated or not.

    δ = 1 where not `expanded`: EM.

    X is the orthonormal Q of the kernel's basis and y the response less its OLS fit at γ = 0; posterior of u at (γ, θ):

        Σ̃⁻¹ = ZᵀZ/σ_e² + G⁻¹,  μ = Σ̃Zᵀ(y − Qγ)/σ_e²,  δ = (y − Qγ)ᵀZμ / [μᵀZᵀZμ + tr(ZᵀZΣ̃)],  γ′ = Qᵀ(y − δZμ)
        σ_e² = (1/n)[‖y − Qγ′ − δZμ‖² + δ² tr(ZᵀZΣ̃)],   σ_k² = δ²(1/q_k)[μ_kᵀμ_k + tr Σ̃_kk]
    """
    model = kernel.model
    Q, n = kernel.basis.Q, model.n_obs
    y = model.y - (0.0 if model.offset is None else model.offset) - model.X @ kernel.beta0
    factors = [component.factors()[0] for component in model.components]
    q = [component.n_levels for component in model.components]
    Z = np.hstack(factors)
    widths = [factor.shape[1] for factor in factors]
    sigma2, G = theta[-1], np.repeat(theta[:-1], widths)
    e = y - Q @ gamma
    mu, Sigma = _posterior(Z, G, sigma2, e, mutant)
    spread = float(np.sum((Z @ Sigma) * Z))
    fitted = Z @ mu
    delta = (e @ fitted) / (fitted @ fitted + spread) if expanded else 1.0
    if mutant == "M18":
        fitted = _stacked(model, Z, mu, widths)
    new_gamma = Q.T @ (y - delta * fitted)
    if mutant == "M6":  # β as printed, XᵀX where its inverse belongs
        full = y + model.X @ kernel.beta0
        new_gamma = Q.T @ (model.X @ (model.X.T @ model.X @ (model.X.T @ (full - delta * fitted)) - kernel.beta0))
    left = y - Q @ (gamma if mutant == "O2" else new_gamma) - delta * fitted
    squares, scale = left @ left, 1.0 if mutant == "M3" else delta**2
    residual = (squares + delta**2 * spread) / n
    if mutant == "M1":
        residual = squares / n + delta**2 * spread
    elif mutant == "O1":
        residual = squares / n
    variances, at = [], 0
    for width, q_k in zip(widths, q, strict=True):
        part = slice(at, at + width)
        at = part.stop
        squares, trace = float(mu[part] @ mu[part]), float(np.trace(Sigma[part, part]))
        q_k -= mutant == "O10"
        variances.append(scale * (squares / q_k + trace if mutant == "M2" else (squares + trace) / q_k))
    return np.array([*variances, residual]), new_gamma


def _posterior(Z: np.ndarray, G: np.ndarray, sigma2: float, e: np.ndarray, mutant: str) -> tuple[np.ndarray, ...]:
    """(μ, Σ̃) of the effects given the residual e of the fixed part."""
    if mutant in ("M4", "M17", "O3"):
        precision = Z.T @ Z / sigma2 + np.diag(1 / G)
        if mutant == "M4":  # the quadratic form's matrix inverted once too often
            Sigma = precision
        elif mutant == "M17":  # the eigenvalues, as if the basis were that of the eigenvectors
            Sigma = np.diag(1 / np.linalg.eigvalsh(precision))
        else:  # with LLᵀ the precision, L⁻¹L⁻ᵀ for L⁻ᵀL⁻¹
            inverse = np.linalg.inv(np.linalg.cholesky(precision))
            Sigma = inverse @ inverse.T
        return Sigma @ (Z.T @ e) / sigma2, Sigma
    V = (Z * G) @ Z.T + sigma2 * np.eye(len(e))
    GZt = G[:, None] * Z.T
    return GZt @ np.linalg.solve(V, e), np.diag(G) - GZt @ np.linalg.solve(V, GZt.T)


def _stacked(model: Any, Z: np.ndarray, mu: np.ndarray, widths: list[int]) -> np.ndarray:
    """Zμ with each factor's rows stacked group by group, in order of first appearance, but read in row order."""
    out, at = np.zeros(model.n_obs), 0
    for component, width in zip(model.components, widths, strict=True):
        part = slice(at, at + width)
        at = part.stop
        rows = Z[:, part] @ mu[part]
        if component.codes is not None:
            _, first, code = np.unique(component.codes, return_index=True, return_inverse=True)
            rows = rows[np.argsort(first[code], kind="stable")]
        out += rows
    return out


def step_switched_in(mutant: str) -> AbstractContextManager[None]:
    """While open, `px-em` under ML of this process takes `px_step`'s steps, interpreted; "" is the control."""

    def of(own: Any, kernel: Any) -> Any:
        if any(component.n_effects != 1 for component in kernel.model.components):
            return own
        return lambda code, reml, theta, scale, gamma, *more: px_step(kernel, theta, gamma, mutant)

    return stepping("px-em", "ml", em_step=of)


STEPS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    name: partial(step_switched_in, name)
    for name in ("M1", "M2", "M3", "M4", "M6", "M17", "M18", "O1", "O2", "O3", "O10")
}
