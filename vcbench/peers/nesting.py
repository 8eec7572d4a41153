"""Which groups lie in which: what programs with nested groups need to know."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from vcbench.peers.design import Term


def within(inner: np.ndarray, outer: np.ndarray) -> bool:
    """True where each level of `inner` lies in one level of `outer`."""
    pairs = np.unique(np.column_stack([inner, outer]), axis=0)
    return len(pairs) == len(np.unique(inner))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """True where the levels are the same sets of rows."""
    return within(a, b) and within(b, a)


def coarsest(terms: Sequence[Term], n: int) -> np.ndarray:
    """Codes (n,) of the smallest groups of rows that no term crosses; one group where a term has columns."""
    if any(term.codes is None for term in terms):
        return np.zeros(n, np.int64)
    rows, nodes, at = [], [], n
    for term in terms:
        assert term.codes is not None
        rows.append(np.arange(n))
        nodes.append(at + term.codes)
        at += term.n_levels
    i, j = np.concatenate(rows), np.concatenate(nodes)
    _, label = connected_components(csr_matrix((np.ones(len(i)), (i, j)), shape=(at, at)), directed=False)
    return np.unique(label[:n], return_inverse=True)[1].ravel().astype(np.int64)
