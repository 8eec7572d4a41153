"""Phenotypes and covariates from files or frames with sample ids, put in the order of the samples of a relationship
matrix."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vcbench.errors import DataError
from vcbench.genetics.matrices import Matrix
from vcbench.genetics.tables import join


def has_ids(Y: Any) -> bool:
    """True for the path of a phenotype file and for a frame with a column IID."""
    if isinstance(Y, str | os.PathLike):
        return True
    return hasattr(Y, "columns") and "IID" in Y.columns


def aligned(Y: Any, X: Any, matrices: Sequence[Matrix]) -> tuple[Any, Any]:
    """(Y, X) with a row for each sample of the matrices; a sample without a phenotype or covariate is NaN in Y.

    Y, X: files or frames of FID IID and values (X: numbers; PLINK's and GCTA's formats, see `tables`). What has no
    ids is returned as it is: its rows are those of the matrices. Raises DataError where ids cannot be matched: a
    matrix without samples, matrices of different samples, no sample in common.
    """
    if not has_ids(Y):
        if X is not None and has_ids(X):
            raise DataError("X has sample ids but Y has none: give both as files or frames with IID, or neither.")
        return Y, X
    samples = matrices[0].samples
    for matrix in matrices:
        if matrix.samples is None:
            raise DataError(
                f"relationship matrix `{matrix.name}` has no sample ids to match Y's with. Pass genotypes or a GRM "
                "(`GRM.of(K, samples)`), or Y as numbers in the order of its rows."
            )
        same = matrix.samples[["FID", "IID"]].astype(str).equals(samples[["FID", "IID"]].astype(str))  # type: ignore[index]
        if not same:
            raise DataError(f"relationship matrices `{matrices[0].name}` and `{matrix.name}` are of different samples.")
    if X is not None and not has_ids(X):
        raise DataError("Y has sample ids but X has none: give both as files or frames with IID, or neither.")
    assert samples is not None
    joined = join(samples, Y, X)
    n = len(samples)
    values = joined.Y.reindex(np.arange(n)).set_axis(np.arange(n))
    values.loc[:, :] = np.nan
    values.iloc[joined.rows] = joined.Y.to_numpy()
    design = np.zeros((n, joined.X.shape[1]))
    design[:, 0] = 1.0
    design[joined.rows] = joined.X.to_numpy()
    return values, type(joined.X)(design, columns=joined.X.columns)
