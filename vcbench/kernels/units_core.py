"""The likelihood of independent units with any covariance, compiled: what `units` computes.

V is block diagonal; a block is V_i = Σ_j τ_j E_j + σ² C(φ), C's entries looked up in a table. Blocks with the same
matrices form a class: their V is factorised once. Notation of MATH §2: T = V⁻¹, M = (XᵀTX)⁻¹, g = T(y − Xγ).
"""

import math

import numpy as np
from numba import njit

from vcbench.kernels.block_core import AVERAGE, EXPECTED, cholesky_in_place, invert_lower


@njit(cache=True)
def inverse_spd(V):
    """(ok, V⁻¹, log|V|): by hand for small V, by LAPACK for large."""
    m = V.shape[0]
    if m <= 24:
        L = V.copy()
        if not cholesky_in_place(L):
            return False, V, 0.0
        Li = np.empty((m, m))
        invert_lower(L, Li)
        logdet = 0.0
        for a in range(m):
            logdet += 2.0 * math.log(L[a, a])
        T = np.empty((m, m))
        for a in range(m):
            for b in range(a + 1):
                s = 0.0
                for c in range(a, m):
                    s += Li[c, a] * Li[c, b]
                T[a, b] = s
                T[b, a] = s
        return True, T, logdet
    try:
        L = np.linalg.cholesky(V)
    except Exception:
        return False, V, 0.0
    logdet = 0.0
    for a in range(m):
        logdet += 2.0 * math.log(L[a, a])
    Li = np.linalg.inv(L)
    return True, Li.T @ Li, logdet


@njit(cache=True)
def evaluate_units(
    row_ptr, class_ptr, mat_ptr, parts, index, X, y, lin, sigma2, table, dtable, ddtable, gamma_in, profile, reml, want
):
    """ℓ and what `want` asks for (bits SCORE, EXPECTED, AVERAGE, MOMENTS) at τ = (lin, φ, σ²).

    Blocks i have rows row_ptr[i]:row_ptr[i+1] of X (n, d) and y (n,); class c is the blocks
    class_ptr[c]:class_ptr[c+1], its matrices sit at mat_ptr[c]:mat_ptr[c+1] of parts (n_lin, ·) and index (·,).
    table (T,), dtable (k, T), ddtable (k, k, T).

    Returns (ok, loglik, gamma, QtVinvQ, score_gamma, score, expected, average, curvature, G, g): curvature is
    ½[tr(P V_jk) − yᵀP V_jk P y]; G (·,) holds Σ_i (g gᵀ − P_ii) of each class; g (n,) = V⁻¹(y − Xγ).
    """
    n, d = X.shape
    n_lin, k = lin.shape[0], dtable.shape[0]
    p = n_lin + k + 1
    n_classes = class_ptr.shape[0] - 1
    gamma = gamma_in.copy()
    A, Xty = np.zeros((d, d)), np.zeros(d)
    score_gamma, score = np.zeros(d), np.zeros(p)
    expected, average, curvature = np.zeros((p, p)), np.zeros((p, p)), np.zeros((p, p))
    G = np.zeros(mat_ptr[n_classes] if want else 0)
    g = np.zeros(n)
    TX, Ty = np.empty((n, d)), np.empty(n)
    Ts = np.empty(mat_ptr[n_classes])
    logdet = 0.0
    for c in range(n_classes):
        first = class_ptr[c]
        m = row_ptr[first + 1] - row_ptr[first]
        at = mat_ptr[c]
        V = np.empty((m, m))
        for e in range(m * m):
            s = sigma2 * table[index[at + e]]
            for j in range(n_lin):
                s += lin[j] * parts[j, at + e]
            V[e // m, e % m] = s
        ok, T, ld = inverse_spd(V)
        if not ok or not math.isfinite(ld):
            return False, -np.inf, gamma, A, score_gamma, score, expected, average, curvature, G, g
        for e in range(m * m):
            Ts[at + e] = T[e // m, e % m]
        logdet += ld * (class_ptr[c + 1] - first)
        for i in range(first, class_ptr[c + 1]):
            lo, hi = row_ptr[i], row_ptr[i + 1]
            TXi = T @ X[lo:hi]
            TX[lo:hi] = TXi
            Ty[lo:hi] = T @ y[lo:hi]
            A += X[lo:hi].T @ TXi
            Xty += TXi.T @ y[lo:hi]
    chol = A.copy()
    if not cholesky_in_place(chol):
        return False, -np.inf, gamma, A, score_gamma, score, expected, average, curvature, G, g
    Ci = np.zeros((d, d))
    invert_lower(chol, Ci)  # M = Ciᵀ Ci
    logdet_A = 0.0
    for a in range(d):
        logdet_A += 2.0 * math.log(chol[a, a])
    if profile:
        gamma = Ci.T @ (Ci @ Xty)
    g[:] = Ty - TX @ gamma
    r = y - X @ gamma
    loglik = -0.5 * (n * math.log(2.0 * math.pi) + logdet + r @ g)
    if reml:
        loglik += 0.5 * (d * math.log(2.0 * math.pi) - logdet_A)
    if not profile:
        score_gamma = X.T @ g
    if want == 0:
        return True, loglik, gamma, A, score_gamma, score, expected, average, curvature, G, g

    TXm = TX @ Ci.T  # T X M^½
    bins = np.zeros(table.shape[0])
    for c in range(n_classes):
        first = class_ptr[c]
        m = row_ptr[first + 1] - row_ptr[first]
        at = mat_ptr[c]
        Gc = np.zeros((m, m))
        for i in range(first, class_ptr[c + 1]):
            gi = g[row_ptr[i] : row_ptr[i + 1]]
            for a in range(m):
                for b in range(m):
                    Gc[a, b] += gi[a] * gi[b]
            if reml:
                Xi = TXm[row_ptr[i] : row_ptr[i + 1]]
                Gc += Xi @ Xi.T
        count = class_ptr[c + 1] - first
        for e in range(m * m):
            s = Gc[e // m, e % m] - count * Ts[at + e]
            G[at + e] = s
            bins[index[at + e]] += s
            for j in range(n_lin):
                score[j] += 0.5 * s * parts[j, at + e]
    score[p - 1] = 0.5 * (bins @ table)
    for a in range(k):
        slope = 0.5 * (bins @ dtable[a])
        score[n_lin + a] = sigma2 * slope
        curvature[n_lin + a, p - 1] = -slope
        curvature[p - 1, n_lin + a] = -slope
        for b in range(k):
            curvature[n_lin + a, n_lin + b] = -0.5 * sigma2 * (bins @ ddtable[a, b])
    need_exp, need_avg = (want & EXPECTED) != 0, (want & AVERAGE) != 0
    if not (need_exp or need_avg):
        return True, loglik, gamma, A, score_gamma, score, expected, average, curvature, G, g

    XDX = np.zeros((p, d, d))
    Xu = np.zeros((p, d))
    for c in range(n_classes):
        first = class_ptr[c]
        m = row_ptr[first + 1] - row_ptr[first]
        at = mat_ptr[c]
        T = np.ascontiguousarray(Ts[at : at + m * m]).reshape(m, m)
        D = np.empty((p, m, m))
        for e in range(m * m):
            a, b = e // m, e % m
            for j in range(n_lin):
                D[j, a, b] = parts[j, at + e]
            for j in range(k):
                D[n_lin + j, a, b] = sigma2 * dtable[j, index[at + e]]
            D[p - 1, a, b] = table[index[at + e]]
        count = class_ptr[c + 1] - first
        if need_exp:
            TD = np.empty((p, m, m))
            for j in range(p):
                TD[j] = T @ D[j]
            for j in range(p):
                for h in range(j + 1):
                    s = 0.0
                    for a in range(m):
                        for b in range(m):
                            s += TD[j, a, b] * TD[h, b, a]
                    expected[j, h] += 0.5 * count * s
        for i in range(first, class_ptr[c + 1]):
            lo, hi = row_ptr[i], row_ptr[i + 1]
            Xi = TXm[lo:hi]
            if need_exp and reml:
                Y, TY = np.empty((p, m, d)), np.empty((p, m, d))
                for j in range(p):
                    Y[j] = D[j] @ Xi
                    TY[j] = T @ Y[j]
                    XDX[j] += Xi.T @ Y[j]
                for j in range(p):
                    for h in range(j + 1):
                        s = 0.0
                        for a in range(m):
                            for b in range(d):
                                s += Y[j, a, b] * TY[h, a, b]
                        expected[j, h] -= s
            if need_avg:
                gi = g[lo:hi]
                U, TU = np.empty((p, m)), np.empty((p, m))
                for j in range(p):
                    U[j] = D[j] @ gi
                    TU[j] = T @ U[j]
                    Xu[j] += Xi.T @ U[j]
                for j in range(p):
                    for h in range(j + 1):
                        average[j, h] += 0.5 * (U[j] @ TU[h])
    for j in range(p):
        for h in range(j + 1):
            if need_exp and reml:
                expected[j, h] += 0.5 * (XDX[j] * XDX[h]).sum()
            if need_avg:
                average[j, h] -= 0.5 * (Xu[j] @ Xu[h])
            expected[h, j] = expected[j, h]
            average[h, j] = average[j, h]
    return True, loglik, gamma, A, score_gamma, score, expected, average, curvature, G, g
