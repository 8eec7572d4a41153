"""What is missing, and what the specification demanded."""

from collections import Counter

from vcbench import numbers as num
from vcbench.report.findings import Findings
from vcbench.report.verdicts.base import MANY, Verdict


def missing(found: Findings) -> Verdict:
    """Results that are missing (neither CONVERGED nor AT_BOUNDARY) by method and status, and the fits at a boundary."""
    counted = found.endings.groupby("status")["n"].sum()
    total = int(counted.sum() - counted.get("SKIPPED", 0))
    bad = int(found.missing["n"].sum())
    if bad:
        by = (
            found.missing.groupby(["method", "status"], sort=False)["n"]
            .sum()
            .sort_values(ascending=False, kind="stable")
        )
        parts = [f"{method} {num.count(n)} {status}" for (method, status), n in by.items()]
        text = f"{num.count(bad)} of {num.count(total)} fits ({num.percent(bad / total)}): {num.listing(parts, 7)}."
    else:
        text = f"None of {num.count(total)} fits."
    boundary = int(counted.get("AT_BOUNDARY", 0))
    if boundary:
        share = num.percent(boundary / total)
        text += f" {num.plural(boundary, 'fit')} ({share}) ended AT_BOUNDARY, the maximum being on the edge of the "
        text += "parameter space: a valid answer."
    level = "good" if not bad else "note" if bad <= MANY * total else "bad"
    return Verdict(level, "Missing results", text, "failures")


def unestimated(found: Findings) -> Verdict | None:
    """Of a study that is about it, the share of fits without an estimate of a parameter, at most, and why."""
    if "failure_rate" not in found.evidence.only:
        return None
    cells = found.cells[found.cells["parameter"].isin(found.evidence.judged) & (found.cells["failure_rate"] > 0)]
    if cells.empty:
        return Verdict("good", "No estimate", "Every fit has an estimate of every parameter.", "failures")
    said = []
    for (parameter, method), mine in cells.groupby(["parameter", "method"], sort=False):
        most = mine.loc[mine["failure_rate"].idxmax()]
        share = num.plus_minus(100 * most["failure_rate"], 100 * most["failure_rate_mcse"])
        said.append(f"{parameter} by {method} in up to {share} % of data sets ({found.label(most['condition'])})")
    why: Counter[str] = Counter()
    for condition in found.evidence.conditions:
        rows = found.evidence.rows(condition.id)
        lost = rows["estimate"].isna() & (rows["message"] != "") & rows["parameter"].isin(set(cells["parameter"]))
        why.update(rows.loc[lost, "message"])
    reasons = num.listing([f"{text} ({num.percent(n / why.total())})" for text, n in why.most_common()], 4)
    return Verdict("note", "No estimate", f"{num.listing(said, 8)}. Why: {reasons}.", "failures")


def acceptance(found: Findings) -> Verdict | None:
    """The specification's own checks, where it has some."""
    counts = found.checks
    if not counts:
        return None
    text = num.listing([f"{num.count(n)} {word}" for word, n in counts.items()])
    level = "bad" if "FAIL" in counts else "note" if "INCONCLUSIVE" in counts else "good"
    return Verdict(level, "Acceptance", f"{text} of {num.plural(sum(counts.values()), 'check')}.", "acceptance")
