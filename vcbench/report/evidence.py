"""What the stored rows say, aggregated once: conditions, methods, parameters, measures, endings, cost.

Every table, picture and sentence of the report is made from an `Evidence`, and an `Evidence` from a run folder alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vcbench.report import families
from vcbench.report.conditions import Condition, name_conditions, show
from vcbench.report.parameters import is_theta, order_parameters
from vcbench.report.stored import Stored, concat, open_rows

__all__ = ["Condition", "Evidence", "arrange", "load", "show"]

GOOD = ("CONVERGED", "AT_BOUNDARY")
KEY = ["condition", "replicate", "method"]
MEASURES = (
    "bias",
    "relative_bias",
    "empirical_se",
    "model_se",
    "model_se_error",
    "coverage",
    "be_coverage",
    "interval_width",
    "interval_width_median",
    "no_interval_rate",
    "rejection",
    "rmse",
    "n_valid",
    "failure_rate",
    "boundary_rate",
)


BIASES = ("bias", "relative_bias", "mse", "rmse", "relative_mse", "relative_rmse")
ERRORS = ("empirical_se", "model_se", "model_se_error", "variance_ratio", "relative_precision")
INTERVALS = ("coverage", "be_coverage", "interval_width", "interval_width_median", "no_interval_rate")
PAIRED = ("paired_difference", "max_abs_difference", "share_equal", "loglik_deficit")
STEPS = ("n_iter", "n_iter_mean", "n_iter_p90", "n_eval", "n_eval_mean", "n_eval_p90")
TIMES = ("seconds", "seconds_mean", "seconds_p90", "cpu_seconds", "cpu_seconds_mean", "cpu_seconds_p90")
PENALISED = ("coverage", "rejection")  # told a second time, with what a method did not give counted against it


@dataclass(frozen=True, slots=True)
class Evidence:
    """The aggregates of one run.

    `measures` is the long frame of `vcbench.measures` over the simulated conditions; `truths` has the first, lowest and
    highest truth of each (condition, parameter). The rows themselves are read a condition at a time (`rows`, `fits`)
    and never written into a page. `asked` says by label what a
    method was asked beside its estimate, as ("interval", {"kind": "profile"}); `only` the measures that the study is
    about, empty where that is all of them.
    """

    run: Mapping[str, Any]
    stem: str
    conditions: tuple[Condition, ...]
    methods: tuple[str, ...]
    named: Mapping[str, str]
    criteria: Mapping[str, str]
    climbs: frozenset[str]
    parameters: tuple[str, ...]
    factors: tuple[str, ...]
    stored: Stored
    truths: pd.DataFrame
    n_fits: int
    measures: pd.DataFrame
    traces: pd.DataFrame
    spec: str
    provenance: tuple[Mapping[str, Any], ...]
    asked: Mapping[str, tuple[str, Mapping[str, Any]]]
    only: frozenset[str]
    level: float

    def about(self, *measures: str) -> bool:
        """True unless the study is about other measures than these."""
        return not self.only or bool(self.only & set(measures))

    def rows(self, condition: str) -> pd.DataFrame:
        """The rows of a condition, sorted by (replicate, method, parameter)."""
        return self.stored.rows(condition)

    def fits(self, condition: str) -> pd.DataFrame:
        """One row a (replicate, method) of a condition."""
        return self.stored.fits(condition)

    @property
    def simulated(self) -> tuple[Condition, ...]:
        return tuple(c for c in self.conditions if not c.real)

    @property
    def real(self) -> tuple[Condition, ...]:
        return tuple(c for c in self.conditions if c.real)

    @property
    def theta(self) -> tuple[str, ...]:
        """Variance parameters, residual last."""
        return tuple(p for p in self.parameters if is_theta(p))

    @property
    def judged(self) -> tuple[str, ...]:
        """Functions of the parameters that the study derives, then variance parameters, with a truth and what the study
        is about (all parameters if there are none)."""
        told = self.measures
        if self.only:
            told = told[told["measure"].isin(self.only) & told["value"].notna()]
        known = set(told["parameter"].unique())
        first = tuple(map(str, self.run.get("derived") or ()))
        return tuple(p for p in (*first, *self.theta) if p in known) or tuple(p for p in self.parameters if p in known)

    def condition(self, key: str) -> Condition:
        return next(c for c in self.conditions if c.id == key)

    def cells(self, *names: str) -> pd.DataFrame:
        """One row a (condition, parameter, method) with columns `<measure>` and `<measure>_mcse`, and `n`."""
        part = self.measures[self.measures["measure"].isin(names)]
        index = ["condition", "parameter", "method"]
        if part.empty:
            return pd.DataFrame(columns=[*index, *names, *(f"{m}_mcse" for m in names), "n", "truth"])
        wide = part.pivot_table(index=index, columns="measure", values=["value", "mcse"], aggfunc="first", dropna=False)
        wide.columns = [m if kind == "value" else f"{m}_mcse" for kind, m in wide.columns]
        wide = wide.dropna(how="all")
        for name in names:
            for column in (name, f"{name}_mcse"):
                if column not in wide:
                    wide[column] = np.nan
        wide["n"] = part.groupby(index)["n"].max()
        wide = wide.reset_index()
        truth = self.truths[["condition", "parameter", "truth"]]
        wide = wide.merge(truth, on=["condition", "parameter"], how="left")
        return arrange(wide, self)


def arrange(frame: pd.DataFrame, evidence: Evidence) -> pd.DataFrame:
    """Rows in the report's order of conditions, parameters and methods."""
    orders = {
        "condition": [c.id for c in evidence.conditions],
        "parameter": evidence.parameters,
        "method": evidence.methods,
    }
    columns = [c for c in orders if c in frame]
    ranks = frame.assign(**{c: frame[c].map({v: i for i, v in enumerate(orders[c])}) for c in columns})
    return frame.loc[ranks.sort_values(columns, kind="stable").index].reset_index(drop=True)


def load(folder: Path | str) -> Evidence:
    """Read a run folder and aggregate it. Raises StoreError where there is nothing to report."""
    from vcbench.study.store import read_provenance, read_run, read_traces

    folder = Path(folder)
    run = read_run(folder)
    stored = open_rows(folder)
    level = float(run.get("level") or 0.95)
    seen = [_see(stored.rows(condition), level) for condition in stored.conditions]
    labels = list(dict.fromkeys(m for one in seen for m in one.criteria))
    criteria = {m: c for one in reversed(seen) for m, c in one.criteria.items() if c}
    named = _named(run, labels)
    methods = tuple(families.in_order([m for m in named if m in set(labels)], named))
    factors, conditions = name_conditions(stored.heads(), [one.real for one in seen], [one.replicates for one in seen])
    present = list(dict.fromkeys(p for one in seen for p in one.truths["parameter"]))
    spec = folder / "spec.toml"
    return Evidence(
        run=run,
        stem=str(run.get("study") or run.get("stem") or folder.name),
        conditions=conditions,
        methods=methods,
        named=named,
        criteria={m: criteria.get(m, "") for m in named},
        climbs=_climbs(run, methods, named),
        parameters=order_parameters(run, present),
        factors=factors,
        stored=stored,
        truths=pd.concat([one.truths for one in seen], ignore_index=True),
        n_fits=sum(one.n_fits for one in seen),
        measures=concat(
            [one.measures for one in seen], ["condition", "parameter", "method", "measure", "value", "mcse", "n"]
        ),
        traces=_traces(read_traces(folder)),
        spec=spec.read_text(encoding="utf-8") if spec.is_file() else "",
        provenance=tuple(read_provenance(folder)),
        asked=_asked(run),
        only=frozenset(map(str, run.get("measures") or ())),
        level=level,
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of one condition's rows: criteria by method, truths, measures, and how many there are."""

    criteria: Mapping[str, str]
    truths: pd.DataFrame
    measures: pd.DataFrame
    real: bool
    replicates: int
    n_fits: int


def _see(rows: pd.DataFrame, level: float) -> Seen:
    from vcbench.study.measures import measures

    real = bool(rows["truth"].isna().all())
    frame = pd.DataFrame()
    if not real:
        again = measures(rows, level, only=PENALISED, failures="penalised")
        again = again.assign(measure=again["measure"] + "_penalised")
        frame = pd.concat([measures(rows, level, only=MEASURES), again], ignore_index=True)
    used = rows[rows["criterion"] != ""].groupby("method")["criterion"].first()
    truths = rows.groupby(["condition", "parameter"], sort=False)["truth"].agg(
        truth="first", low="min", high="max", several="nunique"
    )
    return Seen(
        {str(m): str(used.get(m, "")) for m in rows["method"].unique()},
        truths.reset_index(),
        frame,
        real,
        int(rows["replicate"].nunique()),
        len(rows.drop_duplicates(["replicate", "method"])),
    )


def _named(run: Mapping[str, Any], labels: list[str]) -> dict[str, str]:
    """Label → registered name, in the run's order, then as they come."""
    named: dict[str, str] = {}
    for entry in run.get("methods") or []:
        if isinstance(entry, Mapping):
            name = str(entry.get("name") or entry.get("method") or entry.get("label"))
            named[str(entry.get("label") or name)] = name
        else:
            named[str(entry)] = families.base_name(str(entry))
    for label in labels:
        named.setdefault(label, families.base_name(label))
    return named


def _climbs(run: Mapping[str, Any], methods: tuple[str, ...], named: Mapping[str, str]) -> frozenset[str]:
    """The methods that maximise a likelihood: of kind solver where the run says so, else by their names."""
    kinds = {str(e.get("label")): str(e.get("kind")) for e in run.get("methods") or [] if isinstance(e, Mapping)}
    kinds = {label: kind for label, kind in kinds.items() if kind != "None"}
    return frozenset(m for m in methods if (kinds[m] == "solver" if m in kinds else families.maximises(m, named)))


def _asked(run: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Label → what a method was asked: its test, else its interval."""
    entries = [e for e in run.get("methods") or [] if isinstance(e, Mapping)]
    return {
        str(entry.get("label")): (what, entry[what])
        for entry in entries
        for what in ("interval", "test")
        if isinstance(entry.get(what), Mapping)
    }


def _traces(traces: pd.DataFrame | None) -> pd.DataFrame:
    columns = ["condition", "replicate", "method", "iteration", "loglik", "seconds"]
    if traces is None or len(traces) == 0:
        return pd.DataFrame(columns=columns)
    traces = traces.copy()
    for name in ("condition", "method"):
        traces[name] = traces[name].astype(str)
    return traces[[c for c in columns if c in traces]]
