"""Products K_k T with relationship matrices that are there, or that are known by their SNPs alone.

Two things answer the same three questions: `MatrixProducts` from matrices or factors in memory (double precision), and
`SnpProducts` from SNPs, each question one pass over the file (single precision products, double precision sums).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from scipy.sparse import issparse

from vcbench.errors import DataError
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.relationship import check_used
from vcbench.genetics.streamed import Stream, squares_of, take


class Products(Protocol):
    """K relationship matrices of n samples, known by what they do to columns T (n, c)."""

    @property
    def n(self) -> int:
        """Samples."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the matrices, K of them."""

    def each(self, T: np.ndarray) -> np.ndarray:
        """K_k T (K, n, c)."""

    def combine(self, T: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Σ_k weights_kc K_k T_c (n, c), weights (K, c)."""

    def traces(self, bases: Sequence[np.ndarray], observed: Sequence[np.ndarray]) -> np.ndarray:
        """tr(D K_k D) − tr(QᵀK_kQ) (K, G) for each basis Q (n, d) and samples observed (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class MatrixProducts:
    """K_k (n, n), or a factor F (n, q), sparse or dense, of K_k = F Fᵀ: one of the two for each."""

    n: int
    names: tuple[str, ...]
    matrices: tuple[Any, ...] = field(repr=False)
    is_factor: tuple[bool, ...]

    def each(self, T: np.ndarray) -> np.ndarray:
        """As `Products`."""
        return np.stack([self._times(k, T) for k in range(len(self.names))])

    def combine(self, T: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """As `Products`."""
        out = np.zeros_like(T)
        for k in range(len(self.names)):
            out += self._times(k, T) * weights[k]
        return out

    def traces(self, bases: Sequence[np.ndarray], observed: Sequence[np.ndarray]) -> np.ndarray:
        """As `Products`."""
        out = np.empty((len(self.names), len(bases)))
        for k, matrix in enumerate(self.matrices):
            squares = matrix.multiply(matrix) if issparse(matrix) else matrix**2
            diagonal = np.asarray(squares.sum(axis=1)).ravel() if self.is_factor[k] else np.diag(matrix)
            for g, (Q, seen) in enumerate(zip(bases, observed, strict=True)):
                out[k, g] = diagonal[seen].sum() - np.vdot(Q, self._times(k, Q))
        return out

    def _times(self, k: int, T: np.ndarray) -> np.ndarray:
        matrix = self.matrices[k]
        return np.asarray(matrix @ (matrix.T @ T) if self.is_factor[k] else matrix @ T)


@dataclass(frozen=True, slots=True, eq=False)
class SnpProducts:
    """K_k = W_k W_kᵀ/s_k of the bins of a stream of SNPs, from `SnpProducts.of`.

    s (K,), SNPs used m (K,), mean_diagonal (K,): tr K_k/n; passes: how many were made, in one place.
    """

    stream: Stream
    s: np.ndarray
    m: np.ndarray
    mean_diagonal: np.ndarray
    workers: int | None = None
    progress: Progress = False
    passes: list[int] = field(default_factory=lambda: [0])

    @classmethod
    def of(cls, stream: Stream, workers: int | None = None, progress: Progress = False) -> "SnpProducts":
        """After a pass that counts, where there was none. DataError where a bin has no SNP left."""
        scan = stream.genotypes.scan()
        facts = scan.facts.take(scan.kept)
        check_used(int(scan.kept.sum()), stream.genotypes.n_variants, scan.dropped)
        member = stream.bins.at(np.flatnonzero(scan.kept)).astype(float)
        if not member.any(axis=0).all():
            empty = stream.bins.names[int(np.argmin(member.any(axis=0)))]
            raise DataError(f"no SNP of bin `{empty}` passes the filters: {scan.dropped}.")
        s = stream.scaling.scale(facts) @ member
        size = squares_of(stream.scaling, facts) @ member / s / stream.n
        return cls(stream, s, member.sum(axis=0), size, workers, progress)

    @property
    def n(self) -> int:
        """Samples."""
        return self.stream.n

    @property
    def names(self) -> tuple[str, ...]:
        """Bins."""
        return self.stream.bins.names

    def each(self, T: np.ndarray) -> np.ndarray:
        """As `Products`."""
        return self._sum(partial(_each, self.stream, np.ascontiguousarray(T, np.float32))) / self.s[:, None, None]

    def combine(self, T: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """As `Products`."""
        scaled = weights / self.s[:, None]
        return self._sum(partial(_combine, self.stream, np.ascontiguousarray(T, np.float32), scaled))

    def traces(self, bases: Sequence[np.ndarray], observed: Sequence[np.ndarray]) -> np.ndarray:
        """As `Products`."""
        return self._sum(partial(_traces, self.stream, bases, observed)) / self.s[:, None]

    def _sum(self, task: Callable[[int], np.ndarray]) -> np.ndarray:
        """Σ_J task(J), in the order of the blocks: one pass."""
        total = None
        self.passes[0] += 1
        with track(self.progress, self.stream.genotypes.n_variants, f"pass {self.passes[0]}") as advance:
            for J, part in enumerate(self.stream.run(task, self.workers)):
                total = part if total is None else total + part
                advance(int(self.stream.edges[J + 1] - self.stream.edges[J]))
        assert total is not None
        return total


def _each(stream: Stream, T: np.ndarray, J: int) -> np.ndarray:
    out = np.zeros((stream.bins.n, *T.shape))
    for piece in stream.pieces(J):
        C = piece.W.T @ T
        for k in range(stream.bins.n):
            here = piece.member[:, k]
            if here.any():
                out[k] += take(piece.W, here) @ C[here]
    return out


def _combine(stream: Stream, T: np.ndarray, weights: np.ndarray, J: int) -> np.ndarray:
    out = np.zeros(T.shape)
    for piece in stream.pieces(J):
        C = (piece.W.T @ T) * (piece.member.astype(float) @ weights)
        out += piece.W @ C.astype(np.float32)
    return out


def _traces(stream: Stream, bases: Sequence[np.ndarray], observed: Sequence[np.ndarray], J: int) -> np.ndarray:
    out = np.zeros((stream.bins.n, len(bases)))
    columns = [np.ascontiguousarray(Q, np.float32) for Q in bases]
    for piece in stream.pieces(J):
        member = piece.member.astype(float)
        for g, (Q, seen) in enumerate(zip(columns, observed, strict=True)):
            squares = piece.squares
            if not seen.all():
                part = piece.W[~seen].astype(float)
                squares = squares - np.einsum("ij,ij->j", part, part)
            inside = ((piece.W.T @ Q).astype(float) ** 2).sum(axis=1)
            out[:, g] += (squares - inside) @ member
    return out
