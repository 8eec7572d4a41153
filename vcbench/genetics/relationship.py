"""Relationship matrices of samples from their genotypes, K = W Wᵀ / s, and GCTA's files of them."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from vcbench.errors import DataError, MethodError
from vcbench.genetics.blas import warn_if_slow
from vcbench.genetics.genotypes import BLOCK, MONOMORPHIC, Genotypes
from vcbench.genetics.ids import SAMPLE_IDS, match_samples, sample_positions
from vcbench.genetics.pair_counts import PairSums
from vcbench.genetics.plink import check_unique
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.relationship_sums import CHUNK, TILE, Sum, error_bound, mirror
from vcbench.genetics.sources import numbered_samples
from vcbench.genetics.standardise import Missing, Standardisation, check_missing

ASYMMETRY = 1e-6  # of max|K|


@dataclass(frozen=True, slots=True, eq=False)
class GRM:
    """K (n, n), symmetric, of `samples` (FID, IID).

    n_snps: SNPs used. scale: K = W Wᵀ / scale; with missing="pairs" each entry has its own, and `pair_counts` (n, n)
    the SNPs called in both. error_bound: the largest rounding error of an entry K_jk over √(K_jj K_kk). dropped: SNPs
    left out by reason. NaN and None where a matrix from elsewhere does not say.
    """

    K: np.ndarray = field(repr=False)
    samples: pd.DataFrame = field(repr=False)
    n_snps: float = np.nan
    standardise: str = "unknown"
    missing: str = "unknown"
    scale: float = np.nan
    pair_counts: np.ndarray | None = field(default=None, repr=False)
    error_bound: float = np.nan
    dropped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, K: Any, samples: Any = None) -> "GRM":
        """A matrix from elsewhere: square, symmetric, finite (else DataError).

        samples: a frame of FID and IID, or IIDs; a frame K labelled by its index needs none.
        """
        if samples is None and isinstance(K, pd.DataFrame):
            samples = K.index
        K = np.asarray(K, float)
        if K.ndim != 2 or K.shape[0] != K.shape[1] or len(K) == 0:
            raise DataError(f"`K` has shape {K.shape}; a relationship matrix is square.")
        if not np.isfinite(K).all():
            i, j = np.argwhere(~np.isfinite(K))[0]
            raise DataError(f"`K` is {K[i, j]} at [{i}, {j}].")
        if (gap := float(np.abs(K - K.T).max())) > ASYMMETRY * float(np.abs(K).max()):
            raise DataError(f"`K` is not symmetric: K and its transpose differ by {gap:g}. Pass (K + K.T) / 2.")
        return cls(K, _sample_frame(samples, len(K)))

    @classmethod
    def read(cls, prefix: Any) -> "GRM":
        """GCTA's `.grm.bin`, `.grm.N.bin` (if there) and `.grm.id`. DataError for files that do not fit together."""
        from vcbench.genetics.grm_files import read_grm

        return read_grm(prefix)

    def write(self, prefix: Any) -> None:
        """GCTA's `.grm.bin`, `.grm.N.bin` and `.grm.id`; entries are rounded to single precision."""
        from vcbench.genetics.grm_files import write_grm

        write_grm(self, prefix)

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.K)

    def rows(self, samples: pd.DataFrame) -> np.ndarray:
        """Where each of `samples` (FID, IID) is. DataError naming the first that K does not have."""
        at = match_samples(self.samples, samples)
        if (at < 0).any():
            lost = samples[at < 0].iloc[0]
            ids = ", ".join(f"{name} {lost[name]}" for name in SAMPLE_IDS if name in samples)
            raise DataError(
                f"the relationship matrix is of other samples: {ids} is not among its {self.n:,} "
                f"({int((at < 0).sum()):,} of {len(samples):,} are not). Compute it from these samples, or select them."
            )
        return at

    def select(self, samples: Any) -> "GRM":
        """The rows and columns of some samples: positions, a mask, ids, a frame of FID and IID, or a file of ids."""
        at = sample_positions(self.samples, samples)
        N = None if self.pair_counts is None else self.pair_counts[np.ix_(at, at)]
        return replace(
            self, K=self.K[np.ix_(at, at)], pair_counts=N, samples=self.samples.iloc[at].reset_index(drop=True)
        )

    def unrelated(self, cutoff: float = 0.05) -> np.ndarray:
        """Rows to keep so that no two are related by more than `cutoff`: who has the most such relatives goes first."""
        related = np.greater(self.K, cutoff)
        np.fill_diagonal(related, False)
        count, gone = related.sum(axis=1), np.zeros(self.n, bool)
        while count.max() > 0:
            worst = int(count.argmax())
            gone[worst] = True
            count = count - (related[worst] & ~gone)
            count[worst] = 0
        return np.flatnonzero(~gone)


def relationship_matrix(
    genotypes: Any,
    standardise: Any = "unit",
    missing: Missing = "mean",
    *,
    dtype: Any = np.float64,
    block: int = BLOCK,
    chunk: int = CHUNK,
    tile: int = TILE,
    progress: Progress = False,
) -> GRM:
    """K = W Wᵀ / Σ s over the SNPs that pass the filters, in one pass over the file.

    genotypes: Genotypes, or what `Genotypes.open` takes, or a Dask array (n, p). standardise: `standardise.py`; "unit"
    makes the mean diagonal 1, "vanraden2" is GCTA's and plink2's matrix. missing: "mean" puts missing calls at the mean
    of their SNP; "pairs" divides each entry by Σ s over the SNPs called in both samples, as GCTA does.

    Products are in single precision, sums over chunks of `block`·`chunk` SNPs in double (`relationship_sums`; the bound
    of what that rounds away is `GRM.error_bound`). K is float64 or float32 (dtype). Memory: 12 n² bytes (and 8 n² with
    missing="pairs" where calls are missing), and two blocks. A warning says so when the work is large and
    BLAS runs on kernels below the processor's.
    """
    scaling, missing = Standardisation.of(standardise), check_missing(missing)
    if np.dtype(dtype) not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise MethodError(f"dtype={dtype!r}: a relationship matrix is float64 or float32.")
    from vcbench.genetics.distributed import is_dask, relationship_of_dask

    if is_dask(genotypes):
        return relationship_of_dask(genotypes, scaling, missing, dtype=dtype, block=block, chunk=chunk, tile=tile)
    genotypes = Genotypes.open(genotypes)
    warn_if_slow(float(genotypes.n) ** 2 * genotypes.n_variants)
    total, pairs, scale, used = Sum(genotypes.n, chunk, tile), PairSums(genotypes.n), 0.0, 0
    with track(progress, genotypes.n_variants, "relationship matrix") as advance:
        for calls, W in genotypes.columns_with_calls(block, scaling, missing, reuse=True):
            total.add(W)
            s = scaling.scale(calls.facts)
            if missing == "pairs":
                pairs.add(calls.G, calls.at, genotypes.n - calls.facts.called, s)
            scale, used = scale + float(s.sum()), used + len(s)
            advance(calls.variants.stop - calls.variants.start)
    check_used(used, genotypes.n_variants, genotypes.scan().dropped)
    K = total.finish()
    shared = pairs.shared() if missing == "pairs" else None
    counts = None
    if shared is None:
        K /= scale
    else:
        check_shared(shared, genotypes.samples)
        K /= shared
        counts = mirror(shared.astype(np.float32)) if scale == used else None
    return GRM(
        mirror(K.astype(dtype, copy=False)), genotypes.samples, used, scaling.label, missing, scale, counts,
        error_bound(used, block, chunk), genotypes.scan().dropped,
    )  # fmt: skip


def with_monomorphic(grm: GRM, genotypes: Genotypes) -> GRM:
    """The matrix as GCTA and plink2 divide it: by all SNPs with a call, those that do not vary too.

    With missing="pairs", where each SNP counts 1, that is by those called in both samples; else in one proportion.
    """
    still = np.flatnonzero(genotypes.scan().code == MONOMORPHIC)
    used = grm.n_snps
    if grm.missing != "pairs" or grm.scale != used or len(still) == 0:
        grm.K[:] *= used / (used + len(still))
        return grm
    counts, more = PairSums(genotypes.n), genotypes.select(variants=still)
    for start in range(0, len(still), BLOCK):
        calls, facts, _, _ = more.read(slice(start, min(start + BLOCK, len(still))))
        m = len(facts.called)
        counts.add(calls.G, np.arange(m), genotypes.n - facts.called, np.ones(m))
    shared = counts.shared()
    extra = np.float32(counts.total) if shared is None else mirror(shared.astype(np.float32))
    own = np.float32(used) if grm.pair_counts is None else grm.pair_counts
    total = own + extra
    grm.K[:] *= own / total
    return replace(grm, pair_counts=np.broadcast_to(total, grm.K.shape))


def check_used(used: int, p: int, dropped: dict[str, int]) -> None:
    """DataError where the filters leave no SNP."""
    if used == 0:
        why = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        raise DataError(
            f"none of the {p:,} SNPs is left: {why}. Loosen `maf` or `missing` (--maf, --geno), or check the genotypes."
        )


def check_shared(shared: np.ndarray, samples: pd.DataFrame) -> None:
    """DataError for two samples without a SNP that is called in both; `shared` (n, n), lower triangle."""
    none = np.tril(shared <= 0)
    if none.any():
        j, k = np.argwhere(none)[0]
        raise DataError(
            f"samples {samples['IID'].iloc[j]} and {samples['IID'].iloc[k]} have no SNP called in both: an entry of "
            'the matrix does not exist. Leave one of them out, or use missing="mean".'
        )


def _sample_frame(samples: Any, n: int) -> pd.DataFrame:
    if samples is None:
        return numbered_samples(n)[SAMPLE_IDS]
    if isinstance(samples, pd.DataFrame):
        frame = samples.assign(FID=samples["FID"] if "FID" in samples else samples["IID"])[SAMPLE_IDS].astype(str)
    else:
        frame = pd.DataFrame({"FID": np.asarray(samples).astype(str), "IID": np.asarray(samples).astype(str)})
    if len(frame) != n:
        raise DataError(f"`samples` has {len(frame)} rows but the matrix has {n}.")
    check_unique(frame, "the samples of the matrix")
    return frame.reset_index(drop=True)
