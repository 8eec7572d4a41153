"""The E-step of block-diagonal models, compiled: the moments of `protocol.Moments` from the rows of `block_rows`."""

import math

import numpy as np
from numba import njit

from vcbench.kernels.block_core import cholesky_in_place, invert_lower, omega_of, psd_root


@njit(cache=True)
def moments_of_blocks(D, TX, t, tau2, q, theta, gamma, A, reml, pa, pb, fa, fb, S, at_h, at_E):
    """(ok, F, Wty, XtW, S, f, E0, logdet, yty) of `Moments` at (θ, γ); not ok where σ² is so small that rounding leaves
    the posterior no definite precision.

    D, S: rows as in `block_rows`; rows at_h of S hold h = RᵀW⁻¹r̃, rows at_E hold E = (X̃M^½)ᵀW⁻¹R, M = A⁻¹.
    """
    B, d, r, m = D.shape[1], TX.shape[1], q.shape[0], fa.shape[0]
    sigma2 = theta[theta.shape[0] - 1]
    Omega = omega_of(theta, pa, pb, r)
    Lam = psd_root(Omega)
    F, Wty, XtW, f = np.zeros((m, m)), np.zeros(m), np.zeros((d, m)), np.zeros(m)
    second, logdet, E0, yty = np.zeros((r, r)), 0.0, tau2, tau2
    chol, Ci = A.copy(), np.zeros((d, d))
    ok = cholesky_in_place(chol)
    if ok:
        invert_lower(chol, Ci)  # M = Ciᵀ Ci
    R, X, y, e = np.empty((r, r)), np.empty((r, d)), np.empty(r), np.empty(r)
    C, RL, Kc, Kinv = np.empty((r, r)), np.empty((r, r)), np.empty((r, r)), np.empty((r, r))
    GL, Si, mu, Kb = np.empty((r, r)), np.empty((r, r)), np.empty(r), np.zeros((d, r))
    Rty, Rtr, RtX = np.empty(r), np.empty(r), np.empty((r, d))
    for i in range(B):
        for a in range(r):
            for b in range(r):
                R[a, b] = D[a * r + b, i]
            for c in range(d):
                X[a, c] = D[(r + c) * r + a, i]
            y[a] = D[(r + d) * r + a, i]
            e[a] = y[a]
            for c in range(d):
                e[a] -= X[a, c] * gamma[c]
            E0 += e[a] * e[a]  # E‖y − Xγ‖²: XᵀX = I, Xᵀy = 0 in the basis
            yty += y[a] * y[a]
        for a in range(r):
            s = 0.0
            for b in range(r):
                s += Omega[a, b] * S[at_h + b, i]
            mu[a] = s
            for b in range(r):
                s = 0.0
                s2 = 0.0
                for c in range(r):
                    s += R[c, a] * R[c, b]
                    s2 += R[a, c] * Lam[c, b]
                C[a, b] = s
                RL[a, b] = s2
        for a in range(r):
            for b in range(a + 1):
                s = 0.0
                for c in range(r):
                    s += RL[c, a] * RL[c, b]
                Kc[a, b] = s / sigma2
            Kc[a, a] += 1.0
        ok = ok and cholesky_in_place(Kc)
        if not ok:
            return False, F, Wty, XtW, second, f, E0, logdet, yty
        for a in range(r):
            logdet += 2.0 * math.log(Kc[a, a])
        invert_lower(Kc, Kinv)
        for a in range(r):  # GL = Kc⁻¹ Λᵀ, Γ = GLᵀ GL
            for b in range(r):
                s = 0.0
                for c in range(a + 1):
                    s += Kinv[a, c] * Lam[b, c]
                GL[a, b] = s
        for a in range(r):
            for b in range(r):
                s = mu[a] * mu[b]
                for c in range(r):
                    s += GL[c, a] * GL[c, b]
                Si[a, b] = s
        for a in range(r):
            s = 0.0
            s2 = 0.0
            for c in range(r):
                s += R[c, a] * y[c]
                s2 += R[c, a] * e[c]
            Rty[a] = s
            Rtr[a] = s2
            for c in range(d):
                s = 0.0
                for b in range(r):
                    s += R[b, a] * X[b, c]
                RtX[a, c] = s
        if reml:
            for c in range(d):  # Kb = E Ω: cov(γ, b_i) = −M^½ Kb
                for a in range(r):
                    s = 0.0
                    for b in range(r):
                        s += S[at_E + c * r + b, i] * Omega[b, a]
                    Kb[c, a] = s
            for a in range(r):
                for b in range(r):
                    for c in range(d):
                        Si[a, b] += Kb[c, a] * Kb[c, b]
        for a in range(r):
            for b in range(r):
                second[a, b] += Si[a, b]
        for j in range(m):
            a, b = fa[j], fb[j]
            for k in range(j + 1):
                F[j, k] += C[a, fa[k]] * Si[b, fb[k]]
            Wty[j] += Rty[a] * mu[b]
            f[j] += Rtr[a] * mu[b]
            for c in range(d):
                XtW[c, j] += RtX[a, c] * mu[b]
            if reml:
                for c in range(d):  # − cov: + Σ (X̃ᵀ)M Kᵀ
                    s = 0.0
                    for k in range(c + 1):
                        s += Ci[c, k] * RtX[a, k]
                    f[j] += s * Kb[c, b]
    for j in range(m):
        for k in range(j):
            F[k, j] = F[j, k]
    for a in range(r):
        for b in range(r):
            if Omega[a, b] != 0.0 or a == b:
                second[a, b] += (q[a] - B) * Omega[a, b]
    for k in range(t.shape[0]):
        s = t[k]
        for c in range(d):
            s -= TX[k, c] * gamma[c]
        E0 += s * s
        yty += t[k] * t[k]
    if reml:
        for c in range(d):
            for k in range(c + 1):
                E0 += Ci[c, k] * Ci[c, k]
    return True, F, Wty, XtW, second, f, E0, logdet, yty
