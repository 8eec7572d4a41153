"""An exact posterior as quadrature leaves it: moments, marginal densities, quantiles, functions of θ, the mode."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, ndtri, sici

from vcbench.bayes.density import Squeeze
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.status import Status

if TYPE_CHECKING:
    import pandas as pd

SCALES = ("var", "sd", "log")


@dataclass(frozen=True, slots=True, eq=False)
class Marginal:
    """The marginal posterior of one variance: the density on an even grid of z, where u(z) = log σ (see `Squeeze`).

    Between the nodes it is read by the sinc interpolant, Σ_j f_j sinc((z − z_j)/h), whose integral is a sum of sine
    integrals: for a smooth density that vanishes at both ends the error falls exponentially in 1/h.
    """

    z: np.ndarray
    density: np.ndarray
    squeeze: Squeeze = field(default_factory=Squeeze)

    @property
    def step(self) -> float:
        """h."""
        return float(self.z[1] - self.z[0])

    def pdf(self, value: Any, scale: str = "var") -> np.ndarray:
        """Density at `value`, given and measured in `scale`: "var" (σ²), "sd" (σ) or "log" (log σ)."""
        u, jacobian = _log_sd(value, scale)
        z = self.squeeze.z(u)
        return self._pdf(z) * jacobian / self.squeeze.slope(z)

    def cdf(self, value: Any, scale: str = "var") -> np.ndarray:
        """P(parameter ≤ value)."""
        return self._cdf(self.squeeze.z(_log_sd(value, scale)[0]))

    def quantile(self, p: Any, scale: str = "var") -> np.ndarray:
        """The value below which a share p lies."""
        p = np.asarray(p, float)
        if not ((p > 0) & (p < 1)).all():
            raise MethodError(f"a quantile was asked for at p = {p}; p must lie strictly between 0 and 1.")
        sums = np.concatenate([[0.0], np.cumsum(0.5 * (self.density[1:] + self.density[:-1]))]) * self.step
        first = np.interp(p, sums, self.z)
        z = invert_cdf(self._cdf, self._pdf, p, first, float(self.z[0]), float(self.z[-1]), 1.0)
        return _from_log(self.squeeze.u(z), scale)

    def _pdf(self, z: np.ndarray) -> np.ndarray:
        z = np.asarray(z)
        inside = (z >= self.z[0]) & (z <= self.z[-1])
        return np.where(inside, np.sinc((z[..., None] - self.z) / self.step) @ self.density, 0.0)

    def _cdf(self, z: np.ndarray) -> np.ndarray:
        z = np.asarray(z)
        integral = 0.5 + sici(np.pi * (z[..., None] - self.z) / self.step)[0] / np.pi
        inside = np.clip(integral @ self.density * self.step, 0.0, 1.0)
        return np.where(z < self.z[0], 0.0, np.where(z > self.z[-1], 1.0, inside))


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """The marginal posterior of one β: normal given θ, hence a mixture of normals over the grid of θ."""

    weight: np.ndarray
    centre: np.ndarray
    sd: np.ndarray

    def pdf(self, value: Any) -> np.ndarray:
        """Density at `value`."""
        z = (np.asarray(value, float)[..., None] - self.centre) / self.sd
        return np.exp(-0.5 * z**2) @ (self.weight / (self.sd * math.sqrt(2 * math.pi)))

    def cdf(self, value: Any) -> np.ndarray:
        """P(β ≤ value)."""
        return ndtr((np.asarray(value, float)[..., None] - self.centre) / self.sd) @ self.weight

    def quantile(self, p: Any) -> np.ndarray:
        """The value below which a share p lies, by Newton steps kept inside a bracket."""
        p = np.asarray(p, float)
        mean = float(self.weight @ self.centre)
        spread = math.sqrt(float(self.weight @ (self.sd**2 + (self.centre - mean) ** 2)))
        low, high = float((self.centre - 40 * self.sd).min()), float((self.centre + 40 * self.sd).max())
        return invert_cdf(self.cdf, self.pdf, p, mean + spread * ndtri(p), low, high, spread)


def invert_cdf(
    cdf: Callable, pdf: Callable, p: np.ndarray, x: np.ndarray, low: float, high: float, unit: float
) -> np.ndarray:
    """cdf(x) = p by Newton steps from x, kept inside a bracket that starts as [low, high]; to 1e-13 units."""
    below, above = np.full(p.shape, low), np.full(p.shape, high)
    for _ in range(100):
        gap = cdf(x) - p
        below, above = np.where(gap < 0, x, below), np.where(gap < 0, above, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            move = -gap / pdf(x)
        tolerance = 1e-13 * (unit + np.abs(x))
        settled = (np.abs(move) < tolerance) | (above - below < tolerance)
        inside = (x + move > below) & (x + move < above)
        x = np.where(settled, x, np.where(inside, x + move, 0.5 * (below + above)))
        if settled.all():
            break
    return x


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Posterior:
    """The exact posterior of a model with up to three parameters of its covariance.

    theta_mean, theta_sd (p,), theta_cov (p, p), sd_mean, sd_sd (p,) (of σ, NaN for what is no variance): natural units,
    residual last; NaN where the prior leaves no such moment. beta_mean, beta_cov: of β. log_evidence: log ∫ L · prior,
    constants kept, β flat.
    error: what the last doubling moved in log_evidence; edge: the share of the mass estimated to lie beyond the grid;
    n_points: θ at which V was factorised; n_grid: points of the grid.
    """

    theta_names: tuple[str, ...]
    beta_names: tuple[str, ...]
    criterion: str
    theta_mean: np.ndarray
    theta_sd: np.ndarray
    theta_cov: np.ndarray
    sd_mean: np.ndarray
    sd_sd: np.ndarray
    beta_mean: np.ndarray
    beta_cov: np.ndarray
    log_evidence: float
    error: float
    edge: float
    n_points: int
    n_grid: int
    n_doublings: int
    seconds: float
    cpu_seconds: float
    status: Status
    message: str
    marginals: Any = field(repr=False)
    modes: Any = field(repr=False)
    facts: Any = field(default=None, repr=False)

    def __repr__(self) -> str:
        numbers = f"log evidence {self.log_evidence:.6f} (± {self.error:.0e}), {self.n_grid:,} points"
        return f"Exact posterior, {self.status}, {numbers}\n{self.summary().to_string()}"

    def marginal(self, name: str) -> Any:
        """The marginal of a variance (`Marginal`), another parameter (`Derived`) or a coefficient (`Mixture`)."""
        if name not in self.marginals:
            known = list(self.marginals)
            raise ModelError(f"no parameter `{name}`. Choose from {', '.join(known)}.{did_you_mean(name, known)}")
        return self.marginals[name]

    def derive(self, said: Any) -> Any:
        """The exact posterior of a function of θ, in the language of `Fit.derive`.

        said: an expression on the names of θ ("icc = Batch / total"), the SD or correlation of a parameter by name
        ("Subject:sd(Days)"), or a function of a mapping of the names of θ to values. What comes back has `cdf`, `pdf`,
        `quantile`, `mean`, `sd`, and `error`, what the last refinement of the grid moved in its distribution function.
        Raises MethodError for a name or syntax it does not know, for a function of β, and for one that does not exist
        on part of the posterior.
        """
        from vcbench.inference.quantities import quantity_of

        q = quantity_of(self.facts, said)
        if q.uses_beta:
            raise MethodError(
                f"`{q.name}` holds coefficients; `derive` of an exact posterior takes functions of θ. Marginals of β: "
                "`posterior.marginal(name)`."
            )
        d = len(self.beta_names)

        def g(theta: np.ndarray) -> np.ndarray:
            flat = theta.reshape(len(theta), -1)
            x = np.concatenate([flat, np.zeros((d, flat.shape[1]))])
            out = np.broadcast_to(np.real(q.of.at(x)), flat.shape[1:])
            return np.asarray(out, float).reshape(theta.shape[1:])

        return self.marginals.derive(g, q.label if hasattr(q, "label") else q.name)

    def quantile(self, name: str, p: Any) -> np.ndarray:
        """Quantiles of a parameter in natural units."""
        return self.marginal(name).quantile(p)

    def cdf(self, name: str, value: Any) -> np.ndarray:
        """P(parameter ≤ value | y): the exact probability integral transform of `value`."""
        return self.marginal(name).cdf(value)

    def beta_at(self, theta: np.ndarray) -> np.ndarray:
        """The GLS estimate of β at θ: the posterior mean, mode and median of β given θ."""
        return self.modes.beta(theta)

    def mode(self, scale: str = "prior") -> "pd.Series":
        """θ at the joint mode of the density of θ in `scale`: "var", "sd", "log", or "prior" (each in its prior's own).

        Under criterion "ml" the mode is joint with β. A variance of exactly 0 is a valid answer. With a flat prior the
        mode in that prior's own scale is the REML (ML) estimate; in another it is not, for the Jacobian is part of it.
        """
        import pandas as pd

        if scale not in (*SCALES, "prior"):
            raise MethodError(f"unknown scale `{scale}`. Choose from var, sd, log, prior.{did_you_mean(scale, SCALES)}")
        return pd.Series(self.modes(scale), index=list(self.theta_names), name="mode")

    def likelihood_mode(self, criterion: str = "reml") -> "tuple[pd.Series, np.ndarray]":
        """(θ, its covariance (p, p)) at the maximum of the likelihood in this posterior.

        "reml": of ℓ with β integrated out, which is the REML estimate; "ml": jointly over (β, θ), the ML estimate. The
        covariance is the inverse observed information, the Laplace precision in the same scale; NaN at a variance of 0.
        """
        import pandas as pd

        if criterion not in ("reml", "ml"):
            raise MethodError(f'unknown criterion `{criterion}`. Choose "reml" or "ml".')
        theta, cov = self.modes.likelihood(criterion)
        return pd.Series(theta, index=list(self.theta_names), name=f"{criterion} mode"), cov

    def summary(self, level: float = 0.95) -> "pd.DataFrame":
        """Mean, SD, median and equal-tailed limits of every parameter, natural units."""
        import pandas as pd

        tail = 0.5 * (1 - level)
        rows = []
        mean = [*self.theta_mean, *self.beta_mean]
        sd = [*self.theta_sd, *np.sqrt(np.diag(self.beta_cov))]
        for name, m, s in zip((*self.theta_names, *self.beta_names), mean, sd, strict=True):
            lower, median, upper = self.quantile(name, [tail, 0.5, 1 - tail])
            rows.append({"parameter": name, "mean": m, "sd": s, "median": median, "lower": lower, "upper": upper})
        return pd.DataFrame(rows).set_index("parameter")


def _log_sd(value: Any, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """(u = log σ, |du/dvalue|); −∞ and 0 at a value that is not positive."""
    value = np.asarray(value, float)
    if scale == "log":
        return value, np.ones(value.shape)
    if scale not in SCALES:
        raise MethodError(f"unknown scale `{scale}`. Choose from var, sd, log.{did_you_mean(scale, SCALES)}")
    half = 0.5 if scale == "var" else 1.0
    safe = np.where(value > 0, value, 1.0)
    return np.where(value > 0, half * np.log(safe), -1e300), np.where(value > 0, half / safe, 0.0)


def _from_log(u: np.ndarray, scale: str) -> np.ndarray:
    if scale not in SCALES:
        raise MethodError(f"unknown scale `{scale}`. Choose from var, sd, log.{did_you_mean(scale, SCALES)}")
    return {"log": lambda: u, "sd": lambda: np.exp(u), "var": lambda: np.exp(2 * u)}[scale]()
