"""The lines of zip plots: order statistics of the intervals, for every condition, parameter and method."""

from typing import Any

from vcbench.report import endings
from vcbench.report.explore.numbers import short, shorts
from vcbench.report.findings import Findings

LINES, MOST, LEAST = 60_000, 100, 20  # lines in all, and of one plot


def zips(found: Findings, parameters: tuple[str, ...]) -> list[dict[str, Any]]:
    """One entry a cell with intervals: places c, p, m; truth; lower and upper by rising |z|; the lines that miss.

    Beyond LINES lines in all each plot has fewer, LEAST at the least; where that is still too many, the cells
    farthest from their level keep theirs.
    """
    e = found.evidence
    at = {c.id: i for i, c in enumerate(e.conditions)}
    which = {p: i for i, p in enumerate(parameters)}
    who = {m: i for i, m in enumerate(e.methods)}
    cells = found.cells[found.cells["coverage"].notna() & found.cells["parameter"].isin(e.judged)]
    most = min(MOST, max(LEAST, LINES // max(len(cells), 1)))
    if len(cells) * most > LINES:
        far = (cells["coverage"] - found.level).abs().sort_values(ascending=False, kind="stable")
        cells = cells.loc[sorted(far.index[: LINES // most])]
    out = []
    for r in cells.itertuples():
        lines = endings.zip_lines(e, r.condition, r.parameter, r.method, most)
        if len(lines) == 0:
            continue
        out.append(
            {
                "c": at[r.condition], "p": which[r.parameter], "m": who[r.method], "n": int(r.n_valid),
                "truth": short(r.truth), "lower": shorts(lines["lower"], 4), "upper": shorts(lines["upper"], 4),
                "miss": [i for i, covers in enumerate(lines["covers"]) if not covers],
            }
        )  # fmt: skip
    return out
