"""SNPs in blocks that are worked on apart, in threads or on a cluster, with results that depend on neither.

The p SNPs of a file are cut into contiguous blocks of equal length (of SNPs as they stand in the file, before filters).
A task takes a block, reads it in pieces of `size` SNPs and returns sums over it; the sums are added up in the order of
the blocks. Each task runs on one BLAS thread, so that its numbers are the same wherever it runs; many run at a time.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from vcbench.errors import MethodError
from vcbench.genetics.ahead import ahead
from vcbench.genetics.annotations import Bins
from vcbench.genetics.distributed import is_dask
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.sources import ArraySource
from vcbench.genetics.standardise import SnpFacts, Standardisation
from vcbench.genetics.standardise_core import look_up, scale_dosages

PIECE = 1.2e8  # bytes of W at a time, for each task that runs
LARGEST_PIECE = 2048  # SNPs
LITTLE = 2e7  # calls: a pass over fewer takes no threads


class Piece(NamedTuple):
    """Some SNPs of a block: W (n, m) float32, good until the next piece; member (m, K), s (m,), squares (m,) = Σ_i w²;
    absent (n,), missing calls of each sample."""

    W: np.ndarray
    member: np.ndarray
    s: np.ndarray
    squares: np.ndarray
    absent: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Genotypes in blocks: block J holds the SNPs edges[J] … edges[J + 1]."""

    genotypes: Genotypes
    scaling: Standardisation
    bins: Bins
    edges: np.ndarray = field(repr=False)
    size: int

    @classmethod
    def of(cls, genotypes: Genotypes, scaling: Standardisation, bins: Bins, blocks: int, size: int | None) -> "Stream":
        """So many blocks of equal length, read in pieces of `size` SNPs (None: by memory)."""
        p = genotypes.n_variants
        if not 2 <= blocks <= p:
            raise MethodError(f"blocks={blocks!r} of {p:,} SNPs; 2 to {p:,} were expected.")
        if size is not None and size < 1:
            raise MethodError(f"size={size!r}: a piece has at least 1 SNP.")
        if size is None:
            size = int(np.clip(2 ** int(np.log2(PIECE / (4 * genotypes.n))), 16, LARGEST_PIECE))
        return cls(genotypes, scaling, bins, np.arange(blocks + 1) * p // blocks, size)

    @property
    def n(self) -> int:
        """Samples."""
        return self.genotypes.n

    @property
    def n_blocks(self) -> int:
        """Blocks."""
        return len(self.edges) - 1

    def pieces(self, J: int, chunk: Any = None) -> Iterator[Piece]:
        """The SNPs of block J that pass the filters; from `chunk` (n, width) where its calls are in hand."""
        first, last = int(self.edges[J]), int(self.edges[J + 1])
        g, shift = self.genotypes, 0
        if chunk is not None:
            g = Genotypes(ArraySource.of(chunk), g.samples, g.variants.iloc[first:last], g.maf, g.missing, g.rows)
            first, last, shift = 0, last - first, first
        room = np.empty((self.n, min(self.size, last - first)), np.float32, order="F")
        for start in range(first, last, self.size):
            calls, _, _, absent = g.read(slice(start, min(start + self.size, last)))
            facts, W = calls.facts, room[:, : len(calls.at)]
            if calls.G.dtype == np.int8:
                look_up(calls.G, calls.at, self.scaling.table(facts), W)
            else:
                scale_dosages(calls.G, calls.at, *self.scaling.line(facts), W)
            member = self.bins.at(facts.columns + shift)
            yield Piece(W, member, self.scaling.scale(facts), squares_of(self.scaling, facts), absent)

    def run[T](self, task: Callable[..., T], workers: int | None = None) -> Iterator[T]:
        """task(J) of every block, in order; `workers` threads (as many as processors, 4 at most; here where there is
        little to do)."""
        with threadpool_limits(1, user_api="blas"):
            if workers is None and self.n * self.genotypes.n_variants <= LITTLE:
                yield from map(task, range(self.n_blocks))
            else:
                yield from ahead(task, self.n_blocks, workers or min(os.cpu_count() or 1, 4))

    def chunks(self) -> list[Any]:
        """Of a Dask array of genotypes: what each block is cut from; else nothing."""
        array: Any = getattr(self.genotypes.source, "array", None)
        if not is_dask(array):
            return [None] * self.n_blocks
        columns = self.genotypes.columns
        parts = [slice(a, b) for a, b in zip(self.edges[:-1].tolist(), self.edges[1:].tolist(), strict=True)]
        return [array[:, part if columns is None else columns[part]] for part in parts]


def take(W: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Some columns of W (n, m), Fortran order; W itself where all are wanted."""
    return W if wanted.all() else W.T[wanted].T


def squares_of(scaling: Standardisation, facts: SnpFacts) -> np.ndarray:
    """Σ_i w_ij² over all samples, from the mean and the variance of the calls."""
    centre, factor, gap = scaling.line(facts)
    around = facts.called * factor**2 * (facts.variance + (facts.mean - centre) ** 2)
    return around + (facts.n - facts.called) * gap**2
