"""Posterior predictive checks of variance ratios: is the spread of y over its parts what the model would give?

With r = y − Xβ̂ the residuals of least squares, and levels of a grouping factor or units of a residual structure,

    T = [Σ_g n_g r̄_g² / (G − 1)] / [Σ_i (r_i − r̄_g(i))² / (n − G)]        (MSB/MSE of a one-way layout)

and for a matrix K or Z of predictors T = rᵀVr/rᵀr · n/tr V, V = K or ZZᵀ. T of y stands among T of responses drawn from
the model at draws of (θ, β) from the posterior, effects drawn anew: p = P(T_rep ≥ T), Monte Carlo error √(p(1 − p)/m).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcbench.inference.simulation import simulate
from vcbench.model.model import Model

Statistic = Callable[[np.ndarray], np.ndarray]  # Y (n, R) -> (R,)


@dataclass(frozen=True, slots=True)
class Predictive:
    """One check: T of y, P(T_rep ≥ T) with its Monte Carlo error over m replicates, median and 95 % of T_rep."""

    statistic: str
    observed: float
    p: float
    mcse: float
    m: int
    median: float
    lower: float
    upper: float


def predictive_checks(model: Model, places: Any, n: int, rng: np.random.Generator) -> tuple[Predictive, ...]:
    """The variance ratios of a model; () for one without groups, units or matrices."""
    found = list(statistics(model))
    if not found:
        return ()
    theta, beta = places.draws(n, rng)
    Y = np.column_stack([simulate(model, t, b, 1, rng)[:, 0] for t, b in zip(theta, beta, strict=True)])
    out = []
    for name, statistic in found:
        observed, values = float(statistic(model.y[:, None])[0]), statistic(Y)
        p = float((values >= observed).mean())
        low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
        mcse = math.sqrt(max(p * (1 - p), 1 / (4 * n)) / n)  # at p = 0 or 1 that of half a replicate
        out.append(Predictive(name, observed, p, mcse, n, float(middle), float(low), float(high)))
    return tuple(out)


def statistics(model: Model) -> Iterator[tuple[str, Statistic]]:
    """(name, T) of every grouping factor, unit of the residual, and matrix."""
    X = np.asarray(model.X)
    basis = np.linalg.qr(X)[0]

    def residuals(Y: np.ndarray) -> np.ndarray:
        own = Y if model.offset is None else Y - model.offset[:, None]
        return own - basis @ (basis.T @ own)

    seen: set[bytes] = set()
    for c in model.components:
        if c.is_grouped:
            codes = np.unique(np.asarray(c.codes), return_inverse=True)[1]
            if codes.tobytes() not in seen and 1 < codes.max() + 1 < model.n_obs:
                seen.add(codes.tobytes())
                yield f"between / within {c.name}", _between(codes, residuals)
        else:
            factors = np.hstack(c.factors())
            yield f"share along {c.name}", _along(factors, residuals)
    units = getattr(model.noise, "units", None)
    if units is not None and not model.noise.is_plain:
        codes = np.unique(np.asarray(units), return_inverse=True)[1]
        if codes.tobytes() not in seen and 1 < codes.max() + 1 < model.n_obs:
            yield "between / within units of the residual", _between(codes, residuals)


def _between(codes: np.ndarray, residuals: Callable[[np.ndarray], np.ndarray]) -> Statistic:
    count = np.bincount(codes).astype(float)
    G, n = len(count), len(codes)

    def statistic(Y: np.ndarray) -> np.ndarray:
        r = residuals(Y)
        total = np.zeros((G, r.shape[1]))
        np.add.at(total, codes, r)
        between = (total**2 / count[:, None]).sum(axis=0)
        return between / (G - 1) / (((r**2).sum(axis=0) - between) / (n - G))

    return statistic


def _along(F: np.ndarray, residuals: Callable[[np.ndarray], np.ndarray]) -> Statistic:
    size = (F**2).sum() / len(F)

    def statistic(Y: np.ndarray) -> np.ndarray:
        r = residuals(Y)
        return ((F.T @ r) ** 2).sum(axis=0) / (r**2).sum(axis=0) / size

    return statistic
