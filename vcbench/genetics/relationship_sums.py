"""W Wᵀ summed over blocks of SNPs: single precision products within a chunk, double precision sums of chunks.

Rows are taken in tiles of fixed size (`ssyrk` on the diagonal, `sgemm` below it) and SNPs in chunks of fixed length, so
that the same numbers come out wherever a tile is computed. With u = 2⁻²⁴ and c SNPs a chunk, each entry of W being
correctly rounded,

    |error of (W Wᵀ)_jk| ≤ (c + 2) u √((W Wᵀ)_jj (W Wᵀ)_kk) to first order, whatever the order of summation

(Higham 2002, Accuracy and Stability, §3.1, and Cauchy–Schwarz). Errors of rounding mostly cancel: what is measured
is of the size of u itself.
"""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from vcbench.genetics.level3 import sgemm, ssyrk
from vcbench.genetics.standardise_core import add_lower, copy_lower

CHUNK = 8  # blocks summed in single precision
TILE = 8192  # rows
UNIT = 2.0**-24  # of single precision


def tiles(n: int, size: int) -> list[slice]:
    """Rows 0 … n in pieces of `size`."""
    return [slice(a, min(a + size, n)) for a in range(0, n, size)]


def error_bound(n_snps: int, block: int, chunk: int) -> float:
    """(c + 2) u: the largest error of an entry, relative to the root of the product of its two diagonal entries."""
    return (min(n_snps, block * chunk) + 2) * UNIT


@dataclass(slots=True, eq=False)
class Sum:
    """The lower triangle of Σ W Wᵀ (n, n)."""

    n: int
    chunk: int = CHUNK
    tile: int = TILE
    K: np.ndarray = field(init=False)
    part: np.ndarray = field(init=False)  # of this chunk, float32
    blocks: int = 0
    fresh: bool = True

    def __post_init__(self) -> None:
        self.K = np.zeros((self.n, self.n), order="F")
        self.part = np.empty((self.n, self.n), np.float32, order="F")

    def add(self, W: np.ndarray) -> None:
        """One block (n, m)."""
        if W.shape[1]:
            for rows, columns in lower_tiles(self.n, self.tile):
                multiply(W[rows], W[columns], self.part[rows, columns], add=not self.fresh)
            self.fresh = False
        self.blocks += 1
        if self.blocks % self.chunk == 0:
            self.flush()

    def flush(self) -> None:
        """Add the chunk to the sum."""
        if self.fresh:
            return
        workers = min(os.cpu_count() or 1, 8)
        cuts = [round(self.n * (1 - math.sqrt(1 - k / workers))) for k in range(workers + 1)]  # of equal area
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda a, b: add_lower(self.K, self.part, a, b), cuts[:-1], cuts[1:]))
        self.fresh = True

    def finish(self) -> np.ndarray:
        """The sum (n, n), lower triangle; the room for chunks is given back."""
        self.flush()
        self.part = np.empty((0, 0), np.float32)
        return self.K


def lower_tiles(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of the tiles on and below the diagonal."""
    pieces = tiles(n, size)
    for j, columns in enumerate(pieces):
        for rows in pieces[j:]:
            yield rows, columns


def multiply(A: np.ndarray, B: np.ndarray, C: np.ndarray, *, add: bool) -> None:
    """C ← A Bᵀ + add·C; the lower triangle alone where A is B."""
    if A.ctypes.data == B.ctypes.data:
        ssyrk(A, C, add=add)
    else:
        sgemm(A, B, C, add=add)


def mirror(K: np.ndarray) -> np.ndarray:
    """The lower triangle of K copied onto its upper one, in place."""
    copy_lower(K, 64)
    return K
