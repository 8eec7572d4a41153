"""The PyMC twin of a model: the same likelihood, written by us in PyTensor, with priors.

Random effects are integrated out and the data enter as sufficient statistics (`reduced`), so that a step of NUTS costs
the same for 30 observations as for 30,000 of the same layout, and another response is another set of `pm.Data`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.build import Numbered, build_model, free_names, safe
from vcbench.bayes.prior_choice import resolve
from vcbench.bayes.priors import FROM_VARIANCE, Priors, form, partial_correlations
from vcbench.bayes.reduced import Reduced
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.model.model import Model

if TYPE_CHECKING:
    import pymc as pm


@dataclass(frozen=True, slots=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        return f"Twin({self.source.formula or self.source.name or 'from arrays'}, criterion {self.criterion})"

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

    def anonymous(self) -> tuple["pm.Model", Mapping[str, str]]:
        """The model with numbers for names, and the number of each name: compiled once for all of a structure."""
        numbers = Numbered()
        model = build_model(self.source, self.priors, self.criterion, self.reduced, self.data, self.free, numbers)
        return model, numbers

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
        if self.priors.split is not None:
            total += float(self.priors.split.logpdf_free(self._split_variances(theta)))
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
        if self.priors.split is not None:
            free = self.priors.split.free(self._split_variances(theta))
            own = [self.free["split", name] for name in self.priors.split.free_names]
            values |= dict(zip(own, free.tolist(), strict=True))
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

    def _split_variances(self, theta: np.ndarray) -> np.ndarray:
        """The variances that a split of the total is of. ModelError where one is not positive."""
        assert self.priors.split is not None
        out = np.array([theta[self.theta_names.index(name)] for name in self.priors.split.names])
        if not (out > 0).all():
            raise ModelError(f"a variance is {out.min():g}; the twin's density is defined for positive variances.")
        return out

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
    free = free_names(model, known)
    built = build_model(model, known, criterion, reduced, data, free)
    return Twin(built, model, known, criterion, reduced, data, _key(model, known, criterion, reduced), free, priors)


def _data(reduced: Reduced, priors: Priors) -> dict[str, np.ndarray]:
    scales = {f"scale({safe(n)})": np.asarray(float(p.scale)) for n, p in priors.sd.items() if p.scale is not None}
    if priors.split is not None:
        scales |= {"scale(total)": np.asarray(priors.split.total.scale), "sizes": np.array(priors.split.sizes)}
    return {**reduced.data, **scales}


def _key(model: Model, priors: Priors, criterion: str, reduced: Reduced) -> tuple:
    """All that the compiled density depends on beside `pm.Data`; names are not among it."""
    families = tuple(form(p) for p in (*priors.sd.values(), *priors.shape.values()))
    if priors.split is not None:
        families += (form(priors.split.total), priors.split.sticks)
    partitions = tuple(c.partition for c in model.components)
    pattern = tuple(map(tuple, reduced.S.any(axis=-1))) if reduced.small else (len(reduced.S), len(reduced.count) == 1)
    shape = reduced.m, reduced.small, reduced.n_fixed, pattern
    return criterion, partitions, families, tuple(p.eta for p in priors.lkj.values()), priors.beta, shape
