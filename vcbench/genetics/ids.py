"""Samples and SNPs found by positions, masks, lists of ids, frames, or files of ids (PLINK's --keep, --extract)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vcbench.errors import DataError

SAMPLE_IDS = ["FID", "IID"]


def match_samples(samples: pd.DataFrame, wanted: pd.DataFrame) -> np.ndarray:
    """Position in `samples` of each row of `wanted`, −1 where it is not there; by FID and IID, or by IID alone.

    IID alone serves where `wanted` has no FID. DataError where an IID then stands for two samples.
    """
    if "FID" in wanted:
        index = pd.MultiIndex.from_frame(samples[SAMPLE_IDS].astype(str))
        return index.get_indexer(pd.MultiIndex.from_frame(wanted[SAMPLE_IDS].astype(str)))
    plain = pd.Index(samples["IID"].astype(str))
    if not plain.is_unique:
        twice = plain[plain.duplicated()][0]
        raise DataError(f"IID {twice} stands for several samples of different FID: match by FID and IID.")
    return plain.get_indexer(pd.Index(wanted["IID"].astype(str)))


def sample_positions(samples: pd.DataFrame, wanted: Any) -> np.ndarray:
    """Rows of `samples` in the order asked for.

    wanted: a slice, a boolean mask, positions, IIDs, (FID, IID) pairs, a frame with IID (and FID), or the path of a
    file of FID IID lines or of IIDs alone (kept in the order of `samples`; lines of others are passed over). DataError
    for an id that is not there, or asked for twice, and where nothing is left.
    """
    at = _positions(wanted, len(samples), "samples")
    if at is None:
        if isinstance(wanted, str | os.PathLike):
            found = match_samples(samples, _id_file(Path(wanted), SAMPLE_IDS))
            at = np.unique(found[found >= 0])
        else:
            frame = _as_frame(wanted)
            at = match_samples(samples, frame)
            if (at < 0).any():
                lost = frame[at < 0].iloc[0].to_dict()
                raise DataError(
                    f"sample {_words(lost)} is not among the {len(samples)} samples ({(at < 0).sum()} such)."
                )
    return _check(at, "samples", wanted)


def variant_positions(variants: pd.DataFrame, wanted: Any) -> np.ndarray:
    """Rows of `variants` in the order asked for; as `sample_positions`, by SNP id."""
    at = _positions(wanted, len(variants), "variants")
    if at is None:
        index = pd.Index(variants["id"])
        is_file = isinstance(wanted, str | os.PathLike)
        ids = _id_file(Path(wanted), ["id"])["id"].tolist() if is_file else [str(v) for v in wanted]
        if is_file:
            at = np.flatnonzero(index.isin(ids))
        else:
            if not index.is_unique and index[index.isin(ids)].has_duplicates:
                twice = index[index.isin(ids) & index.duplicated()][0]
                raise DataError(f"SNP id {twice} stands for several variants: select them by position or by a mask.")
            kept = index[~index.duplicated()]
            at = np.flatnonzero(~index.duplicated())[kept.get_indexer(ids)] if len(ids) else np.array([], np.int64)
            lost = ~np.isin(ids, index)
            if lost.any():
                raise DataError(
                    f"SNP {ids[int(lost.argmax())]} is not among the {len(index)} variants ({lost.sum()} such)."
                )
    return _check(at, "variants", wanted)


def _positions(wanted: Any, size: int, what: str) -> np.ndarray | None:
    """Positions from a slice, mask or whole numbers; None where `wanted` says ids."""
    if isinstance(wanted, slice):
        return np.arange(size)[wanted]
    if isinstance(wanted, str | os.PathLike | pd.DataFrame):
        return None
    values = np.asarray(wanted)
    if values.dtype == bool:
        if values.shape != (size,):
            raise DataError(f"the mask of {what} has shape {values.shape}; ({size},) was expected.")
        return np.flatnonzero(values)
    if values.dtype.kind in "iu" and values.ndim == 1:
        wrong = (values < -size) | (values >= size)
        if wrong.any():
            raise DataError(f"{what} has position {values[wrong][0]}; there are {size}.")
        return np.arange(size)[values]
    return None


def _check(at: np.ndarray, what: str, wanted: Any) -> np.ndarray:
    """DataError for an empty or repeated selection."""
    if len(at) == 0:
        said = f" (`{wanted}`)" if isinstance(wanted, str | os.PathLike) else ""
        raise DataError(f"the selection of {what}{said} leaves none. Are its ids those of the genotypes?")
    if len(np.unique(at)) < len(at):
        values, counts = np.unique(at, return_counts=True)
        raise DataError(f"the selection of {what} asks for position {values[counts > 1][0]} twice.")
    return at


def _as_frame(wanted: Any) -> pd.DataFrame:
    if isinstance(wanted, pd.DataFrame):
        if "IID" not in wanted:
            raise DataError(f"a frame of samples needs a column IID (and FID); it has {', '.join(map(str, wanted))}.")
        return wanted[[c for c in SAMPLE_IDS if c in wanted]]
    pairs = [tuple(v) if isinstance(v, tuple | list | np.ndarray) else (v,) for v in wanted]
    width = {len(v) for v in pairs}
    if width - {1, 2} or len(width) > 1:
        raise DataError("samples are selected by position, by IID, or by (FID, IID) pairs.")
    return pd.DataFrame(pairs, columns=SAMPLE_IDS[-width.pop() :] if width else SAMPLE_IDS, dtype=str)


def _id_file(path: Path, names: list[str]) -> pd.DataFrame:
    """The first columns of a file of ids; a header (FID IID, IID, ID, with or without #) is passed over. Samples may be
    a list of IIDs alone."""
    if not path.is_file():
        raise DataError(f"there is no file {path} of ids. Pass a list to select by id.")
    rows = [line.split()[: len(names)] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    header = rows[0][0].lstrip("#").upper() if rows else ""
    rows = rows[1:] if header in ("FID", "IID", "ID") else rows
    if names == SAMPLE_IDS and rows and (header == "IID" or all(len(row) == 1 for row in rows)):
        rows, names = [row[:1] for row in rows], ["IID"]  # plink2's list of IIDs alone
    short = [row for row in rows if len(row) < len(names)]
    if short:
        raise DataError(
            f"{path}: the line `{' '.join(short[0])}` has fewer than {len(names)} columns ({' '.join(names)})."
        )
    return pd.DataFrame(rows, columns=names, dtype=str)


def _words(ids: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in ids.items())
