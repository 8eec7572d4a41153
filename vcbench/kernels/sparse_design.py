"""What kernel `sparse` does once for a design: ZᵀZ and the precisions on one pattern, ordered, with its fronts."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import block_diag, csc_matrix, csr_matrix, eye, hstack, kron

from vcbench.kernels.sparse_residual import Classes, joins_of
from vcbench.kernels.sparse_symbolic import Fronts, build_fronts, fill_reducing_order
from vcbench.model.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The node pairs of M's lower triangle, a node a level of a component with its r effects.

    Pair t: the components k[t] and m[t] of its row and column node, its block of ZᵀZ at B[ptr[t]:], its entry of P,
    whether both nodes are one; `where` gives each number of B its place among M's lower entries, −1 above the diagonal.
    """

    k: np.ndarray
    m: np.ndarray
    ptr: np.ndarray
    B: np.ndarray = field(repr=False)
    precision: np.ndarray = field(repr=False)
    where: np.ndarray = field(repr=False)
    same: np.ndarray = field(repr=False)

    def tables(self, B: np.ndarray) -> tuple[np.ndarray, ...]:
        """What the compiled loops take, with ZᵀR⁻¹Z in the place of ZᵀZ."""
        return self.k, self.m, self.ptr, B, self.precision, self.where

    def spread(self, values: np.ndarray) -> np.ndarray:
        """A value for each pair as one for each number of B."""
        return np.repeat(values, np.diff(np.append(self.ptr, len(self.B))))

    @property
    def same_entries(self) -> np.ndarray:
        """Of each number of B, whether its pair is one node with itself."""
        return self.spread(self.same)


@dataclass(frozen=True, slots=True, eq=False)
class SparseDesign:
    """Z (n, q) and P with effects level by level within a component, and M's symbolic factorisation.

    levels[k], size[k]: m_k and r_k of component k, whose effects are at start[k] … start[k+1]. order (q,): the natural
    place of each row of M. joins: with residuals that are correlated within units, ZᵀR⁻¹Z by R's blocks
    (`sparse_residual`).
    """

    levels: np.ndarray
    size: np.ndarray
    start: np.ndarray
    Z: csr_matrix = field(repr=False)
    Zt: csr_matrix = field(repr=False)
    P: csr_matrix = field(repr=False)
    order: np.ndarray = field(repr=False)
    pairs: Pairs = field(repr=False)
    fronts: Fronts
    n_entries: int
    joins: csr_matrix | None = field(default=None, repr=False)

    @classmethod
    def of(cls, model: Model, classes: Classes | None = None) -> "SparseDesign":
        """Analyse a model's components, and the units of its residuals."""
        parts = [[_nonzero(c.incidence(a)) for a in range(c.n_effects)] for c in model.components]
        size = np.array([len(Zs) for Zs in parts])
        levels = np.array([Zs[0].shape[1] for Zs in parts])
        start = np.concatenate([[0], np.cumsum(levels * size)])
        precision = [
            eye(m, format="csc") if c.relation is None else _nonzero(c.relation.precision)
            for c, m in zip(model.components, levels, strict=True)
        ]
        nodes = hstack([_ones(sum(_ones(Z) for Z in Zs)) for Zs in parts], format="csc")
        if classes is not None:  # what one unit's rows touch is joined
            units = csr_matrix((np.ones(model.n_obs), (classes.noise.units, np.arange(model.n_obs))))
            nodes = csc_matrix(units @ nodes)
        P_nodes = block_diag(precision, format="csc")
        pattern = csc_matrix(_ones(nodes.T @ nodes) + _ones(P_nodes))  # sums of positive numbers: nothing cancels
        order = fill_reducing_order(pattern)
        pairs, lower, scalar_order, find = _pairs(parts, pattern, P_nodes, order, size, levels, start)
        columns = []
        for Zs in parts:  # effects of a level side by side
            wide = hstack(Zs, format="csc")
            columns.append(wide[:, np.arange(wide.shape[1]).reshape(len(Zs), -1).T.ravel()])
        Z = hstack(columns, format="csr")
        P = block_diag([_kron(P, r) for P, r in zip(precision, size, strict=True)], format="csr")
        joins = None
        if classes is not None:
            joins = joins_of(classes, Z, *_columns(size, levels), np.argsort(order), find, len(pairs.B))
        return cls(levels, size, start, Z, Z.T.tocsr(), P, scalar_order, pairs, build_fronts(lower), lower.nnz, joins)

    @property
    def q(self) -> int:
        """Random effects: Σ m_k r_k."""
        return int(self.start[-1])

    def by_effect(self, k: int, w: np.ndarray) -> np.ndarray:
        """Component k's rows of w (q, m) as (levels, r, m)."""
        return w[self.start[k] : self.start[k + 1]].reshape(self.levels[k], self.size[k], -1)

    def times_roots(self, w: np.ndarray, roots: list[np.ndarray], inverse: bool = False) -> np.ndarray:
        """(I ⊗ Λ) w, or with `inverse` (I ⊗ Λ⁻ᵀ) w, for w (q, m)."""
        out = np.empty_like(w)
        for k, root in enumerate(roots):
            L = np.linalg.inv(root).T if inverse else root
            block = np.matmul(L, self.by_effect(k, w))
            out[self.start[k] : self.start[k + 1]] = block.reshape(-1, w.shape[1])
        return out


def _columns(size: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(node, effect) of each column of Z."""
    first = np.cumsum(levels) - levels
    node = [f + np.repeat(np.arange(m), r) for f, m, r in zip(first, levels, size, strict=True)]
    effect = [np.tile(np.arange(r), m) for m, r in zip(levels, size, strict=True)]
    return np.concatenate(node), np.concatenate(effect)


def _nonzero(A) -> csc_matrix:
    """A without the zeros that it stores: where nothing is, nothing is joined."""
    A = csc_matrix(A, copy=True)
    A.eliminate_zeros()
    return A


def _ones(A) -> csc_matrix:
    """1 where A has an entry."""
    A = csc_matrix(A)
    return csc_matrix((np.ones(A.nnz), A.indices, A.indptr), shape=A.shape)


def _kron(P: csc_matrix, r: int) -> csr_matrix:
    return csr_matrix(P) if r == 1 else kron(P, np.eye(r), format="csr")


def _keys(A: csc_matrix) -> np.ndarray:
    """One number for each stored entry, growing along columns."""
    A.sort_indices()
    column = np.repeat(np.arange(A.shape[1]), np.diff(A.indptr))
    return column * np.int64(A.shape[0]) + A.indices


def _at(pattern: csc_matrix, A: csc_matrix, at: np.ndarray) -> np.ndarray:
    """A's values on a pattern that holds its own (0 where A has none): at `at` of the pattern's entries."""
    out = np.zeros(pattern.nnz)
    A = csc_matrix(A)
    out[np.searchsorted(_keys(pattern), _keys(A))] = A.data
    return out[at]


def _pairs(parts, pattern, P_nodes, order, size, levels, start) -> tuple[Pairs, csc_matrix, np.ndarray, Any]:
    """Pairs of nodes, the pattern of M's lower triangle, the natural place of each of its rows, and the place in B of
    effects a, c of nodes i, j, the later of which in the new order is i."""
    N = len(order)
    component = np.repeat(np.arange(len(size)), levels)
    r = size[component]
    natural = np.concatenate([start[k] + np.arange(m) * size[k] for k, m in enumerate(levels)])
    new = np.empty(N, np.int64)
    new[order] = np.arange(N)
    begin = np.concatenate([[0], np.cumsum(r[order])])  # first row of M of each node, in the new order
    pattern.sort_indices()
    column = np.repeat(np.arange(N), np.diff(pattern.indptr))
    kept = np.flatnonzero(new[pattern.indices] >= new[column])
    i, j = pattern.indices[kept], column[kept]
    ri, rj = r[i].astype(np.int64), r[j].astype(np.int64)
    ptr = np.concatenate([[0], np.cumsum(ri * rj)])
    B = np.zeros(ptr[-1])
    for a in range(int(size.max())):
        for c in range(int(size.max())):
            left, right = (
                hstack(
                    [Zs[e] if e < len(Zs) else csr_matrix(Zs[0].shape) for Zs in parts],
                    format="csc",
                )
                for e in (a, c)
            )
            has = np.flatnonzero((a < ri) & (c < rj))
            B[ptr[has] + a * rj[has] + c] = _at(pattern, left.T @ right, kept[has])
    t = np.repeat(np.arange(len(kept)), ri * rj)
    inner = np.arange(ptr[-1]) - ptr[t]
    row = begin[new[i]][t] + inner // rj[t]
    col = begin[new[j]][t] + inner % rj[t]
    low = row >= col
    q = int(begin[-1])
    # each entry carries its number, so that sorting into columns tells where it went
    lower = csc_matrix((np.arange(1, low.sum() + 1), (row[low], col[low])), shape=(q, q))
    lower.sort_indices()
    place = np.empty(lower.nnz, np.int64)
    place[lower.data - 1] = np.arange(lower.nnz)
    where = np.full(ptr[-1], -1, np.int64)
    where[low] = place
    pairs = Pairs(component[i], component[j], ptr[:-1], B, _at(pattern, P_nodes, kept), where, i == j)
    keys = j * np.int64(N) + i

    def find(row: np.ndarray, col: np.ndarray, a: np.ndarray, c: np.ndarray) -> np.ndarray:
        return ptr[np.searchsorted(keys, col * np.int64(N) + row)] + a * r[col] + c

    return pairs, lower, _expand(natural, r, order), find


def _expand(natural: np.ndarray, r: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Natural places of all effects of the nodes in a new order."""
    counts = r[order]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(natural[order], counts) + within
