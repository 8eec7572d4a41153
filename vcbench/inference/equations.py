"""V(θ) of any model, factorised once: V⁻¹B, PB, ∂V/∂θ_i B and the random effects of whatever is asked of an estimate.

    V = Σ_k Z_k (Ω_k ⊗ A_k) Z_kᵀ + R,     Ω = ΛΛᵀ,     M = ΛᵀZᵀR⁻¹ZΛ + blockdiag(A_k⁻¹ ⊗ I)
    V⁻¹B = R⁻¹B − R⁻¹ZΛ M⁻¹ ΛᵀZᵀR⁻¹B,     PB = V⁻¹B − V⁻¹X (XᵀV⁻¹X)⁻¹ XᵀV⁻¹B

M exists where Ω is singular (MATH §3, 8). Kernels answer for ℓ thousands of times; this is asked once a fit, so that it
is plain sparse algebra for all structures, or one dense Cholesky where V is small or has no structure.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import block_diag, csc_matrix, csr_matrix, diags_array, eye, hstack, kron
from scipy.sparse.linalg import splu

from vcbench.errors import ModelError
from vcbench.kernels.posterior import psd_root
from vcbench.model.component import Component
from vcbench.model.jets import Jet, variables
from vcbench.model.model import Model
from vcbench.model.noise import Noise

NEGATIVE = 1e-9  # of its largest entry: an eigenvalue of Ω below minus that is no rounding
SMALL = 400  # rows up to which a dense V costs nothing
LARGEST = 20_000  # rows from which a dense V is refused
FULL = 0.2  # share of non-zeros in M from which it is factorised dense


@dataclass(frozen=True, slots=True, eq=False)
class Equations:
    """V(θ) factorised. X (n, d); VinvX (n, d); XtVinvX (d, d) and beta_cov = its inverse, in the columns of X."""

    model: Model
    theta: np.ndarray
    X: np.ndarray = field(repr=False)
    R: "Residuals" = field(repr=False)
    terms: tuple["Term", ...] = field(repr=False)
    apply: Any = field(repr=False)  # B (n, m) -> V⁻¹B
    VinvX: np.ndarray = field(repr=False)
    XtVinvX: np.ndarray = field(repr=False)
    beta_cov: np.ndarray = field(repr=False)

    @classmethod
    def at(cls, model: Model, theta: Any) -> "Equations":
        """V of a model at θ (p,), natural units. ModelError where V is not positive definite or is too large for one
        dense block without structure."""
        theta = np.asarray(theta, float)
        X = np.asarray(model.X, float)
        R = Residuals.at(model, theta)
        terms = tuple(Term.of(c, Omega) for c, Omega in zip(model.components, model.Omegas(theta), strict=True))
        apply = _solver(model.n_obs, R, terms)
        VinvX = apply(X)
        XtVinvX = X.T @ VinvX
        XtVinvX = (XtVinvX + XtVinvX.T) / 2
        d = np.sqrt(np.diag(XtVinvX))  # columns of X may differ in size by any factor
        return cls(model, theta, X, R, terms, apply, VinvX, XtVinvX, np.linalg.inv(XtVinvX / np.outer(d, d))
                   / np.outer(d, d))  # fmt: skip

    def solve(self, B: np.ndarray) -> np.ndarray:
        """V⁻¹B, B (n,) or (n, m)."""
        return self.apply(B[:, None])[:, 0] if B.ndim == 1 else self.apply(B)

    def project(self, B: np.ndarray) -> np.ndarray:
        """PB, B (n,) or (n, m)."""
        return self.solve(B) - self.VinvX @ (self.beta_cov @ (self.VinvX.T @ B))

    def effects(self, k: int, B: np.ndarray) -> np.ndarray:
        """G_k Z_kᵀ B (levels, r, m), B (n, m): BLUPs where B = V⁻¹(y − Xβ)."""
        t = self.terms[k]
        out = np.stack([t.related(Z.T @ B) for Z in t.Z], axis=1)
        return np.einsum("ab,lbm->lam", t.Omega, out)

    def derivative(self, i: int, B: np.ndarray) -> np.ndarray:
        """(∂V/∂θ_i) B, θ natural; B (n, m)."""
        return self._along(self._jacobian()[:, i], B)

    def curvature(self, W: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Σ_ij W_ij (∂²V/∂θ_i∂θ_j) B, W (p, p) symmetric, θ natural; 0 for a V linear in θ."""
        if not self.model.is_structured:
            return np.zeros_like(B)
        work, T = self.model.working, self._jacobian()
        w = work.w(self.theta)
        Di = np.linalg.inv(work.theta_jacobian(w)[1])
        inner = Di @ W @ Di.T
        bends = (work.curvature(w, row) - work.theta_curvature(w, T[t]) for t, row in enumerate(np.eye(len(T))))
        out = self._along(np.array([(inner * bend).sum() for bend in bends]), B)
        k = self.R.n_phi
        return out + self.R.bend(T[-1 - k :] @ W @ T[-1 - k :].T, B) if k else out

    def _jacobian(self) -> np.ndarray:
        """∂τ/∂θ (n_τ, p)."""
        work = self.model.working
        if not self.model.is_structured:
            return np.eye(work.n_tau)
        w = work.w(self.theta)
        return work.jacobian(w)[1] @ np.linalg.inv(work.theta_jacobian(w)[1])

    def _along(self, step: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Σ_t step_t (∂V/∂τ_t) B."""
        out, at = np.zeros((len(self.X), B.shape[1])), 0
        for t in self.terms:
            for (a, b), s in zip(t.index, step[at : at + len(t.index)], strict=True):
                if s:
                    out += s * (t.Z[a] @ t.related(t.Z[b].T @ B))
                    if a != b:
                        out += s * (t.Z[b] @ t.related(t.Z[a].T @ B))
            at += len(t.index)
        if self.R.has_nugget:
            out += step[at] * self.R.nugget(B)
        return out + self.R.along(step[-1 - self.R.n_phi :], B)


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One component: Z^(a) (n, N) sparse for each effect, A between the N levels, Ω (r, r), its root Λ."""

    component: Component
    Z: list[Any]
    index: list[tuple[int, int]]
    Omega: np.ndarray
    root: np.ndarray
    related: Any  # x (N, m) -> A x
    precision: csc_matrix | None  # A⁻¹, where it is sparse

    @classmethod
    def of(cls, c: Component, Omega: np.ndarray) -> "Term":
        """A component at its Ω."""
        related, precision = _same, None
        relation = c.relation
        least = float(np.linalg.eigvalsh(Omega)[0]) if Omega.size else 0.0
        if least < -NEGATIVE * float(np.abs(Omega).max(initial=0.0)):
            raise ModelError(
                f"the estimated covariance matrix of `{c.name}` has a negative eigenvalue ({least:.4g}), as raw "
                "estimates by moments may: nothing can be said of its effects. Fit by REML or ML."
            )
        Z = [c.incidence(a) for a in range(c.n_effects)]
        if relation is not None and relation.precision is not None:
            precision = csc_matrix(relation.precision)
            related = partial(_by_precision, relation)
        elif relation is not None:
            related = partial(np.matmul, relation.matrix)
        return cls(c, Z, list(c.index), Omega, psd_root(Omega), related, precision)

    @property
    def is_dense(self) -> bool:
        """True where A is a full matrix without a sparse inverse."""
        return self.component.relation is not None and self.precision is None

    def scaled(self) -> tuple[Any, Any]:
        """(ZΛ with the effects of a level side by side, prior precision of its coordinates)."""
        r = len(self.Z)
        if self.is_dense:
            L = self.component.relation.root  # type: ignore[union-attr]
            Zs, prior = [csr_matrix(Z @ L) for Z in self.Z], eye(L.shape[1])
        else:
            Zs, prior = self.Z, eye(self.Z[0].shape[1]) if self.precision is None else self.precision
        wide = [sum(self.root[a, e] * Zs[a] for a in range(r)) for e in range(r)]
        joined = hstack(wide, format="csc")
        order = np.arange(joined.shape[1]).reshape(r, -1).T.ravel()
        return joined[:, order], kron(prior, eye(r), format="csc") if r > 1 else csc_matrix(prior)


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _by_precision(relation: Any, x: np.ndarray) -> np.ndarray:
    """A x by the factor of A⁻¹, kept with the relationship."""
    if "precision factor" not in relation.cache:
        relation.cache["precision factor"] = splu(relation.precision, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
                                                  options={"SymmetricMode": True})  # fmt: skip
    return relation.cache["precision factor"].solve(np.ascontiguousarray(x))


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """R = W^(−½) [σ² C(φ) + τ² I] W^(−½) and its derivatives; units of rows that are correlated."""

    noise: Noise
    n: int
    n_phi: int
    sigma2: float
    extra: float  # τ², the nugget
    half: np.ndarray  # W^(−½), diagonal
    table: Jet | None
    rows: list[np.ndarray]  # rows of each unit
    places: list[np.ndarray]  # (m, m) place in the table of each pair of rows

    @classmethod
    def at(cls, model: Model, theta: np.ndarray) -> "Residuals":
        """R of a model at θ."""
        noise, n = model.noise, model.n_obs
        tau = theta if not model.is_structured else model.working.tau(model.working.w(theta))
        half = np.ones(n) if noise.weights is None else 1.0 / np.sqrt(noise.weights)
        if not tau[-1] > 0:
            raise ModelError(f"the residual variance is {tau[-1]:.4g}: V(θ) is not positive definite.")
        if noise.is_plain:
            return cls(noise, n, 0, float(tau[-1]), 0.0, half, None, [], [])
        k = noise.family.n_phi
        table = noise.family.table(variables(tau[len(tau) - 1 - k : -1]), k)
        order = np.argsort(noise.units, kind="stable")
        rows = np.split(order, np.cumsum(np.bincount(noise.units))[:-1])
        extra = float(tau[model.working.n_pairs - 1]) if noise.has_nugget else 0.0
        return cls(noise, n, k, float(tau[-1]), extra, half, table, rows, [noise.family.index(r) for r in rows])

    @property
    def has_nugget(self) -> bool:
        """True where independent noise is added."""
        return self.noise.has_nugget

    @property
    def largest(self) -> int:
        """Rows of the largest unit."""
        return max((len(r) for r in self.rows), default=1)

    def matrix(self) -> csc_matrix:
        """R (n, n)."""
        return self._sum(self.sigma2 * (np.ones(1) if self.table is None else self.table.v), self.extra)

    def inverse(self) -> csc_matrix:
        """R⁻¹ (n, n); alike units are inverted once."""
        if self.table is None:
            return csc_matrix(diags_array(1.0 / (self.sigma2 * self.half**2)))
        known: dict[bytes, np.ndarray] = {}
        blocks = []
        for place in self.places:
            key = place.tobytes()
            if key not in known:
                C = self.sigma2 * self.table.v[place]
                C.flat[:: len(C) + 1] += self.extra
                known[key] = cho_solve(_factor(C), np.eye(len(C)))
            blocks.append(known[key])
        D = diags_array(1.0 / self.half)
        return csc_matrix(D @ self._laid(blocks) @ D)

    def along(self, step: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Σ_j step_j ∂R/∂φ_j B + step_last ∂R/∂σ² B."""
        if self.table is None:
            return step[-1] * self.half[:, None] ** 2 * B
        values = step[-1] * self.table.v
        if self.n_phi:
            values = values + self.sigma2 * (step[:-1] @ self.table.d)
        return self._sum(values, 0.0) @ B

    def bend(self, W: np.ndarray, B: np.ndarray) -> np.ndarray:
        """Σ_st W_st ∂²R/∂s∂t B over (φ, σ²), W symmetric."""
        assert self.table is not None
        values = self.sigma2 * np.einsum("ij,ijt->t", W[:-1, :-1], self.table.dd) + 2.0 * W[-1, :-1] @ self.table.d
        return self._sum(values, 0.0) @ B

    def nugget(self, B: np.ndarray) -> np.ndarray:
        """W⁻¹B."""
        return self.half[:, None] ** 2 * B

    def _sum(self, values: np.ndarray, extra: float) -> csc_matrix:
        """W^(−½) [table entries `values` + extra·I] W^(−½)."""
        D = diags_array(self.half)
        if self.table is None:
            return csc_matrix(diags_array(values[0] * self.half**2))
        blocks = [values[place] + extra * np.eye(len(place)) for place in self.places]
        return csc_matrix(D @ self._laid(blocks) @ D)

    def _laid(self, blocks: list[np.ndarray]) -> Any:
        """Blocks of units as one matrix in the order of the data."""
        at = [np.meshgrid(rows, rows, indexing="ij") for rows in self.rows]
        i, j = (np.concatenate([pair[side].ravel() for pair in at]) for side in (0, 1))
        return csr_matrix((np.concatenate([b.ravel() for b in blocks]), (i, j)), shape=(self.n, self.n))


def _factor(C: np.ndarray) -> tuple[np.ndarray, bool]:
    try:
        return cho_factor(C, lower=True)
    except np.linalg.LinAlgError:
        raise ModelError("V(θ) is not positive definite at these variance parameters.") from None


def _solver(n: int, R: Residuals, terms: tuple[Term, ...]) -> Any:
    """B ↦ V⁻¹B by the cheaper of V itself and M."""
    if not terms and 4 * R.largest <= n:
        return R.inverse().__matmul__
    q = sum(t.Z[0].shape[1] * len(t.Z) for t in terms)
    scattered = any(t.is_dense for t in terms)
    if n <= SMALL or (scattered and q >= n) or 4 * R.largest > n:
        if n > LARGEST:
            raise ModelError(f"this needs V as one dense matrix of {n} rows, more than {LARGEST}.")
        V = R.matrix().toarray()
        for t in terms:
            for (a, b), value in zip(t.index, (t.Omega[i] for i in t.index), strict=True):
                half = t.Z[a] @ t.related(t.Z[b].T.toarray())
                V += value * (half if a == b else half + half.T)
        return partial(cho_solve, _factor((V + V.T) / 2))
    parts = [t.scaled() for t in terms]
    ZL = hstack([part[0] for part in parts], format="csc")
    Ri = R.inverse()
    RiZL = Ri @ ZL
    M = csc_matrix(ZL.T @ RiZL + block_diag([part[1] for part in parts], format="csc"))
    return partial(_by_woodbury, Ri, RiZL, _solve_with(M))


def _solve_with(M: csc_matrix) -> Any:
    """x ↦ M⁻¹x for a sparse positive definite M."""
    if M.nnz > FULL * M.shape[0] ** 2 or M.shape[0] <= SMALL:
        return partial(cho_solve, _factor(M.toarray()))
    try:
        lu = splu(M, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError:
        raise ModelError("V(θ) is not positive definite at these variance parameters.") from None
    return lu.solve


def _by_woodbury(Ri: csc_matrix, RiZL: Any, solve: Any, B: np.ndarray) -> np.ndarray:
    return Ri @ B - RiZL @ solve(np.ascontiguousarray(RiZL.T @ B))
