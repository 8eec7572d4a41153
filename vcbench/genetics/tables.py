"""Phenotype and covariate files in PLINK's and GCTA's formats, joined to the samples of genotypes by FID and IID.

A file has columns FID IID and then values, parted by white space; a header begins with FID, #FID, IID or #IID (without
FID: samples are matched by IID alone). −9, NA, nan and . are missing. Of a .fam the sixth column is taken. Frames of
the same columns do as well.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from vcbench.errors import DataError, did_you_mean
from vcbench.genetics.ids import SAMPLE_IDS, match_samples

MISSING = ("-9", "NA", "NaN", "nan", "N/A", ".", "")
MANY_LEVELS = 20  # of a category: with more, and more than half the samples, it is a number
NAMES = {"phenotype": "pheno", "qcovar": "qcovar", "covar": "covar"}
Kind = Literal["phenotype", "qcovar", "covar"]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Ids (FID where known, IID) and values by column: numbers with NaN, or text with None for categories."""

    kind: Kind
    ids: pd.DataFrame
    values: pd.DataFrame
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """The samples that are used, with their phenotypes and covariates, and who was dropped and why.

    rows (n,): positions in the samples that were passed; Y (n, k), NaN where one phenotype of several is missing;
    X (n, d) with `(Intercept)` first; dropped: FID, IID, reason; unmatched: ids of each file without genotypes.
    """

    samples: pd.DataFrame
    rows: np.ndarray
    Y: pd.DataFrame
    X: pd.DataFrame
    dropped: pd.DataFrame
    n_before: int
    unmatched: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many samples were dropped, by reason."""
        return {str(k): int(v) for k, v in self.dropped.groupby("reason", sort=False).size().items()}

    def report(self) -> str:
        """A few lines: samples before, dropped by reason, used, and ids of the files that no genotypes have."""
        lines = [f"{self.n_before:>9,}  samples with genotypes"]
        lines += [f"−{count:>8,}  {reason}" for reason, count in self.counts.items()]
        lines += [f"{len(self.samples):>9,}  used"]
        lines += [f"{count:>9,}  in {name} without genotypes" for name, count in self.unmatched.items() if count]
        partial = {str(name): int(gap) for name, gap in self.Y.isna().sum().items() if gap}
        lines += [f"{gap:>9,}  of the used lack `{name}`" for name, gap in partial.items()]
        return "\n".join(lines)


def read_table(
    source: Any, kind: Kind = "phenotype", *, columns: Sequence[str] | None = None, missing: Sequence[str] = MISSING
) -> Table:
    """One file or frame. kind "phenotype" and "qcovar" hold numbers, "covar" categories.

    Without a header columns are called pheno1, pheno2, … (qcovar1 …, covar1 …). columns: the names to keep. missing:
    the texts that stand for a missing value ("-9.0" in a file is a number; in a frame of numbers −9 is missing).
    Raises DataError for a file that is not there, ids that repeat, lines of different length, and a value that is no
    finite number.
    """
    name = str(source) if isinstance(source, str | os.PathLike) else f"the {kind} frame"
    ids, text = _read_file(Path(source), kind) if isinstance(source, str | os.PathLike) else _read_frame(source, name)
    twice = ids.duplicated().to_numpy()
    if twice.any():
        row = ids[twice].iloc[0].to_dict()
        raise DataError(
            f"{name}: {', '.join(f'{k} {v}' for k, v in row.items())} comes twice ({int(twice.sum())} repeated). "
            "Keep one line for each sample."
        )
    if columns is not None:
        lost = [c for c in columns if c not in text]
        if lost:
            have = [str(c) for c in text]
            raise DataError(f"{name} has no column `{lost[0]}`; it has {', '.join(have)}.{did_you_mean(lost[0], have)}")
        text = text[list(columns)]
    parse = _categories if kind == "covar" else _numbers
    return Table(kind, ids, pd.DataFrame({c: parse(text[c], missing, name) for c in text}, index=text.index), name)


def join(
    samples: pd.DataFrame,
    phenotype: Any,
    qcovar: Any = None,
    covar: Any = None,
    *,
    columns: Sequence[str] | None = None,
) -> Joined:
    """Phenotypes and covariates of the samples of genotypes (FID, IID), in their order.

    phenotype, qcovar (numbers), covar (categories: one 0/1 column for each level but the first): files, frames or
    `Table`s. columns: the phenotypes to keep. A sample is dropped when it has none of the phenotypes, or lacks a
    covariate; `Joined` counts and names them. DataError where a file and the genotypes share no sample, nobody is
    left, or a covariate has one value only.
    """
    tables = {"phenotype": _table(phenotype, "phenotype", columns)}
    for kind, source in (("qcovar", qcovar), ("covar", covar)):
        if source is not None:
            tables[kind] = _table(source, kind)  # type: ignore[arg-type]
    values, unmatched = {}, {}
    reason = np.full(len(samples), "", object)
    for kind, table in tables.items():
        values[kind], found, unmatched[table.source] = _align(samples, table)
        gaps = values[kind].isna()
        what, gap = ("phenotype", gaps.all(axis=1)) if kind == "phenotype" else (kind, gaps.any(axis=1))
        _give(reason, ~found, f"not in the {what} file" if kind != "phenotype" else "no phenotype")
        _give(reason, gap.to_numpy(), "no phenotype" if kind == "phenotype" else f"{what} missing")
    used = np.flatnonzero(reason == "")
    dropped = samples[SAMPLE_IDS].assign(reason=reason)[reason != ""].reset_index(drop=True)
    if len(used) == 0:
        why = ", ".join(f"{count:,} {words}" for words, count in dropped.groupby("reason").size().items())
        hint = " A covariate that is missing for most is best left out." if len(tables) > 1 else ""
        raise DataError(f"no sample is left of {len(samples):,}: {why}.{hint}")
    kept = {kind: frame.iloc[used].reset_index(drop=True) for kind, frame in values.items()}
    chosen = samples.iloc[used].reset_index(drop=True)
    X = _design(kept.get("qcovar"), kept.get("covar"), len(used))
    return Joined(chosen, used, kept["phenotype"], X, dropped, len(samples), unmatched)


def _table(source: Any, kind: Kind, columns: Sequence[str] | None = None) -> Table:
    return source if isinstance(source, Table) else read_table(source, kind, columns=columns)


def _give(reason: np.ndarray, where: np.ndarray, words: str) -> None:
    """Set the reason where there is none yet."""
    reason[where & (reason == "")] = words


def _align(samples: pd.DataFrame, table: Table) -> tuple[pd.DataFrame, np.ndarray, int]:
    """(values in the order of `samples`, who has a line, lines without genotypes)."""
    at = match_samples(samples, table.ids)
    if not (at >= 0).any():
        theirs, ours = (", ".join(f"{k} {v}" for k, v in f.iloc[0].to_dict().items())
                        for f in (table.ids, samples[SAMPLE_IDS]))  # fmt: skip
        same = "FID" in table.ids and table.ids["IID"].astype(str).isin(samples["IID"].astype(str)).any()
        hint = " Their IIDs agree: leave the column FID out to match by IID alone." if same else ""
        raise DataError(
            f"{table.source} shares no sample with the genotypes: it begins with {theirs}, they begin with {ours}."
            + hint
        )
    found = np.zeros(len(samples), bool)
    found[at[at >= 0]] = True
    values = table.values[at >= 0].set_index(at[at >= 0]).reindex(np.arange(len(samples)))
    return values, found, int((at < 0).sum())


def _design(qcovar: pd.DataFrame | None, covar: pd.DataFrame | None, n: int) -> pd.DataFrame:
    """Intercept, numbers, and a 0/1 column for every level of a category but its first."""
    columns: dict[str, np.ndarray] = {"(Intercept)": np.ones(n)}
    for frame, kind in ((qcovar, "qcovar"), (covar, "covar")):
        for name in () if frame is None else frame:
            value = frame[name]  # type: ignore[index]
            if value.nunique() < 2 and n > 1:
                raise DataError(
                    f"{kind} `{name}` is {value.iloc[0]} for all {n:,} samples that are used, as the intercept is: "
                    "leave it out."
                )
            if kind == "qcovar":
                columns[str(name)] = value.to_numpy(float)
            else:
                levels = sorted(value.unique(), key=_as_number)
                if len(levels) > max(MANY_LEVELS, n / 2):
                    raise DataError(
                        f"covar `{name}` has {len(levels):,} different values among {n:,} samples, each to have a "
                        "column. Numbers belong in a qcovar file."
                    )
                columns |= {f"{name}{level}": (value == level).to_numpy(float) for level in levels[1:]}
    return pd.DataFrame(columns)


def _as_number(level: str) -> tuple[int, float, str]:
    """Levels that are numbers in the order of numbers, before words."""
    try:
        return 0, float(level), level
    except ValueError:
        return 1, 0.0, level


def _read_file(path: Path, kind: Kind) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(ids, values as text) of a file."""
    if not path.is_file():
        raise DataError(f"there is no {kind} file {path}.")
    rows = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not rows:
        raise DataError(f"{path} is empty.")
    if len(rows[0]) == 1 and "," in rows[0][0]:
        raise DataError(f"{path} has commas between its columns; white space was expected, as in PLINK's files.")
    if path.suffix == ".fam" and {len(row) for row in rows} == {6}:
        rows = [["FID", "IID", "phenotype"], *([row[0], row[1], row[5]] for row in rows)]
    header = rows[0][0].lstrip("#").upper() in SAMPLE_IDS
    names = ["FID", "IID"]
    if header:
        first = [rows[0][0].lstrip("#").upper(), *rows.pop(0)[1:]]
        names = SAMPLE_IDS if first[0] == "FID" else ["IID"]
        if first[: len(names)] != names:
            raise DataError(f"{path}: its header begins with {' '.join(first[:2])}; FID IID or IID was expected.")
        columns = first
    else:
        columns = [*names, *(f"{NAMES[kind]}{k}" for k in range(1, len(rows[0]) - 1))]
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(columns)), None)
    if wrong is not None:
        line = wrong + 1 + header
        raise DataError(
            f"{path}, line {line} has {len(rows[wrong])} columns; {len(columns)} were expected: {' '.join(columns)}."
        )
    if len(columns) == len(names):
        raise DataError(f"{path} has ids and no values: after {' '.join(names)} come the columns of the {kind}.")
    if len(set(columns)) < len(columns):
        raise DataError(
            f"{path}: column `{next(c for c in columns if columns.count(c) > 1)}` comes twice in its header."
        )
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    return frame[names], frame.drop(columns=names)


def _read_frame(source: Any, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(ids, values) of a frame with columns IID (and FID), or with the IIDs as its index."""
    if not isinstance(source, pd.DataFrame):
        raise DataError(f"{name} is a {type(source).__name__}; a file or a data frame with FID and IID was expected.")
    frame = source if "IID" in source else source.rename_axis("IID").reset_index()
    names = [c for c in SAMPLE_IDS if c in frame]
    values = frame.drop(columns=names)
    if values.shape[1] == 0:
        raise DataError(f"{name} has ids and no values.")
    return frame[names].astype(str).reset_index(drop=True), values.reset_index(drop=True)


def _numbers(column: pd.Series, missing: Sequence[str], name: str) -> np.ndarray:
    """Numbers, NaN where missing."""
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(float, na_value=np.nan)
        gap = np.isnan(values) | (("-9" in missing) & (values == -9))
        values = np.where(gap, np.nan, values)
    else:
        gap = (column.isna() | column.astype(str).isin(missing)).to_numpy()
        values = pd.to_numeric(column.where(~gap), errors="coerce").to_numpy(float)
    wrong = ~gap & ~np.isfinite(values)
    if wrong.any():
        raise DataError(
            f"{name}: `{column.iloc[int(wrong.argmax())]}` in column `{column.name}` is no finite number. Missing "
            "values are written NA or -9; categories belong in a covar file."
        )
    return values


def _categories(column: pd.Series, missing: Sequence[str], name: str) -> np.ndarray:
    """Text, None where missing."""
    text = column.astype(str)
    return text.mask(column.isna() | text.isin(missing), None).to_numpy(object)
