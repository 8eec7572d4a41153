"""Do the methods find the same maximum?"""

import numpy as np

from vcbench import numbers as num
from vcbench.report.agreement import SAME
from vcbench.report.findings import Findings, maximisers
from vcbench.report.verdicts.base import Verdict


def agreement(found: Findings, real: bool) -> Verdict | None:
    """Do the maximisers of each criterion give one answer? Threshold: a thousandth of a standard error."""
    conditions = found.evidence.real if real else found.evidence.simulated
    climbers = maximisers(found)
    part = found.agreement[
        found.agreement["condition"].isin([c.id for c in conditions]) & found.agreement["method"].isin(climbers)
    ]
    pairs = [(c, g) for c, g in part.groupby("criterion", sort=True) if g["method"].nunique() > 1]
    if not pairs:
        return None
    agree, differ, worst, compared, early = [], [], 0.0, 0, 0
    for criterion, group in pairs:
        by = group.groupby("method", sort=False)
        share = {
            m: float(np.average(g["share_same"].fillna(0), weights=g["n"])) if g["n"].sum() else np.nan for m, g in by
        }
        odd = [m for m, s in share.items() if s < 1]
        count = sum(1 for s in share.values() if s == 1)
        if count > 1:
            agree.append(f"{num.count(count)} {criterion.upper()} methods")
        for m in odd:
            far = float(by.get_group(m)["largest"].max())
            differ.append((m, share[m], far))
        worst = max(worst, float(group.loc[~group["method"].isin(odd), "largest"].max()) if count else 0.0)
        compared += int(group["n"].sum())
        early += int(group["early"].sum())
    where = (
        f"On {num.listing([c.data for c in conditions], 4)}"
        if real
        else f"On {num.plural(sum(c.replicates for c in conditions), 'simulated data set')}"
    )
    closest = f"(largest distance {num.significant(worst, 1)} SE)" if worst > 0 else "(identical)"
    if not differ:
        within = " within each criterion" if len(agree) > 1 else ""
        text = f"{where} {' and '.join(agree)} give the same estimates{within} {closest}."
        level = "good"
    else:
        names = [f"{m} in {num.percent(s)} of its fits (farthest {num.significant(far, 2)} SE)" for m, s, far in differ]
        head = f"{where} {' and '.join(agree)} give the same estimates {closest}; " if agree else f"{where} "
        text = f"{head}closer than {SAME:g} SE to the best maximum: {num.listing(names, 4)}."
        level = "bad" if min(s for _, s, _ in differ) < 0.99 else "note"
    if early:
        who = part[part["early"] > 0].groupby("method", sort=False)["early"].sum()
        far = float(part["early_largest"].max())
        places = part.loc[part["early"] > 0, "condition"].unique()
        at = f" on {num.listing([found.label(c) for c in places], 2)}" if real else ""
        text += f" Not counted: {num.plural(early, 'fit')} stopped early ({num.listing(list(who.index), 4)}{at}), "
        text += f"up to {num.significant(far, 2)} SE away."
        level = "note" if level == "good" else level
    return Verdict(level, "Real data" if real else "Simulated data", text, "agreement")


def others(found: Findings) -> Verdict | None:
    """Methods that answer another question: how far from REML they typically are."""
    climbers = maximisers(found)
    part = found.agreement[~found.agreement["method"].isin(climbers) & (found.agreement["n"] > 0)]
    if part.empty:
        return None
    texts = []
    for method, group in part.groupby("method", sort=False):
        middle, far = float(group["median"].median()), group.loc[group["largest"].idxmax()]
        against = str(group["against"].iloc[0]).upper() or "the maximum"
        if far["largest"] <= SAME:
            texts.append(f"{method} gives the {against} estimates")
        elif middle <= SAME:
            size = num.significant(far["largest"], 2)
            where = found.label(far["condition"])
            texts.append(f"{method} gives the {against} estimates but for some, up to {size} SE away ({where})")
        else:
            texts.append(f"{method} lies {num.significant(middle, 2)} SE from {against} in the median")
    return Verdict("good", "Other answers", f"Not maximisers, so no fault: {num.listing(texts, 6)}.", "agreement")
