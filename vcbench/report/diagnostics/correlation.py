"""Autocorrelation of normalized residuals by lag, and the semivariogram of residuals by distance."""

from typing import Any

import numpy as np

from vcbench.inference.residual_correlation import Correlogram, autocorrelation, semivariograms
from vcbench.report.diagnostics.base import (
    DATA,
    INK,
    axis,
    curve,
    edges,
    level_line,
    limits,
    ribbon,
    titled,
    together,
    upright,
)
from vcbench.report.marks import Spec, layer, point, title_of
from vcbench.report.theme import FLAG, MUTED

WIDTH, HEIGHT = 440, 230
STRUCTURE = "#cf5000"


def acf(fit: Any, *, level: float = 0.95) -> Spec:
    """ρ(l) of normalized residuals by lag within units, with a simultaneous band of data sets drawn from the fit."""
    found = autocorrelation(fit, level)
    reach = found.at.max()
    x = axis(
        found.text, nice=False, domain=[0.0, reach * 1.04], axis={"tickMinStep": 1, "tickCount": 10, "grid": False}
    )
    y = upright("autocorrelation", limits(found.value, found.low, found.high, include=[0.0]), HEIGHT)
    out = outside(found)
    rows = [
        {"at": float(a), "value": float(v), "zero": 0.0, "out": bool(o)}
        for a, v, o in zip(found.at, found.value, out, strict=True)
    ]
    colour = {"condition": {"test": "datum.out", "value": FLAG}, "value": DATA}
    spot: Spec = {"x": {"field": "at", **x}, "color": colour}
    layers = [
        ribbon(found.at, found.low, found.high, x, y),
        *edges(found.at, found.low, found.high, x, y),
        level_line(0.0, y),
        curve(found.at, found.mean, x, y, MUTED),
        layer(rows, {"type": "rule", "strokeWidth": 2}, **spot, y={"field": "zero", **y}, y2={"field": "value"}),
        layer(rows, point(40), **spot, y={"field": "value", **y}),
    ]
    note = (
        f"Residuals made uncorrelated by the fitted residual structure (normalized). Band: {100 * level:g} % of data "
        "sets drawn from the fit stay within it at all lags (simultaneous; estimates held); grey line: their mean, not "
        f"0 where effects are estimated. Pairs behind a value: {found.pairs.min()} to {found.pairs.max()}."
    )
    return titled(
        {"width": WIDTH, "height": HEIGHT, "layer": layers}, "Autocorrelation of residuals", note, width=WIDTH
    )


def variogram(fit: Any, *, level: float = 0.95) -> Spec:
    """γ(d) of conditional residuals, that of the fitted structure, and the mean and band of data sets drawn from the
    fit; a panel a direction for a product of two structures."""
    found = semivariograms(fit, level)
    width = WIDTH if len(found) == 1 else 340
    panels = [_panel(g, width) for g in found]
    some = any(g.curve is not None for g in found)
    note = (
        f"Half the mean squared difference of conditional residuals. Band: {100 * level:g} % of data sets drawn from "
        "the fit stay within it at all distances (simultaneous; estimates held); grey line: their mean, what the fit "
        "implies for residuals."
    )
    if some:
        note += " Dashed: the fitted structure itself, for errors that no effect was estimated from."
    return together(panels, 2, "Semivariogram of residuals", note, width=width * len(panels) + 60 * (len(panels) - 1))


def outside(found: Correlogram) -> np.ndarray:
    """(k,) True where a value leaves the band."""
    return (found.value < found.low) | (found.value > found.high)


def _panel(found: Correlogram, width: int) -> Spec:
    x = axis(found.text, nice=False, domain=[0.0, float(found.at.max()) * 1.04], axis={"grid": False})
    values = [found.value, found.low, found.high] + ([] if found.curve is None else [found.curve[1]])
    y = upright("semivariance", [0.0, limits(*values)[1]], HEIGHT)
    layers = [
        ribbon(found.at, found.low, found.high, x, y),
        *edges(found.at, found.low, found.high, x, y),
        curve(found.at, found.mean, x, y, MUTED),
    ]
    if found.curve is not None:
        layers.append(curve(*found.curve, x, y, STRUCTURE, strokeDash=[6, 3], strokeWidth=1.8))
    rows = [
        {"at": float(a), "value": float(v), "out": bool(o)}
        for a, v, o in zip(found.at, found.value, outside(found), strict=True)
    ]
    colour = {"condition": {"test": "datum.out", "value": FLAG}, "value": INK}
    layers.append(layer(rows, point(46), x={"field": "at", **x}, y={"field": "value", **y}, color=colour))
    title = f"{found.pairs.min()} to {found.pairs.max()} pairs a point"
    return {"width": width, "height": HEIGHT, **title_of(title, width), "layer": layers}
