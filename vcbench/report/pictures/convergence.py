"""Log-likelihood against iteration by method, a figure a traced condition."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from vcbench import numbers as num
from vcbench.report import marks
from vcbench.report.evidence import Condition
from vcbench.report.findings import Findings, maximisers, slug
from vcbench.report.pictures.base import (
    Figure,
    figure,
)
from vcbench.report.plots import convergence_spec
from vcbench.report.tables import Cell, Table, head


def _chosen(conditions: list[Condition], most: int = 6) -> list[Condition]:
    """Real data first, then simulated conditions evenly spread over the grid."""
    real = [c for c in conditions if c.real][: most - 2]
    simulated = [c for c in conditions if not c.real]
    places = np.unique(np.linspace(0, len(simulated) - 1, min(most - len(real), len(simulated))).round().astype(int))
    return real + [simulated[i] for i in places]


def convergence(found: Findings) -> Iterator[Figure]:
    traces = found.evidence.traces
    conditions = [c for c in found.evidence.conditions if c.id in set(traces["condition"])]
    for condition in _chosen(conditions):
        mine = traces[(traces["condition"] == condition.id) & traces["loglik"].notna()]
        if mine.empty:
            continue
        mine = mine[mine["replicate"] == mine["replicate"].min()]
        fits = found.evidence.fits(condition.id)
        fits = fits[fits["replicate"] == mine["replicate"].iloc[0]].set_index("method")
        by_criterion: dict[str, dict[str, pd.DataFrame]] = {}
        for method in [m for m in maximisers(found) if m in set(mine["method"])]:
            by_criterion.setdefault(found.evidence.criteria[method], {})[method] = mine[mine["method"] == method]
        if not by_criterion:
            continue
        rows = []
        best = {}
        for criterion, frames in sorted(by_criterion.items()):
            ends = [float(f["loglik"].max()) for f in frames.values()]
            best[criterion] = max(ends + [float(v) for v in fits["loglik"].reindex(list(frames)).dropna()])
            for method, frame in frames.items():
                last = frame.sort_values("iteration").iloc[-1]
                gap = best[criterion] - last["loglik"]
                rows.append(
                    (
                        head(method),
                        head(criterion.upper()),
                        Cell(num.count(last["iteration"]), float(last["iteration"])),
                        Cell(num.fixed(last["loglik"], 6), float(last["loglik"])),
                        Cell(num.significant(max(gap, 0.0), 2), float(gap)),
                        Cell(
                            num.count(_reaches(frame, best[criterion] - 0.01)), _reaches(frame, best[criterion] - 0.01)
                        ),
                        head(str(fits["status"].get(method, ""))),
                    )
                )
        name = f"convergence-{slug(condition.label)}"
        columns = (
            "method",
            "criterion",
            "iterations",
            "last log-likelihood",
            "below the best",
            "iterations to within 0.01",
            "ended",
        )
        table = Table(name, f"Convergence on {condition.label}", columns, tuple(rows))
        where = condition.label if condition.real else f"{condition.label}, replicate {int(mine['replicate'].iloc[0])}"

        def draw(narrow: bool, by_criterion=by_criterion, best=best) -> Any:
            charts = [
                convergence_spec(
                    frames,
                    best[criterion],
                    styles=found.styles,
                    criterion=criterion,
                    width=270 if narrow else 375,
                    height=200 if narrow else 220,
                    stacked=narrow,
                )
                for criterion, frames in sorted(by_criterion.items())
            ]
            return marks.stack(charts)

        yield figure(
            name,
            "convergence",
            f"Log-likelihood against iteration: {where}",
            f"On {where}: how far below the best log-likelihood each method is after each iteration (log scale), "
            "and the log-likelihood itself. Iterations are on a log scale.",
            table,
            draw,
            condition=condition.id,
        )


def _reaches(frame: pd.DataFrame, target: float) -> float:
    """The first iteration at or above `target`; NaN if none."""
    there = frame.loc[frame["loglik"] >= target, "iteration"]
    return float(there.min()) if len(there) else float("nan")
