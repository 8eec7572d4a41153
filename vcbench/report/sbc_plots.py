"""Pictures of a calibration: the empirical distribution of PITs against its simultaneous band, and histograms of PITs.

Drawn is the difference F̂(u) − u, which the band around 0 holds everywhere with its level for a method that is right.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

from vcbench.report.marks import Spec, grid, stack, title_of
from vcbench.report.theme import BAND, FAMILY_COLOURS, FLAG, GRID, MUTED, Look
from vcbench.study.sbc_bands import counts, n_points, simultaneous_band

BINS = 20
COLUMNS, WIDTH, HEIGHT = 3, 230, 130
PALETTE = [FAMILY_COLOURS[f] for f in ("Posterior", "Second order", "EM", "PX-EM", "Moments", "Other")]
DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [10, 4])
TICKS = {"values": [0, 0.5, 1], "grid": False, "format": ".1~f"}
U = {"field": "u", "type": "quantitative", "scale": {"domain": [0, 1], "nice": False}}


def looks_of(methods: Sequence[str]) -> dict[str, Look]:
    """A colour and a dash for each method, in this order."""
    return {m: Look(PALETTE[i % len(PALETTE)], "circle", "●", DASHES[i % len(DASHES)]) for i, m in enumerate(methods)}


def ecdf_panel(
    pits: Mapping[str, np.ndarray], quantity: str, looks: Mapping[str, Look], level: float = 0.95, edge: float = 0.0
) -> Spec:
    """One quantity: F̂(u) − u of each method, and the band for the largest number of replicates.

    edge: half the height of the view at least; 0 takes what the lines need.
    """
    n = max(len(u) for u in pits.values())
    band = simultaneous_band(n, level)
    z = np.append(0.0, band.z)
    limits = [
        {"u": float(u), "lower": float(low), "upper": float(high)}
        for u, low, high in zip(
            z, np.append(0, band.lower) / n - z, np.append(0, band.upper) / n - z, strict=True
        )
    ]  # fmt: skip
    lines: list[Spec] = []
    reach = max(edge, 1.15 * max(max(-r["lower"], r["upper"]) for r in limits))
    for method, u in pits.items():
        at = np.append(0.0, np.arange(1, n_points(len(u)) + 1) / n_points(len(u)))
        difference = np.append(0, counts(u, at[1:])) / len(u) - at
        reach = max(reach, 1.1 * float(np.abs(difference).max()))
        tip = f"{method}: largest difference {float(np.abs(difference).max()):.3f}"
        lines += [
            {"u": float(x), "y": float(d), "method": method, "tip": tip} for x, d in zip(at, difference, strict=True)
        ]
    scale = {"domain": [-reach, reach], "nice": False}
    axis = {"tickCount": 5, "labelExpr": "datum.value == 0 ? '0' : format(datum.value, '+.2~f')"}
    y = {"type": "quantitative", "scale": scale, "title": None, "axis": axis}
    x = {**U, "title": None, "axis": TICKS}
    names = list(looks)
    colour = {"field": "method", "type": "nominal", "title": None, "sort": names,
              "scale": {"domain": names, "range": [looks[m].colour for m in names]}, "legend": None}  # fmt: skip
    dash = {"field": "method", "type": "nominal", "sort": names, "legend": None,
            "scale": {"domain": names, "range": [looks[m].dash for m in names]}}  # fmt: skip
    shade = {
        "data": {"values": limits},
        "mark": {"type": "area", "color": BAND, "opacity": 1, "interpolate": "linear"},
        "encoding": {"x": x, "y": {**y, "field": "lower"}, "y2": {"field": "upper"}},
    }
    zero = {"data": {"values": [{"y": 0}]}, "mark": {"type": "rule", "color": GRID},
            "encoding": {"y": {**y, "field": "y"}}}  # fmt: skip
    drawn = {
        "data": {"values": lines},
        "mark": {"type": "line", "strokeWidth": 1.6, "strokeJoin": "round", "clip": True},
        "encoding": {"x": x, "y": {**y, "field": "y"}, "color": colour, "strokeDash": dash},
    }
    return {"width": WIDTH, "height": HEIGHT, **title_of(quantity, WIDTH), "layer": [shade, zero, drawn]}


def rank_panel(u: np.ndarray, quantity: str, level: float = 0.95, bins: int = BINS) -> Spec:
    """One quantity of one method: PITs in `bins` bins; all bins of a method that is right lie in the band with `level`
    at least (each with 1 − (1 − level)/bins)."""
    n = len(u)
    height = np.histogram(u, bins, (0, 1))[0]
    tail = 0.5 * (1 - level) / bins
    low, high = (float(binom.ppf(q, n, 1 / bins)) for q in (tail, 1 - tail))
    bars = [
        {"u": k / bins, "end": (k + 1) / bins, "count": int(c), "off": bool(c < low or c > high)}
        for k, c in enumerate(height)
    ]
    top = 1.1 * max(high, float(height.max()))
    x = {**U, "title": None, "axis": TICKS}
    y = {"type": "quantitative", "scale": {"domain": [0, top], "nice": False}, "title": None,
         "axis": {"tickCount": 4}}  # fmt: skip
    shade = {"data": {"values": [{"a": 0, "b": 1, "low": low, "high": high}]},
             "mark": {"type": "rect", "color": BAND, "opacity": 1},
             "encoding": {"x": {**x, "field": "a"}, "x2": {"field": "b"},
                          "y": {**y, "field": "low"}, "y2": {"field": "high"}}}  # fmt: skip
    colour = {"field": "off", "type": "nominal", "legend": None,
              "scale": {"domain": [False, True], "range": [FAMILY_COLOURS["Posterior"], FLAG]}}  # fmt: skip
    drawn = {"data": {"values": bars}, "mark": {"type": "bar", "opacity": 0.75, "binSpacing": 1},
             "encoding": {"x": {**x, "field": "u", "bin": {"binned": True}}, "x2": {"field": "end"},
                          "y": {**y, "field": "count"}, "color": colour}}  # fmt: skip
    line = {"data": {"values": [{"y": n / bins}]}, "mark": {"type": "rule", "color": MUTED, "strokeDash": [3, 3]},
            "encoding": {"y": {**y, "field": "y"}}}  # fmt: skip
    return {"width": WIDTH, "height": HEIGHT, **title_of(quantity, WIDTH), "layer": [shade, drawn, line]}


def legend_of(looks: Mapping[str, Look]) -> Spec:
    """The key of the lines: one row above the panels, as far as there is room."""
    step, places = 16, []
    at = 0.0
    for method, look in looks.items():
        width = 44 + 6.6 * len(method)
        places.append({"a": at, "b": at + 24, "t": at + 30, "method": method, "colour": look.colour})
        at += width + 10
    plain = {"type": "quantitative", "axis": None, "scale": {"domain": [0, max(at, 1.0)], "nice": False}}
    names = list(looks)
    colour = {"field": "method", "type": "nominal", "legend": None, "sort": names,
              "scale": {"domain": names, "range": [looks[m].colour for m in names]}}  # fmt: skip
    dash = {"field": "method", "type": "nominal", "legend": None, "sort": names,
            "scale": {"domain": names, "range": [looks[m].dash for m in names]}}  # fmt: skip
    rule = {"mark": {"type": "rule", "strokeWidth": 2.2},
            "encoding": {"x": {**plain, "field": "a"}, "x2": {"field": "b"}, "color": colour,
                         "strokeDash": dash}}  # fmt: skip
    text = {"mark": {"type": "text", "align": "left", "fontSize": 11},
            "encoding": {"x": {**plain, "field": "t"}, "text": {"field": "method"}, "color": colour}}  # fmt: skip
    return {"data": {"values": places}, "width": max(at, 1.0), "height": step, "layer": [rule, text]}


def ecdf_spec(pits: Mapping[str, Mapping[str, np.ndarray]], level: float = 0.95, columns: int = COLUMNS) -> Spec:
    """A panel a quantity; pits: {quantity: {method: PITs}}. A key of the methods where there are several."""
    methods = list(dict.fromkeys(m for own in pits.values() for m in own))
    looks = looks_of(methods)
    panels = [ecdf_panel(own, quantity, looks, level) for quantity, own in pits.items()]
    body = grid(panels, columns)
    return stack([legend_of(looks), body]) if len(methods) > 1 else body


def rank_spec(pits: Mapping[str, np.ndarray], level: float = 0.95, columns: int = COLUMNS) -> Spec:
    """A histogram a quantity."""
    return grid([rank_panel(u, quantity, level) for quantity, u in pits.items()], columns)


def sbc_chart(sbc: Any, kind: str = "ecdf", level: float = 0.95) -> Any:
    """The Altair chart of a `study.sbc.Sbc`: see `Sbc.plot`. Raises MethodError for an unknown kind."""
    import altair as alt

    from vcbench.errors import MethodError, did_you_mean
    from vcbench.report.theme import config

    if kind not in ("ecdf", "rank"):
        raise MethodError(f"unknown plot `{kind}`. Choose ecdf or rank.{did_you_mean(kind, ('ecdf', 'rank'))}")
    usable = {q: u for q in sbc.quantities if len(u := sbc.pit(q)) > 1}
    if not usable:
        raise MethodError("there are no replicates to draw.")
    if kind == "rank":
        spec = rank_spec(usable, level)
    else:
        spec = ecdf_spec({q: {sbc.method: u} for q, u in usable.items()}, level)
    return alt.Chart.from_dict({**spec, "config": config()})
