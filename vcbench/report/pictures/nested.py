"""Nested-loop plots: a measure in every condition of a grid."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report.evidence import BIASES, STEPS, Condition, show
from vcbench.report.findings import Findings, maximisers, slug
from vcbench.report.marks import APART, Spec, by, layer, point, records_of
from vcbench.report.pictures.base import Figure, figure
from vcbench.report.pictures.speed import ITERATIONS, NONE
from vcbench.report.tables import Cell, cut, head
from vcbench.report.theme import BAND, GRID, INK, MUTED, SURFACE, Look


def nested(found: Findings) -> Iterator[Figure]:
    """Nested-loop plots, where at least two factors make at least four conditions."""
    factors = found.evidence.factors
    conditions = [c for c in found.evidence.simulated if all(f in c.factors for f in factors)]
    if len(factors) < 2 or len(conditions) < 4:
        return
    conditions = sorted(conditions, key=lambda c: (*(_rank(c.factors[f]) for f in factors), c.id))[:120]
    place = {c.id: i for i, c in enumerate(conditions)}
    strip = _strip(conditions, factors)
    about = found.evidence.about
    cost = found.cost[found.cost["condition"].isin(place) & found.cost["n_iter"].notna()]
    cost = cost[cost["method"].isin(maximisers(found))]
    if len(cost) and about(*STEPS):
        frame = pd.DataFrame(
            {"place": cost["condition"].map(place), "method": cost["method"], "y": cost["n_iter"].clip(lower=NONE)}
        )
        yield _loop(found, conditions, strip, frame, "iterations", "Iterations in every condition", True, num.count)
    cells = found.cells[found.cells["condition"].isin(place)]
    if not found.evidence.judged or cells.empty:
        return
    parameter = found.evidence.judged[0]
    cells = cells[cells["parameter"] == parameter]
    relative = bool(cells.loc[cells["bias"].notna(), "relative_bias"].notna().all())
    level = 100 * found.level
    for name, column, what, target, wanted in (
        ("bias", "relative_bias" if relative else "bias", "Relative bias, %, of" if relative else "Bias of", 0.0,
         about(*BIASES)),
        ("coverage", "coverage", f"Coverage, %, of {level:g} % intervals for", level, about("coverage")),
        ("rejection", "rejection", f"Rejections, %, at {100 - level:g} % of", 100 - level, about("rejection")),
    ):  # fmt: skip
        here = cells[cells[column].notna()]
        if not wanted or here.empty or (name != "bias" and not found.evidence.only):
            continue
        scale = 1.0 if column == "bias" else 100.0
        floor = level - 25 if name == "coverage" else -np.inf
        frame = pd.DataFrame(
            {"place": here["condition"].map(place), "method": here["method"], "y": scale * here[column]}
        )
        title = f"{what} {parameter} in every condition"
        shown = partial(num.significant, digits=3)
        yield _loop(found, conditions, strip, frame, f"{name}-{slug(parameter)}", title, False, shown, target, floor)


def _rank(value: Any) -> tuple[int, float, str]:
    return (
        (0, float(value), "")
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else (1, 0.0, str(value))
    )


def _strip(conditions: Sequence[Condition], factors: Sequence[str]) -> pd.DataFrame:
    """Runs of equal levels of each factor, within the runs of the factors before it."""

    rows = []
    n = len(conditions)
    for depth, factor in enumerate(factors):
        keys = [tuple(str(c.factors[f]) for f in factors[: depth + 1]) for c in conditions]
        start = 0
        for i in range(1, n + 1):
            if i == n or keys[i] != keys[start]:
                level = show(conditions[start].factors[factor])
                room = (i - start) * 760 / n > 6.5 * len(level) + 2
                rows.append((i - 1, factor, level, start, i - 1, (start + i - 1) / 2, room))
                start = i
    frame = pd.DataFrame(rows, columns=["place", "factor", "level", "start", "end", "middle", "room"])
    frame["odd"] = frame.groupby("factor").cumcount() % 2
    return frame


def _loop(
    found: Findings,
    conditions: Sequence[Condition],
    strip: pd.DataFrame,
    frame: pd.DataFrame,
    name: str,
    title: str,
    log: bool,
    shown: Callable[[float], str],
    reference: float | None = None,
    floor: float = -np.inf,
) -> Figure:
    methods = [m for m in found.evidence.methods if m in set(frame["method"])]
    values = frame.set_index(["place", "method"])["y"]
    rows = []
    for i, c in enumerate(conditions):
        cells = [head(c.label, c.id)]
        cells += [Cell(shown(values.get((i, m), np.nan)), float(values.get((i, m), np.nan))) for m in methods]
        rows.append(tuple(cells))
    table = cut(f"nested-{name}", title, ("condition", *methods), rows)

    drawn = frame.assign(y=frame["y"].clip(lower=floor))

    def draw(narrow: bool) -> Any:
        return nested_plot(drawn, strip, methods, found.styles, log=log, reference=reference)

    factors = list(dict.fromkeys(strip["factor"]))
    caption = (
        f"{title}, a line a method; the strips give the levels of {num.listing(factors)}, the last varying fastest."
    )
    if bool((frame["y"] < floor).any()):
        caption += f" Values below {floor:g} are drawn there."
    return figure(f"nested-{name}", "conditions", title, caption, table, draw)


def nested_plot(
    frame: pd.DataFrame,
    strip: pd.DataFrame,
    methods: Sequence[str],
    styles: Mapping[str, Look],
    *,
    log: bool,
    width: int = 760,
    height: int = 240,
    reference: float | None = None,
) -> Spec:
    """A nested-loop plot: a step line a method over all conditions, and below it the level of each factor.

    `frame` has place (0, 1, … in the nested order of the factors), method, y. `strip` has factor, level, start, end,
    middle (places), odd (0 or 1, for the shading) and room (whether the level's name fits).
    """
    n = int(strip["end"].max()) + 1
    methods = list(methods)
    chosen = {m: styles[m] for m in methods}
    x = {
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [-0.5, n - 0.5], "nice": False, "zero": False},
        "axis": {"labels": False, "ticks": False, "grid": False, "domain": False},
    }
    y_axis: Spec = {"tickCount": 6}
    if log:
        low, high = float(frame["y"].min()), float(frame["y"].max())
        y_axis = {"values": [*([low] if low < 1 else []), *_nice_log(max(low, 1.0), high)], "labelExpr": ITERATIONS}
    y = {
        "field": "y",
        "type": "quantitative",
        "title": None,
        "scale": {"type": "log", "nice": False} if log else {"zero": False},
        "axis": y_axis,
    }
    legend = {"title": "method", "symbolSize": 70, "symbolLimit": 0, "symbolStrokeWidth": 0}
    colour, shape = ({**by(chosen, what, "method"), "legend": legend} for what in ("colour", "shape"))
    dash = {**by(chosen, "dash", "method"), "legend": None}
    records = records_of(frame[["place", "method", "y"]])
    layers: list[Spec] = []
    if reference is not None:
        layers.append(layer([{"y": reference}], {"type": "rule", "color": MUTED}, y=y))
    base = {"x": {"field": "place", **x}, "y": y, "color": colour}
    layers.append(layer(records, {"type": "line", "interpolate": "step", "strokeWidth": 1.4}, **base, strokeDash=dash))
    layers.append(layer(records, point(42), **base, shape=shape))
    upper = {"width": width, "height": height, "layer": layers}
    order = list(dict.fromkeys(strip["factor"]))
    row = {
        "field": "factor",
        "type": "nominal",
        "sort": order,
        "title": None,
        "axis": {"ticks": False, "domain": False},
    }
    shade = {"field": "odd", "type": "nominal", "scale": {"domain": [0, 1], "range": [BAND, GRID]}, "legend": None}
    cells = strip.assign(left=strip["start"] - 0.5, right=strip["end"] + 0.5)
    keep = ["factor", "level", "left", "right", "middle", "odd"]
    rect = {"type": "rect", "stroke": SURFACE, "strokeWidth": 1.5}
    text = {"type": "text", "fontSize": 10, "color": INK}
    lower = {
        "width": width,
        "height": 19 * len(order),
        "layer": [
            layer(records_of(cells[keep]), rect, x={"field": "left", **x}, x2={"field": "right"}, y=row, color=shade),
            layer(
                records_of(cells.loc[cells["room"], keep]),
                text,
                x={"field": "middle", **x},
                y=row,
                text={"field": "level"},
            ),
        ],
    }
    return {"vconcat": [upper, lower], "spacing": 6, "resolve": {"scale": APART}}


def _nice_log(low: float, high: float) -> list[float]:
    """1, 2, 5 a decade where there are few decades, else powers of ten."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    return [m * 10.0**k for k in range(first, last + 1) for m in steps if low <= m * 10.0**k <= high]
