"""The PyMC twin of a model: the same likelihood, written by us in PyTensor, with priors.

Random effects are integrated out and the data enter as sufficient statistics (`reduced`), so that a step of NUTS costs
the same for 30 observations as for 30,000 of the same layout, and another response is another set of `pm.Data`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.graph import loglik_graph
from vcbench.bayes.prior_choice import prior_scales, resolve
from vcbench.bayes.priors import FROM_VARIANCE, Priors, partial_correlations
from vcbench.bayes.reduced import Reduced
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.model.component import Component
from vcbench.model.model import Model

if TYPE_CHECKING:
    import pymc as pm


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """A PyMC model of the same y, θ and (under "ml") β as `source`, ready to be sampled or extended.

    `model` is a plain `pm.Model`. Its free variables are standard deviations (`Subject:sd(Days)`, `residual:sd`; a flat
    prior on another scale names its own), partial correlations ρ as (1 + ρ)/2 (`Subject:partial(Days,(Intercept))`),
    and under "ml" the coefficients; its deterministics θ by our names, correlations and β. `data` holds its `pm.Data`,
    `key` all else that a compiled twin depends on; `free` the names of the free variables by variance, and by
    (component, effect, effect given) for partial correlations; `said` the priors as they were written.
    """

    model: "pm.Model"
    source: Model
    priors: Priors
    criterion: str
    reduced: Reduced
    data: Mapping[str, np.ndarray]
    key: tuple
    free: Mapping[Any, str] = field(repr=False)
    said: Any = field(repr=False)
    cache: dict = field(default_factory=dict, repr=False)

    @property
    def theta_names(self) -> tuple[str, ...]:
        """θ by our names, residual last."""
        return self.source.theta_names

    @property
    def free_names(self) -> tuple[str, ...]:
        """The free random variables of `model`."""
        return tuple(v.name for v in self.model.free_RVs)

    def data_of(self, y: Any) -> dict[str, np.ndarray]:
        """The `pm.Data` of another response (n,): what a compiled twin is given instead of its own.

        Prior scales that follow sd(y) follow the new one.
        """
        other = self.source.replace(y=y)
        y = other.y if other.offset is None else other.y - other.offset
        return _data(self.reduced.bind(y), resolve(other, self.said))

    def loglik(self, theta: Any, beta: Any = None) -> float:
        """ℓ_REML(θ), or ℓ_ML(β, θ), by the PyMC graph: its log density (no Jacobians) less the log prior."""
        return self.logp(theta, beta) - self.log_prior(theta, beta)

    def logp(self, theta: Any, beta: Any = None) -> float:
        """PyMC's joint log density at θ (and β), in the scales of the free variables, without their Jacobians."""
        if "logp" not in self.cache:
            from pytensor.compile.mode import Mode

            self.cache["logp"] = self.model.compile_logp(jacobian=False, mode=Mode("py", "fast_compile"))
        return float(self.cache["logp"](self.point(theta, beta)))

    def log_prior(self, theta: Any, beta: Any = None) -> float:
        """The log prior at θ (and β) in the same scales, by our own densities."""
        theta = self._theta(theta)
        total = 0.0
        for name, prior in self.priors.sd.items():
            variance = theta[self.theta_names.index(name)]
            total += float(prior.logpdf(np.asarray(FROM_VARIANCE[prior.on](variance))))
        for c, Omega in zip(self.source.components, self.source.Omegas(theta), strict=True):
            for block in c.partition:
                if len(block) > 1:
                    _, rho = partial_correlations(Omega[np.ix_(block, block)])
                    total += self.priors.lkj[c.name].logpdf(rho, len(block))
        if self.priors.beta is not None:
            total += self.priors.beta.logpdf(self._beta(beta))
        return total

    def point(self, theta: Any, beta: Any = None) -> dict[str, np.ndarray]:
        """The point of `model` (its value variables, transformed) at natural θ and β."""
        theta = self._theta(theta)
        values: dict[str, float | np.ndarray] = {}
        for name, prior in self.priors.sd.items():
            variance = theta[self.theta_names.index(name)]
            if variance <= 0:
                raise ModelError(f"`{name}` is {variance:g}; the twin's density is defined for positive variances.")
            values[self.free[name]] = FROM_VARIANCE[prior.on](variance)
        for c, Omega in zip(self.source.components, self.source.Omegas(theta), strict=True):
            for block in c.partition:
                if len(block) > 1:
                    _, rho = partial_correlations(Omega[np.ix_(block, block)])
                    for (i, j), r in rho.items():
                        values[self.free[c.name, block[i], block[j]]] = 0.5 * (1 + r)
        if self.criterion == "ml" and self.source.n_fixed:
            b = self._beta(beta)
            values["beta" if self.priors.beta is not None else "gamma"] = (
                b if self.priors.beta is not None else self.reduced.T @ (b - self.reduced.beta0)
            )
        out = {}
        for rv in self.model.free_RVs:
            value = self.model.rvs_to_values[rv]
            x = np.asarray(values[rv.name], float)
            if value.name.endswith("_log__"):
                x = np.log(x)
            elif value.name.endswith(("_logodds__", "_interval__")):
                x = np.log(x) - np.log1p(-x)
            out[value.name] = x
        return out

    def explain(self) -> str:
        """What the twin is, in words: layout, priors, size of the data it carries."""
        r = self.reduced
        what = "β integrated out under a flat prior: ℓ_REML" if self.criterion == "reml" else "β kept: ℓ_ML(β, θ)"
        if not len(r.S):
            size = "no random effect"
        elif r.small:
            size = f"{int(r.count.sum())} blocks of size {r.m}, {len(r.count)} distinct"
        else:
            size = f"{len(r.count)} dense block(s) of size {r.m}"
        numbers = sum(a.size for a in self.data.values())
        return "\n".join(
            [
                f"PyMC twin of {self.source.formula or self.source.name or 'the model'}, {what}.",
                f"Random effects are integrated out: {size}; {numbers:,} numbers stand for n = {r.n_obs} observations.",
                "Priors:",
                self.priors.explain(),
                f"Free variables: {', '.join(self.free_names)}.",
            ]
        )

    def _theta(self, theta: Any) -> np.ndarray:
        if isinstance(theta, Mapping):
            missing = [n for n in self.theta_names if n not in theta]
            if missing:
                raise ModelError(f"`theta` lacks `{missing[0]}`. It needs {', '.join(self.theta_names)}.")
            theta = [theta[n] for n in self.theta_names]
        theta = np.asarray(theta, float)
        if theta.shape != (len(self.theta_names),):
            raise ModelError(f"`theta` has shape {theta.shape}; it must hold {', '.join(self.theta_names)}.")
        return theta

    def _beta(self, beta: Any) -> np.ndarray:
        if beta is None:
            raise ModelError('this twin keeps β (criterion "ml"): pass `beta`.')
        beta = np.asarray(beta, float)
        if beta.shape != (self.source.n_fixed,):
            raise ModelError(f"`beta` has shape {beta.shape}; it must be ({self.source.n_fixed},).")
        return beta


def twin(model: Model, priors: Any = None, criterion: str = "reml") -> Twin:
    """The PyMC twin of `model`.

    priors: see `prior_choice.resolve`. criterion: "reml" integrates β analytically under a flat prior, "ml" keeps it
    (flat, or `{"beta": Normal(scale)}`); both have the same posterior of θ under a flat β, and differ in their mode.
    The log density less the log prior is ℓ with all constants: `Twin.loglik`.

    Raises MethodError for an unknown criterion, ModelError for priors that do not fit and for a model whose likelihood
    would need a dense factor of more than 500 rows at every step.
    """
    if criterion not in ("reml", "ml"):
        raise MethodError(
            f'unknown criterion `{criterion}`. Choose "reml" or "ml".{did_you_mean(criterion, ("reml", "ml"))}'
        )
    known = resolve(model, priors)
    if known.beta is not None and criterion == "reml":
        raise ModelError(
            'criterion "reml" integrates β under a flat prior. Pass `criterion="ml"` to keep β with a normal one.'
        )
    reduced = Reduced.of(model)
    data = _data(reduced, known)
    free = _free_names(model, known)
    built = _build(model, known, criterion, reduced, data, free)
    return Twin(built, model, known, criterion, reduced, data, _key(model, known, criterion, reduced), free, priors)


def _data(reduced: Reduced, priors: Priors) -> dict[str, np.ndarray]:
    scales = {f"scale({n})": np.asarray(float(p.scale)) for n, p in priors.sd.items() if p.scale is not None}
    return {**reduced.data, **scales}


def _key(model: Model, priors: Priors, criterion: str, reduced: Reduced) -> tuple:
    """All that the compiled density depends on beside `pm.Data`."""
    families = tuple(
        (n, type(p).__name__, p.on, getattr(p, "df", None), getattr(p, "tail", None)) for n, p in priors.sd.items()
    )
    partitions = tuple(c.partition for c in model.components)
    shape = (reduced.m, reduced.small, reduced.S.shape[1:], reduced.cross.shape)
    lkj = tuple((n, p.eta) for n, p in priors.lkj.items())
    return criterion, model.theta_names, model.X_names, partitions, families, lkj, priors.beta, shape


def _free_names(model: Model, priors: Priors) -> dict[Any, str]:
    """PyMC names of the free variables."""
    out: dict[Any, str] = {}
    for name, prior in priors.sd.items():
        head, _, tail = name.rpartition(":var")
        out[name] = safe(f"{head}:{ {'sd': 'sd', 'var': 'var', 'log': 'log_sd'}[prior.on] }{tail}")
    for c in model.components:
        for block in c.partition:
            for i in range(1, len(block)):
                for j in range(i):
                    a, b = block[i], block[j]
                    out[c.name, a, b] = safe(f"{c.name}:partial({c.effects[a]},{c.effects[b]})")
    return out


def safe(name: str) -> str:
    """A parameter's name in PyMC and ArviZ, which keep `/` for groups."""
    return name.replace("/", "÷")


def _build(
    model: Model,
    priors: Priors,
    criterion: str,
    reduced: Reduced,
    data: Mapping[str, np.ndarray],
    free: Mapping[Any, str],
) -> "pm.Model":
    """The pm.Model: priors, θ as deterministics, ℓ as a potential."""
    import pymc as pm

    units = prior_scales(model)
    with pm.Model(coords={"fixed": list(model.X_names)}) as out:  # type: ignore[arg-type]
        unused = {"T", "T_inverse", "beta_ols"} if criterion == "reml" else {"logdet_xx"}
        unused |= {"T_inverse"} if priors.beta is not None else {"T"}
        d = {name: pm.Data(name, value) for name, value in data.items() if name not in unused}
        sd = {}
        for name, prior in priors.sd.items():
            start = FROM_VARIANCE[prior.on]((0.5 * units[name]) ** 2)
            x = prior.variable(free[name], d.get(f"scale({name})"), start)
            sd[name] = {"sd": x, "var": pm.math.sqrt(x), "log": pm.math.exp(x)}[prior.on]
        theta: list[Any] = []
        for c in model.components:
            theta += _omega(c, priors, sd, free)
        theta.append(sd[model.theta_names[-1]] ** 2)
        for name, value in zip(model.theta_names, theta, strict=True):
            if safe(name) not in free.values():
                pm.Deterministic(safe(name), value)
        gamma = _coefficients(model, priors, criterion, d)
        pm.Potential("loglik", loglik_graph(reduced, d, theta, criterion, gamma))
    return out


def _omega(c: Component, priors: Priors, sd: Mapping[str, Any], free: Mapping[Any, str]) -> list[Any]:
    """The parameters of Ω in the order of θ, from SDs and partial correlations."""
    import pymc as pm

    own = {a: sd[name] for name, (a, b) in zip(c.theta_names, c.index, strict=True) if a == b}
    L: dict[tuple[int, int], Any] = {}
    for block in c.partition:
        for i, a in enumerate(block):
            left: Any = 1.0
            for j, b in enumerate(block[:i]):
                shape = priors.lkj[c.name].shape(len(block), j)
                rho = 2 * pm.Beta(free[c.name, a, b], shape, shape) - 1
                L[a, b] = own[a] * rho * pm.math.sqrt(left)
                left = left * (1 - rho**2)
            L[a, a] = own[a] * pm.math.sqrt(left) if i else own[a]
    out = []
    for a, b in c.index:
        block = next(block for block in c.partition if a in block)
        if a == b:
            out.append(own[a] ** 2)
            continue
        out.append(sum(L[a, e] * L[b, e] for e in block[: min(block.index(a), block.index(b)) + 1]))
        low, high = sorted((a, b))
        pm.Deterministic(safe(f"{c.name}:cor({c.effects[low]},{c.effects[high]})"), out[-1] / (own[a] * own[b]))
    return out


def _coefficients(model: Model, priors: Priors, criterion: str, d: Mapping[str, Any]) -> list[Any] | None:
    """γ = T(β − β_OLS) element by element under "ml", where β (or γ, if β is flat) is a free variable."""
    import pymc as pm

    if criterion == "reml":
        return None
    if not model.n_fixed:
        return []
    if priors.beta is not None:
        beta = pm.Normal("beta", priors.beta.mean, priors.beta.scale, dims="fixed")
        gamma = d["T"] @ (beta - d["beta_ols"])
    else:
        gamma = pm.Flat("gamma", dims="fixed", initval=np.zeros(model.n_fixed))
        pm.Deterministic("beta", d["beta_ols"] + d["T_inverse"] @ gamma, dims="fixed")
    return [gamma[j] for j in range(model.n_fixed)]
