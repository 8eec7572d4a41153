"""From a Vega-Lite chart to files: a lean SVG with stable ids, and its PNG."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from vcbench.report.theme import FONT, config

_SVG = "http://www.w3.org/2000/svg"
_DROP = {
    "font-family",
    "class",
    "role",
    "aria-roledescription",
    "aria-hidden",
    "pointer-events",
    "version",
    "stroke-miterlimit",
}
_PLAIN = {("opacity", "1"), ("stroke-width", "1"), ("fill-opacity", "1")}
_INHERITED = ("stroke", "stroke-width", "stroke-dasharray", "fill", "font-size", "font-weight", "text-anchor")
_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
_GEOMETRY = {
    "d",
    "transform",
    "x",
    "y",
    "x1",
    "x2",
    "y1",
    "y2",
    "width",
    "height",
    "cx",
    "cy",
    "r",
    "viewBox",
    "points",
}


def specification(chart: Any) -> dict[str, Any]:
    """An Altair chart or a dictionary as a Vega-Lite specification in the house look."""
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    return {**spec, "config": config()}


def render_svg(chart: Any, name: str, title: str = "", description: str = "") -> str:
    """An SVG document without scripts or classes; ids begin with `name`; title and description for screen readers.

    Two renderings of equal charts are equal texts.
    """
    import vl_convert

    text = vl_convert.vegalite_to_svg(json.dumps(specification(chart)), allowed_base_urls=[])
    return slim(text, name, title, description)


def slim(text: str, name: str, title: str = "", description: str = "") -> str:
    """The same drawing without what a still picture does not need; marks that describe themselves keep a tooltip."""
    ET.register_namespace("", _SVG)
    root = ET.fromstring(_number_ids(text, name))
    _clean(root)
    for key in list(root.attrib):
        if key not in ("width", "height", "viewBox"):
            del root.attrib[key]
    head = []
    for tag, content in (("title", title), ("desc", description)):
        if content:
            element = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
            element.text = content
            head.append(element)
    root[:0] = head
    root.set("font-family", FONT)
    root.set("role", "img")
    if head:
        root.set("aria-labelledby", " ".join(e.attrib["id"] for e in head))
    return ET.tostring(root, encoding="unicode").replace(" />", "/>")


def _number_ids(text: str, name: str) -> str:
    """Ids renamed by their order of appearance: the renderer counts them up over all pictures it ever made."""
    found = list(dict.fromkeys(re.findall(r'(?:url\(#|\bid=")([^")]+)', text)))
    new = {old: f"{name}-{i}" for i, old in enumerate(found)}
    return re.sub(r'(url\(#|\bid=")([^")]+)', lambda m: m[1] + new[m[2]], text)


def _clean(element: ET.Element) -> None:
    keep: list[ET.Element] = []
    for child in list(element):
        if child.tag == f"{{{_SVG}}}path" and (child.get("display") == "none" or _invisible(child)):
            continue
        _clean(child)
        if child.tag == f"{{{_SVG}}}g" and len(child) == 0 and not child.text:
            continue
        if child.tag == f"{{{_SVG}}}g" and not child.attrib:
            keep.extend(child)
        else:
            keep.append(child)
    element[:] = keep
    _hoist(element)
    label = element.attrib.pop("aria-label", None)
    for key, value in list(element.attrib.items()):
        if (
            key in _DROP
            or (key, value) in _PLAIN
            or (key in ("x2", "y2") and value == "0")
            or (key == "transform" and value == "translate(0,0)")
        ):
            del element.attrib[key]
        elif key in _GEOMETRY:
            element.set(key, _NUMBER.sub(lambda m: f"{float(m.group()):.2f}".rstrip("0").rstrip("."), value))
    if label and element.tag == f"{{{_SVG}}}path":
        tip = ET.SubElement(element, f"{{{_SVG}}}title")
        tip.text = label


def _hoist(group: ET.Element) -> None:
    """What all children of a group say alike is said once, by the group."""
    if group.tag != f"{{{_SVG}}}g" or len(group) < 3:
        return
    first = group[0]
    for key in [k for k in first.attrib if k in _INHERITED and k not in group.attrib]:
        value = first.attrib[key]
        if all(child.get(key) == value for child in group):
            group.set(key, value)
            for child in group:
                del child.attrib[key]


def _invisible(path: ET.Element) -> bool:
    if path.get("class") in ("background", "foreground") and path.get("fill") is None and path.get("stroke") is None:
        return True
    return path.get("class") == "foreground"


def standalone(svg: str) -> str:
    """A file of its own: XML declaration and a newline at the end."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + svg + "\n"


def png(svg: str, scale: float = 2.0) -> bytes:
    """The picture as PNG, `scale` pixels a unit."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=scale))


def save(chart: Any, path: Path | str, title: str = "", description: str = "") -> Path:
    """Write a chart as .svg, .png or .json (Vega-Lite), chosen by the suffix; return the path."""
    path = Path(path)
    if path.suffix == ".json":
        path.write_text(json.dumps(specification(chart), indent=1, sort_keys=True), encoding="utf-8")
        return path
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"`{path.name}` ends in `{path.suffix}`. A chart is saved as .svg, .png or .json.")
    svg = render_svg(chart, re.sub(r"\W+", "-", path.stem), title, description)
    if path.suffix == ".svg":
        path.write_text(standalone(svg), encoding="utf-8")
    else:
        path.write_bytes(png(svg))
    return path
