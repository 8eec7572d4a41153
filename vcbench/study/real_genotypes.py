"""Genotypes of a study from files: a PLINK prefix, or a CSV of individuals by markers or of markers by individuals."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from vcbench.errors import DataError
from vcbench.study.data_sets import find_data, read_data

BIMBAM = ["allele1", "allele0"]  # the columns behind the marker's name in a mean genotype file: markers are rows


@lru_cache(maxsize=2)
def read_counts(name: str) -> np.ndarray:
    """Allele counts or dosages (n, p), read-only: missing ones at their marker's mean, markers that do not vary left
    out.

    name: the prefix of PLINK's .bed, .bim and .fam, or a CSV file or data set. In a CSV the first column names the
    individuals and each other one is a marker; where `allele1` and `allele0` follow it, rows are markers. Raises
    CardError for a file that is absent, DataError for one that holds no numbers or no marker that varies.
    """
    counts = _read_plink(name) if Path(f"{name}.bed").is_file() else _read_table(name)
    counts = np.where(counts < 0, np.nan, counts)
    called = ~np.isnan(counts)
    mean = np.divide(np.where(called, counts, 0.0).sum(axis=0), called.sum(axis=0), where=called.any(axis=0),
                     out=np.zeros(counts.shape[1]))  # fmt: skip
    counts = np.where(called, counts, mean)
    counts = counts[:, np.ptp(counts, axis=0) > 0]
    if not counts.shape[1] or len(counts) < 3:
        raise DataError(f"genotypes `{name}`: {counts.shape[1]} markers vary among {len(counts)} individuals.")
    counts.flags.writeable = False
    return counts


def _read_plink(prefix: str) -> np.ndarray:
    from vcbench.genetics.genotypes import Genotypes

    return Genotypes.open(prefix).source.read(None, slice(None)).astype(float)


def _read_table(name: str) -> np.ndarray:
    frame = read_data(name)
    by_marker = list(frame.columns[1:3]) == BIMBAM
    try:
        values = frame.iloc[:, 3 if by_marker else 1 :].to_numpy(float)
    except ValueError as error:
        raise DataError(f"genotypes `{find_data(name)}`: {error}. Columns behind the first are numbers.") from error
    return values.T if by_marker else values
