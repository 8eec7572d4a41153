"""Rows that are lost: the share that is asked for, dependence on what it says, monotone dropout, whole groups."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from vcbench.errors import DataError
from vcbench.study.generators import ByFormula
from vcbench.study.missing import Missing
from vcbench.study.seeds import DESIGN, generator
from vcbench.study.spec import read_spec
from vcbench.study.work import Task, run_task

N_UNITS, T = 4000, 5
RNG = np.random.default_rng(7)
FRAME = pd.DataFrame({
    "subject": np.repeat(np.arange(N_UNITS), T), "time": np.tile(np.arange(T), N_UNITS),
    "x": np.repeat(RNG.standard_normal(N_UNITS), T),
})  # fmt: skip
Y = np.repeat(RNG.standard_normal(N_UNITS), T) + RNG.standard_normal(N_UNITS * T)
UNIT = {"unit": "subject", "time": "time"}


def _kept(**said: object) -> np.ndarray:
    return Missing(**said).kept(FRAME, "y", Y, np.random.default_rng(11))


def _share(lost: np.ndarray, share: float) -> None:
    assert lost.mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / len(lost)))


def test_mcar__loses_its_share_of_rows_or_groups() -> None:
    _share(~_kept(kind="mcar", share=0.2), 0.2)
    lost = (~_kept(kind="mcar", share=0.2, by="subject")).reshape(N_UNITS, T)
    assert (lost.all(axis=1) == lost.any(axis=1)).all()
    _share(lost[:, 0], 0.2)


def test_mar__depends_on_a_covariate_as_said() -> None:
    """The slope of a logistic regression of being lost on the covariate is the one asked for (Newton, by hand)."""
    lost = ~_kept(kind="mar", share=0.3, on="x", slope=-1.5)
    assert lost.mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / len(lost)))
    z = (FRAME["x"] - FRAME["x"].mean()) / FRAME["x"].std(ddof=0)
    A, b = np.column_stack([np.ones(len(z)), z]), np.zeros(2)
    for _ in range(20):
        p = expit(A @ b)
        H = A.T @ (A * (p * (1 - p))[:, None])
        b += np.linalg.solve(H, A.T @ (lost - p))
    assert b[1] == pytest.approx(-1.5, abs=5 * np.sqrt(np.linalg.inv(H)[1, 1]))


def test_mar__on_the_response_depends_on_the_first_which_is_seen() -> None:
    lost = (~_kept(kind="mar", share=0.3, on="y", slope=2.0, **UNIT)).reshape(N_UNITS, T)
    assert not lost[:, 0].any()
    _share(lost[:, 1:].ravel(), 0.3)
    first = Y.reshape(N_UNITS, T)[:, 0]
    assert lost[first > 1, 1:].mean() > 0.6
    assert lost[first < -1, 1:].mean() < 0.1
    later = Y.reshape(N_UNITS, T)[:, 1]
    among = np.abs(first) < 0.1  # given the first, what would have been seen does not tell
    high, low = lost[among & (later > first), 1], lost[among & (later <= first), 1]
    assert high.mean() == pytest.approx(low.mean(), abs=5 * np.sqrt(0.25 / len(high) + 0.25 / len(low)))


@pytest.mark.parametrize("on", [None, "y", "x"])
def test_dropout__is_monotone_and_of_the_share_asked_for(on: str | None) -> None:
    shuffled = np.random.default_rng(5).permutation(len(FRAME))  # rows need not be in order of time
    missing = Missing(kind="dropout", share=0.4, **UNIT, **({} if on is None else {"on": on}))
    seen = np.empty(len(FRAME), bool)
    seen[shuffled] = missing.kept(FRAME.iloc[shuffled], "y", Y[shuffled], np.random.default_rng(11))
    seen = seen.reshape(N_UNITS, T)
    assert seen[:, 0].all()
    assert (np.diff(seen.astype(int), axis=1) <= 0).all()
    _share(~seen[:, -1], 0.4)
    if on == "y":
        before = Y.reshape(N_UNITS, T)[:, :-1][seen[:, :-1]]
        leaves = ~seen[:, 1:][seen[:, :-1]]
        assert leaves[before > 1].mean() > 3 * leaves[before < -1].mean()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kind": "dropout", "share": 0.2}, "`unit` and `time`"),
        ({"kind": "mar", "share": 0.2}, "what it depends `on`"),
        ({"kind": "mcar", "share": 0.2, "on": "x"}, 'of kind "mar"'),
        ({"kind": "mar", "share": 0.2, "on": "x", "by": "x"}, 'of kind "mcar"'),
        ({"kind": "mcar", "share": 1.0}, "less than 1"),
        ({"kind": "mcar", "share": 0.2, "unit": "x"}, "both `unit` and `time`"),
    ],
)
def test_missing__that_makes_no_sense_is_refused(said: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Missing(**said)


def test_missing__names_columns_that_there_are() -> None:
    with pytest.raises(DataError, match=r"`by` `subjects`.*Did you mean `subject`"):
        _kept(kind="mcar", share=0.2, by="subjects")
    with pytest.raises(DataError, match="not missing at random"):
        _kept(kind="mar", share=0.2, on="y")


STUDY = """title = "T"
question = "Q?"
seed = 1
replicates = 6
methods = ["ai"]
[[data]]
generator = "model"
design = { subject = 12, time = { count = 4 } }
formula = "y ~ time + (1 | subject)"
theta = { "subject:var((Intercept))" = 1.0, "residual:var" = 1.0 }
missing = MISSING
"""


def _rows(missing: str, first: int = 0, n: int = 6) -> pd.DataFrame:
    spec = read_spec(STUDY.replace("MISSING", missing), "s.toml")
    return run_task(spec, "s", Task(0, (0,), first, n)).parts[0].rows.to_pandas()


def test_study__what_is_lost_by_the_design_is_lost_once_and_counted() -> None:
    rows = _rows('{ kind = "mcar", share = 0.3 }')
    assert set(rows["status"]) <= {"CONVERGED", "AT_BOUNDARY"}
    assert rows["n_obs"].nunique() == 1
    assert 20 < rows["n_obs"][0] < 48


@pytest.mark.parametrize(
    "missing",
    [
        '{ kind = "mcar", share = 0.3, redraw = true }',
        '{ kind = "dropout", share = 0.5, unit = "subject", time = "time", on = "y" }',
    ],
)
def test_study__what_is_lost_anew_is_the_same_in_any_block(missing: str) -> None:
    rows = _rows(missing)
    assert rows.groupby("replicate")["n_obs"].first().nunique() > 1
    again = pd.concat([_rows(missing, 0, 2), _rows(missing, 2, 4)], ignore_index=True)
    same = [name for name in rows.columns if "seconds" not in name]
    pd.testing.assert_frame_equal(rows[same], again[same], check_exact=True)


def test_study__a_lost_fixed_effect_keeps_its_row_and_the_replicate_its_others() -> None:
    """Four subjects of four arms, most of them lost: arms without a subject have a null estimate, and a replicate that
    carries no model is skipped alone."""
    text = STUDY.replace("MISSING", '{ kind = "mcar", share = 0.5, by = "subject", redraw = true }')
    text = text.replace(
        "time = { count = 4 } }", 'time = { count = 4 }, arm = { levels = ["A", "B", "C"], of = "subject" } }'
    )
    text = (
        text.replace("subject = 12", "subject = 6")
        .replace("~ time", "~ time + arm")
        .replace("replicates = 6", "replicates = 30")
    )
    spec = read_spec(text, "s.toml")
    rows = run_task(spec, "s", Task(0, (0,), 0, 30)).parts[0].rows.to_pandas()
    assert (rows.groupby("replicate").size() == 6).all()
    kept = rows[rows["status"].isin(["CONVERGED", "AT_BOUNDARY"])]
    assert len(kept)
    assert kept.loc[kept["parameter"] == "time", "estimate"].notna().all()
    assert kept.loc[kept["parameter"].isin(["armB", "armC"]), "estimate"].isna().any()
    assert "SKIPPED" in set(rows["status"])


def test_from_card__loses_rows_of_the_cards_data() -> None:
    text = (
        STUDY.partition("[[data]]")[0] + '[[data]]\ncard = "random_slope"\nmissing = { kind = "dropout", share = 0.5, '
    )
    spec = read_spec(text + 'unit = "Subject", time = "Days", on = "Reaction" }\n', "s.toml")
    rows = run_task(spec, "s", Task(0, (0,), 0, 3)).parts[0].rows.to_pandas()
    assert rows["n_obs"].between(90, 179).all()
    assert rows["estimate"].notna().all()


def test_thinned__draws_the_rows_that_are_left_of_the_whole() -> None:
    settings = {
        "design": {"subject": 5, "time": {"count": 4}}, "formula": "y ~ time", "residual": "ar1(time, group=subject)",
        "theta": {"residual:var": 1.0, "residual:rho": 0.5},
    }  # fmt: skip
    whole = ByFormula(**settings).build(generator(1, (0, 0), DESIGN))
    part = ByFormula(**settings, missing={"kind": "mcar", "share": 0.4}).build(generator(1, (0, 0), DESIGN))
    Y_, y = whole.draw([generator(1, (0, 0), 3)]), part.draw([generator(1, (0, 0), 3)])
    assert y.tobytes() == np.ascontiguousarray(Y_[part.kept]).tobytes()
    assert part.model.n_obs == part.kept.sum() < 20
    assert part.model.n_dropped == (~part.kept).sum()


def test_study__a_level_that_is_lost_has_no_parameter_in_that_replicate() -> None:
    """Variances by occasion are fitted where one is drawn: a replicate without rows of an occasion has no row of it."""
    text = STUDY.replace("MISSING", '{ kind = "mcar", share = 0.7, redraw = true }').replace(
        "subject = 12", "subject = 5"
    )
    text = text.replace('["ai"]', '[{ name = "lbfgs", model = { formula = "~ 1", residual = "by(factor(time))" } }]')
    spec = read_spec(text, "s.toml")
    whole = run_task(spec, "s", Task(0, (0,), 0, 6)).parts[0].rows.to_pandas()
    counts = whole.groupby("replicate").size()
    assert counts.nunique() > 1
    own = whole[whole["parameter"].str.startswith("residual:var(")]
    assert own["truth"].isna().all()
    assert own["estimate"].notna().all()
    alone = run_task(spec, "s", Task(0, (0,), int(counts.idxmin()), 1)).parts[0].rows.to_pandas()
    assert len(alone) == counts.min()
