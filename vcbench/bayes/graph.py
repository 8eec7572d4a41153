"""The log-likelihood of a twin in PyTensor: the formulas of `reduced`, written a second time.

Small matrices are written out element by element: Numba compiles that several times faster than LAPACK calls, and a
NUTS step of it costs microseconds.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.bayes.reduced import Reduced, invert, lower_triangle

if TYPE_CHECKING:
    from pytensor.tensor import TensorVariable

UNROLL = 4  # fixed effects up to which the last elimination is written out


def loglik_graph(
    reduced: Reduced, d: Mapping[str, Any], theta: list[Any], criterion: str, gamma: list[Any] | None
) -> "TensorVariable":
    """ℓ_REML(θ), or ℓ_ML(γ, θ), from the statistics `d` of `reduced`: the formulas of `reduced` in PyTensor."""
    import pytensor.tensor as pt

    sigma2 = theta[-1]
    logdet = d["n_within"] * pt.log(sigma2)
    g = d["within"] / sigma2
    if len(theta) > 1:
        part, cross = (_small_graph if reduced.small else _large_graph)(reduced, d, theta)
        logdet, g = logdet + part, g + cross
    return eliminate(logdet, g, d, reduced.n_fixed, criterion, gamma)


def eliminate(
    logdet: Any, g: Any, d: Mapping[str, Any], n_fixed: int, criterion: str, gamma: list[Any] | None
) -> "TensorVariable":
    """ℓ from log|V| and g, the lower triangle of G = [Q y]ᵀV⁻¹[Q y]: β integrated out, or γ as given."""
    import pytensor.tensor as pt

    low = lower_triangle(n_fixed + 1)
    G = {pair: g[i] for i, pair in enumerate(low)}
    constant = d["constant"]
    index = np.zeros((n_fixed + 1, n_fixed + 1), int)
    for i, (j, k) in enumerate(low):
        index[j, k] = index[k, j] = i
    if gamma is not None and n_fixed > UNROLL:
        e = pt.concatenate([-pt.stack(gamma), pt.ones(1)])
        return -0.5 * (constant + logdet + (g[index] * e * e[:, None]).sum())
    if gamma is not None:
        quad = G[n_fixed, n_fixed]
        for j in range(n_fixed):
            quad = quad - 2 * gamma[j] * G[n_fixed, j] + gamma[j] ** 2 * G[j, j]
            for k in range(j):
                quad = quad + 2 * gamma[j] * gamma[k] * G[j, k]
        return -0.5 * (constant + logdet + quad)
    constant = constant - n_fixed * np.log(2 * np.pi) + d["logdet_xx"]
    if n_fixed <= UNROLL:
        pivot = pivots(G, n_fixed + 1)
        return -0.5 * (constant + logdet + sum(pt.log(x) for x in pivot[:-1]) + pivot[-1])
    M = pt.diagonal(pt.linalg.cholesky(g[index]))
    return -0.5 * (constant + logdet + 2 * pt.log(M[:-1]).sum() + M[-1] ** 2)


def pivots(G: Mapping[tuple[int, int], Any], m: int) -> list[Any]:
    """Pivots of the symmetric G (lower triangle) by elimination: log|G| is the sum of their logs, the last is the Schur
    complement of the rest."""
    C = dict(G)
    for k in range(m):
        for j in range(k + 1, m):
            ratio = C[j, k] / C[k, k]
            for i in range(j, m):
                C[i, j] = C[i, j] - C[i, k] * ratio
    return [C[k, k] for k in range(m)]


def _small_graph(reduced: Reduced, d: Mapping[str, Any], theta: list[Any]) -> tuple[Any, Any]:
    """(Σ N_c log|W_c|, its part of the lower triangle of G) for blocks of at most four, all blocks at once."""
    import pytensor.tensor as pt

    pairs = lower_triangle(reduced.m)
    W = {}
    for q, (a, b) in enumerate(pairs):
        terms = [t * d["S"][j, q] for j, t in enumerate(theta[:-1]) if reduced.S[j, q].any()]
        W[a, b] = sum(terms[1:], terms[0]) if terms else pt.zeros_like(d["count"])
        if a == b:
            W[a, b] = W[a, b] + theta[-1]
    logdet, inverse = invert(W, reduced.m, pt.sqrt, pt.log)
    parts = [(d["cross"][:, q] * inverse[p]).sum(axis=1) for q, p in enumerate(pairs)]
    return (d["count"] * logdet).sum(), sum(parts[1:], parts[0])


def _large_graph(reduced: Reduced, d: Mapping[str, Any], theta: list[Any]) -> tuple[Any, Any]:
    """The same by Cholesky factors of the blocks: one dense block, or many of more than four effects."""
    import pytensor.tensor as pt

    one = len(reduced.S[0]) == 1
    S, U = (d["S"][:, 0], d["cross"][0]) if one else (d["S"], d["cross"])
    W = sum((t * S[j] for j, t in enumerate(theta[1:-1], start=1)), theta[0] * S[0])
    L = pt.linalg.cholesky(W + theta[-1] * pt.eye(reduced.m))
    H = pt.linalg.solve_triangular(L, U, lower=True, b_ndim=2)
    logdet = 2 * pt.log(pt.diagonal(L, axis1=-2, axis2=-1)).sum()
    if not one:
        H = H.reshape((-1, reduced.n_fixed + 1))
    low = np.tril_indices(reduced.n_fixed + 1)
    return logdet, (H.T @ H)[low]
