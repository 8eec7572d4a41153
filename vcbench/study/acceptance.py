"""Acceptance checks of a finished run: a measure near its target, or not, or not known yet.

    FAIL          |value − target| > tolerance + z·MCSE
    PASS          |value − target| + z·MCSE ≤ tolerance        (two one-sided tests)
    INCONCLUSIVE  else

z is the normal quantile of `alarm` shared among the checks, so that a study in which all is well raises a false alarm
with at most that probability. A measure without a Monte Carlo error (a maximum, a count) is compared as it is.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import pandas as pd

from vcbench.errors import SpecError
from vcbench.study.measures import measures
from vcbench.study.spec import Check, Spec

TARGETS = {
    "variance_ratio": 1.0,
    "share_equal": 1.0,
    "convergence_rate": 1.0,
}  # a coverage's target is the level, every other's 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison: PASS, FAIL or INCONCLUSIVE, and the numbers behind it."""

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

    @property
    def detail(self) -> str:
        """The comparison in words."""
        if self.reason and math.isnan(self.value):
            return f"{self.measure} is undefined: {self.reason}"
        error = "" if math.isnan(self.mcse) else f" ± {self.mcse:.3g}"
        return f"{self.measure} {self.value:.4g}{error} (n = {self.n}), target {self.target:g} ± {self.tolerance:g}"


def check_rows(spec: Spec, rows: pd.DataFrame) -> list[Verdict]:
    """The verdicts of all `[[acceptance]]` checks, one a condition, method and parameter they speak of.

    A check without `data` speaks of the simulated conditions: real data have one replicate and no truth.

    Raises SpecError for a check that speaks of nothing in the rows.
    """
    checks = spec.table.acceptance
    if not checks:
        return []
    wanted = {check.measure for check in checks}
    found = measures(rows, level=spec.table.level, reference=spec.table.reference, only=wanted)
    parts = [_select(spec, check, i, found) for i, check in enumerate(checks)]
    z = NormalDist().inv_cdf(1 - spec.table.alarm / (2 * max(1, sum(len(part) for part in parts))))
    return [
        judge(i, check, row, spec.table.level, z)
        for i, (check, part) in enumerate(zip(checks, parts, strict=True))
        for row in part.to_dict("records")
    ]


def _select(spec: Spec, check: Check, i: int, found: pd.DataFrame) -> pd.DataFrame:
    part = found[found["measure"] == check.measure]
    for column, names in (("method", check.method), ("parameter", check.parameter)):
        if names is not None:
            part = part[part[column].isin([names] if isinstance(names, str) else names)]
    part = part[part["condition"].isin([c.id for c in spec.conditions if check.speaks_of(c)])]
    if part.empty:
        about = ", ".join(f"{k} {v}" for k, v in (("method", check.method), ("parameter", check.parameter)) if v)
        raise SpecError(
            f"acceptance[{i}] ({check.measure}{f' of {about}' if about else ''}) speaks of nothing in these rows."
            f" They have the parameters {', '.join(sorted(set(found['parameter'])))}."
        )
    return part


def judge(i: int, check: Check, row: dict, level: float, z: float) -> Verdict:
    """The verdict of one row of measures."""
    default = level if check.measure in ("coverage", "be_coverage") else TARGETS.get(check.measure, 0.0)
    target = default if check.target is None else check.target
    value, mcse = float(row["value"]), float(row["mcse"])
    slack = 0.0 if math.isnan(mcse) else z * mcse
    off = abs(value - target)
    if math.isnan(value) or (math.isnan(mcse) and row["reason"].startswith("too few")):
        word = "INCONCLUSIVE"
    elif off > check.tolerance + slack:
        word = "FAIL"
    else:
        word = "PASS" if off + slack <= check.tolerance else "INCONCLUSIVE"
    return Verdict(
        word, i, check.measure, str(row["condition"]), str(row["method"]), str(row["parameter"]), value, mcse,
        int(row["n"]), target, check.tolerance, str(row["reason"]),
    )  # fmt: skip
