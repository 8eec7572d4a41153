"""The pm.Model of a twin: priors on the free variables, θ as deterministics, the likelihood as a potential."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.by_kernel import ByKernel, TwinLikelihood
from vcbench.bayes.closed_form import ClosedForm
from vcbench.bayes.coordinates import Coordinate, Coordinates
from vcbench.bayes.graph import eliminate, loglik_graph
from vcbench.bayes.prior_choice import prior_scales
from vcbench.bayes.priors import FROM_VARIANCE, Beta, Priors
from vcbench.bayes.reduced import Reduced
from vcbench.model.model import Model

if TYPE_CHECKING:
    import pymc as pm


class Numbered(dict[str, str]):
    """Names by number, given out as they are asked for: two models of one structure get the same."""

    KEPT = frozenset({"gamma", "beta", "loglik", "response"})

    def __call__(self, name: str) -> str:
        return self.setdefault(name, name if name in self.KEPT else f"v{len(self)}")


def free_names(coordinates: Coordinates, priors: Priors) -> dict[Any, str]:
    """PyMC names of the free variables: by variance (str), and of all others by ("shape", name of θ), ("split", …)."""
    out: dict[Any, str] = {}
    for name, prior in priors.sd.items():
        head, var, tail = name.rpartition(":var")
        if not var:
            head, own = name.split(":", 1)
            tail = f"({own})"
        out[name] = safe(f"{head}:{ {'sd': 'sd', 'var': 'var', 'log': 'log_sd'}[prior.on] }{tail}")
    if priors.split is not None:
        out |= {("split", name): safe(name) for name in priors.split.free_names}
    return out | {("shape", c.name): safe(c.free_name) for c in coordinates.items if c.axis.kind != "sd"}


def safe(name: str) -> str:
    """A parameter's name in PyMC and ArviZ, which keep `/` for groups: written ÷."""
    return name.replace("/", "÷")


def build_model(
    model: Model,
    priors: Priors,
    criterion: str,
    likelihood: TwinLikelihood,
    data: Mapping[str, np.ndarray],
    free: Mapping[Any, str],
    label: Callable[[str], str] = str,
    form: str = "marginal",
) -> "pm.Model":
    """The pm.Model: priors, θ as deterministics, ℓ as a potential, or, with sampled effects, as the density of y.

    label renames every parameter.
    """
    import pymc as pm

    # a built model has names, which its annotation does not say
    fixed = list(model.X_names) if label is str else list(range(model.n_fixed))  # type: ignore[arg-type]
    with pm.Model(coords={"fixed": fixed}) as out:
        unused = {"T", "T_inverse", "beta_ols"} if criterion == "reml" else {"logdet_xx"}
        unused |= {"T_inverse"} if priors.beta is not None else {"T"}
        d = {name: pm.Data(label(name), value) for name, value in data.items() if name not in unused}
        coordinates = Coordinates.of(model)
        w = _variables(coordinates, priors, d, free, label)
        if form != "marginal":
            from vcbench.bayes.sampled import declare_response

            declare_response(model, w, d, priors, form, label)
            return out
        gamma = _coefficients(model, priors, criterion, d)
        pm.Potential("loglik", _loglik(likelihood, criterion, d, w, gamma))
    return out


def _variables(
    coordinates: Coordinates,
    priors: Priors,
    d: Mapping[str, Any],
    free: Mapping[Any, str],
    label: Callable[[str], str],
) -> list[Any]:
    """w from the free variables, which are declared here, and θ as deterministics."""
    import pymc as pm
    import pytensor.tensor as pt

    model = coordinates.model
    units, start = prior_scales(model), coordinates.start
    sd = {}
    for name, prior in priors.sd.items():
        at = FROM_VARIANCE[prior.on]((0.5 * units[name]) ** 2)
        x = prior.variable(label(free[name]), d.get(f"scale({safe(name)})"), at)
        sd[name] = {"sd": x, "var": pm.math.sqrt(x), "log": pm.math.exp(x)}[prior.on]
    if priors.split is not None:
        parts = priors.split.variables(lambda name: label(safe(name)), d["scale(total)"], d["sizes"])
        sd = {name: pm.math.sqrt(variance) for name, variance in parts.items()}
    values: list[Any] = [
        sd[c.name] if c.axis.kind == "sd" else _shape(c, priors, d, label(free["shape", c.name]), at)
        for c, at in zip(coordinates.items, start, strict=True)
    ]
    w = coordinates.w(values, pt)
    natural: Any = None
    for j, (c, value) in enumerate(zip(coordinates.items, values, strict=True)):
        if safe(c.name) in free.values():
            continue
        if c.axis.kind != "sd" and not c.is_entry and natural is None:
            from vcbench.bayes.op import NaturalTheta

            natural = NaturalTheta(model.working)(pt.stack(w))[0]  # type: ignore[index]
        theta = value**2 if c.axis.kind == "sd" else w[_place(coordinates, j)] if c.is_entry else natural[j]
        pm.Deterministic(label(safe(c.name)), theta)
    _correlations(coordinates, w, values, label)
    return w


def _shape(c: Coordinate, priors: Priors, d: Mapping[str, Any], name: str, start: float) -> Any:
    """The free variable of a coordinate that is no standard deviation."""
    if c.axis.kind == "partial":
        assert c.axis.lkj is not None
        b = priors.lkj[c.owner].shape(*c.axis.lkj)
        return Beta(b, b).variable(name, start)
    prior = priors.shape[c.name]
    if isinstance(prior, Beta):
        return prior.variable(name, start)
    return prior.variable(name, d[f"scale({safe(c.name)})"], start)


def _place(coordinates: Coordinates, j: int) -> int:
    """Where an entry of an unstructured Ω sits in w."""
    at = 0
    for part in coordinates.model.working.parts:
        if at <= j < at + len(part.names):
            return int(part.linear[j - at])
        at += len(part.names)
    raise AssertionError("a coordinate of no component")


def _correlations(coordinates: Coordinates, w: Sequence[Any], x: Sequence[Any], label: Callable[[str], str]) -> None:
    """Correlations of unstructured Ω as deterministics."""
    import pymc as pm

    at = 0
    for c, part in zip(coordinates.model.components, coordinates.model.working.parts, strict=True):
        own = x[at : at + len(part.names)]
        at += len(part.names)
        if not part.names or part.family is not None:
            continue
        sd = {a: s for (a, b), s in zip(c.index, own, strict=True) if a == b}
        for (a, b), place in zip(c.index, part.linear, strict=True):
            if a != b:
                low, high = sorted((a, b))
                name = safe(f"{c.name}:cor({c.effects[low]},{c.effects[high]})")
                pm.Deterministic(label(name), w[int(place)] / (sd[a] * sd[b]))


def _loglik(
    likelihood: TwinLikelihood, criterion: str, d: Mapping[str, Any], w: list[Any], gamma: list[Any] | None
) -> Any:
    import pytensor.tensor as pt

    if isinstance(likelihood, Reduced):
        return loglik_graph(likelihood, d, w, criterion, gamma)
    if isinstance(likelihood, ClosedForm):
        logdet, g = likelihood.parts(w, d, pt)
        return eliminate(logdet, g, d, likelihood.n_fixed, criterion, gamma)
    assert isinstance(likelihood, ByKernel)
    from vcbench.bayes.op import KernelLoglik

    own = pt.stack(gamma) if gamma else np.zeros(likelihood.n_fixed)
    return KernelLoglik(likelihood, criterion)(pt.stack(w), own, d["y"])[0]  # type: ignore[index]


def _coefficients(model: Model, priors: Priors, criterion: str, d: Mapping[str, Any]) -> list[Any] | None:
    """γ = T(β − β_OLS) element by element under "ml", where β (or γ, if β is flat) is a free variable."""
    import pymc as pm

    if criterion == "reml":
        return None
    if not model.n_fixed:
        return []
    if priors.beta is not None:
        beta = pm.Normal("beta", np.float64(priors.beta.mean), np.float64(priors.beta.scale), dims="fixed")
        gamma = (d["T"] * (beta - d["beta_ols"])).sum(axis=1)
    else:
        gamma = pm.Flat("gamma", dims="fixed", initval=np.zeros(model.n_fixed))
        pm.Deterministic("beta", d["beta_ols"] + (d["T_inverse"] * gamma).sum(axis=1), dims="fixed")
    return [gamma[j] for j in range(model.n_fixed)]
