"""A fit as JSON: everything but its data, every number to the last bit."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vcbench.account import Account, account_of
from vcbench.errors import DataError
from vcbench.fitted import Facts, Fit
from vcbench.inference.variances import SCALES, on_boundary
from vcbench.status import Status

SCHEMA = "vcbench/fit/1"


def fit_to_dict(fit: Fit) -> dict[str, Any]:
    """See `Fit.to_dict`."""
    cov, beta_cov = fit.theta_cov(), fit.beta_cov()
    facts = fit.facts
    return {
        "schema": SCHEMA,
        "method": fit.method,
        "criterion": fit.criterion,
        "kernel": fit.kernel,
        "status": str(fit.status),
        "code": fit.code,
        "message": fit.message,
        "loglik": _plain(fit.loglik),
        "aic": _plain(fit.aic),
        "bic": _plain(fit.bic),
        "n_obs": facts.n_obs,
        "n_dropped": facts.n_dropped,
        "formula": facts.formula,
        "groups": [list(g) for g in facts.groups],
        "n_iter": fit.n_iter,
        "n_eval": fit.n_eval,
        "n_check": fit.n_check,
        "seconds": _plain(fit.seconds),
        "cpu_seconds": _plain(fit.cpu_seconds),
        "check_seconds": _plain(fit.check_seconds),
        "theta": {n: _plain(v) for n, v in zip(facts.theta_names, fit.theta_values, strict=True)},
        "theta_se": {n: _plain(v) for n, v in zip(facts.theta_names, fit.theta_se, strict=True)},
        "beta": {n: _plain(v) for n, v in zip(facts.beta_names, fit.beta_values, strict=True)},
        "beta_se": {n: _plain(v) for n, v in zip(facts.beta_names, fit.beta_se, strict=True)},
        "is_variance": list(facts.is_variance),
        "boundary": [bool(v) for v in on_boundary(fit)],
        "boundary_limits": _boundary_limits(fit),
        "account": _plain(account_of(fit).to_dict()),
        "theta_cov": _plain(cov),
        "beta_cov": _plain(beta_cov),
        "rank": None if fit.rank is None else [int(v) for v in fit.rank],
        "limits": None if fit.limits is None else {k: _plain(v) for k, v in fit.limits.items()},
        "extra": {k: _plain(v) for k, v in fit.extra.items()},
        "trace": _plain(np.zeros((0, 0)) if fit.trace_rows is None else fit.trace_rows),
    }


def fit_from_json(text: str) -> Fit:
    """See `Fit.from_json`."""
    try:
        d = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"this text is no JSON ({error}); `fit.to_json()` writes what is read here.") from None
    if not isinstance(d, dict):
        raise DataError(f"this JSON is no fit but a {type(d).__name__}; `fit.to_json()` writes what is read here.")
    if d.get("schema") != SCHEMA:
        raise DataError(f"this JSON has schema {d.get('schema')!r}; a fit has {SCHEMA!r}.")
    facts = Facts(
        d["formula"],
        d["n_obs"],
        d["n_dropped"],
        tuple(d["beta"]),
        tuple(d["theta"]),
        tuple(d["is_variance"]),
        tuple((a, b) for a, b in d["groups"]),
    )
    number = lambda v: math.nan if v is None else v  # noqa: E731
    array = lambda v: np.array([[number(x) for x in r] if isinstance(r, list) else number(r) for r in v], float)  # noqa: E731
    width = 2 + len(facts.theta_names) + len(facts.beta_names)
    return Fit(
        None,
        facts,
        d["method"],
        d["criterion"],
        array(d["theta"].values()),
        array(d["beta"].values()),
        number(d["loglik"]),
        Status(d["status"]),
        d["message"],
        d["n_iter"],
        d["n_eval"],
        d["n_check"],
        number(d["seconds"]),
        number(d["cpu_seconds"]),
        number(d["check_seconds"]),
        d["kernel"],
        None if d["rank"] is None else np.array(d["rank"]),
        array(d["trace"]).reshape(-1, width),
        None if d["limits"] is None else {k: array(v) for k, v in d["limits"].items()},
        d["extra"],
        {
            "default": array(d["theta_cov"]),
            "beta": array(d["beta_cov"]),
            "boundary": np.array(d["boundary"], bool),
            "boundary limits": {k: (number(lo), number(hi), why) for k, (lo, hi, why) in d["boundary_limits"].items()},
            "account": Account.from_dict(d["account"]),
        },
    )


def _boundary_limits(fit: Fit) -> dict[str, Any]:
    """The limits of parameters on the boundary, on every scale of `varcomp`."""
    for scale in SCALES:
        fit.varcomp(scale)
    return _plain(fit.cache.get("boundary limits", {}))


def _plain(value: Any) -> Any:
    """JSON's own types; NaN and infinities are null."""
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
