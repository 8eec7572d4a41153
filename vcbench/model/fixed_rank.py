"""Full column rank, as R and lme4 reach it: of dependent columns the later ones go."""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np

from vcbench.errors import ModelError

TOLERANCE = 1e-7
_PACKAGE = str(Path(__file__).parents[1])  # the warning points at the caller's line


class RankWarning(UserWarning):
    """Columns of X were dropped because they are combinations of others."""


def independent_columns(X: np.ndarray, tol: float = TOLERANCE) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the columns kept, and R (m, d) with RᵀR = XᵀX on which the choice was made.

    Column j is dropped when what the kept columns before it leave of it is shorter than tol · ‖x_j‖: the rule of the
    pivoted Householder QR of R's `qr` (LINPACK dqrdc2, tol = 1e-7), which lme4 uses for X.
    """
    R = np.linalg.qr(X, mode="r")
    norms = np.linalg.norm(R, axis=0)
    d = R.shape[1]
    if R.shape[0] == d and (np.abs(np.diag(R)) > tol * norms).all():
        return np.arange(d), R
    kept: list[int] = []
    Q = np.zeros((R.shape[0], 0))
    for j in range(d):
        rest = R[:, j] - Q @ (Q.T @ R[:, j])
        rest -= Q @ (Q.T @ rest)  # twice is enough for orthogonality to machine precision
        length = np.linalg.norm(rest)
        if length > tol * norms[j] and len(kept) < R.shape[0]:
            kept.append(j)
            Q = np.column_stack([Q, rest / length])
    return np.array(kept, dtype=np.int64), R


def reduce_rank(X: np.ndarray, names: tuple[str, ...], rank: Literal["drop", "error"]) -> np.ndarray:
    """Positions of the columns of X to keep.

    With `rank="drop"` one RankWarning names the columns dropped and what they are combinations of; with "error" the
    same is a ModelError.
    """
    kept, R = independent_columns(X)
    if kept.size == len(names):
        return kept
    dropped = [j for j in range(len(names)) if j not in set(kept.tolist())]
    said = [_combination(R, kept, j, names) for j in dropped[:6]] + (
        [f"and {len(dropped) - 6} more"] if dropped[6:] else []
    )
    text = f"`X` has rank {kept.size} but {len(names)} columns: {'; '.join(said)}."
    if rank == "error":
        raise ModelError(f'{text} Remove the term(s) that cause it, or pass rank="drop" to leave these columns out.')
    these = f"These {len(dropped)} columns were" if len(dropped) > 1 else "This column was"
    warnings.warn(
        f'{text} {these} dropped. Pass rank="error" to stop here.', RankWarning, skip_file_prefixes=(_PACKAGE,)
    )
    return kept


def _combination(R: np.ndarray, kept: np.ndarray, j: int, names: tuple[str, ...]) -> str:
    """Column j in terms of the columns kept, where six or fewer of them take part."""
    if not np.linalg.norm(R[:, j]) > 0:
        return f"`{names[j]}` is zero in all rows used"
    scale = np.linalg.norm(R[:, kept], axis=0)
    weights = np.linalg.lstsq(R[:, kept] / scale, R[:, j], rcond=None)[0]
    parts = [names[kept[i]] for i in np.flatnonzero(np.abs(weights) > 1e-7 * np.abs(weights).max(initial=0))]
    if 0 < len(parts) <= 6:
        return f"`{names[j]}` is a combination of " + ", ".join(f"`{part}`" for part in parts)
    return f"`{names[j]}` is a combination of {len(parts)} others"
