"""One pair of phenotypes: variances and covariances, correlations, their standard errors, limits and tests, in
words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench import numbers as num
from vcbench.errors import MethodError
from vcbench.genetics.traits import Test
from vcbench.status import Status

THETA = ("G11", "G21", "G22", "E11", "E21", "E22")


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """θ = (G_11, G_21, G_22, E_11, E_21, E_22): Cov(g_s, g_t) = G_st K, Cov(e_s, e_t) = E_st I.

    ρ_g = G_21/√(G_11G_22), ρ_e = E_21/√(E_11E_22), h²_t = k G_tt/(k G_tt + E_tt), k the size of K (`shares`). They do
    not exist where a variance is not positive: NaN, and `explanation` says why. Beyond ±1 they are reported raw.

    n: samples with both phenotypes; n_first, n_second: with each, where all of them were used. covariances of θ̂ by
    definition. limits: of ρ_g by profile likelihood. zero, one: tests of ρ_g = 0 and of |ρ_g| = 1. jackknife: standard
    errors over SNP blocks by quantity.
    """

    first: str
    second: str
    n: int
    n_first: int
    n_second: int
    theta: np.ndarray
    size: float
    covariances: Mapping[str, np.ndarray] = field(repr=False)
    definition: str
    level: float
    status: Status
    message: str
    loglik: float
    limits: tuple[float, float] | None = None
    zero: Test | None = None
    one: Test | None = None
    jackknife: Mapping[str, float] | None = None
    n_iter: int = 0
    seconds: float = math.nan
    decomposition: str = ""

    def quantities(self) -> dict[str, tuple[float, np.ndarray]]:
        """Value and gradient (6,) of ρ_g, ρ_e, h² of both, θ itself; NaN for what does not exist."""
        t, k = self.theta, self.size
        out = {name: (float(t[j]), np.eye(6)[j]) for j, name in enumerate(THETA)}
        out["rho_g"] = _correlation(t, 0)
        out["rho_e"] = _correlation(t, 3)
        for name, g, e in (("h2_first", 0, 3), ("h2_second", 2, 5)):
            total = k * t[g] + t[e]
            slope = np.zeros(6)
            slope[g], slope[e] = k * t[e] / total**2, -k * t[g] / total**2
            out[name] = float(k * t[g] / total), slope
        return out

    def value(self, quantity: str) -> float:
        """ρ_g ("rho_g"), ρ_e, "h2_first", "h2_second", or an entry of θ ("G21")."""
        return self.quantities()[quantity][0]

    @property
    def rho_g(self) -> float:
        """The genetic correlation."""
        return self.value("rho_g")

    @property
    def rho_e(self) -> float:
        """The residual correlation."""
        return self.value("rho_e")

    def se(self, quantity: str, definition: str | None = None) -> float:
        """Its standard error by a definition of `covariances`, or "jackknife"; NaN where there is none."""
        definition = definition or self.definition
        if definition == "jackknife" and self.jackknife is not None:
            return self.jackknife.get(quantity, math.nan)
        if definition not in self.covariances:
            raise MethodError(
                f"standard errors by `{definition}` are not there. Choose from {', '.join(self.covariances)}"
                f"{', jackknife' if self.jackknife is not None else ''}."
            )
        value, g = self.quantities()[quantity]
        variance = float(g @ self.covariances[definition] @ g)
        if not math.isfinite(value) or not math.isfinite(variance) or np.abs(g).max() == 0:
            return math.nan
        at_edge = self.status is Status.AT_BOUNDARY and quantity == "rho_g"
        return math.nan if at_edge else math.sqrt(max(variance, 0.0))

    def interval(self, quantity: str) -> tuple[float, float]:
        """Limits: profile likelihood for ρ_g where it was asked for, else estimate ± z·se."""
        if quantity == "rho_g" and self.limits is not None:
            return self.limits
        from scipy.special import ndtri

        half = float(ndtri(0.5 + 0.5 * self.level)) * self.se(quantity)
        return self.value(quantity) - half, self.value(quantity) + half

    @property
    def explanation(self) -> str:
        """Why ρ_g does not exist, is beyond ±1 or on the boundary; "" where none of these holds."""
        names = {0: f"V(G) of {self.first}", 2: f"V(G) of {self.second}", 3: f"V(e) of {self.first}",
                 5: f"V(e) of {self.second}"}  # fmt: skip
        bad = [f"{name} is {num.significant(self.theta[j], 2)}" for j, name in names.items() if self.theta[j] <= 0]
        by_moments = "sandwich" in self.covariances
        parts = []
        if bad:
            which = [w for w, js in (("genetic", (0, 2)), ("residual", (3, 5))) if any(self.theta[j] <= 0 for j in js)]
            what = f"no {num.listing(which)} correlation exists"
            parts.append(
                f"{num.listing(bad)}: {what}. "
                + (
                    "Moment estimates of variances may be negative when they are small; more samples, or "
                    'method="reml", which holds them at 0 or above.'
                    if by_moments
                    else "The likelihood has its maximum there, on the edge of the parameter space."
                )
            )
        for what, value in (("genetic", self.rho_g), ("residual", self.rho_e)):
            if abs(value) > 1 and by_moments:
                parts.append(
                    f"The {what} correlation is {num.fixed(value, 3)}: moment estimates are not held to [−1, 1], and "
                    f"it is reported raw. Its standard error is "
                    f"{num.significant(self.se('rho_g' if what == 'genetic' else 'rho_e'), 2)}."
                )
        if self.message and by_moments:
            parts.append(f"{self.message[:1].upper()}{self.message[1:]}.")
        if self.status is Status.AT_BOUNDARY and not bad:
            lower, upper = self.interval("rho_g")
            parts.append(
                f"At the maximum {self.message}: a valid answer on the edge of the parameter space"
                + (f"; the data are compatible with {num.interval(lower, upper)}." if math.isfinite(lower) else ".")
            )
        return " ".join(parts)

    def row(self) -> dict[str, Any]:
        """The pair as a flat record."""
        out: dict[str, Any] = {"first": self.first, "second": self.second, "n": self.n}
        for name in ("rho_g", "rho_e"):
            lower, upper = self.interval(name)
            out |= {name: self.value(name), f"{name}_se": self.se(name), f"{name}_lower": lower, f"{name}_upper": upper}
        for name in ("h2_first", "h2_second", *THETA):
            out |= {name: self.value(name), f"{name}_se": self.se(name)}
        for name, test in (("zero", self.zero), ("one", self.one)):
            out |= {f"lrt_{name}": math.nan if test is None else test.statistic}
            out |= {f"p_{name}": math.nan if test is None else test.p}
        if self.jackknife is not None:
            out |= {f"{name}_jackknife_se": self.jackknife.get(name, math.nan) for name in ("rho_g", "rho_e")}
        out |= {"n_first": self.n_first, "n_second": self.n_second, "loglik": self.loglik}
        out |= {"status": str(self.status), "message": self.explanation or self.message, "se": self.definition}
        return out | {"n_iter": self.n_iter, "seconds": self.seconds, "decomposition": self.decomposition}


def _correlation(t: np.ndarray, at: int) -> tuple[float, np.ndarray]:
    """t_21/√(t_11 t_22) and its gradient, of the three entries from `at` on."""
    a, c, b = t[at : at + 3]
    g = np.zeros(6)
    if not (a > 0 and b > 0):
        return math.nan, g
    rho = float(c / np.sqrt(a * b))
    g[at : at + 3] = -rho / (2 * a), 1.0 / np.sqrt(a * b), -rho / (2 * b)
    return rho, g
