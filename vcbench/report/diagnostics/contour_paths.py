"""The paths that methods took to the maximum, thinned to what can be seen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcbench import numbers as num
from vcbench.errors import MethodError
from vcbench.inference.pinned import Axis
from vcbench.report.marks import Spec, by, layer, point
from vcbench.report.theme import looks

WIDTH, HEIGHT = 400, 360
NEAREST = 2.5  # pixels between two points of a path that are drawn
FIGURES = (1, 10, 100, 1000, 10_000, 100_000)


def fitted(fit: Any, methods: Sequence[str], start: Any) -> dict[str, Any]:
    """Fits by the methods named, each from `start`; without any, the fit itself."""
    if isinstance(methods, str):
        methods = [m.strip() for m in methods.split(",")]
    if not methods:
        return {fit.method: fit}
    from vcbench.fit import fit as fit_one
    from vcbench.methods import METHODS

    for m in methods:
        if m in METHODS and METHODS[m].kind != "solver":
            raise MethodError(f"`{m}` takes no path over the likelihood. Name methods that climb it: "
                              f"{', '.join(k for k, v in METHODS.items() if v.kind == 'solver')}.")  # fmt: skip
    return {m: fit_one(fit.model, m, fit.criterion, start=start) for m in methods}


def paths(fit: Any, axes: tuple[Axis, Axis], fits: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """(x, y) (iterations + 1, 2) of each fit of the same criterion that kept a trace."""
    p = len(fit.theta_values)
    out = {}
    for label, f in fits.items():
        rows = f.trace_rows
        if f.criterion != fit.criterion or f.is_moments or rows is None or not len(rows):
            continue
        theta, beta = rows[:, 1 : 1 + p], np.asarray(fit.beta_values)
        path = np.column_stack([own.along(theta, beta) for own in axes])
        if np.isfinite(path).all(axis=1).any():
            out[label] = path
    return out


def path_layers(known: Mapping[str, np.ndarray], x: Spec, y: Spec) -> list[Spec]:
    """Lines through the iterates, thinned to what can be seen, with symbols at the start, 1, 10, 100, … and the end."""
    if not known:
        return []
    styles = looks(known)
    labels = {m: f"{m}: {num.plural(len(p) - 1, 'iteration')}" for m, p in known.items()}
    rows, spots = [], []
    for method, path in known.items():
        place = np.column_stack([pixels(path[:, 0], x, WIDTH), pixels(path[:, 1], y, HEIGHT)])
        shown = np.column_stack([shown_on(path[:, k], e) for k, e in enumerate((x, y))])
        marked = {0, len(path) - 1, *(t for t in FIGURES if t < len(path))}
        for t in thinned(place, marked):
            row = {"label": labels[method], "i": int(t), "x": float(shown[t, 0]), "y": float(shown[t, 1])}
            rows.append(row)
            if t in marked:
                spots.append({**row, "size": 60 if t == len(path) - 1 else 30})
    named = {labels[m]: styles[m] for m in known}
    legend = {
        "title": None,
        "orient": "bottom",
        "columns": 3,
        "symbolSize": 60,
        "labelLimit": 260,
        "symbolStrokeWidth": 0,
    }
    spot: Spec = {
        "x": {"field": "x", **x},
        "y": {"field": "y", **y},
        "color": {**by(named, "colour", "label"), "legend": legend},
    }
    shape = {**by(named, "shape", "label"), "legend": legend}
    size = {"field": "size", "type": "quantitative", "scale": None, "legend": None}
    out = []
    widths = np.linspace(2.8 if len(named) > 1 else 1.8, 1.3, len(named))  # of two that run together both are seen
    for (label, look), width in zip(named.items(), widths, strict=True):
        line = {
            "type": "line",
            "strokeJoin": "round",
            "clip": True,
            "strokeWidth": float(width),
            "strokeDash": look.dash,
        }
        out.append(layer([r for r in rows if r["label"] == label], line, **spot, order={"field": "i"}))
    return [*out, layer(spots, {**point(), "clip": True}, **spot, shape=shape, size=size)]


def shown_on(values: np.ndarray, encoding: Spec) -> np.ndarray:
    """Values as they are drawn: 0 on a logarithmic axis at its lower end."""
    if encoding["scale"].get("type") != "log":
        return values
    return np.maximum(values, encoding["scale"]["domain"][0])


def pixels(values: np.ndarray, encoding: Spec, width: int) -> np.ndarray:
    """Places along an axis."""
    low, high = encoding["scale"]["domain"]
    shown = shown_on(values, encoding)
    if encoding["scale"].get("type") == "log":
        return width * np.log(shown / low) / np.log(high / low)
    return width * (shown - low) / (high - low)


def thinned(place: np.ndarray, marked: set[int]) -> list[int]:
    """Positions along a path (m, 2), in pixels, at least NEAREST apart, and those that are marked."""
    out: list[int] = []
    last = None
    for t, spot in enumerate(place):
        if not np.isfinite(spot).all():
            continue
        if t in marked or last is None or float(np.hypot(*(spot - last))) >= NEAREST:
            out.append(t)
            last = spot
    return out
