"""Pedigrees: read, sorted, inbreeding coefficients, the relationship matrix A and its inverse.

A_ij = A_{i,j's parents}/2 summed,  A_ii = 1 + F_i        A = T D Tᵀ,  T⁻¹ = I − ½(sire, dam),  D = diag(d)
d_i = 1, ¾ − F_s/4, ½ − (F_s + F_d)/4  with no, one, two known parents
A⁻¹ = (T⁻¹)ᵀ D⁻¹ T⁻¹  (Henderson 1976, with inbreeding Quaas 1976)
F by Meuwissen & Luo (1992, Genet Sel Evol 24:305)

Genetic groups (Westell, Quaas & Van Vleck 1988, J Dairy Sci 71:1310): unknown parents of a group g have mean g_k, so
that animals have mean Qg, Q_i = ½(Q_sire + Q_dam), and a group in the place of a parent counts 1. With g fixed, Q's
columns belong to X; with g ~ N(0, γσ_a²I) the total u = Qg + a and g have the precision

    [A⁻¹, −A⁻¹Q; −QᵀA⁻¹, QᵀA⁻¹Q + I/γ] / σ_a²

whose entries follow Henderson's rules with groups in the place of parents (Quaas & Pollak 1981).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix, diags_array

from vcbench.errors import DataError
from vcbench.model.pedigree_checks import UNKNOWN, check_parents, check_roles, check_sexes, generations, rows_of

NAMES = {
    "id": ("id", "animal", "calf", "individual", "ind"),
    "sire": ("sire", "father"),
    "dam": ("dam", "mother"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Pedigree:
    """Animals with parents before their children. ids (m,) text; sire, dam (m,) positions, −1 where unknown, −2 − k for
    an unknown parent of genetic group k."""

    ids: tuple[str, ...] = field(repr=False)
    sire: np.ndarray = field(repr=False)
    dam: np.ndarray = field(repr=False)
    groups: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        frame: Any,
        *,
        id: str | None = None,
        sire: str | None = None,
        dam: str | None = None,
        sex: str | None = None,
        groups: Sequence[object] = (),
        hermaphrodite: bool = True,
    ) -> "Pedigree":
        """The pedigree in a frame (or mapping) of columns, in any order of columns and rows.

        id, sire, dam name the columns; unnamed they are looked for as id/animal, sire/father, dam/mother. Unknown
        parents are 0, "", NA or None; parents without a row are added as founders. groups: labels that stand in the
        parents' columns for an unknown parent of a genetic group. sex: a column of two values (missing where unknown),
        with which the parents' roles must agree. hermaphrodite=False: no animal may be both a sire and a dam.

        Raises DataError for a column that is not there, an animal without an id or with two rows, one that is its own
        parent, a loop of descent, a group that is an animal or nobody's parent, and sexes that contradict; each named.
        """
        columns = [_column(frame, key, name) for key, name in (("id", id), ("sire", sire), ("dam", dam))]
        own, father, mother = ([as_label(v) for v in column] for column in columns)
        where = rows_of(own)
        group = {as_label(g): -2 - k for k, g in enumerate(groups)}
        check_parents(own, father, mother, where, group)
        for label in (*father, *mother):
            if label not in UNKNOWN and label not in where and label not in group:
                where[label] = len(where)
        m, n = len(where), len(own)
        code = {**dict.fromkeys(UNKNOWN, -1), **where, **group}
        parents = np.full((m, 2), -1, np.int64)
        for k, labels in enumerate((father, mother)):
            parents[:n, k] = [code[label] for label in labels]
        ids = list(where)
        if not hermaphrodite:
            check_roles(parents, ids)
        if sex is not None:
            check_sexes(parents, ids, [as_label(v) for v in _column(frame, "sex", sex)], sex)
        order = generations(parents, ids)
        back = np.empty(m, np.int64)
        back[order] = np.arange(m)
        sorted_parents = np.where(parents[order] >= 0, back[parents[order]], parents[order])
        return cls(
            tuple(ids[j] for j in order),
            np.ascontiguousarray(sorted_parents[:, 0]),
            np.ascontiguousarray(sorted_parents[:, 1]),
            tuple(group),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, labels: Sequence[object], name: str = "animal") -> np.ndarray:
        """Where animals are among `ids`; DataError naming one that the pedigree lacks."""
        return match_labels(self.ids, [as_label(v) for v in labels], name)

    def inbreeding(self, group_variance: float | None = None) -> np.ndarray:
        """F (m,), the excess of A_ii over 1; with random genetic groups of γ, that of animals' totals, then groups'."""
        F = self._inbreeding()[0]
        if group_variance is None:
            return F
        extra = np.full(self._check_groups(group_variance), group_variance - 1.0)
        return np.append(F + group_variance * (self.contributions() ** 2).sum(axis=1), extra)

    def mendelian(self) -> np.ndarray:
        """d (m,): Var of each animal's Mendelian sampling, in units of σ_a²."""
        return self._inbreeding()[1]

    def precision(self, group_variance: float | None = None) -> csc_matrix:
        """A⁻¹ (m, m): each animal adds w wᵀ/d_i, w = 1 at itself and −½ at each known parent.

        group_variance γ: the precision of (u, g), animals then groups (m + g, m + g), groups random.
        """
        from vcbench.model.pedigree_core import precision_entries

        m, extra = len(self), 0
        sire, dam = self.sire, self.dam
        if group_variance is not None:
            extra = self._check_groups(group_variance)
            sire, dam = (np.where(p <= -2, m - 2 - p, p) for p in (sire, dam))
        values, rows, columns = precision_entries(sire, dam, self.mendelian())
        out = coo_matrix((values, (rows, columns)), shape=(m + extra, m + extra)).tocsc()
        if extra:
            out = csc_matrix(out + diags_array(np.append(np.zeros(m), np.full(extra, 1.0 / group_variance))))  # type: ignore[operator]
        out.sort_indices()
        return out

    def relationship(self, group_variance: float | None = None) -> np.ndarray:
        """A (m, m), dense, by the tabular method: row by row from the parents'.

        group_variance γ: Cov(u, g)/σ_a² of animals then groups, [A + γQQᵀ, γQ; γQᵀ, γI].
        """
        A = np.zeros((len(self), len(self)))
        for i, (s, d) in enumerate(zip(self.sire, self.dam, strict=True)):
            known = [j for j in (s, d) if j >= 0]
            if known:
                A[i, :i] = A[:i, i] = 0.5 * sum(A[j, :i] for j in known)
            A[i, i] = 1.0 + (0.5 * A[s, d] if len(known) == 2 else 0.0)
        if group_variance is None:
            return A
        Q = np.vstack([self.contributions(), np.eye(self._check_groups(group_variance))])
        out = group_variance * Q @ Q.T
        out[: len(A), : len(A)] += A
        return out

    def contributions(self) -> np.ndarray:
        """Q (m, groups): the share of each genetic group in each animal. Rows sum to 1 where every line ends in one."""
        from vcbench.model.pedigree_core import group_contributions

        return group_contributions(self.sire, self.dam, len(self.groups))

    def group_columns(self, animals: Sequence[object]) -> Any:
        """Q of these animals as a frame with a column for each group: fixed groups are covariates of the formula.

        Their shares sum to 1 where all lines end in groups: leave out one group, or the intercept.
        """
        import pandas as pd

        self._check_groups(1.0)
        Q = self.contributions()[self.positions(animals)]
        return pd.DataFrame(Q, columns=list(self.groups), index=getattr(animals, "index", None))

    def with_ancestors(self, animals: np.ndarray) -> tuple["Pedigree", np.ndarray]:
        """(the pedigree of these animals, positions (k,), and their ancestors, positions there); A is the same."""
        wanted = np.zeros(len(self), bool)
        wanted[animals] = True
        for i in range(len(self) - 1, -1, -1):
            if wanted[i]:
                for p in (self.sire[i], self.dam[i]):
                    if p >= 0:
                        wanted[p] = True
        kept = np.flatnonzero(wanted)
        move = np.full(len(self), -1)
        move[kept] = np.arange(len(kept))
        sire, dam = (np.where(p[kept] >= 0, move[p[kept]], p[kept]) for p in (self.sire, self.dam))
        return Pedigree(tuple(self.ids[i] for i in kept), sire, dam, self.groups), move[animals]

    def with_phantom_dams(self, animals: np.ndarray) -> tuple["Pedigree", np.ndarray, np.ndarray]:
        """A dam for each animal of `animals` (k,), positions: (pedigree, new positions (m,), positions of dams (k,)).

        A dam is a founder `dam of <id>`, and the animal's mother where the pedigree knows none. A stays what it is
        between all others.
        """
        own, of = np.unique(animals, return_inverse=True)
        k, m = len(own), len(self)
        move = lambda p: np.where(p >= 0, p + k, p)  # noqa: E731 - founders come first
        sire = np.append(np.where(self.dam[own] <= -2, self.dam[own], -1), move(self.sire))
        dam = np.append(np.where(self.dam[own] <= -2, self.dam[own], -1), move(self.dam))
        lacking = self.dam[own] < 0
        dam[k + own[lacking]] = np.flatnonzero(lacking)
        ids = (*(f"dam of {self.ids[i]}" for i in own), *self.ids)
        return Pedigree(ids, sire, dam, self.groups), np.arange(m) + k, of.ravel()

    def _inbreeding(self) -> tuple[np.ndarray, np.ndarray]:
        from vcbench.model.pedigree_core import inbreeding

        return inbreeding(self.sire, self.dam)

    def _check_groups(self, group_variance: float) -> int:
        if not self.groups:
            raise DataError("this pedigree has no genetic groups. Name their labels: Pedigree.of(frame, groups=[…]).")
        if not 0 < group_variance < math.inf:
            raise DataError(f"`group_variance` is {group_variance!r}; it must be a positive number, a share of σ_a².")
        return len(self.groups)


def match_labels(labels: Sequence[str], wanted: Sequence[str], name: str) -> np.ndarray:
    """Positions of `wanted` among `labels`. DataError naming the first that is not there, and how many are not."""
    where = {label: j for j, label in enumerate(labels)}
    lost = [label for label in wanted if label not in where]
    if lost:
        raise DataError(
            f"level `{lost[0]}` of `{name}` is not among the {len(labels)} labels of its pedigree or matrix "
            f"({len(lost)} such). Add it there, or leave its rows out."
        )
    return np.array([where[label] for label in wanted], np.int64)


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
