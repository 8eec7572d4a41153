"""M⁻¹ of a symmetric positive definite M where it is asked for: solutions, blocks on its diagonal, quadratic forms.

A small or full M is inverted by LAPACK, one of small blocks block by block. Any other has its inverse at the places
where its Cholesky factor has entries, M's own among them (Takahashi, Fagan & Chen 1973; `kernels.sparse_core`): the
blocks of levels, and all pairs of effects that meet in a row of the data. What lies elsewhere is solved for, column by
column.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import csc_matrix, csr_matrix, issparse, tril
from scipy.sparse.csgraph import connected_components

from vcbench.errors import ModelError

SMALL = 400  # rows up to which M is inverted in full
FULL = 0.2  # share of non-zeros in M from which it is
LARGEST = 12_000  # rows of an M inverted in full
BLOCK = 200  # rows of the largest block of an M that is inverted block by block
CHUNK = 20_000_000  # numbers of a dense product, or pairs of a lookup, held at once


def inverse_of(M: Any) -> "Inverse":
    """M⁻¹ (q, q) of a sparse or full M by the cheapest way. ModelError where M is not positive definite, or too large
    to be inverted in full."""
    q = M.shape[0]
    if not issparse(M):
        return DenseInverse.of(M)
    if q <= SMALL or M.nnz > FULL * q * q:
        return DenseInverse.of(M.toarray())
    _, label = connected_components(M, directed=False)
    return BlockInverse.of(M, label) if np.bincount(label).max() <= BLOCK else SelectedInverse.of(M)


def dense_blocks(M: Any, label: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The blocks of a block diagonal M, those of one size at once: (rows (b, m), blocks (b, m, m)); rows of one `label`
    are a block, ascending."""
    entries, sizes = csr_matrix(M).tocoo(), np.bincount(label)
    order = np.argsort(label, kind="stable")
    first = np.concatenate([[0], np.cumsum(sizes)])
    place = np.empty(len(label), int)
    place[order] = np.arange(len(label)) - np.repeat(first[:-1], sizes)
    block = label[entries.row]
    for m in np.unique(sizes):
        of_size = np.flatnonzero(sizes == m)
        number = np.empty(len(sizes), int)
        number[of_size] = np.arange(len(of_size))
        mine = np.flatnonzero(sizes[block] == m)
        dense = np.zeros((len(of_size), m, m))
        dense[number[block[mine]], place[entries.row[mine]], place[entries.col[mine]]] = entries.data[mine]
        yield order[first[of_size][:, None] + np.arange(m)], dense


@dataclass(frozen=True, slots=True, eq=False)
class DenseInverse:
    """M⁻¹ (q, q) as it is."""

    matrix: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, M: np.ndarray) -> "DenseInverse":
        """By Cholesky. Raises ModelError as `inverse_of`."""
        if len(M) > LARGEST:
            raise ModelError(
                f"errors of {len(M)} random effects that are all related need a matrix of that size (the limit is "
                f"{LARGEST}). Give a sparse `precision=`, or fewer effects."
            )
        factor, info = dpotrf(M.T, lower=0, clean=0)
        if info:
            raise ModelError("V(θ) is not positive definite at these variance parameters.")
        upper = dpotri(factor, lower=0, overwrite_c=1)[0]
        return cls(np.triu(upper) + np.triu(upper, 1).T)

    def solve(self, B: np.ndarray) -> np.ndarray:
        """M⁻¹B, B (q, m)."""
        return self.matrix @ B

    def blocks(self, start: int, n: int, r: int) -> np.ndarray:
        """The n blocks (n, r, r) on the diagonal from row `start` on."""
        at = start + np.arange(n * r).reshape(n, r)
        return self.matrix[at[:, :, None], at[:, None, :]]

    def among(self, columns: np.ndarray) -> np.ndarray:
        """M⁻¹ (c, c) among the rows and columns of some positions."""
        return self.matrix if len(columns) == len(self.matrix) else self.matrix[np.ix_(columns, columns)]

    def bilinear(self, A: Any, B: Any) -> np.ndarray:
        """a_iᵀ M⁻¹ b_i of the rows of A and B (m, q), sparse or dense."""
        out = np.empty(A.shape[0])
        step = max(1, CHUNK // max(len(self.matrix), 1))
        for i in range(0, len(out), step):
            half = np.asarray(A[i : i + step] @ self.matrix)
            part = B[i : i + step]
            if issparse(part):
                out[i : i + step] = np.asarray(part.multiply(half).sum(axis=1)).ravel()
            else:
                out[i : i + step] = np.einsum("ij,ij->i", half, part)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class BlockInverse:
    """M⁻¹ (q, q), block diagonal."""

    matrix: csr_matrix = field(repr=False)

    @classmethod
    def of(cls, M: Any, label: np.ndarray) -> "BlockInverse":
        """By the Cholesky factors of the blocks. ModelError where M is not positive definite."""
        rows, columns, values = [], [], []
        for at, blocks in dense_blocks(M, label):
            try:
                L = np.linalg.inv(np.linalg.cholesky(blocks))
            except np.linalg.LinAlgError:
                raise ModelError("V(θ) is not positive definite at these variance parameters.") from None
            i, j = np.broadcast_arrays(at[:, :, None], at[:, None, :])
            rows.append(i.ravel())
            columns.append(j.ravel())
            values.append((L.transpose(0, 2, 1) @ L).ravel())
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return cls(csr_matrix(entries, shape=M.shape))

    def solve(self, B: np.ndarray) -> np.ndarray:
        """M⁻¹B, B (q, m)."""
        return self.matrix @ B

    def blocks(self, start: int, n: int, r: int) -> np.ndarray:
        """The n blocks (n, r, r) on the diagonal from row `start` on."""
        entries = self.matrix[start : start + n * r].tocoo()
        i, j = entries.row, entries.col - start
        own = np.flatnonzero(i // r == j // r)
        out = np.zeros((n, r, r))
        out[i[own] // r, i[own] % r, j[own] % r] = entries.data[own]
        return out

    def among(self, columns: np.ndarray) -> np.ndarray:
        """M⁻¹ (c, c) among the rows and columns of some positions."""
        return self.matrix[columns][:, columns].toarray()

    def bilinear(self, A: Any, B: Any) -> np.ndarray:
        """a_iᵀ M⁻¹ b_i of the rows of A and B (m, q), sparse."""
        return np.asarray((csr_matrix(A) @ self.matrix).multiply(csr_matrix(B)).sum(axis=1)).ravel()


@dataclass(frozen=True, slots=True, eq=False)
class SelectedInverse:
    """M's sparse factor, and M⁻¹ at M's own entries: `values` at `keys`, larger position · q + smaller."""

    q: int
    order: np.ndarray = field(repr=False)
    fronts: Any = field(repr=False)
    panels: np.ndarray = field(repr=False)
    keys: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, M: csc_matrix) -> "SelectedInverse":
        """Order, factorise, and invert where M has entries. ModelError where M is not positive definite."""
        from vcbench.kernels.sparse_core import factorise, selected_inverse
        from vcbench.kernels.sparse_symbolic import build_fronts, fill_reducing_order

        M = csc_matrix(M, copy=True)
        M.sort_indices()  # the ordering sorts the pattern that it is given in place
        order = fill_reducing_order(M)
        lower = tril(M[order][:, order], format="csc")
        lower.sort_indices()
        fronts = build_fronts(lower)
        ok, panels, _ = factorise(lower.data, fronts.entry, fronts.tables, fronts.stack)
        if not ok:
            raise ModelError("V(θ) is not positive definite at these variance parameters.")
        values = selected_inverse(panels, fronts.tables, fronts.stack)[fronts.entry]
        q = M.shape[0]
        column = np.repeat(np.arange(q), np.diff(lower.indptr))
        i, j = order[lower.indices], order[column]
        keys = np.maximum(i, j) * np.int64(q) + np.minimum(i, j)
        sort = np.argsort(keys, kind="stable")
        return cls(q, order, fronts, panels, keys[sort], values[sort])

    def solve(self, B: np.ndarray) -> np.ndarray:
        """M⁻¹B, B (q, m)."""
        from vcbench.kernels.sparse_core import solve_factored

        permuted = np.ascontiguousarray(B[self.order], float)
        solve_factored(self.panels, self.fronts.tables, permuted)
        out = np.empty_like(permuted)
        out[self.order] = permuted
        return out

    def blocks(self, start: int, n: int, r: int) -> np.ndarray:
        """The n blocks (n, r, r) on the diagonal from row `start` on."""
        at = start + np.arange(n * r).reshape(n, r)
        i, j = np.broadcast_arrays(at[:, :, None], at[:, None, :])
        found, values = self._look(i.ravel(), j.ravel())
        lost = np.flatnonzero(~found.reshape(n, -1).all(axis=1))
        out = values.reshape(n, r, r)
        for level in lost:  # two effects of a level that never meet: no row has both
            out[level] = self.among(at[level])
        return out

    def among(self, columns: np.ndarray) -> np.ndarray:
        """M⁻¹ (c, c) among the rows and columns of some positions."""
        c = len(columns)
        found, values = self._look(np.repeat(columns, c), np.tile(columns, c))
        if found.all():
            return values.reshape(c, c)
        return self.solve(_units(columns, self.q))[columns]

    def covers(self, columns: np.ndarray) -> bool:
        """Whether M has an entry for every pair of some positions."""
        i, j = np.meshgrid(columns, columns)
        return bool(self._look(i.ravel(), j.ravel())[0].all())

    def full(self) -> DenseInverse:
        """All of M⁻¹, column by column."""
        return DenseInverse(self.solve(np.eye(self.q)))

    def bilinear(self, A: Any, B: Any) -> np.ndarray:
        """a_iᵀ M⁻¹ b_i of the rows of A and B (m, q), sparse."""
        A, B = csr_matrix(A), csr_matrix(B)
        out, lost = np.zeros(A.shape[0]), []
        size = np.diff(A.indptr).astype(np.int64) * np.diff(B.indptr)
        chunk = np.cumsum(size) // CHUNK
        for c in np.unique(chunk):
            rows = np.flatnonzero(chunk == c)
            a, b = A[rows], B[rows]
            inner = np.diff(b.indptr)
            row = np.repeat(np.arange(len(rows)), np.diff(a.indptr))
            counts = inner[row]
            left = np.repeat(np.arange(a.nnz), counts)
            right = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts) + b.indptr[row[left]]
            found, values = self._look(a.indices[left], b.indices[right])
            out[rows] = np.bincount(row[left], a.data[left] * b.data[right] * values, len(rows))
            lost.append(rows[np.unique(row[left][~found])])
        missed = np.concatenate(lost) if lost else np.zeros(0, int)
        step = max(1, CHUNK // self.q)
        for i in range(0, len(missed), step):
            rows = missed[i : i + step]
            half = self.solve(A[rows].T.toarray())
            out[rows] = np.asarray(B[rows].multiply(half.T).sum(axis=1)).ravel()
        return out

    def _look(self, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(whether M has an entry at (i, j), M⁻¹ there or 0)."""
        keys = np.maximum(i, j) * np.int64(self.q) + np.minimum(i, j)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        found = self.keys[at] == keys
        return found, np.where(found, self.values[at], 0.0)


def _units(columns: np.ndarray, q: int) -> np.ndarray:
    out = np.zeros((q, len(columns)))
    out[columns, np.arange(len(columns))] = 1.0
    return out


Inverse = DenseInverse | BlockInverse | SelectedInverse
