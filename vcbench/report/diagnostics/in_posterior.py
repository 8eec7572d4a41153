"""Posterior, likelihood and point estimates of each parameter on one axis, variances as SDs.

On the scale of σ² a prior with density at σ = 0 has a pole there; on that of σ both curves are smooth down to 0. A
negative estimate of a variance is drawn at −√|σ²|.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from vcbench.errors import VcbenchError
from vcbench.report.diagnostics.base import axis, curve, titled
from vcbench.report.marks import APART, Spec, layer, title_of
from vcbench.report.theme import BAND, DASHES, FAMILY_COLOURS, INK, looks

WIDTH, HEIGHT, LANE, CURVE = 380, 150, 17, 201
TAIL = 0.985  # posterior mass up to which an axis runs, unless an estimate lies beyond
POSTERIOR = FAMILY_COLOURS["Posterior"]


def in_posterior(check: Any, parameters: Sequence[str], columns: int = 2) -> Spec:
    """For each parameter: the posterior density with its interval, the profile of the likelihood scaled to the same
    height, and below them every estimate with its interval, a lane a fit."""
    lanes = check.groups
    styles = looks(dict.fromkeys(check.fits[label].method for label in lanes))
    panels = [_panel(check, name, styles, lanes) for name in parameters]
    kind = "exact, by quadrature" if check.places.kind == "exact" else "from draws"
    share, interval = f"{100 * check.level:g} %", {"wald": "Wald", "profile": "profile"}[check.interval]
    note = (
        f"Area: posterior density, {kind}, its {share} interval shaded, a line at its median. Dashed: profile of the "
        f"likelihood e^(−ζ²/2), at the same height. Below: each method's estimate and its {share} interval "
        f"({interval}; none at a boundary). Variances are drawn as SDs."
    )
    chart: Spec = {"concat": panels, "columns": min(columns, len(panels)), "resolve": {"scale": APART}}
    chart["padding"] = {"left": 16, "right": 8, "top": 5, "bottom": 5}  # labels are wider than they are measured
    wide = min(columns, len(panels)) * (WIDTH + 90)
    return titled(chart, "Point estimates in the posterior", note, width=wide)


def _panel(check: Any, name: str, styles: Any, lanes: Mapping[str, str]) -> Spec:
    own, root = check.frame[check.frame["parameter"] == name], _is_variance(check, name)
    own = own[own["fit"].isin(list(lanes))]
    own = own.assign(fit=own["fit"].map(lanes))
    if root:
        columns = ["estimate", "fit_lower", "fit_upper", "lower", "upper", "posterior_median"]
        own = own.assign(**{c: _root(own[c].to_numpy(float)) for c in columns})
    first = own.iloc[0]
    low, high = _domain(check, name, own, root)
    x = axis(None, nice=False, domain=[low, high], axis={"tickCount": 5, "grid": False})
    value = np.linspace(low, high, CURVE)
    if root:
        _, density = check.places.curve(name, np.maximum(value, 0.0) ** 2)
        density = 2 * np.maximum(value, 0.0) * np.nan_to_num(density)
        if low <= 0:
            density = np.where(value > 0, density, density[np.argmax(value > 0)] * (value >= 0))
    else:
        _, density = check.places.curve(name, value)
    peak = float(density[np.isfinite(density)].max())
    density = np.minimum(density / peak, 1.05)
    y = {"type": "quantitative", "title": None, "scale": {"domain": [0, 1.08]}, "axis": None}
    rows = [{"at": float(a), "p": float(p), "zero": 0.0} for a, p in zip(value, density, strict=True)]
    inside = [r for r in rows if first["lower"] <= r["at"] <= first["upper"]]
    area = {"type": "area", "clip": True}
    layers: list[Spec] = [
        layer(rows, {**area, "color": BAND}, x={"field": "at", **x}, y={"field": "p", **y}, y2={"field": "zero"}),
        layer(inside, {**area, "color": POSTERIOR, "opacity": 0.18}, x={"field": "at", **x}, y={"field": "p", **y},
              y2={"field": "zero"}),
        curve(value, density, x, y, POSTERIOR, strokeWidth=1.8),
        layer([{"at": float(first["posterior_median"])}],
              {"type": "rule", "color": POSTERIOR, "strokeWidth": 1.2, "clip": True}, x={"field": "at", **x}),
    ]  # fmt: skip
    line = _likelihood(check, name, low, high, root)
    if line is not None:
        layers.append(curve(*line, x, y, INK, strokeDash=DASHES[1], strokeWidth=1.3))
    title = name.replace(":var", ":sd", 1) if root else name
    top = {"width": WIDTH, "height": HEIGHT, **title_of(title, WIDTH), "layer": layers}
    return {"vconcat": [top, _lanes(own, styles, x, low, high)], "spacing": 4}


def _lanes(own: Any, styles: Any, x: Spec, low: float, high: float) -> Spec:
    x = {**x, "axis": {**x["axis"], "labels": False, "ticks": False}}
    labels = list(own["fit"])
    y = {"field": "fit", "type": "nominal", "sort": labels, "title": None, "axis": {"labelFontSize": 10.5}}
    rows = []
    for r in own.itertuples():
        finite = math.isfinite(r.fit_lower) and math.isfinite(r.fit_upper)
        rows.append(
            {
                "fit": r.fit,
                "at": float(r.estimate),
                "lower": max(float(r.fit_lower), low) if finite else float(r.estimate),
                "upper": min(float(r.fit_upper), high) if finite else float(r.estimate),
                "colour": styles[r.method].colour,
                "shape": styles[r.method].shape,
            }
        )
    plain: Spec = {"type": "nominal", "scale": None, "legend": None}
    colour = {"field": "colour", **plain}
    bar = layer(rows, {"type": "rule", "strokeWidth": 1.6, "clip": True}, y=y, color=colour,
                x={"field": "lower", **x}, x2={"field": "upper"})  # fmt: skip
    mark = {"type": "point", "filled": True, "opacity": 1, "size": 42, "clip": True}
    spot = layer(rows, mark, y=y, color=colour, shape={"field": "shape", **plain}, x={"field": "at", **x})
    return {"width": WIDTH, "height": LANE * len(labels), "layer": [bar, spot]}


def _is_variance(check: Any, name: str) -> bool:
    facts = next(iter(check.fits.values())).facts
    return name in facts.theta_names and facts.is_variance[facts.theta_names.index(name)]


def _root(value: np.ndarray) -> np.ndarray:
    return np.sign(value) * np.sqrt(np.abs(value))


def _domain(check: Any, name: str, own: Any, root: bool) -> tuple[float, float]:
    """All but the ends of the posterior, every estimate, and of their intervals what is not far out."""
    q = check.places.quantile(name, np.array([0.004, TAIL, 1e-4, 0.998]))
    low, high, least, most = (float(x) for x in (_root(q) if root else q))
    estimates = own["estimate"].to_numpy(float)
    ends = own[["fit_lower", "fit_upper"]].to_numpy(float)
    if np.isfinite(ends).any():
        low, high = min(low, max(float(np.nanmin(ends)), least)), max(high, min(float(np.nanmax(ends)), most))
    low, high = min(low, float(estimates.min())), max(high, float(estimates.max()))
    room = 0.04 * (high - low)
    if root and 0 <= low < 0.25 * high:
        return 0.0, high + room
    return low - room, high + room


def _likelihood(check: Any, name: str, low: float, high: float, root: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """(value, e^(−ζ²/2)) of the first fit that has a profile; None without one."""
    from vcbench.inference.profile import profile_curve

    for fit in check.fits.values():
        if fit.model is None or fit.is_moments or fit.limits is not None or fit.criterion not in ("reml", "ml"):
            continue
        try:
            points = profile_curve(fit, name)
        except VcbenchError:  # a profile that this parameter has not; the posterior is drawn without it
            return None
        value = _root(points.value) if root else points.value
        at = np.linspace(max(low, value[0]), min(high, value[-1]), CURVE)
        if len(value) < 3 or not at[-1] > at[0]:
            return None
        zeta = PchipInterpolator(value, points.zeta)(at)
        return at, np.exp(-0.5 * zeta**2)
    return None
