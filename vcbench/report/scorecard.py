"""The scorecard: one line a method for a parameter, in one condition or on average over all of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report.evidence import BIASES, ERRORS, GOOD, INTERVALS, STEPS, TIMES
from vcbench.report.findings import LIMIT, Findings, share_mcse
from vcbench.report.tables import Cell, Table, head

ALL = "all"
NULL, REST, LEAST = "null", "rest", "least"  # conditions where a test should not reject, the others, and the lowest


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
    """Bias in per cent of the truth (in its unit where a truth is 0), SEs, coverage, cost, missing results; of a study
    about certain measures those, and what intervals and tests are judged by.

    Over all conditions: means, whose MCSE is √(Σ MCSE²)/C since conditions have data of their own.
    """
    return _scorecard(found, _look_up(found), parameter, condition)


def _look_up(found: Findings) -> Lookup:
    cells = found.cells.assign(
        coverage_allowed=share_mcse(found.cells, found.level),
        rejection_allowed=share_mcse(found.cells, 1 - found.level, "rejection"),
    )
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
    columns = _columns(found, relative, len(conditions) > 1)
    rows = [_row(found, lookup, parameter, m, conditions, columns) for m in methods]
    where = f"mean of {len(conditions)} conditions" if condition == ALL else found.label(condition)
    caption = f"{parameter}, {where}; ± is the Monte Carlo SE, ▲ off by more than 2 of them"
    kept = [r for r in rows if r is not None]
    note = (
        "Relative bias is averaged over the conditions where the truth is not 0."
        if condition == ALL and partly and found.evidence.about(*BIASES)
        else ""
    )
    heads = ("method", *(c.head for c in columns), *_cost_heads(found), "missing")
    gone = {j for j, c in enumerate(columns, 1) if not c.always and all(r[j].text == num.ABSENT for r in kept)}
    used = [j for j in range(len(heads)) if j not in gone]
    return Table(
        "scorecard", caption, tuple(heads[j] for j in used), tuple(tuple(r[j] for j in used) for r in kept), note
    )


def _cost_heads(found: Findings) -> list[str]:
    about = found.evidence.about
    return ["iterations"] * about(*STEPS) + ["CPU time"] * about(*TIMES)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of means: of `measure` times `scale`, flagged where off `target` by more than 2 MCSE (those of `allowed`
    where it is not the measure's own). `over` NULL or REST: the conditions whose truth is 0, or is not; LEAST: the
    lowest of all, in place of the mean.

    `always`: shown though no method has it.
    """

    head: str
    measure: str
    target: float | None = None
    scale: float = 1.0
    allowed: str = ""
    over: str = ""
    always: bool = True


def _columns(found: Findings, relative: bool, several: bool) -> list[Column]:
    """What the study is about, over several conditions or in one."""
    about, named = found.evidence.about, bool(found.evidence.only)
    out = []
    if about(*BIASES):
        bias = "relative_bias" if relative else "bias"
        out.append(Column("relative bias, %" if relative else "bias", bias, 0.0, 100.0 if relative else 1.0))
    if about(*ERRORS):
        out.append(Column("empirical SE", "empirical_se"))
        out.append(Column("model SE off by, %", "model_se_error", 0.0))
    if about(*INTERVALS):
        out.append(Column("coverage, %", "coverage", found.level, 100.0, "coverage_allowed"))
        if named and several:
            out.append(Column("lowest coverage, %", "coverage", None, 100.0, over=LEAST))
        if named:
            out.append(Column("no interval, %", "no_interval_rate", None, 100.0))
            out.append(Column("coverage, none being a miss, %", "coverage_penalised", None, 100.0))
            out.append(Column("median width", "interval_width_median"))
    if named and about("failure_rate"):
        out.append(Column("no estimate, %", "failure_rate", None, 100.0))
    if named and about("rejection"):
        size = Column("type-I error, %", "rejection", 1 - found.level, 100.0, "rejection_allowed", NULL, False)
        out += [size, Column("power, %", "rejection", None, 100.0, "", REST, False)]
    return out


def _row(
    found: Findings, lookup: Lookup, parameter: str, method: str, conditions: Sequence[str], columns: Sequence[Column]
) -> tuple[Cell, ...] | None:
    ended = [lookup.ended[c, method] for c in conditions if (c, method) in lookup.ended]
    if not ended:
        return None
    missing = sum(bad for _, bad in ended)
    cells = [lookup.cells[key] for c in conditions if (key := (c, parameter, method)) in lookup.cells]
    costs = np.array([lookup.cost[c, method] for c in conditions if (c, method) in lookup.cost], float).reshape(-1, 2)
    iterations = _median(costs[:, 0]) if method in found.evidence.climbs else float("nan")
    cpu = _median(costs[:, 1])
    cost = [Cell(num.count(iterations), iterations)] if found.evidence.about(*STEPS) else []
    cost += [Cell(num.seconds(cpu), cpu)] if found.evidence.about(*TIMES) else []
    return (
        head(method, found.evidence.methods.index(method)),
        *(_mean(cells, column) for column in columns),
        *cost,
        Cell(num.count(missing), missing, "bad" if missing else ""),
    )


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _mean(cells: Sequence[Any], column: Column) -> Cell:
    """The mean of a measure over the column's conditions, with its MCSE."""
    name = column.measure
    part = [r for r in cells if getattr(r, name) == getattr(r, name)]
    if column.over == LEAST:
        part = sorted(part, key=lambda r: getattr(r, name))[:1]
    elif column.over:
        part = [r for r in part if (r.truth == 0) == (column.over == NULL)]
    if not part:
        return Cell(num.ABSENT, float("nan"))

    def error(name: str) -> float:
        return math.sqrt(sum(getattr(r, name) ** 2 for r in part)) / len(part)

    value, mcse = sum(getattr(r, name) for r in part) / len(part), error(f"{name}_mcse")
    limit = LIMIT * (error(column.allowed) if column.allowed else mcse)
    flagged = column.target is not None and mcse > 0 and abs(value - column.target) > limit
    return Cell(num.plus_minus(column.scale * value, column.scale * mcse), value, "off" if flagged else "")


def precision(found: Findings) -> str:
    """Enough replicates? The largest MCSE of a coverage and of a relative bias, and what one point would take."""
    cells = found.cells[found.cells["parameter"].isin(found.evidence.judged)]
    covered, biased = cells[cells["coverage"].notna()], cells[cells["relative_bias"].notna()]
    if covered.empty:
        return _precision_of_tests(found, cells)
    cell = covered.iloc[int(covered["coverage_mcse"].to_numpy().argmax())]
    share = min(max(float(cell["coverage"]), 0.5), 0.95)
    needed = num.count(float(f"{share * (1 - share) / 1e-4:.2g}"))
    text = f"Largest MCSE of a coverage {num.fixed(100 * cell['coverage_mcse'], 1)} points ({_place(found, cell)}); "
    text += f"one point takes about {needed} replicates."
    if len(biased) and found.evidence.about(*BIASES):
        cell = biased.iloc[int(biased["relative_bias_mcse"].to_numpy().argmax())]
        size = num.significant(100 * cell["relative_bias_mcse"], 2)
        text += f" Largest MCSE of a relative bias {size} % ({_place(found, cell)})."
    return text


def _precision_of_tests(found: Findings, cells: pd.DataFrame) -> str:
    """The largest MCSE of a type-I error."""
    null = cells[(cells["truth"] == 0) & cells["rejection"].notna()]
    if null.empty:
        return ""
    cell = null.iloc[int(null["rejection_mcse"].to_numpy().argmax())]
    return (
        f"Largest MCSE of a type-I error {num.fixed(100 * cell['rejection_mcse'], 2)} points ({_place(found, cell)},"
        f" {num.plural(cell['n_valid'], 'data set')})."
    )


def _place(found: Findings, cell: pd.Series) -> str:
    return f"{cell['method']}, {cell['parameter']}, {found.label(cell['condition'])}"
