"""Methods, conditions, and every measure in every (condition, parameter, method), as lists."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report import families
from vcbench.report.evidence import show
from vcbench.report.explore.numbers import short, shorts
from vcbench.report.findings import Findings
from vcbench.report.theme import FAMILY_COLOURS


@dataclass(frozen=True, slots=True)
class Measure:
    """`scale` makes the unit of the page from that of the frame; `off` is the column that says ▲; `log` draws decades.

    `target` is where a perfect method is; `spread` names columns to draw where there is no Monte Carlo error.
    """

    key: str
    name: str
    unit: str = ""
    scale: float = 1.0
    target: float | None = None
    off: str = ""
    log: bool = False
    spread: tuple[str, str] | None = None
    shown: Callable[[float], str] = num.significant


@dataclass(frozen=True, slots=True)
class Told:
    """A measure with the cells that have it: places of condition, parameter (−1: of the fit), method; value, error."""

    measure: Measure
    frame: pd.DataFrame


@dataclass(frozen=True, slots=True)
class CellTable:
    parameters: tuple[str, ...]
    told: tuple[Told, ...]


def _known(level: float) -> tuple[Measure, ...]:
    nominal = 100 * level
    return (
        Measure("relative_bias", "Relative bias", "%", 100.0, 0.0, "bias_off"),
        Measure("bias", "Bias", target=0.0, off="bias_off"),
        Measure("coverage", "Coverage", "%", 100.0, nominal, "coverage_off"),
        Measure("coverage_penalised", "Coverage, no interval being a miss", "%", 100.0, nominal),
        Measure("be_coverage", "Bias-eliminated coverage", "%", 100.0, nominal),
        Measure("no_interval_rate", "Fits without an interval", "%", 100.0, 0.0),
        Measure("interval_width_median", "Median width of intervals"),
        Measure("interval_width", "Mean width of intervals"),
        Measure("rejection", "Rejections", "%", 100.0, off="rejection_off"),
        Measure("model_se_error", "Model SE off by", "%", 1.0, 0.0, "se_off"),
        Measure("empirical_se", "Empirical SE"),
        Measure("model_se", "Model SE"),
        Measure("rmse", "RMSE"),
        Measure("failure_rate", "Fits without an estimate", "%", 100.0, 0.0),
    )


COSTS = (
    Measure(
        "n_iter", "Iterations, median", log=True, spread=("n_iter_p10", "n_iter_p90"), shown=lambda v: num.count(v)
    ),
    Measure("cpu_seconds", "CPU time, median", "s", log=True, spread=("cpu_seconds_p10", "cpu_seconds_p90"),
            shown=num.seconds),
)  # fmt: skip
DISTANCE = Measure("distance", "Largest distance from the best maximum", "SE", log=True,
                   shown=lambda v: num.significant(v, 2))  # fmt: skip


def methods(found: Findings) -> list[dict[str, Any]]:
    """Label, family, criterion and look of each."""
    e = found.evidence
    return [
        {
            "label": m,
            "family": families.family(m, e.named),
            "criterion": e.criteria[m].upper() if e.criteria[m] not in ("", "none") else "",
            "colour": list(FAMILY_COLOURS.values()).index(found.styles[m].colour),
            "shape": found.styles[m].shape,
            "glyph": found.styles[m].glyph,
            "dash": found.styles[m].dash,
        }
        for m in e.methods
    ]


def conditions(found: Findings) -> list[dict[str, Any]]:
    """Id, label, levels of the factors that vary (as texts), number of data sets, and whether the data are real."""
    factors = found.evidence.factors
    return [
        {
            "id": c.id,
            "label": c.label,
            "levels": [show(c.factors[f]) if f in c.factors else "" for f in factors],
            "n": c.replicates,
            "real": c.real,
        }
        for c in found.evidence.conditions
    ]


def cells(found: Findings) -> CellTable:
    """The measures that some cell has, in the study's own units times their scale."""
    e = found.evidence
    simulated = found.cells
    present = set(simulated["parameter"])
    judged = e.judged
    parameters = (*judged, *(p for p in e.parameters if p in present and p not in judged))
    told = [_judged(found, m, parameters) for m in _known(found.level) if m.key in simulated]
    told += [_of_fits(found, m, found.cost, m.key) for m in COSTS]
    told.append(_of_fits(found, DISTANCE, found.agreement, "largest"))
    told.sort(key=lambda t: t.measure.key not in e.only)  # what the study is about comes first
    return CellTable(parameters, tuple(t for t in told if len(t.frame)))


def _places(found: Findings, parameters: tuple[str, ...]) -> tuple[Mapping[str, int], ...]:
    e = found.evidence
    return tuple({v: i for i, v in enumerate(x)} for x in ([c.id for c in e.conditions], parameters, e.methods))


def _judged(found: Findings, measure: Measure, parameters: tuple[str, ...]) -> Told:
    rows = found.cells[found.cells[measure.key].notna()]
    at, which, who = _places(found, parameters)
    value, error = measure.scale * rows[measure.key], measure.scale * rows[f"{measure.key}_mcse"]
    unit = "\u202f%" if measure.unit == "%" else ""
    frame = pd.DataFrame(
        {
            "c": rows["condition"].map(at),
            "p": rows["parameter"].map(which),
            "m": rows["method"].map(who),
            "n": rows["n_valid"],
            "x": value,
            "e": error,
            "t": [num.plus_minus(v, s) + unit for v, s in zip(value, error, strict=True)],
            "off": rows[measure.off].astype(int) if measure.off in rows else 0,
        }
    )
    return Told(measure, frame)


def _of_fits(found: Findings, measure: Measure, frame: pd.DataFrame, column: str) -> Told:
    """A measure of whole fits: no parameter."""
    if frame.empty:
        return Told(measure, frame)
    rows = frame[frame[column].notna() & np.isfinite(frame[column].astype(float))]
    if column == "n_iter":
        rows = rows[rows["method"].isin(found.evidence.climbs)]
    at, _, who = _places(found, ())
    low, high = measure.spread or (column, column)
    out = {"c": rows["condition"].map(at), "p": -1, "m": rows["method"].map(who), "n": rows["n"], "x": rows[column]}
    texts = [measure.shown(float(v)) for v in rows[column]]
    if measure.spread:
        between = zip(rows[low], rows[high], strict=True)
        ranges = [f" (10 to 90 %: {measure.shown(a)} to {measure.shown(b)})" for a, b in between]
        texts = [t + r for t, r in zip(texts, ranges, strict=True)]
    return Told(measure, pd.DataFrame({**out, "lo": rows[low], "hi": rows[high], "t": texts, "off": 0}))


def measures(table: CellTable) -> list[dict[str, Any]]:
    """Each measure with its columns: places c, p, m; n; value x, its MCSE e or limits lo, hi; text t; ▲ off."""
    out = []
    for told in table.told:
        m, frame = told.measure, told.frame
        of_fits = bool((frame["p"] < 0).all())
        entry: dict[str, Any] = {
            "key": m.key, "name": m.name, "unit": m.unit, "target": short(m.target), "log": m.log, "whole": of_fits,
        }  # fmt: skip
        for column in ("c", "p", "m", "n", "off"):
            entry[column] = [int(v) for v in frame[column]]
        for column in ("x", "e", "lo", "hi"):
            if column in frame:
                entry[column] = shorts(frame[column])
        entry["t"] = list(frame["t"])
        out.append(entry)
    return out
