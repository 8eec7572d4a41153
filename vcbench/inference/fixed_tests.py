"""Tests of fixed effects: coefficients, contrasts, terms; t and F with the degrees of freedom that were asked for.

`DF` names the ways: "satterthwaite" (the default) and "kenward-roger" take account of V being estimated; "residual" is
n − d for all, "inf" the normal distribution and χ²/q.

A parameter of θ on the boundary is held there: degrees of freedom are those of the model without it. For Satterthwaite
that is lmerTest's answer too (its Hessian in Cholesky factors and σ has no slope there); pbkrtest goes on as if the
parameter were inside.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import MethodError, did_you_mean
from vcbench.inference.contrasts import Hypotheses
from vcbench.inference.denominators import Denominator, FTest, KnownDf, t_probability, t_quantile
from vcbench.inference.equations import Equations
from vcbench.inference.kenward_roger import KenwardRoger
from vcbench.inference.satterthwaite import Satterthwaite
from vcbench.inference.term_hypotheses import term_hypotheses

if TYPE_CHECKING:
    import pandas as pd

DF = ("satterthwaite", "kenward-roger", "residual", "inf")
ALIASES = {"kr": "kenward-roger", "kenwardroger": "kenward-roger", "normal": "inf", "wald": "inf", "z": "inf"}


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """A test of L β = r. table: one row a row of L; estimate, se, lower and upper are those of Lβ, t = (Lβ̂ − r)/se has
    df and p. F, numerator_df, denominator_df and p_value are those of all rows together; notes say what to know."""

    table: "pd.DataFrame"
    joint: FTest
    df: str
    level: float
    L: np.ndarray = field(repr=False)
    value: np.ndarray = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def F(self) -> float:
        """The F statistic of all rows; Kenward and Roger's λ is in it."""
        return self.joint.F

    @property
    def numerator_df(self) -> int:
        """The rank of L."""
        return self.joint.numerator

    @property
    def denominator_df(self) -> float:
        """Denominator degrees of freedom of F."""
        return self.joint.denominator

    @property
    def p_value(self) -> float:
        """P(F(q, ν) > F)."""
        return self.joint.p_value

    def __str__(self) -> str:
        q, nu = self.numerator_df, self.denominator_df
        last = f"F({q}, {nu:.6g}) = {self.F:.6g}, p = {self.p_value:.4g}   (df: {self.df})"
        return "\n".join([self.table.to_string(), last, *self.notes])


def coefficients(
    fit: Any, df: str = "satterthwaite", level: float = 0.95, cov_type: str | None = None
) -> "pd.DataFrame":
    """One row a fixed effect: estimate, se, df, t, p, lower, upper; `attrs` holds df, level and notes."""
    check_level(level)
    way, notes = denominator(fit, df, cov_type)
    names = list(fit.facts.beta_names)
    return _table(way, np.eye(len(names)), fit.beta_values, np.zeros(len(names)), names, level, notes)


def contrast(fit: Any, L: Any, df: str = "satterthwaite", level: float = 0.95, cov_type: str | None = None) -> Contrast:
    """The test of linear hypotheses; `L` as `contrasts.Hypotheses` reads it."""
    check_level(level)
    given = Hypotheses.read(L, fit.facts.beta_names)
    way, notes = denominator(fit, df, cov_type)
    estimate = given.L @ fit.beta_values - given.value
    joint = way.joint(given.L, estimate)
    if joint.note:
        notes = (*notes, f"{joint.note}.")
    table = _table(way, given.L, given.L @ fit.beta_values, given.value, list(given.labels), level, notes)
    return Contrast(table, joint, way.name, level, given.L, given.value, notes)


def anova(fit: Any, kind: Any = 3, df: str = "satterthwaite", cov_type: str | None = None) -> "pd.DataFrame":
    """One row a term of the fixed part: F, numerator_df, denominator_df, p; `attrs` holds type, df and notes.

    kind: 1, 2 or 3, see `term_hypotheses`. A term without columns in X has NaN.
    """
    import pandas as pd

    _need_data(fit, "an analysis of variance")
    hypotheses = term_hypotheses(_estimated(fit).model, kind)
    way, notes = denominator(fit, df, cov_type)
    rows = []
    for label, L in hypotheses.items():
        if not len(L):
            rows.append((math.nan, 0, math.nan, math.nan))
            continue
        test = way.joint(L, L @ fit.beta_values)
        rows.append((test.F, test.numerator, test.denominator, test.p_value))
        if test.note:
            notes = (*notes, f"{label}: {test.note}.")
    columns = ["F", "numerator_df", "denominator_df", "p"]
    out = pd.DataFrame(rows, columns=columns, index=pd.Index(list(hypotheses), name="term"))
    out.attrs.update(type=kind, df=way.name, notes=notes)
    return out


def denominator(
    fit: Any, df: str = "satterthwaite", cov_type: str | None = None
) -> tuple[Denominator, tuple[str, ...]]:
    """(The way of `DF` at this fit, notes on it); made once a fit.

    cov_type: the information from which Satterthwaite's Cov(θ̂) comes, as in `Fit.theta_cov`. MethodError for a name
    that is not in `DF`, a fit without data or with V not positive definite, a posterior, and where Kenward and Roger's
    method is not defined (ML, moments).
    """
    name = str(df).lower().replace("_", "-")
    name = ALIASES.get(name, name)
    if name not in DF:
        raise MethodError(f"unknown degrees of freedom `{df}`. Choose from {', '.join(DF)}.{did_you_mean(name, DF)}")
    if cov_type is not None and name != "satterthwaite":
        raise MethodError(f'cov_type="{cov_type}" is for df="satterthwaite"; df="{name}" has no choice of information.')
    key = f"tests of beta: {name} {cov_type or ''}"
    if key not in fit.cache:
        fit.cache[key] = _denominator(_estimated(fit), name, cov_type)
    return fit.cache[key]


def check_level(level: float) -> None:
    """MethodError for a level that is no confidence level."""
    if not 0.0 < level < 1.0:
        raise MethodError(f"level is {level!r}; it is a confidence level between 0 and 1, such as 0.95.")


def _denominator(fit: Any, name: str, cov_type: str | None) -> tuple[Denominator, tuple[str, ...]]:
    if name == "kenward-roger" and (fit.is_moments or fit.criterion != "reml"):
        was = "by moments" if fit.is_moments else "by maximum likelihood"
        raise MethodError(
            f'Kenward and Roger\'s method is defined for REML; this fit is {was}. Fit with criterion="reml", or use '
            'df="satterthwaite".'
        )
    if name == "inf":
        return KnownDf(name, fit.beta_cov(), math.inf), ()
    if name == "residual":
        return KnownDf(name, fit.beta_cov(), float(fit.facts.n_obs - len(fit.beta_values))), ()
    _need_data(fit, f'df="{name}"')
    if any(
        np.linalg.eigvalsh(Omega).min() < -1e-9 * np.abs(Omega).max() for Omega in fit.model.Omegas(fit.theta_values)
    ):
        raise MethodError(
            f'df="{name}" needs covariance matrices of random effects that are positive semi-definite; these raw '
            'estimates by moments are not. Fit by REML, or use df="residual".'
        )
    if "equations" not in fit.cache:
        fit.cache["equations"] = Equations.at(fit.model, fit.theta_values)
    kind = "expected" if name == "kenward-roger" else cov_type
    cov = fit.theta_cov(kind)
    used = fit.cache.get(f"{kind or 'default'}:used", "")
    notes = list(_boundary(fit, cov))
    if used == "none":
        raise MethodError(
            f'df="{name}" needs the covariance of the variance parameters, whose information is singular here. '
            'Use df="residual".'
        )
    if name == "satterthwaite" and used in ("expected", "average"):
        more = (
            ' (cov_type="observed" takes the exact one, which is dear here)' if used == "average" and not kind else ""
        )
        notes.append(f"Degrees of freedom use the {used} information of the variance parameters{more}.")
    way = KenwardRoger if name == "kenward-roger" else Satterthwaite
    return way.of(fit.cache["equations"], cov), tuple(notes)


def _need_data(fit: Any, what: str) -> None:
    if fit.model is None:
        raise MethodError(f"{what} needs the data; this fit was read from JSON. Fit the model again.")


def _boundary(fit: Any, cov: np.ndarray) -> Sequence[str]:
    """A sentence where parameters are held on the boundary."""
    at = [n for n, v in zip(fit.facts.theta_names, np.diag(cov), strict=True) if not math.isfinite(v)]
    if at:
        verb = "is" if len(at) == 1 else "are"
        return [f"{', '.join(at)} {verb} on the boundary and held there: degrees of freedom are those without."]
    if fit.status.name == "AT_BOUNDARY":
        return [
            "A covariance matrix of random effects is singular: degrees of freedom let it vary within its rank only."
        ]
    return []


def _estimated(fit: Any) -> Any:
    """The fit, if it has what tests of β need."""
    if fit.limits is not None:
        raise MethodError(
            f"method `{fit.method}` gives a posterior, whose fixed effects are not tested but have credible intervals: "
            'fit.confint("posterior"). For tests fit by REML.'
        )
    if not fit.is_estimate:
        raise MethodError(
            f"this fit ended {fit.status}: V is not positive definite, so that nothing can be said of the fixed "
            "effects. Fit by another method."
        )
    return fit


def _table(
    way: Denominator,
    L: np.ndarray,
    at: np.ndarray,
    value: np.ndarray,
    labels: list[str],
    level: float,
    notes: tuple[str, ...],
) -> "pd.DataFrame":
    """t tests of L β = value, row by row; at = L β̂."""
    import pandas as pd

    variance, df = way.rows(L)
    with np.errstate(invalid="ignore"):
        se = np.sqrt(variance)
    t = (at - value) / se
    half = t_quantile(level, df) * se
    out = pd.DataFrame(
        {
            "estimate": at,
            "se": se,
            "df": df,
            "t": t,
            "p": t_probability(t, df),
            "lower": at - half,
            "upper": at + half,
        },
        index=labels,
    )
    out.attrs.update(df=way.name, level=level, notes=notes)
    return out
