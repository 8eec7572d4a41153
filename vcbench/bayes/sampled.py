"""Twins whose random effects are sampled: y | u, β, θ ~ N(Xβ + Σ Z_k u_k, σ²W⁻¹), centred or non-centred.

Effects of a component are a matrix of rows b_i ~ N(0, Ω), Ω = ΛΛᵀ: the levels of a grouping factor, or, for levels
related by K = FFᵀ, coordinates with u = Fb, which exist for a singular K too. The free variable is

    centred      b itself, named b(g)               the better one where the data say much of each level
    non-centred  z(g) ~ N(0, 1) with b = zΛᵀ        the better one where they say little

and u(g) (levels, r) is there in both.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vcbench import kernels
from vcbench.bayes.build import safe
from vcbench.bayes.priors import Priors
from vcbench.bayes.reduced import cholesky
from vcbench.errors import MethodError, ModelError, did_you_mean
from vcbench.model.component import Component
from vcbench.model.model import Model

FORMS = ("auto", "marginal", "centred", "non-centred")
DENSE = 1000  # rows of a dense V from which effects are rather sampled than integrated out
SMALL = 4  # largest Ω whose factor is written out element by element


def check_form(model: Model, form: str) -> tuple[str, str]:
    """(form, why) of what was asked for. MethodError for an unknown form, ModelError where no effect can be sampled."""
    if form not in FORMS:
        raise MethodError(f"unknown form `{form}`. Choose from {', '.join(FORMS)}.{did_you_mean(form, FORMS)}")
    can = model.noise.is_plain and bool(model.components)
    if form in ("centred", "non-centred"):
        if not model.components:
            raise ModelError(f'form "{form}" samples random effects; this model has none. Use "marginal".')
        if not can:
            raise ModelError(
                f'form "{form}" takes independent or weighted residuals, not `{model.residual}`. Use "marginal", which '
                "takes every structure."
            )
        return form, "as asked for"
    if form == "marginal":
        return form, "as asked for"
    if can and kernels.choose(model)[0] == "dense" and model.n_obs > DENSE:
        return "non-centred", f"integrating the effects out would factorise {model.n_obs} × {model.n_obs} at every step"
    return (
        "marginal",
        "the effects are integrated out exactly, which is faster and better conditioned than to sample them",
    )


def effect_shape(c: Component) -> tuple[int, ...]:
    """(levels or coordinates, r)."""
    return len(c.levels) if c.is_grouped else c.factors()[0].shape[1], c.n_effects


def free_effect(c: Component, form: str) -> str:
    """The name of the free variable of a component's effects."""
    return safe(f"{'b' if form == 'centred' else 'z'}({c.name})")


def sampled_data(model: Model) -> dict[str, np.ndarray]:
    """`pm.Data` of the twin: y less its offset, X, √weight, and what multiplies the effects of each component."""
    y = model.y if model.offset is None else model.y - model.offset
    out = {"y": y, "X": np.asarray(model.X)}
    if model.noise.weights is not None:
        out["root_weight"] = np.sqrt(model.noise.weights)
    for k, c in enumerate(model.components):
        if c.is_grouped:
            out |= {f"codes[{k}]": np.asarray(c.codes), f"Z[{k}]": np.asarray(c.Z)}
        else:
            out[f"F[{k}]"] = np.stack(c.factors())
            if c.relation is not None:
                out[f"root[{k}]"] = c.relation.root
    return out


def declare_response(
    model: Model, w: list[Any], d: Mapping[str, Any], priors: Priors, form: str, label: Callable[[str], str]
) -> None:
    """β, the effects and y in the open `pm.Model`, given w."""
    import pymc as pm
    import pytensor.tensor as pt

    mean: Any = 0.0
    if model.n_fixed:
        if priors.beta is None:
            start = np.linalg.lstsq(np.asarray(model.X), sampled_data(model)["y"], rcond=None)[0]
            beta = pm.Flat("beta", dims="fixed", initval=start)
        else:
            beta = pm.Normal("beta", np.float64(priors.beta.mean), np.float64(priors.beta.scale), dims="fixed")
        mean = pt.dot(d["X"], beta)
    for k, (c, Omega) in enumerate(zip(model.components, _Omegas(model, w), strict=True)):
        root, shape = _root(Omega, c.n_effects), effect_shape(c)
        if form == "non-centred":
            b = pt.dot(pm.Normal(label(safe(f"z({c.name})")), 0.0, 1.0, shape=shape), root.T)
        elif c.n_effects == 1:
            b = pm.Normal(label(safe(f"b({c.name})")), 0.0, root[0, 0], shape=shape)
        else:
            b = pm.MvNormal(label(safe(f"b({c.name})")), mu=np.zeros(c.n_effects), chol=root, shape=shape)
        pm.Deterministic(label(safe(f"u({c.name})")), b if c.relation is None else pt.dot(d[f"root[{k}]"], b))
        if c.is_grouped:
            mean = mean + (d[f"Z[{k}]"] * b[d[f"codes[{k}]"]]).sum(axis=1)
        else:
            for a in range(c.n_effects):
                mean = mean + pt.dot(d[f"F[{k}]"][a], b[:, a])
    sigma = pt.sqrt(w[-1])
    pm.Normal("response", mean, sigma / d["root_weight"] if "root_weight" in d else sigma, observed=d["y"])


def _Omegas(model: Model, w: list[Any]) -> list[dict[tuple[int, int], Any]]:
    """The lower triangle of each Ω as expressions of w."""
    import pytensor.tensor as pt

    tau: Any = None
    out = []
    for part in model.working.parts:
        if part.value is not None:
            values: list[Any] = [float(part.value[a, b]) for a, b in part.index]
        elif part.family is None:
            values = [w[int(at)] for at in part.linear]
        else:
            if tau is None:
                from vcbench.bayes.op import Tau

                tau = Tau(model.working)(pt.stack(w))[0]  # type: ignore[index]
            values = [tau[int(at)] for at in part.pairs]
        out.append({(max(a, b), min(a, b)): v for (a, b), v in zip(part.index, values, strict=True)})
    return out


def _root(Omega: Mapping[tuple[int, int], Any], r: int) -> Any:
    """Λ (r, r) lower triangular with ΛΛᵀ = Ω."""
    import pytensor.tensor as pt

    full = {(a, b): Omega.get((a, b), 0.0) for a in range(r) for b in range(a + 1)}
    if r > SMALL:
        rows = [[full[max(a, b), min(a, b)] for b in range(r)] for a in range(r)]
        return pt.linalg.cholesky(pt.stack([pt.stack([pt.as_tensor(v) for v in row]) for row in rows]))
    L = cholesky(full, r, pt.sqrt)
    return pt.stack([pt.stack([pt.as_tensor(L.get((a, b), 0.0)) for b in range(r)]) for a in range(r)])


def effect_values(model: Model, theta: np.ndarray, effects: Any, form: str) -> dict[str, np.ndarray]:
    """The free variables of the effects at b, {component: (levels or coordinates, r)}, or (levels,) for one effect."""
    out = {}
    for c, Omega in zip(model.components, model.Omegas(theta), strict=True):
        b = _given(c, effects)
        out[free_effect(c, form)] = b if form == "centred" else np.linalg.solve(np.linalg.cholesky(Omega), b.T).T
    return out


def loglik_given(model: Model, theta: np.ndarray, effects: Any, form: str) -> float:
    """The log density of the sampled effects at b: of b where centred, of z where not."""
    total = 0.0
    for c, Omega in zip(model.components, model.Omegas(theta), strict=True):
        u = _given(c, effects)
        L = np.linalg.cholesky(Omega)
        z = np.linalg.solve(L, u.T)
        total += -0.5 * ((z**2).sum() + u.size * np.log(2 * np.pi))
        if form == "centred":
            total -= len(u) * np.log(np.diag(L)).sum()
    return float(total)


def _given(c: Component, effects: Any) -> np.ndarray:
    if effects is None or c.name not in effects:
        raise ModelError(f"this twin samples its effects: pass `effects` with `{c.name}` {effect_shape(c)}.")
    u = np.asarray(effects[c.name], float)
    u = u[:, None] if u.ndim == 1 else u
    if u.shape != effect_shape(c):
        raise ModelError(f"`effects` of `{c.name}` have shape {u.shape}; they must be {effect_shape(c)}.")
    return u
