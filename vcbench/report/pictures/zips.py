"""Zip plots: the intervals behind a coverage."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from vcbench import numbers as num
from vcbench.report import endings, marks
from vcbench.report.findings import Findings, slug, worst_first
from vcbench.report.panels import zip_panel
from vcbench.report.pictures.base import WIDE, Figure, domain_of, figure
from vcbench.report.tables import Cell, Table, head


def zips(found: Findings, parameter: str) -> Iterator[Figure]:
    asked = any(what == "interval" for what, _ in found.evidence.asked.values())
    conditions, _ = worst_first(found, parameter, "coverage", "coverage_mcse", found.level, 1)
    if not conditions:
        return
    condition = conditions[0]
    apart = found.cells[(found.cells["parameter"] == parameter) & (found.cells["truth"] != 0)]
    if asked and len(apart):  # of intervals, where each of them can hold the truth
        condition = found.evidence.condition(apart.loc[(apart["coverage"] - found.level).abs().idxmax(), "condition"])
    cells = found.cells[(found.cells["parameter"] == parameter) & (found.cells["condition"] == condition.id)].set_index(
        "method"
    )
    panels: list[tuple[str, pd.DataFrame, float]] = []
    answers = [(m, (m,)) for m in found.evidence.methods] if asked else list(found.groups)
    for name, methods in answers:
        method = found.representative(methods)
        lines = endings.zip_lines(found.evidence, condition.id, parameter, method)
        if len(lines) and method in cells.index:
            panels.append((name, lines, float(cells.loc[method, "coverage"])))
    panels = panels[: 8 if asked else 6]
    if not panels:
        return
    truth = float(cells["truth"].iloc[0])
    every = pd.concat([p[1] for p in panels])
    if asked:  # one kind's boundless intervals are not to press the others together
        far = float(pd.Series([lines["upper"].quantile(0.9) for _, lines, _ in panels]).median())
        near = min(float(pd.Series([lines["lower"].quantile(0.1) for _, lines, _ in panels]).median()), truth)
        every = every.clip(lower=near - 0.3 * (truth - near), upper=max(far, truth) * 1.3)
    domain = domain_of([every["lower"], every["upper"]], truth)
    domain[1] = min(
        domain[1], float(every["upper"].quantile(0.98)) * 1.05 if every["upper"].quantile(0.98) > truth else domain[1]
    )
    rows = [
        (
            head(name),
            head(", ".join(dict(answers)[name])),
            Cell(num.percent(share), share),
            Cell(num.count(len(lines)), len(lines)),
        )
        for name, lines, share in panels
    ]
    slugged = f"zip-{slug(parameter)}"
    table = Table(
        slugged,
        f"Intervals of the zip plot, {parameter}, {condition.label}",
        ("answer", "methods", "coverage", "lines drawn"),
        tuple(rows),
    )

    def draw(narrow: bool) -> Any:
        chosen = panels[:3] if narrow else panels
        columns = 1 if narrow else min(len(chosen), 4)
        width = 270 if narrow else min(300, (WIDE - 70 - 30 * columns) // columns)
        charts = [
            zip_panel(
                lines,
                truth,
                title=f"{name} · {num.percent(share)}",
                width=width,
                domain=domain,
                labels=i % columns == 0,
                level=found.level,
            )
            for i, (name, lines, share) in enumerate(chosen)
        ]
        return marks.grid(charts, columns)

    yield figure(
        slugged,
        "coverage",
        f"Zip plot of {parameter}, {condition.label}",
        f"Intervals for {parameter} where coverage is farthest from nominal ({condition.label}), stacked by how far "
        "the estimate is off in SEs. Solid lines hold the truth, dashed ones miss it; a perfect method begins to miss "
        f"at {100 * found.level:g}.{' Lines that reach an edge go on.' if asked else ''}",
        table,
        draw,
        parameter=parameter,
    )
