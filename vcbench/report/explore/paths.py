"""Convergence paths: how far below the best log-likelihood each method is, iteration by iteration."""

from typing import Any

from vcbench.report import endings
from vcbench.report.explore.numbers import short, shorts
from vcbench.report.findings import Findings, maximisers

POINTS = 20_000  # points in all


def paths(found: Findings) -> list[dict[str, Any]]:
    """One entry a (condition, criterion) with traces: the first replicate, and by method iterations and deficits.

    The deficit is best − ℓ_t, the best being the highest log-likelihood of that criterion on that data set.
    """
    e = found.evidence
    traces = e.traces[e.traces["loglik"].notna()]
    climbers = maximisers(found)
    who = {m: i for i, m in enumerate(e.methods)}
    traced = [(i, c) for i, c in enumerate(e.conditions) if c.id in set(traces["condition"])]
    most = min(60, max(12, POINTS // max(len(traced) * len(climbers), 1)))
    out = []
    for place, condition in traced:
        mine = traces[traces["condition"] == condition.id]
        replicate = int(mine["replicate"].min())
        mine = mine[mine["replicate"] == replicate]
        for criterion in sorted({e.criteria[m] for m in climbers if m in set(mine["method"])}):
            lines = []
            named = [m for m in climbers if e.criteria[m] == criterion and m in set(mine["method"])]
            best = float(mine.loc[mine["method"].isin(named), "loglik"].max())
            for m in named:
                whole = mine[mine["method"] == m].sort_values("iteration")
                thin = endings.thin_trace(whole, most)
                lines.append(
                    {
                        "m": who[m], "i": [int(t) for t in thin["iteration"]],
                        "d": shorts((best - thin["loglik"].astype(float)).clip(lower=0.0), 4),
                    }
                )  # fmt: skip
            out.append(
                {"c": place, "criterion": criterion.upper(), "replicate": replicate, "best": short(best, 9),
                 "lines": lines}
            )  # fmt: skip
    return out
