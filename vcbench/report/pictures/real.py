"""Real data: estimates with their standard errors by method, side by side."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report import endings, marks
from vcbench.report.evidence import GOOD, Condition
from vcbench.report.findings import Findings, slug
from vcbench.report.panels import dot_panel
from vcbench.report.pictures.base import PANELS, Figure, figure, layout
from vcbench.report.tables import Cell, Table, head


def real_rows(found: Findings, condition: Condition) -> pd.DataFrame:
    rows = found.evidence.rows(condition.id)
    return rows[rows["replicate"] == rows["replicate"].min()]


def real_table(found: Findings, condition: Condition) -> Table:
    """Methods down, parameters across: estimate (SE), log-likelihood, iterations, time, how it ended."""
    rows = real_rows(found, condition)
    parameters = [p for p in found.evidence.parameters if p in set(rows["parameter"])]
    out = []
    for method in [m for m in found.evidence.methods if m in set(rows["method"])]:
        mine = rows[rows["method"] == method].set_index("parameter")
        fit = mine.iloc[0]
        ok = fit["status"] in endings.ORDER[:2]
        cells = [head(method), head(fit["criterion"].upper() if fit["criterion"] not in ("", "none") else num.ABSENT)]
        for p in parameters:
            value, se = (mine.loc[p, "estimate"], mine.loc[p, "se"]) if p in mine.index else (np.nan, np.nan)
            text = num.with_se(value, se) if se == se else num.estimate(value, _usual_se(rows, p))
            cells.append(Cell(text, float(value)))
        loglik = num.fixed(fit["loglik"], 4)
        cells += [
            Cell(loglik, float(fit["loglik"])),
            Cell(num.count(fit["n_iter"]), float(fit["n_iter"])),
            Cell(num.seconds(fit["cpu_seconds"]), float(fit["cpu_seconds"])),
            head(fit["status"]) if ok else Cell(fit["status"], None, "bad", number=False),
        ]
        out.append(tuple(cells))
    columns = ("method", "criterion", *parameters, "log-likelihood", "iterations", "CPU time", "ended")
    caption = f"{condition.label}: estimates (standard errors) by every method"
    return Table(
        f"real-{slug(condition.label)}",
        caption,
        columns,
        tuple(out),
        "No SE at a boundary: the estimate is at the edge.",
    )


def _both(found: Findings, methods: Sequence[str]) -> str:
    mixed = {"ml", "reml"} <= {found.evidence.criteria[m] for m in methods}
    return " ML estimates of variances are smaller than REML ones by design." if mixed else ""


def _usual_se(rows: pd.DataFrame, parameter: str) -> float:
    return float(rows.loc[rows["parameter"] == parameter, "se"].median())


def real(found: Findings) -> Iterator[Figure]:
    for condition in found.evidence.real[:6]:
        rows = real_rows(found, condition)
        rows = rows[rows["estimate"].notna()]
        parameters = [p for p in found.evidence.parameters if p in set(rows["parameter"])][:PANELS]
        methods = [m for m in found.evidence.methods if m in set(rows["method"])]
        if not methods:
            continue
        frame = pd.DataFrame(
            {
                "parameter": rows["parameter"],
                "method": rows["method"],
                "x": rows["estimate"],
                "lo": (rows["estimate"] - rows["se"]).clip(lower=rows["lower"].fillna(-np.inf)),
                "hi": (rows["estimate"] + rows["se"]).clip(upper=rows["upper"].fillna(np.inf)),
            }
        )
        frame["flag"] = ~rows["status"].isin(GOOD)
        frame["tip"] = [
            f"{m}: {num.with_se(x, s)}" for m, x, s in zip(frame["method"], frame["x"], rows["se"], strict=True)
        ]

        def draw(narrow: bool, frame=frame, parameters=parameters, methods=methods) -> Any:
            columns, width = layout(methods, len(parameters), narrow)
            panels = [
                dot_panel(
                    frame[frame["parameter"] == p].drop(columns="parameter"),
                    methods,
                    found.styles,
                    title=p,
                    width=width,
                    labels=i % columns == 0,
                )
                for i, p in enumerate(parameters)
            ]
            return marks.grid(panels, columns)

        yield figure(
            f"real-{slug(condition.label)}",
            "real",
            f"{condition.label}: estimates by method",
            f"Estimates on {condition.label}, bars ± 1 standard error but within the method's interval."
            f"{' ▲ ended without an answer of the method (see the table).' if frame['flag'].any() else ''}"
            f"{_both(found, methods)}",
            real_table(found, condition),
            draw,
            condition=condition.id,
        )
