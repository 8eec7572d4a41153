"""What the page of a fit says, as plain values: lines of variances, shares and tests, fixed effects, and notes.

Worked out once a fit and kept in its JSON, so that a fit that was read back says the same. Profile intervals, tests of
the random terms and Satterthwaite's degrees of freedom are asked for where they take no time that a reader would
notice (`is_light`); elsewhere the page says what stands in their place and how to ask for them.
"""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.errors import VcbenchError
from vcbench.inference.intervals import quantile, wald_limits
from vcbench.inference.variances import estimates, names_known, on_boundary, rows_of

if TYPE_CHECKING:
    from vcbench.fitted import Fit

LEVEL = 0.95
PROFILE = "profile likelihood"
MOST_PARAMETERS = 12
LARGEST_BLOCK = 100  # rows of a residual structure's block
LARGEST_DENSE = 500
MOST_SHARES = 4  # components whose shares of the total get a line each


@dataclass(frozen=True, slots=True)
class Line:
    """One variance parameter. `sd` of a variance, `cor` of a covariance; `share` of the total, where units agree."""

    component: str
    parameter: str
    kind: str
    estimate: float
    se: float
    lower: float
    upper: float
    sd: float
    cor: float
    share: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """A fixed effect or a function of θ: estimate, se, limits; df, statistic and p of a test that it is 0."""

    name: str
    estimate: float
    se: float
    lower: float
    upper: float
    df: float = math.nan
    statistic: float = math.nan
    p: float = math.nan


@dataclass(frozen=True, slots=True)
class TermTest:
    """The test that a random term is not needed."""

    term: str
    statistic: float
    p: float
    null: str


@dataclass(frozen=True, slots=True)
class Account:
    """interval: the kind of limits that the lines of variances have; df: the degrees of freedom of the fixed effects,
    "" for the normal distribution."""

    interval: str
    lines: tuple[Line, ...]
    total: Effect | None
    shares: tuple[Effect, ...]
    tests: tuple[TermTest, ...]
    fixed: tuple[Effect, ...]
    df: str
    slopes: tuple[tuple[str, float], ...]  # score of each variance that is 0
    raw: tuple[tuple[str, float], ...]  # what the method of moments finds for them
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "Account":
        """What `to_dict` gave; null numbers are NaN."""

        def made(kind: Any, values: Any) -> Any:
            return kind(**{k: math.nan if v is None else v for k, v in values.items()})

        return cls(
            d["interval"],
            tuple(made(Line, v) for v in d["lines"]),
            None if d["total"] is None else made(Effect, d["total"]),
            tuple(made(Effect, v) for v in d["shares"]),
            tuple(made(TermTest, v) for v in d["tests"]),
            tuple(made(Effect, v) for v in d["fixed"]),
            d["df"],
            tuple((name, value) for name, value in d["slopes"]),
            tuple((name, value) for name, value in d["raw"]),
            tuple(d["notes"]),
        )


def account_of(fit: "Fit") -> Account:
    """The account of a fit, worked out at its first asking."""
    if "account" not in fit.cache:
        fit.cache["account"] = _account(fit)
    return fit.cache["account"]


def is_light(fit: "Fit") -> bool:
    """True for a maximum of a likelihood whose profile takes no time worth speaking of: few parameters, and a kernel
    whose information is cheap."""
    from vcbench.kernels.choose import build
    from vcbench.kernels.structured import WorkingView
    from vcbench.kernels.units import Units

    maximum = fit.limits is None and not fit.is_moments and fit.is_estimate and fit.status.ok
    if not maximum or fit.model is None or len(fit.theta_values) > MOST_PARAMETERS:
        return False
    kernel: Any = build(fit.model, fit.kernel)
    inner = kernel.view.inner if isinstance(getattr(kernel, "view", None), WorkingView) else kernel
    if isinstance(inner, Units):
        return inner.largest <= LARGEST_BLOCK
    if getattr(inner, "standard_information", "observed") == "average":
        return False
    return inner.name != "dense" or fit.facts.n_obs <= LARGEST_DENSE


def _account(fit: "Fit") -> Account:
    light = is_light(fit)
    rows = rows_of(fit.facts.theta_names, fit.facts.is_variance)
    values, errors = estimates(fit, rows)
    names = [r.name for r in rows]
    notes: list[str] = []
    lower, upper, interval = _limits(fit, light, rows, values, errors, notes)
    known = names_known(fit.facts)
    total = float(known["total"] @ fit.theta_values)
    # the share of a slope's variance depends on the unit of its covariate: none is given then
    shared = total > 0 and all(r.kind == "variance" and r.parameter in ("var", "var((Intercept))") for r in rows)
    edge = on_boundary(fit) & (not fit.is_moments)
    other_rows = rows_of(fit.facts.theta_names, fit.facts.is_variance, "sd")
    other = estimates(fit, other_rows)[0]  # SDs and correlations, line by line
    lines = []
    for i, (r, o) in enumerate(zip(rows, other_rows, strict=True)):
        sd = float(other[i]) if o.kind == "sd" else math.nan
        cor = float(other[i]) if r.kind == "covariance" else math.nan
        share = float(values[i]) / total if shared else math.nan
        note = "at boundary" if edge[r.at] and not values[i] else "singular" if edge[r.at] else ""
        value, se, low, high = (float(x[i]) for x in (values, errors, lower, upper))
        lines.append(Line(r.component, r.parameter, r.kind, value, se, low, high, sd, cor, share, note))
    shares, whole = _shares(fit, interval == PROFILE, shared, rows)
    fixed, df = _fixed(fit, light, notes)
    zeros = [names[i] for i, r in enumerate(rows) if r.kind == "variance" and edge[r.at] and values[i] == 0]
    slopes, raw = _at_zero(fit, zeros) if light else ((), ())
    tests = _tests(fit, notes) if light else ()
    return Account(interval, tuple(lines), whole, shares, tests, fixed, df, slopes, raw, tuple(notes))


def _limits(fit: "Fit", light: bool, rows: Any, values: Any, errors: Any, notes: list[str]) -> tuple[Any, Any, str]:
    """(lower, upper, what they are called)."""
    names = [r.name for r in rows]
    if fit.limits is not None:
        return fit.limits["theta_lower"], fit.limits["theta_upper"], "posterior"
    if light:
        try:
            table = fit.confint("profile", LEVEL, names)
        except VcbenchError as error:  # a likelihood without a maximum that can be profiled: said on the page
            notes.append(f"no profile intervals: {error}")
        else:
            notes += [f"{name}: {note}" for name, note in table.attrs.get("notes", {}).items() if _is_news(note)]
            return table["lower"].to_numpy(), table["upper"].to_numpy(), PROFILE
    if not fit.status.ok and not fit.is_moments:
        nothing = np.full(len(rows), math.nan)
        return nothing, nothing, "none, for this is no maximum"
    z, on = quantile(LEVEL), None if fit.is_moments else "log"
    found = np.array([wald_limits(r.kind, v, s, z, on) for r, v, s in zip(rows, values, errors, strict=True)])
    found = found.reshape(len(rows), 2)
    edge = on_boundary(fit)[[r.at for r in rows]]
    # an estimate within z SE of 0 has a limit on the log scale that means nothing
    vague = np.array([r.kind == "variance" for r in rows]) & ~(values > z * errors)
    found[(edge | vague) & (not fit.is_moments)] = math.nan
    return found[:, 0], found[:, 1], "Wald, from the sandwich" if fit.is_moments else "Wald, on the log scale"


def _is_news(note: str) -> bool:
    """False for what a reader sees in the limits themselves: a limit at 0 or at the end of a range."""
    return bool(note) and "boundary" not in note


def _shares(fit: "Fit", profiled: bool, shared: bool, rows: Any) -> tuple[tuple[Effect, ...], Effect | None]:
    """Each component's share of the total variance, and the total."""
    components = [r for r in rows if r.component != "residual"]
    if not shared or not components or fit.limits is not None:
        return (), None
    whole = fit.derive("total")
    total = Effect("total", whole["estimate"], whole["se"], math.nan, math.nan)
    if len(components) > MOST_SHARES:
        return (), total
    grouped = {c.name for c in fit.model.components if c.is_grouped} if fit.model is not None else set()
    out = []
    for r in components:
        label = f"ICC({r.component})" if r.component in grouped else f"share of {r.component}"
        expression = f"`{r.name}` / total"
        found = fit.derive(expression)
        limits = (math.nan, math.nan)
        if profiled:
            limits = tuple(fit.confint("profile", LEVEL, [expression]).iloc[0][["lower", "upper"]])
        out.append(Effect(label, found["estimate"], found["se"], *map(float, limits)))
    return tuple(out), total


def _fixed(fit: "Fit", light: bool, notes: list[str]) -> tuple[tuple[Effect, ...], str]:
    """The fixed effects, and whose degrees of freedom they have."""
    if not len(fit.beta_values):
        return (), ""
    if light:
        try:
            table = fit.test_fixed("satterthwaite", LEVEL)
        except VcbenchError as error:  # degrees of freedom that are not defined: said on the page
            notes.append(f"no degrees of freedom: {error}")
        else:
            notes += [str(note) for note in table.attrs.get("notes", ())]
            rows = [
                Effect(str(name), *(float(r[k]) for k in ("estimate", "se", "lower", "upper", "df", "t", "p")))
                for name, r in table.iterrows()
            ]
            return tuple(rows), "Satterthwaite"
    from scipy.special import ndtr

    kind = "wald" if fit.limits is None else "posterior"
    limits = fit.confint(kind, LEVEL, list(fit.facts.beta_names)).to_numpy()
    out = []
    for name, b, se, (lo, hi) in zip(fit.facts.beta_names, fit.beta_values, fit.beta_se, limits, strict=True):
        z = float(b / se) if se > 0 else math.nan
        p = math.nan if math.isnan(z) else 2.0 * float(ndtr(-abs(z)))
        out.append(Effect(name, float(b), float(se), float(lo), float(hi), math.nan, z, p))
    return tuple(out), ""


def _at_zero(fit: "Fit", zeros: list[str]) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, float], ...]]:
    """The slope of ℓ at each variance that is 0, and what the method of moments finds there."""
    if not zeros:
        return (), ()
    from vcbench.fit import fit as fit_one
    from vcbench.kernels.choose import build

    model = fit._need_model("the account")
    names = list(fit.facts.theta_names)
    score = build(model, fit.kernel).evaluate(fit.theta_values, ("score",), fit.criterion).score
    slopes = () if score is None else tuple((n, float(score[names.index(n)])) for n in zeros)
    if model.is_structured:
        return slopes, ()
    raw = fit_one(model, "moments").theta
    return slopes, tuple((n, float(raw[n])) for n in zeros)


def _tests(fit: "Fit", notes: list[str]) -> tuple[TermTest, ...]:
    """The likelihood-ratio test of each random term: exact for one variance beside σ², elsewhere the mixture of χ²."""
    from vcbench.inference.likelihood_ratio import lrt
    from vcbench.inference.random_tests import reductions, refit_smaller

    model = fit._need_model("the account")
    alone = len(model.components) == 1 and model.components[0].n_effects == 1 and not model.is_structured
    out = []
    for r in reductions(model):
        try:
            test = lrt(refit_smaller(fit, r.model), fit, "auto" if alone else "mixture")
        except VcbenchError as error:  # no distribution is known: said on the page
            notes.append(f"{r.label} is not tested: {error}")
        else:
            out.append(TermTest(r.label, test.statistic, test.p, test.null))
            notes += [f"test without {r.label}: {note}" for note in test.notes]
    return tuple(out)
