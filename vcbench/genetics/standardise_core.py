"""The compiled loops over genotype calls: counts, and calls to standardised values by a table of four per SNP.

Calls are int8, SNPs in contiguous columns: 0, 1, 2 copies of the counted allele, negative where missing; dosages are
float64 between 0 and 2, NaN where missing. None holds Python's lock, so that blocks are prepared while others are
multiplied.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def count_calls(G, counts, absent):
    """Adds up: counts (m, 4) of 0, 1, 2 and missing per SNP; absent (n,) += the missing calls of each sample."""
    n, m = G.shape
    for j in range(m):
        one, two, missing = np.int32(0), np.int32(0), np.int32(0)
        for i in range(n):
            g = G[i, j]
            one += np.int32(g == 1)
            two += np.int32(g == 2)
            missing += np.int32(g < 0)
        counts[j, 0], counts[j, 1], counts[j, 2], counts[j, 3] = n - one - two - missing, one, two, missing
        if missing:
            for i in range(n):
                absent[i] += G[i, j] < 0


@njit(cache=True, nogil=True)
def measure_dosages(G, called, mean, variance, absent):
    """Of dosages: the called (m,), their mean and variance by two passes; absent (n,) += missing of each sample."""
    n, m = G.shape
    for j in range(m):
        total, number = 0.0, 0
        for i in range(n):
            if G[i, j] >= 0:
                total += G[i, j]
                number += 1
            else:
                absent[i] += 1
        centre = total / number if number else np.nan
        squares, rest = 0.0, 0.0
        for i in range(n):
            if G[i, j] >= 0:
                squares += (G[i, j] - centre) ** 2
                rest += G[i, j] - centre
        called[j], mean[j] = number, centre
        variance[j] = max(squares - rest * rest / number, 0.0) / number if number else 0.0


@njit(cache=True, nogil=True)
def scale_dosages(G, columns, centre, factor, gap, W):
    """W[:, k] = factor[k] (dosage of SNP columns[k] − centre[k]), gap[k] where it is missing."""
    n = G.shape[0]
    for k in range(columns.shape[0]):
        j = columns[k]
        c, f, missing = centre[k], factor[k], gap[k]
        for i in range(n):
            g = G[i, j]
            W[i, k] = (g - c) * f if g >= 0 else missing


@njit(cache=True, nogil=True)
def look_up(G, columns, table, W):
    """W[:, k] = table[k, call of SNP columns[k]], the fourth entry where the call is missing."""
    n = G.shape[0]
    for k in range(columns.shape[0]):
        j = columns[k]
        zero, one, two, missing = table[k, 0], table[k, 1], table[k, 2], table[k, 3]
        for i in range(n):
            g = G[i, j]
            value = one if g == 1 else zero
            value = two if g == 2 else value
            W[i, k] = missing if g < 0 else value


@njit(cache=True, nogil=True)
def out_of_range(G):
    """(row, column) of the first call that is neither 0, 1, 2 nor negative; (−1, −1) where there is none."""
    n, m = G.shape
    for j in range(m):
        for i in range(n):
            if G[i, j] > 2:
                return i, j
    return -1, -1


@njit(cache=True, nogil=True)
def add_missing_pairs(G, columns, weight, total, both):
    """Where calls are missing: total (n,) += weight of each such SNP; both (n, n), lower part, += it for each pair."""
    n = G.shape[0]
    rows = np.empty(n, np.int64)
    for k in range(columns.shape[0]):
        j, w = columns[k], weight[k]
        found = 0
        for i in range(n):
            if not G[i, j] >= 0:
                rows[found] = i
                found += 1
        for a in range(found):
            total[rows[a]] += w
            for b in range(a, found):
                both[rows[b], rows[a]] += w


@njit(cache=True, nogil=True)
def add_lower(K, C, first, last):
    """K += C in the lower triangle, columns first ≤ j < last."""
    n = K.shape[0]
    for j in range(first, last):
        for i in range(j, n):
            K[i, j] += C[i, j]


@njit(cache=True, nogil=True)
def copy_lower(K, size):
    """The lower triangle of K onto the upper one, tile by tile."""
    n = K.shape[0]
    for a in range(0, n, size):
        for b in range(a, n, size):
            for j in range(a, min(a + size, n)):
                for i in range(max(b, j + 1), min(b + size, n)):
                    K[j, i] = K[i, j]
