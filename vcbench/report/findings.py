"""Everything the pages, pictures and sentences share, worked out once from the evidence."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vcbench.report import agreement, checks, endings
from vcbench.report.evidence import Condition, Evidence
from vcbench.report.stored import concat
from vcbench.report.tables import Table
from vcbench.report.theme import Look, looks

LIMIT = 2.0
NEAR = 0.02  # a coverage this close to its level serves in practice


@dataclass(frozen=True, slots=True)
class Findings:
    """Aggregates by condition and method; `groups` are answers (see agreement.groups), `cells` the judged measures."""

    evidence: Evidence
    styles: Mapping[str, Look]
    agreement: pd.DataFrame
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    cells: pd.DataFrame
    endings: pd.DataFrame
    bad: pd.DataFrame
    missing: pd.DataFrame
    cost: pd.DataFrame
    level: float
    checks: Mapping[str, int]
    check_table: Table | None

    def label(self, condition: str) -> str:
        return self.evidence.condition(condition).label

    def representative(self, methods: Sequence[str]) -> str:
        """The member of a group with most estimates; the first of them."""
        good = self.endings[self.endings["status"].isin(("CONVERGED", "AT_BOUNDARY"))]
        counts = good.groupby("method")["n"].sum()
        return max(methods, key=lambda m: (int(counts.get(m, 0)), -list(methods).index(m)))


def find(evidence: Evidence) -> Findings:
    """Aggregate; the slow part of a report."""
    agreed, ended, bad, cost = _gather(evidence)
    cells = evidence.cells(
        "bias",
        "relative_bias",
        "empirical_se",
        "model_se",
        "model_se_error",
        "coverage",
        "be_coverage",
        "coverage_penalised",
        "interval_width",
        "interval_width_median",
        "no_interval_rate",
        "failure_rate",
        "rejection",
        "rmse",
        "n_valid",
    )
    level = evidence.level
    null = cells["truth"] == 0
    cells = cells.assign(
        bias_off=off(cells["bias"], 0.0, cells["bias_mcse"]),
        se_off=off(cells["model_se_error"], 0.0, cells["model_se_error_mcse"]),
        coverage_off=off(cells["coverage"], level, share_mcse(cells, level)),
        rejection_off=off(cells["rejection"], 1 - level, share_mcse(cells, 1 - level, "rejection")) & null,
    )
    counts, table = checks.check(evidence)
    return Findings(
        evidence=evidence,
        styles=looks(evidence.methods, evidence.named, evidence.asked),
        agreement=agreed,
        groups=tuple(agreement.groups(evidence, agreed)),
        cells=cells,
        endings=ended,
        bad=bad,
        missing=endings.missing(bad),
        cost=cost,
        level=level,
        checks=counts,
        check_table=table,
    )


def _gather(evidence: Evidence) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Agreement, endings, fits that are no answer, and cost, from each condition's rows, read once."""
    agreed, ended, bad, cost = [], [], [], []
    for condition in evidence.conditions:
        fits = evidence.fits(condition.id)
        ended.append(endings.count_endings(fits))
        bad.append(endings.count_bad(fits))
        cost.append(endings.cost(fits, evidence))
        agreed.append(agreement.summarise(agreement.distances(evidence, condition.id), evidence))
    return (
        concat(agreed, list(agreement.COLUMNS)),
        endings.arrange_endings(pd.concat(ended, ignore_index=True), evidence),
        concat(bad, endings.BAD),
        pd.concat(cost, ignore_index=True),
    )


def off(value: pd.Series, target: float, mcse: pd.Series) -> pd.Series:
    """True where |value − target| > 2 MCSE; False where either is absent or the MCSE is 0."""
    value, mcse = value.astype(float), mcse.astype(float)
    return ((value - target).abs() > LIMIT * mcse) & (mcse > 0)


def share_mcse(cells: pd.DataFrame, level: float, measure: str = "coverage") -> pd.Series:
    """The larger of a coverage's MCSE and the one it would have at the nominal level: near 1 its own is too small."""
    nominal = np.sqrt(level * (1 - level) / cells["n_valid"].astype(float))
    return cells[f"{measure}_mcse"].astype(float).clip(lower=nominal)


def slug(text: str) -> str:
    """A name for files and anchors: `Subject:var((Intercept))` is subject-var-intercept."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def maximisers(found: Findings) -> list[str]:
    return [m for m in found.evidence.methods if m in found.evidence.climbs]


def worst_first(
    found: Findings,
    parameter: str,
    column: str,
    mcse: str,
    target: float,
    most: int,
    among: pd.Series | None = None,
) -> tuple[list[Condition], bool]:
    """The simulated conditions that have `parameter`: all in order, or, beyond `most`, those farthest off in MCSEs.

    `among`: the cells that count (True), where not all do. Returns the conditions and whether some were left out.
    """
    cells = found.cells[(found.cells["parameter"] == parameter) & found.cells[column].notna()]
    cells = cells if among is None else cells[among.reindex(cells.index)]
    present = [c for c in found.evidence.simulated if c.id in set(cells["condition"])]
    if len(present) <= most:
        return present, False
    z = ((cells[column] - target).abs() / cells[mcse].replace(0, np.nan)).fillna(0.0)
    worst = z.groupby(cells["condition"]).max()
    return sorted(present, key=lambda c: (-float(worst.get(c.id, 0.0)), c.id))[:most], True
