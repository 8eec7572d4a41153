"""A run folder in a few lines: how many fits are in hand, how they ended, what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vcbench.numbers import count, seconds
from vcbench.study.store import read_rows, read_run

FIT = ["condition", "replicate", "method"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Fits in hand against planned; `methods` has one row a method: fits, how they ended, their median seconds, where
    they did not end well, and why they were skipped."""

    planned: int
    done: int
    missing: int
    methods: pd.DataFrame
    run: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """True if everything planned is in hand."""
        return self.done >= self.planned


def summarise(folder: Path | str) -> Summary:
    """The summary of a run folder. `missing` counts the fits without an estimate."""
    run, rows = read_run(folder), read_rows(folder)
    columns = ["fits", "ok", "boundary", "max_iter", "timeout", "failed", "skipped", "seconds", "where", "why"]
    if rows.empty:
        return Summary(int(run.get("n_planned", 0)), 0, 0, pd.DataFrame(columns=columns), run)
    estimated = rows.groupby(FIT)["estimate"].count() > 0
    fits = rows.drop_duplicates(FIT).set_index(FIT)
    table = []
    for label, part in fits.groupby("method", sort=False):
        status = part["status"].value_counts()
        bad = part[~part["status"].isin(["CONVERGED", "AT_BOUNDARY"])]
        table.append({
            "method": label, "fits": len(part), "ok": len(part) - len(bad), "boundary": status.get("AT_BOUNDARY", 0),
            "max_iter": status.get("MAX_ITER", 0), "timeout": status.get("TIMEOUT", 0),
            "failed": status.get("FAILED", 0) + status.get("SINGULAR_V", 0), "skipped": status.get("SKIPPED", 0),
            "seconds": part["seconds"].median(), "where": _where(bad), "why": _why(part),
        })  # fmt: skip
    order = [entry["label"] for entry in run.get("methods", [])]
    methods = pd.DataFrame(table).set_index("method")
    methods = methods.loc[[m for m in order if m in methods.index] + [m for m in methods.index if m not in order]]
    return Summary(int(run.get("n_planned", len(fits))), len(fits), int((~estimated).sum()), methods, run)


def _where(bad: pd.DataFrame) -> str:
    """The conditions that hold what did not end well, if they are few."""
    conditions = sorted(set(bad.index.get_level_values("condition")))
    if not conditions:
        return ""
    return f"in condition{'s' if len(conditions) > 1 else ''} {', '.join(conditions)}" if len(conditions) <= 4 else ""


def _why(part: pd.DataFrame) -> str:
    """What was said of most of the fits that were skipped, such as that a program is not there."""
    said = part.loc[part["status"] == "SKIPPED", "message"].dropna()
    return str(said.value_counts().index[0]) if len(said) else ""


def end_lines(
    summary: Summary, elapsed: float | None = None, folder: Path | str = "", interrupted: bool = False
) -> list[str]:
    """The end screen."""
    share = summary.missing / max(summary.done, 1)
    head = f"DONE with {count(summary.missing)} missing results of {count(summary.done)} ({share:.2%})"
    if interrupted or not summary.complete:
        word = "INTERRUPTED" if interrupted else "INCOMPLETE"
        head = f"{word} with {count(summary.done)} of {count(summary.planned)} fits in hand"
    took = "" if elapsed is None else f"   {seconds(elapsed)}"
    lines = ["", head + took, ""]
    if len(summary.methods):
        width = max(6, *(len(str(label)) for label in summary.methods.index))
        lines.append(
            f" {'method':<{width}} {'fits':>8} {'ok':>8} {'boundary':>9} {'not conv.':>9} {'timeout':>8} {'failed':>7}"
            f" {'skipped':>8}  median time"
        )
        for label, row in summary.methods.iterrows():
            boundary = f"{row['boundary'] / max(row['ok'], 1):.1%}" if row["ok"] else "–"
            where = f"   ← {row['where']}" if row["where"] else ""
            lines.append(
                f" {label!s:<{width}} {count(row['fits']):>8} {count(row['ok']):>8} {boundary:>9} {row['max_iter']:>9}"
                f" {row['timeout']:>8} {row['failed']:>7} {row['skipped']:>8}  {seconds(row['seconds'])}{where}"
            )
        lines += [f" {label} was skipped: {row['why']}" for label, row in summary.methods.iterrows() if row["why"]]
        lines.append("")
    if interrupted:
        lines.append(" The same command continues where this one stopped.")
    elif folder:
        lines.append(f" results  {folder}")
    return lines
