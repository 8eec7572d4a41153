"""How the uncertainty of V̂ enters a test of β: a covariance of β̂ and denominator degrees of freedom.

Each way answers the same two questions, for rows of L one by one (t) and together (F); see `Satterthwaite`,
`KenwardRoger`, and here the two that know their degrees of freedom beforehand.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.special import chdtrc, fdtrc, ndtr, ndtri, stdtr, stdtrit


@dataclass(frozen=True, slots=True)
class FTest:
    """F, its degrees of freedom, and the factor λ that is in F (1 but for Kenward and Roger)."""

    F: float
    numerator: int
    denominator: float
    scale: float = 1.0
    note: str = ""

    @property
    def p_value(self) -> float:
        """P(F(q, ν) > F); NaN where ν is not positive."""
        if not self.denominator > 0:
            return math.nan
        if math.isinf(self.denominator):
            return float(chdtrc(self.numerator, self.numerator * self.F))
        return float(fdtrc(self.numerator, self.denominator, self.F))


class Denominator(Protocol):
    """A covariance of β̂ for tests, and degrees of freedom."""

    @property
    def name(self) -> str:
        """Its name in `fixed_tests.DF`."""
        ...

    @property
    def cov(self) -> np.ndarray:
        """Cov(β̂) (d, d) that the tests use."""
        ...

    def rows(self, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(variance, df) of each row of L (q, d)."""
        ...

    def joint(self, L: np.ndarray, estimate: np.ndarray) -> FTest:
        """The F test of all rows, estimate = L(β̂ − β_0) (q,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class KnownDf:
    """Wald tests with one number of degrees of freedom for all: n − d ("residual"), or infinitely many ("inf")."""

    name: str
    cov: np.ndarray = field(repr=False)
    df: float

    def rows(self, L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(lᵀCl, df) of each row."""
        return np.einsum("qd,de,qe->q", L, self.cov, L, optimize=True), np.full(len(L), self.df)

    def joint(self, L: np.ndarray, estimate: np.ndarray) -> FTest:
        """F = rᵀ(LCLᵀ)⁻¹r / rank L."""
        L, estimate = full_rows(L, estimate, self.cov)
        return FTest(float(estimate @ np.linalg.solve(L @ self.cov @ L.T, estimate)) / len(L), len(L), self.df)


def full_rows(L: np.ndarray, estimate: np.ndarray, cov: np.ndarray, tol: float = 1e-8) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal recombination of L's rows of full rank, and of estimate; rank judged by LCLᵀ."""
    D, P = np.linalg.eigh(L @ cov @ L.T)
    kept = max(tol * D[-1], 0.0) < D
    return P[:, kept].T @ L, P[:, kept].T @ estimate


def t_probability(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Two-sided P(|t_ν| > |t|); NaN where ν is not positive."""
    t = -np.abs(np.asarray(t, float))
    df = np.broadcast_to(np.asarray(df, float), t.shape)
    known = np.where(np.isfinite(df), df, 1.0)
    with np.errstate(invalid="ignore"):
        out = 2.0 * np.where(np.isposinf(df), ndtr(t), stdtr(known, t))
    return np.where(df > 0, out, np.nan)


def t_quantile(level: float, df: np.ndarray) -> np.ndarray:
    """The half width of a two-sided t interval in standard errors; NaN where ν is not positive."""
    df = np.asarray(df, float)
    share = 0.5 + level / 2
    known = np.where(np.isfinite(df) & (df > 0), df, 1.0)
    out = np.where(np.isposinf(df), ndtri(share), stdtrit(known, share))
    return np.where(df > 0, out, np.nan)
