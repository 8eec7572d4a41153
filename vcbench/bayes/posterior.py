"""An exact posterior as quadrature leaves it: moments, marginal densities, quantiles, the mode."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, sici

from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.status import Status

if TYPE_CHECKING:
    import pandas as pd

SCALES = ("var", "sd", "log")


@dataclass(frozen=True, slots=True, eq=False)
class Marginal:
    """The marginal posterior of one variance: the density of u = log σ on an even grid `u`, tails included.

    Between the nodes it is read by the sinc interpolant, Σ_j f_j sinc((u − u_j)/h), whose integral is a sum of sine
    integrals: for a smooth density that vanishes at both ends the error falls exponentially in 1/h.
    """

    u: np.ndarray
    density: np.ndarray

    @property
    def step(self) -> float:
        """h."""
        return float(self.u[1] - self.u[0])

    def pdf(self, value: Any, scale: str = "var") -> np.ndarray:
        """Density at `value`, given and measured in `scale`: "var" (σ²), "sd" (σ) or "log" (log σ)."""
        u, jacobian = _log_sd(value, scale)
        return self._pdf(u) * jacobian

    def cdf(self, value: Any, scale: str = "var") -> np.ndarray:
        """P(parameter ≤ value)."""
        return self._cdf(_log_sd(value, scale)[0])

    def quantile(self, p: Any, scale: str = "var") -> np.ndarray:
        """The value below which a share p lies."""
        p = np.asarray(p, float)
        if not ((p > 0) & (p < 1)).all():
            raise MethodError(f"a quantile was asked for at p = {p}; p must lie strictly between 0 and 1.")
        nodes = self._cdf(self.u)
        u = np.interp(p, nodes, self.u)
        low, high = np.full(p.shape, self.u[0]), np.full(p.shape, self.u[-1])
        for _ in range(60):
            gap = self._cdf(u) - p
            low, high = np.where(gap < 0, u, low), np.where(gap < 0, high, u)
            slope = self._pdf(u)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = u - gap / slope
            new = np.where((step > low) & (step < high), step, 0.5 * (low + high))
            done = np.abs(new - u).max() < 1e-13 * (1 + np.abs(u).max())
            u = new
            if done:
                break
        return _from_log(u, scale)

    def _pdf(self, u: np.ndarray) -> np.ndarray:
        return np.sinc((np.asarray(u)[..., None] - self.u) / self.step) @ self.density

    def _cdf(self, u: np.ndarray) -> np.ndarray:
        integral = 0.5 + sici(np.pi * (np.asarray(u)[..., None] - self.u) / self.step)[0] / np.pi
        return np.clip(integral @ self.density * self.step, 0.0, 1.0)


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
        low = np.full(p.shape, float((self.centre - 40 * self.sd).min()))
        high = np.full(p.shape, float((self.centre + 40 * self.sd).max()))
        x = np.full(p.shape, mean)
        for _ in range(100):
            gap = self.cdf(x) - p
            low, high = np.where(gap < 0, x, low), np.where(gap < 0, high, x)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = x - gap / self.pdf(x)
            new = np.where((step > low) & (step < high), step, 0.5 * (low + high))
            done = np.abs(new - x).max() < 1e-12 * spread
            x = new
            if done:
                break
        return x


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """The exact posterior of a model with up to three variance parameters.

    theta_mean, theta_sd (p,), theta_cov (p, p), sd_mean, sd_sd (p,) (of σ): natural units, residual last; NaN where the
    prior's tail leaves no such moment. beta_mean, beta_cov: of β. log_evidence: log ∫ L · prior (constants kept; β flat).
    mode: the joint mode in each scale. error: what the last doubling moved in log_evidence; edge: the share of the mass
    estimated to lie beyond the grid; n_points: θ at which V was factorised, n_grid: points of the grid.
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
    marginals: Mapping[str, Marginal | Mixture] = field(repr=False)
    modes: Any = field(repr=False)

    def marginal(self, name: str) -> Any:
        """The marginal of a variance (`Marginal`) or a coefficient (`Mixture`) by name."""
        if name not in self.marginals:
            known = list(self.marginals)
            raise ModelError(f"no parameter `{name}`. Choose from {', '.join(known)}.{did_you_mean(name, known)}")
        return self.marginals[name]

    def quantile(self, name: str, p: Any) -> np.ndarray:
        """Quantiles of a parameter in natural units."""
        return self.marginal(name).quantile(p)

    def cdf(self, name: str, value: Any) -> np.ndarray:
        """P(parameter ≤ value | y): the exact probability integral transform of `value`."""
        return self.marginal(name).cdf(value)

    def mode(self, scale: str = "prior") -> "pd.Series":
        """θ at the joint mode of the density of θ in `scale`: "var", "sd", "log", or "prior" (each in its prior's own).

        Under criterion "ml" the mode is joint with β. A variance of exactly 0 is a valid answer. With a flat prior the
        mode in that prior's own scale is the REML (ML) estimate; in another it is not, for the Jacobian is part of it.
        """
        import pandas as pd

        if scale not in (*SCALES, "prior"):
            raise MethodError(f"unknown scale `{scale}`. Choose from var, sd, log, prior.{did_you_mean(scale, SCALES)}")
        return pd.Series(self.modes(scale), index=list(self.theta_names), name="mode")

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
