"""Sufficient statistics of residuals that are Markov in time, without random effects: AR(1), AR(1) with variances by a
factor, ante-dependence(1), exponential decay along a line.

Within a unit, rows in the order of time, c_i the correlation of row i with the one before and s_i its SD,

    log|V| = Σ 2 log s_i + Σ log(1 − c_i²),
    uᵀV⁻¹v = Σ_first u_i v_i/s_i² + Σ_others (u_i/s_i − c_i u_{i−1}/s_{i−1})(v_i/s_i − c_i v_{i−1}/s_{i−1})/(1 − c_i²)

so that sums of products over the steps that are alike (same levels of the variances, same gap) hold all of ℓ: the cost
of an evaluation does not depend on n. `Markov.parts` is written once for numbers and for PyTensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vcbench.bayes.reduced import gls
from vcbench.kernels.protocol import Basis
from vcbench.model.model import Model
from vcbench.model.structures import AnteDependence, Ar1, ByLevel, Decay, Family, Heterogeneous


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Which rows follow which: `first` rows of units; `before` and `after` (S,) of each step, and its kind.

    Kinds (K,): levels of the two rows, and the gap between them.
    """

    first: np.ndarray
    before: np.ndarray
    after: np.ndarray
    kind: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gap: np.ndarray
    level: np.ndarray  # (n,) of every row

    @classmethod
    def of(cls, model: Model) -> "Steps":
        """The steps of a model whose residual is Markov."""
        noise, family = model.noise, model.noise.family
        time, codes = times(family), _levels(family, model.n_obs)
        order = np.lexsort((time, noise.units))
        new = np.concatenate([[True], np.diff(noise.units[order]) > 0])
        before, after = order[:-1][~new[1:]], order[1:][~new[1:]]
        gaps = np.round(np.abs(time[after] - time[before]), 12)
        table, kind = np.unique(np.column_stack([codes[before], codes[after], gaps]), axis=0, return_inverse=True)
        low, high = table[:, 0].astype(int), table[:, 1].astype(int)
        return cls(order[new], before, after, kind.ravel(), low, high, table[:, 2], codes)


@dataclass(frozen=True, slots=True, eq=False)
class Markov:
    """The likelihood of a model with Markov residuals, for one response; answers as `reduced.Reduced` does.

    first (g, L), after, cross, before (g, K): sums of products of the rows of [Q y], by pairs of columns.
    """

    model: Model
    steps: Steps = field(repr=False)
    basis: Basis = field(repr=False)
    beta0: np.ndarray
    first: np.ndarray = field(repr=False)
    after: np.ndarray = field(repr=False)
    cross: np.ndarray = field(repr=False)
    before: np.ndarray = field(repr=False)

    @staticmethod
    def why_not(model: Model) -> str | None:
        """What keeps a model from this form, in words; None where it takes it."""
        noise = model.noise
        family = noise.family.inner if type(noise.family) is Heterogeneous else noise.family
        if model.components:
            return "random effects"
        if noise.has_nugget:
            return "a nugget"
        line = isinstance(family, Decay) and family.power == 1 and family.points.shape[1] == 1
        if not (type(family) in (Ar1, AnteDependence) or line):
            return f"residual `{model.residual}`"
        return None

    @classmethod
    def of(cls, model: Model) -> "Markov":
        """The statistics of a model for which `why_not` finds nothing."""
        half = _half(model)
        none = np.empty(0)
        empty = cls(model, Steps.of(model), Basis.of(model.X * half[:, None]), none, none, none, none, none)  # type: ignore[operator]
        return empty.bind(model.y if model.offset is None else model.y - model.offset)

    def bind(self, y: np.ndarray) -> "Markov":
        """The same design with the response y (n,), offset already subtracted."""
        steps, y = self.steps, y * _half(self.model)
        U = np.column_stack([self.basis.Q, self.basis.residual(y)])
        low = np.tril_indices(U.shape[1])
        a, b = U[steps.after], U[steps.before]
        cross = a[:, low[0]] * b[:, low[1]] + b[:, low[0]] * a[:, low[1]]
        L = int(steps.level.max()) + 1
        offset = self.model.offset
        return replace(
            self,
            model=self.model.replace(y=y / _half(self.model) + (0.0 if offset is None else offset)),
            beta0=self.basis.ols(y),
            first=_sums(_products(U[steps.first], low), steps.level[steps.first], L),
            after=_sums(_products(a, low), steps.kind, len(steps.gap)),
            cross=_sums(cross, steps.kind, len(steps.gap)),
            before=_sums(_products(b, low), steps.kind, len(steps.gap)),
        )

    @property
    def n_obs(self) -> int:
        """n."""
        return self.model.n_obs

    @property
    def n_fixed(self) -> int:
        """d."""
        return self.model.n_fixed

    @property
    def T(self) -> np.ndarray:
        """X = QT (times √weight)."""
        return self.basis.T

    def beta_of(self, gamma: np.ndarray) -> np.ndarray:
        """β = β_0 + T⁻¹γ at the rows of γ (M, d)."""
        return self.beta0 + np.linalg.solve(self.T, np.asarray(gamma).T).T

    @property
    def constant(self) -> float:
        """n log 2π − Σ log weight."""
        weights = self.model.noise.weights
        return self.n_obs * float(np.log(2 * np.pi)) - (0.0 if weights is None else float(np.log(weights).sum()))

    @property
    def data(self) -> dict[str, np.ndarray]:
        """What the twin receives as `pm.Data`, by name."""
        steps = self.steps
        return {
            "first": self.first,
            "after": self.after,
            "cross": self.cross,
            "before": self.before,
            "gap": steps.gap,
            "low": steps.low,
            "high": steps.high,
            "n_steps": np.bincount(steps.kind, minlength=len(steps.gap)).astype(float),
            "n_level": np.bincount(steps.level).astype(float),
            "constant": np.asarray(self.constant),
            "logdet_xx": np.asarray(self.basis.logdet),
            "T": self.T,
            "T_inverse": np.linalg.inv(self.T),
            "beta_ols": self.beta0,
        }

    @property
    def form(self) -> tuple:
        """What compiled code depends on beside numbers."""
        family = self.model.noise.family
        own = tuple(zip(self.steps.low, self.steps.high, strict=True)) if isinstance(family, AnteDependence) else ()
        inner = family.inner if isinstance(family, Heterogeneous) else family
        return "markov", type(family).__name__, type(inner).__name__, getattr(inner, "whole", None), self.n_fixed, own

    def parts(self, w: Any, d: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """(log|V|, lower triangle of [Q y]ᵀV⁻¹[Q y]) at w, from the statistics d: numbers or PyTensor."""
        family, sigma2 = self.model.noise.family, w[-1]
        sd, c = _scales(family, list(w[:-1]), d, self.steps, xp)
        left = 1 - c**2
        logdet = d["n_level"].sum() * xp.log(sigma2) + (d["n_steps"] * xp.log(left)).sum()
        if sd is None:
            g = d["first"].sum(axis=1) + ((d["after"] - c * d["cross"] + c**2 * d["before"]) / left).sum(axis=1)
            return logdet, g / sigma2
        logdet = logdet + 2 * (d["n_level"] * xp.log(sd)).sum()
        s, t = sd[d["high"]], sd[d["low"]]
        steps = (d["after"] / s**2 - c / (s * t) * d["cross"] + (c / t) ** 2 * d["before"]) / left
        return logdet, ((d["first"] / sd**2).sum(axis=1) + steps.sum(axis=1)) / sigma2

    def evaluate(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log|V| (M,), G (M, d+1, d+1)) at the rows of theta (M, p), as `Reduced.evaluate`."""
        rows, d = np.atleast_2d(np.asarray(theta, float)), self.data
        d1 = self.n_fixed + 1
        low = np.tril_indices(d1)
        logdet, G = np.empty(len(rows)), np.empty((len(rows), d1, d1))
        for i, t in enumerate(rows):
            logdet[i], g = self.parts(self.model.working.w(t), d, np)
            G[i][low] = G[i].T[low] = g
        return logdet, G

    def centre(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(A = QᵀV⁻¹Q (M, d, d), γ̂ (M, d)) at the rows of theta (M, p)."""
        A, _, gamma = gls(self.evaluate(theta)[1])
        return A, gamma

    def loglik(self, theta: np.ndarray, criterion: str, beta: np.ndarray | None = None) -> np.ndarray:
        """ℓ_REML(θ), or ℓ_ML(β, θ) (β profiled if None), at the rows of theta (M, p)."""
        logdet, G = self.evaluate(theta)
        if beta is not None:
            e = np.append(-(self.T @ (np.asarray(beta) - self.beta0)), 1.0)
            return -0.5 * (self.constant + logdet + np.einsum("i,mij,j->m", e, G, e))
        A, quad, _ = gls(G)
        out = -0.5 * (self.constant + logdet + quad)
        if criterion == "reml":
            d = self.n_fixed
            out += 0.5 * (d * np.log(2 * np.pi) - np.linalg.slogdet(A)[1] - self.basis.logdet)
        return out


def times(family: Family) -> np.ndarray:
    """The coordinate along which the rows of a unit are ordered."""
    match family:
        case Heterogeneous():
            return times(family.inner)
        case AnteDependence():
            return family.codes.astype(float)
        case Decay():
            return family.points[:, 0]
    return family.t  # type: ignore[attr-defined]


def _levels(family: Family, n: int) -> np.ndarray:
    return family.codes if isinstance(family, ByLevel) else np.zeros(n, int)


def _scales(family: Family, phi: list[Any], d: Mapping[str, Any], steps: Steps, xp: Any) -> tuple[Any, Any]:
    """(SDs by level relative to the first, or None; correlation of each kind of step)."""
    if isinstance(family, Heterogeneous | AnteDependence):
        m = family.n_levels
        sd = xp.exp(xp.stack([xp.zeros_like(phi[0]), *phi[: m - 1]]))
        if isinstance(family, Heterogeneous):
            return sd, _scales(family.inner, phi[m - 1 :], d, steps, xp)[1]
        rho = [xp.tanh(f) for f in phi[m - 1 :]]
        products = []
        for a, b in zip(steps.low, steps.high, strict=True):
            run: Any = 1.0
            for r in rho[a:b]:
                run = run * r
            products.append(run)
        return sd, xp.stack(products)
    if isinstance(family, Ar1) and family.whole:
        return None, xp.tanh(phi[0]) ** d["gap"]
    # −log of the correlation at the shortest lag, `unit`: that of an AR(1) in unequal steps and of an exponential decay
    return None, xp.exp(-d["gap"] / family.unit * xp.log1p(xp.exp(-phi[0])))  # type: ignore[attr-defined]


def _half(model: Model) -> np.ndarray:
    return np.ones(model.n_obs) if model.noise.weights is None else np.sqrt(model.noise.weights)


def _products(U: np.ndarray, low: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return U[:, low[0]] * U[:, low[1]]


def _sums(rows: np.ndarray, kind: np.ndarray, n_kinds: int) -> np.ndarray:
    """Rows (S, g) summed by kind: (g, n_kinds)."""
    return np.stack([np.bincount(kind, column, n_kinds) for column in rows.T])
