"""The heritability of one phenotype: variances, their shares of the total, standard errors by name, intervals, the
test.

Of the components V(G_k) of K_k and V(e), each K_k of size k_k (1, or tr(CK_kC)/n: see `shares`),

    Vp = Σ_k k_k V(G_k) + V(e)        h²_k = k_k V(G_k)/Vp        h² = Σ_k h²_k

and standard errors are √(gᵀ Cov g), g the gradient of the quantity. Cov is an inverse information, by name: "average"
(GCTA's, GEMMA's -vc 2), "observed" (the curvature of ℓ itself; GEMMA's se(pve) under -lmm), "expected" (Fisher's); of
moment estimates the "sandwich" S⁻¹ΣS⁻¹, or the "jackknife" over SNPs; of a posterior its own covariance, "posterior".
Of the scaled lasso "sparse", its limit where signals are few, for V(e) alone.
Where traces are by random probes "monte-carlo" is what other probes would change: an error of its own, in no other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vcbench.errors import MethodError
from vcbench.genetics.liability import Liability
from vcbench.status import Status

FULL = 1e-7  # of Vp: V(e) below it is 0 (the solvers stop short of a V that may be singular)


def inner(component: str) -> str:
    """`G1` of `V(G1)`."""
    return component.removeprefix("V(").removesuffix(")")


@dataclass(frozen=True, slots=True)
class Test:
    """The likelihood ratio of V(G) = 0: 2(ℓ − ℓ_0), its p-value and the null distribution in words."""

    statistic: float
    p: float
    distribution: str
    df: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Trait:
    """One phenotype's answer.

    rows: positions of the samples used. theta (m + 1,): V(G_1) … V(G_m), V(e); sizes k (m,). covariances by name.
    limits: profile intervals by quantity. expected_se: of h² at h² = 0, what n samples of this K can tell at best.
    slope: dℓ/dh² at h² = 0. moments: θ̂ by moments, where V(G) ended at 0. unconstrained: the inverse average
    information of all parameters, on the boundary too (what GCTA prints).
    """

    name: str
    components: tuple[str, ...]
    rows: np.ndarray = field(repr=False)
    n_fixed: int
    theta: np.ndarray
    sizes: np.ndarray
    covariances: Mapping[str, np.ndarray] = field(repr=False)
    definition: str
    limits: Mapping[str, tuple[float, float]]
    level: float
    loglik: float
    loglik0: float
    test: Test | None
    beta: Mapping[str, float]
    beta_se: Mapping[str, float]
    method: str
    criterion: str
    status: Status
    message: str
    n_iter: int
    seconds: float
    decomposition: str
    expected_se: float
    slope: float = float("nan")
    moments: np.ndarray | None = None
    liability: Liability | None = None
    unconstrained: np.ndarray | None = field(default=None, repr=False)
    trace_rows: np.ndarray | None = field(default=None, repr=False)
    profile_rows: np.ndarray | None = field(default=None, repr=False)  # (m, 2): h², ℓ at its best there

    @property
    def n(self) -> int:
        """Samples used."""
        return len(self.rows)

    @property
    def is_moments(self) -> bool:
        """True for estimates by moments, which no boundary holds."""
        return not {"sandwich", "jackknife", "sparse"}.isdisjoint(self.covariances)

    @property
    def Vp(self) -> float:
        """The total variance."""
        return float(self.sizes @ self.theta[:-1] + self.theta[-1])

    @property
    def h2(self) -> float:
        """h², over all components together."""
        return float(self.sizes @ self.theta[:-1]) / self.Vp

    @property
    def h2_parts(self) -> np.ndarray:
        """h²_k (m,)."""
        return self.sizes * self.theta[:-1] / self.Vp

    @property
    def at_zero(self) -> bool:
        """True where every V(G) is 0."""
        return not self.is_moments and bool((self.theta[:-1] <= 0).all())

    @property
    def at_one(self) -> bool:
        """True where V(e) is 0, up to where the solvers stop."""
        return not self.is_moments and bool(self.theta[-1] <= FULL * self.Vp)

    def quantities(self) -> dict[str, tuple[float, np.ndarray]]:
        """Estimate and gradient (m + 1,) of every quantity reported: variances, Vp, shares, their sum."""
        m = len(self.sizes)
        unit, T = np.eye(m + 1), self.Vp
        total = np.append(self.sizes, 1.0)
        out: dict[str, tuple[float, np.ndarray]] = {}
        for j, name in enumerate([*self.components, "V(e)"]):
            out[name] = float(self.theta[j]), unit[j]
        out["Vp"] = T, total
        parts = []
        for j, name in enumerate(self.components):
            share = float(self.sizes[j] * self.theta[j] / T)
            parts.append(((share, (self.sizes[j] * unit[j] - share * total) / T), name))
        for part, name in parts:
            out["h2" if m == 1 else f"h2:{inner(name)}"] = part
        if m > 1:
            out["h2"] = self.h2, sum((part[1] for part, _ in parts), np.zeros(m + 1))
        return out

    def covariance(self, definition: str | None = None) -> np.ndarray:
        """Cov(θ̂) (m + 1, m + 1) by that definition, NaN for what lies on the boundary. MethodError for an unknown
        one."""
        definition = definition or self.definition
        if definition not in self.covariances:
            raise MethodError(
                f"standard errors of phenotype `{self.name}` by `{definition}` are not defined for method "
                f"`{self.method}`. Choose from {', '.join(self.covariances)}."
            )
        return self.covariances[definition]

    def se(self, quantity: str, definition: str | None = None) -> float:
        """The standard error of a quantity by name: on the face of the parameter space where the estimate lies (what
        is held there has NaN in Cov), NaN for a quantity that has one value there, and for one of a variance whose own
        is unknown (infinite)."""
        _, g = self.quantities()[quantity]
        cov = self.covariance(definition)
        free, unknown = np.isfinite(np.diag(cov)), np.isinf(np.diag(cov))
        if g[unknown].any() or not np.abs(g[free]).max(initial=0.0) > 1e-12 * max(np.abs(g).max(), 1e-300):
            return float("nan")
        g = g[free]
        return float(np.sqrt(max(g @ cov[np.ix_(free, free)] @ g, 0.0)))

    def interval(self, quantity: str) -> tuple[float, float]:
        """Limits of a quantity: profile likelihood where there is one, else estimate ± z·se."""
        if quantity in self.limits:
            return self.limits[quantity]
        from scipy.special import ndtri

        value, se = self.quantities()[quantity][0], self.se(quantity)
        z = float(ndtri(0.5 + 0.5 * self.level))
        return value - z * se, value + z * se
