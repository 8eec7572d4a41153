"""Bins of SNPs, one variance each: from labels, masks, a frame, or a file of 0/1 columns (RHE-mc, GENIE, LDSC).

A bin k holds the SNPs with a 1 in its column, and K_k = W_k W_kᵀ / s_k. A SNP may be in several bins, or in none.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vcbench.errors import DataError

ID_COLUMNS = ("SNP", "ID", "id", "snp", "rsid", "RSID", "variant")
OTHERS = {"CHR", "CHROM", "#CHROM", "chrom", "BP", "POS", "pos", "CM", "cM", "cm", "A1", "A2", "a1", "a2", "MAF"}


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """names (K,) and member (p, K), True where a SNP is in a bin; None where all are in the only one."""

    names: tuple[str, ...]
    member: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def of(cls, annotations: Any, variants: pd.DataFrame) -> "Bins":
        """Bins of the SNPs of `variants`, p of them.

        annotations: None (one bin), "chromosome", a path (below), (p,) labels, a (p, K) array or frame of 0/1, or a
        mapping of names to masks (p,) or lists of SNP ids. A file without a header has one line for each SNP and one
        column for each bin. A file or frame with a header that has a column SNP (or ID) is matched by it, positions
        and alleles beside it are passed over; one column that is no number holds labels.
        Raises DataError naming what does not fit: another number of lines, a value other than 0 and 1, an empty bin,
        ids that repeat.
        """
        p = len(variants)
        if annotations is None:
            return cls(("G",))
        if isinstance(annotations, str) and annotations == "chromosome":
            return _of_labels(variants["chrom"].astype(str).to_numpy(), "chromosome")
        if isinstance(annotations, Mapping):
            return _of_mapping(annotations, variants)
        what = "`annotations`"
        if isinstance(annotations, str | os.PathLike):
            what = str(annotations)
            annotations = _read(Path(annotations))
        if isinstance(annotations, pd.DataFrame):
            return _of_frame(annotations, variants, what)
        values = np.asarray(annotations)
        if values.ndim not in (1, 2) or len(values) != p:
            raise DataError(f"{what} has shape {values.shape}; the genotypes have {p:,} SNPs, one line each.")
        if values.ndim == 1:
            return _of_labels(values.astype(str), what)
        return _of_numbers(values, tuple(f"G{k + 1}" for k in range(values.shape[1])), what)

    @property
    def n(self) -> int:
        """Bins."""
        return len(self.names)

    def at(self, columns: np.ndarray) -> np.ndarray:
        """(m, K), True where those SNPs are in a bin."""
        return np.ones((len(columns), 1), bool) if self.member is None else self.member[columns]


def _read(path: Path) -> Any:
    """A frame with its header, or an array where the first line holds 0 and 1 alone."""
    if not path.is_file():
        raise DataError(f"there is no annotation file {path}.")
    with path.open(encoding="utf-8") as file:
        first = file.readline().split()
    header = 0 if any(word not in ("0", "1", "0.0", "1.0") for word in first) else None
    try:
        frame = pd.read_csv(path, sep=r"\s+", header=header, dtype=str if header == 0 else None)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read: {str(error).strip()}. One line for each SNP was expected.") from error
    return frame if header == 0 else frame.to_numpy()


def _of_frame(frame: pd.DataFrame, variants: pd.DataFrame, what: str) -> Bins:
    by = next((name for name in ID_COLUMNS if name in frame), None)
    values = frame[[c for c in frame if c != by and c not in OTHERS]]
    if values.shape[1] == 0:
        raise DataError(f"{what} has no column of bins beside {', '.join(map(str, frame))}.")
    if by is None and len(frame) != len(variants):
        raise DataError(
            f"{what} has {len(frame):,} lines for {len(variants):,} SNPs. Give one line for each in their order, or a "
            "column SNP to match by."
        )
    if by is not None:
        ids = frame[by].astype(str)
        if ids.duplicated().any():
            raise DataError(f"{what}: SNP {ids[ids.duplicated()].iloc[0]} comes twice. Keep one line for each.")
        values = values.set_index(ids.to_numpy()).reindex(variants["id"].astype(str).to_numpy())
        if values.isna().all(axis=None):
            raise DataError(
                f"{what} shares no SNP with the genotypes: it begins with {ids.iloc[0]}, they begin with "
                f"{variants['id'].iloc[0]}."
            )
    numbers = values.apply(pd.to_numeric, errors="coerce")
    if values.shape[1] == 1 and numbers.isna().all(axis=None):
        column = values.iloc[:, 0]
        return _of_labels(np.where(column.isna(), "", column.astype(str)), what)
    wrong = numbers.isna() & values.notna()
    if wrong.any(axis=None):
        i, k = np.argwhere(wrong.to_numpy())[0]
        raise DataError(f"{what}: bin `{values.columns[k]}` has `{values.iloc[i, k]}`; 0 and 1 were expected.")
    return _of_numbers(numbers.fillna(0).to_numpy(), tuple(str(c) for c in values), what)


def _of_numbers(values: np.ndarray, names: tuple[str, ...], what: str) -> Bins:
    values = np.asarray(values, float)
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        i, k = np.argwhere(wrong)[0]
        raise DataError(
            f"{what}: bin `{names[k]}` has {values[i, k]:g} for SNP {i + 1}; 0 and 1 were expected (annotations that "
            "are numbers have no bins: cut them into classes)."
        )
    return _checked(Bins(names, values == 1), what)


def _of_labels(labels: np.ndarray, what: str) -> Bins:
    names = list(dict.fromkeys(label for label in labels.tolist() if label not in ("", "nan", "None")))
    return _checked(Bins(tuple(names), labels[:, None] == np.array(names)[None]), what)


def _of_mapping(annotations: Mapping[str, Any], variants: pd.DataFrame) -> Bins:
    columns = []
    for name, chosen in annotations.items():
        values = np.asarray(chosen)
        if values.dtype == bool:
            if values.shape != (len(variants),):
                raise DataError(f"bin `{name}` is a mask of {len(values):,}; there are {len(variants):,} SNPs.")
            columns.append(values)
        elif values.dtype.kind in "iu":
            if values.size and not (0 <= values.min() <= values.max() < len(variants)):
                raise DataError(f"bin `{name}` names SNP {values.max()}; positions run from 0 to {len(variants) - 1}.")
            columns.append(np.isin(np.arange(len(variants)), values))
        else:
            columns.append(variants["id"].astype(str).isin(values.astype(str)).to_numpy())
    if not columns:
        raise DataError("`annotations` has no bin.")
    return _checked(Bins(tuple(str(name) for name in annotations), np.column_stack(columns)), "`annotations`")


def _checked(bins: Bins, what: str) -> Bins:
    """DataError for an empty bin, a name that repeats, and two bins of the same SNPs."""
    assert bins.member is not None
    if not bins.names:
        raise DataError(f"{what} puts no SNP in any bin.")
    if len(set(bins.names)) < bins.n:
        twice = next(name for name in bins.names if bins.names.count(name) > 1)
        raise DataError(f"{what} has two bins called `{twice}`.")
    for k, count in enumerate(bins.member.sum(axis=0)):
        if count == 0:
            raise DataError(f"{what}: bin `{bins.names[k]}` holds none of the SNPs.")
    seen: dict[bytes, str] = {}
    for k, name in enumerate(bins.names):
        other = seen.setdefault(np.packbits(bins.member[:, k]).tobytes(), name)
        if other != name:
            raise DataError(f"{what}: bins `{other}` and `{name}` hold the same SNPs, so that only their sum is known.")
    return bins
