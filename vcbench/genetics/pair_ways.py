"""Ways to reach θ = (G_11, G_21, G_22, E_11, E_21, E_22), G and E positive semi-definite, from coordinates ψ without
bounds.

Each gives θ(ψ), J = ∂θ/∂ψ and Σ_a s_a ∂²θ_a/∂ψ∂ψᵀ: see `pair_fit`.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Free:
    """ψ → θ by Cholesky factors."""

    n: int = 6

    def theta(self, psi: np.ndarray) -> np.ndarray:
        """θ (6,)."""
        return np.concatenate([_square(psi[:3]), _square(psi[3:])])

    def jacobian(self, psi: np.ndarray) -> np.ndarray:
        """∂θ/∂ψ (6, 6)."""
        out = np.zeros((6, 6))
        out[:3, :3], out[3:, 3:] = _square_slope(psi[:3]), _square_slope(psi[3:])
        return out

    def bend(self, psi: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Σ_a score_a ∂²θ_a."""
        out = np.zeros((6, 6))
        out[:3, :3], out[3:, 3:] = _square_bend(score[:3]), _square_bend(score[3:])
        return out

    def psi(self, theta: np.ndarray) -> np.ndarray:
        """ψ at θ, pulled inside."""
        return np.concatenate([_root(theta[:3]), _root(theta[3:])])


@dataclass(frozen=True, slots=True)
class Given:
    """ψ → θ at a correlation ρ; `present`: which of the two V(G) are above 0, the others being 0 and out of ψ."""

    rho: float
    present: tuple[bool, bool] = (True, True)

    @property
    def n(self) -> int:
        """Coordinates."""
        return 3 + sum(self.present)

    def _sd(self, psi: np.ndarray) -> np.ndarray:
        """(a, b)."""
        out = np.zeros(2)
        out[list(self.present)] = np.exp(psi[:-3])
        return out

    def theta(self, psi: np.ndarray) -> np.ndarray:
        """θ (6,)."""
        a, b = self._sd(psi)
        return np.concatenate([[a * a, self.rho * a * b, b * b], _square(psi[-3:])])

    def jacobian(self, psi: np.ndarray) -> np.ndarray:
        """∂θ/∂ψ (6, n)."""
        a, b = self._sd(psi)
        out = np.zeros((6, self.n))
        whole = np.array([[2 * a * a, 0.0], [self.rho * a * b, self.rho * a * b], [0.0, 2 * b * b]])
        out[:3, :-3] = whole[:, list(self.present)]
        out[3:, -3:] = _square_slope(psi[-3:])
        return out

    def bend(self, psi: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Σ_a score_a ∂²θ_a."""
        a, b = self._sd(psi)
        whole = np.full((2, 2), self.rho * a * b * score[1])
        whole += np.diag([4 * a * a * score[0], 4 * b * b * score[2]])
        out = np.zeros((self.n, self.n))
        out[:-3, :-3] = whole[np.ix_(self.present, self.present)]
        out[-3:, -3:] = _square_bend(score[3:])
        return out

    def psi(self, theta: np.ndarray) -> np.ndarray:
        """ψ of θ's variances, pulled inside."""
        logs = 0.5 * np.log(np.clip(theta[[0, 2]], 1e-3, 4.0))[list(self.present)]
        return np.concatenate([logs, _root(theta[3:])])


def _square(v: np.ndarray) -> np.ndarray:
    return np.array([v[0] ** 2, v[0] * v[1], v[1] ** 2 + v[2] ** 2])


def _square_slope(v: np.ndarray) -> np.ndarray:
    return np.array([[2 * v[0], 0.0, 0.0], [v[1], v[0], 0.0], [0.0, 2 * v[1], 2 * v[2]]])


def _square_bend(s: np.ndarray) -> np.ndarray:
    return np.array([[2 * s[0], s[1], 0.0], [s[1], 2 * s[2], 0.0], [0.0, 0.0, 2 * s[2]]])


def _root(t: np.ndarray) -> np.ndarray:
    """The Cholesky factor of the matrix of t, its eigenvalues within [0.02, 4] times what they are scaled to."""
    values, vectors = np.linalg.eigh(np.array([[t[0], t[1]], [t[1], t[2]]]))
    L = np.linalg.cholesky((vectors * np.clip(values, 0.02, 4.0)) @ vectors.T)
    return np.array([L[0, 0], L[1, 0], L[1, 1]])


def cholesky(t: np.ndarray) -> np.ndarray:
    """(l_11, l_21, l_22) of the matrix with entries t_11, t_21, t_22."""
    L = np.linalg.cholesky(np.array([[t[0], t[1]], [t[1], t[2]]]))
    return np.array([L[0, 0], L[1, 0], L[1, 1]])
