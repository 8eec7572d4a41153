"""Acceleration of any EM map M, compiled: what to try in place of M(z) after each application (MATH §3).

SQUAREM (Varadhan & Roland 2008, Scand. J. Statist. 35:335, step length S3), in cycles of two applications:

    r = z₁ − z₀,  v = (z₂ − z₁) − r,  α = −max(1, min(‖r‖/‖v‖, longest)),  z' = z₀ − 2αr + α²v

DAAREM (Henderson & Varadhan 2019, J. Comput. Graph. Stat. 28:834), Anderson acceleration with damping and restarts:

    f = M(z) − z,  ΔZ, ΔF the last differences,  z' = z + f − (ΔZ + ΔF) β,  β = (ΔFᵀΔF + λI)⁻¹ ΔFᵀf,
    λ such that ‖β‖² is the share 1/(1 + 1.2^(25 − s)) of its value at λ = 0, s the successes so far

The loop takes z' only if it lies inside the parameter space and ℓ there is no less than at the state before, so that
ascent is kept; else M(z). z = (θ/scale, γ/√scale of σ²), γ only where the map owns it.
"""

import math

import numpy as np
from numba import njit

from vcbench.solvers.codes import SQUAREM
from vcbench.solvers.geometry import cone_matrix, cone_size, eigen

ORDER = 10  # differences that DAAREM keeps at most
INTERIOR = 1e-3  # share of its smallest eigenvalue that a cone keeps at least in an accelerated step


@njit(cache=True)
def memory_for(size):
    """(history, tuning): ring of (z, M(z)); counters (filled, successes, longest)."""
    order = min(ORDER, (size + 1) // 2 + 1)
    return np.zeros((order + 1, 2, size)), np.array([0.0, 0.0, 1.0])


@njit(cache=True)
def squarem_step(history, tuning):
    """(full, z'): the extrapolation of z₀, z₁, z₂ once a cycle is full."""
    z0, z1, z2 = history[0, 0], history[0, 1], history[1, 1]
    r = z1 - z0
    v = z2 - z1 - r
    size = math.sqrt(v @ v)
    if size == 0.0:
        return False, z2
    length = max(1.0, min(math.sqrt(r @ r) / size, tuning[2]))
    if length == tuning[2]:
        tuning[2] *= 4.0
    return length > 1.0, z0 + 2.0 * length * r + length * length * v


@njit(cache=True)
def daarem_step(history, tuning):
    """z' from all of the history; its last entry is the present one."""
    n = int(tuning[0])
    size = history.shape[2]
    last = n - 1
    f = history[last, 1] - history[last, 0]
    dZ = np.empty((size, last))
    dF = np.empty((size, last))
    for j in range(last):
        dZ[:, j] = history[j + 1, 0] - history[j, 0]
        dF[:, j] = (history[j + 1, 1] - history[j + 1, 0]) - (history[j, 1] - history[j, 0])
    values, vectors = np.linalg.eigh(dF.T @ dF)
    if values[last - 1] < 1e-100:  # nothing moves any more
        return history[last, 1].copy()
    b = vectors.T @ (dF.T @ f)
    floor = 1e-14 * values[last - 1]
    full = 0.0
    for j in range(last):
        if values[j] > floor:
            full += (b[j] / values[j]) ** 2
    target = full / (1.0 + 1.2 ** (25.0 - tuning[1]))
    low, high = floor, values[last - 1] * 1e8
    for _ in range(60):
        middle = math.sqrt(low * high)
        norm = 0.0
        for j in range(last):
            norm += (b[j] / (max(values[j], 0.0) + middle)) ** 2
        if norm > target:
            low = middle
        else:
            high = middle
    beta = vectors @ (b / (np.maximum(values, 0.0) + high))
    return history[last, 1] - (dZ + dF) @ beta


@njit(cache=True)
def propose(acceleration, history, tuning, now, mapped):
    """(wanted, z'): what to try in place of M(z), after z = `now` and M(z) = `mapped` have been noted."""
    count = int(tuning[0])
    if count == history.shape[0]:  # DAAREM begins again
        count = 0
    history[count, 0] = now
    history[count, 1] = mapped
    tuning[0] = count + 1
    if count == 0:
        return False, mapped
    if acceleration == SQUAREM:
        tuning[0] = 0.0
        return squarem_step(history, tuning)
    return True, daarem_step(history, tuning)


@njit(cache=True)
def learn(tuning, taken):
    """Bolder after a step that was taken, more careful after one that was not."""
    if taken:
        tuning[1] += 1.0
    else:
        tuning[1] = max(tuning[1] - 2.0, -20.0)
        tuning[2] = max(tuning[2] / 4.0, 1.0)


@njit(cache=True)
def is_inside(x, before, rank, ptr, effects, where):
    """Whether every cone of x keeps INTERIOR of the smallest eigenvalue that it had; faces are not accelerated."""
    for c in range(rank.shape[0]):
        k = cone_size(c, ptr)
        if rank[c] == 0:
            continue
        if rank[c] < k:
            return False
        was = eigen(cone_matrix(before, c, ptr, effects, where))[0][0]
        if not eigen(cone_matrix(x, c, ptr, effects, where))[0][0] > INTERIOR * was:
            return False
    return True
