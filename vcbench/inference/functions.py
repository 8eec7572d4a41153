"""Functions of θ and β: h², an ICC, a ratio, any user's function; delta, profile and bootstrap intervals from one call.

Delta method: Var g(θ̂, β̂) = ∇_θ gᵀ Cov(θ̂) ∇_θ g + ∇_β gᵀ Cov(β̂) ∇_β g       (θ̂ and β̂ are asymptotically independent)
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.inference.intervals import check_level, quantile
from vcbench.inference.quantities import Quantity, quantity_of

if TYPE_CHECKING:
    import pandas as pd

WAYS = ("delta", "profile", "bootstrap")


def derive(
    fit: Any, said: "str | Callable", interval: str | Sequence[str] = "delta", level: float = 0.95, **options: Any
) -> "pd.Series | pd.DataFrame":
    """See `Fit.derive`."""
    import pandas as pd

    check_level(level)
    wanted = list(WAYS) if interval == "all" else [interval] if isinstance(interval, str) else list(interval)
    for way in wanted:
        if way not in WAYS:
            raise MethodError(f"unknown interval `{way}`. Choose from {', '.join(WAYS)}, all."
                              f"{did_you_mean(way, (*WAYS, 'all'))}")  # fmt: skip
    unknown = [key for key in options if key not in ("n", "type", "seed")]
    if unknown or (options and "bootstrap" not in wanted):
        key = (unknown or list(options))[0]
        raise MethodError(f"`{key}` is no option of these intervals; `n`, `type` and `seed` are those of bootstrap.")
    q = quantity_of(fit.facts, said)
    estimate, se = delta(fit, q)
    rows: dict[str, dict[str, Any]] = {}
    for way in wanted:
        if way == "delta":
            z = quantile(level)
            rows[way] = {
                "estimate": estimate,
                "se": se,
                "lower": estimate - z * se,
                "upper": estimate + z * se,
                "note": "",
            }
            continue
        table = fit.confint(way, level, [said], **(options if way == "bootstrap" else {}))
        lower, upper = (float(table[side].iloc[0]) for side in ("lower", "upper"))
        note = "; ".join(table.attrs.get("notes", {}).values())
        error = float(table["se"].iloc[0]) if "se" in table else math.nan
        rows[way] = {"estimate": estimate, "se": error, "lower": lower, "upper": upper, "note": note}
    if isinstance(interval, str) and interval != "all":
        row = dict(rows[interval])
        note = row.pop("note")
        out = pd.Series(row, name=q.name)
        out.attrs["note"] = note
        return out
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = q.name
    return frame


def delta(fit: Any, q: Quantity) -> tuple[float, float]:
    """(g, its standard error by the delta method); NaN where g does not exist, and on the boundary."""
    theta, beta = fit.theta_values, fit.beta_values
    if not q.uses_beta:  # β̂ does not exist where moments left V singular, and is no matter here
        beta = np.zeros_like(beta)
    value, gradient, _ = q.jet(theta, beta)
    if math.isnan(value):
        return math.nan, math.nan
    p = len(theta)
    total = 0.0
    for part, cov in ((gradient[:p], fit.theta_cov()), (gradient[p:], fit.beta_cov() if q.uses_beta else None)):
        used = part != 0
        if cov is not None and used.any():
            total += float(part[used] @ cov[np.ix_(used, used)] @ part[used])
    return value, math.sqrt(total) if total >= 0 else math.nan
