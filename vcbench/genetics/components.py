"""Leading principal components of samples: eigenvectors of K, from K or from the genotypes in a few passes.

From genotypes, without K, by the randomised block Krylov method (Halko, Martinsson, Shkolnisky & Tygert 2011): Q an
orthonormal basis of [Ω, K Ω, …, K^q Ω] with Ω (n, k + 10) Gaussian, then the eigenvectors of Qᵀ K Q. Each product
with K is a pass over the SNPs.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import eigh, qr
from scipy.sparse.linalg import eigsh

from vcbench.errors import MethodError
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.ids import SAMPLE_IDS
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.relationship import GRM, check_used
from vcbench.genetics.standardise import Standardisation

MORE = 10  # columns beyond k, for accuracy
DENSE = 600  # samples up to which all of K is decomposed


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """k leading eigenvalues of K, descending (k,), and eigenvectors (n, k) of length 1; `share` of the trace of K.

    The sign of a vector makes its entry of largest size positive. residual: ‖K v − λ v‖ / λ_1, the largest of them.
    """

    values: np.ndarray
    vectors: np.ndarray = field(repr=False)
    share: np.ndarray
    samples: pd.DataFrame = field(repr=False)
    residual: float

    @property
    def frame(self) -> pd.DataFrame:
        """FID, IID, PC1 … PCk."""
        names = [f"PC{j + 1}" for j in range(len(self.values))]
        return pd.concat([self.samples[SAMPLE_IDS], pd.DataFrame(self.vectors, columns=names)], axis=1)

    def write(self, prefix: Any) -> None:
        """`prefix`.eigenvec (FID IID PC1 …, with a header, as plink2 writes it) and `prefix`.eigenval."""
        prefix = Path(os.fspath(prefix))
        self.frame.rename(columns={"FID": "#FID"}).to_csv(
            prefix.with_name(prefix.name + ".eigenvec"), sep="\t", index=False, float_format="%.9g"
        )
        np.savetxt(prefix.with_name(prefix.name + ".eigenval"), self.values, fmt="%.9g")


def principal_components(
    source: Any,
    k: int = 10,
    *,
    standardise: Any = "unit",
    passes: int = 8,
    tol: float = 1e-4,
    seed: int = 0,
    progress: Progress = False,
) -> Components:
    """The k leading principal components of a GRM (exact), or of genotypes (randomised, without K).

    source: a GRM, or what `Genotypes.open` takes (standardise, passes, tol and seed are for these alone). Passes end
    when the largest residual ‖K v − λ v‖ of the k pairs is below tol·λ_1, or there were so many; what was reached is
    `Components.residual`. Memory: 16 n (k + 10) bytes a pass. The same seed gives the same components.
    """
    if isinstance(source, GRM):
        _check_k(k, source.n)
        values, vectors = _leading(source.K, k)
        residual = np.linalg.norm(source.K @ vectors - vectors * values, axis=0).max() / values[0]
        return _components(values, vectors, float(np.trace(source.K, dtype=float)), source.samples, float(residual))
    genotypes, scaling = Genotypes.open(source), Standardisation.of(standardise)
    _check_k(k, genotypes.n)
    if passes < 1:
        raise MethodError(f"passes={passes!r} must be at least 1.")
    width = min(k + MORE, genotypes.n)
    fresh = np.random.default_rng(seed).standard_normal((genotypes.n, width))
    Q, KQ = np.empty((genotypes.n, 0)), np.empty((genotypes.n, 0))
    with track(progress, passes * genotypes.n_variants, "principal components") as advance:
        for _ in range(passes):
            for _twice in range(2):  # once leaves what rounding brings back
                fresh = qr(fresh - Q @ (Q.T @ fresh), mode="economic")[0]
            image, trace = _multiply(genotypes, fresh, scaling, advance)
            Q, KQ, fresh = np.hstack([Q, fresh]), np.hstack([KQ, image]), image
            values, rotation = eigh(Q.T @ KQ)
            values, rotation = values[::-1][:k], rotation[:, ::-1][:, :k]
            vectors = Q @ rotation
            residual = float(np.linalg.norm(KQ @ rotation - vectors * values, axis=0).max() / values[0])
            if residual <= tol or Q.shape[1] + width > genotypes.n:
                break
    return _components(values, vectors, trace, genotypes.samples, residual)


def _multiply(genotypes: Genotypes, Q: np.ndarray, scaling: Standardisation, advance: Any) -> tuple[np.ndarray, float]:
    """(K Q, tr K) in one pass."""
    Q32, KQ, trace, scale = Q.astype(np.float32), np.zeros(Q.shape), 0.0, 0.0
    for block in genotypes.blocks(standardise=scaling, reuse=True):
        KQ += block.W @ (block.W.T @ Q32)
        trace += float(np.vdot(block.W.ravel("K"), block.W.ravel("K")))
        scale += float(scaling.scale(block.facts).sum())
        advance(block.variants.stop - block.variants.start)
    check_used(round(scale > 0), genotypes.n_variants, genotypes.scan().dropped)
    return KQ / scale, trace / scale


def _leading(K: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues, descending, and their vectors."""
    n = len(K)
    if n <= DENSE or k > n // 4:
        values, vectors = eigh(K.astype(float), subset_by_index=(n - k, n - 1))
    else:
        values, vectors = eigsh(
            K.astype(float, copy=False), k, which="LA", v0=np.random.default_rng(0).standard_normal(n)
        )
        order = np.argsort(values)
        values, vectors = values[order], vectors[:, order]
    return values[::-1], vectors[:, ::-1]


def _components(
    values: np.ndarray, vectors: np.ndarray, trace: float, samples: pd.DataFrame, residual: float
) -> Components:
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))]
    return Components(values, vectors * np.sign(largest), values / trace, samples, residual)


def _check_k(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise MethodError(f"k={k!r} components of {n} samples: k must lie between 1 and {n}.")
