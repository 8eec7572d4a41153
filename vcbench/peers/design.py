"""A model as other programs take it: y, X, and random terms of one block of correlated effects each."""

from dataclasses import dataclass, field

import numpy as np

from vcbench.errors import MethodError
from vcbench.model.model import Model
from vcbench.model.structures import Family

MOST = 5e7  # numbers in a dense matrix that is passed on


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """Effects b_i ~ N(0, Ω), Ω (r, r) free, independent between levels: rows A_i of each, or columns of one variance.

    A (n, r) with codes (n,) into n_levels; or A (n, q) without codes, V_k = σ² A Aᵀ and r = 1. places: where Ω's lower
    triangle, by column, stands in θ.
    """

    name: str
    A: np.ndarray
    codes: np.ndarray | None
    n_levels: int
    places: tuple[int, ...]

    @property
    def r(self) -> int:
        """The size of Ω."""
        return 1 if self.codes is None else self.A.shape[1]

    @property
    def is_intercept(self) -> bool:
        """True for one effect that is 1 in every row."""
        return self.codes is not None and self.r == 1 and bool((self.A == 1).all())


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """X (n, d), the terms, weights (n,) or None, and the residual family over `units`."""

    X: np.ndarray
    terms: tuple[Term, ...]
    weights: np.ndarray | None
    family: Family
    units: np.ndarray = field(repr=False)
    n_theta: int = 0

    @classmethod
    def of(cls, model: Model, program: str, weights: bool = False, residuals: bool = False) -> "Design":
        """The design of a model; `weights` and `residuals`: whether the program takes them.

        Raises MethodError for what no peer has (structured or fixed Ω, tied components, Ω over the columns of Z,
        several effects of related levels) and for weights or correlated residuals where they are not taken.
        """
        cannot = _Refusal(program)
        noise = model.noise
        if model.equal:
            cannot(f"`equal` ties {' and '.join(model.equal[0])}, and it cannot tie variances")
        if not noise.is_plain and not residuals:
            cannot(f"it has independent residuals only, not `{model.residual}`")
        if noise.has_nugget:
            cannot("a nugget beside a residual structure has no name in it that is ours")
        if noise.weights is not None and not weights:
            cannot("known weights are not passed to it")
        terms, at = [], 0
        for c in model.components:
            if not c.cov.is_linear:  # type: ignore[union-attr]
                cannot(f"component `{c.name}` has covariance `{c.cov.kind}`, and it has free and diagonal ones only")  # type: ignore[union-attr]
            if c.is_grouped:
                assert c.Z is not None
                for block in c.partition:
                    size = len(block) * (len(block) + 1) // 2
                    places = tuple(range(at, at + size))
                    terms.append(Term(c.name, c.Z[:, list(block)], c.codes, len(c.levels), places))
                    at += size
                continue
            if not c.is_plain:
                cannot(f"component `{c.name}` has an Ω over columns of Z, or several effects of related levels")
            terms.append(Term(c.name, _root(c, program), None, 0, (at,)))
            at += 1
        return cls(model.X, tuple(terms), noise.weights, noise.family, noise.units, model.n_theta)  # type: ignore[arg-type]

    @property
    def n_obs(self) -> int:
        """n."""
        return len(self.X)

    def response(self, model: Model, Y: np.ndarray) -> np.ndarray:
        """Y less the offset (n, R): likelihoods and estimates are the same."""
        return Y if model.offset is None else Y - model.offset[:, None]


def _root(c, program: str) -> np.ndarray:
    """A (n, q), q ≤ n, with A Aᵀ = Z Zᵀ or K."""
    if max(c.n_obs * c.n_columns, 1) > MOST:
        _Refusal(program)(f"component `{c.name}` would be a dense {c.n_obs} × {c.n_columns} matrix")
    A = np.asarray(c.factors()[0], float)
    A = A[:, A.any(axis=0)]
    if A.shape[1] >= len(A):
        values, vectors = np.linalg.eigh(A @ A.T)
        keep = values > 1e-12 * values[-1]
        A = vectors[:, keep] * np.sqrt(values[keep])
    return np.ascontiguousarray(A)


@dataclass(frozen=True, slots=True)
class _Refusal:
    program: str

    def __call__(self, why: str) -> None:
        raise MethodError(f"`{self.program}` cannot fit this model: {why}.")


def refuse(program: str, why: str) -> None:
    """MethodError: the program cannot express the model."""
    _Refusal(program)(why)


def triangle(r: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of the lower triangle of an r × r matrix by column, the order of θ."""
    columns, rows = np.triu_indices(r)
    return rows, columns


def near_boundary(design: Design, theta: np.ndarray, share: float = 1e-6) -> bool:
    """True where an Ω, in the units of y, is singular to `share` of the residual variance (of the largest of θ where
    residuals have a structure), for programs that do not say so themselves."""
    size = theta[-1] if design.family.n_phi == 0 else np.abs(theta).max()
    for term in design.terms:
        Omega = np.zeros((term.r, term.r))
        rows, columns = triangle(term.r)
        Omega[rows, columns] = Omega[columns, rows] = theta[list(term.places)]
        squares = (term.A**2).sum(axis=0) / design.n_obs
        scale = np.sqrt(squares if term.codes is not None else squares.sum(keepdims=True))
        if not np.linalg.eigvalsh(Omega * np.outer(scale, scale))[0] > share * size:
            return True
    return False
