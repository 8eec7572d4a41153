"""The pm.Model of a twin: priors on the free variables, θ as deterministics, the likelihood as a potential."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.graph import loglik_graph
from vcbench.bayes.prior_choice import prior_scales
from vcbench.bayes.priors import FROM_VARIANCE, Priors
from vcbench.bayes.reduced import Reduced
from vcbench.model.component import Component
from vcbench.model.model import Model

if TYPE_CHECKING:
    import pymc as pm


class Numbered(dict[str, str]):
    """Names by number, given out as they are asked for: two models of one structure get the same."""

    KEPT = frozenset({"gamma", "beta", "loglik"})

    def __call__(self, name: str) -> str:
        return self.setdefault(name, name if name in self.KEPT else f"v{len(self)}")


def free_names(model: Model, priors: Priors) -> dict[Any, str]:
    """PyMC names of the free variables."""
    out: dict[Any, str] = {}
    for name, prior in priors.sd.items():
        head, _, tail = name.rpartition(":var")
        out[name] = safe(f"{head}:{ {'sd': 'sd', 'var': 'var', 'log': 'log_sd'}[prior.on] }{tail}")
    if priors.split is not None:
        out |= {("split", name): safe(name) for name in priors.split.free_names}
    for c in model.components:
        for block in c.partition:
            for i in range(1, len(block)):
                for j in range(i):
                    a, b = block[i], block[j]
                    out[c.name, a, b] = safe(f"{c.name}:partial({c.effects[a]},{c.effects[b]})")
    return out


def safe(name: str) -> str:
    """A parameter's name in PyMC and ArviZ, which keep `/` for groups: written ÷."""
    return name.replace("/", "÷")


def build_model(
    model: Model,
    priors: Priors,
    criterion: str,
    reduced: Reduced,
    data: Mapping[str, np.ndarray],
    free: Mapping[Any, str],
    label: Callable[[str], str] = str,
) -> "pm.Model":
    """The pm.Model: priors, θ as deterministics, ℓ as a potential; `label` renames every parameter."""
    import pymc as pm

    units = prior_scales(model)
    # a built model has names, which its annotation does not say
    fixed = list(model.X_names) if label is str else list(range(model.n_fixed))  # type: ignore[arg-type]
    with pm.Model(coords={"fixed": fixed}) as out:
        unused = {"T", "T_inverse", "beta_ols"} if criterion == "reml" else {"logdet_xx"}
        unused |= {"T_inverse"} if priors.beta is not None else {"T"}
        d = {name: pm.Data(label(name), value) for name, value in data.items() if name not in unused}
        sd = {}
        for name, prior in priors.sd.items():
            start = FROM_VARIANCE[prior.on]((0.5 * units[name]) ** 2)
            x = prior.variable(label(free[name]), d.get(f"scale({safe(name)})"), start)
            sd[name] = {"sd": x, "var": pm.math.sqrt(x), "log": pm.math.exp(x)}[prior.on]
        if priors.split is not None:
            parts = priors.split.variables(lambda name: label(safe(name)), d["scale(total)"], d["sizes"])
            sd = {name: pm.math.sqrt(variance) for name, variance in parts.items()}
        theta: list[Any] = []
        for c in model.components:
            theta += _omega(c, priors, sd, free, label)
        theta.append(sd[model.theta_names[-1]] ** 2)
        for name, value in zip(model.theta_names, theta, strict=True):
            if safe(name) not in free.values():
                pm.Deterministic(label(safe(name)), value)
        gamma = _coefficients(model, priors, criterion, d)
        pm.Potential("loglik", loglik_graph(reduced, d, theta, criterion, gamma))
    return out


def _omega(
    c: Component, priors: Priors, sd: Mapping[str, Any], free: Mapping[Any, str], label: Callable[[str], str]
) -> list[Any]:
    """The parameters of Ω in the order of θ, from SDs and partial correlations."""
    import pymc as pm

    own = {a: sd[name] for name, (a, b) in zip(c.theta_names, c.index, strict=True) if a == b}
    L: dict[tuple[int, int], Any] = {}
    for block in c.partition:
        for i, a in enumerate(block):
            left: Any = 1.0
            for j, b in enumerate(block[:i]):
                shape = priors.lkj[c.name].shape(len(block), j)
                rho = 2 * pm.Beta(label(free[c.name, a, b]), shape, shape) - 1
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
        name = safe(f"{c.name}:cor({c.effects[low]},{c.effects[high]})")
        pm.Deterministic(label(name), out[-1] / (own[a] * own[b]))
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
        gamma = (d["T"] * (beta - d["beta_ols"])).sum(axis=1)
    else:
        gamma = pm.Flat("gamma", dims="fixed", initval=np.zeros(model.n_fixed))
        pm.Deterministic("beta", d["beta_ols"] + (d["T_inverse"] * gamma).sum(axis=1), dims="fixed")
    return [gamma[j] for j in range(model.n_fixed)]
