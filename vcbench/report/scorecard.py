"""The scorecard: one line a method for a parameter, in one condition or on average over all of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report.evidence import GOOD
from vcbench.report.findings import LIMIT, Findings, share_mcse
from vcbench.report.tables import Cell, Table, head

ALL = "all"
COLUMNS = ("empirical SE", "model SE off by, %", "coverage, %", "iterations", "CPU time", "missing")


@dataclass(frozen=True, slots=True)
class Lookup:
    """The findings by key, for many small tables: cells, (fits, missing), (iterations, CPU seconds)."""

    cells: Mapping[tuple[str, str, str], Any]
    ended: Mapping[tuple[str, str], tuple[int, int]]
    cost: Mapping[tuple[str, str], tuple[float, float]]


def scorecards(found: Findings, most: int = 40) -> dict[tuple[str, str], Table]:
    """A table for each (parameter, condition id or `all`), the one to show first coming first."""
    conditions = [c.id for c in found.evidence.simulated][:most]
    choices = [ALL, *conditions] if len(conditions) > 1 else conditions
    lookup = _look_up(found)
    return {(p, c): _scorecard(found, lookup, p, c) for p in found.evidence.judged for c in choices}


def scorecard(found: Findings, parameter: str, condition: str) -> Table:
    """Bias in per cent of the truth (in its unit where a truth is 0), SEs, coverage, cost, missing results.

    Over all conditions: means, whose MCSE is √(Σ MCSE²)/C since conditions have data of their own.
    """
    return _scorecard(found, _look_up(found), parameter, condition)


def _look_up(found: Findings) -> Lookup:
    allowed = share_mcse(found.cells, found.level)
    cells = found.cells.assign(coverage_allowed=allowed)
    ran = found.endings[found.endings["status"] != "SKIPPED"]
    bad = ran["n"].where(~ran["status"].isin(GOOD), 0)
    ended = ran.assign(bad=bad).groupby(["condition", "method"])[["n", "bad"]].sum()
    return Lookup(
        {(r.condition, r.parameter, r.method): r for r in cells.itertuples()},
        {key: (int(n), int(k)) for key, n, k in ended.itertuples(name=None)},
        {(r.condition, r.method): (r.n_iter, r.cpu_seconds) for r in found.cost.itertuples()},
    )


def _scorecard(found: Findings, lookup: Lookup, parameter: str, condition: str) -> Table:
    conditions = [c.id for c in found.evidence.simulated] if condition == ALL else [condition]
    methods = found.evidence.methods
    has = {c: [lookup.cells[key] for m in methods if (key := (c, parameter, m)) in lookup.cells] for c in conditions}
    conditions = [c for c in conditions if has[c]]
    relative = any(r.relative_bias == r.relative_bias for c in conditions for r in has[c])
    partly = relative and any(r.relative_bias != r.relative_bias for c in conditions for r in has[c])
    rows = [_row(found, lookup, parameter, m, conditions, relative) for m in methods]
    where = f"mean of {len(conditions)} conditions" if condition == ALL else found.label(condition)
    caption = f"{parameter}, {where}; ± is the Monte Carlo SE, ▲ off by more than 2 of them"
    columns = ("method", "relative bias, %" if relative else "bias", *COLUMNS)
    note = (
        "Relative bias is averaged over the conditions where the truth is not 0." if condition == ALL and partly else ""
    )
    return Table("scorecard", caption, columns, tuple(r for r in rows if r is not None), note)


def _row(
    found: Findings, lookup: Lookup, parameter: str, method: str, conditions: Sequence[str], relative: bool
) -> tuple[Cell, ...] | None:
    ended = [lookup.ended[c, method] for c in conditions if (c, method) in lookup.ended]
    if not ended:
        return None
    missing = sum(bad for _, bad in ended)
    cells = [lookup.cells[key] for c in conditions if (key := (c, parameter, method)) in lookup.cells]
    costs = np.array([lookup.cost[c, method] for c in conditions if (c, method) in lookup.cost], float).reshape(-1, 2)
    iterations = _median(costs[:, 0]) if method in found.evidence.climbs else float("nan")
    cpu = _median(costs[:, 1])
    scale = 100.0 if relative else 1.0
    return (
        head(method, found.evidence.methods.index(method)),
        _mean(cells, "relative_bias" if relative else "bias", 0.0, scale),
        _mean(cells, "empirical_se", None, 1.0),
        _mean(cells, "model_se_error", 0.0, 1.0),
        _mean(cells, "coverage", found.level, 100.0, "coverage_allowed"),
        Cell(num.count(iterations), iterations),
        Cell(num.seconds(cpu), cpu),
        Cell(num.count(missing), missing, "bad" if missing else ""),
    )


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _mean(cells: Sequence[Any], column: str, target: float | None, scale: float, allowed: str = "") -> Cell:
    """The mean of a measure with its MCSE; flagged by the column `allowed` where that is not its own MCSE."""
    part = [r for r in cells if getattr(r, column) == getattr(r, column)]
    if not part:
        return Cell(num.ABSENT, float("nan"))

    def error(name: str) -> float:
        return math.sqrt(sum(getattr(r, name) ** 2 for r in part)) / len(part)

    value, mcse = sum(getattr(r, column) for r in part) / len(part), error(f"{column}_mcse")
    limit = LIMIT * (error(allowed) if allowed else mcse)
    flagged = target is not None and mcse > 0 and abs(value - target) > limit
    return Cell(num.plus_minus(scale * value, scale * mcse), value, "off" if flagged else "")


def precision(found: Findings) -> str:
    """Enough replicates? The largest MCSE of a coverage and of a relative bias, and what one point would take."""
    cells = found.cells[found.cells["parameter"].isin(found.evidence.judged)]
    covered, biased = cells[cells["coverage"].notna()], cells[cells["relative_bias"].notna()]
    if covered.empty:
        return ""
    cell = covered.iloc[int(covered["coverage_mcse"].to_numpy().argmax())]
    share = min(max(float(cell["coverage"]), 0.5), 0.95)
    needed = num.count(float(f"{share * (1 - share) / 1e-4:.2g}"))
    text = f"Largest MCSE of a coverage {num.fixed(100 * cell['coverage_mcse'], 1)} points ({_place(found, cell)}); "
    text += f"one point takes about {needed} replicates."
    if len(biased):
        cell = biased.iloc[int(biased["relative_bias_mcse"].to_numpy().argmax())]
        size = num.significant(100 * cell["relative_bias_mcse"], 2)
        text += f" Largest MCSE of a relative bias {size} % ({_place(found, cell)})."
    return text


def _place(found: Findings, cell: pd.Series) -> str:
    return f"{cell['method']}, {cell['parameter']}, {found.label(cell['condition'])}"
