"""Data sets drawn from a fit beside the data: what residuals and BLUPs look like where the model holds.

    y* ~ N(Xβ̂, V(θ̂)),     ê* = RPy*,     û* = GZᵀPy*,     ŷ* = y* − ê*

Residuals of a fit are not the errors: they have unequal variances and are correlated through β̂ and û, and with ŷ. What
a picture of them should look like is therefore drawn, not assumed. θ̂ is held: the sets are not refitted.

A band holds whole curves: curve c_k of one data set leaves it at no k with probability `level`,

    m_k − t (m_k − q_k^lower),  m_k + t (q_k^upper − m_k),     t the `level` quantile of the sets' largest excursion

m the mean and q the 2.5 % and 97.5 % points over the sets at k (the directional quantile envelope of Myllymäki,
Mrkvička, Grabarnik, Seijo & Hahn, J. R. Statist. Soc. B 79 (2017) 381-404).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.inference.blups import errors_of
from vcbench.inference.equations import Equations
from vcbench.inference.simulation import simulate

SETS, FEWEST, NUMBERS = 999, 99, 20_000_000
SEED = 20261121
TAIL = 0.025
NOTHING = 1e-10  # of its model variance: what varies less is the same in every data set


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A statistic of the data (k,), its standard deviation under the model (k,), and of m drawn sets (k, m)."""

    value: np.ndarray
    sd: np.ndarray
    sets: np.ndarray = field(repr=False)

    @property
    def known(self) -> np.ndarray:
        """(k,) True where it varies between data sets at all."""
        return np.isfinite(self.sd)

    def standardized(self) -> tuple[np.ndarray, np.ndarray]:
        """(values, sets) over their standard deviations, of those that vary."""
        keep = self.known
        return self.value[keep] / self.sd[keep], self.sets[keep] / self.sd[keep, None]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSets:
    """Conditional residuals, fitted values and BLUPs of a fit and of m data sets drawn from it.

    residual: ê (n,), its SD √(R − Q)_ii and sets (n, m). fitted (n,) and fitted_sets (n, m). blups: by (component,
    effect), levels in order.
    """

    residual: Drawn
    fitted: np.ndarray
    fitted_sets: np.ndarray = field(repr=False)
    blups: dict[tuple[str, str], Drawn]

    @classmethod
    def of(cls, fit: Any, seed: int = SEED) -> "ReferenceSets":
        """The sets of a fit, kept with it. MethodError without data or estimate, ModelError for negative variances."""
        if "reference sets" not in fit.cache:
            fit.cache["reference sets"] = cls._drawn(fit, seed)
        return fit.cache["reference sets"]

    @classmethod
    def _drawn(cls, fit: Any, seed: int) -> "ReferenceSets":
        errors = errors_of(fit, "a picture of residuals")
        model, theta = fit.model, fit.theta_values
        at = Equations.at(model, theta)
        size = model.n_obs + sum(t.Z[0].shape[1] * len(t.Z) for t in at.terms)
        m = int(min(SETS, max(FEWEST, NUMBERS // size)))
        Y = simulate(model, theta, fit.beta_values, m, seed)
        PY = at.project(Y if model.offset is None else Y - model.offset[:, None])
        R = at.R.matrix()
        E = R @ PY
        own = R.diagonal()
        fitted = np.asarray(fit.predict())
        sd = _root(own - errors.variance(model.X, errors.ZL), own)
        blups, known = {}, fit.ranef()
        for k, c in enumerate(model.components):
            prior, left = (np.einsum("laa->la", v) for v in (errors.prior(k), errors.errors(k)))
            spread, sets = _root(prior - left, prior), at.effects(k, PY)
            for a, effect in enumerate(c.effects):
                value = known[c.name].to_numpy()[:, a]
                blups[c.name, effect] = Drawn(value, spread[:, a], sets[:, a])
        return cls(Drawn(model.y - fitted, sd, E), fitted, Y - E, blups)


def _root(variance: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """√variance; NaN where it is nothing but rounding beside `scale`."""
    return np.sqrt(np.where((scale > 0) & (variance > NOTHING * scale), variance, np.nan))


def band(curves: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, mean, high) (k,) between which a share `level` of the curves (k, m) run as a whole."""
    middle = curves.mean(axis=1)
    low, high = np.quantile(curves, (TAIL, 1.0 - TAIL), axis=1)
    below, above = middle - low, high - middle
    away = curves - middle[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(away < 0, -away / below[:, None], away / above[:, None])
    share = np.where(away == 0, 0.0, share)
    t = np.quantile(share.max(axis=0, initial=0.0), level)
    return middle - t * below, middle, middle + t * above


def pointwise(curves: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, mean, high) (k,): at each point the middle share `level` of the curves (k, m), NaN left out."""
    half = 0.5 * (1.0 - level)
    low, high = np.nanquantile(curves, (half, 1.0 - half), axis=1)
    return low, np.nanmean(curves, axis=1), high
