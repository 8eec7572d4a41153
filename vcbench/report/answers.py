"""The study's answer: its author's words, every figure in them worked out from the rows."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from vcbench import numbers as num
from vcbench.report.evidence import Evidence

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
    said = re.sub(PLACEHOLDER, lambda found: _figure(evidence, figures.get(found[1])), text)
    return f"{said} {NOTE}" if "±" in said else said


def _figure(evidence: Evidence, about: Mapping[str, Any] | None) -> str:
    if about is None:
        return num.ABSENT
    measure = str(about["measure"])
    cells = _cells(evidence, measure, about)
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


def _cells(evidence: Evidence, measure: str, about: Mapping[str, Any]) -> pd.DataFrame:
    """The measure of the cells that a figure speaks of, in those that have it."""
    from vcbench.study.measures import measures

    rows = evidence.estimates
    for column in ("condition", "parameter"):
        if about.get(column) is not None:
            rows = rows[rows[column].isin(about[column])]
    if rows.empty:
        return pd.DataFrame()
    found = measures(rows, evidence.level, reference=_reference(evidence, rows), only=[measure])
    if about.get("method") is not None:
        found = found[found["method"].isin(about["method"])]
    return found[found["value"].notna()]


def _reference(evidence: Evidence, rows: pd.DataFrame) -> str | None:
    named = evidence.run.get("reference")
    return str(named) if named in set(rows["method"]) else None
