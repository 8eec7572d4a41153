"""How far each method ends from the best maximum."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from vcbench import numbers as num
from vcbench.report import marks
from vcbench.report.agreement import SAME
from vcbench.report.findings import Findings
from vcbench.report.panels import dot_panel
from vcbench.report.pictures.base import Figure, figure, layout
from vcbench.report.tables import Cell, cut, head


def agreement(found: Findings) -> Iterator[Figure]:
    table = found.agreement
    if table.empty:
        return
    rows = []
    for r in table.itertuples():
        climbs = r.method in found.evidence.climbs
        far = climbs and r.n > 0 and r.largest > SAME
        rows.append(
            (
                head(found.label(r.condition), r.condition),
                head(r.method),
                head(r.against.upper() or "likelihood"),
                Cell(num.count(r.n), r.n),
                Cell(num.significant(r.largest, 2), r.largest, "off" if far else ""),
                Cell(num.significant(r.median, 2), r.median),
                Cell(num.percent(r.share_same), r.share_same),
                Cell(num.significant(r.deficit, 2), r.deficit),
                Cell(num.count(r.early) if r.early else num.ABSENT, r.early),
                Cell(num.significant(r.early_largest, 2), r.early_largest),
            )
        )
    columns = (
        "condition",
        "method",
        "against the best",
        "fits",
        "largest distance / SE",
        "median distance / SE",
        f"within {SAME:g} SE",
        "largest ℓ deficit",
        "stopped early",
        "their distance / SE",
    )
    twin = cut(
        "agreement",
        "Distance of each method's variance estimates from the best maximum found on the same data",
        columns,
        rows,
        heads=2,
    )
    methods = [m for m in found.evidence.methods if m in set(table["method"])]
    sets = [
        (name, cs)
        for name, cs in (("Real data", found.evidence.real), ("Simulated data", found.evidence.simulated))
        if cs
    ]
    frames = []
    for name, conditions in sets:
        part = table[table["condition"].isin([c.id for c in conditions]) & table["largest"].notna()]
        small = part.assign(x=part["largest"].clip(lower=marks.FLOOR))[["method", "x"]]
        top = small.groupby("method", sort=False)["x"].max().reset_index()
        top["tip"] = [f"{m}: {num.significant(x, 2)} SE" for m, x in zip(top["method"], top["x"], strict=True)]
        frames.append((name, top, small))
    high = max([float(f["x"].max()) for _, f, _ in frames if len(f)] + [1.0])
    domain = [marks.FLOOR / 4, 10.0 ** np.ceil(np.log10(high))]
    ticks = [10.0**k for k in range(-10, int(np.log10(domain[1])) + 1, 2)]
    expr = f"datum.value <= {marks.FLOOR * 1.5} ? '≤1e−10' : {marks.POWERS}"

    def draw(narrow: bool) -> Any:
        columns, width = layout(methods, len(frames), narrow)
        panels = [
            dot_panel(
                top,
                methods,
                found.styles,
                title=name,
                width=width,
                labels=i % columns == 0,
                scale="log",
                domain=domain,
                ticks=ticks,
                label_expr=expr,
                band=(domain[0], SAME),
                small=small,
                x_title="largest distance, in standard errors",
            )
            for i, (name, top, small) in enumerate(frames)
        ]
        return marks.grid(panels, columns)

    yield figure(
        "agreement",
        "agreement",
        "How far each method ends from the best maximum",
        "Largest distance in standard errors (symbol: worst condition, ticks: each condition). Shaded: closer than a "
        "thousandth of a standard error. Moments and posteriors answer another question and are set against REML.",
        twin,
        draw,
    )
