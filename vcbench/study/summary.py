"""A run folder in a few lines: how many fits are in hand, how they ended, what they cost."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vcbench.numbers import count
from vcbench.numbers import seconds as time_words
from vcbench.study.parts import iter_fits
from vcbench.study.store import read_run

GOOD = ("CONVERGED", "AT_BOUNDARY")
COLUMNS = ["fits", "ok", "boundary", "max_iter", "timeout", "failed", "skipped", "seconds", "where", "why"]


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
    """The summary of a run folder, read shard by shard. `missing` counts the fits without an estimate."""
    run = read_run(folder)
    ended: dict[str, Counter[str]] = {}
    bad: dict[str, set[str]] = {}
    why: dict[str, Counter[str]] = {}
    seconds: dict[str, list[np.ndarray]] = {}
    missing = 0
    for shard, label, fits in iter_fits(folder, ["status", "message", "seconds"]):
        ended.setdefault(label, Counter()).update(fits["status"])
        seconds.setdefault(label, []).append(fits["seconds"].to_numpy(float))
        missing += int((~fits["estimated"]).sum())
        skipped = fits[fits["status"] == "SKIPPED"]
        if len(skipped):
            why.setdefault(label, Counter()).update(skipped["message"].dropna())
        if not fits["status"].isin(GOOD).all():
            bad.setdefault(label, set()).add(shard.condition)
    table = []
    for label, status in ended.items():
        fits, ok = sum(status.values()), sum(status[name] for name in GOOD)
        took = np.concatenate(seconds[label])
        took = took[~np.isnan(took)]
        table.append({
            "method": label, "fits": fits, "ok": ok, "boundary": status["AT_BOUNDARY"], "max_iter": status["MAX_ITER"],
            "timeout": status["TIMEOUT"], "failed": status["FAILED"] + status["SINGULAR_V"],
            "skipped": status["SKIPPED"], "seconds": float(np.median(took)) if len(took) else math.nan,
            "where": _where(bad.get(label, set())), "why": why[label].most_common(1)[0][0] if why.get(label) else "",
        })  # fmt: skip
    if not table:
        return Summary(int(run.get("n_planned", 0)), 0, 0, pd.DataFrame(columns=COLUMNS), run)
    order = [entry["label"] for entry in run.get("methods", [])]
    methods = pd.DataFrame(table).set_index("method")
    methods = methods.loc[[m for m in order if m in methods.index] + [m for m in methods.index if m not in order]]
    done = int(methods["fits"].sum())
    return Summary(int(run.get("n_planned", done)), done, missing, methods, run)


def _where(conditions: set[str]) -> str:
    """The conditions that hold what did not end well, if they are few."""
    found = sorted(conditions)
    return f"in condition{'s' if len(found) > 1 else ''} {', '.join(found)}" if 0 < len(found) <= 4 else ""


def end_lines(
    summary: Summary, elapsed: float | None = None, folder: Path | str = "", interrupted: bool = False
) -> list[str]:
    """The end screen."""
    share = summary.missing / max(summary.done, 1)
    head = f"DONE with {count(summary.missing)} missing results of {count(summary.done)} ({share:.2%})"
    if interrupted or not summary.complete:
        word = "INTERRUPTED" if interrupted else "INCOMPLETE"
        head = f"{word} with {count(summary.done)} of {count(summary.planned)} fits in hand"
    took = "" if elapsed is None else f"   {time_words(elapsed)}"
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
                f" {row['timeout']:>8} {row['failed']:>7} {row['skipped']:>8}  {time_words(row['seconds'])}{where}"
            )
        lines += [f" {label} was skipped: {row['why']}" for label, row in summary.methods.iterrows() if row["why"]]
        lines.append("")
    if interrupted:
        lines.append(" The same command continues where this one stopped.")
    elif folder:
        lines.append(f" results  {folder}")
    return lines
