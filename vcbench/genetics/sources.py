"""Where genotype calls come from: a .bed file, an array, a Zarr array. Each hands out blocks of SNPs as int8."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from vcbench.errors import DataError
from vcbench.genetics.plink import BIM
from vcbench.genetics.standardise_core import out_of_range

MISSING = -127  # as bed-reader writes it; every negative call counts as missing


class Source(Protocol):
    """n samples by p SNPs; anything with these three can be opened as `Genotypes`."""

    @property
    def n(self) -> int: ...

    @property
    def p(self) -> int: ...

    def read(self, rows: np.ndarray | None, columns: slice | np.ndarray) -> np.ndarray:
        """(samples, SNPs) of some rows (None: all) and columns, Fortran order: calls, int8, negative where missing, or
        dosages, float64, NaN where missing."""


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """An (n, p) array of 0, 1, 2: numpy, or whatever can be cut like one (Zarr, HDF5, a memory map)."""

    array: Any
    name: str = "genotypes"

    @classmethod
    def of(cls, array: Any, name: str = "genotypes") -> "ArraySource":
        """DataError for other than two dimensions of whole or real numbers."""
        shape, dtype = tuple(array.shape), np.dtype(array.dtype)
        if len(shape) != 2 or 0 in shape:
            raise DataError(f"`{name}` has shape {shape}; samples in rows and SNPs in columns were expected.")
        if dtype.kind not in "iufb":
            raise DataError(f"`{name}` holds {dtype}; counts 0, 1, 2 of an allele were expected.")
        return cls(array, name)

    @property
    def n(self) -> int:
        """Samples."""
        return int(self.array.shape[0])

    @property
    def p(self) -> int:
        """SNPs."""
        return int(self.array.shape[1])

    def read(self, rows: np.ndarray | None, columns: slice | np.ndarray) -> np.ndarray:
        """As `Source.read`; DataError naming the first value that is no count of alleles."""
        part = np.asarray(self.array[:, columns]) if isinstance(columns, slice) else _columns(self.array, columns)
        return as_calls(part if rows is None else part[rows], self.name)


def as_calls(part: np.ndarray, name: str = "genotypes") -> np.ndarray:
    """Calls as int8, dosages as float64, in Fortran order. DataError naming a value above 2."""
    if part.dtype == np.int8:
        calls = np.asfortranarray(part)
        i, j = out_of_range(calls)
    else:
        with np.errstate(invalid="ignore"):
            high = np.argwhere(part > 2)
        i, j = high[0] if len(high) else (-1, -1)
        calls = np.asfortranarray(np.where(part >= 0, part, np.nan), dtype=float)
        whole = np.where(np.isnan(calls), MISSING, calls).astype(np.int8, order="F")
        calls = whole if ((whole == calls) | (whole < 0)).all() else calls
    if i >= 0:
        raise DataError(
            f"`{name}` has {part[i, j]} in a block (sample {i}, SNP {j} of it); 0, 1 or 2 copies of an allele, or a "
            "dosage between, were expected, and NaN or a negative number where missing."
        )
    return calls


def open_zarr(path: Any) -> Any:
    """The Zarr array of a path. DataError where zarr is not installed or no array is there."""
    try:
        import zarr
    except ImportError as error:
        raise DataError(f"{path} is a Zarr array, and zarr is not installed: `pip install zarr`.") from error
    try:
        return zarr.open_array(os.fspath(path), mode="r")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no Zarr array of (samples, SNPs): {error}") from error


def is_zarr(path: Path) -> bool:
    """Whether a path looks like a Zarr store."""
    return path.suffix == ".zarr" or any((path / mark).exists() for mark in (".zarray", "zarr.json"))


def numbered_samples(n: int) -> pd.DataFrame:
    """FID = IID = 1 … n, sex unknown."""
    ids = np.arange(1, n + 1).astype(str)
    return pd.DataFrame({"FID": ids, "IID": ids, "sex": "0"})


def numbered_variants(p: int) -> pd.DataFrame:
    """snp1 … snp p, all on chromosome 1, at positions 1 … p."""
    ids = np.char.add("snp", np.arange(1, p + 1).astype(str))
    values = ("1", ids, 0.0, np.arange(1, p + 1), "A", "G")
    return pd.DataFrame(dict(zip(BIM, values, strict=True)), index=range(p))


def _columns(array: Any, columns: np.ndarray) -> np.ndarray:
    """Some columns, in any order: by one cut over their span where the array knows no other (Zarr)."""
    if isinstance(array, np.ndarray):
        return array[:, columns]
    low = int(columns.min())
    return np.asarray(array[:, low : int(columns.max()) + 1])[:, columns - low]
