"""Priors: named families on the standard deviations of a model, on its correlations and ranges, and on β.

A prior is a frozen value. Families on a standard deviation σ say the scale in which their density is meant (`on`):
"sd" for σ, "var" for σ², "log" for log σ. `logpdf` is the density in that scale, `logpdf_log` the same law as a density
of u = log σ (the Jacobian is not optional), `variable` the PyMC random variable, `draw` values in that scale. A scale
left at None is filled by `prior_choice.resolve`.

Correlation parameters of a structure (ρ of an AR(1), the lags of a Toeplitz matrix, …) have a `Beta` on their range;
the range of a distance decay has a family on positive numbers; all variances together may have a `split.Split` instead.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.special import betaln, gammaln

from vcbench.errors import ModelError

if TYPE_CHECKING:
    from pytensor.tensor import TensorVariable

    from vcbench.bayes.split import Split


@dataclass(frozen=True, slots=True)
class HalfNormal:
    """σ ~ |N(0, scale²)|: the default, and the family of simulation-based calibration."""

    scale: float | None = None
    on: ClassVar[str] = "sd"

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """log p(σ) = ½ log(2/π) − log s − σ²/(2s²)."""
        s = _known(self.scale)
        return 0.5 * math.log(2 / math.pi) - math.log(s) - 0.5 * (np.asarray(x) / s) ** 2

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n values of σ."""
        return _known(self.scale) * np.abs(rng.standard_normal(n))

    def variable(self, name: str, scale: Any, start: float) -> "TensorVariable":
        """`pm.HalfNormal`."""
        import pymc as pm

        return pm.HalfNormal(name, sigma=scale, initval=start)


@dataclass(frozen=True, slots=True)
class HalfT:
    """σ ~ |t_df(0, scale)|: a heavier tail; the default for the standard deviations of an unstructured Ω."""

    df: float = 3.0
    scale: float | None = None
    on: ClassVar[str] = "sd"

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """log p(σ) = log 2 + log t_df(σ/s) − log s."""
        s, v = _known(self.scale), self.df
        constant = math.log(2) + gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * math.log(v * math.pi) - math.log(s)
        return constant - 0.5 * (v + 1) * np.log1p((np.asarray(x) / s) ** 2 / v)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n values of σ."""
        return _known(self.scale) * np.abs(rng.standard_t(self.df, n))

    def variable(self, name: str, scale: Any, start: float) -> "TensorVariable":
        """`pm.HalfStudentT`."""
        import pymc as pm

        return pm.HalfStudentT(name, nu=np.float64(self.df), sigma=scale, initval=start)


@dataclass(frozen=True, slots=True)
class PC:
    """Penalised complexity: σ exponential with P(σ > scale) = tail.

    Simpson, Rue, Riebler, Martins & Sørbye (2017), Statistical Science 32, 1–28, §3.3.
    """

    scale: float | None = None
    tail: float = 0.05
    on: ClassVar[str] = "sd"

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """log p(σ) = log λ − λσ with λ = −log(tail)/scale."""
        rate = -math.log(self.tail) / _known(self.scale)
        return math.log(rate) - rate * np.asarray(x)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n values of σ."""
        return rng.exponential(-_known(self.scale) / math.log(self.tail), n)

    def variable(self, name: str, scale: Any, start: float) -> "TensorVariable":
        """`pm.Exponential`."""
        import pymc as pm

        return pm.Exponential(name, lam=-math.log(self.tail) / scale, initval=start)


@dataclass(frozen=True, slots=True)
class InverseGamma:
    """σ² ~ IG(shape, scale), density ∝ (σ²)^(−shape−1) e^(−scale/σ²): conjugate to one variance, for exact checks.

    `scale` is in units of the variance; where it is left out it is (shape + 1) times the square of the parameter's
    unit, which puts the prior's mode there. Not recommended otherwise: it has no mass near σ = 0.
    """

    shape: float
    scale: float | None = None
    on: ClassVar[str] = "var"

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """log p(σ²) = a log b − log Γ(a) − (a + 1) log σ² − b/σ²."""
        a, b, x = self.shape, _known(self.scale), np.asarray(x)
        return a * math.log(b) - gammaln(a) - (a + 1) * np.log(x) - b / x

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n values of σ²."""
        return _known(self.scale) / rng.gamma(self.shape, size=n)

    def variable(self, name: str, scale: Any, start: float) -> "TensorVariable":
        """`pm.InverseGamma`."""
        import pymc as pm

        return pm.InverseGamma(name, alpha=np.float64(self.shape), beta=scale, initval=start)


@dataclass(frozen=True, slots=True)
class Flat:
    """Density 1 in σ² (`on="var"`), σ ("sd") or log σ ("log"): improper, for the check that its mode is REML's.

    With m = rank[X Z] − rank X the posterior is proper on "sd" for m ≥ 2, on "var" for m ≥ 3, on "log" never.
    """

    on: str = "var"
    scale: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.on not in ("var", "sd", "log"):
            raise ModelError(f'`on` of a flat prior is {self.on!r}. Choose "var", "sd" or "log".')

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """0 everywhere."""
        return np.zeros(np.shape(x))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Raises ModelError: a flat prior is no distribution."""
        raise ModelError("nothing can be drawn from a flat prior, which is improper. Give the parameter a proper one.")

    def variable(self, name: str, scale: Any, start: float) -> "TensorVariable":
        """`pm.HalfFlat`, `pm.Flat` on the log scale."""
        import pymc as pm

        return pm.Flat(name, initval=start) if self.on == "log" else pm.HalfFlat(name, initval=start)


@dataclass(frozen=True, slots=True)
class Beta:
    """A correlation parameter on its range scaled to (0, 1): (ρ − low)/(high − low) ~ Beta(a, b); a = b = 1 is uniform.

    The range is the one that the parameters before it leave: (−1, 1) for ρ of an AR(1), (−1/(m−1), 1) for compound
    symmetry; the autocorrelation of lag k of a Toeplitz matrix given those of shorter lags, so that its partial
    autocorrelation π_k has (1 + π_k)/2 ~ Beta(a, b).
    """

    a: float = 1.0
    b: float = 1.0

    def logpdf(self, p: np.ndarray) -> np.ndarray:
        """Log density at p in (0, 1)."""
        return (self.a - 1) * np.log(p) + (self.b - 1) * np.log1p(-np.asarray(p)) - betaln(self.a, self.b)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n values in (0, 1)."""
        return rng.beta(self.a, self.b, n)

    def variable(self, name: str, start: float = 0.5) -> "TensorVariable":
        """`pm.Beta`."""
        import pymc as pm

        return pm.Beta(name, np.float64(self.a), np.float64(self.b), initval=start)  # a Python float would be single


@dataclass(frozen=True, slots=True)
class LKJ:
    """Correlations with density ∝ |C|^(eta − 1) (Lewandowski, Kurowicka & Joe 2009, J. Multivar. Anal. 100, 1989–2001).

    Stated in canonical partial correlations ρ_ij, which are independent: (ρ_ij + 1)/2 ~ Beta(b, b) with
    b = eta + (r − 2 − j)/2, where j = 0, 1, … counts the effects given (their §2.4).
    """

    eta: float = 2.0

    def shape(self, r: int, j: int) -> float:
        """b of the partial correlations given the first j effects."""
        return self.eta + 0.5 * (r - 2 - j)

    def logpdf(self, partial: Mapping[tuple[int, int], float], r: int) -> float:
        """Log density at the (ρ_ij + 1)/2, i > j."""
        total = 0.0
        for (_, j), rho in partial.items():
            b, p = self.shape(r, j), 0.5 * (1 + rho)
            total += (b - 1) * (math.log(p) + math.log1p(-p)) - betaln(b, b)
        return float(total)

    def draw(self, rng: np.random.Generator, n: int, r: int) -> np.ndarray:
        """n correlation matrices (n, r, r), by their partial correlations."""
        L = np.zeros((n, r, r))
        L[:, 0, 0] = 1.0
        for i in range(1, r):
            left = np.ones(n)
            for j in range(i):
                rho = 2 * rng.beta(*2 * (self.shape(r, j),), n) - 1
                L[:, i, j] = rho * np.sqrt(left)
                left = left * (1 - rho**2)
            L[:, i, i] = np.sqrt(left)
        return L @ L.transpose(0, 2, 1)


@dataclass(frozen=True, slots=True)
class Normal:
    """β_j ~ N(mean, scale²), each coefficient apart; needs `criterion="ml"`, which keeps β."""

    scale: float
    mean: float = 0.0

    def logpdf(self, beta: np.ndarray) -> float:
        """Log density at β (d,)."""
        z = (np.asarray(beta) - self.mean) / self.scale
        return float(-0.5 * (z @ z) - len(z) * (math.log(self.scale) + 0.5 * math.log(2 * math.pi)))

    def draw(self, rng: np.random.Generator, n: int, d: int) -> np.ndarray:
        """n values of β (n, d)."""
        return self.mean + self.scale * rng.standard_normal((n, d))


SdPrior = HalfNormal | HalfT | PC | InverseGamma | Flat
ShapePrior = Beta | HalfNormal | HalfT | PC
FAMILIES: dict[str, Any] = {
    "half-normal": HalfNormal,
    "half-t": HalfT,
    "pc": PC,
    "inverse-gamma": InverseGamma,
    "flat": Flat,
    "beta": Beta,
    "lkj": LKJ,
    "normal": Normal,
}
SHORT: dict[str, Any] = {
    "flat-var": Flat("var"),
    "flat-sd": Flat("sd"),
    "flat-log": Flat("log"),
    "uniform": Beta(),
}
FROM_VARIANCE: dict[str, Callable[[float], float]] = {
    "sd": math.sqrt,
    "var": float,
    "log": lambda variance: 0.5 * math.log(variance),
}


@dataclass(frozen=True, slots=True)
class Priors:
    """The prior of every parameter of a model, scales filled in.

    sd: by name of the variance it belongs to (`Subject:var(Days)`, `residual:var`), in the order of θ; lkj: by
    component (or "residual"), for free correlation matrices; shape: by name, the other parameters of a structure
    (`residual:rho`, `residual:range`); beta: None is flat; split: one law of all variances together, in the place of
    `sd`, which is then empty.
    """

    sd: Mapping[str, SdPrior]
    lkj: Mapping[str, LKJ] = field(default_factory=dict)
    beta: Normal | None = None
    shape: Mapping[str, ShapePrior] = field(default_factory=dict)
    split: "Split | None" = None

    def explain(self) -> str:
        """One line a parameter."""
        lines = [f"  {name}: {_say(p)}" for name, p in self.sd.items()]
        if self.split is not None:
            lines.append(f"  {self.split.explain()}")
        lines += [f"  correlations of {name}: LKJ({p.eta:g})" for name, p in self.lkj.items()]
        lines += [f"  {name}: {_say_shape(p)}" for name, p in self.shape.items()]
        lines.append("  β: flat" if self.beta is None else f"  β: N({self.beta.mean:g}, {self.beta.scale:g}²)")
        return "\n".join(lines)


def form(prior: SdPrior | ShapePrior) -> tuple:
    """What a compiled density depends on: the family and its numbers but for the scale, which is data."""
    own = tuple(getattr(prior, f.name) for f in fields(prior) if f.name != "scale")
    return type(prior).__name__, *own


def logpdf_log(prior: SdPrior, u: np.ndarray) -> np.ndarray:
    """Log density of u = log σ under `prior`: its own density and the Jacobian σ (on "sd") or 2σ² (on "var")."""
    if prior.on == "log":
        return prior.logpdf(u)
    if prior.on == "var":
        return prior.logpdf(np.exp(2 * u)) + 2 * u + math.log(2)
    return prior.logpdf(np.exp(u)) + u


def partial_correlations(Omega: np.ndarray) -> tuple[np.ndarray, dict[tuple[int, int], float]]:
    """(SDs, canonical partial correlations ρ_ij, i > j) of a positive definite Ω (r, r).

    With C = LLᵀ the correlation matrix, L_ij = ρ_ij √Π_{k<j}(1 − ρ_ik²). Raises ModelError for a singular Ω.
    """
    sd = np.sqrt(np.diag(Omega))
    try:
        L = np.linalg.cholesky(Omega / np.outer(sd, sd))
    except np.linalg.LinAlgError:
        raise ModelError("Ω is not positive definite: its correlations have no density there.") from None
    rho = {}
    for i in range(1, len(sd)):
        left = 1.0
        for j in range(i):
            rho[i, j] = float(L[i, j] / math.sqrt(left))
            left *= 1 - rho[i, j] ** 2
    return sd, rho


def _known(scale: float | None) -> float:
    if scale is None:
        raise ModelError("the prior has no scale yet. Pass one, or take it from `vcbench.bayes.defaults(model)`.")
    return scale


def _say(prior: SdPrior) -> str:
    match prior:
        case HalfNormal():
            return f"SD half-normal, scale {prior.scale:.6g}"
        case HalfT():
            return f"SD half-t({prior.df:g}), scale {prior.scale:.6g}"
        case PC():
            return f"SD exponential, P(SD > {prior.scale:.6g}) = {prior.tail:g}"
        case InverseGamma():
            return f"variance inverse-gamma, shape {prior.shape:g}, scale {prior.scale:.6g}"
        case Flat():
            return {"var": "flat on the variance", "sd": "flat on the SD", "log": "flat on the log SD"}[prior.on]


def _say_shape(prior: ShapePrior) -> str:
    match prior:
        case Beta(a=1.0, b=1.0):
            return "uniform on its range"
        case Beta():
            return f"Beta({prior.a:g}, {prior.b:g}) on its range"
        case _:
            return _say(prior).removeprefix("SD ").replace("SD", "value")
