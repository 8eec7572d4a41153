"""Null distributions of likelihood ratios with parameters on the boundary: mixtures of χ² over a cone (χ̄²).

With Z ~ N(0, Σ), Σ the asymptotic covariance of the parameters whose null value lies on the boundary (the others
projected out), K the cone that they may move in, and s further parameters that may move freely,

    LRT → χ²_s + ‖Π_K Z‖²_Σ⁻¹,     Π_K the projection on K in the metric of Σ⁻¹

K is a half-line for a variance, the positive semi-definite k × k matrices for the new part of an unstructured Ω, and a
product of such. Half-lines only: LRT → Σ_j w_j χ²_{s+j}, with a term for each set S of variances above 0,

    w_j = Σ_{|S|=j} P[N(0, Σ_SS − Σ_ST Σ_TT⁻¹ Σ_TS) > 0] P[N(0, Σ_TT⁻¹) > 0],     T the others

(Kudô, Biometrika 50 (1963) 403-418; Self & Liang, JASA 82 (1987) 605-610; Shapiro, Int. Statist. Rev. 56 (1988) 49-62).
For two, w_2 = arccos(r)/2π with r the correlation of their information. Other cones are projected on at random:
‖Π_K Z‖² is a χ² of the whole dimension times the share c of a random direction that lies in the cone, so that
P(LRT ≥ t) = E[P(χ²_m ≥ t/c)].
"""

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from vcbench.errors import MethodError

MOST = 6  # variances up to which weights are orthant probabilities
DRAWS = 20_000
SETTLED = 1e-7  # of ‖z‖²: the gap at which a projection is done
MAX_ITER = 20_000
SUBSCRIPTS = {0.5: "½", 0.25: "¼", 0.75: "¾"}


@dataclass(frozen=True, slots=True)
class ChiBarSquare:
    """Σ_j w_j χ²_{df_j}."""

    weights: tuple[float, ...]
    df: tuple[int, ...]

    @property
    def text(self) -> str:
        """`χ²_2`, `½χ²_0 + ½χ²_1`, `0.17χ²_0 + ½χ²_1 + 0.33χ²_2`."""
        if len(self.df) == 1:
            return f"χ²_{self.df[0]}"
        return " + ".join(f"{_weight(w)}χ²_{d}" for w, d in zip(self.weights, self.df, strict=True))

    def p_value(self, statistic: float) -> float:
        """P(LRT ≥ statistic)."""
        from scipy.special import chdtrc

        if statistic <= 0:
            return 1.0
        return float(sum(w * chdtrc(d, statistic) for w, d in zip(self.weights, self.df, strict=True) if d))

    def mcse(self, statistic: float) -> float:
        """0: nothing is simulated (orthants of four variances and more by quasi-Monte Carlo, to 1e-4)."""
        return 0.0


@dataclass(frozen=True, slots=True, eq=False)
class ProjectedCone:
    """χ²_s + ‖Π_K Z‖² by random directions: `share` (n_sim,) of each that lies in K × R^s, of dimension `dimension`."""

    dimension: int
    df: tuple[int, int]
    share: np.ndarray = field(repr=False)

    @property
    def text(self) -> str:
        """`χ̄² from χ²_1 to χ²_4`."""
        return f"χ̄² from χ²_{self.df[0]} to χ²_{self.df[1]}"

    def _exceedances(self, statistic: float) -> np.ndarray:
        from scipy.special import chdtrc

        with np.errstate(divide="ignore"):
            return chdtrc(self.dimension, statistic / self.share)

    def p_value(self, statistic: float) -> float:
        """P(LRT ≥ statistic), the mean over directions."""
        return 1.0 if statistic <= 0 else float(self._exceedances(statistic).mean())

    def mcse(self, statistic: float) -> float:
        """Its Monte Carlo standard error."""
        if statistic <= 0:
            return 0.0
        return float(self._exceedances(statistic).std(ddof=1) / np.sqrt(len(self.share)))


def boundary_null(
    sizes: tuple[int, ...], Sigma: np.ndarray | None, free: int, n_sim: int = DRAWS, seed: Any = 0
) -> ChiBarSquare | ProjectedCone:
    """The limit for blocks of k = `sizes` (1: a variance) on the boundary and `free` parameters beside them.

    Sigma (m, m), m = Σ k(k+1)/2: asymptotic covariance of the lower triangles of the blocks, by column; None does for
    at most one variance.
    """
    if not sizes:
        return ChiBarSquare((1.0,), (free,))
    if sizes == (1,):
        return ChiBarSquare((0.5, 0.5), (free, free + 1))
    assert Sigma is not None
    if max(sizes) == 1 and len(sizes) <= MOST:
        weights = orthant_weights(Sigma)
        return ChiBarSquare(tuple(weights.tolist()), tuple(range(free, free + len(weights))))
    m = len(Sigma)
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n_sim, m + free))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    L = np.linalg.cholesky(Sigma)
    share = squared_projections(u[:, :m] @ L.T, np.linalg.inv(Sigma), sizes) + (u[:, m:] ** 2).sum(axis=1)
    return ProjectedCone(m + free, (free, free + m), np.minimum(share, 1.0))


def orthant_weights(Sigma: np.ndarray) -> np.ndarray:
    """w_0 … w_k of the positive orthant for Z ~ N(0, Σ), Σ (k, k)."""
    k = len(Sigma)
    weights = np.zeros(k + 1)
    for size in range(k + 1):
        for chosen in combinations(range(k), size):
            S, T = list(chosen), [j for j in range(k) if j not in chosen]
            inverse = np.linalg.inv(Sigma[np.ix_(T, T)])
            given = Sigma[np.ix_(S, S)] - Sigma[np.ix_(S, T)] @ inverse @ Sigma[np.ix_(T, S)]
            weights[size] += orthant_probability(given) * orthant_probability(inverse)
    return weights / weights.sum()


def orthant_probability(Sigma: np.ndarray) -> float:
    """P(Z > 0) for Z ~ N(0, Σ): closed forms up to three dimensions, quasi-Monte Carlo (Genz) beyond."""
    k = len(Sigma)
    if k == 0:
        return 1.0
    sd = np.sqrt(np.diag(Sigma))
    R = np.clip(Sigma / np.outer(sd, sd), -1.0, 1.0)
    if k <= 3:
        angles = np.arcsin(R[np.triu_indices(k, 1)]).sum()
        return float(0.5**k + angles / ((0.0, 1.0, 2.0, 4.0)[k] * np.pi) if k > 1 else 0.5)
    from scipy.stats import multivariate_normal

    law = multivariate_normal(np.zeros(k), R, seed=np.random.default_rng(0), abseps=1e-6)
    return float(law.cdf(np.zeros(k)))


def squared_projections(Z: np.ndarray, M: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """‖Π_K z‖²_M of each row of Z (n, m), K the product of the cones of positive semi-definite matrices of `sizes`.

    Accelerated projected gradient with restarts, all rows at once, until the gap between x's lower bound
    2⟨x, z⟩ − ‖x‖² and the upper bound ‖z − q‖², q the projection of z − x on the polar cone, is SETTLED of ‖z‖².
    Coordinates are scaled so that diagonal entries have variance 1 and Frobenius products are Euclidean.
    """
    scale = _scales(np.sqrt(np.diag(np.linalg.inv(M))), sizes)
    Z, M = Z / scale, M * np.outer(scale, scale)
    Mi, step = np.linalg.inv(M), 1.0 / np.linalg.eigvalsh(M)[-1]
    out, active = np.empty(len(Z)), np.arange(len(Z))
    x = _project(Z, sizes)
    moved, t = x.copy(), np.ones(len(Z))
    for _ in range(MAX_ITER):
        z = Z[active]
        new = _project(moved + step * ((z - moved) @ M), sizes)
        back = ((moved - new) * (new - x)).sum(axis=1) > 0  # momentum leads astray: begin again
        t_new = np.where(back, 1.0, 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * t**2)))
        moved = new + np.where(back, 0.0, (t - 1.0) / t_new)[:, None] * (new - x)
        x, t = new, t_new
        Mz, Mx = z @ M, x @ M
        lower = 2.0 * (x * Mz).sum(axis=1) - (x * Mx).sum(axis=1)
        rest = z - (Mz - Mx - _project(Mz - Mx, sizes)) @ Mi
        upper = np.einsum("ij,jk,ik->i", rest, M, rest)
        out[active] = np.maximum(0.5 * (lower + upper), 0.0)
        far = upper - lower > SETTLED * (z * Mz).sum(axis=1)
        if not far.any():
            return out
        active, x, moved, t = active[far], x[far], moved[far], t[far]
    raise MethodError(
        f"the projection on the cone of {len(sizes)} blocks did not settle in {MAX_ITER} steps: their estimates are "
        'nearly dependent. Use method="bootstrap".'
    )


def _scales(sd: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Units of the lower triangles: √(sd_a sd_b) of an entry's diagonal, off-diagonals less a factor √2."""
    out, at = [], 0
    for k in sizes:
        i, j = _triangle(k)
        own = sd[at : at + len(i)][i == j]
        out.append(np.sqrt(own[i] * own[j]) * np.where(i == j, 1.0, np.sqrt(0.5)))
        at += len(i)
    return np.concatenate(out)


def _triangle(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the lower triangle, column by column."""
    j, i = np.triu_indices(k)
    return i, j


def _project(x: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Rows (n, m) with each block's negative eigenvalues at 0; off-diagonals carry a factor √2."""
    out, at = np.empty_like(x), 0
    for k in sizes:
        own = slice(at, at + k * (k + 1) // 2)
        at = own.stop
        if k == 1:
            out[:, own] = np.maximum(x[:, own], 0.0)
        elif k == 2:
            out[:, own] = _project_two(x[:, own])
        else:
            i, j = _triangle(k)
            root = np.where(i == j, 1.0, np.sqrt(0.5))
            full = np.empty((len(x), k, k))
            full[:, i, j] = full[:, j, i] = x[:, own] * root
            values, vectors = np.linalg.eigh(full)
            kept = (vectors * np.maximum(values, 0.0)[:, None, :]) @ vectors.swapaxes(1, 2)
            out[:, own] = kept[:, i, j] / root
    return out


def _project_two(x: np.ndarray) -> np.ndarray:
    """`_project` of 2 × 2 matrices (a, √2 b, c): eigenvalues h ± r."""
    h, half = 0.5 * (x[:, 0] + x[:, 2]), 0.5 * (x[:, 0] - x[:, 2])
    r = np.sqrt(half**2 + 0.5 * x[:, 1] ** 2)
    top = np.where(r > 0, np.maximum(h + r, 0.0) / np.where(r > 0, 2.0 * r, 1.0), 0.0)
    face = np.column_stack([top * (r + half), top * x[:, 1], top * (r - half)])
    return np.where((h >= r)[:, None], x, face)


def _weight(w: float) -> str:
    return next((text for value, text in SUBSCRIPTS.items() if abs(w - value) < 1e-9), f"{w:.3g}")
