"""Parts of Vega-Lite specifications: layers, encodings by method, axis labels, panels side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vcbench.report.theme import Look

Spec = dict[str, Any]
FLOOR = 1e-10
STEP = 18
SECONDS = (
    "datum.value >= 3600 ? datum.value / 3600 + ' h' : datum.value >= 1 ? format(datum.value, ',') + ' s' : "
    "datum.value >= 0.001 ? round(datum.value * 1e3) + ' ms' : round(datum.value * 1e6) + ' µs'"
)
COUNTS = "format(datum.value, ',')"
POWERS = "datum.value >= 0.01 && datum.value <= 100000 ? format(datum.value, ',') : format(datum.value, '.0e')"
APART = {"color": "independent", "shape": "independent", "strokeDash": "independent"}


def grid(panels: Sequence[Spec], columns: int) -> Spec:
    """Panels side by side, `columns` a row."""
    return {"concat": list(panels), "columns": columns, "resolve": {"scale": APART}}


def stack(charts: Sequence[Spec]) -> Spec:
    """Charts one above the other, each with its own legend."""
    return {"vconcat": list(charts), "resolve": {"scale": APART}}


def layer(records: list[Spec], mark: Spec, **encoding: Spec) -> Spec:
    return {"data": {"values": records}, "mark": mark, "encoding": encoding}


def point(size: int | None = None) -> Spec:
    return {"type": "point", "filled": True, "opacity": 1, **({"size": size} if size else {})}


def title_of(text: str, limit: int) -> Spec:
    """A panel's title, broken after a comma where it is wider than the panel (about 6.6 pixels a letter)."""
    if not text:
        return {}
    lines = [""]
    for part in text.replace(", ", ",\0").split("\0"):
        if lines[-1] and 6.6 * len(lines[-1] + part) > limit:
            lines.append("")
        lines[-1] += f"{part} " if part.endswith(",") else part
    return {"title": {"text": [line.strip() for line in lines], "limit": limit}}


def by(styles: Mapping[str, Look], what: str, field: str) -> Spec:
    """An encoding of `field` by one aspect of the looks."""
    names = list(styles)
    return {
        "field": field,
        "type": "nominal",
        "sort": names,
        "scale": {"domain": names, "range": [getattr(styles[m], what) for m in names]},
    }


def has(record: Spec, *fields: str) -> bool:
    return all(record.get(f) is not None for f in fields)


def records_of(frame: pd.DataFrame) -> list[Spec]:
    """Rows as dictionaries of plain values; NaN and infinities are null."""
    columns = {c: [_plain(v) for v in frame[c].tolist()] for c in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
