"""The PyMC twin of a model: the same likelihood, with priors, as a plain `pm.Model`.

Random effects are integrated out: into sufficient statistics written out in PyTensor (`reduced`), so that a step of
NUTS costs the same for 30 observations as for 30,000 of the same layout; or, for every other structure, by the model's
own kernel (`by_kernel`). Another response is another set of `pm.Data`. Forms with sampled effects: `sampled`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench import kernels
from vcbench.bayes.build import Numbered, build_model, free_names, safe
from vcbench.bayes.by_kernel import TwinLikelihood, likelihood_of
from vcbench.bayes.closed_form import ClosedForm
from vcbench.bayes.coordinates import Coordinates
from vcbench.bayes.prior_choice import resolve
from vcbench.bayes.priors import FROM_VARIANCE, Beta, Priors
from vcbench.bayes.priors import form as form_of
from vcbench.bayes.reduced import Reduced
from vcbench.bayes.sampled import check_form, effect_shape, effect_values, free_effect, loglik_given, sampled_data
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.model.model import Model

if TYPE_CHECKING:
    import pymc as pm


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Twin:
    """A PyMC model of the same y, θ and (under "ml") β as `source`, ready to be sampled or extended.

    `model` is a plain `pm.Model`. Its free variables are standard deviations (`Subject:sd(Days)`, `residual:sd`; a flat
    prior on another scale names its own), partial correlations ρ as (1 + ρ)/2 (`Subject:partial(Days,(Intercept))`),
    other parameters of a structure on their range scaled to (0, 1) (`residual:unit(rho)`), ranges of a distance decay
    (`residual:range`), and under "ml" the coefficients; its deterministics θ by our names, correlations and β. With
    sampled effects also those: `u(Subject)` (`sampled`). `data` holds its `pm.Data`, `key` all else that a compiled
    twin depends on; `free` the names of the free variables by variance, and by ("shape", name of θ) for all others;
    `said` the priors as they were written. `reduced` answers for the likelihood with effects integrated out, `form`
    says whether they are, `why` the reason.

    A user of PyMC goes on from it:

        twin = vc.bayes.twin(model)
        with twin.model:
            between, within = twin.model["Batch:var((Intercept))"], twin.model["residual:var"]
            share = pm.Deterministic("share", between / (between + within))
            pm.Potential("an earlier trial", pm.logp(pm.Beta.dist(8, 12), share))     # or another likelihood
            draws = pm.sample()
    """

    model: "pm.Model"
    source: Model
    priors: Priors
    criterion: str
    reduced: TwinLikelihood
    data: Mapping[str, np.ndarray]
    key: tuple
    free: Mapping[Any, str] = field(repr=False)
    said: Any = field(repr=False)
    coordinates: Coordinates = field(repr=False)
    form: str = "marginal"
    why: str = ""
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
        if self.form != "marginal":
            return {**sampled_data(other), **_scales(resolve(other, self.said))}
        y = other.y if other.offset is None else other.y - other.offset
        return {**self.reduced.bind(y).data, **_scales(resolve(other, self.said))}

    @property
    def middle(self) -> dict[str, np.ndarray]:
        """Where chains may start, by free variable that is neither an SD nor a coefficient, unconstrained and flat."""
        out = {}
        for c, x in zip(self.coordinates.items, self.coordinates.start, strict=True):
            if c.axis.kind != "sd":
                at = np.log(x) if c.axis.kind == "range" else np.log(x) - np.log1p(-x)
                out[self.free["shape", c.name]] = np.array([at])
        if self.form != "marginal":
            sizes = {c: effect_shape(c) for c in self.source.components}
            out |= {free_effect(c, self.form): np.zeros(np.prod(size)) for c, size in sizes.items()}
        return out

    def anonymous(self) -> tuple["pm.Model", Mapping[str, str]]:
        """The model with numbers for names, and the number of each name: compiled once for all of a structure."""
        numbers = Numbered()
        model = build_model(
            self.source, self.priors, self.criterion, self.reduced, self.data, self.free, numbers, self.form
        )
        return model, numbers

    def loglik(self, theta: Any, beta: Any = None, effects: Any = None) -> float:
        """ℓ_REML(θ), or ℓ_ML(β, θ), by the PyMC graph: its log density (no Jacobians) less the log prior.

        With sampled effects log p(y | u, β, θ), the effects given as in `point`.
        """
        out = self.logp(theta, beta, effects) - self.log_prior(theta, beta)
        return out if self.form == "marginal" else out - self._log_effects(theta, effects)

    def logp(self, theta: Any, beta: Any = None, effects: Any = None) -> float:
        """PyMC's joint log density at θ (β, u), in the scales of the free variables, without their Jacobians."""
        if "logp" not in self.cache:
            from pytensor.compile.mode import Mode

            self.cache["logp"] = self.model.compile_logp(jacobian=False, mode=Mode("py", "fast_compile"))
        return float(self.cache["logp"](self.point(theta, beta, effects)))

    def log_prior(self, theta: Any, beta: Any = None) -> float:
        """The log prior at θ (and β) in the same scales, by our own densities; that of sampled effects is not in it."""
        theta = self._theta(theta)
        priors, total = self.priors, 0.0
        for c, x in zip(self.coordinates.items, self._x(theta), strict=True):
            if c.axis.kind == "sd":
                if priors.split is None:
                    prior = priors.sd[c.name]
                    total += float(prior.logpdf(np.asarray(FROM_VARIANCE[prior.on](x**2))))
            elif c.axis.kind == "partial":
                assert c.axis.lkj is not None
                b = priors.lkj[c.owner].shape(*c.axis.lkj)
                total += float(Beta(b, b).logpdf(np.asarray(x)))
            else:
                total += float(priors.shape[c.name].logpdf(np.asarray(x)))
        if priors.split is not None:
            total += float(priors.split.logpdf_free(self._split_variances(theta)))
        if priors.beta is not None:
            total += priors.beta.logpdf(self._beta(beta))
        return total

    def point(self, theta: Any, beta: Any = None, effects: Any = None) -> dict[str, np.ndarray]:
        """The point of `model` (its value variables, transformed) at natural θ and β.

        effects: with sampled effects, {component: b}, rows of `sampled` of shape `sampled.effect_shape`.
        """
        theta = self._theta(theta)
        values: dict[str, Any] = {}
        for c, x in zip(self.coordinates.items, self._x(theta), strict=True):
            if c.axis.kind != "sd":
                values[self.free["shape", c.name]] = x
            elif self.priors.split is None:
                values[self.free[c.name]] = FROM_VARIANCE[self.priors.sd[c.name].on](x**2)
        if self.priors.split is not None:
            free = self.priors.split.free(self._split_variances(theta))
            own = [self.free["split", name] for name in self.priors.split.free_names]
            values |= dict(zip(own, free.tolist(), strict=True))
        if self.criterion == "ml" and self.source.n_fixed:
            b = self._beta(beta)
            flat = self.priors.beta is None and self.form == "marginal"
            values["gamma" if flat else "beta"] = self.reduced.T @ (b - self.reduced.beta0) if flat else b
        if self.form != "marginal":
            values |= effect_values(self.source, theta, effects, self.form)
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
        what = "β integrated out under a flat prior: ℓ_REML" if self.criterion == "reml" else "β kept: ℓ_ML(β, θ)"
        return "\n".join(
            [
                f"PyMC twin of {self.source.formula or self.source.name or 'the model'}, {what}.",
                self._layout(),
                f"Form {self.form}: {self.why}.",
                "Priors:",
                self.priors.explain(),
                f"Free variables: {', '.join(self.free_names)}.",
            ]
        )

    def _layout(self) -> str:
        r = self.reduced
        if self.form != "marginal":
            sizes = [f"{c.name} {' × '.join(map(str, effect_shape(c)))}" for c in self.source.components]
            return f"Random effects are sampled: {', '.join(sizes)}; n = {self.source.n_obs} observations."
        numbers = sum(a.size for a in self.data.values())
        if isinstance(r, ClosedForm):
            return f"The {r.size}: {numbers:,} numbers stand for n = {r.n_obs} observations."
        if not isinstance(r, Reduced):
            name, reason = kernels.choose(self.source)
            return (
                f"Random effects are integrated out by kernel `{name}` ({reason}), one call an evaluation of ℓ and its "
                f"gradient; n = {r.n_obs} observations."
            )
        if not len(r.S):
            size = "no random effect"
        elif r.small:
            size = f"{int(r.count.sum())} blocks of size {r.m}, {len(r.count)} distinct"
        else:
            size = f"{len(r.count)} dense block(s) of size {r.m}"
        return f"Random effects are integrated out: {size}; {numbers:,} numbers stand for n = {r.n_obs} observations."

    def _x(self, theta: np.ndarray) -> np.ndarray:
        """The coordinates of θ. ModelError naming a variance that is not positive."""
        for c in self.coordinates.items:
            value = theta[self.theta_names.index(c.name)]
            if c.axis.kind == "sd" and not value > 0:
                raise ModelError(f"`{c.name}` is {value:g}; the twin's density is defined for positive variances.")
        return self.coordinates.values(self.source.working.w(theta))

    def _log_effects(self, theta: Any, effects: Any) -> float:
        return loglik_given(self.source, self._theta(theta), effects, self.form)

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


def twin(model: Model, priors: Any = None, criterion: str = "reml", form: str = "auto") -> Twin:
    """The PyMC twin of `model`.

    priors: see `prior_choice.resolve`. criterion: "reml" integrates β analytically under a flat prior, "ml" keeps it
    (flat, or `{"beta": Normal(scale)}`); both have the same posterior of θ under a flat β, and differ in their mode.
    The log density less the log prior is ℓ with all constants: `Twin.loglik`.

    form: "marginal" integrates the random effects out, for every structure; "centred" and "non-centred" sample them,
    and β with them (criterion "ml"), for independent or weighted residuals; "auto" is marginal unless that would
    factorise a dense matrix of more than 1000 rows at every step. `Twin.explain` says which and why.

    Raises MethodError for an unknown criterion or form, ModelError for priors that do not fit, for parameters that no
    data could tell apart, and for sampled effects beside a residual structure.
    """
    if criterion not in ("reml", "ml"):
        raise MethodError(
            f'unknown criterion `{criterion}`. Choose "reml" or "ml".{did_you_mean(criterion, ("reml", "ml"))}'
        )
    form, why = check_form(model, form)
    if form != "marginal":
        criterion = "ml"
    known = resolve(model, priors)
    if known.beta is not None and criterion == "reml":
        raise ModelError(
            'criterion "reml" integrates β under a flat prior. Pass `criterion="ml"` to keep β with a normal one.'
        )
    reduced, coordinates = likelihood_of(model), Coordinates.of(model)
    data = {**(reduced.data if form == "marginal" else sampled_data(model)), **_scales(known)}
    free = free_names(coordinates, known)
    built = build_model(model, known, criterion, reduced, data, free, form=form)
    key = _key(coordinates, known, criterion, reduced, form)
    return Twin(built, model, known, criterion, reduced, data, key, free, priors, coordinates, form, why)


def _scales(priors: Priors) -> dict[str, np.ndarray]:
    """The numbers of the priors that follow the data, as data."""
    families: dict[str, Any] = {**priors.sd, **priors.shape}
    scales = {n: getattr(p, "scale", None) for n, p in families.items()}
    out = {f"scale({safe(n)})": np.asarray(float(scale)) for n, scale in scales.items() if scale is not None}
    if priors.split is not None:
        out |= {"scale(total)": np.asarray(priors.split.total.scale), "sizes": np.array(priors.split.sizes)}
    return out


def _key(coordinates: Coordinates, priors: Priors, criterion: str, reduced: TwinLikelihood, form: str) -> tuple:
    """All that the compiled density depends on beside `pm.Data`; names are not among it."""
    families = tuple(form_of(p) for p in (*priors.sd.values(), *priors.shape.values()))
    if priors.split is not None:
        families += (form_of(priors.split.total), priors.split.sticks)
    own: Any = reduced.form if form == "marginal" else coordinates.model.design
    return criterion, form, coordinates.form, families, tuple(p.eta for p in priors.lkj.values()), priors.beta, own
