"""BLUPs of every level with their intervals, sorted: which levels differ from the mean, and how well that is known."""

from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.inference.quantile_plots import spread
from vcbench.report.diagnostics.base import axis, limits, together
from vcbench.report.marks import Spec, layer, point, records_of, title_of
from vcbench.report.theme import MUTED

LABELLED = 60  # levels with a line and a label of their own
DRAWN = 400  # levels drawn at all
ENDS = 5
STEP = 13
COLOURS = {"domain": ["holds 0", "excludes 0"], "range": ["#7fa8cc", "#0069a8"]}


def ranef(fit: Any, *, level: float = 0.95, component: str | None = None) -> Spec:
    """One panel a component and effect: û ± z √Var(û − u) of each level, ascending; 0 is the mean of the levels.

    Up to 60 levels have a row and a label each; more are drawn as thin lines without labels, of more than 400 those
    evenly spaced by rank with the first and last five. Filled symbols: the interval excludes 0.
    """
    table = fit.blup(level, component)
    parts = list(table.groupby(["component", "effect"], sort=False))
    columns = min(3, len(parts)) if max(len(part) for _, part in parts) > LABELLED or len(parts) < 4 else 2
    width = {1: 420, 2: 340}.get(columns, 250)
    panels = [_panel(str(c), str(e), part, level, width) for (c, e), part in parts]
    z = "1.96" if level == 0.95 else num.fixed(float(_z(level)), 2)
    note = (
        f"û ± {z} √Var(û − u), levels sorted; 0 is the mean of all levels. Dark: the interval does not hold 0. "
        "Variances are taken as known, fixed effects as estimated."
    )
    return together(panels, columns, "Predicted random effects", note, width=max(columns * (width + 60), 460))


def _z(level: float) -> float:
    from vcbench.inference.intervals import quantile

    return quantile(level)


def ranked(part: pd.DataFrame) -> pd.DataFrame:
    """The rows to draw, ascending, with `rank` among all levels and `side`: whether the interval holds 0."""
    part = part.sort_values("estimate", kind="stable").reset_index(drop=True)
    part["rank"] = np.arange(1, len(part) + 1)
    part["side"] = np.where((part["lower"] > 0) | (part["upper"] < 0), *reversed(COLOURS["domain"]))
    part["level"] = part["level"].astype(str)
    if len(part) > DRAWN:
        part = part.iloc[spread(part["rank"].to_numpy(float), DRAWN, ENDS)]
    return part


def _panel(component: str, effect: str, part: pd.DataFrame, level: float, width: int) -> Spec:
    n, drawn = len(part), ranked(part)
    labelled = n <= LABELLED
    records = records_of(drawn[["level", "rank", "estimate", "lower", "upper", "side"]])
    if labelled:
        order = drawn["level"].tolist()[::-1]
        y: Spec = {"field": "level", "type": "nominal", "sort": order, "title": None,
                   "axis": {"ticks": False, "domain": False, "grid": True, "gridDash": [1, 3], "labelLimit": 150,
                            "minExtent": 10}}  # fmt: skip
        height = STEP * n + 6
    else:
        y = {"field": "rank", "title": "rank of the level", **axis("rank of the level", nice=False, domain=[0, n + 1])}
        y["axis"] = {"grid": False, "tickCount": 5}
        height = min(max(2 * len(drawn), 260), 420)
    said = f"{component}: {effect}" if effect != component else component
    some = "" if len(drawn) == n else f", {num.count(len(drawn))} drawn"
    title = f"{said} ({num.plural(n, 'level')}{some})"
    flat = not (part["se"] > 0).any()
    what = "prediction; the variance is 0, every effect is 0" if flat else f"prediction, {100 * level:g} % interval"
    domain = [-1.0, 1.0] if flat else limits(drawn[["lower", "upper"]].to_numpy(), include=[0.0])
    x = axis(what, nice=False, domain=domain)
    colour = {"field": "side", "type": "nominal", "scale": COLOURS, "legend": None}
    size = 42 if labelled else 9
    layers = [
        layer([{"at": 0.0}], {"type": "rule", "color": MUTED, "strokeDash": [4, 3]}, x={"field": "at", **x}),
        layer(records, {"type": "rule", "strokeWidth": 1.6 if labelled else 0.8}, x={"field": "lower", **x},
              x2={"field": "upper"}, y=y, color=colour),
        layer(records, point(size), x={"field": "estimate", **x}, y=y, color=colour),
    ]  # fmt: skip
    return {"width": width, "height": height, **title_of(title, width + 40), "layer": layers}
