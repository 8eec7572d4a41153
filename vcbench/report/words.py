"""Standing texts: identity, ADEMP (Morris, White & Crowther 2019, doi:10.1002/sim.8086), dictionary."""

from collections.abc import Mapping

from vcbench import numbers as num
from vcbench.report import families
from vcbench.report.evidence import MEASURES, Evidence, show
from vcbench.report.findings import Findings
from vcbench.report.tables import Cell, Table, cut, head

MARKED = (
    "Every measure has its Monte Carlo standard error (MCSE; jackknife where closed forms assume normality). A fit "
    "that failed is a row with a status: it is counted, never redrawn. A cell is marked ▲ where it is more than 2 MCSE "
    "from its target. Coverage and model SEs use the fits that have an SE or limits."
)


def title(evidence: Evidence) -> str:
    return str(evidence.run.get("title") or evidence.stem)


def planned(evidence: Evidence) -> int | None:
    """How many fits were planned, where the run says so."""
    value = evidence.run.get("n_planned")
    return int(value) if isinstance(value, int | float) and value > 0 else None


def state(evidence: Evidence) -> tuple[bool, str]:
    """(complete, text): COMPLETE, or PARTIAL with the share that is there."""
    total, have = planned(evidence), evidence.n_fits
    if total is not None and have < total:
        return False, f"PARTIAL, {num.percent(have / total)} of {num.count(total)} fits"
    if total is None and not evidence.run.get("finished"):
        return False, "PARTIAL, not finished"
    return True, "COMPLETE"


def identity(evidence: Evidence) -> list[tuple[str, str]]:
    """What was run, in pairs of a name and a value."""
    simulated, real = evidence.simulated, evidence.real
    replicates = sorted({c.replicates for c in simulated})
    pairs = [("real data", num.count(len(real)))] if real else []
    if simulated:
        low, high = num.count(replicates[0]), num.count(replicates[-1])
        pairs.append(
            ("conditions", f"{num.count(len(simulated))} × {low if low == high else f'{low} to {high}'} replicates")
        )
    pairs += [("methods", num.count(len(evidence.methods))), ("fits", num.count(evidence.n_fits))]
    for key, name in (("spec_hash", "spec"), ("seed", "seed"), ("version", "vcbench")):
        value = evidence.run.get(key)
        if value not in (None, ""):
            pairs.append((name, str(value)[:7] if key == "spec_hash" else str(value)))
    return pairs


def ademp(found: Findings) -> list[tuple[str, str]]:
    """Aims, data, estimands, methods, performance measures: a paragraph each, as the specification says them where the
    run has kept that, else as the rows say."""
    e = found.evidence
    if kept := e.run.get("ademp"):
        return [*((str(name), str(text)) for name, text in kept), ("In this report", MARKED)]
    real = f"{num.plural(len(e.real), 'real data set')} ({num.listing([c.data for c in e.real], 10)})" if e.real else ""
    simulated = ""
    if e.simulated:
        by = f" made from {num.listing(list(e.factors), 8)}" if e.factors else ""
        simulated = f"{num.plural(len(e.simulated), 'simulated condition')}{by}"
    both = " and ".join(t for t in (real, simulated) if t)
    seed = e.run.get("seed")
    aims = " ".join([str(e.run.get("question") or "Not stated."), *(str(a) for a in e.run.get("aims") or [])])
    judged = ", ".join(e.judged) or "none has a known truth"
    return [
        ("Aims", aims),
        (
            "Data",
            f"{both}. Every method sees the same data sets; each replicate is drawn from a seed of its own"
            + (f" (study seed {seed})." if seed is not None else "."),
        ),
        ("Estimands", f"The parameters {', '.join(e.parameters)}. Measures of performance speak of {judged}."),
        (
            "Methods",
            f"{num.listing([_method(e, m) for m in e.methods], 40)}. "
            "All start and stop by one rule unless the method table says otherwise.",
        ),
        (
            "Performance measures",
            f"{_measured(e)}, each with its Monte Carlo standard error "
            "(MCSE; jackknife where closed forms assume normality), on the fits for which a method has an estimate. "
            "A fit that failed is a row with a status: it is counted, never redrawn. A cell is marked ▲ where it is "
            "more than 2 MCSE from its target. Coverage and model SEs use the fits that have an SE or limits.",
        ),
    ]


def _measured(evidence: Evidence) -> str:
    """What is measured, as the beginning of a sentence."""
    if not evidence.only:
        return "Bias, empirical and model standard error, coverage and RMSE"
    said = [name.replace("_", " ") for name in MEASURES if name in evidence.only]
    text = num.listing(said, 12)
    return text[:1].upper() + text[1:]


def asked_of(evidence: Evidence, label: str) -> str:
    """What a method was asked beside its estimate: `wald interval, symmetric_on=log`, `exact test, drop=group`."""
    if label not in evidence.asked:
        return ""
    what, table = evidence.asked[label]
    rest = [f"{k}={', '.join(v) if isinstance(v, list) else show(v)}" for k, v in table.items() if k != "kind"]
    return ", ".join([f"{table.get('kind')} {what}", *rest])


def _method(evidence: Evidence, label: str) -> str:
    criterion = evidence.criteria.get(label, "")
    return f"{label} ({criterion.upper()})" if criterion not in ("", "none") else label


def options_of(evidence: Evidence, label: str) -> str:
    """The options a method was given, as text, and the model it fitted where that is not the data's own."""
    for entry in evidence.run.get("methods") or []:
        if isinstance(entry, Mapping) and str(entry.get("label") or entry.get("name")) == label:
            given = entry.get("options") or {}
            if not isinstance(given, Mapping):
                return str(given)
            fitted = entry.get("model") or {}
            return ", ".join(f"{k}={show(v)}" for k, v in {**given, **fitted}.items())
    return ""


def method_table(found: Findings) -> Table:
    """Label, registered name, family, criterion and options of each method, with its symbol; what it was asked."""
    e = found.evidence
    rows = [
        tuple(
            head(text)
            for text in (
                f"{found.styles[m].glyph} {m}",
                e.named[m],
                families.family(m, e.named),
                e.criteria[m].upper() if e.criteria[m] not in ("", "none") else num.ABSENT,
                options_of(e, m) or "defaults",
                *([asked_of(e, m) or num.ABSENT] if e.asked else []),
            )
        )
        for m in e.methods
    ]
    columns = ("label", "method", "family", "criterion", "options", *(["asked for"] if e.asked else []))
    return Table("methods", "The methods, as they were run", columns, tuple(rows))


def condition_table(found: Findings) -> Table:
    """The conditions with their factors and how many data sets each has."""
    e = found.evidence
    names = list(dict.fromkeys(k for c in e.conditions for k in c.factors if k != "data"))
    rows = [
        (
            head(c.id),
            head(c.data),
            head("real" if c.real else "simulated"),
            *(Cell(show(c.factors[k]) if k in c.factors else num.ABSENT, c.factors.get(k)) for k in names),
            Cell(num.count(c.replicates), c.replicates),
        )
        for c in e.conditions
    ]
    return cut("conditions", "The conditions", ("id", "data", "kind", *names, "data sets"), rows)


def truth_table(found: Findings) -> Table | None:
    """The true values, by parameter, where there are any."""
    known = found.evidence.truths[found.evidence.truths["truth"].notna()]
    if known.empty:
        return None
    out = []
    for p in found.evidence.parameters:
        mine = known[known["parameter"] == p]
        values = sorted(set(mine["low"]) | set(mine["high"]))
        if values:
            few = len(values) <= 6 and (mine["several"] <= 2).all()
            text = (
                ", ".join(num.significant(v, 5) for v in values)
                if few
                else f"{num.significant(values[0], 5)} to {num.significant(values[-1], 5)}"
            )
            out.append((head(p), head(text)))
    return Table("truth", "The true values in the simulated conditions", ("parameter", "true values"), tuple(out))


DICTIONARY: tuple[tuple[str, str], ...] = (
    ("condition", "A cell of the study's grid: a data set (real) or a way to draw them (simulated)."),
    ("replicate", "One simulated data set of a condition; all methods see it."),
    ("fits", "Fits with an estimate (n)."),
    ("bias", "mean(θ̂ − θ); MCSE = empirical SE/√n."),
    ("relative bias", "mean((θ̂ − θ)/θ) in per cent; not defined where θ = 0."),
    ("empirical SE", "The standard deviation of θ̂ over replicates: how much the estimates scatter. MCSE by jackknife."),
    ("model SE", "√mean(SE²): what the methods claim."),
    ("model SE off by", "100 (model SE/empirical SE − 1) %. MCSE by jackknife."),
    (
        "coverage",
        "Share of intervals that hold the truth; MCSE √(p(1 − p)/n), Wilson's where p is 0 or 1. It is marked ▲ by the "
        "larger of that and the MCSE at the nominal level.",
    ),
    (
        "no interval",
        "Share of fits without limits, as Wald's on the boundary. Coverage is told twice: of the intervals "
        "that there are, and with each fit without one counted as a miss.",
    ),
    ("type-I error, power", "Share of tests with p ≤ 1 − level where the tested variance is 0, and where it is not."),
    ("bias-eliminated coverage", "Share of intervals that hold the mean of the estimates instead of the truth."),
    ("RMSE", "√mean((θ̂ − θ)²)."),
    (
        "distance / SE",
        "Largest over variance parameters of |θ̂ − θ̂_best|/SE, where θ̂_best has the highest log-likelihood of its "
        "criterion on that data set.",
    ),
    ("ℓ deficit", "The best log-likelihood on a data set less that of the method."),
    ("CPU time", "Processor time of one fit from a built model, one thread."),
    ("CONVERGED", "The stop rule holds: the optimum is closer than the tolerance, in standard errors."),
    ("AT_BOUNDARY", "The maximum is on the edge of the parameter space (a variance of 0); a valid answer."),
    (
        "MAX_ITER",
        "Stopped by the limit on iterations; its last iterate is shown, and never counts as an answer of the method.",
    ),
    ("SINGULAR_V, FAILED, TIMEOUT", "No estimate; the message says why."),
)


def dictionary() -> Table:
    return Table(
        "dictionary",
        "What the words and columns mean",
        ("term", "meaning"),
        tuple((head(a), head(b)) for a, b in DICTIONARY),
    )
