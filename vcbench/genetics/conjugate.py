"""P b for many columns b at once by conjugate gradients, with products K_k T alone.

P = M(MVM)⁺M with M = I − QQᵀ, so that x = P b solves MVM x = Mb in the space orthogonal to X: fixed effects are gone
before the iteration starts. Each column has its own variances θ and its own samples; all share the products, one call
(a pass over the file) an iteration, and a column leaves when it has converged.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vcbench.genetics.products import Products
from vcbench.genetics.randomised_sums import Side


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """x (n, c), ‖b − MVMx‖/‖b‖ of each column, iterations made (products asked for)."""

    x: np.ndarray = field(repr=False)
    residual: np.ndarray
    n_iter: int


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of T that belong together: theta (K + 1,) and side of each phenotype, its columns `at`."""

    theta: np.ndarray
    side: Side = field(repr=False)
    at: np.ndarray


def apply(products: Products, T: np.ndarray, groups: list[Columns]) -> np.ndarray:
    """MVM T (n, c), T = M T; each group with its own θ and M."""
    weights = np.empty((len(products.names), T.shape[1]))
    residual = np.empty(T.shape[1])
    for group in groups:
        weights[:, group.at] = group.theta[:-1, None]
        residual[group.at] = group.theta[-1]
    out = products.combine(T, weights)
    for group in groups:
        out[:, group.at] = group.side.project(out[:, group.at])
    return out + residual * T


def solve_columns(
    products: Products, b: np.ndarray, groups: list[Columns], start: np.ndarray, tol: float, max_iter: int
) -> Solved:
    """P b (n, c) from `start`, b = M b; ends when ‖b − MVMx‖ ≤ tol ‖b‖ in every column.

    Hestenes & Stiefel (1952), column by column. Single precision products bound what can be reached: a column whose
    residual has not fallen for 20 iterations keeps its best.
    """
    size = np.linalg.norm(b, axis=0)
    size = np.where(size > 0, size, 1.0)
    x, done = start.copy(), 0
    r = b.copy()
    if x.any():
        r -= apply(products, x, groups)
        done += 1
    left = np.linalg.norm(r, axis=0) / size
    best, best_x, since = left.copy(), x.copy(), np.zeros(len(size), int)
    d, rr = r.copy(), np.einsum("nc,nc->c", r, r)
    active = np.flatnonzero(left > tol)
    while len(active) and done < max_iter:
        part = [Columns(g.theta, g.side, np.flatnonzero(np.isin(active, g.at))) for g in groups]
        Ad = apply(products, d[:, active], [g for g in part if len(g.at)])
        done += 1
        step = rr[active] / np.einsum("nc,nc->c", d[:, active], Ad)
        x[:, active] += step * d[:, active]
        r[:, active] -= step * Ad
        fresh = np.einsum("nc,nc->c", r[:, active], r[:, active])
        d[:, active] = r[:, active] + fresh / rr[active] * d[:, active]
        rr[active] = fresh
        left[active] = np.sqrt(fresh) / size[active]
        better = active[left[active] < best[active]]
        since[active] += 1
        since[better], best[better] = 0, left[better]
        best_x[:, better] = x[:, better]
        active = active[(left[active] > tol) & (since[active] < 20)]
    return Solved(best_x, best, done)


Solver = Callable[..., Solved]
