"""Intervals that a study's methods were asked for: how often they hold the truth, where there are none, how wide."""

import pandas as pd

from vcbench import numbers as num
from vcbench.report.findings import NEAR, Findings
from vcbench.report.verdicts.base import ALARM, Verdict


def intervals(found: Findings) -> Verdict | None:
    """Per method, the cells whose coverage is near its level, best first, and the range of the coverages."""
    cells = _cells(found)
    if cells.empty:
        return None
    near = (cells["coverage"] - found.level).abs() <= NEAR
    counted = near.groupby(cells["method"], sort=False).agg(["sum", "count"])
    counted = counted.sort_values("sum", ascending=False, kind="stable")
    said = []
    for i, (method, (k, n)) in enumerate(zip(counted.index, counted.to_numpy(), strict=True)):
        mine = cells.loc[cells["method"] == method, "coverage"]
        ends = dict.fromkeys([num.percent(mine.min(), 1), num.percent(mine.max(), 1)])
        of = f"{num.count(n)} conditions" if i == 0 else num.count(n)
        said.append(f"{method} in {k or 'none'} of {of} ({' to '.join(ends)})")
    worst = num.fixed(100 * float(cells["coverage_mcse"].max()), 1)
    level = f"{100 * found.level:g} %"
    text = f"Within {100 * NEAR:g} points of {level}: {num.listing(said, 12)}; MCSE at most {worst} points."
    return Verdict("note" if (~near).mean() > ALARM else "good", f"{level} intervals", text, "coverage")


def profiles(found: Findings) -> Verdict | None:
    """Is the profile interval near its level where Wald's are not? And where it is not, why."""
    cells = _cells(found)
    of = {kind: [m for m, (_, entry) in found.evidence.asked.items() if entry.get("kind") == kind] for kind in KINDS}
    table = cells.pivot_table(index=["condition", "parameter"], columns="method", values="coverage", dropna=False)
    wald, profile = ([m for m in of[kind] if m in table] for kind in KINDS)
    if not wald or not profile:
        return None
    off = ((table[wald] - found.level).abs() > NEAR) | table[wald].isna()
    near = (table[profile] - found.level).abs() <= NEAR
    total = int(off.to_numpy().sum())
    if not total:
        return Verdict("good", "Profile or Wald", "Wald intervals are as near to their level as profiles.", "coverage")
    said = [
        f"{m} is near in {num.count(int(off[near[m]].to_numpy().sum()))} of the {num.count(total)} cells where a Wald "
        f"interval is not"
        for m in profile
    ]
    gap = 100 * (table[[*profile, *wald]] - found.level).abs()
    text = f"{num.listing(said, 4)}. At most so many points off: {_most(gap)}"
    edge = found.endings[found.endings["method"] == profile[0]]
    share = edge[edge["status"] == "AT_BOUNDARY"].groupby("condition")["n"].sum() / edge.groupby("condition")["n"].sum()
    away = gap[share.fillna(0.0).reindex(gap.index.get_level_values("condition")).to_numpy() < RARE]
    if 0 < len(away) < len(gap):
        where = f"where less than {100 * RARE:g} % of the estimates are 0 ({num.plural(len(away), 'condition')})"
        text += f"; {where}: {_most(away)}"
    text += "."
    zero = cells[(cells["truth"] == 0) & cells["method"].isin(profile)]
    if len(zero):
        ends = dict.fromkeys([num.percent(zero["coverage"].min(), 1), num.percent(zero["coverage"].max(), 1)])
        half = num.percent((1 + found.level) / 2, 1)
        text += (
            f" Where the true variance is 0, a profile can miss on one side only and covers {' to '.join(ends)}: its"
            f" nominal level there is {half}."
        )
    missed = cells[cells["method"].isin(profile) & (cells["truth"] != 0)]
    missed = missed[(missed["coverage"] - found.level).abs() > NEAR]
    if len(missed):
        which = [f"{r.method} {num.percent(r.coverage, 1)} ({found.label(r.condition)})" for r in missed.itertuples()]
        text += f" Off elsewhere: {num.listing(which, 6)}."
    return Verdict("note" if len(missed) else "good", "Profile or Wald", text, "coverage")


def _most(gap: pd.DataFrame) -> str:
    """The greatest of each column, in words."""
    return num.listing([f"{num.fixed(v, 1)} for {m}" for m, v in gap.max().items()], 8)


KINDS = ("wald", "profile")
RARE = 0.10  # a share of estimates on the boundary below which a variance is told from 0


def absent(found: Findings) -> Verdict | None:
    """The share of fits without an interval, and what becomes of the coverage if each of them is a miss."""
    cells = _cells(found)
    cells = cells[cells["no_interval_rate"] > 0]
    if cells.empty:
        return None
    alike: dict[tuple[float, ...], list[str]] = {}
    for method, mine in cells.groupby("method", sort=False):
        alike.setdefault(tuple(mine["no_interval_rate"]), []).append(str(method))
    said = []
    for methods in alike.values():
        mine = cells[cells["method"] == methods[0]]
        most = mine.loc[mine["no_interval_rate"].idxmax()]
        low = cells[cells["method"].isin(methods)].groupby("method", sort=False)["coverage_penalised"].min()
        said.append(
            f"{num.listing(methods)} {'has' if len(methods) == 1 else 'have'} none in up to"
            f" {num.percent(most['no_interval_rate'])} of fits ({found.label(most['condition'])}); each counted as a"
            f" miss, coverage is {num.listing([num.percent(v, 1) for v in low])} at worst"
        )
    text = f"{'. '.join(said)}."
    return Verdict("note", "No interval", text, "coverage")


def widths(found: Findings) -> Verdict | None:
    """Median widths, relative to the profile's, over the conditions."""
    cells = _cells(found)
    profile = [m for m, (_, entry) in found.evidence.asked.items() if entry.get("kind") == "profile"]
    table = cells.pivot_table(index=["condition", "parameter"], columns="method", values="interval_width_median")
    profile = [m for m in profile if m in table]
    if not profile or table.shape[1] < 2:
        return None
    said = []
    for method in [m for m in table if m != profile[0]]:
        ratio = (table[method] / table[profile[0]]).dropna()
        ends = dict.fromkeys([num.significant(ratio.min(), 2), num.significant(ratio.max(), 2)])
        said.append(f"{method} {' to '.join(ends)}")
    return Verdict("good", "Width", f"Median widths, in those of {profile[0]}: {num.listing(said, 12)}.", "coverage")


def _cells(found: Findings) -> pd.DataFrame:
    """Cells of the judged parameters with a coverage."""
    cells = found.cells[found.cells["parameter"].isin(found.evidence.judged)]
    return cells[cells["coverage"].notna()]
