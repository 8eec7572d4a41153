"""The text of a fit: verdict, variance components, fixed effects; and the same tables as Markdown, LaTeX and HTML."""

import html as escape
import math
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from scipy.special import ndtr

from vcbench import numbers as num
from vcbench.status import Status

if TYPE_CHECKING:
    from vcbench.fitted import Fit

CRITERIA = {"reml": "REML", "ml": "maximum likelihood", "none": "method of moments"}
WIDTH = 100  # columns of text
LOGLIK = {"reml": "logLik (REML)", "ml": "logLik", "none": "REML logLik at the estimate"}


def summarise(fit: "Fit") -> str:
    """The fit on a page: what was fitted, how it ended, what was estimated."""
    from vcbench import __version__

    estimand = "none" if fit.is_moments else fit.criterion
    title = f"Linear mixed model, {CRITERIA[estimand]}" if fit.limits is None else "Linear mixed model, posterior"
    lines = [f"{title:<68}vcbench {__version__}"]
    if fit.facts.formula:
        lines.append(fit.facts.formula)
    groups = "".join(f" · {name}: {what}" for name, what in fit.facts.groups)
    lines.append(f"{fit.facts.n_obs} rows used ({fit.facts.n_dropped} dropped){groups}")
    lines += folded(verdict(fit))
    lines += ["", *_variances(fit), "", *_fixed(fit), "", *_anova(fit), *folded(_notes(fit))]
    return "\n".join(lines).rstrip()


def folded(lines: Sequence[str], width: int = WIDTH) -> list[str]:
    """Lines of prose, the long ones broken; what is broken off keeps the indent, the verdict's being 11."""
    out = []
    for line in lines:
        indent = " " * (11 if line[:11].rstrip().isupper() else len(line) - len(line.lstrip()))
        out += wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]
    return out


def verdict(fit: "Fit") -> list[str]:
    """How it ended, in one or a few lines."""
    estimand = "none" if fit.is_moments else fit.criterion
    word = "BOUNDARY" if fit.status is Status.AT_BOUNDARY else str(fit.status)
    did = f"method {fit.method}"
    if fit.n_eval and not fit.is_moments and fit.limits is None:
        did += f", {num.plural(fit.n_iter, 'iteration')}"
    did += f", {num.seconds(fit.seconds)}"
    line = f"{word:<11}{did}"
    if not num.is_absent(fit.loglik):
        line += f" · {LOGLIK[estimand]} {num.fixed(fit.loglik, 4)}"
        line += f" · AIC {num.fixed(fit.aic, 2)} · BIC {num.fixed(fit.bic, 2)}"
    lines = [line]
    if fit.status is Status.AT_BOUNDARY:
        at = [
            n
            for n, v, s in zip(fit.facts.theta_names, fit.theta_values, fit.facts.is_variance, strict=True)
            if s and v == 0
        ]
        what = f"{num.listing(at)} is 0 at the maximum" if at else "a covariance matrix of random effects is singular"
        if "structure" in fit.message:
            what = fit.message
        lines.append(
            f"           {what}. This is a valid fit on the edge of the parameter space, not a failure: report it, and "
            "keep the term if it is part of the design."
        )
        lines.append("           → vcbench explain VC-BOUNDARY")
    elif fit.message:
        lines.append(f"           {fit.message}.")
    if not fit.status.ok:
        lines.append(f"           The estimates below are where it stopped.  → vcbench explain {fit.code}")
    return lines


def _variances(fit: "Fit") -> list[str]:
    table = fit.varcomp()
    total = float(sum(v for v, s in zip(fit.theta_values, fit.facts.is_variance, strict=True) if s))
    ci = "95% CrI" if fit.limits is not None else "95% CI: Wald"
    lines = [f"Variance components{ci:>50}"]
    # the share of a slope's variance depends on the unit of its covariate: no column then
    shares = all(p in ("var", "var((Intercept))") for p in table["parameter"])
    rows = []
    for k, row in enumerate(table.itertuples()):
        share = num.fixed(100 * row.estimate / total, 1) if shares and total > 0 else ""
        sd = num.estimate(math.sqrt(row.estimate)) if fit.facts.is_variance[k] and row.estimate >= 0 else ""
        crosses = fit.facts.is_variance[k] and fit.limits is None and row.lower < 0
        limits = num.interval(None if crosses else row.lower, None if crosses else row.upper, row.se)
        note = "at boundary" if fit.facts.is_variance[k] and row.estimate == 0 else ""
        rows.append(
            [
                row.component,
                row.parameter,
                num.estimate(row.estimate, row.se),
                num.estimate(row.se, row.se),
                limits,
                share,
                sd,
                note,
            ]
        )
    header = [
        "component",
        "",
        "estimate",
        "SE",
        "95% " + ("CrI" if fit.limits is not None else "CI"),
        "% total",
        "SD",
        "",
    ]
    return [*lines[:0], "Variance components", *columns(header, rows, left=(0, 1, 7))]


def _fixed(fit: "Fit") -> list[str]:
    if not len(fit.beta_values):
        return []
    rows = []
    ci = fit.confint("wald" if fit.limits is None else "posterior").iloc[len(fit.theta_values) :]
    for name, b, se, lo, hi in zip(
        fit.facts.beta_names, fit.beta_values, fit.beta_se, ci["lower"], ci["upper"], strict=True
    ):
        z = b / se if se > 0 else math.nan
        p = 2 * float(ndtr(-abs(z))) if math.isfinite(z) else math.nan
        rows.append(
            [name, num.estimate(b, se), num.estimate(se, se), num.interval(lo, hi, se), num.fixed(z, 2), num.p_value(p)]
        )
    header = ["", "estimate", "SE", "95% CI" if fit.limits is None else "95% CrI", "z", "p"]
    return ["Fixed effects", *columns(header, rows, left=(0,))]


def _anova(fit: "Fit") -> list[str]:
    """The analysis of variance of a fit by `anova`."""
    if "anova" not in fit.extra:
        return []
    rows = []
    for row in fit.extra["anova"]:
        ems = " + ".join(name if abs(c - 1) < 1e-9 else f"{c:.6g} {name}" for name, c in row["ems"].items())
        rows.append([row["term"], str(row["df"]), num.significant(row["ss"], 6), num.significant(row["ms"], 6), ems])
    title = f"Analysis of variance, type {fit.extra['type']}"
    return [title, *columns(["term", "df", "SS", "MS", "E[MS]"], rows, left=(0, 4)), ""]


def _notes(fit: "Fit") -> list[str]:
    lines = ["SE is the standard error of the variance (SD is its square root, not an SE)."]
    if fit.cache.get("default:used") == "average":
        lines.append('SE are by average information; fit.theta_cov("observed") takes the exact, which is dear here.')
    crossing = [
        (row.component, row.parameter, row.lower, row.upper)
        for k, row in enumerate(fit.varcomp().itertuples())
        if fit.facts.is_variance[k] and fit.limits is None and row.lower < 0
    ]
    for component, parameter, lower, upper in crossing:
        lines.append(
            f"The variance {component} {parameter} is poorly determined: a Wald interval would be "
            f"[{num.significant(lower, 4)}, {num.significant(upper, 4)}] and is not shown."
        )
    if len(fit.beta_values) and fit.limits is None:
        lines.append("Intervals and p-values of fixed effects use the normal distribution.")
    lines.append('More: fit.tidy() · fit.plot("trace") · fit.explain()')
    return lines


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Lines of a table in fixed columns, two blanks between them; those in `left` are flush left, the others right."""
    table = [list(header), *[list(r) for r in rows]]
    width = [max(len(r[i]) for r in table) for i in range(len(header))]
    return [
        (
            "  "
            + "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(r, width, strict=True)))
        ).rstrip()
        for r in table
    ]


def _tables(fit: "Fit") -> list[tuple[str, list[str], list[list[str]]]]:
    variances = [
        [r.component, r.parameter, num.estimate(r.estimate, r.se), num.estimate(r.se, r.se)]
        for r in fit.varcomp().itertuples()
    ]
    fixed = [
        [name, num.estimate(b, se), num.estimate(se, se)]
        for name, b, se in zip(fit.facts.beta_names, fit.beta_values, fit.beta_se, strict=True)
    ]
    return [
        ("Variance components", ["component", "parameter", "estimate", "SE"], variances),
        ("Fixed effects", ["effect", "estimate", "SE"], fixed),
    ]


def markdown(fit: "Fit") -> str:
    """Both tables as Markdown."""
    out = [verdict(fit)[0], ""]
    for title, header, rows in _tables(fit):
        n_text = len(header) - 2
        out += [f"**{title}**", "", "| " + " | ".join(header) + " |", "|" + " --- |" * n_text + " ---: |" * 2]
        out += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows] + [""]
    return "\n".join(out)


def latex(fit: "Fit") -> str:
    """Both tables as LaTeX with booktabs rules."""
    code = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "^": r"\^{}", num.MINUS: "$-$", num.ABSENT: "--"}
    tex = lambda s: "".join(code.get(c, c) for c in s)  # noqa: E731
    out = []
    for title, header, rows in _tables(fit):
        columns = "l" * (len(header) - 2) + "rr"
        out += [f"% {title}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(header) + r" \\", r"\midrule"]
        out += [" & ".join(tex(c) for c in row) + r" \\" for row in rows] + [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(out)


def html(fit: "Fit") -> str:
    """Both tables as HTML, for notebooks."""
    out = [f"<p>{escape.escape(verdict(fit)[0])}</p>"]
    for title, header, rows in _tables(fit):
        head = "".join(f"<th>{escape.escape(h)}</th>" for h in header)
        body = "".join("<tr>" + "".join(f"<td>{escape.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
        out.append(f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "".join(out)
