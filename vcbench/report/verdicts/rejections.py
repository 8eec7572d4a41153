"""Tests: whether they keep their size where the variance is 0, and what power they have where it is not."""

import pandas as pd

from vcbench import numbers as num
from vcbench.report.findings import Findings
from vcbench.report.verdicts.base import ALARM, Verdict


def size(found: Findings) -> Verdict | None:
    """Per test, the range of its type-I error over the conditions, and those off by more than 2 MCSE."""
    cells = _cells(found, null=True)
    if cells.empty:
        return None
    said, alarm = [], False
    for i, (method, mine) in enumerate(cells.groupby("method", sort=False)):
        n_off, n = int(mine["rejection_off"].sum()), len(mine)
        alarm = alarm or n_off / n > ALARM
        of = num.plural(n, "condition") if i == 0 else num.count(n)
        said.append(f"{method} {_range(mine['rejection'])} ({n_off or 'none'} of {of} off)")
    alpha = 100 * (1 - found.level)
    text = f"At {alpha:g} %, where the variance is 0, the tests reject in: {num.listing(said, 12)}."
    return Verdict("note" if alarm else "good", "Type-I error", text, "rejection")


def power(found: Findings) -> Verdict | None:
    """Per test, its power against that of the exact test of its criterion: the most that it loses or gains."""
    cells = _cells(found, null=False)
    exact = {
        found.evidence.criteria.get(m): m
        for m, (what, entry) in found.evidence.asked.items()
        if what == "test" and entry.get("kind") == "exact"
    }
    if cells.empty or not exact:
        return None
    table = cells.pivot_table(index=["condition", "parameter"], columns="method", values="rejection")
    mcse = num.fixed(100 * float(cells["rejection_mcse"].max()), 1)
    said = []
    for criterion, best in exact.items():
        if best not in table:
            continue
        parts = []
        for method in [m for m in table if found.evidence.criteria.get(m) == criterion and m != best]:
            gap = (table[method] - table[best]).dropna()
            at = gap.abs().idxmax()
            parts.append(f"{method} by {num.fixed(100 * gap[at], 1)} points ({found.label(at[0])})")
        said.append(f"{best} finds it in {_range(table[best])} of data sets; farthest from it {num.listing(parts, 6)}")
    text = f"Where the variance is not 0, {'; '.join(said)}. MCSE of a power at most {mcse} points."
    return Verdict("good", "Power", text, "rejection")


def _cells(found: Findings, null: bool) -> pd.DataFrame:
    tests = [m for m, (what, _) in found.evidence.asked.items() if what == "test"]
    cells = found.cells[found.cells["parameter"].isin(found.evidence.judged) & found.cells["method"].isin(tests)]
    return cells[cells["rejection"].notna() & ((cells["truth"] == 0) == null)]


def _range(shares: pd.Series) -> str:
    return " to ".join(dict.fromkeys([num.percent(shares.min(), 1), num.percent(shares.max(), 1)]))
