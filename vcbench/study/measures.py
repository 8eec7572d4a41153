"""`vc.measures`: what a study's rows say of each method, every number with its Monte Carlo standard error."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from vcbench.errors import DataError, did_you_mean
from vcbench.study import estimators as est
from vcbench.study.estimators import Array, Estimated
from vcbench.study.frames import read_frame
from vcbench.study.groups import COSTS, Group, build_group

MEASURES = (
    "bias", "relative_bias", "empirical_se", "mse", "rmse", "relative_mse", "relative_rmse", "model_se",
    "model_se_error", "coverage", "be_coverage", "rejection", "relative_precision", "interval_width",
    "interval_width_median", "no_interval_rate", "variance_ratio", "variance_relative_mse", "variance_relative_rmse",
    "paired_difference", "max_abs_difference",
    "share_equal", "loglik_deficit", "convergence_rate", "boundary_rate", "nonpositive_rate", "failure_rate", "n_iter",
    "n_iter_mean", "n_iter_p90", "n_eval", "n_eval_mean", "n_eval_p90", "seconds", "seconds_mean", "seconds_p90",
    "cpu_seconds", "cpu_seconds_mean", "cpu_seconds_p90", "n_valid",
)  # fmt: skip
ONLY_WINSORISED = "winsorised_share"
OUTPUT = ("method", "measure", "value", "mcse", "n", "lower", "upper", "reason")
EQUAL = 1e-6
NO_LIMITS = "no standard errors or interval limits"
NO_PAIR = "no replicate shared with the reference"
UNPAIRED = "rows have no `replicate` and the methods differ in number, so they cannot be paired"
REML_LIKE = {"none", "nan", "None", "<NA>"}  # methods without a criterion report ℓ_REML at their estimate


def measures(
    rows: Any,
    level: float = 0.95,
    null: float | Mapping[str, float] = 0,
    reference: str | None = None,
    mcse: Literal["jackknife", "normal"] = "jackknife",
    failures: Literal["available", "complete", "penalised"] = "available",
    by: Sequence[str] | None = None,
    only: Iterable[str] | None = None,
    winsorise: float | None = None,
) -> pd.DataFrame:
    """Performance measures of each method with their Monte Carlo standard errors.

    `rows` is a study's rows or any frame (pandas, polars, pyarrow, a mapping of columns) with `method`, `estimate`
    and `truth` (null where unknown), and, where known, `se`, `lower`, `upper`, `interval`, `p_value`, `condition`,
    `parameter`, `replicate`, `status`, `criterion`, `loglik`, `n_iter`, `n_eval`, `seconds`, `cpu_seconds`. Limits that
    are absent are θ̂ ± z·SE at `level`, unless rows have an `interval`, which is null where there is none; those of
    another kind than "wald" are used at the level they are stored at only. Limits may be infinite. Without
    `replicate`, methods with equally many rows are paired in the order they stand in.

    With n replicates, errors d_i = θ̂_i − θ, squared SEs s_i², e² = Σ(d_i − d̄)²/(n−1) and s̄² = mean(s_i²):

        bias d̄ · relative_bias mean(d_i/θ) · empirical_se e · mse mean(d²) · rmse √mse
        relative_mse mean((d/θ)²) · relative_rmse its root · model_se s̄ · model_se_error 100(s̄/e − 1) %
        variance_ratio s̄²/e² · variance_relative_mse ((s̄² − e²)² + Var(s²))/e⁴ · variance_relative_rmse its root
        coverage of θ · be_coverage of θ + d̄
        rejection: p-value ≤ 1 − level where the method has one, else `null` outside the limits
        interval_width: mean, and its median · no_interval_rate: fits without limits, of a method that has some
        relative_precision 100(e_ref²/e² − 1) % · paired_difference mean(θ̂ − θ̂_ref) · max_abs_difference
        share_equal |θ̂ − θ̂_ref| ≤ 1e-6 (|θ̂| + s + |θ̂_ref| + s_ref)

        loglik_deficit mean(max over methods of the same criterion of ℓ, less ℓ)
        convergence_rate (CONVERGED or AT_BOUNDARY) · boundary_rate · nonpositive_rate: estimates of 0 or less, raw ones
        among them · failure_rate (no estimate)
        n_iter, n_eval, seconds, cpu_seconds: median; `_mean` and `_p90` beside it · n_valid: fits with an estimate

    The four before the gap are paired with `reference` (default: the first method). Two estimates that are each within
    1e-6 standard errors of the same maximum are equal.

    A truth that varies between replicates is allowed: spread is that of d. `mcse="jackknife"` takes leave-one-out
    errors where closed forms assume normality (empirical_se, model_se_error, relative_precision); "normal" prints the
    closed forms and a proportion's Wald error, as simsum and rsimsum do. With the jackknife, a proportion of 0 or 1
    has the MCSE of its Wilson interval (`estimators.proportion`).

    `failures="available"`: each method on what it has. "complete": on the replicates where every method that was run
    has what the measure needs. "penalised": a fit without an estimate counts as the estimate farthest from the truth
    that any method gave for that condition and parameter, and a fit without an interval as one that neither covers
    nor rejects.

    `winsorise=c` clips, method by method, the errors d, the squared SEs and the widths at their quartiles ∓ c times
    the distance between the quartiles (linear interpolation), once `failures` has been applied: one wild fit then
    weighs as much as one at the fence. It changes the measures made of them, not coverage, rejection, paired
    differences, endings or costs, and adds `winsorised_share`, the share of estimates clipped.

    `by` replaces the grouping columns (default `condition`, `parameter`); parameters are always kept apart. `only`
    names the measures to compute.

    Returns a long frame: the grouping columns, method, measure, value, mcse, n, lower, upper (95 % Monte Carlo
    interval, Wilson's for a proportion) and reason, which is "" unless the value or its MCSE is null.

    Raises DataError for missing columns, unknown options, and rows that hold a replicate of a method twice.
    """
    frame = read_frame(rows)
    wanted = _check_options(level, mcse, failures, only, winsorise)
    keys = _group_keys(frame, by)
    methods = list(frame["method"].unique())
    if not len(frame):
        raise DataError("the rows are empty: there is nothing to measure.")
    return measure_pieces([frame], methods, keys, level, null, reference, mcse, failures, wanted, winsorise)


def measure_pieces(
    frames: Iterable[pd.DataFrame],
    methods: Sequence[str],
    keys: Sequence[str],
    level: float = 0.95,
    null: float | Mapping[str, float] = 0,
    reference: str | None = None,
    mcse: Literal["jackknife", "normal"] = "jackknife",
    failures: Literal["available", "complete", "penalised"] = "available",
    only: Iterable[str] | None = None,
    winsorise: float | None = None,
) -> pd.DataFrame:
    """`measures` of rows that come in pieces, each with whole groups of `keys`; `methods` are those of all pieces."""
    wanted = _check_options(level, mcse, failures, only, winsorise)
    if reference is not None and reference not in methods:
        raise DataError(
            f"reference `{reference}` is no method of these rows. Choose from {', '.join(methods)}."
            f"{did_you_mean(reference, methods)}"
        )
    pieces = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for frame in frames:
            for key, part in frame.groupby(list(keys), sort=True, dropna=False) if keys else [((), frame)]:
                here = dict(zip(keys, key, strict=True))
                group = build_group(part, list(methods), level, failures)
                at = float(null.get(str(here.get("parameter")), 0.0)) if isinstance(null, Mapping) else float(null)
                table = _measure_table(group, level, at, reference or methods[0], mcse == "normal", winsorise)
                pieces.append(_long(here, group.methods, {name: table[name]() for name in wanted}))
    return pd.concat(pieces, ignore_index=True)


def _measure_table(
    g: Group, level: float, null: float, reference: str, normal: bool, winsorise: float | None
) -> dict[str, Callable[[], Estimated]]:
    """Every measure by name, each for all methods of the group at once."""
    M = len(g.methods)
    errors = g.estimate - g.known
    d, se = est.winsorised(errors, winsorise), np.sqrt(est.winsorised(g.se**2, winsorise))
    width = est.winsorised(g.upper - g.lower, winsorise)
    r = g.methods.index(reference) if reference in g.methods else -1
    difference = g.estimate - g.estimate[r]
    unknown, zero = bool(np.isnan(g.truth[g.present]).any()), bool(np.any(g.truth[g.present] == 0))

    def against_truth(make: Callable[[], Estimated]) -> Estimated:
        return est.undefined(M, "the truth is not known") if unknown else make()

    def relative(make: Callable[[Array], Estimated]) -> Estimated:
        return against_truth(lambda: est.undefined(M, "the truth is 0") if zero else make(d / g.truth))

    def paired(make: Callable[[], Estimated]) -> Estimated:
        if not g.paired:
            return est.undefined(M, UNPAIRED)
        return make() if r >= 0 else est.undefined(M, f"the reference `{reference}` was not run here")

    def share(hit: np.ndarray, missing: str = "no rows") -> Estimated:
        return est.proportion(hit, missing, normal)

    def covered(value: Array) -> Estimated:
        return share(g.indicator((g.lower <= value) & (value <= g.upper)), NO_LIMITS)

    def ended(*names: str) -> Estimated:
        if g.status is None:
            return est.undefined(M, "rows have no `status`")
        return share(g.where_present(np.isin(g.status, names)))

    def equal() -> Estimated:
        size = np.abs(g.estimate) + np.nan_to_num(g.se)
        same = np.abs(difference) <= EQUAL * (size + size[r])
        return share(np.where(np.isnan(difference), np.nan, same), NO_PAIR)

    table: dict[str, Callable[[], Estimated]] = {
        "bias": lambda: against_truth(lambda: est.mean(d)),
        "relative_bias": lambda: relative(est.mean),
        "empirical_se": lambda: est.empirical_se(d, normal),
        "mse": lambda: against_truth(lambda: est.mean(d**2)),
        "rmse": lambda: against_truth(lambda: est.root_mean_square(d)),
        "relative_mse": lambda: relative(lambda x: est.mean(x**2)),
        "relative_rmse": lambda: relative(est.root_mean_square),
        "model_se": lambda: est.model_se(se),
        "model_se_error": lambda: est.model_se_error(d, se, normal),
        "coverage": lambda: against_truth(lambda: covered(g.truth)),
        "be_coverage": lambda: covered(g.known + est.mean(errors).value[:, None]),
        "rejection": lambda: share(_rejected(g, null, 1 - level), NO_LIMITS),
        "relative_precision": lambda: paired(lambda: est.relative_precision(d, r, normal)),
        "interval_width": lambda: est.mean_width(width, NO_LIMITS),
        "interval_width_median": lambda: est.quantile(width, 0.5, NO_LIMITS),
        "no_interval_rate": lambda: share(_without(g), NO_LIMITS),
        "variance_ratio": lambda: est.variance_ratio(d, se),
        "variance_relative_mse": lambda: est.variance_relative_mse(d, se),
        "variance_relative_rmse": lambda: est.variance_relative_mse(d, se, root=True),
        "paired_difference": lambda: paired(lambda: est.mean(difference, NO_PAIR)),
        "max_abs_difference": lambda: paired(lambda: est.largest(difference, NO_PAIR)),
        "share_equal": lambda: paired(equal),
        "loglik_deficit": lambda: (
            est.mean(_deficit(g), "no log-likelihood") if g.paired else est.undefined(M, UNPAIRED)
        ),
        "convergence_rate": lambda: ended("CONVERGED", "AT_BOUNDARY"),
        "boundary_rate": lambda: ended("AT_BOUNDARY"),
        "nonpositive_rate": lambda: share(np.where(g.observed, g.estimate <= 0, np.nan), "no estimate"),
        "failure_rate": lambda: share(g.where_present(~g.observed)),
        "n_valid": lambda: est.count(g.observed, g.present),
        ONLY_WINSORISED: lambda: share(np.where(np.isnan(errors), np.nan, d != errors), "no estimate"),
    }
    for name in COSTS:
        table |= _cost_table(name, g.costs.get(name), M)
    return table


def _cost_table(name: str, x: Array | None, M: int) -> dict[str, Callable[[], Estimated]]:
    """Median, mean and 90th percentile of a cost."""
    if x is None:
        absent = partial(est.undefined, M, f"rows have no `{name}`")
        return {name: absent, f"{name}_mean": absent, f"{name}_p90": absent}
    return {
        name: lambda: est.quantile(x, 0.5, f"no `{name}`"),
        f"{name}_mean": lambda: est.mean(x, f"no `{name}`"),
        f"{name}_p90": lambda: est.quantile(x, 0.9, f"no `{name}`"),
    }


def _rejected(g: Group, null: float, alpha: float) -> Array:
    """0/1 by the p-value of a method that has one, else by its limits."""
    by_limits = g.indicator((null < g.lower) | (null > g.upper))
    by_test = g.indicator(g.p_value <= alpha * (1 + 1e-9), g.p_value)
    return np.where(np.isnan(by_test).all(axis=1, keepdims=True), by_limits, by_test)


def _without(g: Group) -> Array:
    """0/1: no limits, of the methods that ever have some."""
    has = ~np.isnan(g.lower)
    return np.where(g.present & has.any(axis=1, keepdims=True), (~has).astype(float), np.nan)


def _deficit(g: Group) -> Array:
    """max over the methods of the same criterion of ℓ, less ℓ, per replicate."""
    kinds = np.array(["reml" if c in REML_LIKE else c for c in g.criterion])
    best = np.empty_like(g.loglik)
    for kind in np.unique(kinds):
        best[kinds == kind] = np.max(np.where(np.isnan(g.loglik), -np.inf, g.loglik)[kinds == kind], axis=0)
    return best - g.loglik


def _long(here: Mapping[str, Any], methods: Sequence[str], table: Mapping[str, Estimated]) -> pd.DataFrame:
    """One row a method and measure."""
    half = {name: est.Z95 * e.mcse for name, e in table.items()}
    lower = {name: e.value - half[name] for name, e in table.items()}
    upper = {name: e.value + half[name] for name, e in table.items()}
    for name, e in table.items():
        if e.proportion:
            lower[name], upper[name] = est.wilson(e.value, e.n)
    columns: dict[str, Any] = {key: [value] * (len(methods) * len(table)) for key, value in here.items()}
    columns["method"] = [method for method in methods for _ in table]
    columns["measure"] = list(table) * len(methods)
    for column, parts in (
        ("value", {name: e.value for name, e in table.items()}),
        ("mcse", {name: e.mcse for name, e in table.items()}),
        ("n", {name: e.n for name, e in table.items()}),
        ("lower", lower),
        ("upper", upper),
    ):
        columns[column] = np.column_stack(list(parts.values())).ravel()
    columns["n"] = columns["n"].astype(np.int64)
    columns["reason"] = [table[name].reason[m] for m in range(len(methods)) for name in table]
    return pd.DataFrame(columns)


def _check_options(
    level: float, mcse: str, failures: str, only: Iterable[str] | None, winsorise: float | None
) -> tuple[str, ...]:
    """The measures wanted, in MEASURES' order."""
    if winsorise is not None and not winsorise >= 0:
        raise DataError(
            f"winsorise is {winsorise}; it must be a number of interquartile ranges, 0 or more. 2 is usual."
        )
    if not 0 < level < 1:
        raise DataError(f"level must lie between 0 and 1, not {level}. A 95 % interval is level=0.95.")
    for name, value, choices in (
        ("mcse", mcse, ("jackknife", "normal")),
        ("failures", failures, ("available", "complete", "penalised")),
    ):
        if value not in choices:
            raise DataError(f"{name} must be one of {', '.join(choices)}, not `{value}`.{did_you_mean(value, choices)}")
    known = MEASURES if winsorise is None else (*MEASURES, ONLY_WINSORISED)
    asked = set(known if only is None else only)
    for name in sorted(asked - set(known)):
        raise DataError(f"unknown measure `{name}`. Choose from {', '.join(known)}.{did_you_mean(name, known)}")
    return tuple(name for name in known if name in asked)


def _group_keys(frame: pd.DataFrame, by: Sequence[str] | None) -> list[str]:
    if by is None:
        return [name for name in ("condition", "parameter") if name in frame]
    keys = [by] if isinstance(by, str) else list(by)
    for name in keys:
        if name not in frame:
            columns = [str(c) for c in frame.columns]
            raise DataError(f"`by` names `{name}`, which is no column. Rows have {', '.join(columns)}."
                            f"{did_you_mean(name, columns)}")  # fmt: skip
        if name in OUTPUT:
            raise DataError(
                f"`by` names `{name}`, a column of the answer too. Rename it in the rows, to `{name}_`, say."
            )
    return keys if "parameter" in keys or "parameter" not in frame else [*keys, "parameter"]
