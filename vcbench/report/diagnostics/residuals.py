"""Residuals from several sides: against fitted values, their size, their quantiles, those of the BLUPs, by group."""

from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.inference.quantile_plots import spread
from vcbench.inference.reference_sets import ReferenceSets, pointwise
from vcbench.report.diagnostics.base import (
    DATA,
    INK,
    axis,
    chosen,
    curve,
    dots,
    edges,
    level_line,
    limits,
    ribbon,
    titled,
    together,
    upright,
)
from vcbench.report.diagnostics.qq import blup_panels, qq_panel
from vcbench.report.diagnostics.smooth import places, smooth
from vcbench.report.marks import APART, Spec, layer, point, records_of, title_of
from vcbench.report.theme import MUTED

WIDTH, HEIGHT = 250, 220
SMOOTHED, WORK = 200, 4_000_000  # data sets whose smooth is drawn, and a bound on what that costs
GROUPS = 240  # boxes drawn
LABELLED = 45  # with a label
FEW = 12  # values of a group that are drawn one by one


def residuals(fit: Any, *, level: float = 0.95) -> Spec:
    """Residuals against fitted values, their size, quantile plots of residuals and BLUPs, residuals by group.

    Conditional residuals ê = y − Xβ̂ − Zû; standardized, they are over √Var(ê_i). Bands are those of data sets drawn
    from the fit: of a smooth line pointwise, of an ordered curve simultaneous.
    """
    sets = ReferenceSets.of(fit)
    values, _ = sets.residual.standardized()
    panels = [
        _scatter(sets, level, "Residuals against fitted values", "conditional residual", False),
        _scatter(sets, level, "Size of residuals", "√|standardized residual|", True),
        qq_panel(sets.residual, "Quantiles of residuals", "standardized residual", level, WIDTH, HEIGHT),
        *blup_panels(sets, level, WIDTH, HEIGHT),
    ]
    rows: list[Spec] = [{"concat": panels, "columns": 3, "resolve": {"scale": APART}}]
    groups = [c for c in fit.model.components if c.codes is not None]
    groups = [c for c in groups if fit.model.n_obs >= 2 * len(np.unique(c.codes))]  # with one row each: the quantiles
    for c in groups[:2]:
        codes = np.asarray(c.codes)[sets.residual.known]
        rows.append(_by_group(c.name, [str(v) for v in c.levels], codes, values))
    note = (
        f"Bands are of data sets drawn from the fit, its estimates held: of smooth lines {100 * level:g} % at each "
        f"point; of quantiles the whole ordered curve of {100 * level:g} % of them (simultaneous). Diamonds: outside. "
        "Shrinkage alone makes residuals rise with fitted values: compare with the band, not with 0."
    )
    exact = int((~sets.residual.known).sum())
    if exact:
        note += f" {num.plural(exact, 'row')} without a residual of its own (always fitted exactly) not standardized."
    if len(rows) == 1:
        return together(panels, 3, "Residuals", note, width=900)
    return titled({"vconcat": rows, "resolve": {"scale": APART}}, "Residuals", note, width=900)


def _scatter(sets: ReferenceSets, level: float, title: str, what: str, size: bool) -> Spec:
    """Residuals (or the root of their standardized size) against fitted values, with a smooth line and its band."""
    keep = sets.residual.known if size else np.ones(len(sets.fitted), bool)
    fitted, fitted_sets = sets.fitted[keep], sets.fitted_sets[keep]
    if size:
        value, drawn = (np.sqrt(np.abs(v)) for v in sets.residual.standardized())
    else:
        value, drawn = sets.residual.value, sets.residual.sets
    spread_out = float(np.ptp(fitted)) > 1e-9 * float(np.abs(fitted).max())
    at, layers, some = places(fitted), [], chosen(np.abs(value))
    short = "" if len(some) == len(value) else f" ({num.count(len(some))} of {num.count(len(value))} rows)"
    x = axis("fitted value" + (short if spread_out else ": all equal"), nice=False, domain=limits(fitted))
    y = upright(what, limits(value) if not size else [0.0, limits(value)[1]], HEIGHT)
    if not size:
        layers.append(level_line(0.0, y))
    if spread_out:
        m = int(min(drawn.shape[1], SMOOTHED, max(50, WORK // (len(at) * len(value)))))
        lines = np.column_stack([_line(fitted_sets[:, s], drawn[:, s]) for s in range(m)])
        at, first = np.unique(at, return_index=True)
        low, _, high = pointwise(lines[first], level)
        layers = [ribbon(at, low, high, x, y), *layers]
    layers += dots(fitted[some], value[some], None, x, y, 16 if len(some) < 500 else 7)
    if spread_out:
        layers += edges(at, low, high, x, y)
        layers.append(curve(at, smooth(fitted, value, at), x, y, INK, strokeWidth=1.6))
    return {"width": WIDTH, "height": HEIGHT, **title_of(title, WIDTH + 20), "layer": layers}


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return smooth(x, y, places(x))


def by_group(names: list[str], codes: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """group, n, low, q1, median, q3, high of the values of each group, by ascending median."""
    grouped = pd.Series(values).groupby(codes)
    table = grouped.quantile([0.0, 0.25, 0.5, 0.75, 1.0]).unstack()
    table.columns = ["low", "q1", "median", "q3", "high"]
    table.insert(0, "n", grouped.size())
    table.insert(0, "group", [names[i] for i in table.index])
    return table.sort_values("median", kind="stable").reset_index(names="code")


def _by_group(name: str, names: list[str], codes: np.ndarray, values: np.ndarray) -> Spec:
    """Standardized residuals of each group: a box from quartile to quartile, the median, lines to the extremes."""
    table, width = by_group(names, codes, values), 3 * WIDTH + 150
    n = len(table)
    table["at"] = np.arange(1, n + 1)
    if n > GROUPS:
        table = table.iloc[spread(table["at"].to_numpy(float), GROUPS, 10)].assign(
            at=lambda t: np.arange(1, len(t) + 1)
        )
    labelled = n <= LABELLED
    order = table["group"].tolist()
    style = {"ticks": False, "labels": labelled, "labelAngle": 0 if _fits(order, width) else -60, "domain": False}
    said = name if labelled else f"{name}, by ascending median"
    x: Spec = {"field": "group", "type": "nominal", "sort": order, "title": said, "axis": style}
    y = axis("standardized residual")
    layers = [level_line(0.0, y)]
    records = records_of(table[["group", "low", "q1", "median", "q3", "high"]])
    thin = width / len(table)
    if table["n"].max() <= FEW and len(table) <= LABELLED:
        where = {int(c): g for c, g in zip(table["code"], table["group"], strict=True)}
        rows = [{"group": where[int(c)], "value": float(v)} for c, v in zip(codes, values, strict=True)]
        layers.append(layer(rows, {**point(18), "color": DATA, "opacity": 0.75}, x=x, y={"field": "value", **y}))
    else:
        rule = {"type": "rule", "color": MUTED, "strokeWidth": 1.0}
        layers.append(layer(records, rule, x=x, y={"field": "low", **y}, y2={"field": "high"}))
        box = {"type": "rule", "color": DATA, "strokeWidth": float(np.clip(0.55 * thin, 1.2, 14))}
        layers.append(layer(records, box, x=x, y={"field": "q1", **y}, y2={"field": "q3"}))
    tick = {
        "type": "tick",
        "orient": "horizontal",
        "color": INK,
        "thickness": 1.6,
        "size": float(np.clip(0.7 * thin, 2, 16)),
    }
    layers.append(layer(records, tick, x=x, y={"field": "median", **y}))
    short = "" if len(table) == n else f" ({num.count(len(table))} of {num.count(n)} groups, evenly by rank)"
    title = f"Residuals by {name}{short}"
    return {"width": width, "height": 170, **title_of(title, width), "layer": layers}


def _fits(labels: list[str], width: int) -> bool:
    """True where labels have room side by side."""
    return 6.2 * max(len(v) for v in labels) < width / len(labels) - 2
