"""Profiles ζ of every parameter: how far the likelihood is from quadratic, and the intervals that follow from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator
from scipy.special import ndtri

from vcbench import numbers as num
from vcbench.inference.profile import profile_limits
from vcbench.inference.variances import rows_of
from vcbench.report.diagnostics.base import DATA, axis, curve, level_line, limits, titled, upright
from vcbench.report.marks import APART, Spec, layer, title_of
from vcbench.report.theme import FLAG, INK, MUTED

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)
WIDEST = 3.0  # |ζ| drawn
PANELS = 12
WIDTH, HEIGHT = 190, 170
FINE = 80  # points of a line on either side
CLOSEST = 0.02  # of ζ: between two points that a line is drawn through
FLAT = 0.03  # of ζ: what a profile that levels off gains beyond the part drawn
VIEWS = ("both", "zeta", "absolute")


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A profile as a line: value (m,) at ζ (m,), its estimate, the slope dζ/dvalue there, limits by level, and what a
    side that ends before ζ = ±3 ends at."""

    name: str
    value: np.ndarray
    zeta: np.ndarray
    estimate: float
    slope: float
    limits: dict[float, tuple[float, float]]
    edge: tuple[float, float] | None
    criterion: str
    note: str


def profile(
    fit: Any, parameters: Sequence[str] | None = None, *, criterion: str | None = None, view: str = "both"
) -> Spec:
    """ζ against the value of each parameter, with the limits of 50, 80, 90, 95 and 99 % intervals, and |ζ| below.

    parameters: names or expressions; None: SDs and correlations, then fixed effects, twelve in all. A straight line is
    a quadratic likelihood, for which Wald intervals are right. An open circle is the edge of a parameter's range.
    view: "both", "zeta" or "absolute".
    """
    from vcbench.errors import MethodError, did_you_mean

    if view not in VIEWS:
        raise MethodError(f"unknown view `{view}`. Choose from {', '.join(VIEWS)}.{did_you_mean(view, VIEWS)}")
    names = [parameters] if isinstance(parameters, str) else list(parameters or _all(fit))
    shown = names[:PANELS]
    found = [drawn(fit, name, criterion) for name in shown]
    curves = [d for d in found if d is not None]
    if not curves:
        raise MethodError(f'no profile of {num.listing(shown)} can be drawn. fit.confint("profile") says why.')
    columns = min(4, len(curves))
    parts: list[Spec] = []
    if view in ("both", "zeta"):
        parts.append({"concat": [_panel(c, False, fit.criterion) for c in curves], "columns": columns})
    if view in ("both", "absolute"):
        parts.append({"concat": [_panel(c, True, fit.criterion) for c in curves], "columns": columns})
    note = (
        "ζ is the signed root of twice the fall of the log-likelihood, all other parameters at their maximum: N(0, 1) "
        "where it is quadratic. Vertical lines: limits of 50, 80, 90, 95 and 99 % intervals, those of 95 % below the "
        "name. "
        "Dashed: the straight line of a quadratic likelihood."
    )
    if any(c.edge is not None for c in curves):
        note += " Circle: the edge of the range, where the profile ends."
    endless = [c.name for c in curves if not np.isfinite(list(c.limits.values())).all()]
    if endless:
        note += f" Without a limit on one side, where ζ levels off: {num.listing(endless)}."
    if len(names) > PANELS:
        note += f" The first {PANELS} of {len(names)} parameters."
    lost = [d for d, c in zip(shown, found, strict=True) if c is None]
    if lost:
        note += f" Without a profile: {num.listing(lost)}."
    chart: Spec = {"vconcat": parts, "resolve": {"scale": APART}, "spacing": 28}
    return titled(chart, "Likelihood profiles", note, width=max(columns * (WIDTH + 62), 420))


def _all(fit: Any) -> list[str]:
    """SDs, correlations and other parameters of θ, then β."""
    rows = rows_of(fit.facts.theta_names, fit.facts.is_variance, "sd")
    return [*(r.name for r in rows), *fit.facts.beta_names]


def drawn(fit: Any, name: str, criterion: str | None = None) -> Drawn | None:
    """The profile of one parameter as a line: ζ a monotone cubic of the value through the points of its curve, on
    either side of the estimate; None where there are fewer than two points."""
    points, ends = profile_limits(fit, name, LEVELS, criterion, WIDEST)
    if len(points.value) < 2:
        return None
    at = int(np.argmin(np.abs(points.zeta)))
    estimate = float(points.value[at])
    parts, edge = [], None
    for side, own in ((-1, slice(at, None, -1)), (1, slice(at, None))):
        z, v = points.zeta[own], points.value[own]
        if len(z) < 2:
            edge = (estimate, 0.0)
            continue
        keep = apart(np.abs(z), CLOSEST)
        z, v = z[keep], v[keep]
        reach = float(np.abs(z).max())
        limits = {side * _z(level): pair[(side + 1) // 2] for level, pair in ends.items()}
        if reach < WIDEST and math.isfinite(limits[side * _z(LEVELS[-1])]):
            edge = (float(v[-1]), float(z[-1]))
        elif reach < WIDEST:  # it levels off: the rest is a line across
            few = max(int((np.abs(z) < reach - FLAT).sum()), 2)
            z, v = z[:few], v[:few]
        line = np.unique(np.concatenate([np.linspace(v[0], v[-1], FINE), v]))
        parts.append(np.column_stack([line, _through(v[::side], z[::side], side, points.slope)(line)]))
    line = np.concatenate(parts)
    line = line[np.abs(line[:, 1]) <= WIDEST * 1.02]
    return Drawn(
        points.quantity, line[:, 0], line[:, 1], estimate, points.slope, ends, edge, points.criterion, points.note
    )


def _through(v: np.ndarray, z: np.ndarray, side: int, slope: float) -> CubicHermiteSpline:
    """The monotone cubic ζ(value), with its known slope at the estimate, at one end."""
    rate = PchipInterpolator(v, z).derivative()(v) if len(v) > 2 else np.full(2, (z[1] - z[0]) / (v[1] - v[0]))
    here, there = (0, 1) if side > 0 else (-1, -2)
    secant = (z[there] - z[here]) / (v[there] - v[here])
    if math.isfinite(slope):
        rate[here] = min(slope, 3.0 * secant)  # beyond that a cubic is not monotone (Fritsch & Carlson 1980)
    return CubicHermiteSpline(v, z, rate)


def apart(x: np.ndarray, least: float) -> np.ndarray:
    """Positions of ascending values at least so far apart, the first and last among them."""
    kept = [0]
    for i in range(1, len(x) - 1):
        if x[i] - x[kept[-1]] >= least and x[-1] - x[i] >= least:
            kept.append(i)
    return np.array([*kept, len(x) - 1])


def _z(level: float) -> float:
    return float(ndtri(0.5 + level / 2))


def _panel(c: Drawn, absolute: bool, criterion: str) -> Spec:
    domain = limits(c.value, pad=0.04)
    x = axis(None, nice=False, domain=domain, axis={"tickCount": 4, "grid": False})
    y = upright("|ζ|" if absolute else "ζ", [0.0 if absolute else -WIDEST, WIDEST], HEIGHT)
    of = np.abs if absolute else np.asarray
    layers = []
    if not absolute:
        layers.append(level_line(0.0, y))
    rows, across = [], []
    for level, (low, high) in c.limits.items():
        z = _z(level)
        reached = [np.isfinite(v) and not _at_edge(c, v, z) for v in (low, high)]
        ends = zip((low, high), (z if absolute else -z, z), reached, strict=True)
        rows += [{"at": v, "z": e, "zero": 0.0} for v, e, there in ends if there]
        if absolute and any(reached):
            left, right = (v if np.isfinite(v) else e for v, e in zip((low, high), domain, strict=True))
            across.append({"left": left, "right": right, "z": z})
    rule = {"type": "rule", "color": FLAG, "strokeWidth": 0.9, "opacity": 0.8}
    layers.append(layer(rows, rule, x={"field": "at", **x}, y={"field": "zero", **y}, y2={"field": "z"}))
    if across:
        wide = {**rule, "clip": True}
        layers.append(layer(across, wide, x={"field": "left", **x}, x2={"field": "right"}, y={"field": "z", **y}))
    if math.isfinite(c.slope):
        straight = np.linspace(domain[0], domain[1], 60)
        line = of(c.slope * (straight - c.estimate))
        keep = np.abs(line) <= WIDEST
        layers.append(curve(straight[keep], line[keep], x, y, MUTED, strokeDash=[4, 3], strokeWidth=1.0))
    layers.append(_curve(c.value, of(c.zeta), x, y))
    if c.edge is not None:
        spot = [{"at": c.edge[0], "z": float(of(np.array(c.edge[1])))}]
        mark = {"type": "point", "filled": False, "color": INK, "size": 42, "strokeWidth": 1.5, "opacity": 1}
        layers.append(layer(spot, mark, x={"field": "at", **x}, y={"field": "z", **y}))
    return {"width": WIDTH, "height": HEIGHT, **_title(c, criterion), "layer": layers}


def _at_edge(c: Drawn, value: float, z: float) -> bool:
    """True where a limit is the edge of the range, short of ζ = ±z."""
    return c.edge is not None and abs(c.edge[1]) < z and math.isclose(value, c.edge[0], rel_tol=1e-6, abs_tol=1e-12)


def _curve(value: np.ndarray, z: np.ndarray, x: Spec, y: Spec) -> Spec:
    rows = [{"i": i, "at": float(a), "z": float(b)} for i, (a, b) in enumerate(zip(value, z, strict=True))]
    mark = {"type": "line", "color": DATA, "strokeWidth": 2.0, "clip": True}
    return layer(rows, mark, x={"field": "at", **x}, y={"field": "z", **y}, order={"field": "i"})


def _title(c: Drawn, criterion: str) -> Spec:
    """The parameter, and its 95 % limits in brackets; the criterion where it is not the fit's."""
    other = f" ({c.criterion.upper()})" if c.criterion != criterion else ""
    low, high = c.limits[0.95]
    text = f"95 %: {num.interval(low, high, float(np.ptp(c.value)) / 6)}"
    return {"title": {**title_of(c.name + other, WIDTH + 30)["title"], "subtitle": text, "subtitleColor": MUTED,
                      "subtitleFontSize": 10.5}}  # fmt: skip
