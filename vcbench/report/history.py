"""A page on many runs: how estimates, evidence, iterations and cost moved, without a script or an address."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from vcbench import numbers as num
from vcbench.report.nights import Record, cost_ratio
from vcbench.report.page import _policy, _read
from vcbench.report.theme import colour_variables

WIDTH, HEIGHT, PAD = 300.0, 74.0, 6.0
SHOWN = 90  # nights of a picture; the table beside it says the last
CLASS = {"PASS": "held", "INCONCLUSIVE": "unsure", "FAIL": "fails", "": "plain"}
ORDER = ("FAIL", "INCONCLUSIVE", "PASS", "")


@dataclass(frozen=True, slots=True)
class Point:
    """A night's value with its bar [lower, upper], NaN where it has none, its verdict, and all of it in words."""

    value: float
    lower: float
    upper: float
    verdict: str
    words: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over the nights, oldest first; `band` is the region it should lie in."""

    title: str
    where: str
    points: tuple[Point, ...]
    band: tuple[float, float] | None
    unit: str = ""

    @property
    def last(self) -> Point:
        """The newest night's."""
        return self.points[-1]

    def svg(self) -> str:
        """The points by verdict (circle PASS, triangle INCONCLUSIVE, square FAIL), bars, and the region."""
        points = self.points[-SHOWN:]
        values = [v for p in points for v in (p.value, p.lower, p.upper) if math.isfinite(v)]
        values += [v for v in self.band or () if math.isfinite(v)]
        if not values:
            return '<p class="lede">no value yet</p>'
        low, high = min(values), max(values)
        if low == high:
            low, high = low - 1, high + 1
        spread = high - low

        def y(value: float) -> str:
            at = (min(max(value, low), high) - low) / spread
            return f"{HEIGHT - PAD - at * (HEIGHT - 2 * PAD):.1f}"

        step = (WIDTH - 2 * PAD) / max(len(points) - 1, 1)
        x = [f"{PAD + i * step if len(points) > 1 else WIDTH / 2:.1f}" for i in range(len(points))]
        parts = []
        if self.band is not None:
            top, bottom = y(min(self.band[1], high)), y(max(self.band[0], low))
            parts.append(
                f'<rect class="region" x="0" width="{WIDTH:g}" y="{top}"'
                f' height="{max(float(bottom) - float(top), 1):.1f}"/>'
            )
        seen = [(at, y(p.value)) for at, p in zip(x, points, strict=True) if math.isfinite(p.value)]
        parts.append(f'<polyline class="path" points="{" ".join(",".join(xy) for xy in seen)}"/>')
        for at, p in zip(x, points, strict=True):
            if math.isfinite(p.lower) and math.isfinite(p.upper):
                parts.append(f'<path class="bar {CLASS[p.verdict]}" d="M{at} {y(p.lower)}V{y(p.upper)}"/>')
            if math.isfinite(p.value):
                mark = _mark(float(at), float(y(p.value)), p.verdict)
                parts.append(f"<g><title>{escape(p.words)}</title>{mark}</g>")
        label = escape(f"{self.title}, {self.where}: {len(points)} nights, last {self.last.words}", quote=True)
        return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _mark(x: float, y: float, verdict: str) -> str:
    name = CLASS[verdict]
    if verdict == "FAIL":
        return f'<rect class="{name}" x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"/>'
    if verdict == "INCONCLUSIVE":
        return f'<path class="{name}" d="M{x:.1f} {y - 3.5:.1f}l3.5 6h-7z"/>'
    return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'


@dataclass(frozen=True, slots=True)
class Study:
    """A study's nights: their table, and panels of its checks and of its methods' costs."""

    name: str
    title: str
    nights: tuple[tuple[str, ...], ...]
    checks: tuple[Panel, ...]
    costs: tuple[Panel, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The verdicts of the newest night."""
        words = [panel.last.verdict for panel in self.checks]
        return {word: words.count(word) for word in ("FAIL", "INCONCLUSIVE", "PASS")}


def study_of(records: Sequence[Record], name: str) -> Study:
    """The nights of one study."""
    runs = [r for r in records if r["study"] == name]
    nights = []
    for r in reversed(runs[-30:]):
        words = [c["verdict"] for c in r["checks"]]
        said = ", ".join(f"{words.count(w)} {w}" for w in ORDER if w and words.count(w)) or "no checks"
        most = max((c["n"] for c in r["checks"]), default=0)
        nights.append((r["started"][:10], r["version"], str(r["seed"]), num.count(most), said))
    checks = [panel for key in dict.fromkeys(_key(c) for c in runs[-1]["checks"]) if (panel := _check_panel(runs, key))]
    checks.sort(key=lambda panel: ORDER.index(panel.last.verdict))
    costs = []
    for method in runs[-1]["methods"]:
        iterations = [_plain(r, r["methods"].get(method, {}).get("n_iter"), "iterations") for r in runs]
        ratios = [_plain(r, cost_ratio(records, r, method), "times the release before") for r in runs]
        costs.append(Panel(method, "iterations a fit (median)", tuple(iterations), None))
        if any(math.isfinite(p.value) for p in ratios):
            costs.append(Panel(method, "CPU time against the release before", tuple(ratios), (0.8, 1.25), " ×"))
    shown = [panel for panel in costs if any(math.isfinite(p.value) for p in panel.points)]
    return Study(name, runs[-1]["title"], tuple(nights), tuple(checks), tuple(shown))


def _key(check: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(check.get(k, "") for k in ("measure", "method", "parameter", "condition", "target"))


def _check_panel(runs: Sequence[Record], key: tuple[Any, ...]) -> Panel:
    found = [next((c for c in r["checks"] if _key(c) == key), None) for r in runs]
    evidence = key[0] == "sbc"
    points = []
    for r, c in zip(runs, found, strict=True):
        if c is None:
            points.append(Point(math.nan, math.nan, math.nan, "", f"{r['started'][:10]}: not there"))
            continue
        value, mcse = _float(c.get("e" if evidence else "value")), _float(c.get("mcse"))
        lower, upper = _float(c.get("lower")), _float(c.get("upper"))
        if evidence:
            value = math.log10(value) if value > 0 else math.nan
        elif math.isnan(lower):
            lower, upper = value - 1.96 * mcse, value + 1.96 * mcse
        points.append(Point(value, lower, upper, c["verdict"], f"{r['started'][:10]}: {c['verdict']}, {c['detail']}"))
    last = next(c for c in reversed(found) if c is not None)
    target, tolerance = _float(last.get("target")), _float(last.get("tolerance"))
    band = None if math.isnan(target + tolerance) else (target - tolerance, target + tolerance)
    title = "e-value of calibration, log₁₀" if evidence else str(key[0])
    where = ", ".join(str(part) for part in key[1:4] if part)
    return Panel(title, where, tuple(points), band)


def _plain(r: Record, value: float | None, unit: str) -> Point:
    said = f"{num.significant(value)} {unit}" if value is not None else "unknown"
    return Point(_float(value), math.nan, math.nan, "", f"{r['started'][:10]} ({r['version']}): {said}")


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def render_history(records: Sequence[Record], version: str) -> str:
    """The page: studies with a FAIL in their newest night first."""
    from jinja2 import Environment, StrictUndefined

    studies = [study_of(records, name) for name in dict.fromkeys(r["study"] for r in records)]
    studies.sort(key=lambda s: (-s.counts["FAIL"], -s.counts["INCONCLUSIVE"], s.name))
    css = _read("page.css").replace("LIGHT", colour_variables(dark=False)).replace("DARK", colour_variables(dark=True))
    css += _read("history.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_read("history.html.j2")).render(
        studies=studies, css=css, policy=_policy(css, ""), version=version, n=len(records), number=num.significant,
        first=records[0]["started"][:10], last=records[-1]["started"][:10], classes=CLASS, finite=math.isfinite,
    )  # fmt: skip
