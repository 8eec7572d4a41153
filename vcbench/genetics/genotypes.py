"""Genotypes of n samples at p SNPs, streamed in blocks of SNPs, filtered and standardised as they pass."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vcbench.errors import DataError, MethodError
from vcbench.genetics import plink
from vcbench.genetics.ahead import ahead
from vcbench.genetics.ids import sample_positions, variant_positions
from vcbench.genetics.progress import Progress, track
from vcbench.genetics.sources import ArraySource, Source, is_zarr, numbered_samples, numbered_variants, open_zarr
from vcbench.genetics.standardise import Missing, SnpFacts, Standardisation, check_missing
from vcbench.genetics.standardise_core import count_calls, look_up, measure_dosages, scale_dosages

BLOCK = 2048  # SNPs read at a time
KEPT, UNCALLED, MONOMORPHIC, GAPPY, RARE = range(5)
AUTOSOMES = {str(k) for k in range(1, 23)}


class Block(NamedTuple):
    """Some SNPs on their way past. `facts.columns` are the m that pass the filters, `variants` all that were read."""

    variants: slice
    W: np.ndarray  # (n, m) float32, Fortran order
    facts: SnpFacts


class Calls(NamedTuple):
    """A block before it is standardised: G (n, width of `variants`), int8 calls, negative where missing, or float64
    dosages, NaN where missing."""

    variants: slice
    G: np.ndarray
    facts: SnpFacts
    at: np.ndarray  # columns of G that pass the filters


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What one pass found: `facts` of all p SNPs, why each is left out (0: it is not), missing calls of each sample."""

    facts: SnpFacts
    code: np.ndarray
    absent: np.ndarray
    maf: float
    missing: float

    @property
    def kept(self) -> np.ndarray:
        """(p,) True for the SNPs that are used."""
        return self.code == KEPT

    @property
    def dropped(self) -> dict[str, int]:
        """How many SNPs were left out, by reason, in the order the reasons are tested."""
        words = {
            UNCALLED: "no call",
            MONOMORPHIC: "monomorphic",
            GAPPY: f"missing > {self.missing:g}",
            RARE: f"MAF < {self.maf:g}",
        }
        return {word: int((self.code == code).sum()) for code, word in words.items() if (self.code == code).any()}


@dataclass(frozen=True, slots=True, eq=False)
class Genotypes:
    """Counts 0, 1, 2 of an allele (`variants.a1`) in n samples at p SNPs, read when they are needed and never whole.

    SNPs without a call, monomorphic ones (every call the same), with more than `missing` of their calls missing or a
    minor allele rarer than `maf`, are left out and counted: `scan().dropped`. Build one with `Genotypes.open`.
    """

    source: Source
    samples: pd.DataFrame
    variants: pd.DataFrame
    maf: float = 0.0
    missing: float = 1.0
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    cache: dict[str, Any] = field(init=False, default_factory=dict)

    def __repr__(self) -> str:
        counted = f", p={self.p:,}" if "scan" in self.cache else ""
        return f"Genotypes(n={self.n:,}, n_variants={self.n_variants:,}{counted}, {type(self.source).__name__})"

    @classmethod
    def open(
        cls,
        source: Any,
        samples: Any = None,
        variants: Any = None,
        maf: float = 0.0,
        missing: float = 1.0,
        *,
        chromosomes: Any = None,
    ) -> "Genotypes":
        """Genotypes of a PLINK prefix or .bed, an (n, p) array or frame, a Zarr array or its path, or of Genotypes.

        An array holds 0, 1, 2 (or dosages between) and NaN or a negative number (−9, −127) where missing; a frame's
        index gives the IIDs.
        samples, variants: positions, a mask, a slice, ids, a frame of FID and IID, or a file of ids (`--keep`,
        `--extract`). chromosomes: a name, a list of names, or "autosomes" (1–22). maf, missing: a SNP is used when its
        minor allele has a frequency ≥ maf and its share of missing calls is ≤ missing, among the selected samples.

        Files are checked here: DataError for a .bed that is truncated or of other samples and SNPs than .fam and .bim,
        ids that repeat, a selection that is not there. Nothing else is read before it is needed.
        """
        for name, share in (("maf", maf), ("missing", missing)):
            if not 0 <= share <= (0.5 if name == "maf" else 1):
                raise MethodError(f"{name}={share!r} must be a share between 0 and {0.5 if name == 'maf' else 1}.")
        if isinstance(source, cls):
            opened = cls(source.source, source.samples, source.variants, max(maf, source.maf),
                         min(missing, source.missing), source.rows, source.columns)  # fmt: skip
        else:
            opened = cls(*_open(source), maf, missing)
        return opened.select(samples, variants, chromosomes=chromosomes)

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.samples)

    @property
    def n_variants(self) -> int:
        """SNPs before the filters."""
        return len(self.variants)

    @property
    def p(self) -> int:
        """SNPs that pass the filters; asks for one pass over the file if there was none yet."""
        return int(self.scan().kept.sum())

    def select(self, samples: Any = None, variants: Any = None, *, chromosomes: Any = None) -> "Genotypes":
        """Some of the samples and SNPs, in the order asked for; filters and frequencies are then of these alone."""
        if samples is None and variants is None and chromosomes is None:
            return self
        rows, columns, chosen, table = self.rows, self.columns, self.samples, self.variants
        if samples is not None:
            at = sample_positions(chosen, samples)
            rows, chosen = at if rows is None else rows[at], chosen.iloc[at].reset_index(drop=True)
        for at in self._wanted_columns(variants, chromosomes):
            columns, table = at if columns is None else columns[at], table.iloc[at].reset_index(drop=True)
        return Genotypes(self.source, chosen, table, self.maf, self.missing, rows, columns)

    def scan(self, progress: Progress = False) -> Scan:
        """One pass that counts: facts of every SNP, which pass the filters, missing calls by sample. Kept for later."""
        if "scan" not in self.cache:
            with track(progress, self.n_variants, "counting") as advance:
                for calls in self.calls():
                    advance(calls.variants.stop - calls.variants.start)
        return self.cache["scan"]

    def calls(self, size: int = BLOCK) -> Iterator[Calls]:
        """Blocks of `size` SNPs as they were called, filters applied; the next block is read meanwhile."""
        yield from self._stream(size, lambda calls, turn: calls)

    def blocks(
        self, size: int | None = None, standardise: Any = "unit", missing: Missing = "mean", *, reuse: bool = False
    ) -> Iterator[Block]:
        """Blocks of `size` SNPs (2048) as columns of W, standardised (`standardise.py`); the next is read meanwhile.

        reuse: two arrays take turns, so that W holds until the block after is asked for, and no longer.
        """
        for calls, W in self.columns_with_calls(size, standardise, missing, reuse=reuse):
            yield Block(calls.variants, W, calls.facts)

    def columns_with_calls(
        self, size: int | None = None, standardise: Any = "unit", missing: Missing = "mean", *, reuse: bool = False
    ) -> Iterator[tuple[Calls, np.ndarray]]:
        """As `blocks`, with the calls that each W (n, m) was made of."""
        scaling, missing, size = Standardisation.of(standardise), check_missing(missing), size or BLOCK
        room: list[np.ndarray | None] = [None, None]

        def prepare(calls: Calls, turn: int) -> tuple[Calls, np.ndarray]:
            W = room[turn % 2]
            if W is None:
                W = np.empty((self.n, min(size, self.n_variants)), np.float32, order="F")
                room[turn % 2] = W if reuse else None
            W = W[:, : len(calls.at)]
            if calls.G.dtype == np.int8:
                look_up(calls.G, calls.at, scaling.table(calls.facts, missing), W)
            else:
                scale_dosages(calls.G, calls.at, *scaling.line(calls.facts, missing), W)
            return calls, W

        yield from self._stream(size, prepare)

    def _stream[T](self, size: int, prepare: Callable[[Calls, int], T]) -> Iterator[T]:
        """prepare(calls, turn) of each block, one block ahead in another thread; a full pass leaves a `Scan` behind."""
        if size < 1:
            raise MethodError(f"blocks of {size} SNPs: the size must be at least 1.")
        p, absent = self.n_variants, np.zeros(self.n, np.int64)
        passed: list[SnpFacts] = []
        code = np.empty(p, np.int8)

        def work(turn: int) -> tuple[T, np.ndarray]:
            part = slice(turn * size, min((turn + 1) * size, p))
            calls, facts, code[part], gaps = self.read(part)
            passed.append(facts)
            return prepare(calls, turn), gaps

        for turn, (block, gaps) in enumerate(ahead(work, -(-p // size))):
            if turn == 0 and "scan" not in self.cache:
                self._check_absent(gaps, min(size, p))
            absent += gaps
            yield block
        self.cache.setdefault("scan", Scan(SnpFacts.join(passed), code, absent, self.maf, self.missing))

    def read(self, part: slice) -> tuple[Calls, SnpFacts, np.ndarray, np.ndarray]:
        """(calls, facts of all, why each is left out, missing calls of each sample) of the SNPs of `part`."""
        G = self.source.read(self.rows, part if self.columns is None else self.columns[part])
        facts, gaps = _facts(G, part)
        code = self.codes(facts)
        at = np.flatnonzero(code == KEPT)
        return Calls(part, G, facts.take(at), at), facts, code, gaps

    def codes(self, facts: SnpFacts) -> np.ndarray:
        """Why each SNP of those facts is left out, 0 where it is used."""
        with np.errstate(invalid="ignore"):
            tests = (facts.called == 0, facts.variance == 0, facts.missing > self.missing, facts.maf < self.maf)
        return np.select(tests, (UNCALLED, MONOMORPHIC, GAPPY, RARE), KEPT).astype(np.int8)

    def check_called(self) -> None:
        """DataError for a sample without a call at any SNP; reads the first SNPs, and the rest for suspects alone."""
        part = slice(0, min(BLOCK, self.n_variants))
        self._check_absent(self.read(part)[3], part.stop)

    def _check_absent(self, absent: np.ndarray, read: int) -> None:
        """DataError for a sample without a call: those missing in the first block are read to the end, alone."""
        suspects = np.flatnonzero(absent == read)
        rows = suspects if self.rows is None else self.rows[suspects]
        never = np.ones(len(rows), bool)
        for start in range(read, self.n_variants, BLOCK):
            if not never.any():
                return
            part = slice(start, min(start + BLOCK, self.n_variants))
            G = self.source.read(rows, part if self.columns is None else self.columns[part])
            never &= ~(G >= 0).any(axis=1)
        if never.any():
            FID, IID = self.samples.loc[suspects[never][0], ["FID", "IID"]]
            raise DataError(
                f"sample FID {FID}, IID {IID} has no genotype called at any of the {self.n_variants:,} SNPs "
                f"({int(never.sum())} such of {self.n:,}). Leave them out: `samples=`, or --keep."
            )

    def _wanted_columns(self, variants: Any, chromosomes: Any) -> Iterator[np.ndarray]:
        """Positions to take one after the other: those of `variants`, then those on `chromosomes` among them."""
        table = self.variants
        if variants is not None:
            at = variant_positions(table, variants)
            table = table.iloc[at]
            yield at
        if chromosomes is not None:
            wanted = [chromosomes] if isinstance(chromosomes, str | int) else list(chromosomes)
            names = AUTOSOMES if chromosomes == "autosomes" else {str(name).removeprefix("chr") for name in wanted}
            here = table["chrom"].astype(str).str.removeprefix("chr")
            if not here.isin(names).any():
                raise DataError(
                    f"no SNP is on chromosome {', '.join(sorted(names))}; there are {', '.join(sorted(set(here)))}."
                )
            yield np.flatnonzero(here.isin(names))


def _facts(G: np.ndarray, part: slice) -> tuple[SnpFacts, np.ndarray]:
    """(facts of a block, missing calls of each sample in it)."""
    columns, (n, m) = np.arange(part.start, part.stop), G.shape
    absent = np.zeros(n, np.int64)
    if G.dtype == np.int8:
        counts = np.empty((m, 4), np.int64)
        count_calls(G, counts, absent)
        return SnpFacts.of_counts(counts, columns), absent
    called, mean, variance = np.empty(m, np.int64), np.empty(m), np.empty(m)
    measure_dosages(G, called, mean, variance, absent)
    return SnpFacts(n, columns, called, mean, variance), absent


def _open(source: Any) -> tuple[Source, pd.DataFrame, pd.DataFrame]:
    """(calls, samples, variants) of whatever was passed."""
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        if is_zarr(path):
            return _open(open_zarr(path))
        prefix = plink.prefix_of(path)
        samples = plink.read_fam(plink.beside(prefix, ".fam"))
        variants = plink.read_bim(plink.beside(prefix, ".bim"))
        return plink.BedFile.open(plink.beside(prefix, ".bed"), len(samples), len(variants)), samples, variants
    if isinstance(source, pd.DataFrame):
        calls, samples, variants = _open(source.to_numpy())
        samples["FID"] = samples["IID"] = source.index.astype(str)
        plink.check_unique(samples, "the frame of genotypes")
        return calls, samples, variants.assign(id=source.columns.astype(str))
    if hasattr(source, "read") and hasattr(source, "n") and hasattr(source, "p"):
        samples, variants = getattr(source, "samples", None), getattr(source, "variants", None)
        return (
            source,
            numbered_samples(source.n) if samples is None else samples,
            numbered_variants(source.p) if variants is None else variants,
        )
    array = source if hasattr(source, "shape") and hasattr(source, "dtype") else np.asarray(source)
    calls = ArraySource.of(array)
    return calls, numbered_samples(calls.n), numbered_variants(calls.p)
