"""Panels with one row a method, and zip plots, each a function from a small frame to a Vega-Lite specification."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vcbench.report.marks import STEP, Spec, by, has, layer, point, records_of, title_of
from vcbench.report.theme import BAND, FLAG, INK, MUTED, STATUS_COLOURS, SURFACE, Look


def dot_panel(
    frame: pd.DataFrame,
    methods: Sequence[str],
    styles: Mapping[str, Look],
    *,
    title: str = "",
    x_title: str | None = None,
    width: int = 200,
    labels: bool = True,
    domain: Sequence[float] | None = None,
    scale: str = "linear",
    ticks: Sequence[float] | None = None,
    label_expr: str | None = None,
    reference: float | None = None,
    band: tuple[float, float] | None = None,
    second: bool = False,
    small: pd.DataFrame | None = None,
) -> Spec:
    """One row a method: a symbol at `x`, a bar from `lo` to `hi`, ▲ at the right edge where `flag` is true.

    `frame` has method, x, lo, hi, flag, tip, and may have `beside`, a text to the right of the symbol. `second` draws
    an open diamond at column `x2` (a second quantity of the same unit); `small` (method, x) draws thin ticks behind.
    `reference` is a line, `band` a shaded range.
    """
    methods = list(methods)
    chosen = {m: styles[m] for m in methods}
    axis: Spec = {"values": list(ticks)} if ticks is not None else {"tickCount": max(2, width // 55)}
    if label_expr:
        axis["labelExpr"] = label_expr
    limits: Spec = {"domain": list(domain), "clamp": True, "nice": False} if domain is not None else {"nice": True}
    x_base = {
        "type": "quantitative",
        "title": x_title,
        "scale": {"type": scale, **({} if scale == "log" else {"zero": False}), **limits},
        "axis": {**axis, "labelOverlap": True},
    }

    def x(field: str) -> Spec:
        return {"field": field, **x_base}

    y = {
        "field": "method",
        "type": "nominal",
        "sort": methods,
        "title": None,
        "scale": {"domain": methods, "paddingOuter": 0.25},
        "axis": {"labels": labels, "ticks": False, "domain": False, "grid": True, "gridDash": [1, 3]},
    }
    colour = {**by(chosen, "colour", "method"), "legend": None}
    shape = {**by(chosen, "shape", "method"), "legend": None}
    layers: list[Spec] = []
    if band is not None:
        mark = {"type": "rect", "color": BAND, "opacity": 1}
        layers.append(layer([{"lo": band[0], "hi": band[1]}], mark, x=x("lo"), x2={"field": "hi"}))
    if reference is not None:
        layers.append(layer([{"at": reference}], {"type": "rule", "color": MUTED}, x=x("at")))
    if small is not None and len(small):
        mark = {"type": "tick", "thickness": 1.2, "size": 9, "opacity": 0.55}
        layers.append(layer(records_of(small), mark, x=x("x"), y=y, color=colour))
    records = records_of(frame)
    bars = [r for r in records if has(r, "lo", "hi")]
    if bars:
        layers.append(
            layer(bars, {"type": "rule", "strokeWidth": 1.6}, x=x("lo"), x2={"field": "hi"}, y=y, color=colour)
        )
    points = [r for r in records if has(r, "x")]
    tip = {"field": "tip", "type": "nominal"}
    layers.append(layer(points, {**point(58), "aria": True}, x=x("x"), y=y, color=colour, shape=shape, description=tip))
    if second:
        mark = {
            "type": "point",
            "filled": False,
            "shape": "diamond",
            "size": 70,
            "strokeWidth": 1.6,
            "color": INK,
            "opacity": 1,
        }
        layers.append(layer([r for r in records if has(r, "x2")], mark, x=x("x2"), y=y))
    said = [r for r in points if r.get("beside")]
    if said:
        mark = {"type": "text", "fontSize": 10, "color": MUTED, "align": "left", "dx": 7}
        layers.append(layer(said, mark, x=x("x"), y=y, text={"field": "beside"}))
    flagged = [r for r in records if r.get("flag")]
    if flagged:
        mark = {"type": "text", "text": "▲", "color": FLAG, "fontSize": 10, "align": "left", "dx": 3}
        layers.append(layer(flagged, mark, x={"value": width}, y=y))
    return {"width": width, "height": STEP * len(methods) + 8, **title_of(title, width + 26), "layer": layers}


def zip_panel(
    frame: pd.DataFrame, truth: float, *, title: str, width: int, domain: Sequence[float], labels: bool, level: float
) -> Spec:
    """A zip plot: intervals stacked by the centile of |θ̂ − θ|/SE; those that miss are dashed and another colour.

    `frame` has centile, lower, upper, covers. The line across is at the nominal level: there a perfect method begins
    to miss.
    """
    x_scale = {"domain": list(domain), "clamp": True, "nice": False, "zero": False}
    x = {
        "type": "quantitative",
        "title": None,
        "scale": x_scale,
        "axis": {"tickCount": max(2, width // 60), "grid": False},
    }
    y = {
        "type": "quantitative",
        "scale": {"domain": [0, 100], "nice": False},
        "title": "centile of |z|" if labels else None,
        "axis": {"values": [0, 25, 50, 75, 100 * level], "labels": labels, "grid": False},
    }
    data = frame.assign(ends=np.where(frame["covers"], "covers", "misses"))
    ends = {"field": "ends", "type": "nominal", "legend": None}
    colour = {**ends, "scale": {"domain": ["covers", "misses"], "range": ["#0069a8", "#cf5000"]}}
    dash = {**ends, "scale": {"domain": ["covers", "misses"], "range": [[1, 0], [5, 2]]}}
    layers = [
        layer(
            records_of(data[["lower", "upper", "centile", "ends"]]),
            {"type": "rule", "strokeWidth": 1.3},
            x={"field": "lower", **x},
            x2={"field": "upper"},
            y={"field": "centile", **y},
            color=colour,
            strokeDash=dash,
        ),
        layer([{"at": truth}], {"type": "rule", "color": INK, "strokeWidth": 1.2}, x={"field": "at", **x}),
        layer([{"at": 100 * level}], {"type": "rule", "color": MUTED, "strokeDash": [3, 3]}, y={"field": "at", **y}),
    ]
    return {"width": width, "height": 190, **title_of(title, width + 10), "layer": layers}


def stacked_bars(frame: pd.DataFrame, methods: Sequence[str], *, width: int, narrow: bool = False) -> Spec:
    """How fits ended: one bar a method, its parts the shares of each status, with counts where there is room.

    `frame` has method, status, share, text.
    """
    present = [s for s in STATUS_COLOURS if s in set(frame["status"])]
    present += [s for s in dict.fromkeys(frame["status"]) if s not in present]
    colours = [STATUS_COLOURS.get(s, STATUS_COLOURS["SKIPPED"]) for s in present]
    frame = frame.assign(rank=frame["status"].map({s: i for i, s in enumerate(present)}))
    frame = frame.sort_values(["method", "rank"], kind="stable")
    frame["end"] = frame.groupby("method")["share"].cumsum()
    frame["start"] = frame["end"] - frame["share"]
    frame["middle"] = (frame["start"] + frame["end"]) / 2
    room = frame["share"] * width > 7.0 * frame["text"].str.len() + 4
    y = {
        "field": "method",
        "type": "nominal",
        "sort": list(methods),
        "title": None,
        "scale": {"domain": list(methods), "padding": 0.18},
        "axis": {"ticks": False, "domain": False},
    }
    x = {
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [0, 1], "nice": False},
        "axis": {"format": ".0%", "tickCount": 5, "grid": False},
    }
    legend = {"title": None, "orient": "top", "columns": 2 if narrow else 7, "symbolType": "square", "labelLimit": 200}
    colour = {
        "field": "status",
        "type": "nominal",
        "scale": {"domain": present, "range": colours},
        "sort": present,
        "legend": legend,
    }
    keep = ["method", "status", "start", "end", "middle", "text"]
    bar = {"type": "bar", "stroke": SURFACE, "strokeWidth": 1}
    text = {"type": "text", "fontSize": 11, "color": INK}
    layers = [
        layer(records_of(frame[keep]), bar, x={"field": "start", **x}, x2={"field": "end"}, y=y, color=colour),
        layer(records_of(frame.loc[room, keep]), text, x={"field": "middle", **x}, y=y, text={"field": "text"}),
    ]
    return {"width": width, "height": (STEP + 4) * len(methods), "layer": layers}
