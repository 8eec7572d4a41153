"""Deletion of groups of rows: what it does to β̂ at a fixed θ, to θ̂ in one step, and by fitting again.

Formulas: `influence`. β's needs V⁻¹ within each group only, R⁻¹ − R⁻¹ZΛM⁻¹ΛᵀZᵀR⁻¹, so that a group costs what its own
rows and levels do; θ's needs PE_S in all rows.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_matrix

from vcbench.errors import MethodError, VcbenchError
from vcbench.inference.blup_errors import BlupErrors
from vcbench.inference.equations import Equations
from vcbench.inference.inverse import SelectedInverse
from vcbench.model.subset import subset
from vcbench.status import Status

FULL = 6000  # random effects up to which M⁻¹ is worked out in full where groups ask beyond its own entries
ONE_STEP = 20_000  # rows of the data up to which θ's change is worked out: PE_S of all groups is a matrix of that size
LOST = 1e-9  # an eigenvalue of A⁻¹A_(S) below it: some column of X lives in the group alone


def deletions(errors: BlupErrors, rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """β̂ − β̂_(S) and A_(S) of each group, in X's orthonormal basis."""
    model, Q = errors.model, errors.basis.Q
    d = Q.shape[1]
    y = errors.basis.residual(model.y if model.offset is None else model.y - model.offset)
    if errors.inverse is None:
        VinvQ, Vinvy = errors.Ri @ Q, errors.Ri @ y
    else:
        VinvQ = errors.Ri @ (Q - errors.ZL @ errors.W)
        Vinvy = errors.Ri @ (y - errors.ZL @ errors.inverse.solve((errors.ZL.T @ (errors.Ri @ y))[:, None])[:, 0])
    C = errors.H @ errors.H.T
    g = Vinvy - VinvQ @ (C @ (VinvQ.T @ y))
    Hi = np.linalg.inv(errors.H)
    change, kept = np.full((len(rows), d), np.nan), np.full((len(rows), d, d), np.nan)
    for i, (r, F) in enumerate(zip(rows, _within(errors, rows), strict=True)):
        factor = cho_factor(F, lower=True)
        X = VinvQ[r]
        solved = cho_solve(factor, np.column_stack([X, g[r]]))
        own_share = errors.H.T @ (X.T @ solved[:, :d]) @ errors.H
        rest = np.eye(d) - (own_share + own_share.T) / 2
        if np.linalg.eigvalsh(rest)[0] < LOST:
            continue
        kept[i] = Hi.T @ rest @ Hi
        change[i] = errors.H @ np.linalg.solve(rest, errors.H.T @ (X.T @ solved[:, d]))
    return change, kept


def _within(errors: BlupErrors, rows: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """E_SᵀV⁻¹E_S of each group."""
    Ri, inverse = csr_matrix(errors.Ri), errors.inverse
    if inverse is None:
        yield from (Ri[r][:, r].toarray() for r in rows)
    elif isinstance(errors.ZL, np.ndarray):  # full, as V⁻¹ is: formed once, it is no larger than M⁻¹
        B = Ri @ errors.ZL
        Vinv = Ri.toarray() - B @ inverse.solve(B.T)
        yield from (Vinv[np.ix_(r, r)] for r in rows)
    else:
        B = csr_matrix(Ri @ errors.ZL)
        columns = [np.unique(B[r].indices) for r in rows]
        if isinstance(inverse, SelectedInverse) and inverse.q <= FULL and not all(map(inverse.covers, columns)):
            inverse = inverse.full()
        for r, at in zip(rows, columns, strict=True):
            own = B[r][:, at].toarray()
            yield Ri[r][:, r].toarray() - own @ inverse.among(at) @ own.T


def theta_steps(fit: Any, rows: Sequence[np.ndarray]) -> np.ndarray:
    """θ's change in one step, Cov(θ̂) times the score of the rows that stay, at θ̂: (groups, p)."""
    from vcbench.kernels import build

    model, theta = fit.model, fit.theta_values
    if fit.is_moments or fit.limits is not None:
        raise MethodError(f"method `{fit.method}` maximises no likelihood: θ has no one-step change. Use refit().")
    if model.n_obs > ONE_STEP:
        raise MethodError(f"θ's change needs a matrix of {model.n_obs} rows, more than {ONE_STEP}. Use refit().")
    reml = fit.criterion == "reml"
    at = Equations.at(model, theta)
    y = model.y if model.offset is None else model.y - model.offset
    g = at.project(y)
    p = len(theta)
    whole = build(model, fit.kernel or "auto").evaluate(theta, ("score",), fit.criterion).score
    assert whole is not None
    squares = np.array([g @ at.derivative(j, g[:, None])[:, 0] for j in range(p)])
    cov = np.nan_to_num(fit.theta_cov())
    out = np.empty((len(rows), p))
    for i, r in enumerate(rows):
        PE = at.project(columns_of(r, model.n_obs))
        P_factor = cho_factor(PE[r], lower=True)
        without = g - PE @ cho_solve(P_factor, g[r])
        if reml:
            TE, T_factor = PE, P_factor
        else:
            TE = at.solve(columns_of(r, model.n_obs))
            T_factor = cho_factor(TE[r], lower=True)
        score = whole.copy()
        for j in range(p):
            inner = TE.T @ at.derivative(j, TE)
            score[j] += 0.5 * np.trace(cho_solve(T_factor, inner))
            score[j] += 0.5 * (without @ at.derivative(j, without[:, None])[:, 0] - squares[j])
        out[i] = cov @ score
    return out


def refit(fit: Any, rows: np.ndarray) -> dict[str, Any]:
    """θ̂, β̂, loglik, status and message of the fit's method without some rows."""
    from vcbench.fit import METHODS
    from vcbench.fit import fit as fit_model

    facts = fit.facts
    names = [*facts.theta_names, *facts.beta_names]
    empty = {**dict.fromkeys(names, np.nan), "loglik": np.nan}
    mask = np.ones(fit.model.n_obs, bool)
    mask[rows] = False
    criterion = None if fit.criterion == "none" else fit.criterion
    options: dict[str, Any] = {"trace": False} if METHODS[fit.method].kind == "solver" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # columns of X that are dropped show as NaN
            small = subset(fit.model, mask)
            if options and fit.status is Status.CONVERGED:
                options["start"] = dict(zip(facts.theta_names, fit.theta_values.tolist(), strict=True))
            found = fit_model(small, fit.method, criterion, **options)
    except VcbenchError as error:
        return {**empty, "status": str(Status.FAILED), "message": str(error)}
    values = {**found.theta.to_dict(), **found.beta.to_dict()}
    return {**empty, **values, "loglik": found.loglik, "status": str(found.status), "message": found.message}


def columns_of(rows: np.ndarray, n: int) -> np.ndarray:
    """E_S (n, s)."""
    out = np.zeros((n, len(rows)))
    out[rows, np.arange(len(rows))] = 1.0
    return out
