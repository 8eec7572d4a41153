"""The compiled loops of `crossed`: sparse cross products of grouping factors, and what goes to and from the dense part.

A `cross` holds Z_rᵀZ_c for the levels of one factor (rows) and those of others (columns), without its zeros: level l of
the row factor, with r effects, meets the columns idx[ptr[l]:ptr[l+1]] with values val[…] (r numbers a column). Columns
are single effects; the effects of one level stand side by side, and columns ascend within a row.
"""

import numpy as np
from numba import njit


@njit(cache=True)
def sort_rows(codes, n_levels):
    """(start (N + 1,), order (n,)): the rows of each level, by counting."""
    start = np.zeros(n_levels + 1, np.int64)
    for c in codes:
        start[c + 1] += 1
    for level in range(n_levels):
        start[level + 1] += start[level]
    at = start[:-1].copy()
    order = np.empty(codes.shape[0], np.int64)
    for i in range(codes.shape[0]):
        order[at[codes[i]]] = i
        at[codes[i]] += 1
    return start, order


@njit(cache=True)
def meet(start, order, A, codes, B, width, first, n_columns):
    """The cross of the factor sorted in (start, order), rows A (n, r), and factors `codes` (F, n), rows B (n, Σ width).

    `first` (F,) is the column where each factor begins, `width` (F,) its effects.
    """
    N, r = start.shape[0] - 1, A.shape[1]
    F = codes.shape[0]
    widest = 0
    for level in range(N):
        widest = max(widest, start[level + 1] - start[level])
    room = 0
    for f in range(F):
        room += width[f]
    seen = np.full(n_columns, -1, np.int64)
    place = np.zeros(n_columns, np.int64)
    ptr = np.zeros(N + 1, np.int64)
    total = 0
    for level in range(N):
        for k in range(start[level], start[level + 1]):
            for f in range(F):
                c = first[f] + codes[f, order[k]] * width[f]
                if seen[c] != level:
                    seen[c] = level
                    total += width[f]
        ptr[level + 1] = total
    idx = np.empty(total, np.int32)
    val = np.zeros((total, r))
    found = np.empty(widest * F, np.int64)
    seen[:] = -1
    for level in range(N):
        n_found = 0
        for k in range(start[level], start[level + 1]):
            for f in range(F):
                c = first[f] + codes[f, order[k]] * width[f]
                if seen[c] != level:
                    seen[c] = level
                    place[c] = width[f]
                    found[n_found] = c
                    n_found += 1
        columns = np.sort(found[:n_found])
        p = ptr[level]
        for c in columns:
            w = place[c]
            place[c] = p
            for t in range(w):
                idx[p] = c + t
                p += 1
        for k in range(start[level], start[level + 1]):
            i = order[k]
            at = 0
            for f in range(F):
                p = place[first[f] + codes[f, i] * width[f]]
                for t in range(width[f]):
                    for a in range(r):
                        val[p + t, a] += A[i, a] * B[i, at + t]
                at += width[f]
    return ptr, idx, val


@njit(cache=True)
def sum_levels(codes, n_levels, A, B):
    """Σ over the rows i of each level of A_iᵀB_i: (N, r, m)."""
    r, m = A.shape[1], B.shape[1]
    out = np.zeros((n_levels, r, m))
    for i in range(codes.shape[0]):
        for a in range(r):
            for b in range(m):
                out[codes[i], a, b] += A[i, a] * B[i, b]
    return out


@njit(cache=True)
def times_blocks(idx, val, base, effect, root):
    """val·(I ⊗ root): every level's columns multiplied by its factor's root (root (R, R), by effect of a column)."""
    out = np.zeros_like(val)
    for p in range(idx.shape[0]):
        j = idx[p]
        before = j - base[j]
        s, q = 0, p - before
        while q < idx.shape[0] and s + base[j] < base.shape[0] and base[base[j] + s] == base[j]:
            x = root[effect[base[j] + s], effect[j]]
            for a in range(val.shape[1]):
                out[p, a] += val[q, a] * x
            s += 1
            q += 1
    return out


@njit(cache=True)
def add_cross(ptr, idx, val, at, S):
    """Add the cross of a dense factor, whose first column is `at`, with earlier ones to the lower triangle of S."""
    for level in range(ptr.shape[0] - 1):
        for p in range(ptr[level], ptr[level + 1]):
            for a in range(val.shape[1]):
                S[at + level * val.shape[1] + a, idx[p]] += val[p, a]


@njit(cache=True)
def scatter(ptr, idx, val, W, S):
    """Take Σ_l val_lᵀ W_l val_l from the lower triangle of S: the Schur complement of the leading factor."""
    r = val.shape[1]
    if r == 1:
        for level in range(ptr.shape[0] - 1):
            w = W[level, 0, 0]
            for p in range(ptr[level], ptr[level + 1]):
                row, x = S[idx[p]], w * val[p, 0]
                for q in range(ptr[level], p + 1):
                    row[idx[q]] -= x * val[q, 0]
        return
    x = np.empty(r)
    for level in range(ptr.shape[0] - 1):
        for p in range(ptr[level], ptr[level + 1]):
            for a in range(r):
                x[a] = 0.0
                for b in range(r):
                    x[a] += W[level, a, b] * val[p, b]
            for q in range(ptr[level], p + 1):
                total = 0.0
                for a in range(r):
                    total += x[a] * val[q, a]
                S[idx[p], idx[q]] -= total


@njit(cache=True)
def scatter_columns(ptr, idx, val, W, low, high, out):
    """As `scatter`, all rows of the columns low … high − 1 only: out (q1, high − low)."""
    r = val.shape[1]
    x = np.empty(r)
    for level in range(ptr.shape[0] - 1):
        for q in range(ptr[level], ptr[level + 1]):
            if low <= idx[q] < high:
                for a in range(r):
                    x[a] = 0.0
                    for b in range(r):
                        x[a] += W[level, a, b] * val[q, b]
                for p in range(ptr[level], ptr[level + 1]):
                    total = 0.0
                    for a in range(r):
                        total += x[a] * val[p, a]
                    out[idx[p], idx[q] - low] -= total


@njit(cache=True)
def gather(ptr, idx, val, S):
    """(X, X valᵀ): X_l = val_l·S at the columns of level l, and X_l val_lᵀ (N, r, r); S by its lower half."""
    r = val.shape[1]
    N = ptr.shape[0] - 1
    X = np.zeros_like(val)
    total = np.zeros((N, r, r))
    for level in range(N):
        lo, hi = ptr[level], ptr[level + 1]
        if r == 1:
            for p in range(lo, hi):
                row, x, s = S[idx[p]], val[p, 0], 0.0
                for q in range(lo, p):
                    s += row[idx[q]] * val[q, 0]
                    X[q, 0] += row[idx[q]] * x
                X[p, 0] += s + row[idx[p]] * x
        else:
            for p in range(lo, hi):
                for q in range(lo, p + 1):
                    s = S[idx[p], idx[q]]
                    for a in range(r):
                        X[p, a] += s * val[q, a]
                        if q < p:
                            X[q, a] += s * val[p, a]
        for p in range(lo, hi):
            for a in range(r):
                for b in range(r):
                    total[level, a, b] += X[p, a] * val[p, b]
    return X, total


@njit(cache=True)
def pick(ptr, idx, r, at, S):
    """The entries of S (q1, q1) where the cross of a dense factor with earlier ones has its own: (nnz, r)."""
    out = np.empty((idx.shape[0], r))
    for level in range(ptr.shape[0] - 1):
        for p in range(ptr[level], ptr[level + 1]):
            for a in range(r):
                out[p, a] = S[at + level * r + a, idx[p]]
    return out


@njit(cache=True)
def down(ptr, idx, val, T, out):
    """out (q1, m) += valᵀ T, T (N, r, m)."""
    for level in range(ptr.shape[0] - 1):
        for p in range(ptr[level], ptr[level + 1]):
            for a in range(val.shape[1]):
                x = val[p, a]
                for k in range(T.shape[2]):
                    out[idx[p], k] += x * T[level, a, k]


@njit(cache=True)
def up(ptr, idx, val, u, out):
    """out (N, r, m) += val u, u (q1, m)."""
    for level in range(ptr.shape[0] - 1):
        for p in range(ptr[level], ptr[level + 1]):
            for a in range(val.shape[1]):
                x = val[p, a]
                for k in range(u.shape[1]):
                    out[level, a, k] += x * u[idx[p], k]


@njit(cache=True)
def add_outer(ptr, idx, rows, columns, out):
    """out (nnz, r) += rows_l columns_jᵀ at the entries of a cross; rows (N, r, k), columns (q1, k)."""
    for level in range(ptr.shape[0] - 1):
        for p in range(ptr[level], ptr[level + 1]):
            for a in range(rows.shape[1]):
                for k in range(rows.shape[2]):
                    out[p, a] += rows[level, a, k] * columns[idx[p], k]


@njit(cache=True)
def contract(idx, val, other, base, effect, mine, T):
    """T[a, b, c, d] += Σ_lm val_la,mc · other_lb,md over the entries of a cross, and of its transpose.

    a, b are effects of the row factor (`mine`), c, d of the column's.
    """
    r = val.shape[1]
    for p in range(idx.shape[0]):
        j = idx[p]
        s, q = base[j], p - (j - base[j])
        while s < base.shape[0] and base[s] == base[j]:
            c, d = effect[j], effect[s]
            for a in range(r):
                for b in range(r):
                    x = val[p, a] * other[q, b]
                    T[mine[a], mine[b], c, d] += x
                    T[c, d, mine[a], mine[b]] += x
            s += 1
            q += 1
