"""Vega-Lite dictionaries as Altair charts, their encodings and data left as they are.

`alt.Chart.from_dict` turns every value into an object, which takes many times as long as drawing.
"""

from typing import Any

import altair as alt

PARTS: dict[str, Any] = {
    "concat": alt.ConcatChart,
    "hconcat": alt.HConcatChart,
    "vconcat": alt.VConcatChart,
    "layer": alt.LayerChart,
}


def chart_of(spec: dict[str, Any]) -> Any:
    """A chart of panels, of layers or of one mark."""
    for key, chart in PARTS.items():
        if key in spec:
            return chart(**{**spec, key: [chart_of(part) for part in spec[key]]})
    return alt.Chart(**{**spec, "encoding": alt.FacetedEncoding(**spec["encoding"])})
