"""Which hypotheses L β = 0 an ANOVA table tests: one L for each term of the fixed part, of type I, II or III.

**Type I**, sequential: rows of a term in Lᵀ of XᵀX = LDLᵀ (Doolittle): each term adjusted for those before it.
**Type II**: the same with the term, then those that contain it, moved behind all others: each term adjusted for all
that do not contain it. **Type III**: X_u having the columns of all terms, an indicator a level, and X_u = XX⁺X_u,
the rows of (X⁺X_u)ᵀ generate all estimable functions; a term's are made orthogonal to those of the terms that contain
it (Goodnight 1978, SAS; in complete designs: equal unweighted means of cells).

The rows are scaled as lmerTest scales them, whose degrees of freedom depend on that. A term contains another if it has
all its variables, more than those, and the same numeric ones (SAS). lmerTest 3.1-3 overlooks this where a factor is
coded by indicators, as `a` in `a:b` of `a/b`: R's `factors` attribute holds a 2 there.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vcbench.errors import MethodError
from vcbench.model.fixed_contrasts import treatment
from vcbench.model.fixed_design import Design
from vcbench.model.fixed_rank import independent_columns
from vcbench.model.fixed_terms import INDICATORS
from vcbench.model.model import Model

TYPES = {1: 1, 2: 2, 3: 3, "1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}
ZERO = 1e-8  # coefficients below this share of the largest are rounding


@dataclass(frozen=True, slots=True, eq=False)
class FixedTerms:
    """Terms of the fixed part: `labels`, in the formula's order; `assign` (d,) the term of each column of X, −1 for the
    intercept; `contained` for each term the terms that contain it."""

    labels: tuple[str, ...]
    assign: np.ndarray
    contained: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, model: Model) -> "FixedTerms":
        """Those of a model's formula; for a model from arrays, every column but a constant one is a term."""
        if model.parsed is None:
            constant = [bool((column == 1).all()) for column in model.X.T]  # type: ignore[union-attr]
            labels = tuple(n for n, one in zip(model.X_names, constant, strict=True) if not one)  # type: ignore[arg-type]
            assign = np.where(constant, -1, np.cumsum(~np.array(constant)) - 1)
            return cls(labels, assign, ((),) * len(labels))
        design: Design = model.parsed.spec.design
        variables = [frozenset(v for v, _ in term) for term in design.coded]
        numeric = [frozenset(v for v in term if not design.variables[v].is_factor) for term in variables]
        contained = tuple(
            tuple(k for k in range(len(variables)) if variables[j] < variables[k] and numeric[j] == numeric[k])
            for j in range(len(variables))
        )
        return cls(design.term_labels, design.assign[_kept(model)], contained)

    def columns(self, *terms: int) -> np.ndarray:
        """Positions in X of the columns of these terms."""
        return np.flatnonzero(np.isin(self.assign, terms))


def term_hypotheses(model: Model, kind: Any) -> dict[str, np.ndarray]:
    """L (rows, d) of each term, by its label; type 1, 2 or 3 (or "I", "II", "III"). A term whose columns were all
    dropped for the rank of X has no rows. MethodError for another type."""
    if kind not in TYPES:
        raise MethodError(f"unknown type {kind!r} of analysis of variance. Choose 1 (sequential), 2 or 3.")
    terms = FixedTerms.of(model)
    X = np.asarray(model.X, float)
    if TYPES[kind] == 1 or len(terms.labels) == 1:
        return _sequential(X, terms)
    return _marginal(X, terms) if TYPES[kind] == 2 else _estimable(model, X, terms)


def _sequential(X: np.ndarray, terms: FixedTerms) -> dict[str, np.ndarray]:
    """Type I."""
    L = _doolittle(X)
    return {label: L[terms.columns(j)] for j, label in enumerate(terms.labels)}


def _marginal(X: np.ndarray, terms: FixedTerms) -> dict[str, np.ndarray]:
    """Type II."""
    out = {}
    for j, label in enumerate(terms.labels):
        own, above = terms.columns(j), terms.columns(*terms.contained[j])
        if not len(above):
            out[label] = np.eye(X.shape[1])[own]
            continue
        others = np.setdiff1d(np.arange(X.shape[1]), np.concatenate([own, above]))
        order = np.concatenate([others, own, above])
        L = np.zeros((len(own), X.shape[1]))
        L[:, order] = _doolittle(X[:, order])[len(others) : len(others) + len(own)]
        out[label] = L
    return out


def _estimable(model: Model, X: np.ndarray, terms: FixedTerms) -> dict[str, np.ndarray]:
    """Type III."""
    if model.parsed is None:
        return {label: np.eye(X.shape[1])[terms.columns(j)] for j, label in enumerate(terms.labels)}
    design, values = model.parsed.spec.design, model.parsed.values
    plain = treatment_coded(design)
    Xt = plain.matrix(values, len(X))
    kept, _ = independent_columns(Xt)
    Xt, assign = Xt[:, kept], plain.assign[kept]
    full = indicator_coded(design)
    G = _in_terms_of(Xt, full.matrix(values, len(X))).T  # rows: columns of X_u
    cell = {key: i for i, key in enumerate(zip(full.assign, full.names, strict=True))}
    place = [cell[plain.assign[j], plain.names[j]] for j in kept]
    back = _in_terms_of(Xt, X)
    out = {}
    for j, label in enumerate(terms.labels):
        own, above = G[:, assign == j], G[:, np.isin(assign, terms.contained[j])]
        own = _rounded(own - above @ np.linalg.lstsq(above, own, rcond=None)[0])
        L = own[place].T
        out[label] = L[np.abs(L).sum(axis=1) > ZERO] @ back
    return out


def treatment_coded(design: Design) -> Design:
    """The design with treatment contrasts for every factor."""
    variables = []
    for v in design.variables:
        if v.is_factor:
            contrasts, suffixes = treatment(v.levels)
            v = replace(v, contrasts=contrasts, suffixes=suffixes)
        variables.append(v)
    return design.recoded(tuple(variables), design.coded)


def indicator_coded(design: Design) -> Design:
    """The design with an indicator for every level of every factor, in every term: not of full rank."""
    return design.recoded(design.variables, tuple(tuple((v, INDICATORS) for v, _ in term) for term in design.coded))


def _kept(model: Model) -> np.ndarray:
    """Positions in the design of the columns of X."""
    known = dict(zip(model.parsed.X_names, model.parsed.spec.kept, strict=True))
    return np.array([known[name] for name in model.X_names], int)  # type: ignore[union-attr]


def _doolittle(X: np.ndarray) -> np.ndarray:
    """Lᵀ of XᵀX = LDLᵀ, its diagonal 1, by QR of X."""
    size = np.linalg.norm(X, axis=0)
    R = np.linalg.qr(X / size, mode="r")
    return _rounded(R / np.diag(R)[:, None]) * size / size[:, None]


def _in_terms_of(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """X⁺Y (d, m); columns of 0 in Y (cells without rows) give 0."""
    x, y = np.linalg.norm(X, axis=0), np.linalg.norm(Y, axis=0)
    y = np.where(y > 0.0, y, 1.0)
    return _rounded(np.linalg.lstsq(X / x, Y / y, rcond=None)[0]) * y / x[:, None]


def _rounded(A: np.ndarray) -> np.ndarray:
    """A with rounding errors as zeros."""
    return np.where(np.abs(A) < ZERO * np.abs(A).max(initial=0.0), 0.0, A)
