"""`nlme`: R's lme and gls, which have correlated and heterogeneous residuals.

Groups of lme are nested. Factors that cross are put into one group of all rows, a multiple of the identity each
(pdBlocked of pdIdent), which allows one variance a factor; Z and K components likewise. Standard errors of θ are by the
delta method from nlme's own apVar. nlme works with logarithms of standard deviations: a variance of 0 is only
approached, and is called AT_BOUNDARY where it is a millionth of the residual's or less.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vcbench.model.model import Model
from vcbench.model.structures import (
    Ar1,
    Arma11,
    CompoundSymmetry,
    Decay,
    Family,
    FreeCorrelation,
    Heterogeneous,
    LevelSymmetry,
    MovingAverage,
    Unstructured,
)
from vcbench.peers.design import MOST, Design, Term, near_boundary, refuse
from vcbench.peers.nesting import same, within
from vcbench.peers.rscript import find_rscript, run_r
from vcbench.status import Status


def fit_nlme(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None
) -> list[dict[str, Any]]:
    """lme or gls. Options: optimizer ("nlminb", "optim"), timeout in seconds.

    Raises MethodError for vector-valued terms that cross, for residual structures that nlme has no name for, and for
    units of residuals that are not within the innermost group.
    """
    find_rscript("nlme")
    design = Design.of(model, "nlme", weights=True, residuals=True)
    groups, design = _groups(design)
    noise = _noise(design, groups)
    matrices: dict[str, np.ndarray] = {f"A{k}": term.A for k, term in enumerate(design.terms, 1)}
    info: dict[str, Any] = {
        "n_terms": len(design.terms), "starts": " ".join(str(term.places[0]) for term in design.terms) or "",
        "groups": " ".join(groups), "correlation": noise.kind, "order": noise.order,
        "unstructured": int(noise.unstructured),
    }  # fmt: skip
    for name, (codes, inside) in groups.items():
        info[f"terms_{name}"] = " ".join(str(k + 1) for k in inside)
        if codes is not None:
            matrices[name] = codes
    for k in range(len(design.terms)):
        info[f"columns{k + 1}"] = int("one" in groups)
    matrices |= noise.matrices
    if design.weights is not None:
        matrices["w"] = design.weights
    if options.get("optimizer") is not None:
        info["optimizer"] = options["optimizer"]
    rows = run_r("nlme", design, criterion, design.response(model, Y), info, matrices, options.get("timeout"))
    for row in rows:
        if row["status"] is Status.CONVERGED and near_boundary(design, row["theta"]):
            row["status"] = Status.AT_BOUNDARY
    return rows


Groups = dict[str, tuple[np.ndarray | None, list[int]]]


def _groups(design: Design) -> tuple[Groups, Design]:
    """Factors outermost first with their terms; or one group of all rows, its terms as columns."""
    order: list[int] = sorted(range(len(design.terms)), key=lambda k: design.terms[k].n_levels)
    terms = design.terms
    if all(term.codes is not None for term in terms):
        found: Groups = {}
        last: np.ndarray | None = None
        for k in order:
            codes = terms[k].codes
            assert codes is not None
            if last is not None and same(codes, last):
                next(reversed(found.values()))[1].append(k)
                continue
            if last is not None and not within(codes, last):
                break
            found[f"g{k + 1}"] = (codes, [k])
            last = codes
        else:
            return found, design
    if any(term.r > 1 for term in terms):
        refuse("nlme", "its groups are nested, and factors that cross have one variance each in it")
    made = tuple(_columns(term, len(design.X)) for term in terms)
    effects = sum(term.A.shape[1] for term in made)
    if effects > design.n_obs:
        refuse("nlme", f"it wants no more random effects in a group than rows, and has {effects} for {design.n_obs}")
    return {"one": (None, list(range(len(made))))}, replace(design, terms=made)


def _columns(term: Term, n: int) -> Term:
    """The term as columns of one variance."""
    if term.codes is None:
        return term
    if n * term.n_levels > MOST:
        refuse("nlme", f"component `{term.name}` crosses another and would be a dense {n} × {term.n_levels} matrix")
    A = np.zeros((n, term.n_levels))
    A[np.arange(n), term.codes] = term.A[:, 0]
    return replace(term, A=A, codes=None)


@dataclass(frozen=True, slots=True)
class _Noise:
    """What nlme.R reads of the residuals: the kind of correlation, its order, and matrices t, unit, level."""

    kind: str = "none"
    order: int = 0
    unstructured: bool = False
    matrices: Mapping[str, np.ndarray] = field(default_factory=dict)


def _noise(design: Design, groups: Groups) -> _Noise:
    """The residual structure under nlme's names; MethodError where it has none."""
    family = design.family
    level: dict[str, np.ndarray] = {}
    if isinstance(family, Heterogeneous | Unstructured):
        if design.weights is not None:
            refuse("nlme", "known weights beside variances by level are not passed to it")
        level = {"level": family.codes}
    inner: Family = family.inner if isinstance(family, Heterogeneous) else family
    if type(inner) is Family:
        return _Noise(matrices=level)
    kind, order, t = _correlation(inner)
    if kind is None:
        refuse("nlme", f"it has no residual structure like {type(inner).__name__}")
    found = {**level, **({} if t is None else {"t": t})}
    units = design.units
    innermost = next(reversed(groups.values()))[0] if groups else None
    if groups and innermost is not None and not within(units, innermost):
        refuse("nlme", "residuals are correlated within units that are not within its innermost group")
    if not groups or innermost is None or not same(units, innermost):
        found["unit"] = units.astype(np.int64)
    return _Noise(kind or "", order, isinstance(family, Unstructured), found)


def _correlation(inner: Family) -> tuple[str | None, int, np.ndarray | None]:
    """(kind, order, labels (n, k)) of a correlation structure."""
    match inner:
        case Ar1() if (inner.t == np.round(inner.t)).all():
            return "ar1", 0, inner.t[:, None] + 1.0
        case Ar1():
            return "car1", 0, inner.t[:, None]
        case Arma11() if (inner.t == np.round(inner.t)).all():
            return "arma11", 0, inner.t[:, None] + 1.0
        case MovingAverage() if (inner.t == np.round(inner.t)).all():
            return "ma", inner.n_phi, inner.t[:, None] + 1.0
        case LevelSymmetry():
            return None, 0, None
        case CompoundSymmetry():
            return "cs", 0, None
        case Unstructured() | FreeCorrelation():
            return "cor", 0, inner.codes[:, None] + 1.0
        case Decay():
            return ("exponential" if inner.power == 1 else "gaussian"), 0, inner.points
    return None, 0, None
