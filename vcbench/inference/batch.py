"""Many responses of one block-diagonal design, start to standard errors, in one compiled loop."""

import numpy as np
from numba import njit

from vcbench.inference.standard_errors import free_covariance
from vcbench.kernels.block_core import AVERAGE, EXPECTED, SCORE, cholesky_in_place, invert_lower
from vcbench.solvers.geometry import positions
from vcbench.solvers.run import SINGULAR, climb, evaluate_state, tick
from vcbench.solvers.start import moment_start


@njit(cache=True)
def climb_many(
    R,
    X,
    Y,
    TX,
    t,
    tau2,
    n_within,
    n_obs,
    q,
    pa,
    pb,
    fa,
    fb,
    fc,
    ptr,
    effects,
    scales,
    Tinv,
    starts,
    auto,
    code,
    reml,
    owns_beta,
    monotone,
    tol,
    max_iter,
    S,
):
    """One row a response: θ, γ, ℓ, ending, counts (iter, eval, check), seconds (fit, check), distance, ranks, SEs of
    θ and β.

    Y (R, B, r), t (R, w), tau2 (R,), scales (R, p): the reduced responses; starts (R, p) is used unless `auto`.
    """
    n = Y.shape[0]
    p, d = scales.shape[1], X.shape[2]
    theta, gamma = np.full((n, p), np.nan), np.zeros((n, d))
    loglik, distance = np.full(n, np.nan), np.full(n, np.nan)
    ending = np.zeros(n, np.int64)
    counts = np.zeros((n, 3), np.int64)
    seconds = np.zeros((n, 2))
    ranks = np.zeros((n, ptr.shape[0]), np.int64)
    se, beta_se = np.full((n, p), np.nan), np.full((n, d), np.nan)
    where = positions(pa, pb, q.shape[0])
    zero = np.zeros(d)
    yes, no = n >= 0, n < 0  # a literal argument would make Numba compile everything below once more
    D, first = rows_of(R, X), (d + R.shape[1]) * R.shape[1]
    information = np.zeros((p, p))  # at σ² = 1, Ω = 0: in units of `scale` the same for every response
    for k in range(n):
        begin = tick()
        scale = scales[k]
        units = np.outer(scale, scale)
        for a in range(Y.shape[2]):
            for i in range(Y.shape[1]):
                D[first + a, i] = Y[k, i, a]
        data = (D, TX, t[k], tau2[k], n_within, n_obs, q, pa, pb, fa, fb, S)
        x = starts[k] / scale
        if auto:
            x = np.zeros(p)
            x[p - 1] = 1.0
            if p > 1:
                at = evaluate_state(data, x * scale, zero, yes, yes, SCORE | EXPECTED if k == 0 else SCORE)
                if k == 0:
                    information = at[6] * units
                x = moment_start(at[5] * scale, information, ptr, effects, where)
        out = climb(
            data,
            code,
            reml,
            owns_beta,
            monotone,
            x,
            zero,
            tol,
            max_iter,
            no,
            pa,
            pb,
            fa,
            fb,
            fc,
            ptr,
            effects,
            q,
            scale,
            n_obs,
        )
        theta[k] = out[0] * scale
        gamma[k] = out[1]
        loglik[k] = out[2]
        ending[k] = out[3]
        counts[k, 0], counts[k, 1], counts[k, 2] = out[4], out[5], out[6]
        seconds[k, 1] = out[7]
        ranks[k] = out[8]
        distance[k] = out[9]
        seconds[k, 0] = tick() - begin - out[7]
        if out[3] == SINGULAR:
            continue
        known, score, expected, average, A = out[11], out[12], out[13], out[14], out[15]
        if known != SCORE | EXPECTED | AVERAGE:
            at = evaluate_state(data, theta[k], zero, yes, reml, SCORE | EXPECTED | AVERAGE)
            if not at[0]:
                continue
            score, expected, average, A = at[5], at[6], at[7], at[3]
        score = score * scale
        ok, cov = free_covariance(out[0], score, (2.0 * average - expected) * units, out[8], ptr, effects, where)
        if not ok:
            ok, cov = free_covariance(out[0], score, expected * units, out[8], ptr, effects, where)
        if ok:
            for j in range(p):
                if cov[j, j] >= 0.0:
                    se[k, j] = np.sqrt(cov[j, j]) * scale[j]
        fixed_errors(A, Tinv, beta_se[k])
    return theta, gamma, loglik, ending, counts, seconds, distance, ranks, se, beta_se


@njit(cache=True)
def rows_of(R, X):
    """`blocks.design_rows` with the rows of y left open."""
    B, r, d = X.shape
    out = np.zeros((r * (r + d + 1), B))
    for i in range(B):
        for a in range(r):
            for b in range(r):
                out[a * r + b, i] = R[i, a, b]
            for c in range(d):
                out[r * r + c * r + a, i] = X[i, a, c]
    return out


@njit(cache=True)
def fixed_errors(A, Tinv, out):
    """out = √diag(T⁻¹ A⁻¹ T⁻ᵀ), the standard errors of β̂: row norms of T⁻¹ C⁻ᵀ, A = CCᵀ."""
    d = A.shape[0]
    C, Ci = A.copy(), np.empty((d, d))
    if not cholesky_in_place(C):
        return
    invert_lower(C, Ci)
    for j in range(d):
        total = 0.0
        for e in range(d):
            s = 0.0
            for c in range(e + 1):
                s += Tinv[j, c] * Ci[e, c]
            total += s * s
        out[j] = np.sqrt(total)
