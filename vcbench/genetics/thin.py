"""p < n: the eigenvalues of K = W Wᵀ/s from the p × p side, and products with its eigenvectors, with no n × n matrix.

    W = √s U D^½ Vᵀ,    Wᵀ W / s = V D Vᵀ,    U = W V D^{−½} / √s    (n × r, r the rank)

so that UᵀY = D^{−½} Vᵀ (Wᵀ Y) / √s for any Y, in one pass over the SNPs.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.genetics.genotypes import BLOCK, Genotypes
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.relationship import check_used
from vcbench.genetics.relationship_sums import mirror
from vcbench.genetics.standardise import Standardisation

RANK = 1e-6  # of λ_max: eigenvalues below are rounding of single precision


@dataclass(frozen=True, slots=True, eq=False)
class ThinFactor:
    """K's r eigenvalues that are not 0, ascending (r,), and V (p, r); U (n, r) is reached through `rotate`."""

    genotypes: Genotypes = field(repr=False)
    standardise: Standardisation
    values: np.ndarray = field(repr=False)
    V: np.ndarray = field(repr=False)
    scale: float

    @property
    def n(self) -> int:
        """Samples."""
        return self.genotypes.n

    @property
    def p(self) -> int:
        """SNPs used."""
        return len(self.V)

    def rotate(self, Y: Any) -> np.ndarray:
        """UᵀY (r, k) of Y (n, k)."""
        return (self.V / np.sqrt(self.scale * self.values)).T @ transposed_product(self.genotypes, Y, self.standardise)

    def vectors(self) -> np.ndarray:
        """U (n, r) itself, float64."""
        U, done = np.zeros((self.n, len(self.values))), 0
        right = self.V / np.sqrt(self.scale * self.values)
        for block in self.genotypes.blocks(standardise=self.standardise, reuse=True):
            m = block.W.shape[1]
            U += block.W.astype(float) @ right[done : done + m]
            done += m
        return U


def thin_factor(
    genotypes: Any, standardise: Any = "unit", *, memory: float = 5e8, progress: Progress = False
) -> ThinFactor:
    """The eigenvalues and right singular vectors of W/√s from Wᵀ W (p, p), missing calls at their mean.

    W is held in groups of SNPs that fit in `memory` bytes, and the file is read once for each group; products are in
    double precision. MethodError where p > n: the n × n side is the smaller one (`relationship_matrix`).
    """
    genotypes, scaling = Genotypes.open(genotypes), Standardisation.of(standardise)
    p, n = genotypes.p, genotypes.n
    check_used(p, genotypes.n_variants, genotypes.scan().dropped)
    if p > n:
        raise MethodError(f"p = {p:,} SNPs and n = {n:,} samples: the n × n side is smaller; use relationship_matrix.")
    width = max(int(memory / (8 * n)), 1)
    chosen = genotypes.select(variants=genotypes.scan().kept)
    S = np.zeros((p, p), order="F")
    with track(progress, sum(range(p, 0, -width)), "thin factor") as advance:
        for first in range(0, p, width):
            group = np.empty((n, min(width, p - first)), order="F")
            for block in chosen.select(variants=slice(first, None)).blocks(BLOCK, scaling, reuse=True):
                start, W = block.variants.start, block.W.astype(float)
                ready = min(block.variants.stop, group.shape[1])  # columns of the group that have come by
                if start < ready:
                    group[:, start:ready] = W[:, : ready - start]
                S[first + start : first + block.variants.stop, first : first + ready] = W.T @ group[:, :ready]
                advance(W.shape[1])
    scale = float(scaling.scale(genotypes.scan().facts.take(genotypes.scan().kept)).sum())
    values, V = np.linalg.eigh(mirror(S) / scale)
    keep = values > RANK * values[-1]
    return ThinFactor(chosen, scaling, values[keep], V[:, keep], scale)


def transposed_product(genotypes: Genotypes, Y: Any, standardise: Any = "unit") -> np.ndarray:
    """WᵀY (p, k) of Y (n, k), float64, in one pass."""
    Y = np.asarray(Y, float)
    Y = Y[:, None] if Y.ndim == 1 else Y
    parts = [block.W.T.astype(float) @ Y for block in genotypes.blocks(standardise=standardise, reuse=True)]
    return np.concatenate(parts)
