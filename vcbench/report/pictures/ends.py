"""How fits ended, by method."""

from collections.abc import Iterator
from typing import Any

from vcbench import numbers as num
from vcbench.report import endings
from vcbench.report.findings import Findings
from vcbench.report.panels import stacked_bars
from vcbench.report.pictures.base import Figure, figure, layout
from vcbench.report.tables import Cell, Table, head


def ends(found: Findings) -> Iterator[Figure]:
    counted = found.endings.groupby(["method", "status"], sort=False)["n"].sum().reset_index()
    total = counted.groupby("method")["n"].transform("sum")
    counted = counted.assign(share=counted["n"] / total, text=[num.count(n) for n in counted["n"]])
    methods = [m for m in found.evidence.methods if m in set(counted["method"])]
    statuses = [s for s in endings.ORDER if s in set(counted["status"])]
    statuses += [s for s in dict.fromkeys(counted["status"]) if s not in statuses]
    n = counted.set_index(["method", "status"])["n"]
    rows = []
    for m in methods:
        cells = [head(m)]
        for s in statuses:
            k = int(n.get((m, s), 0))
            cells.append(Cell(num.count(k), k, "bad" if k and s not in (*endings.ORDER[:2], "SKIPPED") else ""))
        rows.append(tuple(cells))
    table = Table("endings", "How the fits ended, by method", ("method", *statuses), tuple(rows))

    def draw(narrow: bool) -> Any:
        _, width = layout(methods, 1, narrow)
        return stacked_bars(counted, methods, width=width if narrow else 760, narrow=narrow)

    yield figure(
        "endings",
        "failures",
        "How the fits ended",
        "Shares of the fits of each method by status, counts inside. CONVERGED and AT_BOUNDARY (the maximum is on the "
        "edge of the parameter space) are answers.",
        table,
        draw,
    )
