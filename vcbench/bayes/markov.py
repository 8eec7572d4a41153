"""Sufficient statistics of residuals that are Markov in time, without random effects: AR(1), AR(1) with variances by a
factor, ante-dependence(1), exponential decay along a line.

Within a unit, rows in the order of time, c_i the correlation of row i with the one before and s_i its SD,

    log|V| = Σ 2 log s_i + Σ log(1 − c_i²),
    uᵀV⁻¹v = Σ_first u_i v_i/s_i² + Σ_others (u_i/s_i − c_i u_{i−1}/s_{i−1})(v_i/s_i − c_i v_{i−1}/s_{i−1})/(1 − c_i²)

so that sums of products over the steps that are alike (same levels of the variances, same gap) hold all of ℓ: the cost
of an evaluation does not depend on n.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.bayes.closed_form import ClosedForm, products
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
class Markov(ClosedForm):
    """The likelihood of a model with Markov residuals, for one response.

    sums: first (g, L), after, cross, before (g, K), of the rows of [Q y] by pairs of columns.
    """

    steps: Steps = field(kw_only=True, repr=False)

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
        return cls(*cls.design(model), steps=Steps.of(model)).bound(model)

    def statistics(self, U: np.ndarray) -> dict[str, np.ndarray]:
        """Sums over the steps of each kind."""
        steps, low = self.steps, np.tril_indices(U.shape[1])
        a, b, first = U[steps.after], U[steps.before], U[steps.first]
        L, K = int(steps.level.max()) + 1, len(steps.gap)
        return {
            "first": _sums(products(first, first, low), steps.level[steps.first], L),
            "after": _sums(products(a, a, low), steps.kind, K),
            "cross": _sums(products(a, b, low) + products(b, a, low), steps.kind, K),
            "before": _sums(products(b, b, low), steps.kind, K),
        }

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """What the steps are, and how many of each."""
        steps = self.steps
        return {
            "gap": steps.gap,
            "low": steps.low,
            "high": steps.high,
            "n_steps": np.bincount(steps.kind, minlength=len(steps.gap)).astype(float),
            "n_level": np.bincount(steps.level).astype(float),
        }

    @property
    def form(self) -> tuple:
        """What compiled code depends on beside numbers."""
        family = self.model.noise.family
        own = tuple(zip(self.steps.low, self.steps.high, strict=True)) if isinstance(family, AnteDependence) else ()
        inner = family.inner if isinstance(family, Heterogeneous) else family
        # of times that are no whole numbers the shortest lag is written into the graph
        unit = None if getattr(inner, "whole", True) and not isinstance(inner, Decay) else inner.unit  # type: ignore[attr-defined]
        return "markov", type(family).__name__, type(inner).__name__, unit, self.n_fixed, own

    @property
    def size(self) -> str:
        """In words."""
        return f"residuals are Markov in time, steps of {len(self.steps.gap)} kind(s)"

    def parts(self, w: Any, d: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """See `ClosedForm.parts`."""
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


def _sums(rows: np.ndarray, kind: np.ndarray, n_kinds: int) -> np.ndarray:
    """Rows (S, g) summed by kind: (g, n_kinds)."""
    return np.stack([np.bincount(kind, column, n_kinds) for column in rows.T])
