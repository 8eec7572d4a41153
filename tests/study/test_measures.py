"""Measures against plain loops, by hand, and on the cases that break other implementations."""

import itertools

import numpy as np
import pandas as pd
import pytest

from vcbench.errors import DataError
from vcbench.study.measures import MEASURES, measures


def _rows(n: int = 30, seed: int = 1) -> pd.DataFrame:
    """Two methods with skewed estimates and SEs proportional to them, as variance components have."""
    rng = np.random.default_rng(seed)
    shared = rng.chisquare(4, n) / 4
    frames = []
    for name, noise in (("a", 0.0), ("b", 0.3)):
        estimate = shared + noise * rng.standard_normal(n)
        columns = {"replicate": np.arange(n), "method": name, "truth": 1.0, "estimate": estimate}
        se = np.abs(estimate) * 0.7 + 0.01
        frames.append(pd.DataFrame({"condition": "000", "parameter": "g:var", **columns, "se": se}))
    return pd.concat(frames, ignore_index=True)


def _value(found: pd.DataFrame, measure: str, method: str, column: str = "value") -> float:
    row = found[(found["measure"] == measure) & (found["method"] == method)]
    assert len(row) == 1
    return row[column].iloc[0]


def _plain_jackknife(statistic, *columns: np.ndarray) -> float:
    n = len(columns[0])
    out = np.array([statistic(*(np.delete(c, i) for c in columns)) for i in range(n)])
    return float(np.sqrt((n - 1) / n * np.sum((out - out.mean()) ** 2)))


@pytest.mark.parametrize(
    ("measure", "statistic"),
    [
        ("empirical_se", lambda a, b, s: np.std(b, ddof=1)),
        ("rmse", lambda a, b, s: np.sqrt(np.mean((b - 1) ** 2))),
        ("relative_rmse", lambda a, b, s: np.sqrt(np.mean((b - 1) ** 2))),
        ("model_se_error", lambda a, b, s: 100 * (np.sqrt(np.mean(s**2)) / np.std(b, ddof=1) - 1)),
        ("variance_ratio", lambda a, b, s: np.mean(s**2) / np.var(b, ddof=1)),
        ("relative_precision", lambda a, b, s: 100 * (np.var(a, ddof=1) / np.var(b, ddof=1) - 1)),
    ],
)
def test_jackknife__equals_leaving_out_one_by_one(measure: str, statistic) -> None:
    rows = _rows()
    a, b, s = (rows[rows["method"] == m][c].to_numpy() for m, c in (("a", "estimate"), ("b", "estimate"), ("b", "se")))
    found = measures(rows, reference="a")
    assert _value(found, measure, "b") == pytest.approx(statistic(a, b, s), rel=1e-12)
    assert _value(found, measure, "b", "mcse") == pytest.approx(_plain_jackknife(statistic, a, b, s), rel=1e-10)


def test_jackknife__closer_to_the_truth_than_the_closed_form_for_skewed_estimates() -> None:
    """χ²₄/4, 400 studies of 100: the spread of the empirical SE against each mean MCSE (HARNESS: .0385/.0250)."""
    rng = np.random.default_rng(3)
    estimate = rng.chisquare(4, (400, 100)) / 4
    rows = pd.DataFrame(
        {"study": np.repeat(np.arange(400), 100), "method": "m", "truth": 1.0, "estimate": estimate.ravel()}
    )
    by = {kind: measures(rows, mcse=kind, by=["study"], only=["empirical_se"]) for kind in ("jackknife", "normal")}
    spread = by["normal"]["value"].std()
    assert by["jackknife"]["mcse"].mean() == pytest.approx(spread, rel=0.12)
    assert by["normal"]["mcse"].mean() < 0.8 * spread


def test_measures__by_hand() -> None:
    """Four replicates whose every measure can be done on paper."""
    rows = pd.DataFrame({"method": "m", "truth": 2.0, "estimate": [1.0, 2.0, 3.0, 6.0], "se": [1.0, 1.0, 1.0, 1.0],
                         "lower": [0.0, 0.0, 1.0, 5.0], "upper": [1.5, 3.0, 4.0, 7.0]})  # fmt: skip
    found = measures(rows).set_index("measure")
    want = {"bias": 1.0, "relative_bias": 0.5, "mse": 4.5, "rmse": 4.5**0.5, "relative_mse": 4.5 / 4, "model_se": 1.0,
            "empirical_se": (14 / 3) ** 0.5, "coverage": 0.5, "be_coverage": 0.5, "rejection": 0.5,
            "interval_width": 2.375, "variance_ratio": 3 / 14, "n_valid": 4, "failure_rate": 0.0}  # fmt: skip
    for name, value in want.items():
        assert found.loc[name, "value"] == pytest.approx(value), name
    assert found.loc["bias", "mcse"] == pytest.approx((14 / 3) ** 0.5 / 2)
    assert found.loc["coverage", "mcse"] == pytest.approx(0.25)
    assert (found["n"] == 4).all() or found[found["n"] != 4]["reason"].str.len().gt(0).all()


def test_measures__foreign_frame_with_three_columns_and_other_frame_types() -> None:
    rows = _rows()[["method", "estimate", "truth"]]
    found = measures(rows)
    assert list(found.columns) == ["method", "measure", "value", "mcse", "n", "lower", "upper", "reason"]
    assert list(found["measure"][: len(MEASURES)]) == list(MEASURES)
    assert _value(found, "coverage", "a", "reason") == "no standard errors or interval limits"
    assert _value(found, "n_iter", "a", "reason") == "rows have no `n_iter`"
    assert np.isfinite(_value(found, "relative_precision", "b"))
    import pyarrow as pa

    pd.testing.assert_frame_equal(found, measures(pa.Table.from_pandas(rows)))
    pd.testing.assert_frame_equal(found, measures({name: list(rows[name]) for name in rows}))


def test_measures__every_null_has_a_reason_and_nothing_else_has() -> None:
    """Also with one replicate, no truth, constant estimates and a method that never answers."""
    rows = pd.concat([
        _rows(1).assign(condition="one"),
        _rows(5).assign(condition="real", truth=np.nan),
        _rows(5).assign(condition="zero", truth=0.0),
        _rows(5).assign(condition="constant", estimate=1.0, se=0.1),
        _rows(5).assign(condition="empty", estimate=np.nan, se=np.nan, status="FAILED"),
    ])  # fmt: skip
    found = measures(rows)
    null = found["value"].isna() | found["mcse"].isna()
    assert (found["reason"] != "")[null].all()
    assert (found["reason"] == "")[~null].all()
    assert not np.isinf(found[["value", "mcse"]].to_numpy()).any()
    at = found.set_index(["condition", "method", "measure"])
    assert at.loc[("zero", "a", "relative_bias"), "reason"] == "the truth is 0"
    assert at.loc[("zero", "a", "bias"), "reason"] == ""
    assert at.loc[("real", "a", "bias"), "reason"] == "the truth is not known"
    assert at.loc[("real", "a", "empirical_se"), "reason"] == ""
    assert at.loc[("constant", "a", "model_se_error"), "reason"] == "the estimates do not vary"
    assert at.loc[("empty", "a", "failure_rate"), "value"] == 1.0
    assert at.loc[("one", "a", "bias"), "reason"] == "too few replicates for an MCSE"


def test_proportion__zero_and_one_are_not_certain() -> None:
    """Wilson at p = 1, n = 100: [n/(n + z²), 1]; the MCSE spans the same width. `normal` prints Wald's 0."""
    rows = pd.DataFrame({"method": "m", "truth": 0.0, "estimate": np.linspace(-1, 1, 100), "lower": -2.0, "upper": 2.0})
    found = measures(rows).set_index("measure").loc["coverage"]
    z = 1.959963984540054
    assert found["value"] == 1.0
    assert (found["lower"], found["upper"]) == pytest.approx((100 / (100 + z**2), 1.0))
    assert 2 * z * found["mcse"] == pytest.approx(found["upper"] - found["lower"])
    assert measures(rows, mcse="normal").set_index("measure").loc["coverage", "mcse"] == 0.0


def test_failures__three_ways() -> None:
    """b fails where a is worst: available flatters b, complete compares like with like, penalised charges b for it."""
    rows = _rows(50)
    a = rows[rows["method"] == "a"].set_index("replicate")["estimate"]
    worst = (a - 1).abs().nlargest(5).index
    failed = (rows["method"] == "b") & rows["replicate"].isin(worst)
    rows.loc[failed, ["estimate", "se"]] = np.nan
    rows["status"] = np.where(failed, "FAILED", "CONVERGED")
    by = {how: measures(rows, failures=how, reference="a") for how in ("available", "complete", "penalised")}
    assert _value(by["available"], "mse", "a", "n") == 50
    assert _value(by["available"], "mse", "b", "n") == 45
    assert _value(by["complete"], "mse", "a") == pytest.approx(((a.drop(worst) - 1) ** 2).mean())
    assert _value(by["complete"], "mse", "a", "n") == 45
    assert _value(by["penalised"], "mse", "b", "n") == 50
    farthest = (rows["estimate"] - 1).abs().max() ** 2
    kept = rows[(rows["method"] == "b") & ~failed]
    assert _value(by["penalised"], "mse", "b") == pytest.approx(
        (((kept["estimate"] - 1) ** 2).sum() + 5 * farthest) / 50
    )
    covered = ((kept["estimate"] - 1).abs() <= 1.959963984540054 * kept["se"]).sum()
    assert _value(by["penalised"], "coverage", "b") == pytest.approx(covered / 50)
    for found in by.values():
        assert _value(found, "failure_rate", "b") == 0.1
        assert _value(found, "convergence_rate", "b") == 0.9
        assert _value(found, "n_valid", "b") == 45


def test_failures__a_method_with_fewer_replicates_does_not_fail_on_the_others() -> None:
    """A cap on the replicates of a slow method is no failure, and leaves the others complete."""
    rows = _rows(40)
    rows = rows[(rows["method"] == "a") | (rows["replicate"] < 10)]
    found = measures(rows, failures="complete", reference="a")
    assert _value(found, "bias", "a", "n") == 40
    assert _value(found, "bias", "b", "n") == 10
    assert _value(found, "failure_rate", "b") == 0.0
    assert _value(found, "relative_precision", "b", "n") == 10


def test_paired__deficit_and_agreement() -> None:
    rows = _rows(20).assign(status="CONVERGED")
    rows["criterion"] = "reml"
    a, b = rows["method"] == "a", rows["method"] == "b"
    rows.loc[a, "loglik"] = -10.0
    rows.loc[b, "loglik"] = -10.0 - np.arange(20) / 10
    rows.loc[b, "estimate"] = rows.loc[a, "estimate"].to_numpy() + np.where(np.arange(20) < 5, 1e-3, 0.0)
    other = rows[a].assign(method="ml", criterion="ml", loglik=5.0)
    found = measures(pd.concat([rows, other]), reference="a")
    assert _value(found, "loglik_deficit", "a") == 0.0
    assert _value(found, "loglik_deficit", "b") == pytest.approx(np.mean(np.arange(20) / 10))
    assert _value(found, "loglik_deficit", "ml") == 0.0
    assert _value(found, "max_abs_difference", "b") == pytest.approx(1e-3)
    assert _value(found, "share_equal", "b") == 0.75
    assert _value(found, "paired_difference", "b") == pytest.approx(2.5e-4)


def test_cost__median_error_is_the_bootstrap() -> None:
    """Maritz–Jarrett against 20,000 resamples of the median of 31 skewed times, within 3 %."""
    rng = np.random.default_rng(7)
    seconds = rng.lognormal(size=31)
    rows = pd.DataFrame({"method": "m", "truth": 0.0, "estimate": 1.0, "seconds": seconds})
    found = measures(rows).set_index("measure")
    resampled = np.median(seconds[rng.integers(0, 31, (20_000, 31))], axis=1)
    assert found.loc["seconds", "value"] == np.median(seconds)
    assert found.loc["seconds", "mcse"] == pytest.approx(resampled.std(), rel=0.03)
    assert found.loc["seconds_p90", "value"] == pytest.approx(np.quantile(seconds, 0.9))


def test_measures__row_order_does_not_matter() -> None:
    rows = _rows(20)
    shuffled = rows.sample(frac=1, random_state=5)
    one, two = (
        measures(r, reference="a").sort_values(["method", "measure"], ignore_index=True) for r in (rows, shuffled)
    )
    pd.testing.assert_frame_equal(one, two, rtol=1e-12)


def test_measures__a_stored_level_is_respected() -> None:
    """Limits stored at 95 % do not answer for 90 %: Wald limits are made again."""
    rows = _rows(50)
    rows = rows.assign(
        lower=rows["estimate"] - 1.96 * rows["se"], upper=rows["estimate"] + 1.96 * rows["se"], level=0.95
    )
    wide, narrow = (_value(measures(rows, level=level), "interval_width", "a") for level in (0.95, 0.9))
    assert narrow / wide == pytest.approx(1.6448536 / 1.96)


def test_rejection__is_by_p_value_where_there_is_one() -> None:
    """Of .01, .05, .2 and none, two are at most 1 − .95; without one, limits tell. No p-value is no rejection."""
    rows = pd.DataFrame({"method": ["t"] * 4 + ["i"] * 4, "replicate": [*range(4)] * 2, "truth": 0.0, "estimate": 1.0,
                         "lower": [np.nan] * 4 + [-1.0, 0.5, 0.5, 0.5], "upper": [np.nan] * 4 + [2.0] * 4,
                         "p_value": [0.01, 0.05, 0.2, np.nan] + [np.nan] * 4, "status": "CONVERGED"})  # fmt: skip
    for failures, share, n in (("available", 2 / 3, 3), ("penalised", 0.5, 4)):
        found = measures(rows, failures=failures)
        assert _value(found, "rejection", "t") == pytest.approx(share)
        assert _value(found, "rejection", "t", "n") == n
        assert _value(found, "rejection", "i") == 0.75
    assert _value(measures(rows, level=0.9), "rejection", "t") == pytest.approx(2 / 3)
    assert _value(measures(rows, level=0.99), "rejection", "t") == pytest.approx(1 / 3)


def test_limits__may_be_infinite() -> None:
    """(−∞, 1] and [0, ∞) hold 0 or not as any other; their mean width is none, and says so; the median is one."""
    rows = pd.DataFrame({"method": "m", "truth": 0.5, "estimate": 0.4, "lower": [-np.inf, 0.0, 0.45, 0.6, 0.0],
                         "upper": [1.0, np.inf, 0.55, 0.7, 0.3]})  # fmt: skip
    found = measures(rows).set_index("measure")
    assert found.loc["coverage", "value"] == pytest.approx(0.6)
    assert np.isnan(found.loc["interval_width", "value"])
    assert found.loc["interval_width", "reason"] == "an interval is unbounded, see the median"
    assert found.loc["interval_width_median", "value"] == pytest.approx(0.3)
    wild = measures(rows.assign(lower=0.0, upper=[1.0, 1.0, 2.0, 1e200, 1e200])).set_index("measure")
    assert wild.loc["interval_width", "value"] == pytest.approx(4e199)
    assert wild.loc["interval_width", "reason"] == "the values are too far apart for an MCSE"


def test_nonpositive_rate__counts_zeros_and_raw_negative_estimates_and_no_missing_ones() -> None:
    """Likelihood ends at 0 where moments are negative; a fit without an estimate is no part of the share."""
    rows = pd.DataFrame({"method": ["reml"] * 4 + ["moments"] * 4, "replicate": [*range(4)] * 2, "truth": 0.5,
                         "estimate": [0.0, 0.2, 0.0, 1.0, -0.3, 0.2, -1e-9, np.nan]})  # fmt: skip
    found = measures(rows)
    assert (_value(found, "nonpositive_rate", "reml"), _value(found, "nonpositive_rate", "reml", "n")) == (0.5, 4)
    assert _value(found, "nonpositive_rate", "moments") == pytest.approx(2 / 3)
    assert _value(found, "nonpositive_rate", "moments", "n") == 3


def test_limits__rows_that_name_their_interval_say_where_there_is_none() -> None:
    """A null interval is none, though there is an SE; a profile's limits do not answer at another level."""
    rows = pd.DataFrame({"method": ["w"] * 4 + ["p"] * 4, "replicate": [*range(4)] * 2, "truth": 1.0, "estimate": 1.0,
                         "se": 0.1, "lower": [0.8] * 3 + [np.nan] + [0.7] * 4,
                         "upper": [1.2] * 3 + [np.nan] + [1.3] * 4,
                         "interval": ["wald"] * 3 + [None] + ["profile"] * 4, "level": 0.95})  # fmt: skip
    found = measures(rows)
    assert _value(found, "no_interval_rate", "w") == 0.25
    assert _value(found, "no_interval_rate", "p") == 0.0
    assert _value(found, "coverage", "w", "n") == 3
    assert _value(measures(rows, failures="penalised"), "coverage", "w") == 0.75
    narrow = measures(rows, level=0.9)
    assert _value(narrow, "interval_width", "w") == pytest.approx(2 * 1.6448536 * 0.1)
    assert _value(narrow, "coverage", "p", "reason") == "no standard errors or interval limits"
    assert _value(measures(rows.drop(columns="interval")), "coverage", "w", "n") == 4


def test_measures__truth_that_varies() -> None:
    """Spread and coverage are about each replicate's own truth."""
    rows = _rows(40)
    shift = np.tile(np.linspace(-50, 50, 40), 2)
    moved = rows.assign(truth=rows["truth"] + shift, estimate=rows["estimate"] + shift)
    for name, method in itertools.product(("bias", "empirical_se", "coverage", "be_coverage", "mse"), "ab"):
        assert _value(measures(moved), name, method) == pytest.approx(_value(measures(rows), name, method), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda r: r.rename(columns={"truth": "true"}), {}, "lack the column `truth`"),
        (lambda r: r, {"reference": "c"}, "reference `c` is no method"),
        (lambda r: r, {"mcse": "jacknife"}, "Did you mean `jackknife`"),
        (lambda r: r, {"failures": "all"}, "failures must be one of"),
        (lambda r: r, {"only": ["biass"]}, "unknown measure `biass`"),
        (lambda r: r, {"level": 95}, "level must lie between 0 and 1"),
        (lambda r: r, {"by": ["size"]}, "`by` names `size`"),
        (lambda r: pd.concat([r, r]), {}, "more than once"),
        (lambda r: r.assign(estimate="x"), {}, "column `estimate`"),
        (lambda r: r.iloc[:0], {}, "empty"),
    ],
)
def test_measures__wrong_use_is_said(change, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        measures(change(_rows(3)), **options)
