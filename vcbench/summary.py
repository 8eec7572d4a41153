"""The text of a fit: verdict, variance components, fixed effects; and the same tables as Markdown, LaTeX and HTML."""

import html as escape
import math
import re
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from vcbench import numbers as num
from vcbench.account import LEVEL, Account, account_of
from vcbench.inference.intervals import quantile
from vcbench.status import Status

if TYPE_CHECKING:
    from vcbench.fitted import Fit

CRITERIA = {"reml": "REML", "ml": "maximum likelihood", "none": "method of moments"}
WIDTH = 100  # columns of text
INDENT = " " * 11
NEXT = {  # what to do about an ending that is no maximum
    Status.MAX_ITER: "do not quote them as the maximum; raise max_iter, or fit again with "
    'method="auto", which needs few iterations.',
    Status.SINGULAR_V: "look for groups that the model fits exactly and for duplicated rows; or fit a smaller model.",
    Status.FAILED: 'fit again with method="auto" or start="auto"; if that fails too, fit a smaller model first.',
    Status.TIMEOUT: "allow it more time, or take a faster method.",
    Status.SKIPPED: "nothing, unless it was meant to run: the message says what was in the way.",
}
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
    lines += ["", *_variances(fit), "", *_fixed(fit), "", *_anova(fit), *_priors(fit), *folded(_notes(fit))]
    return "\n".join(lines).rstrip()


def folded(lines: Sequence[str], width: int = WIDTH) -> list[str]:
    """Lines of prose, the long ones broken; what is broken off keeps the indent, the verdict's being 11."""
    out = []
    for line in lines:
        indent = " " * (11 if line[:11].rstrip().isupper() else len(line) - len(line.lstrip()))
        out += wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]
    return out


def verdict(fit: "Fit") -> list[str]:
    """How it ended, in one or a few lines, and what to do next."""
    estimand = "none" if fit.is_moments else fit.criterion
    word = "BOUNDARY" if fit.status is Status.AT_BOUNDARY else str(fit.status)
    did = f"method {fit.method}"
    if fit.n_eval and not fit.is_moments and fit.limits is None:
        did += f", {num.plural(fit.n_iter, 'iteration')}"
    did += f", {num.seconds(fit.seconds)}"
    line = f"{word:<11}{did}"
    if not num.is_absent(fit.loglik):
        line += f" · {LOGLIK[estimand]} {num.fixed(fit.loglik, 4)}"
        if not fit.is_moments:  # which maximise no likelihood
            line += f" · AIC {num.fixed(fit.aic, 2)} · BIC {num.fixed(fit.bic, 2)}"
    lines = [line]
    if fit.status is Status.AT_BOUNDARY:
        lines += [INDENT + text for text in _boundary(fit)]
    elif fit.message:
        lines.append(f"{INDENT}{fit.message}.")
    if fit.status in NEXT:
        stands = "The estimates below are where it stopped. " if np.isfinite(fit.theta_values).all() else ""
        lines += [f"{INDENT}{stands}What to do: {NEXT[fit.status]}", f"{INDENT}→ vcbench explain {fit.code}"]
    return lines


def _boundary(fit: "Fit") -> list[str]:
    """What a maximum on the edge means, and what to do."""
    account = account_of(fit)
    zero = [line for line in account.lines if line.kind == "variance" and line.estimate == 0]
    if "structure" in fit.message:
        what = fit.message
    elif fit.rank is not None and fit.rank[-1] == 0:
        what = "the residual variance is 0 up to rounding at the maximum: the random effects fit the data exactly"
    elif zero:
        names = [f"{line.component}:{line.parameter}" for line in zero]
        what = f"{num.listing(names)} {'is' if len(names) == 1 else 'are'} 0 at the maximum"
    else:
        what = "a covariance matrix of random effects is singular: some combination of them has variance 0"
    out = [f"{what}. This is a valid fit on the edge of the parameter space, not a failure."]
    for name, slope in account.slopes:
        raw = dict(account.raw).get(name)
        below = "" if raw is None else f"; method of moments, which may go below 0: {num.significant(raw, 3)}"
        out.append(f"Slope of the log-likelihood in {name} at 0: {num.significant(slope, 3)}{below}.")
    upper = next((line.upper for line in zero if math.isfinite(line.upper)), math.nan)
    report = f"report 0 with its upper limit {num.significant(upper, 3)}" if upper > 0 else "report it as it is"
    out.append(
        f"What to do: (1) {report}; (2) keep the term if it is part of the design; (3) for shrinkage away from 0, a "
        f'prior: method="nuts" or "quadrature".'
    )
    return [*out, f"→ vcbench explain {fit.code}"]


def _variances(fit: "Fit") -> list[str]:
    account = account_of(fit)
    rows = []
    for line in account.lines:
        crosses = line.kind == "variance" and not fit.is_moments and fit.limits is None and line.lower < 0
        rows.append(
            [
                line.component,
                line.parameter,
                num.estimate(line.estimate, line.se),
                num.estimate(line.se, line.se),
                num.ABSENT if crosses else num.interval(line.lower, line.upper, line.se),
                "" if math.isnan(line.share) else num.fixed(100 * line.share, 1),
                "" if math.isnan(line.sd) else num.estimate(line.sd),
                "" if math.isnan(line.cor) else num.fixed(line.cor, 3),
                line.note,
            ]
        )
    for e in (account.total, *account.shares):
        if e is not None:
            limits_of = "" if math.isnan(e.lower) else num.interval(e.lower, e.upper, e.se)
            of_all = num.fixed(100.0, 1) if e is account.total else ""
            sd = num.estimate(math.sqrt(e.estimate)) if e is account.total else ""
            rows.append(
                [e.name, "", num.estimate(e.estimate, e.se), num.estimate(e.se, e.se), limits_of, of_all, sd, "", ""]
            )
    ci = "95% CrI" if fit.limits is not None else "95% CI"
    header = ["component", "", "estimate", "SE", ci, "% total", "SD", "corr", ""]
    used = [i for i in range(len(header)) if i < 5 or any(row[i] for row in rows)]
    header, rows = [header[i] for i in used], [[row[i] for i in used] for row in rows]
    left = (0, 1, *([len(used) - 1] if used[-1] == 8 else []))
    table = columns(header, rows, left=left)
    title = ("Variance components", f"{ci}: {account.interval}")
    return [_titled(title, table), *table, *_tests(account)]


def _titled(title: tuple[str, str], table: Sequence[str]) -> str:
    """A title above a table, and a remark flush with the table's right edge."""
    width = max(len(line) for line in table)
    return title[0] + title[1].rjust(max(width - len(title[0]), len(title[1]) + 2))


def _tests(account: Account) -> list[str]:
    """Likelihood-ratio tests of the random terms."""
    if not account.tests:
        return []
    rows = [
        [f"without {t.term}:", f"LRT {num.fixed(t.statistic, 3)},", num.p_clause(t.p), f"({_subscripts(t.null)})"]
        for t in account.tests
    ]
    return ["", *columns(["", "", "", ""], rows, left=(0, 1, 2, 3))[1:]]


def _subscripts(text: str) -> str:
    """`χ²_1` as χ²₁."""
    return re.sub(r"χ²_(\d+)", lambda m: "χ²" + m[1].translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")), text)


def _fixed(fit: "Fit") -> list[str]:
    account = account_of(fit)
    if not account.fixed:
        return []
    rows = []
    for e in account.fixed:
        row = [e.name, num.estimate(e.estimate, e.se), num.estimate(e.se, e.se), num.interval(e.lower, e.upper, e.se)]
        row += [num.fixed(e.df if e.df < 1e6 else math.inf, 1)] if account.df else []
        rows.append([*row, num.fixed(e.statistic, 2), num.p_value(e.p)])
    ci = "95% CI" if fit.limits is None else "95% CrI"
    header = ["", "estimate", "SE", ci, *(["df", "t"] if account.df else ["z"]), "p"]
    table = columns(header, rows, left=(0,))
    if fit.limits is not None:
        return ["Fixed effects", *table]
    return [
        _titled(("Fixed effects", f"95% CI: t, {account.df} df" if account.df else "95% CI: normal"), table),
        *table,
    ]


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


def _priors(fit: "Fit") -> list[str]:
    """The priors of a posterior."""
    said = fit.extra.get("priors")
    return ["Priors", *str(said).splitlines(), ""] if said else []


def _notes(fit: "Fit") -> list[str]:
    account = account_of(fit)
    lines = ["SE is the standard error of the variance (SD is its square root, not an SE)."]
    if fit.cache.get("default:used") == "average":
        lines.append('SE are by average information; fit.theta_cov("observed") takes the exact, which is dear here.')
    z = quantile(LEVEL)
    for line in account.lines:
        lower, upper = line.estimate - z * line.se, line.estimate + z * line.se
        regular = line.kind == "variance" and not line.note and fit.limits is None and not fit.is_moments
        if regular and lower < 0:
            lines.append(
                f"The variance {line.component} {line.parameter} is poorly determined: a Wald interval would be "
                f"[{num.significant(lower, 4)}, {num.significant(upper, 4)}] and is not shown."
            )
    lines += [f"{note.rstrip('.')}." for note in account.notes]
    large = account.interval.startswith("Wald, on") and not account.df and fit.status.ok and fit.model is not None
    if large and fit.is_estimate:
        lines.append(
            "This model is large: profile intervals, tests of its terms and degrees of freedom come when asked for: "
            'fit.confint("profile"), fit.ranova(), fit.test_fixed().'
        )
    lines.append('More: fit.tidy() · fit.confint("profile") · fit.plot("profile") · fit.explain()')
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
