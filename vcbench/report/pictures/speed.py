"""Iterations and CPU time of a fit by method."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report import endings, marks
from vcbench.report.evidence import STEPS, TIMES
from vcbench.report.findings import Findings, maximisers
from vcbench.report.panels import dot_panel
from vcbench.report.pictures.base import Figure, decades, figure, layout
from vcbench.report.tables import Cell, Table, head

NONE = 0.4  # where no iteration at all is drawn on a log scale
ITERATIONS = f"datum.value < 1 ? '0' : {marks.COUNTS}"


def speed(found: Findings) -> Iterator[Figure]:
    cost = found.cost
    climbs = cost["method"].isin(maximisers(found))
    cost = cost.assign(**{c: cost[c].where(climbs) for c in ("n_iter", "n_iter_p10", "n_iter_p90")})
    iterations, cpu = endings.typical(cost, "n_iter"), endings.typical(cost, "cpu_seconds")
    methods = [m for m in found.evidence.methods if m in set(iterations.index) | set(cpu.index)]
    if not methods:
        return
    rows: list[tuple[Cell, ...]] = []
    fastest = float(cpu.min()) if len(cpu) else np.nan
    for m in methods:
        mine = cost[cost["method"] == m]
        ran = mine["n_iter"].dropna()
        rows.append(
            (
                head(m),
                Cell(num.count(iterations.get(m)), float(iterations.get(m, np.nan))),
                Cell(
                    f"{num.count(ran.min())} to {num.count(ran.max())}" if len(ran) else num.ABSENT,
                    float(ran.max()) if len(ran) else np.nan,
                ),
                Cell(num.count(mine["n_iter_p90"].max()), float(mine["n_iter_p90"].max())),
                Cell(num.seconds(cpu.get(m)), float(cpu.get(m, np.nan))),
                Cell(num.seconds(mine["cpu_seconds_p90"].max()), float(mine["cpu_seconds_p90"].max())),
                Cell(num.times(cpu.get(m, np.nan) / fastest).removesuffix(" times"), float(cpu.get(m, np.nan))),
            )
        )
    columns: tuple[str, ...] = (
        "method",
        "iterations, median",
        "range of medians over conditions",
        "90th percentile, worst condition",
        "CPU time, median",
        "90th percentile, worst condition",
        "times the fastest",
    )
    about = found.evidence.about
    steps = about(*STEPS)
    if not steps:
        columns, rows = (columns[0], *columns[4:]), [(row[0], *row[4:]) for row in rows]
    title = f"{'Iterations and ' if steps else ''}CPU time of a fit"
    note = "Medians over conditions of the medians over data sets."
    table = Table("speed", title, columns, tuple(rows), note)
    frames = []
    for series, column, named, expr, wanted in (
        (iterations, "n_iter", "Iterations", ITERATIONS, steps),
        (cpu, "cpu_seconds", "CPU time of one fit", marks.SECONDS, about(*TIMES)),
    ):
        if series.empty or not wanted:
            continue
        least = NONE if column == "n_iter" else float(series[series > 0].min())
        small = cost[cost[column].notna()][["method", column]].rename(columns={column: "x"})
        small["x"] = small["x"].clip(lower=least)
        wide = cost[cost[column].notna()].groupby("method", sort=False)
        frame = pd.DataFrame({"x": series, "lo": wide[f"{column}_p10"].min(), "hi": wide[f"{column}_p90"].max()})
        frame = frame.clip(lower=least)
        frame = frame.reindex([m for m in methods if m in frame.index])
        shown = num.seconds if column == "cpu_seconds" else num.count
        frame["tip"] = [f"{m}: {shown(float(series[m]))}" for m in frame.index]
        frames.append((frame.rename_axis("method").reset_index(), small, named, expr))

    def draw(narrow: bool) -> Any:
        columns, width = layout(methods, len(frames), narrow)
        panels = []
        for i, (frame, small, named, expr) in enumerate(frames):
            ends = pd.concat([frame["lo"], frame["hi"], frame["x"]]).dropna()
            domain, ticks = decades(ends.clip(lower=1) if expr is ITERATIONS else ends)
            if expr is ITERATIONS and ends.min() < 1:
                domain[0], ticks = 0.7 * NONE, [NONE, *ticks]
            panels.append(
                dot_panel(
                    frame,
                    methods,
                    found.styles,
                    title=named,
                    width=width,
                    labels=i % columns == 0,
                    scale="log",
                    domain=domain,
                    ticks=ticks,
                    label_expr=expr,
                    small=small,
                )
            )
        return marks.grid(panels, columns)

    yield figure(
        "speed",
        "speed",
        f"{title.removesuffix(' of a fit')} by method",
        "Symbol: median over conditions of the median fit; ticks: the conditions; bars: 10th percentile of the easiest "
        "to 90th of the hardest. Log scales."
        + (" An iteration of one method is not an iteration of another: time is paid." if steps else ""),
        table,
        draw,
    )
