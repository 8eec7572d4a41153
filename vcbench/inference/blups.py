"""Tables of the random effects: BLUPs with standard errors, reliabilities and covariances, by component and level.

Errors of prediction are those of `blup_errors`: Var(û − u), β̂ estimated, θ taken as known. Reliability is
r² = 1 − Var(û − u)/Var(u), the squared correlation of û and u where β is known; Var(u) = A_ll Ω_aa, A_ll = 1 + F for an
inbred animal (Mrode 2014, ch. 3). It is 0 for a level of which the data say nothing, and never less: the best
predictor is no worse than 0.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.inference.blup_errors import BlupErrors
from vcbench.inference.intervals import quantile

if TYPE_CHECKING:
    import pandas as pd


def errors_of(fit: Any, what: str) -> BlupErrors:
    """C of the mixed-model equations at a fit's θ̂. MethodError for a fit without data or without an estimate."""
    model = fit._need_model(what)
    if not fit.is_estimate:
        raise MethodError(f"{what} needs an estimate; this fit ended {fit.status} with none. Fit by another method.")
    return BlupErrors.at(model, fit.theta_values)


def index_of(component: Any, n: int) -> list[Any]:
    """Labels of n levels; numbers where they have none."""
    return list(component.levels) if len(component.levels) == n else list(range(n))


def ranef_se(fit: Any) -> "dict[str, pd.DataFrame]":
    """√Var(û − u), laid out as `ranef`."""
    errors = errors_of(fit, "ranef_se()")
    return _frames(errors, [np.sqrt(_diagonal(errors.errors(k))) for k in range(len(errors.terms))])


def reliability(fit: Any) -> "dict[str, pd.DataFrame]":
    """r² = 1 − Var(û − u)/Var(u), laid out as `ranef`; NaN where Var(u) is 0."""
    errors = errors_of(fit, "reliability()")
    return _frames(errors, [_reliability(errors, k) for k in range(len(errors.terms))])


def covariances(fit: Any, beta: str = "known") -> dict[str, np.ndarray]:
    """Covariance of each level's effects (levels, r, r): Cov(u | y) with β "known" (lme4's condVar), or Cov(û − u) with
    β "estimated"."""
    if beta not in ("known", "estimated"):
        raise MethodError(f'`beta` is {beta!r}; it must be "known" or "estimated".')
    errors = errors_of(fit, "condvar()")
    of = errors.conditional if beta == "known" else errors.errors
    return {t.component.name: of(k) for k, t in enumerate(errors.terms)}


def blup(fit: Any, level: float = 0.95, component: str | None = None) -> "pd.DataFrame":
    """One row an effect of a level: component, level, effect, estimate, se = √Var(û − u), lower, upper, reliability."""
    import pandas as pd

    z = quantile(level)
    errors = errors_of(fit, "blup()")
    names = [t.component.name for t in errors.terms]
    if component is not None and component not in names:
        raise MethodError(
            f"unknown component `{component}`.{did_you_mean(component, names)} Choose from {', '.join(names)}."
        )
    estimates, parts = fit.ranef(), []
    for k, name in enumerate(names):
        if component not in (None, name):
            continue
        table = estimates[name]
        n, r = table.shape
        value = table.to_numpy().ravel()
        se = np.sqrt(_diagonal(errors.errors(k))).ravel()
        columns = {
            "component": name,
            "level": np.repeat(np.array(table.index, object), r),
            "effect": np.tile(np.array(table.columns, object), n),
            "estimate": value,
            "se": se,
            "lower": value - z * se,
            "upper": value + z * se,
            "reliability": _reliability(errors, k).ravel(),
        }
        parts.append(pd.DataFrame(columns))
    if not parts:
        return pd.DataFrame(columns=["component", "level", "effect", "estimate", "se", "lower", "upper", "reliability"])
    return pd.concat(parts, ignore_index=True)


def _diagonal(blocks: np.ndarray) -> np.ndarray:
    return np.maximum(np.einsum("laa->la", blocks), 0.0)


def _reliability(errors: BlupErrors, k: int) -> np.ndarray:
    own, prior = _diagonal(errors.errors(k)), _diagonal(errors.prior(k))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(prior > 0, 1.0 - own / prior, np.nan)


def _frames(errors: BlupErrors, values: list[np.ndarray]) -> "dict[str, pd.DataFrame]":
    import pandas as pd

    out = {}
    for t, value in zip(errors.terms, values, strict=True):
        c = t.component
        out[c.name] = pd.DataFrame(value, index=index_of(c, len(value)), columns=list(c.effects))
    return out
