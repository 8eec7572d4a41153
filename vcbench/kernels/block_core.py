"""The block-diagonal likelihood, compiled: what `grouped` and `spectral` share.

After an orthogonal rotation of the rows (see `blocks.Blocks`) the model is

    ỹ_i = X̃_i γ + R_i b_i + ẽ_i,  b_i ~ N(0, Ω),  i = 1 … B,    W_i = R_i Ω R_iᵀ + σ² I  (r × r)

beside `n_within` rows that no random effect touches (their X part T_X γ against t, and τ², the sum of squares outside
X). An evaluation costs O(B r² (r + d)) whatever n is. Notation of MATH §2–3; V⁻¹ never formed.
"""

import math

import numpy as np
from numba import njit

SCORE, EXPECTED, AVERAGE, MOMENTS = 1, 2, 4, 8


@njit(cache=True)
def cholesky_in_place(M):
    """Lower Cholesky factor in the lower triangle of M; False where M is not positive definite."""
    m = M.shape[0]
    for j in range(m):
        s = M[j, j]
        for k in range(j):
            s -= M[j, k] * M[j, k]
        if not s > 0.0:
            return False
        p = math.sqrt(s)
        M[j, j] = p
        for i in range(j + 1, m):
            s = M[i, j]
            for k in range(j):
                s -= M[i, k] * M[j, k]
            M[i, j] = s / p
    return True


@njit(cache=True)
def invert_lower(L, out):
    """out = L⁻¹ for lower triangular L (its strict upper triangle is not read); out's upper triangle is zeroed."""
    m = L.shape[0]
    for j in range(m):
        for i in range(j):
            out[i, j] = 0.0
        out[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, m):
            s = 0.0
            for k in range(j, i):
                s -= L[i, k] * out[k, j]
            out[i, j] = s / L[i, i]


@njit(cache=True)
def psd_root(Omega):
    """Λ with ΛΛᵀ = Ω, negative eigenvalues taken as 0."""
    r = Omega.shape[0]
    out = np.zeros((r, r))
    if r == 1:
        out[0, 0] = math.sqrt(max(Omega[0, 0], 0.0))
        return out
    values, vectors = np.linalg.eigh(Omega)
    for a in range(r):
        for b in range(r):
            out[a, b] = vectors[a, b] * math.sqrt(max(values[b], 0.0))
    return out


@njit(cache=True)
def omega_of(theta, pa, pb, r):
    """Ω (r, r) over all components from θ's pairs."""
    Omega = np.zeros((r, r))
    for j in range(pa.shape[0]):
        Omega[pa[j], pb[j]] = theta[j]
        Omega[pb[j], pa[j]] = theta[j]
    return Omega


@njit(cache=True)
def pair_product(K4, a, b, c, d):
    """tr(E_j A E_k B) summed over blocks, K4[a, b, c, d] = Σ A_ab B_cd, E_j = e_a e_bᵀ (+ its transpose if a ≠ b)."""
    total = K4[b, c, d, a]
    if a != b:
        total += K4[a, c, d, b]
    if c != d:
        total += K4[b, d, c, a]
        if a != b:
            total += K4[a, d, c, b]
    return total


@njit(cache=True)
def evaluate_blocks(
    R, X, y, TX, t, tau2, n_within, n_obs, q, theta, gamma_in, profile, reml, want, pa, pb, fa, fb, Linv, U, Xw, yw
):
    """ℓ and what `want` asks for (bits SCORE, EXPECTED, AVERAGE, MOMENTS) at θ = (pairs of Ω, σ²).

    R (B, r, r), X (B, r, d), y (B, r), TX (w, d), t (w,); q (r,) EM divisors; gamma_in (d,) is used unless `profile`;
    pa, pb pairs of θ; fa, fb features of the moments; Linv, U (B, r, r), Xw (B, r, d), yw (B, r) work space.

    Returns (ok, loglik, gamma, QtVinvQ, score_gamma, score, expected, average, F, Wty, XtW, S, f, E0, logdet,
    yty).
    """
    B, r = y.shape
    d = X.shape[2]
    w = TX.shape[0]
    n_pairs = pa.shape[0]
    p = n_pairs + 1
    m = fa.shape[0]
    sigma2 = theta[p - 1]
    Omega = omega_of(theta, pa, pb, r)

    gamma = gamma_in.copy()
    A = np.zeros((d, d))
    Xty = np.zeros(d)
    score_gamma = np.zeros(d)
    score = np.zeros(p)
    expected = np.zeros((p, p))
    average = np.zeros((p, p))
    small = 0
    F = np.zeros((small, small))
    Wty = np.zeros(small)
    XtW = np.zeros((d, small))
    S = np.zeros((small, small))
    f = np.zeros(small)
    E0 = 0.0
    logdet_post = 0.0
    yty = 0.0

    # rows without random effects and padding may cancel in n_within; τ² is exactly 0 where no such row is left
    has_within = n_within != 0 or w > 0 or tau2 > 0.0
    usable = sigma2 > 0.0 or not (has_within or (want & MOMENTS))
    if not usable:
        return False, -np.inf, gamma, A, score_gamma, score, expected, average, F, Wty, XtW, S, f, E0, logdet_post, yty
    s_inv = 1.0 / sigma2 if has_within else 0.0

    # pass 1: factorise, whiten, accumulate QᵀV⁻¹Q and QᵀV⁻¹y
    logdet = n_within * math.log(sigma2) if n_within != 0 else 0.0
    W = np.empty((r, r))
    RO = np.empty((r, r))
    for i in range(B):
        if r == 1:
            v = R[i, 0, 0] * R[i, 0, 0] * Omega[0, 0] + sigma2
            if not v > 0.0:
                return (
                    False,
                    -np.inf,
                    gamma,
                    A,
                    score_gamma,
                    score,
                    expected,
                    average,
                    F,
                    Wty,
                    XtW,
                    S,
                    f,
                    E0,
                    logdet_post,
                    yty,
                )
            logdet += math.log(v)
            li = 1.0 / math.sqrt(v)
            Linv[i, 0, 0] = li
            U[i, 0, 0] = li * R[i, 0, 0]
            yw[i, 0] = li * y[i, 0]
            for c in range(d):
                Xw[i, 0, c] = li * X[i, 0, c]
        else:
            for a in range(r):
                for b in range(r):
                    s = 0.0
                    for c in range(r):
                        s += R[i, a, c] * Omega[c, b]
                    RO[a, b] = s
            for a in range(r):
                for b in range(a + 1):
                    s = 0.0
                    for c in range(r):
                        s += RO[a, c] * R[i, b, c]
                    W[a, b] = s
                W[a, a] += sigma2
            if not cholesky_in_place(W):
                return (
                    False,
                    -np.inf,
                    gamma,
                    A,
                    score_gamma,
                    score,
                    expected,
                    average,
                    F,
                    Wty,
                    XtW,
                    S,
                    f,
                    E0,
                    logdet_post,
                    yty,
                )
            for a in range(r):
                logdet += 2.0 * math.log(W[a, a])
            invert_lower(W, Linv[i])
            for a in range(r):
                for b in range(r):
                    s = 0.0
                    for c in range(a + 1):
                        s += Linv[i, a, c] * R[i, c, b]
                    U[i, a, b] = s
                s = 0.0
                for c in range(a + 1):
                    s += Linv[i, a, c] * y[i, c]
                yw[i, a] = s
                for e in range(d):
                    s = 0.0
                    for c in range(a + 1):
                        s += Linv[i, a, c] * X[i, c, e]
                    Xw[i, a, e] = s
        for a in range(r):
            for c in range(d):
                x = Xw[i, a, c]
                Xty[c] += x * yw[i, a]
                for e in range(c + 1):
                    A[c, e] += x * Xw[i, a, e]
    for k in range(w):
        for c in range(d):
            x = TX[k, c] * s_inv
            Xty[c] += x * t[k]
            for e in range(c + 1):
                A[c, e] += x * TX[k, e]
    for c in range(d):
        for e in range(c):
            A[e, c] = A[c, e]

    # β: GLS, or as given
    chol = A.copy()
    if not cholesky_in_place(chol):
        return False, -np.inf, gamma, A, score_gamma, score, expected, average, F, Wty, XtW, S, f, E0, logdet_post, yty
    logdet_A = 0.0
    for c in range(d):
        logdet_A += 2.0 * math.log(chol[c, c])
    Ci = np.zeros((d, d))
    invert_lower(chol, Ci)  # M = A⁻¹ = Ciᵀ Ci
    if profile:
        half = np.zeros(d)
        for c in range(d):
            for e in range(c + 1):
                half[c] += Ci[c, e] * Xty[e]
        for c in range(d):
            s = 0.0
            for e in range(c, d):
                s += Ci[e, c] * half[e]
            gamma[c] = s

    # residuals, in place: yw becomes L⁻¹(ỹ − X̃γ)
    quad = 0.0
    for i in range(B):
        for a in range(r):
            s = yw[i, a]
            for c in range(d):
                s -= Xw[i, a, c] * gamma[c]
            yw[i, a] = s
            quad += s * s
            if not profile:
                for c in range(d):
                    score_gamma[c] += Xw[i, a, c] * s
    rss = tau2
    rw = np.empty(w)
    for k in range(w):
        s = t[k]
        for c in range(d):
            s -= TX[k, c] * gamma[c]
        rw[k] = s
        rss += s * s
        if not profile:
            for c in range(d):
                score_gamma[c] += TX[k, c] * s * s_inv
    quad += rss * s_inv
    loglik = -0.5 * (n_obs * math.log(2.0 * math.pi) + logdet + quad)
    if reml:
        loglik += 0.5 * (d * math.log(2.0 * math.pi) - logdet_A)
    if want == 0:
        return True, loglik, gamma, A, score_gamma, score, expected, average, F, Wty, XtW, S, f, E0, logdet_post, yty

    # X whitened by M as well: E_i = (X̃M^½)ᵀW⁻¹R, so that tr(M · ·) is a plain trace
    if reml or (want & AVERAGE) or (want & MOMENTS):
        row = np.empty(d)
        for i in range(B):
            for a in range(r):
                for c in range(d):
                    s = 0.0
                    for e in range(c + 1):
                        s += Ci[c, e] * Xw[i, a, e]
                    row[c] = s
                for c in range(d):
                    Xw[i, a, c] = row[c]
    TXm = np.zeros((w, d))
    for k in range(w):
        for c in range(d):
            s = 0.0
            for e in range(c + 1):
                s += Ci[c, e] * TX[k, e]
            TXm[k, c] = s
    within_m = 0.0
    for k in range(w):
        for c in range(d):
            within_m += TXm[k, c] * TXm[k, c]

    need_info = (want & EXPECTED) != 0
    need_avg = (want & AVERAGE) != 0
    G = np.zeros((r, r))  # Σ h hᵀ − (Q − reml·H)
    trace_T = n_within * s_inv - (within_m * s_inv * s_inv if reml else 0.0)
    gg = rss * s_inv * s_inv
    K4 = np.zeros((r, r, r, r)) if need_info else np.zeros((1, 1, 1, 1))
    JJ = np.zeros((r, r))  # Σ JᵀJ − 2·reml·sym(NᵀE)
    D4 = np.zeros((r, r, d, d)) if (need_info and reml) else np.zeros((1, 1, 1, 1))
    De = np.zeros((d, d))
    tee = n_within * s_inv * s_inv - (2.0 * within_m * s_inv**3 if reml else 0.0)
    # average information: products of the working vectors w_j = V_j P y
    XtVw = np.zeros((p, d))
    h = np.empty(r)
    v = np.empty(r)
    Q = np.empty((r, r))
    H = np.zeros((r, r))
    J = np.empty((r, r))
    E = np.zeros((d, r))
    Fx = np.zeros((d, r))
    N = np.zeros((d, r))
    Jv = np.empty(r)
    zj = np.zeros((n_pairs, r))
    for i in range(B):
        for a in range(r):
            s = 0.0
            for c in range(r):
                s += U[i, c, a] * yw[i, c]
            h[a] = s
            s = 0.0
            for c in range(a, r):
                s += Linv[i, c, a] * yw[i, c]
            v[a] = s
            gg += s * s
        for a in range(r):
            for b in range(a + 1):
                s = 0.0
                for c in range(r):
                    s += U[i, c, a] * U[i, c, b]
                Q[a, b] = s
                Q[b, a] = s
        for a in range(r):
            for c in range(a, r):
                trace_T += Linv[i, c, a] * Linv[i, c, a]
        if reml or need_avg:
            for c in range(d):
                for a in range(r):
                    s = 0.0
                    s2 = 0.0
                    for b in range(r):
                        s += Xw[i, b, c] * U[i, b, a]
                    for b in range(a, r):
                        s2 += Xw[i, b, c] * Linv[i, b, a]
                    E[c, a] = s
                    Fx[c, a] = s2
                    if reml:
                        trace_T -= s2 * s2
        if reml:
            for a in range(r):
                for b in range(a + 1):
                    s = 0.0
                    for c in range(d):
                        s += E[c, a] * E[c, b]
                    H[a, b] = s
                    H[b, a] = s
        for a in range(r):
            for b in range(r):
                G[a, b] += h[a] * h[b] - Q[a, b] + H[a, b]
        if need_info or need_avg:
            for a in range(r):  # J = W⁻¹R
                for b in range(r):
                    s = 0.0
                    for c in range(a, r):
                        s += Linv[i, c, a] * U[i, c, b]
                    J[a, b] = s
        if need_info:
            for a in range(r):
                for b in range(r):
                    for c in range(r):
                        for e in range(r):
                            K4[a, b, c, e] += Q[a, b] * (Q[c, e] - 2.0 * H[c, e])
            if reml:
                for c in range(d):
                    for a in range(r):
                        s = 0.0
                        for b in range(r):
                            s += Fx[c, b] * J[b, a]
                        N[c, a] = s
                for a in range(r):
                    for b in range(r):
                        for c in range(d):
                            for e in range(d):
                                D4[a, b, c, e] += E[c, a] * E[e, b]
                for c in range(d):
                    for e in range(d):
                        s = 0.0
                        for a in range(r):
                            s += Fx[c, a] * Fx[e, a]
                        De[c, e] += s
                for c in range(d):  # tr(M X V⁻³ X): rows of L⁻¹ Fxᵀ
                    for a in range(r):
                        s = 0.0
                        for b in range(a + 1):
                            s += Linv[i, a, b] * Fx[c, b]
                        tee -= 2.0 * s * s
            for a in range(r):
                for b in range(r):
                    s = 0.0
                    for c in range(r):
                        s += J[c, a] * J[c, b]
                    if reml:
                        for c in range(d):
                            s -= N[c, a] * E[c, b] + N[c, b] * E[c, a]
                    JJ[a, b] += s
            for a in range(r):  # tr(W⁻²)
                for b in range(r):
                    s = 0.0
                    for c in range(max(a, b), r):
                        s += Linv[i, c, a] * Linv[i, c, b]
                    tee += s * s
        if need_avg:
            for j in range(n_pairs):
                for a in range(r):
                    zj[j, a] = 0.0
                a, b = pa[j], pb[j]
                zj[j, a] += h[b]
                if a != b:
                    zj[j, b] += h[a]
                for c in range(d):
                    XtVw[j, c] += E[c, a] * h[b]
                    if a != b:
                        XtVw[j, c] += E[c, b] * h[a]
            for a in range(r):
                s = 0.0
                for b in range(r):
                    s += J[b, a] * v[b]
                Jv[a] = s
            for c in range(d):
                s = 0.0
                for a in range(r):
                    s += Fx[c, a] * v[a]
                XtVw[p - 1, c] += s
            for j in range(n_pairs):
                for k in range(j + 1):
                    s = 0.0
                    for a in range(r):
                        if zj[j, a] != 0.0:
                            for b in range(r):
                                s += zj[j, a] * Q[a, b] * zj[k, b]
                    average[j, k] += s
                s = 0.0
                for a in range(r):
                    s += zj[j, a] * Jv[a]
                average[p - 1, j] += s
            for a in range(r):
                s = 0.0
                for b in range(a + 1):
                    s += Linv[i, a, b] * v[b]
                average[p - 1, p - 1] += s * s

    # score
    for j in range(n_pairs):
        a, b = pa[j], pb[j]
        score[j] = 0.5 * G[a, b] if a == b else 0.5 * (G[a, b] + G[b, a])
    score[p - 1] = 0.5 * (gg - trace_T)

    if need_info:
        if reml:
            for k in range(w):
                for c in range(d):
                    for e in range(d):
                        De[c, e] += TXm[k, c] * TXm[k, e] * s_inv * s_inv
        for j in range(n_pairs):
            for k in range(j + 1):
                # symmetrised: tr(E_j Q E_k G) + tr(E_k Q E_j G) over 2
                s = 0.5 * (pair_product(K4, pa[j], pb[j], pa[k], pb[k]) + pair_product(K4, pa[k], pb[k], pa[j], pb[j]))
                if reml:
                    for c in range(d):
                        for e in range(d):
                            x = D4[pa[j], pb[j], c, e]
                            if pa[j] != pb[j]:
                                x += D4[pb[j], pa[j], c, e]
                            z = D4[pa[k], pb[k], e, c]
                            if pa[k] != pb[k]:
                                z += D4[pb[k], pa[k], e, c]
                            s += x * z
                expected[j, k] = 0.5 * s
                expected[k, j] = 0.5 * s
            s = JJ[pa[j], pb[j]]
            if pa[j] != pb[j]:
                s += JJ[pb[j], pa[j]]
            if reml:
                for c in range(d):
                    for e in range(d):
                        x = D4[pa[j], pb[j], c, e]
                        if pa[j] != pb[j]:
                            x += D4[pb[j], pa[j], c, e]
                        s += x * De[e, c]
            expected[p - 1, j] = 0.5 * s
            expected[j, p - 1] = 0.5 * s
        s = tee
        if reml:
            for c in range(d):
                for e in range(d):
                    s += De[c, e] * De[c, e]
        expected[p - 1, p - 1] = 0.5 * s

    if need_avg:
        average[p - 1, p - 1] += rss * s_inv**3
        for k in range(w):
            for c in range(d):
                XtVw[p - 1, c] += TXm[k, c] * rw[k] * s_inv * s_inv
        for j in range(p):
            for k in range(j + 1):
                s = average[j, k]
                if profile:
                    for c in range(d):
                        s -= XtVw[j, c] * XtVw[k, c]
                average[j, k] = 0.5 * s
                average[k, j] = 0.5 * s

    if want & MOMENTS:
        F = np.zeros((m, m))
        Wty = np.zeros(m)
        XtW = np.zeros((d, m))
        S = np.zeros((r, r))
        f = np.zeros(m)
        Lam = psd_root(Omega)
        C = np.empty((r, r))
        RL = np.empty((r, r))
        Kc = np.empty((r, r))
        Kinv = np.empty((r, r))
        GL = np.empty((r, r))
        Si = np.empty((r, r))
        mu = np.empty(r)
        Kb = np.zeros((d, r))
        Rty = np.empty(r)
        Rtr = np.empty(r)
        RtX = np.empty((r, d))
        for i in range(B):
            for a in range(r):
                s = 0.0
                for c in range(r):
                    s += U[i, c, a] * yw[i, c]
                h[a] = s
            for a in range(r):
                s = 0.0
                for b in range(r):
                    s += Omega[a, b] * h[b]
                mu[a] = s
            for a in range(r):
                for b in range(r):
                    s = 0.0
                    s2 = 0.0
                    for c in range(r):
                        s += R[i, c, a] * R[i, c, b]
                        s2 += R[i, a, c] * Lam[c, b]
                    C[a, b] = s
                    RL[a, b] = s2
            for a in range(r):
                for b in range(a + 1):
                    s = 0.0
                    for c in range(r):
                        s += RL[c, a] * RL[c, b]
                    Kc[a, b] = s / sigma2
                Kc[a, a] += 1.0
            if not cholesky_in_place(Kc):
                return (
                    False,
                    -np.inf,
                    gamma,
                    A,
                    score_gamma,
                    score,
                    expected,
                    average,
                    F,
                    Wty,
                    XtW,
                    S,
                    f,
                    E0,
                    logdet_post,
                    yty,
                )
            for a in range(r):
                logdet_post += 2.0 * math.log(Kc[a, a])
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
                for c in range(r):
                    s += R[i, c, a] * y[i, c]
                Rty[a] = s
                for e in range(d):
                    s = 0.0
                    for c in range(r):
                        s += R[i, c, a] * X[i, c, e]
                    RtX[a, e] = s
            for a in range(r):
                s = Rty[a]
                for e in range(d):
                    s -= RtX[a, e] * gamma[e]
                Rtr[a] = s
            if reml:
                for c in range(d):  # Kb = (Xm)ᵀW⁻¹R Ω: cov(γ, b_i) = −M^½ Kb
                    for a in range(r):
                        s = 0.0
                        for b in range(r):
                            s += Xw[i, b, c] * U[i, b, a]
                        E[c, a] = s
                for c in range(d):
                    for a in range(r):
                        s = 0.0
                        for b in range(r):
                            s += E[c, b] * Omega[b, a]
                        Kb[c, a] = s
                for a in range(r):
                    for b in range(r):
                        for c in range(d):
                            Si[a, b] += Kb[c, a] * Kb[c, b]
            for a in range(r):
                for b in range(r):
                    S[a, b] += Si[a, b]
            for j in range(m):
                a, b = fa[j], fb[j]
                for k in range(j + 1):
                    F[j, k] += C[a, fa[k]] * Si[b, fb[k]]
                Wty[j] += Rty[a] * mu[b]
                f[j] += Rtr[a] * mu[b]
                for e in range(d):
                    XtW[e, j] += RtX[a, e] * mu[b]
                if reml:
                    for c in range(d):  # − cov: + Σ (X̃ᵀ)M Kᵀ
                        s = 0.0
                        for e in range(c + 1):
                            s += Ci[c, e] * RtX[a, e]
                        f[j] += s * Kb[c, b]
        for j in range(m):
            for k in range(j):
                F[k, j] = F[j, k]
        for a in range(r):
            for b in range(r):
                if Omega[a, b] != 0.0 or a == b:
                    S[a, b] += (q[a] - B) * Omega[a, b]
        # E‖y − Xγ‖²: XᵀX = I, Xᵀy = 0 in the basis
        for i in range(B):
            for a in range(r):
                s = y[i, a]
                for c in range(d):
                    s -= X[i, a, c] * gamma[c]
                E0 += s * s
        E0 += rss
        yty = tau2
        for i in range(B):
            for a in range(r):
                yty += y[i, a] * y[i, a]
        for k in range(w):
            yty += t[k] * t[k]
        if reml:
            for c in range(d):
                for e in range(c + 1):
                    E0 += Ci[c, e] * Ci[c, e]
    return True, loglik, gamma, A, score_gamma, score, expected, average, F, Wty, XtW, S, f, E0, logdet_post, yty
