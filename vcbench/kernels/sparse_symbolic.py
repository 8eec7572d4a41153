"""Which entries a sparse Cholesky factor has: order, elimination tree, supernodes. Once for each design.

M = LLᵀ is found front by front (Duff & Reid 1983; Liu 1992, SIAM Review 34:82): a supernode is a run of columns whose
rows below are the same; its front holds them and hands the rest, an update of the size of its rows, to its parent in
the elimination tree. All that follows from where M has entries is worked out here, and none of it from their values.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from scipy.sparse import csc_matrix, tril, triu
from scipy.sparse.linalg import spilu


@dataclass(frozen=True, slots=True, eq=False)
class Fronts:
    """Supernode s has columns first[s] … first[s+1]−1 and rows[row_ptr[s]:row_ptr[s+1]] below them.

    Its panel, at panel_ptr[s], holds one row for each column: `width` rows of `width + rows` numbers. `place` is where
    in the parent's front each of its rows is; children of s are child[child_ptr[s]:child_ptr[s+1]], ascending. `entry`
    is where in the panels each entry of M's lower triangle lies.
    """

    first: np.ndarray
    row_ptr: np.ndarray
    rows: np.ndarray = field(repr=False)
    place: np.ndarray = field(repr=False)
    panel_ptr: np.ndarray = field(repr=False)
    child_ptr: np.ndarray = field(repr=False)
    child: np.ndarray = field(repr=False)
    entry: np.ndarray = field(repr=False)
    stack: int

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        """What the compiled loops take."""
        return self.first, self.row_ptr, self.rows, self.place, self.panel_ptr, self.child_ptr, self.child

    @property
    def n_nonzero(self) -> int:
        """Entries of L, those counted in that relaxed supernodes add."""
        width = np.diff(self.first)
        return int((width * (width + 1) // 2 + width * np.diff(self.row_ptr)).sum())

    @property
    def flops(self) -> int:
        """Multiplications of one factorisation."""
        width, below = np.diff(self.first), np.diff(self.row_ptr).astype(float)
        return int((width * (width + below) ** 2).sum())


def fill_reducing_order(pattern: csc_matrix) -> np.ndarray:
    """The nodes of a symmetric pattern in an order of minimum degree, then of the elimination tree.

    The degrees are SuperLU's (MMD on A + Aᵀ, Liu 1985); its incomplete factorisation, told to drop all, costs nothing
    but the order. Children then come before their parents without a gap (postorder), so that supernodes are runs.
    """
    n = pattern.shape[0]
    easy = csc_matrix((np.full(pattern.nnz, 1e-9), pattern.indices, pattern.indptr), shape=pattern.shape)
    easy.setdiag(1.0)
    options = {"SymmetricMode": True}
    lu = spilu(easy, drop_tol=1.0, fill_factor=1.0, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    order = np.empty(n, np.int64)
    order[lu.perm_c] = np.arange(n)
    above = triu(pattern[order][:, order], 1, format="csc")
    parent = elimination_tree(above.indptr, above.indices)
    return order[postorder(parent)]


def build_fronts(lower: csc_matrix) -> Fronts:
    """Supernodes and fronts of M, given the pattern of its lower triangle (sorted, with the diagonal) in postorder."""
    above = tril(lower, -1, format="csc").T.tocsc()
    above.sort_indices()
    parent = elimination_tree(above.indptr, above.indices)
    counts = column_counts(above.indptr, above.indices, parent)
    first, n_rows = relaxed_supernodes(parent, counts)
    row_ptr = np.concatenate([[0], np.cumsum(n_rows)])
    rows, place, child_ptr, child, stack = front_rows(lower.indptr, lower.indices, first, row_ptr)
    width = np.diff(first)
    panel_ptr = np.concatenate([[0], np.cumsum(width * (width + n_rows))])
    entry = entry_positions(lower.indptr, lower.indices, first, row_ptr, rows, panel_ptr)
    return Fronts(first, row_ptr, rows, place, panel_ptr, child_ptr, child, entry, stack)


@njit(cache=True)
def elimination_tree(ptr, idx):
    """parent (n,): the first row below the diagonal of each column of L; column i of (ptr, idx) holds the j < i."""
    n = ptr.shape[0] - 1
    parent, ancestor = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    for i in range(n):
        for e in range(ptr[i], ptr[i + 1]):
            j = np.int64(idx[e])
            while j != -1 and j < i:
                above = ancestor[j]
                ancestor[j] = i
                if above == -1:
                    parent[j] = i
                j = above
    return parent


@njit(cache=True)
def postorder(parent):
    """The nodes with children before parents, each subtree a run."""
    n = parent.shape[0]
    head, follow = np.full(n + 1, -1, np.int64), np.full(n, -1, np.int64)
    for j in range(n - 1, -1, -1):
        p = parent[j] if parent[j] >= 0 else n
        follow[j] = head[p]
        head[p] = j
    order, stack = np.empty(n, np.int64), np.empty(n + 1, np.int64)
    stack[0] = n
    top, k = 0, 0
    while top >= 0:
        p = stack[top]
        j = head[p]
        if j == -1:
            top -= 1
            if p < n:
                order[k] = p
                k += 1
        else:
            head[p] = follow[j]
            top += 1
            stack[top] = j
    return order


@njit(cache=True)
def column_counts(ptr, idx, parent):
    """Entries of each column of L, the diagonal counted: row i of L is the subtree that row i of M reaches."""
    n = parent.shape[0]
    counts, mark = np.ones(n, np.int64), np.full(n, -1, np.int64)
    for i in range(n):
        mark[i] = i
        for e in range(ptr[i], ptr[i + 1]):
            j = np.int64(idx[e])
            while mark[j] != i:
                counts[j] += 1
                mark[j] = i
                j = parent[j]
    return counts


@njit(cache=True)
def relaxed_supernodes(parent, counts):
    """(first (S + 1,), rows below (S,)): runs of columns of one structure; small ones join their parent at the price of
    a few zeros (Ashcraft & Grimes 1989)."""
    n = parent.shape[0]
    first, below, zeros = np.empty(n + 1, np.int64), np.empty(n, np.int64), np.zeros(n, np.int64)
    count, j = 0, 0
    while j < n:
        last = j
        while last + 1 < n and parent[last] == last + 1 and counts[last] == counts[last + 1] + 1:
            last += 1
        start, r, z = j, counts[last] - 1, 0
        while count > 0 and parent[start - 1] == start:
            wt, rt, ws = start - first[count - 1], below[count - 1], last + 1 - start
            w = wt + ws
            size = w * (w + 1) // 2 + w * r
            extra = size - wt * (wt + 1) // 2 - wt * rt - ws * (ws + 1) // 2 - ws * r + zeros[count - 1] + z
            if not (w <= 4 or (w <= 32 and extra < 0.2 * size) or extra < 0.05 * size):
                break
            start, z = first[count - 1], extra
            count -= 1
        first[count], below[count], zeros[count] = start, r, z
        count += 1
        j = last + 1
    first[count] = n
    return first[: count + 1].copy(), below[:count].copy()


@njit(cache=True)
def front_rows(ptr, idx, first, row_ptr):
    """(rows, place, child_ptr, child, stack): what each front holds, where it goes in its parent's, and the largest
    stack of updates that wait."""
    n, n_nodes = first[-1], row_ptr.shape[0] - 1
    of = np.empty(n, np.int64)
    for s in range(n_nodes):
        of[first[s] : first[s + 1]] = s
    rows, place = np.empty(row_ptr[-1], np.int64), np.empty(row_ptr[-1], np.int64)
    head, follow = np.full(n_nodes, -1, np.int64), np.full(n_nodes, -1, np.int64)
    tail = np.full(n_nodes, -1, np.int64)
    mark, where = np.full(n, -1, np.int64), np.empty(n, np.int64)
    child, child_ptr = np.empty(n_nodes, np.int64), np.zeros(n_nodes + 1, np.int64)
    level, peak = 0, 0
    for s in range(n_nodes):
        last, k = first[s + 1] - 1, row_ptr[s]
        for j in range(first[s], last + 1):
            for e in range(ptr[j], ptr[j + 1]):
                i = idx[e]
                if i > last and mark[i] != s:
                    mark[i] = s
                    rows[k] = i
                    k += 1
        child_ptr[s + 1] = child_ptr[s]
        c = head[s]
        while c >= 0:
            child[child_ptr[s + 1]] = c
            child_ptr[s + 1] += 1
            for e in range(row_ptr[c], row_ptr[c + 1]):
                i = rows[e]
                if i > last and mark[i] != s:
                    mark[i] = s
                    rows[k] = i
                    k += 1
            c = follow[c]
        rows[row_ptr[s] : k] = np.sort(rows[row_ptr[s] : k])
        for e in range(row_ptr[s], k):
            where[rows[e]] = last + 1 - first[s] + e - row_ptr[s]
        for e in range(child_ptr[s], child_ptr[s + 1]):
            c = child[e]
            level -= (row_ptr[c + 1] - row_ptr[c]) ** 2
            for g in range(row_ptr[c], row_ptr[c + 1]):
                i = rows[g]
                place[g] = i - first[s] if i <= last else where[i]
        level += (row_ptr[s + 1] - row_ptr[s]) ** 2
        peak = max(peak, level)
        if k > row_ptr[s]:
            p = of[rows[row_ptr[s]]]
            if head[p] < 0:
                head[p] = s
            else:
                follow[tail[p]] = s
            tail[p] = s
    return rows, place, child_ptr, child[: child_ptr[-1]].copy(), peak


@njit(cache=True)
def entry_positions(ptr, idx, first, row_ptr, rows, panel_ptr):
    """Where in the panels each entry of M's lower triangle lies."""
    out, where = np.empty(idx.shape[0], np.int64), np.empty(first[-1], np.int64)
    for s in range(row_ptr.shape[0] - 1):
        width = first[s + 1] - first[s]
        length = width + row_ptr[s + 1] - row_ptr[s]
        for j in range(first[s], first[s + 1]):
            where[j] = j - first[s]
        for e in range(row_ptr[s], row_ptr[s + 1]):
            where[rows[e]] = width + e - row_ptr[s]
        for j in range(first[s], first[s + 1]):
            for e in range(ptr[j], ptr[j + 1]):
                out[e] = panel_ptr[s] + (j - first[s]) * length + where[idx[e]]
    return out
