"""The scorecard: one line a method for a parameter, in one condition or on average over all of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report import endings
from vcbench.report.evidence import GOOD
from vcbench.report.findings import LIMIT, Findings, maximisers, share_mcse
from vcbench.report.tables import Cell, Table, head

ALL = "all"
COLUMNS = (
    "method",
    "bias",
    "empirical SE",
    "model SE off by",
    "coverage",
    "iterations",
    "CPU time",
    "missing",
)


def scorecards(found: Findings, most: int = 40) -> dict[tuple[str, str], Table]:
    """A table for each (parameter, condition id or `all`), the one to show first coming first."""
    conditions = [c.id for c in found.evidence.simulated][:most]
    choices = [ALL, *conditions] if len(conditions) > 1 else conditions
    return {(p, c): scorecard(found, p, c) for p in found.evidence.judged for c in choices}


def scorecard(found: Findings, parameter: str, condition: str) -> Table:
    """Bias in per cent of the truth (in its unit where a truth is 0), SEs, coverage, cost, missing results.

    Over all conditions: means, whose MCSE is √(Σ MCSE²)/C since conditions have data of their own.
    """
    conditions = [c.id for c in found.evidence.simulated] if condition == ALL else [condition]
    cells = found.cells[(found.cells["parameter"] == parameter) & found.cells["condition"].isin(conditions)]
    relative = bool(cells["relative_bias"].notna().any())
    conditions = [c for c in conditions if c in set(cells["condition"])]
    rows = [_row(found, cells[cells["method"] == m], m, conditions, relative) for m in found.evidence.methods]
    where = f"mean of {len(conditions)} conditions" if condition == ALL else found.label(condition)
    caption = f"{parameter}, {where}; ± is the Monte Carlo SE, ▲ off by more than 2 of them"
    columns = (
        COLUMNS[0],
        "relative bias, %" if relative else "bias",
        COLUMNS[2],
        "model SE off by, %",
        "coverage, %",
        *COLUMNS[5:],
    )
    note = ""
    if condition == ALL and relative and cells["relative_bias"].isna().any():
        note = "Relative bias is averaged over the conditions where the truth is not 0."
    return Table("scorecard", caption, columns, tuple(r for r in rows if r is not None), note)


def _row(
    found: Findings, cells: pd.DataFrame, method: str, conditions: Sequence[str], relative: bool
) -> tuple[Cell, ...] | None:
    ended = found.endings[(found.endings["method"] == method) & found.endings["condition"].isin(conditions)]
    ended = ended[ended["status"] != "SKIPPED"]
    if ended.empty:
        return None
    missing = int(ended.loc[~ended["status"].isin(GOOD), "n"].sum())
    cost = found.cost[(found.cost["method"] == method) & found.cost["condition"].isin(conditions)]
    iterations = endings.typical(cost, "n_iter").get(method, np.nan) if method in maximisers(found) else np.nan
    cpu = endings.typical(cost, "cpu_seconds").get(method, np.nan)
    scale = 100.0 if relative else 1.0
    return (
        head(method, found.evidence.methods.index(method)),
        _mean(cells, "relative_bias" if relative else "bias", 0.0, scale),
        _mean(cells, "empirical_se", None, 1.0),
        _mean(cells, "model_se_error", 0.0, 1.0),
        _mean(cells, "coverage", found.level, 100.0, share_mcse(cells, found.level)),
        Cell(num.count(iterations), float(iterations)),
        Cell(num.seconds(cpu), float(cpu)),
        Cell(num.count(missing), missing, "bad" if missing else ""),
    )


def _mean(
    cells: pd.DataFrame, column: str, target: float | None, scale: float, judged_by: pd.Series | None = None
) -> Cell:
    """The mean of a measure with its MCSE; flagged by `judged_by`, where that is not the measure's own MCSE."""
    part = cells[cells[column].notna()]
    if part.empty:
        return Cell(num.ABSENT, float("nan"))
    value = float(part[column].mean())
    mcse = float(np.sqrt((part[f"{column}_mcse"] ** 2).sum()) / len(part))
    allowed = mcse if judged_by is None else float(np.sqrt((judged_by[part.index] ** 2).sum()) / len(part))
    flagged = target is not None and mcse > 0 and abs(value - target) > LIMIT * allowed
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
