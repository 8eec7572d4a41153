"""The table of variance parameters: variances, standard deviations or correlations, each with its own standard error.

SD σ = √v:  se(σ) = se(v)/2σ        correlation ρ = c/√(v_a v_b):  se by ∇ρᵀ Cov(θ̂) ∇ρ
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.inference.derive import derive

if TYPE_CHECKING:
    import pandas as pd

SCALES = ("var", "sd", "cor")
SINGULAR = 1e-9  # of its largest: a smallest eigenvalue of Ω (unit diagonal) below which Ω is singular


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: its halves, its name in an index, its place in θ, what it is, and its expression in θ.

    kind: "variance" | "sd" | "covariance" | "correlation" | "other" (a range, a ratio).
    """

    component: str
    parameter: str
    name: str
    at: int
    kind: str
    expression: str


def check_scale(scale: str, scales: Sequence[str] = SCALES) -> None:
    """MethodError for a scale that is none of `scales`."""
    if scale not in scales:
        quoted = [f'"{s}"' for s in scales]
        raise MethodError(
            f"unknown scale `{scale}`. Choose {', '.join(quoted[:-1])} or {quoted[-1]}.{did_you_mean(scale, scales)}"
        )


def rows_of(theta_names: Sequence[str], is_variance: Sequence[bool], scale: str = "var") -> list[Row]:
    """The lines of the table on a scale: "var" θ itself, "sd" SDs and correlations, "cor" correlations alone."""
    check_scale(scale)
    out = []
    for j, (name, variance) in enumerate(zip(theta_names, is_variance, strict=True)):
        component, parameter = halves(name)
        covariance = parameter.startswith("cov(")
        kind = "variance" if variance else "covariance" if covariance else "other"
        if kind == "other" and is_correlation(parameter):
            kind = "correlation"
        expression = f"`{name}`"
        if scale != "var" and variance:
            kind, parameter, expression = "sd", parameter.replace("var", "sd", 1), f"sqrt(`{name}`)"
        elif scale != "var" and covariance:
            a, b = _pair(theta_names, component, parameter)
            kind, parameter = "correlation", f"cor({a},{b})"
            expression = f"`{name}` / sqrt(`{component}:var({a})` * `{component}:var({b})`)"
        if scale == "cor" and kind != "correlation":
            continue
        out.append(Row(component, parameter, f"{component}:{parameter}", j, kind, expression))
    return out


def names_known(facts: Any) -> dict[str, np.ndarray]:
    """Names that expressions may use, each with its weights on θ: every parameter, a component with one variance by its
    name, `residual`, and `total`, the sum of the variances."""
    names, unit = facts.theta_names, np.eye(len(facts.theta_names))
    out = dict(zip(names, unit, strict=True))
    out["total"] = np.array(facts.is_variance, float)
    for component, _ in facts.groups:
        own = [j for j, n in enumerate(names) if halves(n)[0] == component]
        if len(own) == 1:
            out.setdefault(component, unit[own[0]])
    own = [j for j, n in enumerate(names) if n == "residual:var"]
    if own:  # a residual with a variance for each level has no single one
        out["residual"] = unit[own[0]]
    return out


def estimates(fit: Any, rows: Sequence[Row], cov_type: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(estimate, se) of each row; the SE is NaN on the boundary."""
    theta, cov, known = fit.theta_values, fit.theta_cov(cov_type), names_known(fit.facts)
    values, errors = np.empty(len(rows)), np.empty(len(rows))
    for i, row in enumerate(rows):
        if row.kind in ("sd", "correlation") and row.expression != f"`{fit.facts.theta_names[row.at]}`":
            _, values[i], errors[i] = derive(row.expression, theta, cov, known)
        else:
            values[i] = theta[row.at]
            with np.errstate(invalid="ignore"):
                errors[i] = np.sqrt(cov[row.at, row.at])
    return values, errors


def on_boundary(fit: Any) -> np.ndarray:
    """(p,) True for the parameters of a singular Ω; a variance of 0 is one.

    Near such a point neither the estimate nor its SE is normal: a Wald interval would mislead.
    """
    if "boundary" not in fit.cache:
        names = fit.facts.theta_names
        out = np.array(fit.facts.is_variance) & (fit.theta_values == 0)
        if fit.model is not None and fit.is_estimate:
            model = fit.model
            for c, Omega in zip(model.components, model.Omegas(fit.theta_values), strict=True):
                own = [names.index(n) for n in c.theta_names if n in names]
                if len(own) < len(c.theta_names):
                    continue  # equal to an earlier component
                linear = c.cov.is_linear
                for block in c.partition if linear else [tuple(range(len(Omega)))]:
                    if is_singular(Omega[np.ix_(block, block)]):
                        out[[j for j, (a, _) in zip(own, c.index, strict=True) if a in block] if linear else own] = True
        fit.cache["boundary"] = out
    return fit.cache["boundary"]


def is_singular(Omega: np.ndarray) -> bool:
    """True for an Ω (r, r) with a variance of 0, or singular up to rounding once its diagonal is 1."""
    d = np.sqrt(np.maximum(np.diag(Omega), 0.0))
    if (d == 0).any():
        return True
    return bool(np.linalg.eigvalsh(Omega / np.outer(d, d))[0] < SINGULAR)


def varcomp(
    fit: Any, scale: str = "var", level: float = 0.95, cov_type: str | None = None, interval: str = "auto"
) -> "pd.DataFrame":
    """See `Fit.varcomp`."""
    import pandas as pd

    from vcbench.inference.intervals import check_level, table_limits

    check_level(level)
    rows = rows_of(fit.facts.theta_names, fit.facts.is_variance, scale)
    values, errors = estimates(fit, rows, cov_type)
    lower, upper, notes = table_limits(fit, rows, values, errors, scale, level, interval, cov_type)
    frame = pd.DataFrame(
        {
            "component": [r.component for r in rows],
            "parameter": [r.parameter for r in rows],
            "estimate": values,
            "se": errors,
            "lower": lower,
            "upper": upper,
        }
    )
    frame.attrs.update(level=level, interval=interval, notes=notes)
    return frame


def halves(name: str) -> tuple[str, str]:
    """component and parameter of a θ name; the group name itself may hold a colon (`a:b:var(x)`)."""
    for key in (":var", ":cov"):
        at = name.rfind(key + "(") if key + "(" in name else (name.rfind(key) if name.endswith(key) else -1)
        if at >= 0:
            return name[:at], name[at + 1 :]
    component, _, parameter = name.rpartition(":")
    return component, parameter


def is_correlation(parameter: str) -> bool:
    """True for the correlations of structures: rho, rho1, rho_row, gamma, cor(a,b)."""
    return parameter.startswith(("rho", "gamma", "cor("))


def _pair(theta_names: Sequence[str], component: str, parameter: str) -> tuple[str, str]:
    """The two effects of a covariance; their names may hold commas."""
    if parameter.count(",") == 1:
        a, b = parameter[4:-1].split(",")
        return a, b
    effects = [n.partition(":var(")[2][:-1] for n in theta_names if n.startswith(f"{component}:var(")]
    return next((a, b) for a in effects for b in effects if parameter == f"cov({a},{b})")
