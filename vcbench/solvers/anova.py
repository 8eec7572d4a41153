"""ANOVA estimators: sums of squares of the random terms, taken as fixed after X, equated to their expectations.

    SS_s = yᵀ A_s y,  A_s a projection,  E[SS_s] = Σ_j θ_j tr(A_s V_j)  (A_s X = 0)      C θ = SS
    Cov(θ̂) = C⁻¹ Σ C⁻ᵀ,  Σ_st = 2 tr(A_s V A_t V)

A_s projects on what term s explains beside others (range of its columns, less the range of theirs); the residual's is
what no term explains. With the terms in the order of the model, a term before those that contain it:

    type 1   after the terms before it: sequential, Henderson's method 3
    type 2   after every term that does not contain it
    type 3   after every other term, each coded to sum to zero over its levels within every level of what it contains
             (terms and functions in X), unweighted: the fall in the residual sum of squares when it leaves the full
             model. That is SAS's type III where no cell is empty

Term t contains s where every level of t lies in one level of s (both scalar, of the same covariate). Balanced data: all
types are the classical table, and REML where no estimate is negative. Everything happens in `MomentSpace`: O(q³) a
design, O(n + q²) a response. Searle, Casella & McCulloch (1992), Variance Components, ch. 4-5.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import MethodError, ModelError
from vcbench.model.model import Model
from vcbench.solvers.moment_space import MomentSpace

RANK = 1e-7  # singular values of a term's columns, at a length of 1, below which the rest explains them


@dataclass(frozen=True, slots=True, eq=False)
class Anova:
    """A design's analysis of variance: orthonormal range B_s (ρ, df_s) of each term, and C (p, p) of the expectations.

    Terms are the random effects in the order of θ, the residual last.
    """

    type: int
    names: tuple[str, ...]
    theta_names: tuple[str, ...]
    order: tuple[int, ...]
    space: MomentSpace
    B: list[np.ndarray] = field(repr=False)
    df: np.ndarray
    C: np.ndarray

    @classmethod
    def of(cls, model: Model, type: int = 1) -> "Anova":
        """The analysis of a model's design, kept with it.

        Raises MethodError for another type; ModelError for terms without a variance of their own (correlated effects,
        a known K) and where a term or the residual has no degree of freedom.
        """
        if isinstance(type, bool) or type not in (1, 2, 3):
            raise MethodError(f"`type` is {type!r}; it must be 1, 2 or 3.")
        kept = model.design.kernels
        key = f"anova {type}"
        if key not in kept:
            kept[key] = cls._build(model, int(type))
        return kept[key]

    @classmethod
    def _build(cls, model: Model, type: int) -> "Anova":
        terms = _terms(model)
        space = MomentSpace.of(model)
        inside = [[_contains(t, s) for s in terms] for t in terms]
        order = sorted(range(len(terms)), key=lambda k: sum(inside[k]))  # stable: contained terms come first
        B: list[np.ndarray] = [np.zeros((0, 0))] * len(terms)
        columns = [S / size for S, size in zip(space.S, space.longest, strict=True)]
        if type == 3:
            columns = [S @ _coding(model, terms, k, inside) for k, S in enumerate(columns)]
        for at, k in enumerate(order):
            beside = [j for j in order if j != k and (type == 3 or not inside[j][k])]
            others = order[:at] if type == 1 else beside
            B[k] = _range(columns[k], _joint([columns[j] for j in others], space.rho))
        df = np.array([b.shape[1] for b in B] + [space.df])
        names = tuple(name for name, *_ in terms)
        for name, m in zip((*names, "residual"), df, strict=True):
            if m == 0:
                raise ModelError(
                    f"term `{name}` has no degree of freedom left in the type {type} analysis of variance: the other "
                    "terms explain all that it could. Leave a term out, or use a likelihood method."
                )
        C = np.zeros((len(df), len(df)))
        for s, b in enumerate(B):
            C[s, :-1] = [np.sum((b.T @ S) ** 2) for S in space.S]
        C[:, -1] = df
        C[np.abs(C) < 1e-12 * np.abs(C).max(axis=0)] = 0.0
        return cls(type, names, model.theta_names, tuple(order), space, B, df, C)

    def sums_of_squares(self, y: np.ndarray) -> np.ndarray:
        """SS (p,) of a response less its offset."""
        t, rest = self.space.project(y)
        return np.array([np.sum((b.T @ t) ** 2) for b in self.B] + [rest])

    def estimate(self, ss: np.ndarray) -> np.ndarray:
        """θ̂ = C⁻¹ SS, raw."""
        return np.linalg.solve(self.C, ss)

    def covariance(self, theta: np.ndarray) -> np.ndarray:
        """Cov(θ̂) (p, p) at V(θ)."""
        S, p = self.space.S, len(self.df)
        Sigma = np.zeros((p, p))
        Sigma[-1, -1] = 2.0 * self.space.df * theta[-1] ** 2
        for s in range(p - 1):
            for t in range(s + 1):
                W = sum((self.B[s].T @ Sa) @ (Sa.T @ self.B[t]) * v for Sa, v in zip(S, theta, strict=False))
                W = W + theta[-1] * (self.B[s].T @ self.B[t])
                Sigma[s, t] = Sigma[t, s] = 2.0 * np.sum(W**2)
        half = np.linalg.solve(self.C, Sigma)
        return np.linalg.solve(self.C, half.T)

    def table(self, ss: np.ndarray) -> list[dict[str, Any]]:
        """One row a term in the order of the table: term, df, ss, ms, and the coefficients of E[ms] by parameter."""
        rows = []
        for s in (*self.order, len(self.df) - 1):
            ems = {name: float(c) for name, c in zip(self.theta_names, self.C[s] / self.df[s], strict=True) if c}
            name = (*self.names, "residual")[s]
            rows.append(
                {"term": name, "df": int(self.df[s]), "ss": float(ss[s]), "ms": float(ss[s] / self.df[s]), "ems": ems}
            )
        return rows


Term = tuple[str, np.ndarray | None, np.ndarray | None]  # name, codes (n,) and covariate (n,) of a grouped effect


def _terms(model: Model) -> list[Term]:
    """One term a random effect, each with a variance of its own. ModelError where effects are correlated, or K is."""
    out: list[Term] = []
    for c in model.components:
        if any(a != b for a, b in c.index):
            raise ModelError(
                f"component `{c.name}` has correlated effects ({', '.join(c.effects)}): a sum of squares says nothing "
                "of a covariance. Give the effects independent variances (`||`, `diag()`), or use another method."
            )
        if c.relation is not None:
            raise ModelError(
                f"component `{c.name}` has a known relationship matrix: an analysis of variance needs independent "
                "levels. Use `minque` or a likelihood method."
            )
        for a, effect in enumerate(c.effects):
            plain = len(c.effects) == 1 and effect in ("(Intercept)", c.name)
            name = c.name if plain else f"{c.name}:{effect}"
            grouped = c.is_grouped
            out.append((name, c.codes if grouped else None, np.ascontiguousarray(c.Z[:, a]) if grouped else None))
    return out


def _contains(t: Term, s: Term) -> bool:
    """Every level of t lies in one level of s, and there are more of them; both of the same covariate."""
    if t is s or t[1] is None or s[1] is None or not np.array_equal(np.asarray(t[2]), np.asarray(s[2])):
        return False
    first = np.empty(t[1].max() + 1, np.int64)
    first[t[1]] = s[1]
    return bool(np.array_equal(first[t[1]], s[1]) and t[1].max() > s[1].max())


def _coding(model: Model, terms: list[Term], k: int, inside: list[list[bool]]) -> np.ndarray:
    """(N, m): orthonormal columns over the levels of term k that sum to zero against all that it contains."""
    _, codes, z = terms[k]
    n_levels = model_columns(model)[k]
    if codes is None or z is None:
        return np.eye(n_levels)
    held = []
    for j, (_, other, _) in enumerate(terms):
        if inside[k][j]:
            assert other is not None
            first = np.empty(n_levels, np.int64)
            first[codes] = other
            held.append((first[:, None] == np.unique(other)).astype(float))
    weight = np.bincount(codes, z * z, n_levels)
    weight[weight == 0] = 1.0
    by_level = lambda v: np.bincount(codes, z * v, n_levels) / weight  # noqa: E731
    Q = np.linalg.qr(np.asarray(model.X))[0]
    levels = np.column_stack([by_level(x) for x in Q.T])
    left = Q - z[:, None] * levels[codes]  # what is no function of the levels
    values, vectors = np.linalg.eigh(left.T @ left)
    held.append(levels @ vectors[:, values < 1e-12])
    H = np.column_stack(held)
    if H.shape[1] == 0:
        return np.eye(n_levels)
    u, s, _ = np.linalg.svd(H, full_matrices=True)
    return u[:, int((s > 1e-9 * max(s[0], 1e-300)).sum()) :]


def model_columns(model: Model) -> list[int]:
    """Columns of Z^(a) of each random effect."""
    return [len(c.levels) if c.is_grouped else Z.shape[1] for c in model.components for Z in _effects(c)]


def _effects(c: Any) -> list[np.ndarray]:
    return list(c.Z.T) if c.is_grouped else c.factors()


def _joint(columns: list[np.ndarray], rho: int) -> np.ndarray:
    return _range(np.hstack(columns), np.zeros((rho, 0))) if columns else np.zeros((rho, 0))


def _range(A: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the range of A (columns of Z at a length of 1 or less) outside that of `base`."""
    for _ in range(2):
        A = A - base @ (base.T @ A)
    u, s, _ = np.linalg.svd(A, full_matrices=False)
    return np.ascontiguousarray(u[:, s > RANK])
