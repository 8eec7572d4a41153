"""The compiled loops of `pedigree`: linear in the animals, but for inbreeding, which walks each animal's ancestors."""

import numpy as np
from numba import njit


@njit(cache=True)
def parents_first(parents):
    """(order, count): animals after their parents, in the given order where that holds; count < m where there is a
    loop."""
    m = parents.shape[0]
    first = np.full(m, -1, np.int64)  # lists of children: head by parent, then next by (child, side)
    follow = np.full((m, 2), -1, np.int64)
    waiting = np.zeros(m, np.int64)
    for i in range(m - 1, -1, -1):
        for k in range(2):
            j = parents[i, k]
            if j >= 0:
                follow[i, k] = first[j]
                first[j] = 2 * i + k
                waiting[i] += 1
    order = np.empty(m, np.int64)
    count, start = 0, 0
    for i in range(m):
        if waiting[i] == 0:
            order[count] = i
            count += 1
    while start < count:
        at = first[order[start]]
        start += 1
        while at >= 0:
            i, k = at // 2, at % 2
            waiting[i] -= 1
            if waiting[i] == 0:
                order[count] = i
                count += 1
            at = follow[i, k]
    return order, count


@njit(cache=True)
def inbreeding(sire, dam):
    """(F, d): inbreeding coefficients and Mendelian sampling variances (Meuwissen & Luo 1992).

    A_ii = Σ_j L_ij² d_j over i's ancestors j, with L's row found by walking them youngest first (a heap); full sibs
    that follow each other share F.
    """
    m = sire.shape[0]
    F, d = np.zeros(m), np.ones(m)
    L = np.zeros(m)
    heap = np.empty(m, np.int64)
    last_s, last_d, last = -1, -1, 0.0
    for i in range(m):
        s, t = sire[i], dam[i]
        if s >= 0 and t >= 0:
            d[i] = 0.5 - 0.25 * (F[s] + F[t])
        elif s >= 0 or t >= 0:
            d[i] = 0.75 - 0.25 * F[max(s, t)]
        if s < 0 or t < 0:
            continue
        if s == last_s and t == last_d:
            F[i] = last
            continue
        size = 1
        heap[0] = i
        L[i] = 1.0
        total = 0.0
        while size > 0:
            j = heap[0]
            size -= 1
            moved = heap[size]  # take the root, sift the last down
            at = 0
            while True:
                child = 2 * at + 1
                if child >= size:
                    break
                if child + 1 < size and heap[child + 1] > heap[child]:
                    child += 1
                if heap[child] <= moved:
                    break
                heap[at] = heap[child]
                at = child
            heap[at] = moved
            weight = L[j]
            L[j] = 0.0
            total += weight * weight * d[j]
            for p in (sire[j], dam[j]):
                if p < 0:
                    continue
                if L[p] == 0.0:  # not on the heap yet: push
                    at = size
                    size += 1
                    while at > 0 and heap[(at - 1) // 2] < p:
                        heap[at] = heap[(at - 1) // 2]
                        at = (at - 1) // 2
                    heap[at] = p
                L[p] += 0.5 * weight
        F[i] = total - 1.0
        last_s, last_d, last = s, t, F[i]
    return F, d


@njit(cache=True)
def precision_entries(sire, dam, d):
    """(values, rows, columns) of A⁻¹; entries of one place add up."""
    m = sire.shape[0]
    values = np.empty(9 * m)
    rows = np.empty(9 * m, np.int64)
    columns = np.empty(9 * m, np.int64)
    n = 0
    who = np.empty(3, np.int64)
    weight = np.array([1.0, -0.5, -0.5])
    for i in range(m):
        who[0], who[1], who[2] = i, sire[i], dam[i]
        for a in range(3):
            for b in range(3):
                if who[a] >= 0 and who[b] >= 0:
                    values[n] = weight[a] * weight[b] / d[i]
                    rows[n], columns[n] = who[a], who[b]
                    n += 1
    return values[:n], rows[:n], columns[:n]


@njit(cache=True)
def group_contributions(sire, dam, n_groups):
    """Q (m, n_groups): half of each parent's row, e_k for an unknown parent of group k."""
    m = sire.shape[0]
    Q = np.zeros((m, n_groups))
    for i in range(m):
        for p in (sire[i], dam[i]):
            if p >= 0:
                Q[i] += 0.5 * Q[p]
            elif p <= -2:
                Q[i, -2 - p] += 0.5
    return Q


@njit(cache=True)
def times_relationship(sire, dam, d, X):
    """X (m, k) ← A X = T D Tᵀ X: from the youngest up to their parents, then down again (Colleau 2002)."""
    m, k = X.shape
    for i in range(m - 1, -1, -1):
        for p in (sire[i], dam[i]):
            if p >= 0:
                for c in range(k):
                    X[p, c] += 0.5 * X[i, c]
    for i in range(m):
        for c in range(k):
            X[i, c] *= d[i]
        for p in (sire[i], dam[i]):
            if p >= 0:
                for c in range(k):
                    X[i, c] += 0.5 * X[p, c]
