"""`statsmodels`: MixedLM from arrays.

Its rows fall into groups, independent of each other: the levels of the coarsest factor, or all rows where factors
cross or a component has columns. The coarsest term may be vector-valued; every other one is a variance component (one
variance each), dense within its group. Standard errors of variances are as its summary prints them beside the
estimates, √scale times `bse`, which is that of Ψ/σ² and no standard error of Ψ; it has none of σ².
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vcbench.model.model import Model
from vcbench.peers.clock import load, timed
from vcbench.peers.design import MOST, Design, Term, near_boundary, refuse
from vcbench.peers.nesting import coarsest, same
from vcbench.status import Status


def fit_statsmodels(
    model: Model, criterion: str, Y: np.ndarray, options: Mapping[str, Any], seed: Any = None
) -> list[dict[str, Any]]:
    """MixedLM.fit. optimizer: its `method`, a name or a list tried in turn (default: statsmodels' own).

    Raises MethodError for weights, correlated residuals, models without random terms, vector-valued terms that are not
    the coarsest, and where statsmodels is not installed.
    """
    program, version = load("statsmodels.regression.mixed_linear_model")
    design = Design.of(model, "statsmodels")
    if not design.terms:
        refuse("statsmodels", "MixedLM needs a random term")
    groups = coarsest(design.terms, design.n_obs)
    top = next((k for k, t in enumerate(design.terms) if t.codes is not None and same(t.codes, groups)), None)
    for k, term in enumerate(design.terms):
        if term.r > 1 and k != top:
            refuse("statsmodels", f"component `{term.name}` is vector-valued and not the one coarsest group")
    others = [k for k in range(len(design.terms)) if k != top]
    spec = _components(program, [design.terms[k] for k in others], groups) if others else None
    arrays = {"exog_re": None if top is None else design.terms[top].A, "exog_vc": spec}
    own = {} if options.get("optimizer") is None else {"method": options["optimizer"]}
    out = []
    for y in design.response(model, Y).T:

        def run(y: np.ndarray = y) -> Any:
            return program.MixedLM(y, design.X, groups, **arrays).fit(reml=criterion == "reml", **own)

        found, row = timed(run)
        if found is not None:
            row |= _read(found, design, top, others)
            row["status"] = Status.CONVERGED if found.converged else Status.MAX_ITER
            if found.converged and near_boundary(design, row["theta"]):
                row["status"] = Status.AT_BOUNDARY
        out.append({**row, "extra": {"program": "statsmodels", "version": version}})
    return out


def _components(program: Any, terms: list[Term], groups: np.ndarray) -> Any:
    """statsmodels' VCSpec: for each term and group the columns of its levels there."""
    names, columns, matrices = [], [], []
    rows = [np.flatnonzero(groups == g) for g in range(int(groups.max()) + 1)]
    for k, term in enumerate(terms):
        made = []
        for at in rows:
            if term.codes is None:
                made.append(term.A[at])
                continue
            here, codes = np.unique(term.codes[at], return_inverse=True)
            if len(at) * len(here) > MOST:
                refuse("statsmodels", f"component `{term.name}` would be a dense {len(at)} × {len(here)} matrix")
            Z = np.zeros((len(at), len(here)))
            Z[np.arange(len(at)), codes] = term.A[at, 0]
            made.append(Z)
        names.append(f"{k}")
        columns.append([[f"{k}[{j}]" for j in range(Z.shape[1])] for Z in made])
        matrices.append(made)
    return program.VCSpec(names, columns, matrices)


def _read(found: Any, design: Design, top: int | None, others: list[int]) -> dict[str, Any]:
    """θ and β with their standard errors, in our order; statsmodels' lower triangle is by row."""
    p, d = design.n_theta, design.X.shape[1]
    theta, se = np.full(p, np.nan), np.full(p, np.nan)
    printed = np.sqrt(found.scale) * np.asarray(found.bse)[d:]
    at = 0
    if top is not None:
        term = design.terms[top]
        rows, columns = np.tril_indices(term.r)
        where = {(i, j): k for k, (j, i) in enumerate(zip(*np.triu_indices(term.r), strict=True))}
        Omega = np.asarray(found.cov_re)
        for i, j in zip(rows, columns, strict=True):
            place = term.places[where[i, j]]
            theta[place], se[place] = Omega[i, j], printed[at]
            at += 1
    for k, value in zip(others, found.vcomp, strict=True):
        (place,) = design.terms[k].places
        theta[place], se[place] = value, printed[at]
        at += 1
    theta[-1] = found.scale
    return {
        "theta": theta, "theta_se": se, "beta": np.asarray(found.fe_params),
        "beta_cov": np.asarray(found.cov_params())[:d, :d], "loglik": float(found.llf),
    }  # fmt: skip
