"""tr(T V_i T V_j) for all pairs of parameters, as sums over blocks of one matrix."""

import numpy as np


def pair_traces(G: np.ndarray, at: list[slice], pa: np.ndarray, pb: np.ndarray) -> np.ndarray:
    """tr(T V_i T V_j) (p−1, p−1) for V_j = Z_a A Z_bᵀ + Z_b A Z_aᵀ (a ≠ b) or Z_a A Z_aᵀ, from G = A ZᵀTZ (q, q).

    `at` is where each effect's columns are, (pa, pb) the effects of each parameter. Each ordered term is
    tr(T Z_a A Z_bᵀ T Z_c A Z_dᵀ) = tr(G_bc G_da).
    """
    n = len(pa)
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(i, n):
            total = 0.0
            for a, b in both(pa[i], pb[i]):
                for c, d in both(pa[j], pb[j]):
                    total += np.vdot(G[at[b], at[c]], G[at[d], at[a]].T)
            out[i, j] = out[j, i] = total
    return out


def both(a: int, b: int) -> tuple[tuple[int, int], ...]:
    """The ordered pairs that make up ∂V/∂Ω_ab."""
    return ((a, b),) if a == b else ((a, b), (b, a))
