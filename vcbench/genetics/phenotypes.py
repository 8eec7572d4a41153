"""Phenotypes and covariates as arrays, and which phenotypes share one decomposition.

A phenotype that lacks a few of the rows of a decomposition need not have one of its own. With a column of X for each
missing row (1 there, 0 elsewhere) and any value in the place of the missing y, integrating those coefficients out takes
the missing rows out of the density of y:

    ∫ N(y | Xβ + Eγ, V) dγ = N(y_o | X_o β, V_oo)

so that ℓ_REML, P and all that follows from them (score, information, moment equations, GLS β̂) are those of the rows
that were observed, exactly. ℓ_ML profiles γ instead of integrating it and is not: under ML rows that differ are
decomposed apart. An iteration costs O(n (d + s)²) for s missing rows: `share` says up to which share of rows it is
worth it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vcbench.errors import DataError
from vcbench.model.model import full_rank


@dataclass(frozen=True, slots=True, eq=False)
class Phenotypes:
    """values (n, P), NaN where missing; names (P,); X (n, d) of full rank with the constant in its span; X_names
    (d,)."""

    values: np.ndarray = field(repr=False)
    names: tuple[str, ...]
    X: np.ndarray = field(repr=False)
    X_names: tuple[str, ...]

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.values)

    @property
    def observed(self) -> np.ndarray:
        """(n, P), True where a phenotype was measured."""
        return np.isfinite(self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Phenotypes on one decomposition: its rows (m,), the columns of the phenotypes, and for each the positions among
    the rows where it is missing."""

    rows: np.ndarray
    columns: tuple[int, ...]
    missing: tuple[np.ndarray, ...]


def take(Y: Any, X: Any = None, names: Sequence[str] | None = None, X_names: Sequence[str] | None = None) -> Phenotypes:
    """Y (n,) or (n, P) with NaN for what is missing, X (n, c) covariates; names from columns where there are any.

    A column of ones is put before X unless X holds the constant already. Columns of X that are combinations of others
    are dropped with one warning that names them. Raises DataError naming the column and row of a value that is not
    finite, a phenotype that is constant, and one measured in too few rows.
    """
    own = getattr(Y, "columns", None)
    if names is None and own is not None:
        names = [str(c) for c in own]
    if names is None and getattr(Y, "name", None) is not None:
        names = [str(Y.name)]
    try:
        values = np.array(Y, float)
    except (TypeError, ValueError):
        raise DataError("Y is not numeric. Pass numbers, NaN where a phenotype is missing.") from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"Y has shape {values.shape}; it must be (n,) or (n, P), one column a phenotype.")
    names = tuple(names) if names is not None else tuple(f"y{j + 1}" for j in range(values.shape[1]))
    if len(names) != values.shape[1] or len(set(names)) < len(names):
        raise DataError(f"Y has {values.shape[1]} columns; their names must be as many, all different: {names}.")
    if np.isinf(values).any():
        i, j = np.argwhere(np.isinf(values))[0]
        raise DataError(f"phenotype `{names[j]}` is infinite in row {i}. Use NaN for what is missing.")
    X, X_names = _covariates(X, len(values), X_names)
    for j, name in enumerate(names):
        seen = values[np.isfinite(values[:, j]), j]
        if len(seen) < X.shape[1] + 3:
            raise DataError(
                f"phenotype `{name}` was measured in {len(seen)} rows: too few for {X.shape[1]} fixed effects and two "
                "variances."
            )
        if np.ptp(seen) == 0:
            raise DataError(f"phenotype `{name}` is constant ({seen[0]:g} in all its {len(seen)} rows).")
    return Phenotypes(values, names, X, X_names)


def _covariates(X: Any, n: int, names: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    if X is None:
        return np.ones((n, 1)), ("(Intercept)",)
    own = getattr(X, "columns", None)
    try:
        values = np.array(X, float)
    except (TypeError, ValueError):
        raise DataError("X is not numeric. Code categories as columns of 0 and 1.") from None
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != n:
        raise DataError(f"X has shape {values.shape}; Y has {n} rows, so X must be ({n}, c).")
    if names is None:
        names = [str(c) for c in own] if own is not None else [f"x{j + 1}" for j in range(values.shape[1])]
    if len(names) != values.shape[1]:
        raise DataError(f"X has {values.shape[1]} columns but {len(names)} names.")
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))
        i, j = bad[0]
        raise DataError(
            f"covariate `{names[j]}` is {values[i, j]} in row {i} ({len(np.unique(bad[:, 0]))} rows have such values). "
            "Leave those samples out, or impute the covariate."
        )
    Q = np.linalg.qr(values)[0] if values.shape[1] else values
    if values.shape[1] == 0 or np.abs(1.0 - Q @ Q.sum(axis=0)).max() > 1e-9:
        values, names = np.column_stack([np.ones(n), values]), ["(Intercept)", *names]
    values, kept, _ = full_rank(np.ascontiguousarray(values), list(names), "drop")
    return values, tuple(kept)


def share(observed: np.ndarray, most: float) -> list[Group]:
    """Groups of phenotypes that take one decomposition each; observed (n, P).

    Phenotypes of the same rows always share. Others join the group whose rows need growing least, as long as none of
    its phenotypes then lacks more than `most` of the rows (0: only the same rows share).
    """
    patterns: dict[bytes, list[int]] = {}
    for j in range(observed.shape[1]):
        patterns.setdefault(observed[:, j].tobytes(), []).append(j)
    order = sorted(patterns.values(), key=lambda columns: -int(observed[:, columns[0]].sum()))
    bases: list[np.ndarray] = []
    members: list[list[int]] = []
    for columns in order:
        rows = observed[:, columns[0]]
        best, grown = -1, len(rows) + 1
        for g, base in enumerate(bases):
            union = base | rows
            size = int(union.sum())
            least = min(int(observed[:, j].sum()) for j in [*members[g], columns[0]])
            if size - least <= most * size and size - int(base.sum()) < grown:
                best, grown = g, size - int(base.sum())
        if best < 0:
            bases.append(rows.copy())
            members.append(list(columns))
        else:
            bases[best] |= rows
            members[best] += columns
    out = []
    for base, columns in zip(bases, members, strict=True):
        rows = np.flatnonzero(base)
        columns = sorted(columns)
        out.append(Group(rows, tuple(columns), tuple(np.flatnonzero(~observed[rows, j]) for j in columns)))
    return sorted(out, key=lambda group: group.columns)


def with_missing(X: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """[X, E]: X (n, d) and one column for each missing row."""
    E = np.zeros((len(X), len(missing)))
    E[missing, np.arange(len(missing))] = 1.0
    return np.column_stack([X, E])
