"""A random component: what multiplies its effects, and what covariance they have."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, issparse

from vcbench.errors import DataError, ModelError
from vcbench.model.covariance import Block, Covariance, pairs, parameter_names, scalar, un
from vcbench.model.jets import variables
from vcbench.model.pedigree import as_label
from vcbench.model.relationship import Known, Relationship


@dataclass(frozen=True, slots=True, eq=False)
class Component:
    """One random term Z_k u_k of y = Xβ + Σ_k Z_k u_k + e.

    | given | meaning |
    | --- | --- |
    | `Z` (n, r) and `group` (n,) | rows A_i of each level; b_i ~ N(0, Ω) independently per level, Ω (r, r) by `cov`
    (default `un()`) |
    | `Z` (n, q) | u ~ N(0, σ² I_q), V_k = σ² Z Zᵀ; with `cov=diag()` or `un()` Ω is (q, q) over the columns |
    | `K` (n, n) | a known relationship matrix: V_k = σ² K |
    | `Z` (n, m) and `K` (m, m) | V_k = σ² Z K Zᵀ, Z an incidence matrix |
    | `precision` (m, m) in the place of `K` | the same with K = precision⁻¹, a scipy.sparse matrix that kernel `sparse`
    never inverts; Z may be sparse too |
    | `Z` (n, r), `group` and `K` or `precision` with `labels` | levels that are related: u ~ N(0, Ω ⊗ K), the group's
    labels found among `labels`; `cov=vc.covariance.pedigree(P)` or `known(K)` says the same |
    | `Z` (n, r·m), r incidence matrices side by side, and `K` or `precision` (m, m) | effects of related levels that
    meet a row at levels of their own, as an animal's direct effect and its dam's maternal one: u ~ N(0, Ω ⊗ K) |

    `q` overrides the EM divisor (MATH: columns of Z, levels of a group, rank of K). `columns` names the effects.
    Raises ModelError or DataError naming the component for shapes that disagree, values that are not finite, a level or
    column without observations, and a K that is not symmetric positive semi-definite.
    """

    Z: Any = None
    name: str = ""
    cov: Covariance | Known | None = None
    group: object = None
    K: np.ndarray | None = None
    columns: Sequence[str] | None = None
    q: int | None = None
    precision: Any = None
    labels: Sequence[object] | None = None
    codes: np.ndarray | None = field(init=False, default=None)
    levels: tuple[str, ...] = field(init=False, default=())
    effects: tuple[str, ...] = field(init=False, default=())
    partition: tuple[Block, ...] = field(init=False, default=())
    relation: Relationship | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731 - frozen: set once, here
        if not self.name:
            raise ModelError("a component has no name. Pass `name=`.")
        self._take_relation(put)
        if self.Z is None and self.relation is None:
            raise ModelError(f"component `{self.name}` has neither Z nor K. Give one of them.")
        if self.Z is not None:
            self._take_Z(put)
        if self.group is not None:
            self._take_groups(put)
        elif self.relation is not None:
            self._take_incidence(put)
        else:
            self._take_columns(put)
        if self.q is not None and self.q < 1:
            raise ModelError(f"`q` of component `{self.name}` is {self.q}; it must be at least 1.")

    def _take_relation(self, put) -> None:
        given = [what for what in ("K", "precision") if getattr(self, what) is not None]
        if isinstance(self.cov, Known):
            given.append(f"cov={self.cov.kind}(…)")
        if len(given) > 1:
            raise ModelError(f"component `{self.name}` has both {given[0]} and {given[1]}. Give one of them.")
        if self.K is not None:
            put("relation", Relationship.of_matrix(self.K, self.name, self.labels))
            put("K", self.relation.K)  # type: ignore[union-attr]
        elif self.precision is not None:
            put("relation", Relationship.of_precision(self.precision, self.name, self.labels))
        elif isinstance(self.cov, Known):
            put("relation", self.cov.relationship(self.name))
            put("cov", self.cov.within)

    def _take_Z(self, put) -> None:
        if issparse(self.Z) and self.relation is not None and self.group is None:
            Z = csr_matrix(self.Z, dtype=float)
            finite = np.isfinite(Z.data).all()
        else:
            Z = np.asarray(self.Z.toarray() if issparse(self.Z) else self.Z, float)
            Z = np.ascontiguousarray(Z[:, None] if Z.ndim == 1 else Z)
            finite = np.isfinite(Z).all()
        if Z.ndim != 2 or 0 in Z.shape:
            raise ModelError(f"`Z` of component `{self.name}` has shape {Z.shape}; it must be (n, q).")
        if not finite:
            bad = np.argwhere(~np.isfinite(Z.toarray() if issparse(Z) else Z))[0]
            raise DataError(f"`Z` of component `{self.name}` is {Z[tuple(bad)]} in row {bad[0]}, column {bad[1]}.")
        put("Z", Z)

    def _take_groups(self, put) -> None:
        if self.Z is None:
            raise ModelError(f"component `{self.name}`: `group` goes with `Z` (n, r).")
        codes, levels = factorize(self.group, self.name)
        if self.relation is not None:
            codes, levels = self.relation.positions([as_label(v) for v in levels])[codes], self.relation.labels
        if len(codes) != len(self.Z):
            raise ModelError(
                f"component `{self.name}`: `group` has {len(codes)} values but `Z` has {len(self.Z)} rows."
            )
        r = self.Z.shape[1]
        absent = np.flatnonzero(~self.Z.any(axis=0))
        if len(absent):
            effect = self._names(r, [f"z{a + 1}" for a in range(r)])[absent[0]]
            raise DataError(
                f"effect `{effect}` of component `{self.name}` is zero in every row: these data say nothing of its "
                "variance. Leave it out."
            )
        put("codes", codes)
        put("levels", levels)
        put("effects", self._names(r, ["(Intercept)"] if r == 1 else [f"z{a + 1}" for a in range(r)]))
        put("cov", self.cov or (scalar() if r == 1 else un()))
        put("partition", self.cov.sized(r))  # type: ignore[union-attr]

    def _take_columns(self, put) -> None:
        assert self.Z is not None
        empty = np.flatnonzero(~self.Z.any(axis=0))
        if len(empty):
            raise DataError(
                f"column {empty[0]} of `Z` of component `{self.name}` is all zero: a level without observations "
                f"({len(empty)} such). Leave it out."
            )
        put("cov", self.cov or scalar())
        q = self.Z.shape[1]
        if self.is_plain:
            put("effects", (self.name,))
            put("partition", ((0,),))
        else:
            put("effects", self._names(q, [f"z{a + 1}" for a in range(q)]))
            put("partition", self.cov.sized(q))  # type: ignore[union-attr]

    def _take_incidence(self, put) -> None:
        assert self.relation is not None
        r, rest = (1, 0) if self.Z is None else divmod(self.Z.shape[1], self.relation.m)
        if rest or not r:
            size = (self.relation.m, self.relation.m)
            what = "K" if self.K is not None else "the relationship matrix"
            raise ModelError(
                f"component `{self.name}`: Z has {self.Z.shape[1]} columns but {what} is {size}."  # type: ignore[union-attr]
            )
        put("levels", self.relation.labels)
        if r > 1:
            self._take_incidences(put, r)
            return
        if self.cov is not None and self.cov.kind != "scalar":
            raise ModelError(
                f"component `{self.name}`: a known K takes one variance (`scalar()`), not `{self.cov.kind}`. "
                "Pass `group=` and its `labels=` for several effects a level."
            )
        put("cov", scalar())
        put("effects", (self.name,))
        put("partition", ((0,),))

    def _take_incidences(self, put, r: int) -> None:
        put("effects", self._names(r, [f"z{a + 1}" for a in range(r)]))
        for a, effect in enumerate(self.effects):
            if not abs(self._part(a)).sum():
                raise DataError(
                    f"effect `{effect}` of component `{self.name}` is zero in every row: these data say nothing of its "
                    "variance. Leave it out."
                )
        put("cov", self.cov or un())
        put("partition", self.cov.sized(r))  # type: ignore[union-attr]

    def _part(self, a: int) -> Any:
        """Z^(a) (n, m) of several incidence matrices side by side, or Z itself."""
        assert self.relation is not None
        m = self.relation.m
        return self.Z if self.Z.shape[1] == m else self.Z[:, a * m : (a + 1) * m]

    def _names(self, r: int, default: list[str]) -> tuple[str, ...]:
        if self.columns is None:
            return tuple(default)
        if len(self.columns) != r:
            raise ModelError(f"component `{self.name}` has {r} effects but {len(self.columns)} names in `columns`.")
        return tuple(str(c) for c in self.columns)

    @property
    def is_grouped(self) -> bool:
        """True for rows A_i of levels of a grouping factor, independent between levels."""
        return self.codes is not None and self.relation is None

    @property
    def is_plain(self) -> bool:
        """True where Ω is one variance that multiplies Z Zᵀ or K."""
        if self.relation is not None:
            return (self.codes is None and self.n_effects == 1) or self.effects == ("(Intercept)",)
        return not self.is_grouped and (self.cov is None or self.cov.kind == "scalar")

    @property
    def n_obs(self) -> int:
        """Rows of the data that this component covers."""
        return self.Z.shape[0] if self.Z is not None else self.relation.m  # type: ignore[union-attr]

    @property
    def n_effects(self) -> int:
        """r: the size of Ω."""
        return len(self.effects)

    @property
    def n_levels(self) -> int:
        """q_k, the EM divisor: levels of the group, columns of Z, rank of K (Z K Zᵀ: rank of K), or `q`."""
        if self.q is not None:
            return self.q
        if self.is_grouped:
            return len(self.levels)
        if self.relation is not None:
            return self.relation.rank
        return self.Z.shape[1] if self.is_plain else 1

    @property
    def n_columns(self) -> int:
        """Columns of all `factors` together."""
        if self.is_grouped:
            return len(self.levels) * self.n_effects
        if self.relation is not None:
            m = self.relation.m if self.relation.is_definite else int((self.relation.eigen[0] > 0).sum())
            return m * self.n_effects
        return self.Z.shape[1]

    @property
    def K_values(self) -> np.ndarray | None:
        """Eigenvalues of K ascending, what is 0 up to rounding (or slightly below) at 0; None without K."""
        return None if self.relation is None else self.relation.eigen[0]

    @property
    def K_vectors(self) -> np.ndarray | None:
        """Eigenvectors of K, None without K."""
        return None if self.relation is None else np.asarray(self.relation.eigen[1])

    @property
    def n_clipped(self) -> int:
        """Eigenvalues of K slightly below 0 that count as 0."""
        return 0 if self.relation is None else self.relation.n_clipped

    @property
    def index(self) -> list[tuple[int, int]]:
        """(row, column) in Ω of each parameter."""
        return pairs(self.partition)

    @property
    def theta_names(self) -> list[str]:
        """Names of the parameters of Ω, natural units."""
        family = self.cov.family(self.effects)  # type: ignore[union-attr]
        if family is not None:
            own = [p.name for p in family.natural(variables(family.start()), family.n_phi)]
            return [f"{self.name}:{p}" for p in (own if family.carries_variance else ["var", *own])]
        if self.cov.value is not None:  # type: ignore[union-attr]
            return []
        return parameter_names(self.name, self.effects, self.partition, self.is_plain)

    def incidence(self, a: int = 0) -> csr_matrix:
        """Z^(a) (n, N), sparse, before any factor of K: V_k = Σ_ab Ω_ab Z^(a) K Z^(b)ᵀ. Rows keep their structure for
        all effects a of a group (a 0 is stored)."""
        if self.codes is not None:
            n, m = len(self.codes), len(self.levels)
            return csr_matrix((self.Z[:, a].copy(), self.codes, np.arange(n + 1)), shape=(n, m))
        if self.Z is None:
            return csr_matrix((np.ones(self.n_obs), np.arange(self.n_obs), np.arange(self.n_obs + 1)))
        if self.relation is not None:
            return csr_matrix(self._part(a))
        if self.is_plain:
            return csr_matrix(self.Z)
        return csr_matrix((self.Z[:, a].copy(), np.zeros(len(self.Z), int), np.arange(len(self.Z) + 1)))

    def factors(self) -> list[np.ndarray]:
        """Z^(a) (n, N) for each effect a: V_k = Σ_ab Ω_ab Z^(a) Z^(b)ᵀ. Dense; what the oracle computes with."""
        if self.relation is not None:
            L = self.relation.root
            if self.codes is not None:
                return [L[self.codes] * self.Z[:, [a]] for a in range(self.n_effects)]
            return [L] if self.Z is None else [self._part(a) @ L for a in range(self.n_effects)]
        if self.is_grouped:
            assert self.codes is not None
            incidence = np.zeros((len(self.codes), len(self.levels)))
            incidence[np.arange(len(self.codes)), self.codes] = 1.0
            return [incidence * self.Z[:, [a]] for a in range(self.n_effects)]
        return [self.Z] if self.is_plain else [self.Z[:, [a]] for a in range(self.n_effects)]

    def effects_of(self, w: np.ndarray) -> np.ndarray:
        """û from the effects w (N, r) of `factors`: (levels, r), or (q,) for Z and (m,) for K."""
        u = w if self.relation is None else self.relation.root @ w
        return u[:, 0] if self.is_plain else u


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Labels that are factorised already: codes (n,) int64 into `levels`, each of which occurs."""

    codes: np.ndarray
    levels: tuple[str, ...]


def factorize(labels, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (n,) and level labels of a grouping factor; a Categorical keeps its order, other labels are sorted.

    Raises DataError for a missing label and for a level without observations.
    """
    if isinstance(labels, Coded):
        return labels.codes, labels.levels
    import pandas as pd

    if isinstance(getattr(labels, "dtype", None), pd.CategoricalDtype):
        cat = labels.array if isinstance(labels, pd.Series) else labels
        codes, values = np.asarray(cat.codes, np.int64), [str(v) for v in cat.categories]
        empty = np.flatnonzero(np.bincount(codes + 1, minlength=len(values) + 1)[1:] == 0)
        if len(empty):
            raise DataError(
                f"grouping factor `{name}`: level `{values[empty[0]]}` is an empty group ({len(empty)} such). "
                "Drop unused levels (`cat.remove_unused_categories()`)."
            )
    else:
        codes, uniques = pd.factorize(np.asarray(labels), sort=True)
        codes, values = np.asarray(codes, np.int64), [str(v) for v in uniques]
    if (codes < 0).any():
        raise DataError(f"grouping factor `{name}` is missing in row {int(np.flatnonzero(codes < 0)[0])}.")
    return codes, tuple(values)
