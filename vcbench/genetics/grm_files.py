"""GCTA's binary relationship matrices.

.grm.bin     float32, the lower triangle with its diagonal, row by row: K_11, K_21, K_22, K_31, …
.grm.N.bin   float32, the same order: SNPs called in both samples
.grm.id      FID IID, one line a sample
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vcbench.errors import DataError
from vcbench.genetics.ids import SAMPLE_IDS
from vcbench.genetics.plink import beside, check_unique

if TYPE_CHECKING:
    from vcbench.genetics.relationship import GRM

BYTES = 4
ROWS = 1024  # written and read at a time
ENDINGS = (".grm.bin", ".grm.N.bin", ".grm.id", ".grm")


def read_grm(prefix: Any) -> "GRM":
    """`prefix`.grm.bin, .grm.id, and .grm.N.bin where it is. DataError for sizes that do not fit, NaN, repeated ids.

    n_snps is the largest count of a pair; pair_counts is kept where the counts differ.
    """
    from vcbench.genetics.relationship import GRM

    prefix = _prefix(prefix)
    samples = _read_ids(beside(prefix, ".grm.id"))
    K = _read_triangle(beside(prefix, ".grm.bin"), len(samples), np.float64)
    path, n_snps, counts = beside(prefix, ".grm.N.bin"), np.nan, None
    if path.is_file():
        counts = _read_triangle(path, len(samples), np.float32)
        n_snps = float(counts.max())
        counts = counts if counts.min() < n_snps else None
    return GRM(K, samples, n_snps, missing="unknown" if counts is None else "pairs", pair_counts=counts)


def write_grm(grm: "GRM", prefix: Any) -> None:
    """The three files; .grm.N.bin is left out where the number of SNPs is not known."""
    prefix = _prefix(prefix)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    grm.samples[SAMPLE_IDS].to_csv(beside(prefix, ".grm.id"), sep="\t", header=False, index=False)
    _write_triangle(beside(prefix, ".grm.bin"), grm.K)
    counts = grm.pair_counts
    if counts is None and np.isfinite(grm.n_snps):
        counts = np.broadcast_to(np.float32(grm.n_snps), grm.K.shape)
    if counts is not None:
        _write_triangle(beside(prefix, ".grm.N.bin"), counts)


def _prefix(prefix: Any) -> Path:
    path = Path(prefix).expanduser()
    ending = next((e for e in ENDINGS if path.name.endswith(e)), "")
    return path.with_name(path.name.removesuffix(ending))


def _read_ids(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"there is no {path}. A GCTA matrix is three files: .grm.bin, .grm.N.bin and .grm.id.")
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if rows and rows[0][0].startswith("#"):
        rows = rows[1:]
    if not rows or {len(row) for row in rows} != {2}:
        raise DataError(f"{path} needs two columns, FID IID, on every line.")
    samples = pd.DataFrame(rows, columns=SAMPLE_IDS, dtype=str)
    check_unique(samples, str(path))
    return samples


def _read_triangle(path: Path, n: int, dtype: Any) -> np.ndarray:
    """(n, n), both triangles. DataError for a file of another size, or a value that is not finite."""
    if not path.is_file():
        raise DataError(f"there is no {path}. A GCTA matrix is three files: .grm.bin, .grm.N.bin and .grm.id.")
    size, expected = path.stat().st_size, n * (n + 1) // 2 * BYTES
    if size != expected:
        raise DataError(
            f"{path} has {size:,} bytes; a triangle of the {n:,} samples in .grm.id has {expected:,}. The files are "
            "not of one matrix, or one is cut short."
        )
    out = np.empty((n, n), dtype)
    with path.open("rb") as file:
        for first, last in _pieces(n):
            values = np.fromfile(file, "<f4", _count(first, last))
            if not np.isfinite(values).all():
                raise DataError(f"{path} has a value that is not finite, in rows {first + 1} to {last}.")
            rows, columns = _lower(first, last)
            out[rows, columns] = values
            out[columns, rows] = values
    return out


def _write_triangle(path: Path, K: np.ndarray) -> None:
    with path.open("wb") as file:
        for first, last in _pieces(len(K)):
            K[_lower(first, last)].astype("<f4").tofile(file)


def _pieces(n: int) -> Iterator[tuple[int, int]]:
    return ((a, min(a + ROWS, n)) for a in range(0, n, ROWS))


def _count(first: int, last: int) -> int:
    return (last * (last + 1) - first * (first + 1)) // 2


def _lower(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the triangle's entries in rows first … last − 1, row by row."""
    height = np.arange(first + 1, last + 1)
    rows = np.repeat(np.arange(first, last), height)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(height) - height, height)
