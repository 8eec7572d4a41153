"""The compiled loops of kernel `sparse`: M's values, its Cholesky factor, solutions, selected inverse and traces.

Fronts are held transposed, F[k, i] the entry in row i ≥ k of column k, so that the inner loops run along memory.
"""

import math

import numpy as np
from numba import njit

PANEL = 48  # columns eliminated one by one before BLAS takes the next
WIDE = 256  # rows updated at a time
PRODUCT = 20_000  # multiplications above which BLAS is called


@njit(cache=True)
def coefficients(node_k, node_l, ptr, B, prec, where, size, roots, sigma2, out):
    """M = P ⊗ I + ΛᵀZᵀZΛ/σ² at its lower entries `out`, node pair by node pair.

    Pair t joins a level of component node_k[t] with one of node_l[t]: B[ptr[t]:] is its block of ZᵀZ, row by row,
    prec[t] its entry of P, where[…] the place of each number in `out` (−1 above the diagonal).
    """
    for t in range(node_k.shape[0]):
        k, m = node_k[t], node_l[t]
        rk, rm, at = size[k], size[m], ptr[t]
        for c in range(rk):
            for e in range(rm):
                to = where[at + c * rm + e]
                if to < 0:
                    continue
                total = 0.0
                for a in range(rk):
                    for b in range(rm):
                        total += roots[k, a, c] * B[at + a * rm + b] * roots[m, b, e]
                out[to] = total / sigma2 + (prec[t] if c == e and k == m else 0.0)


@njit(cache=True)
def multiply(A, B):
    """A B by loops where they are small, by BLAS where not."""
    if A.shape[0] * A.shape[1] * B.shape[1] > PRODUCT:
        return A @ B
    out = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for k in range(A.shape[1]):
            x = A[i, k]
            for j in range(B.shape[1]):
                out[i, j] += x * B[k, j]
    return out


@njit(cache=True)
def subtract_earlier(F, n, k0, k1):
    """Rows k0 … k1 of a front less what its first n columns take from them."""
    f = F.shape[0]
    if n * (k1 - k0) * (f - k0) > PRODUCT:
        rest = F[:n, k0:k1].copy().T @ F[:n, k0:].copy()
        for k in range(k0, k1):
            for i in range(k, f):
                F[k, i] -= rest[k - k0, i - k0]
    else:
        for k in range(k0, k1):
            for j in range(n):
                x = F[j, k]
                for i in range(k, f):
                    F[k, i] -= x * F[j, i]


@njit(cache=True)
def eliminate(F, w):
    """The first w columns of a front (f, f), and what they leave of the rest; False where a pivot is not positive."""
    f = F.shape[0]
    for j0 in range(0, w, PANEL):
        j1 = min(j0 + PANEL, w)
        subtract_earlier(F, j0, j0, j1)
        for j in range(j0, j1):
            if not F[j, j] > 0.0:
                return False
            d = math.sqrt(F[j, j])
            F[j, j] = d
            for i in range(j + 1, f):
                F[j, i] /= d
            for k in range(j + 1, j1):
                x = F[j, k]
                for i in range(k, f):
                    F[k, i] -= x * F[j, i]
    for k0 in range(w, f, WIDE):
        subtract_earlier(F, w, k0, min(k0 + WIDE, f))
    return True


@njit(cache=True)
def factorise(values, entry, tables, depth):
    """(ok, panels, log|M|) of M = LLᵀ."""
    first, row_ptr, _, place, panel_ptr, child_ptr, child = tables
    panels = np.zeros(panel_ptr[-1])
    panels[entry] = values
    stack = np.empty(depth)
    top, logdet = 0, 0.0
    for s in range(first.shape[0] - 1):
        w = first[s + 1] - first[s]
        f = w + row_ptr[s + 1] - row_ptr[s]
        F = np.zeros((f, f))
        F[:w] = panels[panel_ptr[s] : panel_ptr[s + 1]].reshape((w, f))
        for e in range(child_ptr[s + 1] - 1, child_ptr[s] - 1, -1):
            at = place[row_ptr[child[e]] : row_ptr[child[e] + 1]]
            r = at.shape[0]
            top -= r * r
            update = stack[top : top + r * r].reshape((r, r))
            for a in range(r):
                for b in range(a, r):
                    F[at[a], at[b]] += update[a, b]
        if not eliminate(F, w):
            return False, panels, 0.0
        for j in range(w):
            logdet += 2.0 * math.log(F[j, j])
        panels[panel_ptr[s] : panel_ptr[s + 1]] = F[:w].copy().reshape(w * f)
        r = f - w
        stack[top : top + r * r] = F[w:, w:].copy().reshape(r * r)
        top += r * r
    return True, panels, logdet


@njit(cache=True)
def solve_factored(panels, tables, X):
    """X (q, m) ← M⁻¹X."""
    first, row_ptr, rows, _, panel_ptr, _, _ = tables
    m = X.shape[1]
    for s in range(first.shape[0] - 1):
        w = first[s + 1] - first[s]
        f = w + row_ptr[s + 1] - row_ptr[s]
        L = panels[panel_ptr[s] : panel_ptr[s + 1]].reshape((w, f))
        below = rows[row_ptr[s] : row_ptr[s + 1]]
        for j in range(w):
            at = first[s] + j
            for c in range(m):
                X[at, c] /= L[j, j]
            for i in range(j + 1, f):
                to = first[s] + i if i < w else below[i - w]
                for c in range(m):
                    X[to, c] -= L[j, i] * X[at, c]
    for s in range(first.shape[0] - 2, -1, -1):
        w = first[s + 1] - first[s]
        f = w + row_ptr[s + 1] - row_ptr[s]
        L = panels[panel_ptr[s] : panel_ptr[s + 1]].reshape((w, f))
        below = rows[row_ptr[s] : row_ptr[s + 1]]
        for j in range(w - 1, -1, -1):
            at = first[s] + j
            for i in range(j + 1, f):
                to = first[s] + i if i < w else below[i - w]
                for c in range(m):
                    X[at, c] -= L[j, i] * X[to, c]
            for c in range(m):
                X[at, c] /= L[j, j]


@njit(cache=True)
def invert_upper(U):
    """U⁻¹ of an upper triangular U (w, w): small blocks on the diagonal, then two neighbours at a time,
    [U_11 U_12; 0 U_22]⁻¹ = [X_1, −X_1 U_12 X_2; 0, X_2]."""
    w = U.shape[0]
    out = np.zeros((w, w))
    for i0 in range(0, w, PANEL):
        i1 = min(i0 + PANEL, w)
        for i in range(i1 - 1, i0 - 1, -1):
            out[i, i] = 1.0
            for k in range(i + 1, i1):
                x = U[i, k]
                for j in range(k, i1):
                    out[i, j] -= x * out[k, j]
            for j in range(i, i1):
                out[i, j] /= U[i, i]
    s = PANEL
    while s < w:
        for i0 in range(0, w - s, 2 * s):
            i1, i2 = i0 + s, min(i0 + 2 * s, w)
            side = multiply(U[i0:i1, i1:i2].copy(), out[i1:i2, i1:i2].copy())
            out[i0:i1, i1:i2] = -multiply(out[i0:i1, i0:i1].copy(), side)
        s *= 2
    return out


@njit(cache=True)
def add_square(X, out):
    """out += X Xᵀ, X (w, w) upper triangular."""
    w = X.shape[0]
    for i0 in range(0, w, WIDE):
        i1 = min(i0 + WIDE, w)
        part = multiply(X[i0:i1, i0:].copy(), X[i0:, i0:].copy().T)
        for i in range(i0, i1):
            for j in range(i0, w):
                out[i, j] += part[i - i0, j - i0]
                if j >= i1:
                    out[j, i] += part[i - i0, j - i0]


@njit(cache=True)
def selected_inverse(panels, tables, depth):
    """M⁻¹ at the places where L has entries, in the panels of L (Takahashi, Fagan & Chen 1973; Erisman & Tinney 1975).

    With a front's columns C and rows R, L_CC = X⁻¹ and Y = L_RC X:  Z_RC = −Z_RR Y,  Z_CC = XᵀX + YᵀZ_RR Y; Z_RR is
    part of the parent's front. From the root down: the mirror of the factorisation.
    """
    first, row_ptr, _, place, panel_ptr, child_ptr, child = tables
    out = np.empty(panel_ptr[-1])
    stack = np.empty(depth)
    top = 0
    for s in range(first.shape[0] - 2, -1, -1):
        w = first[s + 1] - first[s]
        r = row_ptr[s + 1] - row_ptr[s]
        f = w + r
        L = panels[panel_ptr[s] : panel_ptr[s + 1]].reshape((w, f))  # row j is column j of L
        Xt = invert_upper(L[:, :w])  # Xᵀ = L_CC⁻ᵀ
        Z = np.empty((f, f))
        if r > 0:
            top -= r * r
            Zrr = stack[top : top + r * r].reshape((r, r)).copy()
            Yt = multiply(Xt, L[:, w:].copy())
            Nt = multiply(Yt, Zrr)
            corner = multiply(Yt, Nt.T.copy())
            Z[w:, w:] = Zrr
            for j in range(w):
                for i in range(r):
                    Z[j, w + i] = -Nt[j, i]
                    Z[w + i, j] = -Nt[j, i]
        else:
            corner = np.zeros((w, w))
        Z[:w, :w] = corner
        add_square(Xt, Z[:w, :w])
        out[panel_ptr[s] : panel_ptr[s + 1]] = Z[:w].copy().reshape(w * f)
        for e in range(child_ptr[s], child_ptr[s + 1]):
            at = place[row_ptr[child[e]] : row_ptr[child[e] + 1]]
            n = at.shape[0]
            for a in range(n):
                for b in range(n):
                    stack[top + a * n + b] = Z[at[a], at[b]]
            top += n * n
    return out


@njit(cache=True)
def covariances(node_k, node_l, ptr, where, size, roots, inverse, out):
    """ΛM⁻¹Λᵀ block by block as B is laid out, `inverse` M⁻¹ as M's lower entries."""
    top = roots.shape[1]
    Z = np.zeros((top, top))
    for t in range(node_k.shape[0]):
        k, m, at = node_k[t], node_l[t], ptr[t]
        rk, rm = size[k], size[m]
        for c in range(rk):
            for e in range(rm):
                to = where[at + c * rm + e]
                Z[c, e] = inverse[to if to >= 0 else where[at + e * rm + c]]
        for a in range(rk):
            for b in range(rm):
                total = 0.0
                for c in range(rk):
                    for e in range(rm):
                        total += roots[k, a, c] * Z[c, e] * roots[m, b, e]
                out[at + a * rm + b] = total


@njit(cache=True)
def contract(node_k, node_l, ptr, B, prec, where, same, size, roots, inverse, offset, with_F, F):
    """(R, PZ): the sums over M⁻¹'s selected entries that traces are made of; `inverse` as M's lower entries.

    R[k] = Σ_levels (M⁻¹ΛᵀZᵀZ) at one level, effects (c, b);  PZ[k] = Σ P_ij M⁻¹_ij, effects (c, e). With `with_F`,
    F[(a, b), (c, e)] += Σ (Z_aᵀZ_c)_ij Cov(u)_(i b)(j e), features (a, b) of component k from offset[k] on.
    """
    n, top = size.shape[0], roots.shape[1]
    R, PZ = np.zeros((n, top, top)), np.zeros((n, top, top))
    Z, C = np.zeros((top, top)), np.zeros((top, top))
    for t in range(node_k.shape[0]):
        k, m = node_k[t], node_l[t]
        rk, rm, at = size[k], size[m], ptr[t]
        for c in range(rk):
            for e in range(rm):
                to = where[at + c * rm + e]
                Z[c, e] = inverse[to if to >= 0 else where[at + e * rm + c]]
        for c in range(rk):
            for e in range(rm):
                if prec[t] != 0.0:
                    PZ[k, c, e] += prec[t] * Z[c, e]
                    if not same[t]:
                        PZ[k, e, c] += prec[t] * Z[c, e]
                for a in range(rm):  # (M⁻¹ Λᵀ B): from the columns of pair (k, m), and of its mirror image
                    x = Z[c, e] * roots[m, a, e]
                    for b in range(rk):
                        R[k, c, b] += x * B[at + b * rm + a]
                if not same[t]:
                    for a in range(rk):
                        x = Z[c, e] * roots[k, a, c]
                        for b in range(rm):
                            R[m, e, b] += x * B[at + a * rm + b]
        if not with_F:
            continue
        for b in range(rk):
            for e in range(rm):
                total = 0.0
                for x in range(rk):
                    for y in range(rm):
                        total += roots[k, b, x] * Z[x, y] * roots[m, e, y]
                C[b, e] = total
        for a in range(rk):
            for b in range(rk):
                for c in range(rm):
                    for e in range(rm):
                        i, j = offset[k] + a * rk + b, offset[m] + c * rm + e
                        x = B[at + a * rm + c] * C[b, e]
                        F[i, j] += x
                        if not same[t]:
                            F[j, i] += x
    return R, PZ
