"""Intervals of every kind from one door: Wald on a chosen scale, profile likelihood, parametric bootstrap, posterior.

A Wald interval is symmetric on one scale and given on another: θ̂ ± z·se on the variance, the SD (v ≥ 0), or the
logarithm, v̂·exp(± z·se/v̂); of a correlation on the scale of atanh ρ. None exists on the boundary.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.inference.variances import Row, check_scale, estimates, on_boundary, rows_of

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("wald", "profile", "bootstrap", "posterior")
SYMMETRIC = ("var", "sd", "log")
OPTIONS = {  # what each kind takes besides parameters, level and scale
    "wald": ("symmetric_on", "cov_type"),
    "profile": ("criterion",),
    "bootstrap": ("n", "type", "seed"),
    "posterior": ("seed",),
}
BY_AVERAGE = "large: its profile is not drawn unasked"


def check_level(level: float) -> None:
    """MethodError unless level is a confidence level."""
    if not (isinstance(level, int | float) and 0 < level < 1):
        raise MethodError(f"`level` is {level!r}; it must be a confidence level between 0 and 1, such as 0.95.")


def quantile(level: float) -> float:
    """z with Φ(z) = ½ + level/2."""
    from scipy.special import ndtri

    check_level(level)
    return float(ndtri(0.5 + level / 2))


def confint(
    fit: Any,
    kind: str = "wald",
    level: float = 0.95,
    parameters: str | Sequence[str] | None = None,
    scale: str = "var",
    **options: Any,
) -> "pd.DataFrame":
    """See `Fit.confint`."""
    if kind not in KINDS:
        raise MethodError(f"unknown interval `{kind}`. Choose from {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    check_level(level)
    check_scale(scale, ("var", "sd"))
    for key in options:
        if key not in OPTIONS[kind]:
            own = ", ".join(OPTIONS[kind])
            raise MethodError(
                f"`{kind}` intervals have no option `{key}`.{did_you_mean(key, OPTIONS[kind])} They have {own}."
            )
    wanted = [parameters] if isinstance(parameters, str) else None if parameters is None else list(parameters)
    if kind == "wald":
        return _wald_table(fit, wanted, scale, level, **options)
    if kind == "posterior":
        return _posterior_table(fit, wanted, scale, level, **options)
    if kind == "profile":
        from vcbench.inference.profile import profile_table

        return profile_table(fit, wanted, scale, level, **options)
    from vcbench.inference.bootstrap import bootstrap_table

    return bootstrap_table(fit, wanted, scale, level, **options)


def wald_limits(
    kind: str, estimate: float, se: float, z: float, symmetric_on: str | None = None
) -> tuple[float, float]:
    """Limits of one parameter, a row's `kind`, on its own scale; symmetric where `symmetric_on` says (None: there)."""
    if math.isnan(se) or math.isnan(estimate):
        return math.nan, math.nan
    half = z * se
    if symmetric_on is None or kind in ("covariance", "other", "fixed"):
        return estimate - half, estimate + half
    if kind == "correlation":
        if symmetric_on != "log" or not abs(estimate) < 1:
            return estimate - half, estimate + half
        centre, spread = math.atanh(estimate), half / (1 - estimate**2)
        return math.tanh(centre - spread), math.tanh(centre + spread)
    if not estimate > 0:
        return math.nan, math.nan
    if symmetric_on == "log":
        with np.errstate(over="ignore"):  # near 0 there may be no upper limit
            ratio = float(np.exp(half / estimate))
        return estimate / ratio, estimate * ratio
    if kind == "sd":
        if symmetric_on == "sd":
            return max(estimate - half, 0.0), estimate + half
        v, spread = estimate**2, 2 * estimate * half
        return math.sqrt(max(v - spread, 0.0)), math.sqrt(v + spread)
    if symmetric_on == "var":
        return estimate - half, estimate + half
    s, spread = math.sqrt(estimate), half / (2 * math.sqrt(estimate))
    return max(s - spread, 0.0) ** 2, (s + spread) ** 2


def table_limits(
    fit: Any,
    rows: Sequence[Row],
    values: np.ndarray,
    errors: np.ndarray,
    scale: str,
    level: float,
    interval: str,
    cov_type: str | None,
) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """(lower, upper, note by name) of the rows of `varcomp`; `interval` "auto" is Wald, and profile on the boundary."""
    known = ("auto", *KINDS)
    if interval not in known:
        raise MethodError(
            f"unknown interval `{interval}`. Choose from {', '.join(known)}.{did_you_mean(interval, known)}"
        )
    names = [r.name for r in rows]
    if interval in ("profile", "bootstrap", "posterior") and not (interval == "posterior" and scale == "var"):
        table = confint(fit, interval, level, names, "var" if scale == "var" else "sd")
        return table["lower"].to_numpy(), table["upper"].to_numpy(), table.attrs.get("notes", {})
    if fit.limits is not None:
        if scale == "var":
            at = [r.at for r in rows]
            return fit.limits["theta_lower"][at], fit.limits["theta_upper"][at], {}
        z = quantile(level)
        return values - z * errors, values + z * errors, {}
    z = quantile(level)
    limits = np.array([wald_limits(r.kind, v, s, z) for r, v, s in zip(rows, values, errors, strict=True)])
    limits = limits.reshape(len(rows), 2)
    notes: dict[str, str] = {}
    edge = on_boundary(fit)
    bound = [i for i, r in enumerate(rows) if edge[r.at]]
    if not bound or fit.is_moments:
        return limits[:, 0], limits[:, 1], notes
    limits[bound] = math.nan
    said = _boundary_limits(fit, [names[i] for i in bound], scale, level) if interval == "auto" else {}
    for i in bound:
        lo, hi, why = said.get(names[i], (math.nan, math.nan, 'take interval="profile"'))
        limits[i] = lo, hi
        notes[names[i]] = f"on the boundary, where no Wald interval exists: {why}"
    return limits[:, 0], limits[:, 1], notes


def _boundary_limits(fit: Any, names: list[str], scale: str, level: float) -> dict[str, tuple[float, float, str]]:
    """(lower, upper, what they are) by name, kept with the fit and in its JSON."""
    known = fit.cache.setdefault("boundary limits", {})
    new = [name for name in names if f"{name} @ {level}" not in known]
    if new:
        reason = _no_profile(fit)
        found = np.full((len(new), 2), math.nan)
        if not reason:
            table = confint(fit, "profile", level, new, "var" if scale == "var" else "sd")
            found, reason = table[["lower", "upper"]].to_numpy(), "limits by profile likelihood"
        for name, (lo, hi) in zip(new, found.tolist(), strict=True):
            known[f"{name} @ {level}"] = lo, hi, reason
    return {name: known[f"{name} @ {level}"] for name in names}


def _no_profile(fit: Any) -> str:
    """Why no profile interval is worked out unasked, or ""."""
    from vcbench.kernels.choose import build

    if fit.model is None:
        return "this fit was read from JSON and has no data for a profile"
    if not fit.is_estimate or not fit.status.ok:
        return "the fit is no maximum, so that nothing can be profiled"
    if getattr(build(fit.model, fit.kernel), "standard_information", "observed") == "average":
        return 'the model is large: ask for confint("profile")'
    return ""


def _wald_table(
    fit: Any,
    parameters: list[str] | None,
    scale: str,
    level: float,
    symmetric_on: str | None = None,
    cov_type: str | None = None,
) -> "pd.DataFrame":
    if symmetric_on is not None:
        check_scale(symmetric_on, SYMMETRIC)
    z = quantile(level)
    rows = rows_of(fit.facts.theta_names, fit.facts.is_variance, scale)
    values, errors = estimates(fit, rows, cov_type)
    edge = on_boundary(fit) & (not fit.is_moments)
    found, notes = {}, {}
    for row, value, se in zip(rows, values, errors, strict=True):
        found[row.name] = wald_limits(row.kind, value, se, z, symmetric_on)
        if edge[row.at]:
            found[row.name] = math.nan, math.nan
            notes[row.name] = 'on the boundary, where there is no Wald interval: take kind="profile" or "bootstrap"'
    se = fit.beta_se.to_numpy()
    for name, value, error in zip(fit.facts.beta_names, fit.beta_values, se, strict=True):
        found[name] = wald_limits("fixed", value, error, z)
    for said in parameters or []:
        if said not in found:  # a function of the parameters, by the delta method
            from vcbench.inference.functions import delta
            from vcbench.inference.quantities import quantity_of

            q = quantity_of(fit.facts, said)
            found[said] = wald_limits(q.kind, *delta(fit, q), z, symmetric_on)
    return _framed(found, parameters, notes, level, "wald", fit)


def _posterior_table(
    fit: Any, parameters: list[str] | None, scale: str, level: float, seed: int | None = None
) -> "pd.DataFrame":
    """The posterior's own limits; of a fit by another method, those of the model's twin (exact quadrature for up to
    three variance parameters, else NUTS)."""
    if fit.limits is None:
        fit = _twin_fit(fit, seed)
    if level != 0.95:
        raise MethodError(f"`level` is {level}; limits of a posterior are kept at 0.95.")
    found = {}
    for row in rows_of(fit.facts.theta_names, fit.facts.is_variance, scale):
        lo, hi = (float(fit.limits[f"theta_{side}"][row.at]) for side in ("lower", "upper"))
        if row.kind == "sd":  # a monotone function of the variance keeps its quantiles
            lo, hi = math.sqrt(max(lo, 0.0)), math.sqrt(max(hi, 0.0))
        elif row.expression != f"`{fit.facts.theta_names[row.at]}`":
            lo = hi = math.nan
        found[row.name] = lo, hi
    for name, lo, hi in zip(fit.facts.beta_names, fit.limits["beta_lower"], fit.limits["beta_upper"], strict=True):
        found[name] = float(lo), float(hi)
    notes = {
        n: "a function of several parameters: take it from the draws" for n, v in found.items() if math.isnan(v[0])
    }
    return _framed(found, parameters, notes, level, "posterior", fit)


def _twin_fit(fit: Any, seed: int | None) -> Any:
    from vcbench.fit import fit as fit_one

    model = fit._need_model('confint("posterior")')
    criterion = fit.criterion if fit.criterion in ("ml", "reml") else None
    if "posterior" not in fit.cache or seed is not None:
        method = "quadrature" if model.n_theta <= 3 else "nuts"
        fit.cache["posterior"] = fit_one(model, method, criterion, seed=0 if seed is None else seed)
    return fit.cache["posterior"]


def _framed(
    found: dict[str, tuple[float, float]],
    parameters: list[str] | None,
    notes: dict[str, str],
    level: float,
    kind: str,
    fit: Any,
) -> "pd.DataFrame":
    """The frame of limits, of the parameters asked for."""
    import pandas as pd

    names = list(found) if parameters is None else parameters
    for name in names:
        if name not in found:
            raise MethodError(f"`{name}` is no parameter of this fit.{did_you_mean(name, found)} It has: "
                              f"{', '.join(found)}.")  # fmt: skip
    values = np.array([found[name] for name in names], float).reshape(len(names), 2)
    frame = pd.DataFrame({"lower": values[:, 0], "upper": values[:, 1]}, index=names)
    frame.attrs.update(level=level, kind=kind, notes={n: notes[n] for n in names if n in notes})
    return frame
