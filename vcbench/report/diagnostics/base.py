"""Parts that the diagnostic pictures share: scatter panels, bands, titles with a line of explanation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vcbench.report.marks import APART, Spec, layer, point
from vcbench.report.theme import FLAG, INK, MUTED

DATA, BACK = "#0069a8", "#b9d3e8"
POINTS = 1500  # that a scatter draws
ENDS = 100  # of them those farthest out
SUBTITLE = {"subtitleColor": MUTED, "subtitleFontSize": 10.5, "subtitlePadding": 3}


def titled(spec: Spec, title: str, *notes: str, width: int | None = None) -> Spec:
    """A chart under a title and lines of explanation, broken where they are wider than the chart."""
    lines = [line for note in notes if note for line in broken(note, width or spec.get("width", 300))]
    return {**spec, "title": {"text": title, **({"subtitle": lines} if lines else {}), **SUBTITLE}}


def broken(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` pixels, at about 5.1 pixels a letter."""
    most, lines = max(int(width / 5.1), 20), [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def together(panels: Sequence[Spec], columns: int, title: str, *notes: str, width: int = 900) -> Spec:
    """Panels side by side under a common title."""
    chart: Spec = {"concat": list(panels), "columns": columns, "resolve": {"scale": APART}}
    return titled(chart, title, *notes, width=width)


def axis(title: str | None, **scale: Any) -> Spec:
    """A quantitative encoding that need not hold 0."""
    options = scale.pop("axis", {})
    return {"type": "quantitative", "title": title, "scale": {"zero": False, "nice": True, **scale}, "axis": options}


def upright(title: str | None, domain: Sequence[float], height: int = 220, **options: Any) -> Spec:
    """`axis` of y over a domain, with room above its highest label, so that titles of a row of panels are aligned."""
    low, high = domain
    count = -(-height // 40)  # the renderer's
    size = (high - low) / count
    step = 10.0 ** np.floor(np.log10(size))
    step *= next(m for m, least in ((10, 7.0711), (5, 3.1623), (2, 1.4142), (1, 0.0)) if size / step >= least)
    last = np.floor(high / step) * step + 7.0 / height * (high - low)
    return axis(title, nice=False, domain=[float(low), float(max(high, last))], **options)


def ribbon(at: np.ndarray, low: np.ndarray, high: np.ndarray, x: Spec, y: Spec) -> Spec:
    """A band between two curves."""
    rows = [{"at": float(a), "low": float(lo), "high": float(hi)} for a, lo, hi in zip(at, low, high, strict=True)]
    mark = {"type": "area", "color": BACK, "opacity": 0.6, "clip": True}
    return layer(rows, mark, x={"field": "at", **x}, y={"field": "low", **y}, y2={"field": "high"})


def edges(at: np.ndarray, low: np.ndarray, high: np.ndarray, x: Spec, y: Spec) -> list[Spec]:
    """The edges of a band, to be drawn over points."""
    return [curve(at, value, x, y, MUTED, strokeWidth=1.0, strokeDash=[3, 2]) for value in (low, high)]


def curve(at: np.ndarray, value: np.ndarray, x: Spec, y: Spec, colour: str = MUTED, **mark: Any) -> Spec:
    """A line through points in their order."""
    rows = [{"at": float(a), "value": float(v)} for a, v in zip(at, value, strict=True)]
    style = {"type": "line", "color": colour, "strokeWidth": 1.3, "clip": True, **mark}
    return layer(rows, style, x={"field": "at", **x}, y={"field": "value", **y}, order={"field": "at"})


def dots(at: np.ndarray, value: np.ndarray, flag: np.ndarray | None, x: Spec, y: Spec, size: int = 16) -> list[Spec]:
    """Points, flagged ones as diamonds in another colour."""
    flag = np.zeros(len(at), bool) if flag is None else flag
    rows = [{"at": float(a), "value": float(v)} for a, v in zip(at, value, strict=True)]
    plain = [r for r, f in zip(rows, flag, strict=True) if not f]
    found = [r for r, f in zip(rows, flag, strict=True) if f]
    encoding = {"x": {"field": "at", **x}, "y": {"field": "value", **y}}
    out = [
        layer(
            plain, {**point(size), "color": DATA, "opacity": 0.75 if len(at) < 500 else 0.5, "clip": True}, **encoding
        )
    ]
    if found:
        mark = {**point(size + 12), "shape": "diamond", "color": FLAG, "clip": True}
        out.append(layer(found, mark, **encoding))
    return out


def level_line(value: float, y: Spec, colour: str = MUTED, **mark: Any) -> Spec:
    """A line across at a value of y."""
    return layer([{"value": value}], {"type": "rule", "color": colour, **mark}, y={"field": "value", **y})


def limits(*values: np.ndarray, include: Sequence[float] = (), pad: float = 0.05) -> list[float]:
    """A domain that holds all finite values and a little more."""
    together = np.concatenate([np.ravel(v).astype(float) for v in values] + [np.asarray(include, float)])
    together = together[np.isfinite(together)]
    low, high = (float(together.min()), float(together.max())) if len(together) else (0.0, 1.0)
    room = pad * (high - low) or abs(high) * 0.05 or 1.0
    return [low - room, high + room]


def chosen(weight: np.ndarray, most: int = POINTS, ends: int = ENDS) -> np.ndarray:
    """Positions of the points to draw: all of few, else the greatest by weight and others evenly by place."""
    if len(weight) <= most:
        return np.arange(len(weight))
    far = np.argsort(-weight, kind="stable")[:ends]
    even = np.linspace(0, len(weight) - 1, most - ends).round().astype(int)
    return np.unique(np.concatenate([far, even]))


__all__ = [
    "DATA",
    "INK",
    "axis",
    "broken",
    "chosen",
    "curve",
    "dots",
    "edges",
    "level_line",
    "limits",
    "ribbon",
    "titled",
    "together",
    "upright",
]
