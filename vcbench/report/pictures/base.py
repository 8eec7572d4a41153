"""What every picture has: a title, a caption, a table of the same numbers, a wide and a narrow layout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report import marks
from vcbench.report.evidence import Condition
from vcbench.report.findings import Findings
from vcbench.report.panels import dot_panel
from vcbench.report.svg import render_svg
from vcbench.report.tables import Table

WIDE, NARROW = 1040, 350
PARAMETERS, PANELS, NARROW_PANELS = 6, 12, 4
Draw = Callable[[bool], Any]


@dataclass(frozen=True, slots=True)
class Figure:
    """`svg` is the wide layout (also the file), `narrow` the other, empty where a page scrolls the wide one.

    `parameter` and `condition` let a page choose among figures of a section.
    """

    name: str
    section: str
    title: str
    caption: str
    table: Table
    svg: str
    narrow: str
    parameter: str = ""
    condition: str = ""


def figure(name: str, section: str, title: str, caption: str, table: Table, draw: Draw, **extra: str) -> Figure:
    wide = render_svg(draw(False), name, title, caption)
    narrow = "" if section == "conditions" else render_svg(draw(True), f"{name}-n", title, caption)
    return Figure(name, section, title, caption, table, wide, narrow, **extra)


def layout(methods: Sequence[str], panels: int, narrow: bool, most: int = 4) -> tuple[int, int]:
    """Columns of panels (one fewer than `most` where that fills the rows better), and what the labels leave for one."""
    labels = min(180, 10 + round(6.3 * max(len(m) for m in methods)))
    if narrow:
        return 1, NARROW - labels - 24
    columns = min(most, panels)
    if panels > most > 2 and -panels % (most - 1) < -panels % most:
        columns = most - 1
    return columns, min(440, (WIDE - labels - 40 * columns) // columns)


def decades(values: pd.Series) -> tuple[list[float], list[float]]:
    """A log domain of whole decades (at least one) and the powers of ten to label, seven at most."""
    low, high = int(np.floor(np.log10(values.min()) + 1e-9)), int(np.ceil(np.log10(values.max()) - 1e-9))
    high = max(high, low + 1)
    step = -(-(high - low) // 7)
    return [10.0**low, 10.0**high], [10.0**k for k in range(low, high + 1, step)]


def domain_of(values: Sequence[pd.Series], include: float | None = None, pad: float = 0.04) -> list[float]:
    """Limits that hold all values, trimmed at 30 times the interquartile range so that one wild cell hides no other."""
    together = pd.concat([v.astype(float) for v in values]).replace([np.inf, -np.inf], np.nan).dropna()
    if together.empty:
        return [0.0, 1.0]
    q1, q2, q3 = together.quantile([0.25, 0.5, 0.75])
    reach = 30 * (q3 - q1) if q3 > q1 else np.inf
    low, high = max(together.min(), q2 - reach), min(together.max(), q2 + reach)
    if include is not None:
        low, high = min(low, include), max(high, include)
    room = pad * (high - low) or abs(high) * 0.05 or 1.0
    return [float(low - room), float(high + room)]


def left_out(some: bool, column: str) -> str:
    return f" The {PANELS} conditions farthest off in {column} are shown." if some else ""


def chance(n_off: int, n: int) -> str:
    expected = num.significant(0.05 * n, 2) if 0.05 * n < 10 else num.count(0.05 * n)
    return f"{n_off} of {num.plural(n, 'cell')} off by more than 2 MCSE (▲); chance alone gives about {expected}."


def condition_panels(
    found: Findings,
    cells: pd.DataFrame,
    conditions: Sequence[Condition],
    domain: Sequence[float],
    x_title: str,
    **options: Any,
) -> Draw:
    """One panel a condition on a common scale; the first few of them on a telephone."""
    methods = [m for m in found.evidence.methods if m in set(cells["method"])]

    def draw(narrow: bool) -> Any:
        chosen = conditions[:NARROW_PANELS] if narrow else conditions
        columns, width = layout(methods, len(chosen), narrow)
        panels = [
            dot_panel(
                cells[cells["condition"] == c.id].drop(columns="condition"),
                methods,
                found.styles,
                title=c.label,
                x_title=x_title if i >= len(chosen) - columns else None,
                width=width,
                labels=i % columns == 0,
                domain=domain,
                **options,
            )
            for i, c in enumerate(chosen)
        ]
        return marks.grid(panels, columns)

    return draw
