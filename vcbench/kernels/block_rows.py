"""The block-diagonal likelihood of `block_core`, with the loop over blocks innermost.

The same algebra on the same reduced model, W_i = R_i Ω R_iᵀ + σ² I for i = 1 … B, stored as rows of length B: one entry
of a small matrix over all blocks is a row. Every step is then a product of two rows or their dot product, of which the
processor does several blocks at a time. The E-step's moments are left to `block_core`.

A matrix is a first row in an array of rows, entry (a, b) of an r × r one at first + a r + b; symmetric and triangular
ones are packed, entry (a, b ≤ a) at first + `tri(a, b)`.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from vcbench.kernels.block_core import AVERAGE, EXPECTED, MOMENTS, SCORE, cholesky_in_place, invert_lower
from vcbench.kernels.block_moments import moments_of_blocks

FAR = 1e100  # pivots within [1/FAR, FAR] are multiplied, their product kept within it: no overflow, no digit lost

SUMS = {"reassoc", "contract", "nsz"}  # sums in any order, so that they run in parallel; nan and inf mean what they do
# without Numba's reference counts, of which these calls would otherwise do little else: nothing here allocates
OPTIONS: Any = {"cache": True, "fastmath": SUMS, "error_model": "numpy", "_nrt": False}
rowwise = njit(**OPTIONS)


@rowwise
def tri(a, b):
    """Place of entry (a, b) of a packed symmetric matrix."""
    return a * (a + 1) // 2 + b if a >= b else b * (b + 1) // 2 + a


@rowwise
def put(S, out, x, T, y):
    """S_out = S_x ∘ T_y."""
    for i in range(S.shape[1]):
        S[out, i] = S[x, i] * T[y, i]


@rowwise
def add(S, out, x, T, y):
    """S_out += S_x ∘ T_y."""
    for i in range(S.shape[1]):
        S[out, i] += S[x, i] * T[y, i]


@rowwise
def add_multiple(S, out, c, T, x, m):
    """S_{out + k} += c T_{x + k}, k < m."""
    for k in range(m):
        for i in range(S.shape[1]):
            S[out + k, i] += c * T[x + k, i]


@rowwise
def scale(S, out, c, m):
    """S_{out + k} *= c, k < m."""
    for k in range(m):
        for i in range(S.shape[1]):
            S[out + k, i] *= c


@rowwise
def dot(S, x, y, m):
    """Σ S_{x + k} · S_{y + k}, k < m."""
    s = 0.0
    for k in range(m):
        for i in range(S.shape[1]):
            s += S[x + k, i] * S[y + k, i]
    return s


@rowwise
def dots(S, x, m, y, k, out):
    """out (m, k) = the dot products of rows x, x + 1, … with rows y, y + 1, …"""
    for a in range(m):
        for b in range(k):
            s = 0.0
            for i in range(S.shape[1]):
                s += S[x + a, i] * S[y + b, i]
            out[a, b] = s


@rowwise
def log_product(S, x):
    """(ok, Σ log S_x), a logarithm for many entries at once; not ok where one of them is not positive."""
    total, product = 0.0, 1.0
    for i in range(S.shape[1]):
        v = S[x, i]
        if not v > 0.0:
            return False, 0.0
        if v > FAR or v < 1.0 / FAR:
            total += math.log(v)
        else:
            product *= v
            if product > FAR or product < 1.0 / FAR:
                total += math.log(product)
                product = 1.0
    return True, total + math.log(product)


@rowwise
def factorise(S, D, theta, pa, pb, r, L, work):
    """(ok, Σ log|W_i|); L (packed) becomes L_i⁻¹, L_i L_iᵀ = W_i. R is D's first matrix, work r × r scratch."""
    B = S.shape[1]
    sigma2 = theta[theta.shape[0] - 1]
    for k in range(r * r):
        for i in range(B):
            S[work + k, i] = 0.0
    for j in range(pa.shape[0]):  # R Ω
        for a in range(r):
            add_multiple(S, work + a * r + pb[j], theta[j], D, a * r + pa[j], 1)
            if pa[j] != pb[j]:
                add_multiple(S, work + a * r + pa[j], theta[j], D, a * r + pb[j], 1)
    for a in range(r):
        for b in range(a + 1):
            w = L + tri(a, b)
            for i in range(B):
                S[w, i] = sigma2 if a == b else 0.0
            for c in range(r):
                add(S, w, work + a * r + c, D, b * r + c)
    logdet = 0.0
    for j in range(r):  # Cholesky, 1/L_jj on the diagonal
        pivot = L + tri(j, j)
        for k in range(j):
            w = L + tri(j, k)
            for i in range(B):
                S[pivot, i] -= S[w, i] * S[w, i]
        ok, part = log_product(S, pivot)
        if not ok:
            return False, 0.0
        logdet += part
        for i in range(B):
            S[pivot, i] = 1.0 / math.sqrt(S[pivot, i])
        for i in range(j + 1, r):
            w = L + tri(i, j)
            for k in range(j):
                x, z = L + tri(i, k), L + tri(j, k)
                for at in range(B):
                    S[w, at] -= S[x, at] * S[z, at]
            put(S, w, w, S, pivot)
    for j in range(r):  # the inverse in its place, a column at a time
        for i in range(j + 1, r):
            w, last = L + tri(i, j), L + tri(i, i)
            put(S, w, w, S, L + tri(j, j))
            for k in range(j + 1, i):
                add(S, w, L + tri(i, k), S, L + tri(k, j))
            for at in range(B):
                S[w, at] *= -S[last, at]
    return True, logdet


@rowwise
def lower_times(S, L, T, x, step, r, out):
    """out = L⁻¹ x of every block, x the rows T_x, T_{x + step}, …; out with the same step."""
    for a in range(r):
        put(S, out + a * step, L + tri(a, 0), T, x)
        for c in range(1, a + 1):
            add(S, out + a * step, L + tri(a, c), T, x + c * step)


@rowwise
def upper_times(S, L, x, step, r, out):
    """out = L⁻ᵀ x of every block."""
    for a in range(r):
        put(S, out + a * step, L + tri(a, a), S, x + a * step)
        for c in range(a + 1, r):
            add(S, out + a * step, L + tri(c, a), S, x + c * step)


@rowwise
def transposed_times(S, M, x, r, out):
    """out = Mᵀ x of every block, M r × r."""
    for a in range(r):
        put(S, out + a, M + a, S, x)
        for c in range(1, r):
            add(S, out + a, M + c * r + a, S, x + c)


@rowwise
def pair_sum(K, a, b, c, e):
    """tr(E_j A E_k B) summed over blocks, K[s, t] = Σ A_s B_t packed, E_j = e_a e_bᵀ (+ its transpose if a ≠ b)."""
    total = K[tri(b, c), tri(e, a)]
    if a != b:
        total += K[tri(a, c), tri(e, b)]
    if c != e:
        total += K[tri(b, e), tri(c, a)]
        if a != b:
            total += K[tri(a, e), tri(c, b)]
    return total


@rowwise
def places(r, d):
    """First rows of the matrices that `fill` works in."""
    s, k = r * (r + 1) // 2, r * r
    X = s + 2 * k
    y = X + 4 * d * r
    Q = y + 4 * r
    return 0, s, s + k, X, X + d * r, X + 2 * d * r, X + 3 * d * r, y, y + r, y + 2 * r, y + 3 * r, Q, Q + s, Q + 2 * s


@rowwise
def fill(
    D, TX, t, tau2, n_within, n_obs, r, theta, profile, reml, want, pa, pb, S, small, XE, scratch, gamma, A,
    score_gamma, score, expected, average,
):  # fmt: skip
    """(ok, loglik) of `evaluate_blocks`, no moments; the last six arguments, zeros but for a given γ, become what they
    are called. small (3d + w + 1 + p, d) and XE (pairs, d, d) zeros, scratch four squares as large as d r.
    """
    B = D.shape[1]
    d, w = TX.shape[1], TX.shape[0]
    n_pairs = pa.shape[0]
    p = n_pairs + 1
    s2 = r * (r + 1) // 2
    sigma2 = theta[p - 1]

    has_within = n_within != 0 or w > 0 or tau2 > 0.0
    if not (sigma2 > 0.0 or not has_within):
        return False, -np.inf
    s_inv = 1.0 / sigma2 if has_within else 0.0

    X, y = r * r, r * r + d * r  # rows of D
    L, U, J, Xw, E, Fx, N, yw, h, v, z, Q, other, more = places(r, d)  # rows of S

    # factorise, whiten, QᵀV⁻¹Q and QᵀV⁻¹y
    ok, logdet = factorise(S, D, theta, pa, pb, r, L, J)
    if not ok:
        return False, -np.inf
    if n_within != 0:
        logdet += n_within * math.log(sigma2)
    lower_times(S, L, D, y, 1, r, yw)
    chol, inverse, De, TXm = small[:d], small[d : 2 * d], small[2 * d : 3 * d], small[3 * d :]
    Xty, XtVw = small[3 * d + w], small[3 * d + w + 1 :]
    EE, Eh, zh, K = scratch[0], scratch[1], scratch[2], scratch[3]
    for c in range(d):
        lower_times(S, L, D, X + c * r, 1, r, Xw + c * r)
        Xty[c] = dot(S, Xw + c * r, yw, r)
        for e in range(c + 1):
            A[c, e] = dot(S, Xw + c * r, Xw + e * r, r)
    for k in range(w):
        for c in range(d):
            x = TX[k, c] * s_inv
            Xty[c] += x * t[k]
            for e in range(c + 1):
                A[c, e] += x * TX[k, e]
    for c in range(d):
        for e in range(c + 1):
            A[e, c] = A[c, e]
            chol[c, e] = A[c, e]
    if not cholesky_in_place(chol):
        return False, -np.inf
    invert_lower(chol, inverse)  # M = A⁻¹ = Ciᵀ Ci
    logdet_A = 0.0
    for c in range(d):
        logdet_A += 2.0 * math.log(chol[c, c])
    if profile:  # γ = M QᵀV⁻¹y
        for c in range(d):
            gamma[c] = 0.0
        for c in range(d):
            half = 0.0
            for e in range(c + 1):
                half += inverse[c, e] * Xty[e]
            for e in range(c + 1):
                gamma[e] += inverse[c, e] * half

    # residuals, in place: yw becomes L⁻¹(ỹ − X̃γ)
    for c in range(d):
        add_multiple(S, yw, -gamma[c], S, Xw + c * r, r)
    rss = tau2
    for k in range(w):
        x = t[k]
        for c in range(d):
            x -= TX[k, c] * gamma[c]
        rss += x * x
        if not profile:
            for c in range(d):
                score_gamma[c] += TX[k, c] * x * s_inv
    if not profile:
        for c in range(d):
            score_gamma[c] += dot(S, Xw + c * r, yw, r)
    quad = dot(S, yw, yw, r) + rss * s_inv
    loglik = -0.5 * (n_obs * math.log(2.0 * math.pi) + logdet + quad)
    if reml:
        loglik += 0.5 * (d * math.log(2.0 * math.pi) - logdet_A)
    if (want & (SCORE | EXPECTED | AVERAGE)) == 0:
        return True, loglik
    need_info, need_avg = (want & EXPECTED) != 0, (want & AVERAGE) != 0

    # U = L⁻¹R, h = RᵀW⁻¹r̃, v = W⁻¹r̃, Q = RᵀW⁻¹R; X whitened by M as well: E = (X̃M^½)ᵀW⁻¹R, F = (X̃M^½)ᵀW⁻¹
    for b in range(r):
        lower_times(S, L, D, b, r, r, U + b)
    transposed_times(S, U, yw, r, h)
    upper_times(S, L, yw, 1, r, v)
    for a in range(r):
        for b in range(a + 1):
            put(S, Q + tri(a, b), U + a, S, U + b)
            for c in range(1, r):
                add(S, Q + tri(a, b), U + c * r + a, S, U + c * r + b)
    within_m = 0.0
    for k in range(w):
        for c in range(d):
            x = 0.0
            for e in range(c + 1):
                x += inverse[c, e] * TX[k, e]
            TXm[k, c] = x
            within_m += x * x
    if reml or need_avg:
        for c in range(d - 1, -1, -1):
            scale(S, Xw + c * r, inverse[c, c], r)
            for e in range(c):
                add_multiple(S, Xw + c * r, inverse[c, e], S, Xw + e * r, r)
            transposed_times(S, U, Xw + c * r, r, E + c * r)
            upper_times(S, L, Xw + c * r, 1, r, Fx + c * r)

    # score
    trace_T = n_within * s_inv + dot(S, L, L, s2)
    if reml:
        trace_T -= within_m * s_inv * s_inv + dot(S, Fx, Fx, d * r)
    score[p - 1] = 0.5 * (dot(S, v, v, r) + rss * s_inv * s_inv - trace_T)
    for j in range(n_pairs):
        a, b = pa[j], pb[j]
        s = dot(S, h + a, h + b, 1)
        for i in range(B):
            s -= S[Q + tri(a, b), i]
        if reml:
            for c in range(d):
                s += dot(S, E + c * r + a, E + c * r + b, 1)
        score[j] = 0.5 * s if a == b else s
    if not (need_info or need_avg):
        return True, loglik

    for b in range(r):  # J = W⁻¹R
        upper_times(S, L, U + b, r, r, J + b)
    if need_info:
        for s in range(s2):  # Q − 2H, H = EᵀE
            for i in range(B):
                S[other + s, i] = S[Q + s, i]
        if reml:
            for c in range(d):
                for a in range(r):
                    for b in range(a + 1):
                        o, x1, x2 = other + tri(a, b), E + c * r + a, E + c * r + b
                        for i in range(B):
                            S[o, i] -= 2.0 * S[x1, i] * S[x2, i]
                transposed_times(S, J, Fx + c * r, r, N + c * r)
                for e in range(c + 1):
                    x = dot(S, Fx + c * r, Fx + e * r, r)
                    for k in range(w):
                        x += TXm[k, c] * TXm[k, e] * s_inv * s_inv
                    De[c, e] = x
                    De[e, c] = x
            dots(S, E, d * r, E, d * r, EE)
            for j in range(n_pairs):  # XE: Σ E_a E_bᵀ (+ its transpose if a ≠ b)
                a, b = pa[j], pb[j]
                for c in range(d):
                    for e in range(d):
                        x = EE[c * r + a, e * r + b]
                        XE[j, c, e] += x
                        if a != b:
                            XE[j, e, c] += x
        dots(S, Q, s2, other, s2, K)
        for s in range(s2):
            for u in range(s):
                K[s, u] = 0.5 * (K[s, u] + K[u, s])
                K[u, s] = K[s, u]
        for j in range(n_pairs):
            a, b = pa[j], pb[j]
            for k in range(j + 1):
                x = pair_sum(K, a, b, pa[k], pb[k])
                if reml:
                    for c in range(d):
                        for e in range(d):
                            x += XE[j, c, e] * XE[k, e, c]
                expected[j, k] = 0.5 * x
                expected[k, j] = 0.5 * x
            x = 0.0
            for c in range(r):
                x += dot(S, J + c * r + a, J + c * r + b, 1)
            if reml:
                for c in range(d):
                    x -= dot(S, N + c * r + a, E + c * r + b, 1) + dot(S, N + c * r + b, E + c * r + a, 1)
            if a != b:
                x *= 2.0
            if reml:
                for c in range(d):
                    for e in range(d):
                        x += XE[j, c, e] * De[e, c]
            expected[p - 1, j] = 0.5 * x
            expected[j, p - 1] = 0.5 * x
        x = n_within * s_inv * s_inv
        for a in range(r):  # tr(W⁻²)
            for b in range(a + 1):
                put(S, more, L + tri(r - 1, a), S, L + tri(r - 1, b))
                for c in range(a, r - 1):
                    add(S, more, L + tri(c, a), S, L + tri(c, b))
                x += (1.0 if a == b else 2.0) * dot(S, more, more, 1)
        if reml:
            x -= 2.0 * within_m * s_inv**3
            for c in range(d):
                lower_times(S, L, S, Fx + c * r, 1, r, z)
                x -= 2.0 * dot(S, z, z, r)
                for e in range(d):
                    x += De[c, e] * De[c, e]
        expected[p - 1, p - 1] = 0.5 * x

    if need_avg:  # products of the working vectors V_j P y
        for a in range(r):
            for b in range(a + 1):
                put(S, more + tri(a, b), h + a, S, h + b)
        dots(S, Q, s2, more, s2, K)
        dots(S, E, d * r, h, r, Eh)
        transposed_times(S, J, v, r, z)
        dots(S, z, r, h, r, zh)
        for j in range(n_pairs):
            a, b = pa[j], pb[j]
            for k in range(j + 1):
                average[j, k] = pair_sum(K, a, b, pa[k], pb[k])
            average[p - 1, j] = zh[a, b]
            if a != b:
                average[p - 1, j] += zh[b, a]
            for c in range(d):
                XtVw[j, c] = Eh[c * r + a, b]
                if a != b:
                    XtVw[j, c] += Eh[c * r + b, a]
        lower_times(S, L, S, v, 1, r, z)
        average[p - 1, p - 1] = dot(S, z, z, r) + rss * s_inv**3
        for c in range(d):
            XtVw[p - 1, c] = dot(S, Fx + c * r, v, r)
            for k in range(w):
                x = t[k]
                for e in range(d):
                    x -= TX[k, e] * gamma[e]
                XtVw[p - 1, c] += TXm[k, c] * x * s_inv * s_inv
        for j in range(p):
            for k in range(j + 1):
                x = average[j, k]
                if profile:
                    for c in range(d):
                        x -= XtVw[j, c] * XtVw[k, c]
                average[j, k] = 0.5 * x
                average[k, j] = 0.5 * x
    return True, loglik


@njit(cache=True)
def evaluate_blocks(D, TX, t, tau2, n_within, n_obs, q, theta, gamma_in, profile, reml, want, pa, pb, fa, fb, S):
    """ℓ and what `want` asks for (bits SCORE, EXPECTED, AVERAGE, MOMENTS) at θ = (pairs of Ω, σ²).

    D: the `blocks.design_rows`; TX (w, d), t (w,); q (r,) EM divisors; gamma_in (d,) is used unless `profile`; pa, pb
    pairs of θ; fa, fb features of the moments; S: the `blocks.work_space`.

    Returns (ok, loglik, gamma, QtVinvQ, score_gamma, score, expected, average, F, Wty, XtW, S, f, E0, logdet, yty).
    """
    r, d, p = q.shape[0], TX.shape[1], theta.shape[0]
    moments = (want & MOMENTS) != 0
    vectors, squares, A = np.zeros((2, d)), np.zeros((2, p, p)), np.zeros((d, d))
    gamma, score_gamma, score, expected, average = vectors[0], vectors[1], np.zeros(p), squares[0], squares[1]
    gamma[:] = gamma_in
    largest = max(d * r, r * (r + 1) // 2)
    small, XE = np.zeros((3 * d + TX.shape[0] + 1 + p, d)), np.zeros((p - 1, d, d))
    scratch = np.empty((4, largest, largest))
    ok, loglik = fill(
        D, TX, t, tau2, n_within, n_obs, r, theta, profile, reml, want | SCORE if moments else want, pa, pb, S, small,
        XE, scratch, gamma, A, score_gamma, score, expected, average,
    )  # fmt: skip
    none, XtW = score[:0], np.zeros((d, 0))
    if not ok or not moments:
        return ok, loglik, gamma, A, score_gamma, score, expected, average, A[:0], none, XtW, A[:0], none, 0.0, 0.0, 0.0
    if theta[p - 1] > 0.0:
        where = places(r, d)
        ok, F, Wty, XtW, EbbT, f, E0, logdet, yty = moments_of_blocks(
            D, TX, t, tau2, q, theta, gamma, A, reml, pa, pb, fa, fb, S, where[8], where[4]
        )
        if ok:
            return True, loglik, gamma, A, score_gamma, score, expected, average, F, Wty, XtW, EbbT, f, E0, logdet, yty
    return False, -np.inf, gamma, A, score_gamma, score, expected, average, A[:0], none, XtW, A[:0], none, 0.0, 0.0, 0.0
