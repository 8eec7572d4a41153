"""Pedigrees: read, sorted, inbreeding coefficients, the relationship matrix A and its inverse.

A_ij = A_{i,j's parents}/2 summed,  A_ii = 1 + F_i        A = T D Tᵀ,  T⁻¹ = I − ½(sire, dam),  D = diag(d)
d_i = 1, ¾ − F_s/4, ½ − (F_s + F_d)/4  with no, one, two known parents
A⁻¹ = (T⁻¹)ᵀ D⁻¹ T⁻¹  (Henderson 1976, with inbreeding Quaas 1976)
F by Meuwissen & Luo (1992, Genet Sel Evol 24:305)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix

from vcbench.errors import DataError

UNKNOWN = {"", "0", "NA", "nan", "None", "<NA>"}
NAMES = {
    "id": ("id", "animal", "calf", "individual", "ind"),
    "sire": ("sire", "father"),
    "dam": ("dam", "mother"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Pedigree:
    """Animals with parents before their children. ids (m,) text; sire, dam (m,) positions, −1 where unknown."""

    ids: tuple[str, ...] = field(repr=False)
    sire: np.ndarray = field(repr=False)
    dam: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, frame: Any, *, id: str | None = None, sire: str | None = None, dam: str | None = None) -> "Pedigree":
        """The pedigree in a frame (or mapping) of columns, in any order of columns and rows.

        id, sire, dam name the columns; unnamed they are looked for as id/animal, sire/father, dam/mother. Unknown
        parents are 0, "", NA or None; parents without a row are added as founders. Raises DataError for a column that
        is not there, an animal without an id or with two rows, and a loop of descent, which is named.
        """
        columns = [_column(frame, key, name) for key, name in (("id", id), ("sire", sire), ("dam", dam))]
        own, father, mother = ([as_label(v) for v in column] for column in columns)
        where: dict[str, int] = {}
        for row, label in enumerate(own):
            if label in UNKNOWN:
                raise DataError(f"pedigree: the animal in row {row} has no id.")
            if label in where:
                raise DataError(f"pedigree: animal `{label}` has two rows ({where[label]} and {row}). Keep one.")
            where[label] = row
        for label in (*father, *mother):
            if label not in UNKNOWN and label not in where:
                where[label] = len(where)
        m, n = len(where), len(own)
        parents = np.full((m, 2), -1, np.int64)
        for k, labels in enumerate((father, mother)):
            parents[:n, k] = [-1 if label in UNKNOWN else where[label] for label in labels]
        ids = list(where)
        order = _generations(parents, ids)
        back = np.empty(m, np.int64)
        back[order] = np.arange(m)
        sorted_parents = np.where(parents[order] >= 0, back[parents[order]], -1)
        return cls(
            tuple(ids[j] for j in order),
            np.ascontiguousarray(sorted_parents[:, 0]),
            np.ascontiguousarray(sorted_parents[:, 1]),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def inbreeding(self) -> np.ndarray:
        """F (m,)."""
        from vcbench.model.pedigree_core import inbreeding

        return inbreeding(self.sire, self.dam)[0]

    def precision(self) -> csc_matrix:
        """A⁻¹ (m, m): each animal adds w wᵀ/d_i, w = 1 at itself and −½ at each known parent."""
        from vcbench.model.pedigree_core import inbreeding, precision_entries

        _, d = inbreeding(self.sire, self.dam)
        values, rows, columns = precision_entries(self.sire, self.dam, d)
        out = coo_matrix((values, (rows, columns)), shape=(len(self), len(self))).tocsc()
        out.sort_indices()
        return out

    def relationship(self) -> np.ndarray:
        """A (m, m), dense, by the tabular method: row by row from the parents'."""
        A = np.zeros((len(self), len(self)))
        for i, (s, d) in enumerate(zip(self.sire, self.dam, strict=True)):
            known = [j for j in (s, d) if j >= 0]
            if known:
                A[i, :i] = A[:i, i] = 0.5 * sum(A[j, :i] for j in known)
            A[i, i] = 1.0 + (0.5 * A[s, d] if len(known) == 2 else 0.0)
        return A


def as_label(value: object) -> str:
    """The text by which levels and animals are matched: 12, 12.0 and "12" are the same; missing is ""."""
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return ""
        return str(int(value)) if float(value).is_integer() else str(value)
    return "" if value is None else str(value).strip()


def _column(frame: Any, key: str, name: str | None) -> Sequence[object]:
    names = [str(c) for c in (frame.columns if hasattr(frame, "columns") else frame)]
    if name is not None:
        found = [c for c in names if c == name]
    else:
        found = [c for word in NAMES[key] for c in names if c.lower() == word]
    if not found:
        wanted = f"column `{name}`" if name is not None else f"column {' or '.join(f'`{w}`' for w in NAMES[key])}"
        raise DataError(f"pedigree: no {wanted} for the {key}; it has {', '.join(names)}. Pass `{key}=` its name.")
    column = frame[found[0]]
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _generations(parents: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """An order with parents first, the given one where it is so already. DataError names a loop."""
    from vcbench.model.pedigree_core import parents_first

    if (parents < np.arange(len(parents))[:, None]).all():
        return np.arange(len(parents))
    order, n_sorted = parents_first(parents)
    if n_sorted == len(parents):
        return order
    left = np.ones(len(parents), bool)
    left[order[:n_sorted]] = False
    path = [int(np.flatnonzero(left)[0])]
    while True:  # among what is left every animal has a parent that is left too
        step = next(int(j) for j in parents[path[-1]] if j >= 0 and left[j])
        if step in path:
            loop = [*path[path.index(step) :], step]
            raise DataError(
                "pedigree: a loop of descent, no animal can be its own ancestor: "
                + " is a child of ".join(f"`{ids[j]}`" for j in loop)
                + "."
            )
        path.append(step)
