"""One-step relationships: a pedigree of all animals and the markers of some of them, in one matrix H.

    H⁻¹ = A⁻¹ + [0, 0; 0, τ(αG* + βA_22)⁻¹ − ωA_22⁻¹]        the last rows are the genotyped animals'
    H   = A + [A_12 A_22⁻¹; I] (G* − A_22) [A_22⁻¹ A_21, I]   at τ = ω = α = 1, β = 0 (Legarra, Aguilar & Misztal 2009,
                                                              J Dairy Sci 92:4656; Christensen & Lund 2010)
    A_22⁻¹ = P_22 − P_21 P_11⁻¹ P_12,   P = A⁻¹ of the genotyped animals and their ancestors

A is never formed, but for A_22: A x = T D Tᵀ x by two passes through the pedigree (Colleau 2002). G* = a + bG puts G on
the pedigree's base: the same mean and mean diagonal as A_22 ("means"), or b = 1 − a/2 and the same mean ("drift").
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import coo_matrix, csc_matrix
from scipy.sparse.linalg import splu

from vcbench.errors import DataError, MethodError, ModelError, did_you_mean
from vcbench.genetics.relationship import GRM
from vcbench.model.covariance import Covariance
from vcbench.model.pedigree import Pedigree, as_label
from vcbench.model.relationship import Known, Relationship

TUNINGS = ("means", "drift", "none")
BLOCK = 256  # columns of A_22 and of A_22⁻¹ worked out at a time


@dataclass(frozen=True, slots=True, eq=False)
class SingleStep:
    """H⁻¹ (m, m) of the pedigree's animals, `labels` (m,), and how G met A_22.

    n_genotyped; a, b of G* = a + bG; correlation of the off-diagonal entries of G and A_22 (NaN where A_22 has none
    that vary); mean_diagonal and mean of (A_22, G): a G of other animals than the labels say shows there.
    """

    precision: csc_matrix = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    n_genotyped: int
    a: float
    b: float
    correlation: float
    mean_diagonal: tuple[float, float]
    mean: tuple[float, float]

    @classmethod
    def of(
        cls,
        pedigree: Any,
        G: Any,
        labels: Sequence[object] | None = None,
        *,
        alpha: float = 0.95,
        beta: float = 0.05,
        tau: float = 1.0,
        omega: float = 1.0,
        tune: str = "means",
    ) -> "SingleStep":
        """H⁻¹ from a pedigree (a `Pedigree` or a frame) and G: a frame labelled by its index, a GRM (by IID), or a
        matrix with `labels`.

        Raises DataError for a G that is no relationship matrix, for labels that are there twice or not in the
        pedigree; MethodError for weights that make no sense and an unknown `tune`; ModelError where αG* + βA_22 is not
        positive definite.
        """
        P = pedigree if isinstance(pedigree, Pedigree) else Pedigree.of(pedigree)
        _check_weights(alpha, beta, tau, omega, tune)
        K, names = _labelled(G, labels)
        own = P.positions(names, "G")
        near, at = P.with_ancestors(own)
        A22 = relationship_among(near, at)
        a, b = _tuned(K, A22, tune)
        blend = alpha * (a + b * K) + beta * A22
        try:
            inverse = cho_solve(cho_factor(blend, lower=True), np.eye(len(blend)))
        except np.linalg.LinAlgError:
            lowest = float(np.linalg.eigvalsh(blend)[0])
            raise ModelError(
                f"{alpha:g}·G + {beta:g}·A22 is not positive definite: its smallest eigenvalue is {lowest:.3g}. Raise "
                "`beta`, or check that G is of these animals."
            ) from None
        extra = tau * (inverse + inverse.T) / 2 - omega * inverse_among(near, at)
        rows, columns = np.broadcast_arrays(own[:, None], own[None, :])
        added = coo_matrix((extra.ravel(), (rows.ravel(), columns.ravel())), shape=(len(P), len(P)))
        precision = csc_matrix(P.precision() + added.tocsc())
        precision.sort_indices()
        off = ~np.eye(len(K), dtype=bool)
        pair = K[off], A22[off]
        varies = len(K) > 1 and min(np.ptp(pair[0]), np.ptp(pair[1])) > 0
        return cls(
            precision, P.ids, len(K), a, b, float(np.corrcoef(*pair)[0, 1]) if varies else float("nan"),
            (float(np.diag(A22).mean()), float(np.diag(K).mean())), (float(A22.mean()), float(K.mean())),
        )  # fmt: skip

    def covariance(self, cov: Covariance | None = None) -> Known:
        """What `cov=` takes: u ~ N(0, Ω ⊗ H); cov the structure of Ω where a term has several effects."""
        return Known("single_step", lambda name: Relationship.of_precision(self.precision, name, self.labels), cov)


def single_step(pedigree: Any, G: Any, labels: Sequence[object] | None = None, **options: Any) -> Known:
    """`SingleStep.of(…).covariance()`: `cov={"animal": vc.genetics.single_step(pedigree, G)}` makes `(1 | animal)` the
    one-step model, whose BLUPs are genomic breeding values of all animals."""
    return SingleStep.of(pedigree, G, labels, **options).covariance()


def relationship_among(pedigree: Pedigree, at: np.ndarray) -> np.ndarray:
    """A between the animals at positions `at` (k,): (k, k), no other part of A being formed."""
    from vcbench.model.pedigree_core import times_relationship

    d, out = pedigree.mendelian(), np.empty((len(at), len(at)))
    for lo in range(0, len(at), BLOCK):
        columns = at[lo : lo + BLOCK]
        X = np.zeros((len(pedigree), len(columns)))
        X[columns, np.arange(len(columns))] = 1.0
        times_relationship(pedigree.sire, pedigree.dam, d, X)
        out[:, lo : lo + BLOCK] = X[at]
    return (out + out.T) / 2


def inverse_among(pedigree: Pedigree, at: np.ndarray) -> np.ndarray:
    """A_22⁻¹ (k, k) of the animals at `at`, a Schur complement in the sparse A⁻¹ of the pedigree."""
    P = pedigree.precision()
    others = np.setdiff1d(np.arange(len(pedigree)), at)
    out = P[at][:, at].toarray()
    if len(others):
        P12 = P[others][:, at]
        factor = splu(csc_matrix(P[others][:, others]), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
                      options={"SymmetricMode": True})  # fmt: skip
        for lo in range(0, len(at), BLOCK):
            out[:, lo : lo + BLOCK] -= P12.T @ factor.solve(P12[:, lo : lo + BLOCK].toarray())
    return (out + out.T) / 2


def _tuned(G: np.ndarray, A22: np.ndarray, tune: str) -> tuple[float, float]:
    """(a, b) of G* = a + bG."""
    if tune == "none":
        return 0.0, 1.0
    if tune == "drift":  # Vitezica et al. 2011, Genet Res 93:357
        a = float(A22.mean() - G.mean())
        return a, 1.0 - a / 2.0
    spread = float(np.diag(G).mean() - G.mean())  # Christensen et al. 2012, Animal 6:1565
    if not spread > 0:
        raise DataError(
            f"G has mean diagonal {np.diag(G).mean():.4g} and mean {G.mean():.4g}: it says nothing of differences "
            'between animals. Check it, or pass tune="none".'
        )
    b = float(np.diag(A22).mean() - A22.mean()) / spread
    return float(A22.mean() - b * G.mean()), b


def _labelled(G: Any, labels: Sequence[object] | None) -> tuple[np.ndarray, list[str]]:
    """(G (k, k), labels (k,)), checked."""
    if not isinstance(G, GRM):
        if labels is None and not hasattr(G, "index"):
            raise DataError("G has no labels. Pass `labels=`, or a frame whose index holds them.")
        labels = list(G.index) if labels is None else list(labels)
        G = GRM.of(np.asarray(G, float))
    else:
        labels = list(G.samples["IID"]) if labels is None else list(labels)
    names = [as_label(v) for v in labels]
    if len(names) != G.n:
        raise DataError(f"`labels` has {len(names)} values but G is {G.n} × {G.n}.")
    twice = [v for v, count in zip(*np.unique(names, return_counts=True), strict=True) if count > 1]
    if twice:
        raise DataError(f"G has two rows for animal `{twice[0]}` ({len(twice)} such). Keep one.")
    return np.asarray(G.K, float), names


def _check_weights(alpha: float, beta: float, tau: float, omega: float, tune: str) -> None:
    for name, value in (("alpha", alpha), ("tau", tau)):
        if not 0 < value < np.inf:
            raise MethodError(f"`{name}` is {value!r}; it must be a positive number.")
    for name, value in (("beta", beta), ("omega", omega)):
        if not 0 <= value < np.inf:
            raise MethodError(f"`{name}` is {value!r}; it must be 0 or more.")
    if tune not in TUNINGS:
        raise MethodError(f"unknown tune `{tune}`. Choose from {', '.join(TUNINGS)}.{did_you_mean(tune, TUNINGS)}")
