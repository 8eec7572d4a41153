"""Errors of β̂ and û: the inverse C of the mixed-model equations (MATH §8), for every structure of G and R.

With u = Λw and P the prior precision of w, in the notation of `equations`:

    M = ΛᵀZᵀR⁻¹ZΛ + P,   W = M⁻¹ΛᵀZᵀR⁻¹X,   C_11 = (XᵀV⁻¹X)⁻¹ = [(X − ZΛW)ᵀR⁻¹(X − ZΛW) + WᵀPW]⁻¹
    Cov(u | y, β)  = ΛM⁻¹Λᵀ = G − GZᵀV⁻¹ZG                     β known: lme4's condVar
    C_22 = Cov(û − u) = Λ(M⁻¹ + W C_11 Wᵀ)Λᵀ = G − GZᵀPZG      β estimated: prediction error variance
    C_12 = Cov(β̂ − β, û − u) = −C_11 WᵀΛᵀ
    Var(xᵀ(β̂ − β) + zᵀ(û − u)) = zᵀΛM⁻¹Λᵀz + (x − WᵀΛᵀz)ᵀ C_11 (x − WᵀΛᵀz)

Sums of squares throughout: nothing is the small difference of large numbers, and Ω may be singular or 0. θ is taken as
known, as in all of C.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import block_diag, csc_matrix, csr_matrix, hstack, issparse

from vcbench.inference.equations import Residuals, Term
from vcbench.inference.inverse import FULL, Inverse, inverse_of
from vcbench.kernels.protocol import Basis
from vcbench.model.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class BlupErrors:
    """C at θ. Coordinates w of component k lie at start[k] … start[k+1], level by level; W and H in X's orthonormal
    basis, C_11 = HHᵀ there."""

    model: Model
    terms: tuple[Term, ...] = field(repr=False)
    R: Residuals = field(repr=False)
    Ri: csc_matrix = field(repr=False)
    basis: Basis = field(repr=False)
    start: np.ndarray = field(repr=False)
    ZL: Any = field(repr=False)  # ZΛ (n, q), sparse or full
    inverse: Inverse | None = field(repr=False)  # None: no random effects
    W: np.ndarray = field(repr=False)
    H: np.ndarray = field(repr=False)

    @classmethod
    def at(cls, model: Model, theta: Any) -> "BlupErrors":
        """C of a model at θ (p,), natural units.

        Raises ModelError where an Ω has a negative eigenvalue (raw moment estimates: such effects do not exist), where
        V is not positive definite, and where σ² is 0.
        """
        theta = np.asarray(theta, float)
        terms = tuple(Term.of(c, Omega) for c, Omega in zip(model.components, model.Omegas(theta), strict=True))
        R = Residuals.at(model, theta)
        Ri, basis = R.inverse(), Basis.of(np.asarray(model.X, float))
        Q = basis.Q
        if not terms:
            none = csr_matrix((model.n_obs, 0))
            inverse: Inverse | None = None
            W, A, ZL, start = np.zeros((0, Q.shape[1])), Q.T @ (Ri @ Q), none, np.zeros(1, int)
        else:
            scaled = [t.scaled() for t in terms]
            start = np.concatenate([[0], np.cumsum([part[0].shape[1] for part in scaled])])
            ZL = hstack([part[0] for part in scaled], format="csc")
            P = block_diag([part[1] for part in scaled], format="csc")
            ZL = ZL.toarray() if ZL.nnz > FULL * ZL.shape[0] * ZL.shape[1] else csr_matrix(ZL)
            RiZL = Ri @ ZL
            inverse = inverse_of(ZL.T @ RiZL + (P if issparse(ZL) else P.toarray()))
            W = inverse.solve(np.asarray(RiZL.T @ Q))
            E = Q - ZL @ W
            A = E.T @ (Ri @ E) + W.T @ (P @ W)
        H = np.linalg.inv(np.linalg.cholesky((A + A.T) / 2)).T
        return cls(model, terms, R, Ri, basis, start, ZL, inverse, W, H)

    @property
    def beta_cov(self) -> np.ndarray:
        """C_11 = (XᵀV⁻¹X)⁻¹ (d, d), in the columns of X."""
        half = np.linalg.solve(self.basis.T, self.H)
        return half @ half.T

    def conditional(self, k: int) -> np.ndarray:
        """Cov(u | y, β) of each level of component k with itself (levels, r, r)."""
        t = self.terms[k]
        r = len(t.root)
        assert self.inverse is not None
        L = self._relation_root(k)
        if L is None:
            blocks = self.inverse.blocks(int(self.start[k]), self._n_coordinates(k), r)
            return t.root @ blocks @ t.root.T
        full = self.inverse.among(np.arange(self.start[k], self.start[k + 1])).reshape(L.shape[1], r, L.shape[1], r)
        out = np.empty((len(L), r, r))
        for a in range(r):
            for b in range(a + 1):
                middle = np.einsum("c,icje,e->ij", t.root[a], full, t.root[b], optimize=True)
                out[:, a, b] = out[:, b, a] = np.einsum("li,li->l", L @ middle, L)
        return out

    def errors(self, k: int) -> np.ndarray:
        """C_22 of each level of component k with itself (levels, r, r): Var(û − u)."""
        t = self.terms[k]
        W = self.W[self.start[k] : self.start[k + 1]].reshape(-1, len(t.root), self.W.shape[1])
        L = self._relation_root(k)
        if L is not None:
            W = np.tensordot(L, W, axes=1)
        half = t.root @ W @ self.H
        return self.conditional(k) + half @ half.transpose(0, 2, 1)

    def prior(self, k: int) -> np.ndarray:
        """Var(u) of each level of component k (levels, r, r): A_ll Ω, A_ll = 1 + F with inbreeding."""
        t = self.terms[k]
        return self.relation_diagonal(k)[:, None, None] * t.Omega

    def relation_diagonal(self, k: int) -> np.ndarray:
        """A_ll of each level of component k (levels,); 1 without a relationship."""
        t = self.terms[k]
        relation = t.component.relation
        if relation is not None and relation.inbreeding is not None:
            return 1.0 + relation.inbreeding()
        if t.precision is not None:
            return inverse_of(t.precision).blocks(0, t.precision.shape[0], 1)[:, 0, 0]
        L = self._relation_root(k)
        return np.ones(self._n_coordinates(k)) if L is None else np.einsum("li,li->l", L, L)

    def variance(self, X: np.ndarray, A: Any) -> np.ndarray:
        """Var(xᵀ(β̂ − β) + aᵀ(ŵ − w)) of rows X (m, d) and A (m, q) = zᵀΛ, sparse or dense."""
        own = self._basis_rows(X)
        if self.inverse is None:
            return ((own @ self.H) ** 2).sum(axis=1)
        half = (own - A @ self.W) @ self.H
        return self.inverse.bilinear(A, A) + (half**2).sum(axis=1)

    def fixed_variance(self, X: np.ndarray) -> np.ndarray:
        """Var(xᵀ(β̂ − β)) of rows X (m, d)."""
        return ((self._basis_rows(X) @ self.H) ** 2).sum(axis=1)

    def rows_of(self, k: int, Z: Any, levels: np.ndarray | None) -> Any:
        """Rows of ZΛ in the coordinates of component k: Z (m, r) of the effects at `levels` (m,), −1 for a level that
        has no coordinates, or Z (m, r·N) over all levels, effect by effect, where `levels` is None."""
        t = self.terms[k]
        r, width = len(t.root), int(self.start[k + 1] - self.start[k])
        L = self._relation_root(k)
        if levels is None:
            N = Z.shape[1] // r
            parts = [sum(t.root[a, e] * Z[:, a * N : (a + 1) * N] for a in range(r)) for e in range(r)]
            wide = hstack([csr_matrix(part if L is None else part @ L) for part in parts], format="csc")
            return csr_matrix(wide[:, np.arange(wide.shape[1]).reshape(r, -1).T.ravel()])
        seen = np.flatnonzero(levels >= 0)
        values = np.asarray(Z)[seen] @ t.root
        if L is not None:
            out = np.zeros((len(levels), width))
            out[seen] = np.einsum("mi,me->mie", L[levels[seen]], values).reshape(len(seen), width)
            return csr_matrix(out)
        columns = levels[seen, None] * r + np.arange(r)
        row = np.repeat(seen, r)
        return csr_matrix((values.ravel(), (row, columns.ravel())), shape=(len(levels), width))

    def _basis_rows(self, X: np.ndarray) -> np.ndarray:
        """X in the orthonormal basis: XT⁻¹."""
        return np.linalg.solve(self.basis.T.T, np.asarray(X, float).T).T

    def _relation_root(self, k: int) -> np.ndarray | None:
        """L (levels, rank) with A = LLᵀ of a relationship that is a full matrix, else None: coordinates are levels."""
        t = self.terms[k]
        return t.component.relation.root if t.is_dense else None  # type: ignore[union-attr]

    def _n_coordinates(self, k: int) -> int:
        return int(self.start[k + 1] - self.start[k]) // len(self.terms[k].root)
