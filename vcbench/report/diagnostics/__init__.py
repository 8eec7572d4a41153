"""Pictures of one fit: is the model right, how well is each parameter known, and how did the method get there.

Each kind is a function from a fit to a Vega-Lite dictionary, in a file of its own; `kinds.KINDS` lists them. Here what
was worked out is drawn; statistics and bands come from `vcbench.inference`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vcbench.errors import VcbenchError

__all__ = ["chart", "charts", "draw", "save_all", "save_contour"]


def chart(fit: Any, kind: str, **options: Any) -> Any:
    """An Altair chart of a kind or alias. Raises MethodError as `kinds.Kind.spec`."""
    from vcbench.report.diagnostics.kinds import kind_of

    return _altair(kind_of(kind).spec(fit, **options))


def charts(fit: Any) -> dict[str, Any]:
    """Altair charts of all kinds that apply and are drawn unasked, by kind."""
    return {name: _altair(spec) for name, spec in draw(fit)[0].items()}


def draw(fit: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """(specification by kind, why others are left out) of a fit."""
    from vcbench.report.diagnostics.kinds import KINDS

    drawn, left = {}, {}
    for kind in KINDS:
        reason = kind.unasked(fit)
        if not reason:
            try:
                drawn[kind.name] = kind.spec(fit)
            except VcbenchError as error:  # what only the attempt shows, such as a profile without an end
                reason = str(error)
        if reason:
            left[kind.name] = reason
    return drawn, left


def save_all(fit: Any, folder: Path | str) -> list[Path]:
    """Write the pictures that apply into a folder as `<kind>.svg`, the trace as `convergence-<criterion>.svg`; return
    their paths."""
    from vcbench.report.svg import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn, _ = draw(fit)
    names = {"trace": f"convergence-{fit.criterion}"}
    return [save(spec, folder / f"{names.get(kind, kind)}.svg") for kind, spec in drawn.items()]


def save_contour(fits: Mapping[str, Any], path: Path | str) -> list[Path]:
    """Write the contours of the best of some fits of one model with the path of each; [] where there are none."""
    from vcbench.report.diagnostics.kinds import kind_of
    from vcbench.report.svg import save

    fit, kind = max(fits.values(), key=lambda f: f.loglik), kind_of("contour")
    if kind.unasked(fit):
        return []
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return [save(kind.spec(fit, fits=fits), path)]


def _altair(spec: Any) -> Any:
    from vcbench.report.diagnostics.altair_chart import chart_of
    from vcbench.report.theme import config

    return chart_of({**spec, "config": config()})
