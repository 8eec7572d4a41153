"""Acceptance checks of a run: a measure near its target, or not, or not known yet. There are two rules.

`rule = "fixed"`, for runs of a size fixed in advance (frozen seeds):

    FAIL          |value − target| > tolerance + z·MCSE
    PASS          |value − target| + z·MCSE ≤ tolerance        (two one-sided tests)
    INCONCLUSIVE  else

z is the normal quantile of the comparison's part α of `alarm`, so that a study in which all is well raises a false
alarm with at most that probability. `rule = "sequential"` looks after every block (`sequential.Rule`). Under both, a
measure without a Monte Carlo error (a maximum, a count) is compared as it is, and so is a method paired with itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from vcbench.errors import SpecError
from vcbench.study.checks import About, Check
from vcbench.study.groups import Group
from vcbench.study.mutants import switched_in
from vcbench.study.parts import Rows, as_parts, iter_groups, measure_parts
from vcbench.study.sequential import Rule, plain
from vcbench.study.spec import Spec


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison: PASS, FAIL or INCONCLUSIVE, and the numbers behind it.

    n, value and MCSE are those the verdict rests on: under the sequential rule, at the look that settled it, where
    [lower, upper] holds the measure at every n but for a chance of `alpha`.
    """

    verdict: str
    check: int
    measure: str
    condition: str
    method: str
    parameter: str
    value: float
    mcse: float
    n: int
    target: float
    tolerance: float
    reason: str = ""
    lower: float = math.nan
    upper: float = math.nan
    alpha: float = math.nan

    @property
    def detail(self) -> str:
        """The comparison in words."""
        if self.reason and math.isnan(self.value):
            return f"{self.measure} is undefined: {self.reason}"
        error = "" if math.isnan(self.mcse) else f" ± {self.mcse:.3g}"
        within = "" if math.isnan(self.lower) else f", at any n within [{self.lower:.4g}, {self.upper:.4g}]"
        slack = "" if math.isnan(self.tolerance) else f" ± {self.tolerance:.4g}"
        said = f"{self.measure} {self.value:.4g}{error} (n = {self.n}){within}, target {self.target:g}{slack}"
        return f"{said}; {self.reason}" if self.reason and self.verdict == "INCONCLUSIVE" else said


def check_rows(spec: Spec, rows: pd.DataFrame | Rows) -> list[Verdict]:
    """The verdicts of all `[[acceptance]]` checks, one a condition, method and parameter they speak of.

    `rows`: a data frame, or those of a folder, read a condition at a time (`parts.read_parts`).
    A check without `data` speaks of the simulated conditions: real data have one replicate and no truth.

    Raises SpecError for a check that speaks of nothing in the rows.
    """
    if not spec.table.acceptance:
        return []
    with switched_in(spec.table.mutant):
        return _check_rows(spec, rows)


def _check_rows(spec: Spec, rows: pd.DataFrame) -> list[Verdict]:
    table = spec.table
    wanted = {check.measure for check in table.acceptance}
    units = {"empirical_se"} if any(check.slack[1] == "empirical_se" for check in table.acceptance) else set()
    rows = as_parts(rows)
    found = measure_parts(rows, level=table.level, reference=table.reference, only=wanted | units)
    parts = [select(spec, check, f"acceptance[{i}]", found) for i, check in enumerate(table.acceptance)]
    alphas = alarm_budget(table.acceptance, [len(part) for part in parts], table.alarm)
    errors = found[found["measure"] == "empirical_se"].set_index(["condition", "method", "parameter"])["value"]
    reference = table.reference or rows.methods[0]
    verdicts: dict[tuple[int, int], Verdict] = {}
    open_: dict[tuple[str, str], list[tuple[tuple[int, int], Rule, dict, tuple]]] = {}
    for i, (check, part, alpha) in enumerate(zip(table.acceptance, parts, alphas, strict=True)):
        rule = Rule(check, table.level, alpha, table.block_size, table.n_max)
        for j, row in enumerate(part.to_dict("records")):
            itself = check.measure in ("relative_precision", "paired_difference") and row["method"] == reference
            if table.rule == "fixed" or plain(check) or itself:
                scale = 1.0
                if check.slack[1] == "empirical_se":
                    scale = float(errors[row["condition"], row["method"], row["parameter"]])
                verdicts[i, j] = judge(i, check, row, table.level, alpha, scale)
                continue
            condition = str(row["condition"])
            key = "verdict", i, alpha, condition, row["method"], row["parameter"], rows.size(condition)
            if key in rows.kept:
                verdicts[i, j] = rows.kept[key]
            else:
                open_.setdefault((condition, str(row["parameter"])), []).append(((i, j), rule, row, key))
    for where, group in iter_groups(rows, open_, table.level):
        for place, rule, row, key in open_[where]:
            verdicts[place] = rows.kept[key] = _settle(place[0], rule, group, row, reference)
    return [verdicts[place] for place in sorted(verdicts)]


def alarm_budget(checks: Sequence[Check], cells: Sequence[int], alarm: float) -> list[float]:
    """α of each comparison of each check: a check's `share` of `alarm`, divided by its comparisons; the rest of it
    divided by the comparisons of all checks without a share."""
    said = sum(check.share or 0.0 for check in checks)
    others = sum(n for check, n in zip(checks, cells, strict=True) if check.share is None)
    return [
        alarm * (1 - said) / max(1, others) if check.share is None else alarm * check.share / max(1, n)
        for check, n in zip(checks, cells, strict=True)
    ]


def select(spec: Spec, about: About, key: str, found: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of measures that a key of the specification speaks of.

    Raises SpecError where there are none.
    """
    part = found[found["measure"] == about.measure]
    for column, names in (("method", about.method), ("parameter", about.parameter)):
        if names is not None:
            part = part[part[column].isin([names] if isinstance(names, str) else names)]
    part = part[part["condition"].isin([c.id for c in spec.conditions if about.speaks_of(c)])]
    if part.empty:
        of = ", ".join(f"{k} {v}" for k, v in (("method", about.method), ("parameter", about.parameter)) if v)
        raise SpecError(
            f"{key} ({about.measure}{f' of {of}' if of else ''}) speaks of nothing in these rows."
            f" They have the parameters {', '.join(sorted(set(found['parameter'])))}."
        )
    return part


def judge(i: int, check: Check, row: dict, level: float, alpha: float, scale: float = 1.0) -> Verdict:
    """The fixed rule's verdict of one row of measures; the tolerance is counted in `scale`."""
    target, tolerance = check.centre(level), check.slack[0] * scale
    value, mcse = float(row["value"]), float(row["mcse"])
    slack = 0.0 if math.isnan(mcse) else NormalDist().inv_cdf(1 - alpha / 2) * mcse
    off = abs(value - target)
    if np.isnan([value, tolerance]).any() or (math.isnan(mcse) and row["reason"].startswith("too few")):
        word = "INCONCLUSIVE"
    elif off > tolerance + slack:
        word = "FAIL"
    else:
        word = "PASS" if off + slack <= tolerance else "INCONCLUSIVE"
    return Verdict(
        word, i, check.measure, str(row["condition"]), str(row["method"]), str(row["parameter"]), value, mcse,
        int(row["n"]), target, tolerance, str(row["reason"]), alpha=alpha,
    )  # fmt: skip


def _settle(i: int, rule: Rule, g: Group, row: dict, reference: str) -> Verdict:
    """The sequential rule's verdict of one row of measures."""
    method = str(row["method"])
    r = g.methods.index(reference) if reference in g.methods else -1
    look = rule.settle(g, g.methods.index(method), r)
    target = rule.check.centre(rule.level)
    return Verdict(
        look.verdict, i, rule.check.measure, str(row["condition"]), method, str(row["parameter"]), look.value,
        look.mcse, look.n, target, look.tolerance, look.reason, look.lower, look.upper, rule.alpha,
    )  # fmt: skip
