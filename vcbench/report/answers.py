"""The study's answer: its author's words, every figure in them worked out from the rows."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vcbench import numbers as num
from vcbench.report.evidence import PAIRED, Evidence

NOTE = "(±: the Monte Carlo SE, of a range the largest.)"
PLACEHOLDER = r"\{(\w+)\}"
SHARES = (
    "relative_bias", "relative_mse", "relative_rmse", "coverage", "be_coverage", "rejection", "no_interval_rate",
    "share_equal", "convergence_rate", "boundary_rate", "nonpositive_rate", "failure_rate",
)  # fmt: skip
PER_CENT = ("model_se_error", "relative_precision")


def answer(evidence: Evidence) -> str:
    """`answer` of the specification with its figures; "" where there is none.

    One cell is its value ± Monte Carlo error; several are their range, with the largest error.
    """
    text = str(evidence.run.get("answer") or "")
    figures = evidence.run.get("figures") or {}
    cells = _measured(evidence, [about for about in figures.values() if about])
    said = re.sub(PLACEHOLDER, lambda found: _figure(cells, figures.get(found[1])), text)
    return f"{said} {NOTE}" if "±" in said else said


def _figure(measured: pd.DataFrame, about: Mapping[str, Any] | None) -> str:
    if about is None:
        return num.ABSENT
    measure = str(about["measure"])
    cells = _cells(measured, measure, about)
    if cells.empty:
        return num.ABSENT
    if measure.startswith(("seconds", "cpu_seconds")):
        low, high = (num.seconds(float(v)) for v in (cells["value"].min(), cells["value"].max()))
        return low if low == high else f"{low} to {high}"
    scale = 100.0 if measure in SHARES else 1.0
    unit = " %" if measure in (*SHARES, *PER_CENT) else ""
    value, error = scale * cells["value"].astype(float), scale * cells["mcse"].astype(float)
    worst = float(error.max())
    if not worst > 1e-9 * float(value.abs().max()):
        write = num.count if measure.startswith("n_") else num.significant
        low, high = (write(float(v)) for v in (value.min(), value.max()))
        return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
    if len(cells) == 1:
        return num.plus_minus(value.iloc[0], worst) + unit
    places = num.decimals(worst, 1)
    low, high = (num.fixed(v, places) for v in (value.min(), value.max()))
    span = low if low == high else f"{low} to {high}"
    return f"{span}{unit} (± {num.fixed(worst, places)})"


def _cells(measured: pd.DataFrame, measure: str, about: Mapping[str, Any]) -> pd.DataFrame:
    """The measure of the cells that a figure speaks of, in those that have it."""
    if measured.empty:
        return measured
    found = measured[(measured["measure"] == measure) & measured["value"].notna()]
    for column in ("condition", "parameter", "method"):
        if about.get(column) is not None:
            found = found[found[column].isin(about[column])]
    return found


def _measured(evidence: Evidence, figures: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What the figures speak of, each condition read once. Paired measures are against the study's reference."""
    from vcbench.study.measures import measures

    named, out = str(evidence.run.get("reference") or ""), []
    for condition in evidence.conditions:
        here = [about for about in figures if about.get("condition") is None or condition.id in about["condition"]]
        wanted = {str(about["measure"]) for about in here}
        if not wanted:
            continue
        rows = evidence.rows(condition.id)
        if all(about.get("parameter") is not None for about in here):
            rows = rows[rows["parameter"].isin({p for about in here for p in about["parameter"]})]
        if named in evidence.methods and named not in set(rows["method"]):
            wanted -= {*PAIRED, "relative_precision"}
        if len(rows) and wanted:
            reference = named if named in set(rows["method"]) else None
            out.append(measures(rows, evidence.level, reference=reference, only=sorted(wanted)))
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame()
