"""Two kinds of posterior asked the same questions: the exact one of quadrature, and draws of a sampler."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vcbench.bayes.build import safe
from vcbench.bayes.posterior import Posterior
from vcbench.errors import ModelError


class Places(Protocol):
    """What a check asks of a posterior, parameter by parameter."""

    kind: str

    def mean_sd(self, name: str) -> tuple[float, float]: ...
    def quantile(self, name: str, p: np.ndarray) -> np.ndarray: ...
    def cdf(self, name: str, value: float) -> float: ...
    def curve(self, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...
    def sd_of(self, name: str, forward: Callable[[np.ndarray], np.ndarray]) -> float: ...
    def draws(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Exact:
    """A posterior of `quadrature`."""

    posterior: Posterior
    kind: str = "exact"
    kept: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def _at(self, name: str) -> int:
        names = [*self.posterior.theta_names, *self.posterior.beta_names]
        if name not in names:
            raise ModelError(f"the posterior has no `{name}`; it has {', '.join(names)}.")
        return names.index(name)

    def mean_sd(self, name: str) -> tuple[float, float]:
        """Posterior mean and SD."""
        p, at = self.posterior, self._at(name)
        mean = np.concatenate([p.theta_mean, p.beta_mean])[at]
        return float(mean), float(np.concatenate([p.theta_sd, np.sqrt(np.diag(p.beta_cov))])[at])

    def quantile(self, name: str, p: np.ndarray) -> np.ndarray:
        """Quantiles."""
        self._at(name)
        return self.posterior.quantile(name, p)

    def cdf(self, name: str, value: float) -> float:
        """P(parameter ≤ value)."""
        self._at(name)
        return float(self.posterior.cdf(name, value))

    def curve(self, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the density."""
        return x, np.asarray(self.posterior.marginal(name).pdf(x))

    def sd_of(self, name: str, forward: Callable[[np.ndarray], np.ndarray]) -> float:
        """SD of a function of one parameter of θ."""
        at = self._at(name)
        if at >= len(self.posterior.theta_names):
            return self.mean_sd(name)[1]
        m = self.posterior.marginals
        if "weight" not in self.kept:
            weight = np.exp(m.grid.F + m.grid.slope - m.grid.F.max())
            self.kept["weight"] = weight / weight.sum()
        base, degree = m.density.ratios.scaled([q.u(x) for q, x in zip(m.squeezes, m.z, strict=True)])
        w = self.kept["weight"]
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.broadcast_to(forward(base[at][..., None] * np.exp(degree[at] * m.grid.t)), w.shape)
        keep = w > 0
        mean = float((w[keep] * x[keep]).sum())
        return float(np.sqrt((w[keep] * (x[keep] - mean) ** 2).sum()))

    def draws(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """n independent draws of (θ, β)."""
        from vcbench.bayes.exact_draws import exact_draws

        return exact_draws(self.posterior, n, rng)


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """Draws of `sample` or of any PyMC sampler on a twin: a DataTree, or its `posterior` group."""

    data: Any
    theta_names: tuple[str, ...]
    beta_names: tuple[str, ...]
    kind: str = "sampled"

    @classmethod
    def of(cls, tree: Any, theta_names: tuple[str, ...], beta_names: tuple[str, ...]) -> "Sampled":
        """Raises ModelError for what holds no draws."""
        try:
            data = tree["posterior"] if "posterior" in getattr(tree, "groups", ()) or "posterior" in tree else tree
        except TypeError:
            data = None
        if data is None or not hasattr(data, "data_vars"):
            raise ModelError(
                f"`posterior` is {type(tree).__name__}; it must be a Posterior of `vcbench.bayes.quadrature` or "
                "draws of `vcbench.bayes.sample`."
            )
        return cls(data, theta_names, beta_names)

    def of_name(self, name: str) -> np.ndarray:
        """All draws of a parameter."""
        data = self.data
        if safe(name) in data:
            return np.asarray(data[safe(name)]).ravel()
        if "beta" in data and name in [str(x) for x in data["fixed"].values]:
            return np.asarray(data["beta"].sel(fixed=name)).ravel()
        raise ModelError(f"the posterior has no `{name}`; it has {', '.join(str(x) for x in data.data_vars)}.")

    def mean_sd(self, name: str) -> tuple[float, float]:
        """Mean and SD of the draws."""
        x = self.of_name(name)
        return float(x.mean()), float(x.std(ddof=1))

    def quantile(self, name: str, p: np.ndarray) -> np.ndarray:
        """Quantiles of the draws."""
        return np.quantile(self.of_name(name), p)

    def cdf(self, name: str, value: float) -> float:
        """The share of draws below `value`, half of those at it."""
        x = self.of_name(name)
        return float((x < value).mean() + 0.5 * (x == value).mean())

    def curve(self, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A kernel estimate of the density; that of log draws where none is negative."""
        from scipy.stats import gaussian_kde

        draws = self.of_name(name)
        if draws.min() > 0:
            positive = np.maximum(x, 1e-300)
            return x, np.where(x > 0, gaussian_kde(np.log(draws))(np.log(positive)) / positive, 0.0)
        return x, gaussian_kde(draws)(x)

    def sd_of(self, name: str, forward: Callable[[np.ndarray], np.ndarray]) -> float:
        """SD of a function of one parameter of θ."""
        x = self.of_name(name)
        return float((x if name in self.beta_names else forward(x)).std(ddof=1))

    def draws(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """n of the draws of (θ, β), evenly through the chains."""
        theta = np.column_stack([self.of_name(name) for name in self.theta_names])
        beta = np.column_stack([self.of_name(name) for name in self.beta_names]) if self.beta_names else None
        at = np.linspace(0, len(theta) - 1, n).round().astype(int)
        return theta[at], np.zeros((n, 0)) if beta is None else beta[at]


def places_of(posterior: Any, theta_names: tuple[str, ...], beta_names: tuple[str, ...]) -> Places:
    """The posterior as a check asks it. ModelError for what is no posterior, and for one of other parameters."""
    if isinstance(posterior, Posterior):
        made: Any = Exact(posterior)
        for name in theta_names:
            made._at(name)
        return made
    made = Sampled.of(posterior, theta_names, beta_names)
    for name in theta_names:
        made.of_name(name)
    return made
