"""Predictions Xβ̂ + Zû with their errors, at the data or at new rows.

    confidence   Var(xᵀβ̂ + zᵀû − xᵀβ − zᵀu), β estimated, θ known (`blup_errors`)
    prediction   that, and the variance of a new observation's own parts: its residual, and the random effects left out

A level that the model has not met is predicted by 0, its expectation, with variance zᵀΩz. Residuals of new rows are
independent of those observed: correlated residuals say how the data were noisy, not that a new row belongs to their
unit.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, hstack

from vcbench.errors import MethodError, did_you_mean
from vcbench.inference.blup_errors import BlupErrors
from vcbench.inference.blups import errors_of
from vcbench.inference.intervals import quantile
from vcbench.inference.prediction_rows import Rows
from vcbench.model.model import Model

if TYPE_CHECKING:
    import pandas as pd

INTERVALS = ("confidence", "prediction")


def prediction_errors(model: Model, theta: np.ndarray) -> list[np.ndarray]:
    """Var(û − u) (levels, r) of each component at known θ. ModelError as `BlupErrors.at`."""
    errors = BlupErrors.at(model, theta)
    return [np.maximum(np.einsum("laa->la", errors.errors(k)), 0.0) for k in range(len(errors.terms))]


def predict(
    fit: Any,
    new: Any = None,
    random: bool | str | Sequence[str] = True,
    interval: str | None = None,
    level: float = 0.95,
) -> "np.ndarray | pd.DataFrame":
    """See `Fit.predict`."""
    model = fit._need_model("predict()")
    chosen = _chosen(model, random)
    if interval is not None and interval not in INTERVALS:
        near = did_you_mean(str(interval), INTERVALS)
        raise MethodError(f"unknown interval `{interval}`. Choose from {', '.join(INTERVALS)}.{near}")
    z = quantile(level)
    everything = [c.name for c in model.components]
    rows = Rows.of(model, new, everything if interval == "prediction" else chosen)
    value = rows.X @ fit.beta_values + rows.offset
    blups = fit.ranef() if chosen else {}
    for name in chosen:
        Z, levels = rows.effects[name]
        u = blups[name].to_numpy()
        if levels is None:
            value = value + Z @ u.T.ravel()
        else:
            value = value + (Z * np.where(levels[:, None] >= 0, u[levels], 0.0)).sum(axis=1)
    if interval is None:
        return value
    import pandas as pd

    errors = errors_of(fit, f"interval={interval!r}")
    variance = target_variance(errors, rows, chosen)
    if interval == "prediction":
        variance = variance + rows.residual_variance(errors.R)
        for k, c in enumerate(model.components):
            if c.name not in chosen:
                variance = variance + level_variance(errors, k, *rows.effects[c.name])
    se = np.sqrt(np.maximum(variance, 0.0))
    columns = {"fit": value, "se": se, "lower": value - z * se, "upper": value + z * se}
    return pd.DataFrame(columns, index=rows.index)


def target_variance(errors: BlupErrors, rows: Rows, chosen: Sequence[str]) -> np.ndarray:
    """Var(xᵀ(β̂ − β) + Σ zᵀ(û − u)) (m,) over the chosen components; zᵀΩz for a level not met."""
    if not chosen:
        return errors.fixed_variance(rows.X)
    m, parts, unmet = len(rows.X), [], np.zeros(len(rows.X))
    for k, t in enumerate(errors.terms):
        name = t.component.name
        if name not in chosen:
            parts.append(csr_matrix((m, int(errors.start[k + 1] - errors.start[k]))))
            continue
        Z, levels = rows.effects[name]
        parts.append(errors.rows_of(k, Z, levels))
        if levels is not None and (levels < 0).any():
            unmet += np.where(levels < 0, np.einsum("ma,ab,mb->m", Z, t.Omega, Z), 0.0)
    return errors.variance(rows.X, hstack(parts, format="csr")) + unmet


def level_variance(errors: BlupErrors, k: int, Z: Any, levels: np.ndarray | None) -> np.ndarray:
    """Var(zᵀu) (m,) of rows of component k: zᵀΩz A_ll, A_ll = 1 for a level not met."""
    t = errors.terms[k]
    if levels is None:
        A = errors.rows_of(k, Z, None)
        if t.precision is None:
            return np.asarray(A.multiply(A).sum(axis=1)).ravel()
        from vcbench.inference.inverse import inverse_of

        inverse, r, A = inverse_of(t.precision), len(t.root), csc_matrix(A)
        return sum((inverse.bilinear(A[:, e::r], A[:, e::r]) for e in range(r)), np.zeros(A.shape[0]))
    own = errors.relation_diagonal(k)
    return np.einsum("ma,ab,mb->m", Z, t.Omega, Z) * np.where(levels >= 0, own[levels], 1.0)


def _chosen(model: Model, random: bool | str | Sequence[str]) -> list[str]:
    """Names of the components that are predicted with."""
    names = [c.name for c in model.components]
    if isinstance(random, bool | np.bool_):
        return names if random else []
    asked = [random] if isinstance(random, str) else list(random)
    for name in asked:
        if name not in names:
            raise MethodError(
                f"`random` names `{name}`, which is no component.{did_you_mean(str(name), names)} Choose from "
                f"{', '.join(names) or 'none: the model has no random effects'}."
            )
    return [name for name in names if name in asked]
