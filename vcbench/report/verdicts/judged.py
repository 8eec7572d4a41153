"""Bias, coverage and standard errors, in a sentence each."""

import pandas as pd

from vcbench import numbers as num
from vcbench.report.findings import Findings
from vcbench.report.verdicts.base import ALARM, Verdict


def _cells_of(found: Findings, methods: tuple[str, ...], column: str) -> pd.DataFrame:
    cells = found.cells[
        found.cells["parameter"].isin(found.evidence.judged) & (found.cells["method"] == found.representative(methods))
    ]
    return cells[cells[column].notna()]


def _where(found: Findings, cell: pd.Series) -> str:
    several = len(found.evidence.simulated) > 1
    return f"{cell['parameter']}{', ' + found.label(cell['condition']) if several else ''}"


def _signed(value: float, mcse: float) -> str:
    text = num.plus_minus(value, mcse)
    return f"+{text}" if value > 0 else text


def _counts(parts: list[tuple[str, int, int]]) -> str:
    """`5 of 16 cells for REML maximisers, 11 of 16 for ML maximisers`."""
    cells = [num.plural(n, "cell") if i == 0 else num.count(n) for i, (_, _, n) in enumerate(parts)]
    said = [f"{k or 'none'} of {of} for {name}" for (name, k, _), of in zip(parts, cells, strict=True)]
    return num.listing(said, 6)


def bias(found: Findings) -> Verdict | None:
    """Per answer, the cells whose bias is off 0 by more than 2 MCSE; the largest of them relative to the truth."""
    parts, flagged = [], []
    for name, methods in found.groups:
        cells = _cells_of(found, methods, "bias_mcse")
        if len(cells):
            parts.append((name, int(cells["bias_off"].sum()), len(cells)))
            flagged.append(cells[cells["bias_off"]].assign(answer=name))
    if not parts:
        return None
    text = f"Off zero by more than 2 MCSE in {_counts(parts)}"
    worst = pd.concat(flagged)
    relative = worst[worst["relative_bias"].notna()]
    if len(relative):
        cell = relative.iloc[int(relative["relative_bias"].abs().to_numpy().argmax())]
        size = f"{_signed(100 * cell['relative_bias'], 100 * cell['relative_bias_mcse'])} %"
        text += f". The largest: {cell['answer']} {size} ({_where(found, cell)})"
    alarm = max(k / n for _, k, n in parts) > ALARM
    return Verdict("note" if alarm else "good", "Bias", f"{text}.", "bias")


def coverage(found: Findings) -> Verdict | None:
    """Per answer, the range of coverage over parameters and conditions; the lowest of all with its MCSE."""
    said, lows, alarm = [], [], False
    for name, methods in found.groups:
        cells = _cells_of(found, methods, "coverage")
        if cells.empty:
            continue
        low = cells.iloc[int(cells["coverage"].to_numpy().argmin())]
        n_off = int(cells["coverage_off"].sum())
        alarm = alarm or n_off / len(cells) > ALARM
        ends = [num.percent(low["coverage"]), num.percent(float(cells["coverage"].max()))]
        said.append(
            f"{name} {' to '.join(dict.fromkeys(ends))} ({n_off or 'none'} of {num.plural(len(cells), 'cell')} off)"
        )
        lows.append(low)
    if not said:
        return None
    lowest = min(lows, key=lambda cell: float(cell["coverage"]))
    size = num.plus_minus(100 * lowest["coverage"], 100 * lowest["coverage_mcse"])
    text = f"Coverage: {num.listing(said, 6)}. The lowest: {lowest['method']} {size} % ({_where(found, lowest)})."
    return Verdict("note" if alarm else "good", f"{100 * found.level:g} % intervals", text, "coverage")


def errors(found: Findings) -> Verdict | None:
    """Model SE against empirical SE: per answer the cells off by more than 2 MCSE, and the farthest of all."""
    parts, flagged = [], []
    for name, methods in found.groups:
        cells = _cells_of(found, methods, "model_se_error")
        if len(cells):
            parts.append((name, int(cells["se_off"].sum()), len(cells)))
            flagged.append(cells[cells["se_off"]].assign(answer=name))
    if not parts:
        return None
    text = f"They differ from the scatter of the estimates by more than 2 MCSE in {_counts(parts)}"
    worst = pd.concat(flagged)
    if len(worst):
        cell = worst.iloc[int(worst["model_se_error"].abs().to_numpy().argmax())]
        size = f"{_signed(cell['model_se_error'], cell['model_se_error_mcse'])} %"
        text += f". The farthest: {cell['answer']} {size} ({_where(found, cell)})"
    alarm = max(k / n for _, k, n in parts) > ALARM
    return Verdict("note" if alarm else "good", "Standard errors", f"{text}.", "errors")
