"""Known covariance between the levels of a random term: u ~ N(0, Ω ⊗ A), A a relationship matrix or the inverse of a
sparse precision matrix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf
from scipy.sparse import csc_matrix

from vcbench.errors import DataError, ModelError
from vcbench.model.covariance import Covariance
from vcbench.model.eigenvectors import Eigenvectors, eigen_of
from vcbench.model.pedigree import Pedigree, as_label, match_labels

ASYMMETRY = 1e-6  # of max|K|: more than this is no relationship matrix
NEGATIVE = 1e-4  # of λ_max: an eigenvalue below −NEGATIVE·λ_max is an error, a smaller negative one is clipped
ROUNDING = 1e-12  # of λ_max: an eigenvalue below is 0 up to rounding, and a negative one above −ROUNDING is not counted
RANK = 1e-6  # of λ_max: eigenvalues above count towards the rank (the EM divisor q)


@dataclass(frozen=True, slots=True, eq=False)
class Relationship:
    """A (m, m) by its matrix `K` or by its sparse inverse `precision`; `labels` of its rows, or none.

    Nothing is factorised before it is asked for: a kernel on the precision matrix never sees A. A Cholesky factor
    serves where A is definite by a margin; else its eigenvalues decide what is 0, and what is too negative.
    """

    name: str
    K: np.ndarray | None = None
    precision: csc_matrix | None = None
    labels: tuple[str, ...] = ()
    inverse: Callable[[], np.ndarray] | None = field(default=None, repr=False)  # A, where it is known directly
    inbreeding: Callable[[], np.ndarray] | None = field(default=None, repr=False)  # F, where A_ii = 1 + F
    cache: dict[str, Any] = field(init=False, default_factory=dict, repr=False)

    @classmethod
    def of_matrix(cls, K: Any, name: str, labels: Sequence[object] | None = None) -> "Relationship":
        """A = K, checked: square, finite, symmetric, positive semi-definite; labels from a frame's index."""
        if labels is None and hasattr(K, "index") and hasattr(K, "columns"):
            rows, columns = [as_label(v) for v in K.index], [as_label(v) for v in K.columns]
            if sorted(columns) != sorted(rows):
                raise ModelError(f"`K` of component `{name}`: its columns carry other labels than its rows.")
            where = {label: j for j, label in enumerate(columns)}
            labels, K = rows, np.asarray(K, float)[:, np.array([where[label] for label in rows])]
        K = np.asarray(K, float)
        if K.ndim != 2 or K.shape[0] != K.shape[1]:
            raise ModelError(f"`K` of component `{name}` has shape {K.shape}; it must be square.")
        if not np.isfinite(K).all():
            bad = np.argwhere(~np.isfinite(K))[0]
            raise DataError(f"`K` of component `{name}` is {K[tuple(bad)]} at [{bad[0]}, {bad[1]}].")
        asymmetry, size = float(np.abs(K - K.T).max()), float(np.abs(K).max())
        if asymmetry > ASYMMETRY * size:
            i, j = np.unravel_index(np.abs(K - K.T).argmax(), K.shape)
            raise ModelError(
                f"`K` of component `{name}` is not symmetric: K[{i}, {j}] = {K[i, j]:g} but K[{j}, {i}] = "
                f"{K[j, i]:g}. Pass (K + K.T) / 2 if that is what you mean."
            )
        out = cls(name, K=(K + K.T) / 2, labels=_labels(labels, len(K), name))
        if not out.is_definite:
            _ = out.eigen
        return out

    @classmethod
    def of_precision(cls, P: Any, name: str, labels: Sequence[object] | None = None) -> "Relationship":
        """A = P⁻¹, P (m, m) sparse or dense, checked: square, finite, symmetric, a positive diagonal."""
        P = csc_matrix(P, dtype=float)
        if P.shape[0] != P.shape[1]:
            raise ModelError(f"`precision` of component `{name}` has shape {P.shape}; it must be square.")
        if not np.isfinite(P.data).all():
            raise DataError(f"`precision` of component `{name}` has values that are not finite.")
        if abs(P - P.T).max() > ASYMMETRY * abs(P).max():
            raise ModelError(f"`precision` of component `{name}` is not symmetric. Pass (P + P.T) / 2.")
        if not (P.diagonal() > 0).all():
            j = int(np.flatnonzero(~(P.diagonal() > 0))[0])
            raise ModelError(
                f"`precision` of component `{name}` is not positive definite: its diagonal is {P[j, j]:g} in row {j}."
            )
        P = csc_matrix((P + P.T) / 2)
        P.sort_indices()
        return cls(name, precision=P, labels=_labels(labels, P.shape[0], name))

    @classmethod
    def of_pedigree(cls, pedigree: Pedigree, name: str, group_variance: float | None = None) -> "Relationship":
        """A of a pedigree, by Henderson's rules for A⁻¹; random genetic groups are levels after the animals."""
        labels = pedigree.ids if group_variance is None else (*pedigree.ids, *pedigree.groups)
        own = (partial(how, group_variance) for how in (pedigree.relationship, pedigree.inbreeding))
        return cls(name, None, pedigree.precision(group_variance), labels, *own)

    @property
    def m(self) -> int:
        """Levels."""
        return len(self.K) if self.K is not None else self.precision.shape[0]  # type: ignore[union-attr]

    @property
    def matrix(self) -> np.ndarray:
        """A (m, m), dense, with no eigenvalue below 0."""
        return self._once("matrix", self._matrix)

    @property
    def is_definite(self) -> bool:
        """Whether every eigenvalue of A is certain to count towards its rank: one Cholesky, of A less that margin."""
        return self.precision is not None or self._once("definite", self._is_definite)

    @property
    def eigen(self) -> tuple[np.ndarray, np.ndarray | Eigenvectors]:
        """(eigenvalues ascending with rounding and negatives at 0, eigenvectors). ModelError where one is too low."""
        return self._once("eigen", self._eigen)

    @property
    def root(self) -> np.ndarray:
        """L (m, rank) with A = L Lᵀ."""
        return self._once("root", self._root)

    @property
    def rank(self) -> int:
        """Rank of A, the EM divisor; a precision matrix has full rank."""
        if self.is_definite:
            return self.m
        values = self.eigen[0]
        return int((values > RANK * values[-1]).sum())

    @property
    def n_clipped(self) -> int:
        """Eigenvalues of K slightly below 0 that were set to 0."""
        if self.is_definite:
            return 0
        _ = self.eigen
        return self.cache["n_clipped"]

    def positions(self, levels: Sequence[str]) -> np.ndarray:
        """Row of A for each level; DataError naming a level that A does not have."""
        if not self.labels:
            raise ModelError(
                f"component `{self.name}`: its matrix has no labels, so that levels cannot be matched. Pass `labels=`, "
                "or a frame whose index holds them."
            )
        return match_labels(self.labels, levels, self.name)

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def _matrix(self) -> np.ndarray:
        if self.inverse is not None:
            return self.inverse()
        if self.K is None:
            return np.linalg.inv(self.precision.toarray())  # type: ignore[union-attr]
        if self.n_clipped:
            values, vectors = self.eigen
            return (vectors * values) @ vectors.T
        return self.K

    def _is_definite(self) -> bool:
        assert self.K is not None
        shifted = self.K.copy()
        shifted.flat[:: self.m + 1] -= RANK * float(np.abs(self.K).sum(axis=0).max())  # ≥ RANK·λ_max
        return dpotrf(shifted.T, lower=1, overwrite_a=1)[1] == 0

    def _eigen(self) -> tuple[np.ndarray, np.ndarray | Eigenvectors]:
        values, vectors = eigen_of(self.K if self.K is not None else self.matrix)
        if values[-1] <= 0 or values[0] < -NEGATIVE * values[-1]:
            raise ModelError(
                f"`K` of component `{self.name}` is not positive semi-definite: its eigenvalues run from "
                f"{values[0]:.6g} to {values[-1]:.6g}. A relationship matrix has none below 0; check how it was made."
            )
        self.cache["n_clipped"] = int((values < -ROUNDING * values[-1]).sum())
        return np.where(values > ROUNDING * values[-1], values, 0.0), vectors

    def _root(self) -> np.ndarray:
        if self.is_definite:
            factor, info = dpotrf(self.matrix, lower=1, clean=1)
            if info:
                raise ModelError(f"`precision` of component `{self.name}` is not positive definite.")
            return factor
        values, vectors = self.eigen
        keep = values > 0
        return vectors[:, keep] * np.sqrt(values[keep])


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What `cov=` takes for a term whose levels are related: how to make A for a component, and Ω over its effects."""

    kind: str
    relationship: Callable[[str], Relationship]
    within: Covariance | None = None
    pedigree: Pedigree | None = None
    maternal: str | None = None  # the column of dams, where the term has maternal effects too


def pedigree(
    P: Any,
    cov: Covariance | None = None,
    *,
    id: str | None = None,
    sire: str | None = None,
    dam: str | None = None,
    maternal: str | None = None,
    group_variance: float | None = None,
) -> Known:
    """u ~ N(0, Ω ⊗ A), A the numerator relationship matrix of a pedigree (a `Pedigree`, or a frame: `Pedigree.of`).

    `cov={"animal": vc.covariance.pedigree(frame)}` makes `(1 | animal)` the animal model. Levels are matched to the
    pedigree by label (12 and "12" are the same animal); animals without records are predicted too. cov: the structure
    of Ω where the term has several effects.

        y ~ sex + (1 | animal) + (1 | animal)        a second term of animals is their permanent environment
        maternal="mother"                            (1 | animal) has a direct and a maternal effect, the latter of the
                                                     dam in that column; Ω (2, 2), unstructured unless cov says else
        group_variance=0.5                           random genetic groups of variance 0.5 σ_a²: u is the total, groups
                                                     are levels too (fixed ones: `Pedigree.group_columns`)

    Raises DataError for a pedigree that cannot be, or lacks a level.
    """
    known = P if isinstance(P, Pedigree) else Pedigree.of(P, id=id, sire=sire, dam=dam)
    if group_variance is not None and maternal is not None:
        raise ModelError("pedigree(): random genetic groups and maternal effects together are not defined here.")
    relation = partial(_of_pedigree, known, group_variance)
    return Known("pedigree", relation, cov, known, maternal)


def _of_pedigree(known: Pedigree, group_variance: float | None, name: str) -> Relationship:
    return Relationship.of_pedigree(known, name, group_variance)


def known(K: Any, cov: Covariance | None = None, *, labels: Sequence[object] | None = None) -> Known:
    """u ~ N(0, Ω ⊗ K), K a known relationship matrix: a frame labelled by its index, or a matrix with `labels`.

    Raises ModelError for a K that is not symmetric positive semi-definite, DataError for a level that it lacks.
    """
    return Known("known", lambda name: Relationship.of_matrix(K, name, labels), cov)


def _labels(labels: Sequence[object] | None, m: int, name: str) -> tuple[str, ...]:
    if labels is None:
        return ()
    out = tuple(as_label(v) for v in labels)
    if len(out) != m:
        raise ModelError(f"component `{name}`: `labels` has {len(out)} values but the matrix has {m} rows.")
    if len(set(out)) < m:
        twice = next(v for v in out if out.count(v) > 1)
        raise ModelError(f"component `{name}`: label `{twice}` stands for two rows of its matrix.")
    return out
