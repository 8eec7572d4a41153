"""Many responses of one block-diagonal design, start to standard errors, in one compiled loop."""

import numpy as np
from numba import njit

from vcbench.inference.standard_errors import free_covariance
from vcbench.kernels.block_core import AVERAGE, EXPECTED, SCORE, evaluate_blocks
from vcbench.solvers.geometry import positions
from vcbench.solvers.run import SINGULAR, climb, tick
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
    Linv,
    U,
    Xw,
    yw,
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
    for k in range(n):
        begin = tick()
        scale = scales[k]
        units = np.outer(scale, scale)
        data = (R, X, Y[k], TX, t[k], tau2[k], n_within, n_obs, q, pa, pb, fa, fb, Linv, U, Xw, yw)
        x = starts[k] / scale
        if auto:
            x = np.zeros(p)
            x[p - 1] = 1.0
            if p > 1:
                at = evaluate_blocks(
                    R,
                    X,
                    Y[k],
                    TX,
                    t[k],
                    tau2[k],
                    n_within,
                    n_obs,
                    q,
                    x * scale,
                    zero,
                    yes,
                    yes,
                    SCORE | EXPECTED,
                    pa,
                    pb,
                    fa,
                    fb,
                    Linv,
                    U,
                    Xw,
                    yw,
                )
                x = moment_start(at[5] * scale, at[6] * units, ptr, effects, where)
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
        at = evaluate_blocks(
            R,
            X,
            Y[k],
            TX,
            t[k],
            tau2[k],
            n_within,
            n_obs,
            q,
            theta[k],
            zero,
            yes,
            reml,
            SCORE | EXPECTED | AVERAGE,
            pa,
            pb,
            fa,
            fb,
            Linv,
            U,
            Xw,
            yw,
        )
        if not at[0]:
            continue
        ok, cov = free_covariance(out[0], at[5] * scale, (2.0 * at[7] - at[6]) * units, out[8], ptr, effects, where)
        if not ok:
            ok, cov = free_covariance(out[0], at[5] * scale, at[6] * units, out[8], ptr, effects, where)
        if ok:
            for j in range(p):
                if cov[j, j] >= 0.0:
                    se[k, j] = np.sqrt(cov[j, j]) * scale[j]
        M = np.linalg.inv(at[3])
        C = Tinv @ M @ Tinv.T
        for j in range(d):
            beta_se[k, j] = np.sqrt(C[j, j])
    return theta, gamma, loglik, ending, counts, seconds, distance, ranks, se, beta_se
