"""Likelihood regions of two parameters, and the paths that methods took to the maximum."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.interpolate import RectBivariateSpline

from vcbench import numbers as num
from vcbench.errors import MethodError
from vcbench.inference.likelihood_surface import LEVELS, STEPS, Surface, quantile_two, surface
from vcbench.inference.pinned import axis_of
from vcbench.report.diagnostics.base import axis, titled, upright
from vcbench.report.diagnostics.contour_lines import contour_lines
from vcbench.report.diagnostics.contour_paths import FIGURES, HEIGHT, WIDTH, fitted, path_layers, paths, pixels
from vcbench.report.marks import Spec, layer
from vcbench.report.theme import INK, MUTED, SURFACE

FAR_STEPS = 19  # of the grid behind the whole paths
LOGARITHMIC, BESIDE = 15.0, 4.0  # a positive axis is logarithmic where its ends differ by more; beside another such one
FLOOR = 1e-3  # of the estimate: where 0 is drawn on a logarithmic axis
SMALLEST = 60.0  # pixels: a line around the maximum that is smaller has no label
FINER = 4  # times as many grid lines for smooth contours


def contour(
    fit: Any,
    x: str | None = None,
    y: str | None = None,
    *,
    methods: Sequence[str] = (),
    start: Any = "unit",
    fits: Mapping[str, Any] | None = None,
    steps: int = STEPS,
) -> Spec:
    """ℓ over two parameters, the others at their maximum, with contours at the 50, 80, 95 and 99 % likelihood regions.

    x, y: names of parameters (SDs, correlations, parameters of structures; a component with one variance by its name);
    default: the first two SDs. Paths: that of the fit; of `methods`, fitted from `start` on the same model under the
    same criterion; or of `fits` by label. A second panel shows whole paths where they begin outside the regions.
    """
    first, second = _names(fit, x, y)
    near = surface(fit, first, second, steps=steps)
    known = paths(fit, (near.x, near.y), fits if fits is not None else fitted(fit, methods, start))
    panels = [_near(near, known)]
    outside = {m for m, p in known.items() if not _holds(near, p)}
    if outside:
        panels.insert(0, _far(fit, near, known, first, second))
    criterion = "REML log-likelihood (fixed effects integrated out)" if near.criterion == "reml" else (
        "log-likelihood (fixed effects profiled out)")  # fmt: skip
    others = "" if near.others == "none" else ", all other parameters at their maximum"
    note = (
        f"{criterion[0].upper()}{criterion[1:]}{others}. Lines: likelihood regions, where twice the fall from the "
        f"maximum is the χ² quantile on 2 df ({', '.join(f'{quantile_two(p):.2f}' for p in LEVELS)}). Cross: the "
        "maximum."
    )
    if known:
        note += " Symbols on a path: its start, iterations 1, 10, 100, … and its end."
    width = WIDTH * len(panels) + 60 * (len(panels) - 1)
    chart: Spec = {
        "hconcat": panels,
        "resolve": {"scale": {"color": "shared", "shape": "shared", "strokeDash": "shared"}},
    }
    return titled(chart, "Likelihood contours", note, width=width)


def _names(fit: Any, x: str | None, y: str | None) -> tuple[str, str]:
    """The two parameters asked for; by default the first two variances."""
    own = [n for n, v in zip(fit.facts.theta_names, fit.facts.is_variance, strict=True) if v]
    if len(own) < 2 and len(fit.facts.theta_names) > 1:
        own = list(fit.facts.theta_names)
    if len(own) < 2:
        raise MethodError(f"a contour needs two variance parameters; this model has one, `{fit.facts.theta_names[0]}`.")
    chosen = [x, y]
    if x is None:
        chosen[0] = next(n for n in own if y is None or axis_of(fit, n).name != axis_of(fit, y).name)
    if y is None:
        chosen[1] = next(n for n in own if axis_of(fit, n).name != axis_of(fit, str(chosen[0])).name)
    return str(chosen[0]), str(chosen[1])


def _holds(near: Surface, path: np.ndarray) -> bool:
    """True where a path stays on the surface that is drawn."""
    inside = (path >= [near.x_values[0], near.y_values[0]]) & (path <= [near.x_values[-1], near.y_values[-1]])
    return bool(inside[np.isfinite(path).all(axis=1)].all())


def _near(near: Surface, known: Mapping[str, np.ndarray]) -> Spec:
    """The regions, on linear axes."""
    x, y = _axes(near, [near.x_values[[0, -1]], near.y_values[[0, -1]]], [False, False])
    layers, labels = [], []
    for level, line in regions(near):
        layers.append(_line(line, x, y, MUTED, 1.9 if level == 0.95 else 1.0))
        room = line[line[:, 1] <= y["scale"]["domain"][0] + 0.95 * np.ptp(y["scale"]["domain"])]
        top = room[np.argmax(room[:, 1])]
        at_edge = top[0] - near.x_values[0] < 0.06 * np.ptp(near.x_values)
        labels.append({"x": float(top[0]), "y": float(top[1]), "text": f"{100 * level:g} %", "edge": bool(at_edge)})
    layers += [*_labels(labels, x, y), *path_layers(known, x, y)]
    layers.append(_cross(near, x, y))
    return {"width": WIDTH, "height": HEIGHT, "title": "Near the maximum", "layer": layers}


def _far(fit: Any, near: Surface, known: Mapping[str, np.ndarray], first: str, second: str) -> Spec:
    """Whole paths, over lines where ℓ has fallen by 1, 10, 100, …"""
    ends, logs = [], []
    reaches, ratios = [], []
    for k, (own, values) in enumerate(((near.x, near.x_values), (near.y, near.y_values))):
        reach = np.concatenate([values[[0, -1]], *(p[:, k] for p in known.values())])
        reach = reach[np.isfinite(reach)]
        positive = own.kind == "sd" and own.estimate > 0
        least = reach[reach > 0].min() if positive else 0.0
        ratios.append(reach.max() / max(least, FLOOR * own.estimate) if positive else 0.0)
        reaches.append((own, reach, least))
    for (own, reach, least), ratio in zip(reaches, ratios, strict=True):
        log = ratio > (BESIDE if max(ratios) > LOGARITHMIC else LOGARITHMIC)
        low = max(float(least), FLOOR * own.estimate) if log else float(reach.min())
        room = (float(reach.max()) / low) ** 0.04 if log else 0.04 * float(np.ptp(reach))
        high = float(reach.max()) * room if log else float(reach.max()) + room
        low = low / room if log else max(low - room, own.low if own.kind == "sd" else -np.inf)
        ends.append((low, high if own.kind == "sd" else min(high, own.high)))
        logs.append(log)
    grids = [
        np.geomspace(*e, FAR_STEPS) if log else np.linspace(*e, FAR_STEPS) for e, log in zip(ends, logs, strict=True)
    ]
    far = surface(fit, first, second, x_values=grids[0], y_values=grids[1])
    x, y = _axes(near, ends, logs)
    straight = [np.log(g) if log else g for g, log in zip(grids, logs, strict=True)]
    layers, labels = [], []
    for figure in FIGURES:
        for line in smooth_lines(straight[0], straight[1], far.deviance, 2.0 * figure):
            line = np.column_stack([np.exp(line[:, k]) if logs[k] else line[:, k] for k in (0, 1)])
            layers.append(_line(line, x, y, MUTED, 0.8, [2, 3]))
            spots = np.column_stack(
                [pixels(line[:, k], e, size) for k, (e, size) in enumerate(((x, WIDTH), (y, HEIGHT)))]
            )
            room = (spots[:, 0] < 0.9 * WIDTH) & (spots[:, 1] < 0.95 * HEIGHT)
            if room.any() and np.ptp(spots, axis=0).max() > SMALLEST:
                place = line[room][np.argmin(line[room, 0])]
                labels.append(
                    {"x": float(place[0]), "y": float(place[1]), "text": f"−{num.count(figure)}", "edge": True}
                )
    for level, line in regions(near):
        if level == 0.95:
            layers.append(_line(line[(line[:, 0] >= ends[0][0]) & (line[:, 1] >= ends[1][0])], x, y, MUTED, 1.6))
    layers += [*_labels(labels, x, y), *path_layers(known, x, y)]
    layers.append(_cross(near, x, y))
    title = "Whole paths (dashed: ℓ lower by 1, 10, …; line: 95 % region)"
    return {"width": WIDTH, "height": HEIGHT, "title": title, "layer": layers}


def regions(near: Surface) -> list[tuple[float, np.ndarray]]:
    """(level, line) of the likelihood regions' edges."""
    return [
        (level, line)
        for level in LEVELS
        for line in smooth_lines(near.x_values, near.y_values, near.deviance, quantile_two(level))
    ]


def smooth_lines(x: np.ndarray, y: np.ndarray, deviance: np.ndarray, level: float) -> list[np.ndarray]:
    """Contours of a deviance, its √(1 + deviance) interpolated by a bicubic spline: smooth at the maximum, and nearly
    straight far from it. A deviance that is infinite somewhere is interpolated linearly."""
    z = np.sqrt(1.0 + deviance)
    if np.isfinite(z).all():
        finer = [np.linspace(v[0], v[-1], FINER * (len(v) - 1) + 1) for v in (x, y)]
        z, (x, y) = RectBivariateSpline(y, x, z)(finer[1], finer[0]), finer
    return contour_lines(x, y, z, float(np.sqrt(1.0 + level)))


def _axes(near: Surface, ends: Sequence[Any], logs: Sequence[bool]) -> tuple[Spec, Spec]:
    out = []
    for k, (own, domain, log) in enumerate(zip((near.x, near.y), ends, logs, strict=True)):
        limits = [float(v) for v in domain]
        if log:
            encoding = axis(own.name, nice=False, domain=limits, type="log", axis={"tickCount": 6, "grid": False})
            del encoding["scale"]["zero"]
        else:
            plain = {"axis": {"grid": False, "tickCount": 7}}
            encoding = (
                upright(own.name, limits, HEIGHT, **plain) if k else axis(own.name, nice=False, domain=limits, **plain)
            )
        out.append(encoding)
    return out[0], out[1]


def _labels(labels: list[Spec], x: Spec, y: Spec) -> list[Spec]:
    """Names of lines, above their highest point, or to the right of their first."""
    out = []
    for edge in (True, False):
        some = [r for r in labels if r["edge"] == edge]
        place = {"align": "left", "dx": 4, "dy": -6} if edge else {"dy": -7}
        for halo in (True, False) if some else ():
            mark = {"type": "text", "fontSize": 10, "color": MUTED, **place}
            if halo:
                mark |= {"stroke": SURFACE, "strokeWidth": 3, "color": SURFACE}
            out.append(layer(some, mark, x={"field": "x", **x}, y={"field": "y", **y}, text={"field": "text"}))
    return out


def _line(line: np.ndarray, x: Spec, y: Spec, colour: str, width: float, dash: Sequence[int] = ()) -> Spec:
    rows = [{"i": i, "x": float(a), "y": float(b)} for i, (a, b) in enumerate(line)]
    mark = {"type": "line", "color": colour, "strokeWidth": width, "clip": True}
    if dash:
        mark["strokeDash"] = list(dash)
    return layer(rows, mark, x={"field": "x", **x}, y={"field": "y", **y}, order={"field": "i"})


def _cross(near: Surface, x: Spec, y: Spec) -> Spec:
    row = [{"x": near.x.estimate, "y": near.y.estimate}]
    mark = {"type": "point", "shape": "cross", "color": INK, "filled": True, "size": 55, "opacity": 1}
    return layer(row, mark, x={"field": "x", **x}, y={"field": "y", **y})
