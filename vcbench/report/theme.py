"""Colours, symbols and the look of every picture, light and dark.

Families of methods have a colour (after Okabe and Ito's palette, told apart under the common colour blindnesses),
members of a family a symbol and a dash, so that nothing is said by colour alone. Pictures are drawn in the light
colours; in a page, the rules of `colour_rules` map each of them to its dark counterpart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vcbench.report import families

INK, MUTED, GRID, SURFACE, BAND, FLAG = "#1b2430", "#5b6673", "#e3e7ec", "#fffffe", "#e9eff6", "#b3261e"
FAMILY_COLOURS: Mapping[str, str] = {
    "Second order": "#00805e",
    "EM": "#0069a8",
    "PX-EM": "#cf5000",
    "Moments": "#8a6d00",
    "Posterior": "#b0478a",
    "Other": "#59595f",
}
STATUS_COLOURS: Mapping[str, str] = {
    "CONVERGED": "#b9d3e8",
    "AT_BOUNDARY": "#7fa8cc",
    "MAX_ITER": "#f0b35a",
    "SINGULAR_V": "#e08a5b",
    "FAILED": "#cc5a4b",
    "TIMEOUT": "#b06fa8",
    "SKIPPED": "#c9c9cd",
}
DARK: Mapping[str, str] = {
    INK: "#e6eaf0",
    MUTED: "#a3afbd",
    GRID: "#2e3742",
    SURFACE: "transparent",
    BAND: "#232d3a",
    FLAG: "#ff8a80",
    "#00805e": "#3ccfa4",
    "#0069a8": "#62b5f0",
    "#cf5000": "#ff9455",
    "#8a6d00": "#e3c34d",
    "#b0478a": "#f09acb",
    "#59595f": "#b9bcc4",
    "#b9d3e8": "#2f4a63",
    "#7fa8cc": "#47719a",
    "#f0b35a": "#a8741f",
    "#e08a5b": "#a5562b",
    "#cc5a4b": "#a33a30",
    "#b06fa8": "#7d4677",
    "#c9c9cd": "#4b4d54",
}
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right", "triangle-left")
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "▶", "◀")
DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 2], [10, 4], [1, 3], [3, 5])
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"


@dataclass(frozen=True, slots=True)
class Look:
    """How one method is drawn."""

    colour: str
    shape: str
    glyph: str
    dash: list[int]


ASKED_AS: Mapping[str, str] = {  # the family whose colour a kind of interval or test has
    "wald": "EM",
    "profile": "Second order",
    "bootstrap": "PX-EM",
    "posterior": "Posterior",
    "chi2": "EM",
    "mixture": "Moments",
    "exact": "Second order",
}


def looks(
    methods: Iterable[str],
    named: Mapping[str, str] | None = None,
    asked: Mapping[str, tuple[str, Mapping[str, Any]]] | None = None,
) -> dict[str, Look]:
    """A look for each method: the colour of its family, or of what it is asked; the next symbol and dash within it."""
    used: dict[str, int] = {}
    out = {}
    for method in methods:
        name = families.family(method, named)
        if asked and method in asked:
            name = ASKED_AS.get(str(asked[method][1].get("kind")), name)
        i = used.get(name, 0)
        used[name] = i + 1
        k = i % len(SHAPES)
        out[method] = Look(FAMILY_COLOURS[name], SHAPES[k], GLYPHS[k], DASHES[k])
    return out


def config() -> dict[str, Any]:
    """The Vega-Lite configuration of every chart."""
    text = {"labelFont": FONT, "titleFont": FONT, "labelColor": INK, "titleColor": MUTED}
    axis = {
        **text,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
        "tickSize": 4,
        "labelPadding": 4,
        "titlePadding": 8,
    }
    return {
        "background": SURFACE,
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"labelFlush": False},
        "axisY": {"labelLimit": 180, "minExtent": 34},
        "legend": {
            **text,
            "labelFontSize": 11,
            "titleFontSize": 11,
            "titleFontWeight": "normal",
            "symbolStrokeWidth": 1.8,
        },
        "title": {"font": FONT, "color": INK, "fontSize": 12, "fontWeight": 600, "anchor": "start", "offset": 6},
        "header": text,
        "concat": {"spacing": 22},
        "aria": False,
    }


def colour_rules() -> str:
    """Style rules that let inline pictures (below `.chart`) follow the page: one a colour, by fill and stroke."""
    return "\n".join(
        f'.chart [fill="{light}"]{{fill:var(--c{i})}}.chart [stroke="{light}"]{{stroke:var(--c{i})}}'
        for i, light in enumerate(DARK)
    )


def colour_variables(dark: bool) -> str:
    """The variables those rules use, for one theme."""
    values = [("transparent" if light == SURFACE else DARK[light] if dark else light) for light in DARK]
    return "".join(f"--c{i}:{value};" for i, value in enumerate(values))


def family_rules() -> str:
    """Style rules for the symbols of methods in running text: .k0, .k1, … in the order of the families."""
    places = list(DARK)
    return "".join(f".k{i}{{color:var(--c{places.index(c)})}}" for i, c in enumerate(FAMILY_COLOURS.values()))
