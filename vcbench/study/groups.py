"""The rows of one condition and parameter, as matrices with one row a method and one column a replicate."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from vcbench.errors import DataError
from vcbench.study.estimators import Array

COSTS = ("n_iter", "n_eval", "seconds", "cpu_seconds")
NUMBERS = ("estimate", "truth", "se", "lower", "upper", "level", "p_value", "loglik", *COSTS)
Mask = np.ndarray


@dataclass(frozen=True, slots=True)
class Group:
    """Matrices (M, R), NaN where there is nothing, after `failures` has been applied.

    `present`: the method was run on that replicate. `observed`: it gave an estimate there. `known`: the truth, 0 where
    unknown. `paired`: columns are the same data set for all methods. Limits may be infinite. A `None` column is absent
    from the rows.
    """

    methods: tuple[str, ...]
    present: Mask
    observed: Mask
    paired: bool
    estimate: Array
    truth: Array
    known: Array
    se: Array
    lower: Array
    upper: Array
    p_value: Array
    loglik: Array
    costs: dict[str, Array]
    status: np.ndarray | None
    criterion: tuple[str, ...]
    penalised: bool

    def indicator(self, hit: Mask, of: Array | None = None) -> Array:
        """`hit` as 0/1 where there is an interval (or a value in `of`); elsewhere null, or 0 for a fit that gave none
        if penalised."""
        has = ~np.isnan(self.lower if of is None else of)
        counted = self.present & has.any(axis=1, keepdims=True) if self.penalised else has
        return np.where(counted, (hit & has).astype(float), np.nan)

    def where_present(self, x: np.ndarray) -> Array:
        """x as floats where the method was run, null elsewhere."""
        return np.where(self.present, x.astype(float), np.nan)


def build_group(rows: pd.DataFrame, order: list[str], level: float, failures: str) -> Group:
    """The Group of `rows`, methods in `order`. Raises DataError if a method has a replicate twice."""
    here = set(rows["method"])
    methods = tuple(m for m in order if m in here)
    at = pd.Categorical(rows["method"], categories=methods).codes.astype(np.int64)
    unit, n_units, paired = _units(rows, at)
    shape = (len(methods), n_units)
    flat = at * n_units + unit
    twice = np.bincount(flat) > 1
    if twice.any():
        row = rows.iloc[int(np.flatnonzero(twice[flat])[0])]
        raise DataError(
            f"method `{row['method']}` has replicate {row['replicate']} more than once in one group. Rows are one per"
            " condition, replicate, method and parameter: name the missing grouping column in `by`."
        )

    def spread(name: str, infinite: bool = False) -> Array:
        matrix = np.full(shape, np.nan)
        if name in rows:
            matrix.flat[flat] = rows[name].to_numpy(np.float64)
        return matrix if infinite else np.where(np.isfinite(matrix), matrix, np.nan)

    present = np.zeros(shape, dtype=bool)
    present.flat[flat] = True
    estimate, truth = spread("estimate"), spread("truth")
    observed = ~np.isnan(estimate)
    se = np.where(observed, spread("se"), np.nan)
    p_value = spread("p_value")
    stored = Stored(spread("lower", True), spread("upper", True), spread("level"), _text(rows, "interval", flat, shape))
    lower, upper = stored.limits(estimate, se, level)
    known = np.where(np.isnan(truth), 0.0, truth)
    if failures == "complete":
        estimate = _complete(estimate, present)
        se, lower, upper, p_value = (
            _complete(np.where(np.isnan(estimate), np.nan, x), present) for x in (se, lower, upper, p_value)
        )
    elif failures == "penalised" and observed.any():
        worst = int(np.nanargmax(np.abs(estimate - known)))
        estimate = np.where(present & ~observed, estimate.flat[worst], estimate)
    return Group(
        methods, present, observed, paired, estimate, truth, known, se, lower, upper, p_value, spread("loglik"),
        {name: spread(name) for name in COSTS if name in rows}, _text(rows, "status", flat, shape),
        _criteria(rows, at, methods), failures == "penalised",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stored:
    """Limits as the rows hold them, the level they are at, and their kinds; `kind` None where the rows do not say."""

    lower: Array
    upper: Array
    level: Array
    kind: np.ndarray | None

    def limits(self, estimate: Array, se: Array, level: float) -> tuple[Array, Array]:
        """Limits at `level`: as stored, or θ̂ ± z·SE where they are absent or are such limits at another level.

        Rows with an `interval` say whether they have one: a null there is none, and what is no "wald" cannot be moved
        to another level.
        """
        z = NormalDist().inv_cdf((1 + level) / 2)
        absent = np.isnan(self.lower) | np.isnan(self.upper)
        elsewhere = np.abs(self.level - level) > 1e-12
        if self.kind is None:
            made, gone = absent | elsewhere, np.zeros_like(absent)
        else:
            wald = self.kind == "wald"
            made, gone = elsewhere & wald, absent | (elsewhere & ~wald)
        lower, upper = np.where(made, estimate - z * se, self.lower), np.where(made, estimate + z * se, self.upper)
        return np.where(gone, np.nan, lower), np.where(gone, np.nan, upper)


def _complete(x: Array, present: Mask) -> Array:
    """x on the replicates where every method that was run, and ever has an x, has one."""
    has = ~np.isnan(x)
    keep = np.all(has | ~present | ~has.any(axis=1, keepdims=True), axis=0)
    return np.where(keep[None, :], x, np.nan)


def _units(rows: pd.DataFrame, at: np.ndarray) -> tuple[np.ndarray, int, bool]:
    """The data set each row belongs to, as codes; how many there are; whether methods may be paired on them."""
    if "replicate" in rows:
        if "condition" not in rows or rows["condition"].nunique(dropna=False) == 1:
            codes, found = pd.factorize(rows["replicate"])
        else:
            codes, found = pd.factorize(pd.MultiIndex.from_frame(rows[["condition", "replicate"]]))
        return codes.astype(np.int64), len(found), True
    codes = rows.groupby(at).cumcount().to_numpy(np.int64)
    counts = np.bincount(at)
    return codes, int(counts.max()), bool(np.all(counts == counts[0]))


def _text(rows: pd.DataFrame, name: str, flat: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    """A column of words as a matrix, "" where there is none."""
    if name not in rows:
        return None
    words = np.full(shape, "", dtype=object)
    words.flat[flat] = rows[name].fillna("").astype(str).to_numpy()
    return words


def _criteria(rows: pd.DataFrame, at: np.ndarray, methods: tuple[str, ...]) -> tuple[str, ...]:
    """Each method's criterion, that of its first row."""
    if "criterion" not in rows:
        return ("",) * len(methods)
    first = [int(np.argmax(at == m)) for m in range(len(methods))]
    return tuple(str(rows["criterion"].iloc[i]) for i in first)
