"""The space in which every moment method lives: the part of Z outside X, ρ ≤ Σ q_k dimensions, whatever n is.

With M = I − X(XᵀX)⁻¹Xᵀ and Z = [Z^(1) … Z^(r)] the stacked effects, MZ = QS, Q (n, ρ) orthonormal and never formed:

    M V M = Q W Qᵀ + σ² (M − QQᵀ),   W = Σ_ab Ω_ab S_a S_bᵀ + σ² I_ρ
    P = M (M V M)⁺ M = Q W⁻¹ Qᵀ + (M − QQᵀ)/σ²

so that traces of products of P and V_j are traces of ρ × ρ matrices, and df = n − d − ρ times a power of σ². Known
weights of the residual multiply the rows of y, X and Z by √w first.
Q and S come from the eigenvalues of ZᵀMZ (q × q): O(n q̄ + q³) once a design, q̄ the entries of a row of Z.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import diags_array, issparse

from vcbench.errors import ModelError
from vcbench.kernels.protocol import Basis
from vcbench.model.model import Model

RANK = 1e-11  # of the largest eigenvalue of ZᵀMZ, columns of Z at one length: below it a direction is rounding
LARGEST = 12_000  # columns of Z: matrices of that size are held a few times over


@dataclass(frozen=True, slots=True, eq=False)
class MomentSpace:
    """S_a (ρ, N_a) of each effect a, and what reduces a response to t = Qᵀy (ρ,) and the sum of squares outside."""

    S: list[np.ndarray]
    df: int
    basis: Basis = field(repr=False)
    factors: list[Any] = field(repr=False)  # Z^(a) (n, N_a), sparse where grouped
    root: np.ndarray = field(repr=False)  # (q, ρ): Q = MZ·root, or Q itself (n, ρ) where q > n
    pairs: tuple[tuple[int, int], ...] = ()  # (a, b) of each θ_j but the residual
    longest: np.ndarray = field(default_factory=lambda: np.zeros(0))  # length of the longest column of each Z^(a)
    root_weight: np.ndarray | None = field(default=None, repr=False)  # √w (n,) of known residual weights

    @classmethod
    def of(cls, model: Model) -> "MomentSpace":
        """The space of a model, kept with its design. Raises ModelError for more than LARGEST columns of Z."""
        kept = model.design.kernels
        if "moment space" not in kept:
            kept["moment space"] = cls._build(model)
        return kept["moment space"]

    @classmethod
    def _build(cls, model: Model) -> "MomentSpace":
        assert model.X is not None
        weights = None if model.noise.weights is None else np.sqrt(model.noise.weights)
        basis = Basis.of(model.X if weights is None else model.X * weights[:, None])
        factors: list[Any] = []
        pairs: list[tuple[int, int]] = []
        for c in model.components:
            pairs += [(len(factors) + a, len(factors) + b) for a, b in c.index]
            factors += [c.incidence(a) for a in range(c.n_effects)] if c.is_grouped else c.factors()
        if weights is not None:
            factors = [diags_array(weights) @ Z if issparse(Z) else Z * weights[:, None] for Z in factors]
        n, d = basis.Q.shape
        q = sum(Z.shape[1] for Z in factors)
        if min(q, n) > LARGEST:
            raise ModelError(
                f"the moment equations of this model need matrices of {min(q, n)} rows and columns (the limit is "
                f"{LARGEST}). Use a likelihood method."
            )
        if not factors:
            return cls([], n - d, basis, [], np.zeros((0, 0)), root_weight=weights)
        outside = [np.asarray(Z.T @ basis.Q) for Z in factors]  # ZᵀQ_X
        longest = np.sqrt([float(_squares(Z).max()) for Z in factors])
        length = [_length(Z, ZQ) for Z, ZQ in zip(factors, outside, strict=True)]
        unit = np.concatenate([np.full(Z.shape[1], 1.0 / s) for Z, s in zip(factors, length, strict=True)])
        if q <= n:
            ZQ = np.vstack(outside)
            G = np.block([[_product(A, B) for B in factors] for A in factors]) - ZQ @ ZQ.T
            values, vectors = np.linalg.eigh(unit[:, None] * G * unit)
            keep = values > RANK * values[-1]
            sd = np.sqrt(values[keep])
            root = unit[:, None] * vectors[:, keep] / sd
            stacked = (sd[:, None] * vectors[:, keep].T) / unit
        else:
            MZ = np.hstack([_dense(Z) - basis.Q @ ZQ.T for Z, ZQ in zip(factors, outside, strict=True)])
            scaled = MZ * unit
            values, vectors = np.linalg.eigh(scaled @ scaled.T)
            keep = values > RANK * values[-1]
            root = vectors[:, keep]
            stacked = root.T @ MZ
        ends = np.cumsum([Z.shape[1] for Z in factors])[:-1]
        S = [np.ascontiguousarray(part) for part in np.split(stacked, ends, axis=1)]
        return cls(S, n - d - int(keep.sum()), basis, factors, root, tuple(pairs), longest, weights)

    @property
    def rho(self) -> int:
        """ρ, the rank of MZ."""
        return self.root.shape[1]

    def project(self, y: np.ndarray) -> tuple[np.ndarray, float]:
        """(Qᵀy (ρ,), ‖(M − QQᵀ)y‖²) of a response less its offset, in two passes: fit, then what the fit left."""
        r = self.basis.residual(y if self.root_weight is None else y * self.root_weight)
        q = sum(Z.shape[1] for Z in self.factors)
        if not self.rho:
            return np.zeros(0), float(r @ r)
        if q > len(y):
            t = self.root.T @ r
            rest = r - self.root @ t
        else:
            t = self.root.T @ np.concatenate([Z.T @ r for Z in self.factors])
            weights = np.split(self.root @ t, np.cumsum([Z.shape[1] for Z in self.factors])[:-1])
            rest = r - sum(Z @ w for Z, w in zip(self.factors, weights, strict=True))
            rest = rest - self.basis.Q @ (self.basis.Q.T @ rest)
        return t, float(rest @ rest) if self.df else 0.0

    def derivatives(self) -> np.ndarray:
        """Qᵀ V_j Q (p, ρ, ρ), residual last."""
        out = np.empty((len(self.pairs) + 1, self.rho, self.rho))
        for j, (a, b) in enumerate(self.pairs):
            product = self.S[a] @ self.S[b].T
            out[j] = product if a == b else product + product.T
        out[-1] = np.eye(self.rho)
        return out

    def sandwich(self, theta: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """Σ (p, p), Σ_ij = 2 tr(P_0 V_i P_0 V P_0 V_j P_0 V): V at θ, P_0 at the prior."""
        D = self.derivatives()
        P = np.linalg.inv(np.tensordot(prior, D, axes=1))
        work = P @ D @ P @ np.tensordot(theta, D, axes=1)
        Sigma = 2.0 * np.einsum("iab,jba->ij", work, work, optimize=True)
        if self.df:
            Sigma[-1, -1] += 2.0 * self.df * theta[-1] ** 2 / prior[-1] ** 4
        return Sigma


def _product(A: Any, B: Any) -> np.ndarray:
    product = A.T @ B
    return product.toarray() if issparse(product) else np.asarray(product)


def _dense(Z: Any) -> np.ndarray:
    return Z.toarray() if issparse(Z) else np.asarray(Z)


def _squares(Z: Any) -> np.ndarray:
    """Squared length of each column."""
    return np.asarray((Z.multiply(Z) if issparse(Z) else Z * Z).sum(axis=0)).ravel()


def _length(Z: Any, ZQ: np.ndarray) -> float:
    """Root mean squared length of a column of MZ; of Z where X absorbs it."""
    total = float(_squares(Z).sum())
    left = total - float((ZQ**2).sum())
    return float(np.sqrt((left if left > 1e-12 * total else total) / Z.shape[1])) or 1.0
