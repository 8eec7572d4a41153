"""What follows from log|V| and G = [Q y]ᵀV⁻¹[Q y], however these two came about: ℓ, γ̂, and β.

X = QT, γ = T(β − β_0), and y is the residual of β_0. With G (d+1, d+1) = [A b; bᵀ c],

    γ̂ = A⁻¹b,      yᵀPy = c − bᵀγ̂,      ℓ_ML(β, θ) = −½(constant + log|V| + eᵀGe),  e = (−γ, 1),
    ℓ_REML(θ) = −½(constant − d log 2π + log|V| + log|A| + log|XᵀX| + yᵀPy),      constant = n log 2π − Σ log weight.
"""

from typing import Protocol

import numpy as np


class Gram(Protocol):
    """What `OfGram` asks of a class."""

    @property
    def n_fixed(self) -> int: ...
    @property
    def T(self) -> np.ndarray: ...
    @property
    def beta0(self) -> np.ndarray: ...
    @property
    def constant(self) -> float: ...
    @property
    def logdet_xx(self) -> float: ...
    def evaluate(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log|V| (M,), G (M, d+1, d+1)) at the rows of theta (M, p)."""
        ...


class OfGram:
    """ℓ, γ̂ and β of a `Gram`."""

    __slots__ = ()

    def loglik(self: Gram, theta: np.ndarray, criterion: str, beta: np.ndarray | None = None) -> np.ndarray:
        """ℓ_REML(θ), or ℓ_ML(β, θ) (β profiled if None), at the rows of theta (M, p); −∞ where V is not PD."""
        logdet, G = self.evaluate(theta)
        if beta is not None:
            e = np.append(-(self.T @ (np.asarray(beta) - self.beta0)), 1.0)
            return -0.5 * (self.constant + logdet + np.einsum("i,mij,j->m", e, G, e))
        A, quad, _ = gls(G)
        out = -0.5 * (self.constant + logdet + quad)
        if criterion == "reml":
            out += 0.5 * (self.n_fixed * np.log(2 * np.pi) - np.linalg.slogdet(A)[1] - self.logdet_xx)
        return np.where(np.isfinite(out), out, -np.inf)

    def centre(self: Gram, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(A = QᵀV⁻¹Q (M, d, d), γ̂ (M, d)) at the rows of theta (M, p)."""
        A, _, gamma = gls(self.evaluate(theta)[1])
        return A, gamma

    def beta_of(self: Gram, gamma: np.ndarray) -> np.ndarray:
        """β = β_0 + T⁻¹γ at the rows of γ (M, d)."""
        return beta_of(gamma, self.T, self.beta0)


def beta_of(gamma: np.ndarray, T: np.ndarray, beta0: np.ndarray) -> np.ndarray:
    """β = β_0 + T⁻¹γ at the rows of γ (M, d)."""
    return beta0 + np.linalg.solve(T, np.asarray(gamma).T).T


def gls(G: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A = QᵀV⁻¹Q (M, d, d), yᵀPy (M,), γ̂ = A⁻¹QᵀV⁻¹y (M, d)) from G (M, d+1, d+1)."""
    A, b, c = G[:, :-1, :-1], G[:, :-1, -1], G[:, -1, -1]
    if A.shape[1] == 0:
        return A, c, b
    bad = ~np.isfinite(G).all(axis=(1, 2))
    if bad.any():
        A, b = A.copy(), b.copy()
        A[bad], b[bad] = np.eye(A.shape[1]), np.nan
    gamma = np.linalg.solve(A, b[..., None])[..., 0]
    return A, c - (b * gamma).sum(axis=1), gamma
