"""Heritability in words: the page of one phenotype, the table of many, and what an estimate on the boundary means."""

import math
from textwrap import wrap
from typing import TYPE_CHECKING

from vcbench import numbers as num
from vcbench.genetics.traits import Trait
from vcbench.status import Status
from vcbench.summary import columns

if TYPE_CHECKING:
    from vcbench.genetics.results import Heritability

WIDTH = 100
LABELS = {"h2": "h²"}
DEFINITIONS = {
    "average": "average information and the delta method",
    "observed": "observed information and the delta method",
    "expected": "expected information and the delta method",
    "sandwich": "the sandwich of the moment equations",
    "posterior": "the posterior covariance",
    "jackknife": "the jackknife over blocks of SNPs",
    "monte-carlo": "the spread over random probes",
    "sparse": "the limit of the scaled lasso where signals are few, for V(e) alone",
}


def page(result: "Heritability", t: Trait) -> str:
    """One phenotype in full."""
    from vcbench import __version__

    criterion = {"reml": "REML", "ml": "maximum likelihood", "none": "method of moments"}[t.criterion]
    criterion = "scaled lasso" if t.definition == "sparse" else "method of moments" if t.is_moments else criterion
    criterion = "posterior" if t.definition == "posterior" else criterion
    title = f"Heritability of {t.name}, {criterion}"
    lines = [f"{title:<68}vcbench {__version__}"]
    for m in result.matrices:
        snps = f" from {num.count(m.n_snps)} SNPs" if m.n_snps else ""
        lines.append(f"{m.name}: relationship of {num.count(m.n)} samples{snps}, mean diagonal {m.mean_diagonal:.3f}")
    lines.append(
        f"{num.count(t.n)} samples used · {num.plural(t.n_fixed, 'fixed effect')} · decomposition: {t.decomposition}"
    )
    word = "BOUNDARY" if t.status is Status.AT_BOUNDARY else str(t.status)
    did = f", {num.plural(t.n_iter, 'iteration')}" if t.test is not None else ""
    loglik = "" if num.is_absent(t.loglik) else f" · logLik {num.fixed(t.loglik, 4)}"
    lines += [f"{word:<11}method {t.method}{did}, {num.seconds(t.seconds)}{loglik}", ""]
    rows = []
    for name, (value, _) in t.quantities().items():
        se = t.se(name)
        lower, upper = t.interval(name)
        profile = name in t.limits
        note = ""
        if name == "h2":
            note = f"SE expected at h² = 0: {num.significant(t.expected_se, 2)}"
        if (name in t.components and value == 0) or (name == "V(e)" and t.at_one):
            note = "at boundary"
        shown = num.interval(lower, upper, se) if profile or not t.limits else num.ABSENT
        rows.append([label(name), num.estimate(value, se), num.estimate(se, se), shown, note])
    if t.liability is not None:
        c, (lower, upper) = t.liability.factor, t.interval("h2")
        value, se = c * t.h2, c * t.se("h2")
        note = f"prevalence {t.liability.prevalence:g}, {num.percent(t.liability.cases)} of the sample are cases"
        limits = num.interval(c * lower, c * upper, se)
        rows.append(["h² (liability)", num.estimate(value, se), num.estimate(se, se), limits, note])
    kind = "profile" if "h2" in t.limits else "CrI" if "V(G)" in t.limits else "Wald"
    ci = f"{num.percent(t.level, 0)} {'CrI' if kind == 'CrI' else f'CI ({kind})'}"
    lines += columns(["source", "estimate", "SE", ci, ""], rows, left=(0, 4))
    if t.test is not None:
        said = f"LRT {num.fixed(t.test.statistic, 3)}, {num.p_clause(t.test.p, 0)}"
        lines.append(f"  test V(G) = 0   {said}  ({t.test.distribution})")
    lines.append("")
    for note in notes(result, t):
        lines += wrap(note, WIDTH, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines).rstrip()


def table(result: "Heritability") -> str:
    """A row for each phenotype, and below it what needs saying of any."""
    from vcbench import __version__

    first = result.traits[0]
    title = f"Heritability of {num.plural(len(result.traits), 'phenotype')}, method {first.method}"
    lines = [f"{title:<68}vcbench {__version__}", ""]
    rows = []
    for t in result.traits:
        se = t.se("h2")
        lower, upper = t.interval("h2")
        shown = num.interval(lower, upper, se)
        p = num.p_value(t.test.p, 0) if t.test is not None else num.ABSENT
        rows.append([t.name, num.count(t.n), num.estimate(t.h2, se), num.estimate(se, se), shown, p, str(t.status)])
    kind = "profile" if "h2" in first.limits else "Wald"
    header = ["phenotype", "n", "h²", "SE", f"{num.percent(result.level, 0)} CI ({kind})", "p of V(G) = 0", "status"]
    lines += [*columns(header, rows, left=(0, 6)), ""]
    for t in result.traits:
        for note in boundary(t):
            lines += wrap(f"{t.name}: {note}", WIDTH, break_on_hyphens=False, break_long_words=False)
    lines.append(f"SE by {DEFINITIONS[first.definition]}. One phenotype in full: .summary({first.name!r}).")
    return "\n".join(lines)


def label(name: str) -> str:
    """How a quantity is shown."""
    if name.startswith("h2:"):
        return f"h² {name[3:]}"
    return LABELS.get(name, name)


def notes(result: "Heritability", t: Trait) -> list[str]:
    """Boundary, scale and definitions, one sentence or a few each."""
    out = boundary(t)
    if t.message and not t.status.ok:
        out.append(f"{t.message[:1].upper()}{t.message[1:].rstrip('.')}: the estimates are where it stopped.")
    for m in result.matrices:
        if result.scale == "unit" and not 0.9 < m.mean_diagonal < 1.1:
            out.append(
                f"The mean diagonal of {m.name} is {m.mean_diagonal:.3g}, not 1: V(G) and h² are in units of that "
                'matrix. scale="trace" gives the share of the sample\'s variance.'
            )
    if result.scale == "trace":
        out.append("h² counts V(G)·tr(CKC)/n, what K adds to the variance in the sample.")
    if t.liability is not None and t.interval("h2")[1] * t.liability.factor > 1:
        out.append(
            "The limits on the liability scale are those of the observed scale times one factor; above 1 they say that "
            "the data do not exclude 1."
        )
    out.append(f"SE by {DEFINITIONS[t.definition]}.")
    if "sparse" in t.covariances:
        out.append(
            "V(e) is what the selected SNPs leave, V(G) the rest of the variance. The lasso is for few large effects: "
            "where many small ones pass unseen, h² is too low."
        )
    if t.definition == "jackknife":
        out.append("Leaving out SNPs hardly moves Vp, whose sampling error the jackknife does not see.")
    if "monte-carlo" in t.covariances:
        error = num.significant(t.se("h2", "monte-carlo"), 2)
        out.append(f"Monte Carlo SE of h², from the random probes and in no other SE: {error}.")
    return out


def boundary(t: Trait) -> list[str]:
    """What an estimate at or beyond the edge of [0, 1] means, and what to do about it; nothing for one inside."""
    if t.is_moments and not 0.0 <= t.h2 <= 1.0:
        negative = [name for name, v in zip([*t.components, "V(e)"], t.theta, strict=True) if v < 0]
        side = "above 1" if t.h2 > 1 else "below 0"
        are = "is" if len(negative) == 1 else "are"
        return [
            f"h² = {num.fixed(t.h2, 2)} is {side}: {num.listing(negative)} {are} negative. Moment estimates are "
            f"unbiased and not held to [0, 1]; this one is {_away(t)} the nearest possible value, and reported raw. A "
            'likelihood method (method="ai") stays inside and uses the data better.'
        ]
    zero = [name for name, value in zip(t.components, t.theta, strict=False) if value == 0]
    if zero and not t.at_zero and not t.is_moments:
        return [
            f"{num.listing(zero)} {'is' if len(zero) == 1 else 'are'} 0 at the maximum, a valid answer on the edge of "
            "the parameter space. Standard errors of the others are those on that face."
        ]
    if t.at_zero and len(t.components) > 1:
        return ["All genetic variances are 0 at the maximum, a valid answer on the edge of the parameter space."]
    if t.at_zero:
        upper = t.interval("h2")[1]
        raw = ""
        if t.moments is not None:
            T = float(t.sizes @ t.moments[:-1] + t.moments[-1])
            raw = f" (moment estimate {num.fixed(float(t.sizes @ t.moments[:-1]) / T, 2)})"
        slope = "" if math.isnan(t.slope) else f", where ℓ falls by {num.significant(-t.slope, 2)} per unit of h²"
        return [
            f"h² = 0: the maximum has V(G) = 0{slope}. This is a valid answer on the edge of the parameter space, not "
            f"a failure{raw}: these data are compatible with h² up to {num.fixed(upper, 3)}. With this n and K the SE "
            f"expected at h² = 0 is {num.significant(t.expected_se, 2)}."
        ]
    if t.at_one:
        lower = t.interval("h2")[0]
        return [
            f"h² = 1: the maximum has V(e) = 0, all variance is given to K. These data are compatible with h² down to "
            f"{num.fixed(lower, 3)} (expected SE {num.significant(t.expected_se, 2)}). Usual reasons besides a high "
            "h²: few samples; duplicates or close relatives that share more than genes; structure that X leaves out; "
            "a K whose scale is not that of a relationship matrix."
        ]
    return []


def _away(t: Trait) -> str:
    nearest = 1.0 if t.h2 > 1 else 0.0
    se = t.se("h2")
    if not se > 0:
        return "beyond"
    return f"{num.fixed(abs(t.h2 - nearest) / se, 1)} SE from"
