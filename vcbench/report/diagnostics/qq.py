"""Normal quantile plots of residuals and of random effects, with an envelope drawn from the fit."""

from typing import Any

import numpy as np

from vcbench import numbers as num
from vcbench.errors import MethodError
from vcbench.inference.quantile_plots import QuantilePlot, quantile_plot
from vcbench.inference.reference_sets import Drawn, ReferenceSets
from vcbench.report.diagnostics.base import axis, curve, dots, edges, limits, ribbon, together, upright
from vcbench.report.marks import Spec, title_of
from vcbench.report.theme import INK

MOST = 6  # effects with a panel
ENVELOPE = (
    "Band: where the whole ordered curve runs in 95 % of data sets drawn from the fit (simultaneous; the estimates are "
    "held, not refitted). Diamonds: outside it."
)


def qq(fit: Any, *, level: float = 0.95) -> Spec:
    """Standardized conditional residuals, and BLUPs over their standard deviations, against normal scores."""
    sets = ReferenceSets.of(fit)
    panels = [qq_panel(sets.residual, "Conditional residuals", "standardized residual", level)]
    panels += blup_panels(sets, level)
    columns = min(len(panels), 3)
    note = ENVELOPE.replace("95 %", f"{100 * level:g} %")
    more = len(sets.blups) - MOST
    left = f" The first {MOST} of {len(sets.blups)} effects." if more > 0 else ""
    return together(panels, columns, "Normal quantile plots", note + left, width=columns * 300)


def blup_panels(sets: ReferenceSets, level: float, width: int = 250, height: int = 220) -> list[Spec]:
    """A panel an effect that varies at all, the first six."""
    out = []
    for (component, effect), drawn in list(sets.blups.items())[:MOST]:
        if drawn.known.sum() < 3:
            continue
        said = f"BLUPs of {component}" + ("" if effect == component else f": {effect}")
        out.append(qq_panel(drawn, said, "BLUP / its SD", level, width, height))
    return out


def qq_panel(drawn: Drawn, title: str, what: str, level: float, width: int = 250, height: int = 220) -> Spec:
    """One plot; MethodError where no value varies."""
    if drawn.known.sum() < 3:
        raise MethodError(f"{title}: fewer than three values vary between data sets; there is nothing to plot.")
    plot = quantile_plot(drawn, level)
    some = "" if len(plot.value) == plot.n else f" ({num.count(len(plot.value))} of {num.count(plot.n)} points)"
    x = axis(f"normal score{some}", nice=False, domain=limits(plot.score, pad=0.04))
    domain = limits(plot.value, np.clip(plot.low, -6, 6), np.clip(plot.high, -6, 6))
    y = upright(what, domain, height)
    ends = np.array([plot.score[0], plot.score[-1]])
    layers = [
        ribbon(plot.score, plot.low, plot.high, x, y),
        curve(ends, ends, x, y, INK, strokeWidth=1.0),
        *dots(plot.score, plot.value, plot.outside, x, y, size(plot)),
        *edges(plot.score, plot.low, plot.high, x, y),
    ]
    return {"width": width, "height": height, **title_of(title, width + 20), "layer": layers}


def size(plot: QuantilePlot) -> int:
    """Of a point, by how many there are."""
    return 28 if len(plot.value) <= 60 else 14
