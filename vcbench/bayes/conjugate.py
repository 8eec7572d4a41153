"""Posteriors that are known in closed form, or up to one integral: references for quadrature and for samplers.

Balanced one-way layout, G groups of n, under the density ∝ 1/(σ_e² λ) in (σ_e², σ_u²), λ = σ_e² + nσ_u²: were it not
for λ ≥ σ_e², σ_e² and λ would be independent SS_E/χ²_(G(n−1)) and SS_B/χ²_(G−1), so that 1/E[1/σ_e²] = MSE,
1/E[1/λ] = MSB and P(λ ≥ σ_e²) = F_(G−1, G(n−1))(MSB/MSE). The margins given λ ≥ σ_e² are one-dimensional integrals.

Without random effects σ² ~ IG(a, b) a priori is IG(a + ν/2, b + SS/2) a posteriori, and β is multivariate t.

With V = σ_e² H(γ), γ_k = σ_k²/σ_e², and p ∝ π(γ)(σ_e²)^(−a−1) e^(−b/σ_e²), σ_e² integrates out:

    log p(γ | y) = log π(γ) − ½ log|H| − ½ log|XᵀH⁻¹X| − (a + ν/2) log(b + ½ yᵀP_H y) + constant,    ν = n − d
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.integrate import quad

from vcbench.bayes.density import Ratios
from vcbench.bayes.posterior import invert_cdf
from vcbench.bayes.reduced import Reduced
from vcbench.errors import ModelError
from vcbench.model.model import Model


@dataclass(frozen=True, slots=True)
class OneWay:
    """The posterior of a balanced one-way layout under 1/(σ_e² λ). n_groups G, size n, sums of squares SS_B, SS_E."""

    n_groups: int
    size: int
    ss_between: float
    ss_within: float

    @property
    def df(self) -> tuple[int, int]:
        """(G − 1, G(n − 1))."""
        return self.n_groups - 1, self.n_groups * (self.size - 1)

    @property
    def msb(self) -> float:
        """SS_B/(G − 1)."""
        return self.ss_between / self.df[0]

    @property
    def mse(self) -> float:
        """SS_E/(G(n − 1))."""
        return self.ss_within / self.df[1]

    @property
    def admissible(self) -> float:
        """P(λ ≥ σ_e²) before the truncation: F_(G−1, G(n−1))(MSB/MSE)."""
        return float(stats.f(*self.df).cdf(self.msb / self.mse))

    @property
    def residual(self) -> Any:
        """σ_e² before the truncation: SS_E/χ²."""
        return stats.invgamma(0.5 * self.df[1], scale=0.5 * self.ss_within)

    @property
    def total_of_group(self) -> Any:
        """λ before the truncation: SS_B/χ²."""
        return stats.invgamma(0.5 * self.df[0], scale=0.5 * self.ss_between)

    def residual_cdf(self, value: float) -> float:
        """P(σ_e² ≤ value): ∫_0^value p(s) P(λ ≥ s) ds / P(λ ≥ σ_e²)."""
        return self._inside(lambda s: self.total_of_group.sf(s), value)

    def variance_cdf(self, value: float) -> float:
        """P(σ_u² ≤ value): λ lies between σ_e² and σ_e² + n·value."""
        lam = self.total_of_group
        return self._inside(lambda s: lam.cdf(s + self.size * value) - lam.cdf(s), np.inf)

    def icc_cdf(self, value: Any) -> np.ndarray:
        """P(σ_u²/(σ_u² + σ_e²) ≤ value), in closed form: λ/σ_e² ~ (MSB/MSE)/F truncated to [1, ∞)."""
        value = np.asarray(value, float)
        F, ratio = stats.f(*self.df), self.msb / self.mse
        least = 1 + self.size * value / (1 - value)
        return 1 - F.cdf(ratio / least) / self.admissible

    def _inside(self, weight: Callable[[float], float], top: float) -> float:
        """∫_0^top p(σ_e² = s) weight(s) ds / P(λ ≥ σ_e²), in p = P(σ_e² ≤ s)."""
        end = float(self.residual.cdf(top))
        value, _ = quad(lambda p: weight(self.residual.ppf(p)), 0.0, end, epsabs=1e-12, epsrel=1e-10, limit=400)
        return value / self.admissible


def balanced_one_way(model: Model) -> OneWay:
    """The posterior of a balanced one-way layout with a common mean. ModelError for another model."""
    c = model.components[0] if len(model.components) == 1 else None
    if c is None or not c.is_grouped or c.n_effects != 1 or not model.noise.is_plain or model.n_fixed != 1:
        raise ModelError("the conjugate one-way posterior needs one random intercept, one mean and independent errors.")
    codes = np.asarray(c.codes)
    count = np.bincount(codes)
    ones = np.ptp(np.asarray(c.Z)) == 0 and np.ptp(np.asarray(model.X)) == 0
    if len(set(count)) != 1 or not ones or model.noise.weights is not None:
        raise ModelError(
            f"the conjugate one-way posterior needs a balanced layout; the levels of `{c.name}` have "
            f"{count.min()} to {count.max()} rows."
        )
    y = model.y if model.offset is None else model.y - model.offset
    mean = np.bincount(codes, y) / count
    within = float(((y - mean[codes]) ** 2).sum())
    return OneWay(len(count), int(count[0]), float(count[0] * ((mean - mean.mean()) ** 2).sum()), within)


@dataclass(frozen=True, slots=True)
class Residual:
    """σ² ~ IG(shape, scale) and β | σ² ~ N(β̂, σ²(XᵀX)⁻¹): a model without random effects."""

    shape: float
    scale: float
    beta: np.ndarray
    unscaled: np.ndarray

    @property
    def variance(self) -> Any:
        """The law of σ²."""
        return stats.invgamma(self.shape, scale=self.scale)

    def coefficient(self, j: int) -> Any:
        """The law of β_j: Student's t with 2·shape degrees of freedom."""
        return stats.t(2 * self.shape, self.beta[j], np.sqrt(self.unscaled[j, j] * self.scale / self.shape))


def residual_only(model: Model, shape: float, scale: float) -> Residual:
    """The posterior of a model without random effects under σ² ~ IG(shape, scale) and flat β."""
    if model.components or not model.noise.is_plain or model.noise.weights is not None:
        raise ModelError("the conjugate posterior of σ² needs a model without random effects and independent errors.")
    y = model.y if model.offset is None else model.y - model.offset
    X = np.asarray(model.X)
    beta = np.linalg.lstsq(X, y, rcond=None)[0]
    ss = float(((y - X @ beta) ** 2).sum())
    nu = model.n_obs - model.n_fixed
    return Residual(shape + 0.5 * nu, scale + 0.5 * ss, beta, np.linalg.inv(X.T @ X))


@dataclass(frozen=True, slots=True)
class Ratio:
    """The posterior of one γ = σ_u²/σ_e², σ_e² integrated out, on even nodes of log γ."""

    nodes: np.ndarray
    density: np.ndarray

    def cdf(self, gamma: Any) -> np.ndarray:
        """P(σ_u²/σ_e² ≤ γ)."""
        from scipy.special import sici

        h = self.nodes[1] - self.nodes[0]
        x = np.log(np.asarray(gamma, float))[..., None]
        return np.clip((0.5 + sici(np.pi * (x - self.nodes) / h)[0] / np.pi) @ self.density * h, 0.0, 1.0)

    def quantile(self, p: Any) -> np.ndarray:
        """The γ below which a share p lies."""
        p = np.asarray(p, float)
        h = self.nodes[1] - self.nodes[0]
        rough = np.interp(p, np.cumsum(self.density) * h, self.nodes)
        low, high = float(self.nodes[0]), float(self.nodes[-1])

        def pdf(x: np.ndarray) -> np.ndarray:
            return np.sinc((x[..., None] - self.nodes) / h) @ self.density

        return np.exp(invert_cdf(lambda x: self.cdf(np.exp(x)), pdf, p, rough, low, high, 1.0))


def ratio_posterior(
    model: Model, log_prior: Callable[[np.ndarray], np.ndarray], a: float, b: float, n_nodes: int = 4097
) -> Ratio:
    """p(γ | y) of a model with one variance beside the residual's, under π(γ)(σ_e²)^(−a−1) e^(−b/σ_e²).

    log_prior: log π at γ. A prior flat in (σ_u², σ_e²) is π = 1, a = −2, b = 0.
    """
    reduced = Reduced.of(model)
    if reduced.n_theta != 2:
        raise ModelError(f"`ratio_posterior` is of one variance ratio; this model has {reduced.n_theta - 1}.")
    ratios = Ratios(reduced)
    u = np.linspace(-40.0, 40.0, n_nodes)  # log γ
    D, q, *_ = ratios.rows([0.5 * u])
    log_p = log_prior(np.exp(u)) + u - 0.5 * D - (a + 0.5 * ratios.nu) * np.log(b + 0.5 * q)
    p = np.exp(log_p - log_p.max())
    return Ratio(u, p / (p.sum() * (u[1] - u[0])))
