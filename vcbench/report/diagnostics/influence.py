"""What the fixed effects owe to each group: Cook's distance, and the change of each coefficient when it is left out."""

from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report.diagnostics.base import DATA, axis, limits, titled
from vcbench.report.marks import APART, Spec, layer, point, records_of, title_of
from vcbench.report.theme import FLAG, MUTED

DRAWN = 25  # groups, those of the greatest distance
COEFFICIENTS = 5
STEP = 15


def influence(fit: Any, by: Any = None) -> Spec:
    """Cook's distance and DFBETAS of each group, the most influential first.

    by: a component with groups (default: the first), "rows", or a label for each row. Exact deletion at the variances
    of the whole fit: β̂ without the group is what a refit with these variances would give.
    """
    groups = [c.name for c in fit.model.components if c.codes is not None]
    asked = (groups[0] if groups else None) if by is None else None if isinstance(by, str) and by == "rows" else by
    found = fit.influence(asked)
    distance, betas = found.frame["cooks_distance"], found.dfbetas
    n = len(distance)
    order = distance.sort_values(ascending=False, kind="stable", na_position="first").index[:DRAWN]
    labels = [str(v) for v in order]
    table = pd.DataFrame({"group": labels, "value": distance[order].to_numpy()})
    mark = 4.0 / n
    reach = table["value"].max(skipna=True)
    x = axis("Cook's distance", nice=False, domain=limits(np.array([0.0, reach, 1.2 * mark]), pad=0.03))
    panels = [_panel(table, labels, x, "Cook's distance", [mark], 220, True)]
    size = 2.0 / np.sqrt(n)
    shown = list(betas.columns)[:COEFFICIENTS]
    for name in shown:
        own = pd.DataFrame({"group": labels, "value": betas.loc[order, name].to_numpy()})
        x = axis("DFBETAS", nice=False, domain=limits(own["value"].to_numpy(), include=[-1.2 * size, 1.2 * size]))
        panels.append(_panel(own, labels, x, str(name), [-size, size], 150, False))
    first = f"The {len(labels)} of {num.count(n)} groups with the greatest distance. " if n > DRAWN else ""
    more = len(betas.columns) - len(shown)
    note = (
        f"{first}Each is left out in turn, the variances held at those of the whole fit. Dashed: 4/{num.count(n)} for "
        f"Cook's distance, ±2/√{num.count(n)} for DFBETAS (change in standard errors); beyond them, in red."
    )
    if more > 0:
        note += f" {num.plural(more, 'coefficient')} more not drawn."
    chart: Spec = {"hconcat": panels, "resolve": {"scale": APART}, "spacing": 12}
    width = 280 + 165 * len(shown)
    return titled(chart, f"Influence of each {found.by}", note, width=max(width, 460))


def _panel(
    table: pd.DataFrame, labels: list[str], x: Spec, title: str, marks: list[float], width: int, labelled: bool
) -> Spec:
    beyond = max(abs(m) for m in marks)
    records = records_of(table.assign(out=table["value"].abs() > beyond, zero=0.0))
    y = {
        "field": "group",
        "type": "nominal",
        "sort": labels,
        "title": None,
        "axis": {"labels": labelled, "ticks": False, "domain": False, "grid": True, "gridDash": [1, 3],
                 "labelPadding": 7, "minExtent": 10 if labelled else 0, "labelLimit": 150},
    }  # fmt: skip
    x = {**x, "axis": {"tickCount": max(2, width // 50), "grid": False}}
    colour = {"condition": {"test": "datum.out", "value": FLAG}, "value": DATA}
    drawn = [r for r in records if r["value"] is not None]
    rule = {"type": "rule", "color": MUTED, "strokeDash": [4, 3], "strokeWidth": 1.0}
    layers = [
        layer([{"at": float(m)} for m in marks], rule, x={"field": "at", **x}),
        layer([{"at": 0.0}], {"type": "rule", "color": MUTED, "strokeWidth": 1.0}, x={"field": "at", **x}),
        layer(
            drawn,
            {"type": "rule", "strokeWidth": 1.6},
            x={"field": "zero", **x},
            x2={"field": "value"},
            y=y,
            color=colour,
        ),
        layer(drawn, point(36), x={"field": "value", **x}, y=y, color=colour),
    ]
    return {"width": width, "height": STEP * len(labels) + 6, **title_of(title, width + 10), "layer": layers}
