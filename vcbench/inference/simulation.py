"""Drawing responses of any model at known (β, θ), many at a time.

    y = Xβ + offset + Σ_k Z_k u_k + e,     u_k = (Λ_k ⊗ F_k) z_k,  Ω_k = Λ_k Λ_kᵀ,  A_k = F_k F_kᵀ,     e = R^½ z_e

z standard normal. A relationship given by its sparse precision P = A⁻¹ is never formed: with PᵖL D Lᵀ the sparse
Cholesky factor of P, ε = L D^½ z has covariance P, and u = P⁻¹ε has covariance P⁻¹PP⁻¹ = A. R is factorised unit by
unit, alike units once. The normals are taken response by response, so that the first responses of a seed do not depend
on how many are drawn.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from vcbench.errors import DataError, MethodError, ModelError
from vcbench.inference.equations import Residuals
from vcbench.model.component import Component
from vcbench.model.model import Model

Source = tuple[
    int, Callable[[np.ndarray], np.ndarray]
]  # normals a response takes; z (size, n) -> its part of Y (n_obs, n)


def simulate(model: Model, theta: Any, beta: Any, n: int = 1, seed: Any = None) -> np.ndarray:
    """Y (n_obs, n): n responses of `model` at θ (p,), natural units, and β (d,).

    seed: what `numpy.random.default_rng` takes, a Generator among it. Raises ModelError for θ or β of another length or
    not finite and a residual variance that is not above 0, DataError for an Ω that is not positive semi-definite and a
    correlation of residuals that is not positive definite.
    """
    theta, beta = np.asarray(theta, float), np.asarray(beta, float)
    for name, values, names in (("θ", theta, model.theta_names), ("β", beta, model.X_names or ())):
        if values.shape != (len(names),) or not np.isfinite(values).all():
            raise ModelError(
                f"{name} is {values.tolist()}; it must be {len(names)} finite numbers: {', '.join(names)}."
            )
    if not (isinstance(n, int | np.integer) and n >= 1):
        raise MethodError(f"`n` is {n!r}; it must be a whole number of responses, 1 or more.")
    sources = sources_of(model, theta)
    mean = model.X @ beta + (0.0 if model.offset is None else model.offset)  # type: ignore[operator]
    z = np.random.default_rng(seed).standard_normal((n, sum(size for size, _ in sources)))
    Y, at = np.repeat(mean[:, None], n, axis=1), 0
    for size, part in sources:
        Y += part(np.ascontiguousarray(z[:, at : at + size].T))
        at += size
    return Y


def sources_of(model: Model, theta: np.ndarray) -> list[Source]:
    """What a response is the sum of, beside its mean: the effects of each component, then the residual, whose nugget is
    part of it. Raises as `simulate` does."""
    sources = [_effects(c, Omega) for c, Omega in zip(model.components, model.Omegas(theta), strict=True)]
    return sources + residual_sources(model, theta)


def semidefinite_root(Omega: np.ndarray, name: str) -> np.ndarray:
    """Lower L with LLᵀ = Ω (r, r), also for a singular Ω. DataError if Ω has a negative eigenvalue."""
    size = float(np.abs(Omega).max(initial=0.0))
    if float(np.linalg.eigvalsh(Omega)[0]) < -1e-10 * size:
        raise DataError(
            f"responses cannot be drawn: the covariance matrix of `{name}` is not positive semi-definite: "
            f"{Omega.tolist()}."
        )
    L = np.zeros_like(Omega)
    for j in range(len(Omega)):
        pivot = Omega[j, j] - L[j, :j] @ L[j, :j]
        if pivot <= 1e-14 * size:
            continue
        L[j, j] = np.sqrt(pivot)
        for i in range(j + 1, len(Omega)):
            L[i, j] = (Omega[i, j] - L[i, :j] @ L[j, :j]) / L[j, j]
    return L


def _effects(c: Component, Omega: np.ndarray) -> Source:
    """Z u of a component: z (N·r, n), effect by effect."""
    root = semidefinite_root(Omega, c.name)
    relation = c.relation
    plain = c.codes is None and relation is None  # columns of Z: dense products
    Z: list[Any] = c.factors() if plain else [c.incidence(a) for a in range(c.n_effects)]
    N, related = Z[0].shape[1], None  # type: int, Any
    if relation is not None and relation.precision is not None:
        related = partial(related_draws, relation)
    elif relation is not None:
        related = relation.root.__matmul__
        N = relation.root.shape[1]

    def part(z: np.ndarray) -> np.ndarray:
        by_effect = z.reshape(len(root), N, -1)
        total = 0.0
        for a, Za in enumerate(Z):
            u = sum(root[a, e] * by_effect[e] for e in range(a + 1))
            total = total + Za @ (u if related is None else related(u))
        return total  # type: ignore[return-value]

    return N * len(root), part


def related_draws(relation: Any, z: np.ndarray) -> np.ndarray:
    """u (m, n) with covariance A = P⁻¹ from standard normals."""
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    if "precision factor" not in relation.cache:
        relation.cache["precision factor"] = splu(
            relation.precision, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
    lu = relation.cache["precision factor"]
    pivots = lu.U.diagonal()
    if not (pivots > 0).all() or (lu.perm_r != lu.perm_c).any():
        raise ModelError(f"`precision` of component `{relation.name}` is not positive definite. Check how it was made.")
    epsilon = (csc_matrix(lu.L) @ (np.sqrt(pivots)[:, None] * z))[lu.perm_r]
    return lu.solve(epsilon)


def residual_sources(model: Model, theta: np.ndarray) -> list[Source]:
    """e, and the nugget where there is one."""
    R = Residuals.at(model, theta)
    if R.table is None:
        sd = np.sqrt(R.sigma2) * R.half[:, None]
        return [(R.n, lambda z: sd * z)]
    kinds: dict[bytes, list[int]] = {}
    for i, place in enumerate(R.places):
        kinds.setdefault(place.tobytes(), []).append(i)
    plan = [(_root(R, R.places[own[0]]), np.array([R.rows[i] for i in own])) for own in kinds.values()]

    def part(z: np.ndarray) -> np.ndarray:
        out = np.empty_like(z)
        for L, rows in plan:  # L (m, m), rows (units, m)
            out[rows] = np.matmul(L, z[rows])
        return R.half[:, None] * out

    return [(R.n, part)]


def _root(R: Residuals, place: np.ndarray) -> np.ndarray:
    """Cholesky factor of σ²C + τ²I over one unit."""
    assert R.table is not None
    C = R.sigma2 * R.table.v[place]
    C.flat[:: len(C) + 1] += R.extra
    try:
        return np.linalg.cholesky(C)
    except np.linalg.LinAlgError:
        raise DataError(
            f"responses cannot be drawn: residual `{R.noise.spec}` is not positive definite at these parameters."
        ) from None
