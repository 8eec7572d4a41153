"""What `heritability` and `genetic_correlation` take for relationship: genotypes, matrices, GRMs, decompositions.

Nothing is computed before it is asked for: genotypes whose decomposition is in the cache are not read, and where there
are fewer SNPs than samples no n × n matrix is formed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from vcbench.errors import DataError, ModelError
from vcbench.genetics.content import content_of
from vcbench.genetics.eigen import (
    Eigen,
    check_symmetric,
    decompose,
    decompose_thin,
    digest,
    key_of,
    read_cache,
    write_cache,
)
from vcbench.genetics.genotypes import Genotypes
from vcbench.genetics.progress import Progress
from vcbench.genetics.relationship import GRM, relationship_matrix, with_monomorphic
from vcbench.genetics.standardise import Standardisation, check_missing


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """One relationship matrix of n samples, from one of: K (n, n), an `Eigen`, `Genotypes`.

    It may be passed where these may; what was computed for one call then serves the next.

    samples: FID and IID, where they are known. n_snps: SNPs behind it, mean_diagonal: tr K/n, once it was computed.
    """

    name: str
    n: int
    given: np.ndarray | Eigen | Genotypes = field(repr=False)
    samples: pd.DataFrame | None = field(default=None, repr=False)
    scaling: Standardisation | None = None
    missing: str = "mean"
    count_monomorphic: bool = False
    progress: Progress = False
    facts: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def n_snps(self) -> int | None:
        """SNPs used; None where nothing says."""
        return self.facts.get("n_snps")

    @property
    def mean_diagonal(self) -> float:
        """tr K / n."""
        return self.facts.get("mean_diagonal", float("nan"))

    @property
    def is_thin(self) -> bool:
        """True for genotypes at fewer SNPs than samples, with missing calls at the mean."""
        return isinstance(self.given, Genotypes) and self.given.n_variants < self.n and self.missing == "mean"

    def K(self) -> np.ndarray:
        """The matrix (n, n), kept once it is computed."""
        if isinstance(self.given, np.ndarray):
            return self.given
        if "K" not in self.facts:
            whole = self.given if isinstance(self.given, Eigen) else self.facts.get("eigen")
            if whole is not None:
                self.facts["K"] = whole.matrix()
            else:
                self.facts["K"] = self.grm().K
        return self.facts["K"]

    def grm(self) -> GRM:
        """The matrix of genotypes with what is written beside it: ids, SNPs, pair counts; computed, not kept."""
        assert isinstance(self.given, Genotypes)
        grm = relationship_matrix(self.given, self.scaling, self.missing, progress=self.progress)  # type: ignore[arg-type]
        if self.count_monomorphic:
            grm = with_monomorphic(grm, self.given)
        self.facts.update(n_snps=grm.n_snps, mean_diagonal=float(np.trace(grm.K)) / self.n)
        return grm

    def W(self) -> tuple[np.ndarray, float]:
        """(W (n, p) float64, s): the standardised genotypes, K = W Wᵀ/s. Of genotypes only."""
        assert isinstance(self.given, Genotypes)
        assert self.scaling is not None
        parts, total = [], 0.0
        for block in self.given.blocks(standardise=self.scaling):
            parts.append(block.W.astype(float))
            total += float(self.scaling.scale(block.facts).sum())
        W = np.concatenate(parts, axis=1)
        total /= self._share(W.shape[1])
        size = float(np.einsum("ij,ij->", W, W))
        self.facts.update(n_snps=W.shape[1], mean_diagonal=size / total / self.n)
        return W, total

    def _share(self, used: float) -> float:
        """used/(used + monomorphic) where monomorphic SNPs are counted, as GCTA counts them, else 1."""
        assert isinstance(self.given, Genotypes)
        return used / (used + self.given.scan().dropped.get("monomorphic", 0)) if self.count_monomorphic else 1.0

    @property
    def decomposed(self) -> Eigen | None:
        """The decomposition of all rows, if there is one already."""
        return self.given if isinstance(self.given, Eigen) else self.facts.get("eigen")

    def eigen(self, rows: np.ndarray | None = None, cache: Any = None, last: bool = False) -> Eigen:
        """The decomposition of K, kept, or of K[rows, rows]; found in the folder `cache` if it is there.

        last: K computed here will not be asked for again and may be destroyed; the decomposition can restore it.
        """
        if rows is None and self.decomposed is not None:
            return self.decomposed
        out = self._eigen(rows, cache, last and rows is None)
        if rows is None:
            self.facts["eigen"] = out
            self.facts.setdefault("mean_diagonal", out.trace / out.n)
        return out

    def _eigen(self, rows: np.ndarray | None, cache: Any, last: bool) -> Eigen:
        if isinstance(self.given, np.ndarray):
            return decompose(self.given, rows=rows, cache=cache, name=self.name)
        if isinstance(self.given, Eigen):
            return decompose(self.K(), rows=rows, cache=cache, name=self.name)
        key = ""
        if cache is not None:
            said = {"genotypes": content_of(self.given), "rows": "all" if rows is None else digest(np.asarray(rows))}
            assert self.scaling is not None
            key = key_of(
                {**said, "standardise": self.scaling.label, "missing": self.missing, "all": self.count_monomorphic}
            )
            found = read_cache(cache, key)
            if found is not None:
                self.facts.update(found.facts)
                return found
        if self.is_thin and (rows is None or len(rows) > self.given.n_variants):
            W, total = self.W()
            out = decompose_thin(W, total, rows=rows, overwrite=True, name=self.name)
        else:
            K = self.K()
            if last:
                self.facts.pop("K")
            out = decompose(K, rows=rows, overwrite=last, name=self.name)
        if cache is not None:
            out = replace(out, key=key, facts={k: self.facts[k] for k in ("n_snps", "mean_diagonal")})
            write_cache(cache, out)
        return out


def matrices_of(
    genotypes: Any,
    K: Any,
    n: int | None = None,
    standardise: Any = "unit",
    missing: str = "mean",
    count_monomorphic: bool = False,
    progress: Progress = False,
) -> list[Matrix]:
    """The matrices meant by `genotypes=` or `K=`, one of which must be given, for n samples (None: however many).

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
    how = Standardisation.of(standardise), check_missing(missing), count_monomorphic, progress
    out = [_matrix(name, part, K is not None, *how) for name, part in parts.items()]
    check_rows(out, out[0].n if n is None else n)
    return out


def check_rows(matrices: Sequence[Matrix], n: int) -> None:
    """ModelError for a matrix of other than n samples."""
    for matrix in matrices:
        if matrix.n != n:
            raise ModelError(
                f"relationship matrix `{matrix.name}` is of {matrix.n} samples but Y has {n} rows. Put both in the "
                "same order, one row a sample; phenotypes may be NaN."
            )


def _matrix(
    name: str,
    part: Any,
    is_K: bool,
    scaling: Standardisation,
    missing: str,
    count_monomorphic: bool,
    progress: Progress,
) -> Matrix:
    if isinstance(part, Matrix):
        return part
    if isinstance(part, Eigen):
        return Matrix(name, part.n, part, facts={"mean_diagonal": part.trace / part.n})
    if is_K or isinstance(part, GRM):
        K = np.asarray(getattr(part, "K", part))
        if K.dtype.kind not in "fiu":
            raise DataError(f"relationship matrix `{name}` is of type {K.dtype}; it must be numbers.")
        check_symmetric(K, name)
        n_snps = float(getattr(part, "n_snps", np.nan))
        facts = {"mean_diagonal": float(np.trace(K)) / len(K)} | ({"n_snps": int(n_snps)} if n_snps > 0 else {})
        return Matrix(name, len(K), K, getattr(part, "samples", None), facts=facts)
    opened = Genotypes.open(part)
    return Matrix(name, opened.n, opened, opened.samples, scaling, missing, count_monomorphic, progress)
