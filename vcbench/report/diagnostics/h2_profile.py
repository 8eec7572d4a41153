"""Profiles of h²: how likely each value from 0 to 1 is beside the best, a panel a phenotype."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench import numbers as num
from vcbench.report.diagnostics.base import DATA, axis, curve, level_line, titled
from vcbench.report.marks import APART, Spec, layer, title_of
from vcbench.report.theme import FLAG, INK, MUTED

if TYPE_CHECKING:
    from vcbench.genetics.results import Heritability

PANELS, COLUMNS = 12, 3
WIDTH, HEIGHT = 250, 160


def h2_profiles(result: "Heritability") -> Spec:
    """exp(ℓ(h²) − ℓ̂) against h² in [0, 1], all else at its maximum: a circle at the estimate, a bar from limit to limit
    of the profile interval, at the height that cuts it out. The first twelve phenotypes.

    Raises MethodError where no profile was kept (`Heritability.profile`).
    """
    kept = [t.name for t in result if t.profile_rows is not None]
    if not kept:
        result.profile()
    panels = [_panel(result, name) for name in kept[:PANELS]]
    height = math.exp(-0.5 * _cut(result.level))
    notes = [
        "Likelihood of h², 1 at its maximum, the total variance and the fixed effects at their best for each h². "
        f"Dashed: {num.fixed(height, 3)}, which cuts out the {num.percent(result.level, 0)} profile interval.",
        f"The first {PANELS} of {len(kept)} phenotypes." if len(kept) > PANELS else "",
    ]
    columns = min(COLUMNS, len(panels))
    chart: Spec = {"concat": panels, "columns": columns, "resolve": {"scale": APART}, "spacing": 24}
    return titled(chart, "Profile likelihood of h²", *notes, width=max(columns * (WIDTH + 62), 420))


def chart(result: "Heritability") -> Any:
    """`h2_profiles` as an Altair chart."""
    from vcbench.report.diagnostics.altair_chart import chart_of
    from vcbench.report.theme import config

    return chart_of({**h2_profiles(result), "config": config()})


def _cut(level: float) -> float:
    """The quantile of χ²_1."""
    from scipy.special import chdtri

    return float(chdtri(1, 1.0 - level))


def _panel(result: "Heritability", name: str) -> Spec:
    """One phenotype."""
    t, points = result[name], result.profile(name)
    height = math.exp(-0.5 * _cut(t.level))
    x = axis("h²", domain=[0.0, 1.0], nice=False)
    y = axis("relative likelihood", domain=[0.0, 1.05], nice=False, axis={"values": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]})
    lower, upper = t.interval("h2")
    bar = {"type": "rule", "color": FLAG, "strokeWidth": 2.5}
    dot = {"type": "point", "filled": True, "color": INK, "size": 46, "opacity": 1}
    marks = [
        level_line(height, y, MUTED, strokeDash=[4, 3], strokeWidth=1.0),
        layer([{"from": lower, "to": upper, "at": height}], bar, x={"field": "from", **x}, x2={"field": "to"},
              y={"field": "at", **y}),
        curve(points["h2"].to_numpy(), np.exp(points["loglik"].to_numpy() - t.loglik), x, y, DATA, strokeWidth=2.0),
        layer([{"at": t.h2, "best": 1.0}], dot, x={"field": "at", **x}, y={"field": "best", **y}),
    ]  # fmt: skip
    se = t.se("h2")
    spread = se if np.isfinite(se) else (upper - lower) / 4
    text = f"{num.estimate(t.h2, spread)}, {num.percent(t.level, 0)}: {num.interval(lower, upper, spread)}"
    below = {"subtitle": text, "subtitleColor": MUTED, "subtitleFontSize": 10.5}
    return {"width": WIDTH, "height": HEIGHT, "title": {**title_of(name, WIDTH)["title"], **below}, "layer": marks}
