"""Random effects of a marginal twin, by exact composition sampling: (β, u) | θ, y ~ N([β̂; û], C), one for each draw.

With (u°, y°) drawn from the model at β = 0, y° = Zu° + e°, and B = GZᵀV⁻¹,

    u = u° + B(y − Xβ − y°)                              is a draw of u | β, θ, y
    β = (XᵀV⁻¹X)⁻¹XᵀV⁻¹(y − y°),  u = u° + GZᵀP(y − y°)  is a draw of (β, u) | θ, y, β flat: mean (β̂, û), covariance C

since u° − By° has the covariance G − GZᵀV⁻¹ZG of what is left of u. Nothing but solves with V is needed, so that every
structure of G and R has its draws, singular ones too (geostatistics calls it conditioning by kriging).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.build import safe
from vcbench.errors import ModelError
from vcbench.inference.equations import Equations, Term
from vcbench.inference.simulation import related_draws, residual_sources
from vcbench.model.model import Model

if TYPE_CHECKING:
    import xarray as xr

    from vcbench.bayes.twin import Twin


def random_effects(draws: "xr.DataTree | xr.Dataset", twin: "Twin", seed: Any = None, y: Any = None) -> "xr.Dataset":
    """u of every component for every draw of a twin's posterior, as `u(name)` (chain, draw, level, effect), and `beta`.

    draws: what `vc.bayes.sample` or `pm.sample` on `twin.model` gave. u is drawn given θ, and given β where the draws
    hold it; where they do not (the "reml" twin sampled by PyMC) β is drawn with it. y: the response, if it was not the
    twin's own. `draws.update(…)`, or `draws["effects"] = xr.DataTree(…)`, keeps them with the rest.

    Raises ModelError for draws that lack a parameter, and for a model without random effects.
    """
    import xarray as xr

    model = twin.source if y is None else twin.source.replace(y=y)
    if not model.components:
        raise ModelError("this model has no random effects to draw.")
    found: Any = draws.get("posterior", draws)  # type: ignore[arg-type]
    missing = [n for n in twin.theta_names if safe(n) not in found]
    if missing:
        raise ModelError(f"the draws lack `{missing[0]}`: they are of another model.")
    theta = np.stack([np.asarray(found[safe(n)]) for n in twin.theta_names], axis=-1)
    shape = theta.shape[:2]
    known = np.asarray(found["beta"]).reshape(-1, model.n_fixed) if "beta" in found else None
    u, beta = compose(model, theta.reshape(-1, model.n_theta), known, np.random.default_rng(seed))
    out: dict[str, Any] = {}
    coords: dict[str, Any] = {}
    for c, values in zip(model.components, u, strict=True):
        level, effect = f"level({c.name})", f"effect({c.name})"
        out[safe(f"u({c.name})")] = (("chain", "draw", level, effect), values.reshape(*shape, *values.shape[1:]))
        coords[level] = list(c.levels) if len(c.levels) == values.shape[1] else list(range(values.shape[1]))
        coords[effect] = list(c.effects)
    out["beta"] = (("chain", "draw", "fixed"), beta.reshape(*shape, -1))
    return xr.Dataset(out, {**coords, "fixed": list(model.X_names)})  # type: ignore[arg-type]


def compose(
    model: Model, theta: np.ndarray, beta: np.ndarray | None, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """([u_k (M, levels, r)], β (M, d)) at the rows of theta (M, p); V is factorised once for each distinct θ.

    beta (M, d): given, or None to be drawn under a flat prior.
    """
    y = model.y if model.offset is None else model.y - model.offset
    rows, where = np.unique(theta, axis=0, return_inverse=True)
    where = where.ravel()
    effects: list[np.ndarray] = [np.empty(0)] * len(model.components)
    coefficients = np.empty((len(theta), model.n_fixed))
    order = np.argsort(where, kind="stable")
    for at, draws in zip(rows, np.split(order, np.cumsum(np.bincount(where))[:-1]), strict=True):
        equations = Equations.at(model, at)
        prior, noise = _prior_draws(model, equations, len(draws), rng)
        rest = y[:, None] - noise
        if beta is None:
            weighted = equations.solve(rest)
            own = equations.beta_cov @ (equations.X.T @ weighted)
            weighted = weighted - equations.VinvX @ own
        else:
            own = beta[draws].T
            weighted = equations.solve(rest - equations.X @ own)
        coefficients[draws] = own.T
        for k, free in enumerate(prior):
            u = np.moveaxis(free + equations.effects(k, weighted), -1, 0)
            if not len(effects[k]):
                effects[k] = np.empty((len(theta), *u.shape[1:]))
            effects[k][draws] = u
    return effects, coefficients


def _prior_draws(
    model: Model, equations: Equations, m: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """([u°_k (levels, r, m)], y° (n, m))."""
    total = np.zeros((model.n_obs, m))
    for size, part in residual_sources(model, equations.theta):
        total += part(rng.standard_normal((size, m)))
    out = []
    for term in equations.terms:
        u = _prior_effects(term, m, rng)
        for a, Z in enumerate(term.Z):
            total += Z @ u[:, a]
        out.append(u)
    return out, total


def _prior_effects(term: Term, m: int, rng: np.random.Generator) -> np.ndarray:
    """u° (levels, r, m) ~ N(0, Ω ⊗ A)."""
    relation, r = term.component.relation, len(term.root)
    N = term.Z[0].shape[1]
    if term.is_dense:
        F = relation.root  # type: ignore[union-attr]
        b = np.stack([F @ rng.standard_normal((F.shape[1], m)) for _ in range(r)], axis=1)
    elif term.precision is not None:
        b = np.stack([related_draws(relation, rng.standard_normal((N, m))) for _ in range(r)], axis=1)
    else:
        b = rng.standard_normal((N, r, m))
    return np.einsum("ae,lem->lam", term.root, b)
