"""The exact finite-sample null distribution of the LRT and RLRT of one variance beside σ² (Crainiceanu & Ruppert 2004).

V = σ²(I + λ Z Zᵀ), H_0: λ = 0 (under ML also q columns of X with coefficient 0). With μ_s the eigenvalues of ZᵀMZ,
M = I − X(XᵀX)⁻¹Xᵀ, ξ_s those of ZᵀZ, and independent w_s, u_s ~ N(0, 1), s = 1 … n−d (μ_s = 0 beyond the rank of MZ):

    S = Σ_s w_s²,     D(λ) = Σ_s w_s²/(1 + λμ_s)
    RLRT = sup_{λ≥0} { (n−d) log[S/D(λ)] − Σ_s log(1 + λμ_s) }
    LRT  = sup_{λ≥0} {   n   log[S/D(λ)] − Σ_s log(1 + λξ_s) } + n log[1 + Σ_{s≤q} u_s²/S]

whatever β and σ² are: the distribution belongs to the design. The slope at λ = 0 is not positive where a quadratic form
is not: P(Σ_s w_s² (μ_s − m̄) ≤ 0), m̄ = Σμ_s/(n−d) (REML) or Σξ_s/n (ML). That is P(λ̂ = 0) but for profiles with a
second, higher maximum, which balanced layouts never have.

C. M. Crainiceanu & D. Ruppert, "Likelihood ratio tests in linear mixed models with one variance component", J. R.
Statist. Soc. B 66 (2004) 165-185, theorem 1 and its REML counterpart. Where all μ_s > 0 are equal (balanced layouts)
and q = 0, the statistic grows with the F ratio alone and its p-value is that of F: nothing is simulated.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.inference.quadratic_forms import positive_probability
from vcbench.model.model import Model
from vcbench.solvers.moment_space import MomentSpace

STEP = 0.2  # of log λ: the supremum is off by 1e-4 at most, the p-value by a tenth of its Monte Carlo error
FINE = 0.05  # the same where F answers: off by 1e-7
EQUAL = 1e-9  # relative difference below which eigenvalues are one
CELLS = 4_000_000  # numbers that a block of draws may hold


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Distinct positive eigenvalues and how often each occurs."""

    value: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Spectrum":
        """From eigenvalues in any order; those that are 0 up to rounding are left out."""
        values = np.sort(values)
        values = values[values > 1e-11 * values[-1]] if len(values) else values
        if not len(values):
            return cls(values, np.zeros(0, np.int64))
        starts = np.flatnonzero(np.concatenate([[True], np.diff(values) > EQUAL * values[1:]]))
        times = np.diff([*starts, len(values)])
        return cls(np.add.reduceat(values, starts) / times, times)

    @property
    def total(self) -> float:
        """Sum of the eigenvalues."""
        return float(self.value @ self.times)

    def logdet(self, lam: np.ndarray) -> np.ndarray:
        """Σ_s log(1 + λ·value_s) for each λ."""
        return np.log1p(np.multiply.outer(lam, self.value)) @ self.times


@dataclass(frozen=True, slots=True, eq=False)
class ExactNull:
    """The null distribution of one design; `p_value(statistic)` serves any number of responses.

    multiplier: n−d (REML) or n (ML). draws: simulated statistics, sorted, or empty where F answers. mcse: Monte Carlo
    standard error of a p-value.
    """

    criterion: str
    n_obs: int
    n_fixed: int
    n_dropped: int  # q, columns of X that the null leaves out
    mu: Spectrum = field(repr=False)
    penalty: Spectrum = field(repr=False)  # μ (REML) or ξ (ML)
    n_sim: int = 0
    draws: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

    @classmethod
    def of(cls, model: Model, criterion: str, n_dropped: int = 0, n_sim: int = 10_000, seed: Any = 0) -> "ExactNull":
        """Of the larger model's design, kept with it where the seed is a number.

        Raises MethodError for a model with more than one variance beside σ², and for columns of X dropped under REML.
        """
        if not is_single_variance(model):
            raise MethodError(
                "the exact null distribution is known for one variance beside σ² only; this model's parameters are "
                f'{", ".join(model.theta_names)}. Use method="bootstrap".'
            )
        if n_dropped and criterion == "reml":
            raise MethodError('REML likelihoods of different fixed effects are not comparable. Use criterion="ml".')
        if not (isinstance(n_sim, int | np.integer) and n_sim >= 100):
            raise MethodError(f"`n_sim` is {n_sim!r}; it must be a whole number of draws, 100 or more.")
        if not isinstance(seed, int):
            return cls._build(model, criterion, n_dropped, int(n_sim), seed)
        key = f"exact null:{criterion}:{n_dropped}:{n_sim}:{seed}"
        kept = model.design.kernels
        if key not in kept:
            kept[key] = cls._build(model, criterion, n_dropped, int(n_sim), seed)
        return kept[key]

    @classmethod
    def _build(cls, model: Model, criterion: str, n_dropped: int, n_sim: int, seed: Any) -> "ExactNull":
        mu, xi = spectra(model, criterion == "ml")
        null = cls(criterion, model.n_obs, model.n_fixed, n_dropped, mu, mu if criterion == "reml" else xi)
        if null.by_f:
            return null
        draws = np.sort(null.simulate(n_sim, np.random.default_rng(seed)))
        return cls(criterion, model.n_obs, model.n_fixed, n_dropped, mu, null.penalty, n_sim, draws)

    @property
    def df_outside(self) -> int:
        """n − d − rank MZ."""
        return self.n_obs - self.n_fixed - int(self.mu.times.sum())

    @property
    def multiplier(self) -> int:
        """n−d (REML) or n (ML)."""
        return self.n_obs - self.n_fixed if self.criterion == "reml" else self.n_obs

    @property
    def by_f(self) -> bool:
        """True where the statistic grows with one F ratio."""
        return len(self.mu.value) == 1 and self.df_outside > 0 and self.n_dropped == 0

    @property
    def mass_at_zero(self) -> float:
        """P(the profile falls from λ = 0), exact: P(statistic = 0) where it has one maximum and no column of X is
        dropped, else slightly more."""
        centre = self.penalty.total / self.multiplier
        return 1.0 - positive_probability(
            np.append(self.mu.value - centre, -centre), np.append(self.mu.times, self.df_outside)
        )

    @property
    def text(self) -> str:
        """The distribution in words."""
        name = "RLRT" if self.criterion == "reml" else "LRT"
        if self.by_f:
            return f"exact {name}, a function of F_{{{self.mu.times[0]}, {self.df_outside}}}"
        return f"exact {name} by its spectral distribution"

    def p_value(self, statistic: float) -> float:
        """P(LRT ≥ statistic) under the null; (1 + #{draws ≥ statistic})/(1 + n_sim) where it is simulated."""
        if statistic <= 0:
            return 1.0
        if self.by_f:
            return self._by_f(statistic)
        above = len(self.draws) - int(np.searchsorted(self.draws, statistic, side="left"))
        return (1 + above) / (1 + len(self.draws))

    def mcse(self, statistic: float) -> float:
        """Monte Carlo standard error of `p_value`."""
        if self.by_f or statistic <= 0:
            return 0.0
        p = self.p_value(statistic)
        return float(np.sqrt(p * (1 - p) / len(self.draws)))

    def simulate(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n statistics under the null."""
        lam = self.grid()
        block = max(1, CELLS // (len(lam) + 2 * len(self.mu.value) + len(self.penalty.value)))
        out = np.empty(n)
        for at in range(0, n, block):
            size = min(block, n - at)
            shape = size, len(self.mu.times)
            single = (self.mu.times == 1).all()
            w2 = rng.standard_normal(shape) ** 2 if single else rng.chisquare(self.mu.times, shape)
            rest = rng.chisquare(self.df_outside, size) if self.df_outside else np.zeros(size)
            out[at : at + size] = self.supremum(w2, rest, lam)
            if self.n_dropped:
                u2 = rng.chisquare(self.n_dropped, size)
                out[at : at + size] += self.n_obs * np.log1p(u2 / (w2.sum(axis=1) + rest))
        return out

    def grid(self, step: float = STEP) -> np.ndarray:
        """λ > 0, even in log λ, from where no μ matters to where all do."""
        low, high = 1e-5 / self.mu.value[-1], 1e5 / self.mu.value[0]
        return np.exp(np.linspace(np.log(low), np.log(high), 2 + int(np.log(high / low) / step)))

    def supremum(self, w2: np.ndarray, rest: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """sup over λ ≥ 0 for rows of Σw_s² by eigenvalue (m, S) and of Σw_s² outside Z (m,)."""
        total = np.log(w2.sum(axis=1) + rest)
        D = w2 @ (1.0 / (1.0 + np.multiply.outer(self.mu.value, lam))) + rest[:, None]
        values = self.multiplier * (total[:, None] - np.log(D)) - self.penalty.logdet(lam)
        at = values.argmax(axis=1)
        best = np.maximum(values[np.arange(len(at)), at], 0.0)
        inner = np.flatnonzero((at > 0) & (at < len(lam) - 1))
        left, centre, right = (values[inner, at[inner] + k] for k in (-1, 0, 1))
        bend = left - 2.0 * centre + right
        shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
        peak = np.exp(np.log(lam[at[inner]]) + shift * np.log(lam[1] / lam[0]))  # the vertex of the parabola
        D = (w2[inner] / (1.0 + np.multiply.outer(peak, self.mu.value))).sum(axis=1) + rest[inner]
        found = self.multiplier * (total[inner] - np.log(D)) - self.penalty.logdet(peak)
        best[inner] = np.maximum(best[inner], found)
        return best

    def _by_f(self, statistic: float) -> float:
        """The ratio x = Σw²(Z)/Σw²(outside) whose supremum is the statistic, and P(ratio ≥ x)."""
        from scipy.optimize import brentq
        from scipy.special import fdtrc

        lam, a, b = self.grid(FINE), float(self.mu.times[0]), float(self.df_outside)

        def gap(log_x: float) -> float:
            x = np.array([[np.exp(log_x)]])
            return float(self.supremum(x, np.ones(1), lam)[0]) - statistic

        high = np.log(a / b)
        while gap(high) < 0:
            high += 1.0 + 0.5 * abs(high)
            if high > 600:
                return 0.0
        low = np.log(a / b) - 2.0
        while gap(low) > 0:
            low -= 1.0
        return float(fdtrc(a, b, np.exp(brentq(gap, low, high, xtol=1e-12)) * b / a))


def is_single_variance(model: Model) -> bool:
    """True where V = σ²(I + λ Σ_k Z_k Z_kᵀ), known residual weights apart: one variance beside σ²."""
    return (
        model.n_theta == 2
        and bool(model.components)
        and model.noise.is_plain
        and all(c.n_effects == 1 and c.cov.value is None for c in model.components)  # type: ignore[union-attr]
    )


def spectra(model: Model, with_xi: bool) -> tuple[Spectrum, Spectrum]:
    """Eigenvalues μ of ZᵀMZ and, where asked for, ξ of ZᵀZ; rows times √weight."""
    from scipy.sparse import hstack, issparse

    space = MomentSpace.of(model)
    S = np.hstack(space.S)
    mu = np.linalg.eigvalsh(S @ S.T) if S.shape[0] <= S.shape[1] else np.linalg.eigvalsh(S.T @ S)
    if not with_xi:
        return Spectrum.of(mu), Spectrum.of(np.zeros(0))
    if len(space.factors) == 1 and model.components[0].is_grouped:  # ZᵀZ is diagonal
        xi = np.asarray((space.factors[0].T @ space.factors[0]).diagonal())
    else:
        sparse = all(issparse(Z) for Z in space.factors)
        Z = hstack(space.factors).toarray() if sparse else np.hstack([_full(F) for F in space.factors])
        xi = np.linalg.eigvalsh(Z.T @ Z if Z.shape[1] <= len(Z) else Z @ Z.T)
    return Spectrum.of(mu), Spectrum.of(xi)


def _full(Z: Any) -> np.ndarray:
    return np.asarray(Z.toarray() if hasattr(Z, "toarray") else Z)
