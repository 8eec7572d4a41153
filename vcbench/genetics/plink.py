"""PLINK 1 files: .fam and .bim as frames, a .bed checked against them; read by blocks of SNPs, written SNP by SNP."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vcbench.errors import DataError

FAM = ("FID", "IID", "father", "mother", "sex", "phenotype")
BIM = ("chrom", "id", "cm", "pos", "a1", "a2")
MAGIC, KIND = b"\x6c\x1b", b"\x01"  # of that kind: one SNP after the other
HEADER = 3  # bytes


def prefix_of(path: Any) -> Path:
    """`geno` from `geno`, `geno.bed`, `geno.bim` or `geno.fam`; a prefix may hold dots itself."""
    path = Path(os.fspath(path)).expanduser()
    return path.with_suffix("") if path.suffix in (".bed", ".bim", ".fam") else path


def beside(prefix: Path, ending: str) -> Path:
    """`geno.bim` from `geno`."""
    return prefix.with_name(prefix.name + ending)


def read_fam(path: Path) -> pd.DataFrame:
    """FID, IID, sex (1, 2, 0 unknown) of each sample. DataError for another layout or an id that comes twice."""
    frame = _columns(path, FAM)[["FID", "IID", "sex"]]
    check_unique(frame, str(path))
    return frame


def read_bim(path: Path) -> pd.DataFrame:
    """chrom, id, cm, pos, a1, a2 of each SNP; a1 is the allele that is counted."""
    frame = _columns(path, BIM)
    for name, kind in (("cm", "float64"), ("pos", "int64")):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        bad = np.flatnonzero(numbers.isna())
        if len(bad):
            raise DataError(
                f"{path}, line {bad[0] + 1}: the {name} is `{frame[name].iloc[bad[0]]}`, not a number. A .bim has six "
                f"columns: {' '.join(BIM)}."
            )
        frame[name] = numbers.astype(kind)
    return frame


def check_unique(samples: pd.DataFrame, what: str) -> None:
    """DataError naming the first (FID, IID) that comes twice."""
    twice = samples.duplicated(["FID", "IID"]).to_numpy()
    if twice.any():
        FID, IID = samples.loc[twice, ["FID", "IID"]].iloc[0]
        raise DataError(
            f"{what}: sample FID {FID}, IID {IID} comes twice ({int(twice.sum())} repeated in all). Samples are "
            "matched by these ids; give each its own, or keep one row."
        )


@dataclass(frozen=True, slots=True, eq=False)
class BedFile:
    """The calls of a .bed, checked: its size is that of n samples and p SNPs."""

    path: Path
    n: int
    p: int
    reader: Any

    @classmethod
    def open(cls, path: Path, n: int, p: int) -> "BedFile":
        """DataError for a file that is missing, truncated, of other n and p, or stored one sample after the other."""
        from bed_reader import open_bed

        if not path.is_file():
            raise DataError(f"there is no {path}. Pass a PLINK prefix that has .bed, .bim and .fam.")
        with path.open("rb") as file:
            head = file.read(HEADER)
        if head[:2] != MAGIC:
            begins = f"begins with {head!r} where {MAGIC + KIND!r} was expected" if head else "is empty"
            zipped = (
                "Unpack it first."
                if head[:2] == b"\x1f\x8b"
                else "`plink2 … --make-bed` writes one from other formats."
            )
            raise DataError(f"{path} is no PLINK 1 .bed: it {begins}. {zipped}")
        if head[2:] != KIND:
            raise DataError(
                f"{path} is stored sample by sample, or is cut short. `plink2 --bfile … --make-bed` writes it SNP by "
                "SNP."
            )
        size, each = path.stat().st_size, (n + 3) // 4
        if size != HEADER + p * each:
            whole, rest = divmod(size - HEADER, max(each, 1))
            held = (
                f"it holds {whole:,} SNPs of {n:,} samples: the .bim is of another file, or the .bed was cut short"
                if rest == 0
                else "it was cut short, or the .fam is of another file"
            )
            raise DataError(
                f"{path} has {size:,} bytes where {n:,} samples (.fam) and {p:,} SNPs (.bim) take "
                f"{HEADER + p * each:,}; {held}. Restore the three files of one data set."
            )
        return cls(path, n, p, open_bed(path, iid_count=n, sid_count=p, skip_format_check=True))

    def read(self, rows: np.ndarray | None, columns: slice | np.ndarray) -> np.ndarray:
        """Calls (samples, SNPs), int8 in Fortran order, −127 where missing."""
        return self.reader.read((slice(None) if rows is None else rows, columns), dtype="int8", order="F")


def write_plink(prefix: Any, blocks: Iterable[np.ndarray], samples: pd.DataFrame, variants: pd.DataFrame) -> Path:
    """Write .bed, .bim and .fam from blocks of calls (n, m) int8, negative where missing; one block is held at a time.

    samples: FID, IID (and sex); variants: chrom, id, cm, pos, a1, a2. Returns the prefix. DataError for ids that repeat
    or blocks that do not make up the SNPs of `variants`.
    """
    from bed_reader import create_bed

    prefix = prefix_of(prefix)
    check_unique(samples, "samples")
    prefix.parent.mkdir(parents=True, exist_ok=True)
    n, p = len(samples), len(variants)
    fam = pd.DataFrame({"FID": samples["FID"], "IID": samples["IID"], "father": 0, "mother": 0})
    fam["sex"], fam["phenotype"] = samples.get("sex", 0), -9
    path = beside(prefix, ".bed")
    written = 0
    with create_bed(path, n, p, fam_location=os.devnull, bim_location=os.devnull, num_threads=1) as bed:
        for G in blocks:
            written += G.shape[1]
            if G.shape[0] != n or written > p:
                raise DataError(f"a block of {G.shape[0]} samples ends at SNP {written}; said were {n} and {p}.")
            G = np.where(G < 0, np.int8(-127), G) if (G < 0).any() else G
            for column in np.asfortranarray(G, dtype=np.int8).T:
                bed.write(column)
        if written < p:
            raise DataError(f"the blocks hold {written} SNPs; `variants` has {p}.")
    fam.to_csv(beside(prefix, ".fam"), sep="\t", header=False, index=False)
    variants[list(BIM)].to_csv(beside(prefix, ".bim"), sep="\t", header=False, index=False)
    return prefix


def _columns(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """A file of white-space separated columns without a header, as text."""
    if not path.is_file():
        raise DataError(f"there is no {path}. Pass a PLINK prefix that has .bed, .bim and .fam.")
    with path.open(encoding="utf-8") as file:
        line = file.readline().rstrip("\n")
    tabs = "\t" in line and not any(c.isspace() and c != "\t" for c in line)  # the quicker way to read
    try:
        frame = pd.read_csv(path, sep="\t" if tabs else r"\s+", header=None, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"{path} cannot be read: {str(error).strip()}. It needs {len(names)} columns a line."
        ) from error
    if frame.shape[1] != len(names):
        raise DataError(f"{path} has {frame.shape[1]} columns; {len(names)} were expected: {' '.join(names)}.")
    frame.columns = pd.Index(names)
    short = frame.isna().any(axis=1).to_numpy()
    if short.any():
        raise DataError(f"{path}, line {int(short.argmax()) + 1} has fewer than {len(names)} columns.")
    return frame
