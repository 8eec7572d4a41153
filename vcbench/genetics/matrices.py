"""What `heritability` and `genetic_correlation` take for relationship: matrices, decompositions, GRMs, genotypes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import DataError, ModelError
from vcbench.genetics.eigen import Eigen, check_symmetric, decompose, decompose_thin


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """One relationship matrix: K (n, n), or W (n, p) with K = W Wᵀ/divisor and p < n, or its decomposition.

    about: what else decides its numbers (standardisation, samples): part of the key of the cache.
    """

    name: str
    K: np.ndarray | None = field(default=None, repr=False)
    W: np.ndarray | None = field(default=None, repr=False)
    divisor: float = 1.0
    eigen: Eigen | None = field(default=None, repr=False)
    n_snps: int | None = None
    samples: Any = field(default=None, repr=False)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Rows."""
        for part in (self.K, self.W):
            if part is not None:
                return len(part)
        assert self.eigen is not None
        return self.eigen.n

    @property
    def mean_diagonal(self) -> float:
        """tr K / n."""
        if self.K is not None:
            return float(np.trace(self.K)) / self.n
        if self.W is not None:
            return float(np.einsum("ij,ij->", self.W, self.W, dtype=float)) / self.divisor / self.n
        assert self.eigen is not None
        return self.eigen.trace / self.n


def matrices_of(
    genotypes: Any, K: Any, n: int, standardise: Any = "unit", missing: str = "mean", progress: bool = False
) -> list[Matrix]:
    """The matrices meant by `genotypes=` or `K=`, one of which must be given, for n samples.

    Raises ModelError for neither or both, and for a matrix of another number of rows.
    """
    if (genotypes is None) == (K is None):
        raise ModelError("give either `genotypes` or `K=`, what the relationship between the samples is.")
    given = K if K is not None else genotypes
    parts: dict[str, Any]
    if isinstance(given, Mapping):
        parts = {str(name): part for name, part in given.items()}
    elif isinstance(given, list | tuple):
        parts = {f"G{j + 1}": part for j, part in enumerate(given)}
    else:
        parts = {"G": given}
    if not parts:
        raise ModelError("no relationship matrix was given.")
    out = [_matrix(name, part, K is not None, standardise, missing, progress) for name, part in parts.items()]
    for matrix in out:
        if matrix.n != n:
            raise ModelError(
                f"relationship matrix `{matrix.name}` is of {matrix.n} samples but Y has {n} rows. Put both in the "
                "same order, one row a sample; phenotypes may be NaN."
            )
    return out


def _matrix(name: str, part: Any, is_K: bool, standardise: Any, missing: str, progress: bool) -> Matrix:
    if isinstance(part, Eigen):
        return Matrix(name, eigen=part)
    if is_K:
        K = getattr(part, "K", part)
        samples = getattr(part, "samples", None)
        K = np.asarray(K)
        if K.dtype.kind not in "fiu":
            raise DataError(f"relationship matrix `{name}` is of type {K.dtype}; it must be numbers.")
        check_symmetric(K, name)
        return Matrix(name, K=K, samples=samples, n_snps=getattr(part, "n_snps", None))
    raise ModelError("genotypes: not yet")


def eigen_of(matrix: Matrix, rows: np.ndarray | None, cache: Any) -> Eigen:
    """The decomposition of the matrix, or of its `rows`."""
    if matrix.eigen is not None:
        if rows is None:
            return matrix.eigen
        return decompose(matrix.eigen.matrix(), rows=rows, cache=cache, about=matrix.about, name=matrix.name)
    if matrix.K is not None:
        return decompose(matrix.K, rows=rows, cache=cache, about=matrix.about, name=matrix.name)
    assert matrix.W is not None
    if rows is not None and len(rows) <= matrix.W.shape[1]:
        part = np.asarray(matrix.W[rows], float)
        return decompose(part @ part.T / matrix.divisor, cache=cache, about=matrix.about, overwrite=True)
    return decompose_thin(matrix.W, matrix.divisor, rows=rows, cache=cache, about=matrix.about, name=matrix.name)
