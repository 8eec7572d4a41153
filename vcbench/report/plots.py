"""Log-likelihood against iteration, for a fit and for a report.

The report draws dozens of panels. Building them through Altair objects costs five times their rendering (deep copies of
the data), so its panels are plain Vega-Lite dictionaries, which vl-convert draws as they are; `convergence_plot` hands
the same specification out as an Altair chart, as `fit.plot("trace")` does (`diagnostics`, where other pictures of a fit
are).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vcbench.numbers import count
from vcbench.report.endings import thin_trace
from vcbench.report.marks import FLOOR, POWERS, Spec, by, point
from vcbench.report.svg import save
from vcbench.report.theme import Look, looks

__all__ = ["convergence_plot", "convergence_spec", "save"]


def convergence_plot(
    traces: Mapping[str, pd.DataFrame] | pd.DataFrame,
    best: float | None = None,
    *,
    criterion: str = "",
    width: int = 330,
    height: int = 220,
) -> Any:
    """Log-likelihood against iteration as an Altair chart: the deficit to the best on a log scale, and the values.

    `traces` maps a method's label to its trace (columns `iteration`, `loglik`), or is one trace, or a frame with a
    `method` column. The deficit is best − ℓ_t, `best` being the highest ℓ seen unless it is given; deficits below 1e-10
    are drawn there. Iterations are on a log scale that begins at 0. All traces must be of one criterion:
    log-likelihoods of ML and REML are not comparable. Save it with `plots.save(chart, path)` as .svg, .png or .json.

    Raises ValueError where no trace has a log-likelihood.
    """
    import altair as alt

    from vcbench.report.theme import config

    spec = convergence_spec(traces, best, criterion=criterion, width=width, height=height)
    return alt.Chart.from_dict({**spec, "config": config()})


def convergence_spec(
    traces: Mapping[str, pd.DataFrame] | pd.DataFrame,
    best: float | None = None,
    *,
    styles: Mapping[str, Look] | None = None,
    criterion: str = "",
    width: int = 330,
    height: int = 220,
    stacked: bool = False,
) -> Spec:
    """The specification behind `convergence_plot`; `stacked` puts the panels one above the other."""
    frames = _by_method(traces)
    styles = styles or looks(frames)
    top = max([float(f["loglik"].max()) for f in frames.values()] + ([best] if best is not None else []))
    labels: dict[str, str] = {}
    values: list[Spec] = []
    for method, frame in sorted(frames.items(), key=lambda item: (item[1]["iteration"].max(), item[0])):
        thin = thin_trace(frame.dropna(subset=["loglik"]))
        labels[method] = f"{method}: {count(frame['iteration'].max())}"
        n = len(thin)
        every = max(n // 5, 4)
        for i, (t, loglik) in enumerate(zip(thin["iteration"], thin["loglik"].astype(float), strict=True)):
            values.append(
                {
                    "label": labels[method],
                    "at": float(t) + 1,
                    "loglik": loglik,
                    "deficit": max(top - loglik, FLOOR),
                    "size": 75 if i == n - 1 else 22 if (n - 1 - i) % every == 0 else 0,
                }
            )
    longest = max(v["at"] for v in values)
    x = {
        "field": "at",
        "type": "quantitative",
        "title": "iteration",
        "scale": {"type": "log", "domain": [1, max(longest, 2)], "nice": False},
        "axis": {
            "values": [1.0] + [10.0**k + 1 for k in range(8) if 10**k < longest],
            "labelExpr": "format(datum.value - 1, ',')",
            "grid": False,
        },
    }
    legend: Spec = {
        "title": "iterations used",
        "symbolSize": 70,
        "symbolLimit": 0,
        "symbolStrokeWidth": 0,
        "labelLimit": 260,
        "columnPadding": 18,
    }
    legend |= {"orient": "bottom", "columns": 2} if stacked else {"orient": "right"}
    own = {labels[m]: styles[m] for m in labels}
    colour, shape = ({**by(own, what, "label"), "legend": legend} for what in ("colour", "shape"))
    dash = {**by(own, "dash", "label"), "legend": None}
    low, high = min(min(v["deficit"] for v in values), 1e-3), max(max(v["deficit"] for v in values), 1e-2)
    step = 2 if low < 1e-5 else 1
    bottom, top_of_view = _view([v["loglik"] for v in values], top)
    for v in values:
        v["shown"] = max(v["loglik"], bottom - 0.3 * (top - bottom))  # far below the view a line need not be exact
    deficit = {
        "field": "deficit",
        "scale": {"type": "log", "nice": False, "domain": [low, high]},
        "axis": {"values": [10.0**k for k in range(int(np.floor(np.log10(low))), 7, step)], "labelExpr": POWERS},
    }
    plain = {
        "field": "shown",
        "scale": {"domain": [bottom, top_of_view], "zero": False, "nice": False},
        "axis": {"tickCount": 5},
    }
    named = f"{criterion.upper()} log-likelihood" if criterion else "Log-likelihood"

    def panel(y: Spec, title: str) -> Spec:
        encoding = {"x": x, "y": {**y, "type": "quantitative", "title": None}, "color": colour}
        line = {
            "mark": {"type": "line", "strokeWidth": 1.8, "strokeJoin": "round", "clip": True},
            "encoding": {**encoding, "strokeDash": dash},
        }
        size = {"field": "size", "type": "quantitative", "scale": None, "legend": None}
        marks = {
            "mark": point(),
            "transform": [{"filter": f"datum.size > 0 && datum.{y['field']} >= {y['scale']['domain'][0]!r}"}],
            "encoding": {**encoding, "shape": shape, "size": size},
        }
        return {"width": width, "height": height, "title": title, "data": {"values": values}, "layer": [line, marks]}

    panels = [panel(deficit, f"{named} below the best (log scale)"), panel(plain, named)]
    shared = {"color": "shared", "shape": "shared", "strokeDash": "shared"}
    return {"vconcat" if stacked else "hconcat": panels, "resolve": {"scale": shared}}


def _view(logliks: list[float], top: float) -> tuple[float, float]:
    """The log-likelihoods to show: twice the span of the upper three quarters of the points, all of it if small.

    A start far below the maximum would otherwise press every path against the upper edge; lines enter from below.
    """
    whole = max(top - min(logliks), 1e-3)
    upper = top - float(np.quantile(logliks, 0.25))
    span = min(max(2 * upper, 1.0), whole)
    return top - 1.03 * span, top + 0.04 * span


def _by_method(traces: Mapping[str, pd.DataFrame] | pd.DataFrame) -> dict[str, pd.DataFrame]:
    if isinstance(traces, pd.DataFrame):
        known = "method" in traces
        traces = {str(m): f for m, f in traces.groupby("method", sort=False)} if known else {"fit": traces}
    frames = {m: f for m, f in traces.items() if len(f) and f["loglik"].notna().any()}
    if not frames:
        raise ValueError("no trace has a log-likelihood: `loglik` is empty in all of them, so there is nothing to plot")
    return frames
