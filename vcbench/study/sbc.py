"""Simulation-based calibration: is a posterior, or an estimate with its standard error, what it claims to be?

    θ, β ~ prior,   y ~ N(Xβ, V(θ)),   PIT = the place of the truth in what the method says given y

PITs are uniform for a method that is right (Talts, Betancourt, Simpson, Vehtari & Gelman 2018; Modrák et al. 2023 on
what to rank). Two tests look at each quantity's: the exact simultaneous band of the empirical distribution function
(`sbc_bands`), for a number of replicates fixed in advance; and an e-process (`sbc_evidence`), which may stop at any
time. A run's chance of a false FAIL is at most `alarm`, shared by its quantities and both tests.
"""

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vcbench.errors import MethodError
from vcbench.model.model import Model
from vcbench.study.sbc_bands import enough, uniformity
from vcbench.study.sbc_evidence import first_alarm, log_evidence, normal_scores
from vcbench.study.sbc_plan import SCALES, Plan, build_judged, build_plan
from vcbench.study.sbc_quantities import LOGLIK
from vcbench.study.sbc_run import read_method, run_plan
from vcbench.study.store import read_run

ALARM = 1e-3
POWER, SHIFT = 0.8, 0.2  # of a PASS: a shift of SHIFT posterior SDs would have been found with probability POWER
MOST_LOST = 0.05  # of the replicates: if more are gated, what is left is a selection


@dataclass(frozen=True, eq=False)
class Sbc:
    """A calibration: `rows` has one row a (replicate, quantity); `table()` the tests; `verdict` the worst of them.

    kind: "sampled", "exact" or "normal", what the method gives. name: of the model.
    """

    name: str
    method: str
    kind: str
    rows: pd.DataFrame = field(repr=False)
    alarm: float = ALARM

    @property
    def n(self) -> int:
        """Replicates."""
        return int(self.rows["replicate"].nunique())

    @property
    def quantities(self) -> list[str]:
        """Names, in their order."""
        return list(dict.fromkeys(self.rows["parameter"]))

    @property
    def alarm_each(self) -> float:
        """The share of `alarm` of one test of one quantity."""
        return self.alarm / (2 * max(1, len(self.quantities)))

    def pit(self, quantity: str) -> np.ndarray:
        """PITs of the replicates that passed their gates, in the order of replicates."""
        part = self.rows[self.rows["parameter"] == quantity]
        if part.empty:
            raise MethodError(f"`{quantity}` is none of the quantities: {', '.join(self.quantities)}.")
        usable = part["status"].isin(["CONVERGED", "AT_BOUNDARY"]) & part["pit"].notna()
        return part.loc[usable, "pit"].to_numpy(float)

    @cached_property
    def gated(self) -> pd.Series:
        """Replicates that ended otherwise than well, by message."""
        fits = self.rows.drop_duplicates("replicate")
        bad = fits[~fits["status"].isin(["CONVERGED", "AT_BOUNDARY"])]
        return bad["message"].where(bad["message"] != "", bad["status"]).value_counts()

    def table(self) -> pd.DataFrame:
        """One row a quantity: n used and gated, the p-value of the band, the largest e-value and when it first reached
        1/alarm, mean and SD of z = Φ⁻¹(PIT) (0 and 1 if calibrated), the verdict, and what it means in words."""
        return self._table.copy()

    @cached_property
    def _table(self) -> pd.DataFrame:
        return pd.DataFrame([self._judge(name) for name in self.quantities]).set_index("quantity")

    @property
    def verdict(self) -> str:
        """FAIL if any quantity fails, else INCONCLUSIVE if any is, else PASS."""
        words = set(self._table["verdict"])
        return next(word for word in ("FAIL", "INCONCLUSIVE", "PASS") if word in words)

    def _judge(self, name: str) -> dict[str, Any]:
        u = self.pit(name)
        n, lost = len(u), self.n - len(u)
        row = {"quantity": name, "n": n, "gated": lost, "p": math.nan, "e": math.nan, "alarm_at": None,
               "mean_z": math.nan, "sd_z": math.nan}  # fmt: skip
        if n < 2:
            return row | {"verdict": "INCONCLUSIVE", "words": "no replicates to judge by"}
        z, log_e = normal_scores(u), log_evidence(u)
        p, _ = uniformity(u)
        at = first_alarm(log_e, self.alarm_each)
        row |= {"p": p, "e": math.exp(min(700.0, float(log_e.max()))), "alarm_at": at}
        row |= {"mean_z": float(z.mean()), "sd_z": float(z.std(ddof=1))}
        wanted = enough(2 * self.alarm_each, POWER, SHIFT)
        if p < self.alarm_each or at is not None:
            return row | {"verdict": "FAIL", "words": _words(name, row)}
        if lost > MOST_LOST * self.n:
            why = "have no SE" if self.kind == "normal" else "missed their gates"
            return row | {"verdict": "INCONCLUSIVE", "words": f"{lost} of {self.n} {why}: the rest is a selection"}
        if n < wanted:
            return row | {
                "verdict": "INCONCLUSIVE",
                "words": f"nothing found, with {n} of the {wanted} replicates needed",
            }
        return row | {"verdict": "PASS", "words": "calibrated"}

    def plot(self, kind: str = "ecdf", level: float = 0.95) -> Any:
        """An Altair chart: "ecdf" (difference from uniform, with the simultaneous band) or "rank" (histograms)."""
        from vcbench.report.sbc_plots import sbc_chart

        return sbc_chart(self, kind, level)

    def __repr__(self) -> str:
        from vcbench.study.sbc_words import lines_of

        return "\n".join(lines_of(self))


def _words(name: str, row: dict[str, Any]) -> str:
    """What a failure means, in posterior SDs."""
    n, mean, sd = row["n"], row["mean_z"], row["sd_z"]
    said = []
    if abs(mean) * math.sqrt(n) > 3 * max(sd, 0.5):
        if name == LOGLIK:
            said.append(
                "the draws fit the data worse than the truth" if mean > 0 else "the draws fit better than the truth"
            )
        else:
            said.append(f"too {'low' if mean > 0 else 'high'} by {abs(mean):.2g} of its SDs")
    if abs(sd - 1) * math.sqrt(2 * n) > 3:
        said.append(f"too {'narrow' if sd > 1 else 'wide'}: its SDs are {1 / sd:.2g} of what they should be")
    return "; ".join(said) or "of another shape than it should be"


def sbc(
    model: Model,
    method: str = "nuts",
    n: int = 500,
    priors: Any = None,
    seed: int = 0,
    quantities: Sequence[Any] | str = (),
    out: str | Path | None = None,
    executor: Executor | None = None,
    *,
    workers: int = 1,
    criterion: str | None = None,
    scales: Sequence[str] | str = SCALES,
    alarm: float = ALARM,
    stop: bool = False,
    mutant: str = "",
    name: str = "",
    progress: bool = False,
    **options: Any,
) -> Sbc:
    """Calibrate a method on `model`'s design: n replicates of (θ, β, y) from the prior and the model.

    method: one that samples a posterior (nuts, pathfinder, laplace, advi), an exact one (quadrature), or any estimate
    with a covariance matrix (ai, em, …): its normal approximation is judged on each of `scales` ("var" natural; "sd";
    "log", with Fisher's z for correlations), and where an estimate has no SE, on the boundary, it is counted and left
    out. `options` are the method's own. priors: as `vc.bayes.twin` takes them, scales fixed by the model's own y; they
    must be proper for θ; β is flat (see `sbc_plan` for why that is no hindrance) or normal.

    quantities: expressions of parameters ("cv = sqrt(residual) / `(Intercept)`") or functions of a mapping of names to
    values, beside the parameters, correlations, total variance, shares of it (ICC, h²) and ℓ(β, θ; y), which are
    always ranked. out: a folder, in which a stopped run continues and to which more replicates and other methods may
    be added; None keeps the rows in memory. executor, workers: where it runs; the rows are the same to the last bit.
    alarm: the chance of a false FAIL. stop: end at the first alarm of the e-process. mutant: a planted bug
    (`sbc_mutants`), which should be found.

    Raises ModelError for improper priors, MethodError for methods that give neither and wrong options, StoreError for
    a folder of another calibration.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise MethodError(f"`n` is {n!r}; it must be a whole number of replicates, 1 or more.")
    if not 0 < alarm < 1:
        raise MethodError(f"`alarm` is {alarm!r}; it must lie between 0 and 1.")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise MethodError(f"`workers` is {workers!r}; it must be a whole number, 1 or more.")
    plan = build_plan(model, priors, seed, quantities, name)  # type: ignore[arg-type]
    judged = build_judged(plan, method, criterion, (scales,) if isinstance(scales, str) else scales, mutant, options)
    _check_answers(plan, judged)

    def alarmed(rows: pd.DataFrame) -> bool:
        found = Sbc(plan.name, judged.label, judged.kind, _unbroken(rows), alarm)
        return found.n > 1 and bool(found.table()["alarm_at"].notna().any())

    folder = None if out is None else Path(out)
    rows = run_plan(plan, judged, n, folder, executor, workers, progress, alarmed if stop else None)
    return Sbc(plan.name, judged.label, judged.kind, rows, alarm)


def read_sbc(folder: Path | str, alarm: float = ALARM) -> list[Sbc]:
    """The calibrations of a run folder, one a method. Raises StoreError where it is none."""
    run = read_run(folder)
    found = [
        Sbc(run["name"], label, entry["kind"], read_method(folder, label), alarm)
        for label, entry in run.get("methods", {}).items()
    ]
    return [one for one in found if len(one.rows)]


def _check_answers(plan: Plan, judged: Any) -> None:
    """Wrong quantities, models and twins are said before any work."""
    from vcbench.study.sbc_quantities import ranked

    ranked(plan)
    if judged.kind == "exact":
        from vcbench.bayes.quadrature import check_model

        check_model(plan.model, plan.priors, judged.criterion)


def _unbroken(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of replicates 0, 1, … up to the first that is missing: what an e-process may look at."""
    have = set(rows["replicate"])
    end = next(r for r in range(len(have) + 1) if r not in have)
    return rows[rows["replicate"] < end]
