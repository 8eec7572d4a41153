"""Intervals and tests that a study's methods are asked for: rows are those of a fit by hand, whoever computes them."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vcbench as vc
from vcbench.errors import SpecError
from vcbench.inference.bootstrap import bootstrap
from vcbench.inference.likelihood_ratio import lrt
from vcbench.study import limits
from vcbench.study.component_tests import without
from vcbench.study.generators import OneWay, RandomSlope
from vcbench.study.replay import replay
from vcbench.study.seeds import DATA, DESIGN, canonical_json, condition_key, generator, method_stream, seed_sequence
from vcbench.study.spec import read_spec
from vcbench.study.study import Study

GROUP = "group:var((Intercept))"
HEAD = """
title = "Asked"
question = "Which interval?"
seed = 11
replicates = 8
block_size = 5
trace = false
criterion = "reml"
"""
DATA_ENTRY = """
[[data]]
generator = "one_way"
n_groups = 6
group_size = 4
balance = 0.5
icc = [0.0, 0.4]
"""
SETTINGS = {"n_groups": 6, "group_size": 4, "balance": 0.5}
KINDS = {
    "wald": 'interval = "wald"',
    "wald, sd": f'interval = {{ kind = "wald", symmetric_on = "sd", parameters = "{GROUP}" }}',
    "wald, log": 'interval = { kind = "wald", symmetric_on = "log" }',
    "profile": f'interval = {{ kind = "profile", parameters = "{GROUP}" }}',
    "profile, ml": f'interval = {{ kind = "profile", criterion = "ml", parameters = "{GROUP}" }}',
    "percentile": f'interval = {{ kind = "bootstrap", n = 60, parameters = "{GROUP}" }}',
    "basic": f'interval = {{ kind = "bootstrap", n = 60, type = "basic", parameters = "{GROUP}" }}',
    "posterior": f'interval = {{ kind = "posterior", parameters = "{GROUP}" }}',
    "chi2": 'test = { kind = "chi2", drop = "group" }',
    "mixture": 'test = { kind = "mixture", drop = "group" }',
    "exact": 'test = { kind = "exact", drop = "group", n = 2000 }',
    "boot": 'test = { kind = "bootstrap", drop = "group", n = 100 }',
}
ENTRIES = "".join(f'[[methods]]\nname = "ai"\nlabel = "{label}"\n{asked}\n' for label, asked in KINDS.items())
TEXT = HEAD + ENTRIES + DATA_ENTRY


def _run(folder: Path, text: str = TEXT, **options):
    return Study.from_text(text, "asked").run(folder, **{"workers": 1, "progress": "none", "report": False, **options})


def _bits(run) -> pd.DataFrame:
    return run.rows.drop(columns=["seconds", "cpu_seconds"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory):
    return _run(tmp_path_factory.mktemp("asked") / "run")


def _by_hand(replicate: int, icc: float):
    """The fit of one replicate, its condition's key and id, and its design: data drawn by the published seed rule."""
    settings = {**SETTINGS, "icc": icc}
    key = condition_key({"generator": "one_way", **settings})
    simulator = OneWay(**settings).build(generator(11, key, DESIGN))
    y = simulator.draw([generator(11, key, replicate, DATA)])[:, 0]
    return vc.fit(simulator.model.replace(y=y), "ai", "reml"), key, "000" if icc == 0 else "001"


def _row(run, condition: str, replicate: int, method: str, parameter: str = GROUP) -> pd.Series:
    rows = run.rows
    at = (rows["condition"] == condition) & (rows["replicate"] == replicate) & (rows["method"] == method)
    return rows[at].set_index("parameter").loc[parameter]


@pytest.mark.parametrize("icc", [0.0, 0.4])
@pytest.mark.parametrize("replicate", [0, 6])
def test_limits__are_those_of_confint_by_hand(whole, replicate: int, icc: float) -> None:
    fit, key, condition = _by_hand(replicate, icc)
    seed = seed_sequence(11, key, replicate, method_stream(canonical_json(["ai", "reml", {}, 60])))
    refits = bootstrap(fit, 60, int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1)))
    wanted = {
        "wald": fit.confint("wald", symmetric_on="var"),
        "wald, sd": fit.confint("wald", symmetric_on="sd"),
        "wald, log": fit.confint("wald", symmetric_on="log"),
        "profile": fit.confint("profile", parameters=[GROUP]),
        "profile, ml": fit.confint("profile", parameters=[GROUP], criterion="ml"),
        "percentile": refits.table([GROUP], "percentile"),
        "basic": refits.table([GROUP], "basic"),
        "posterior": fit.confint("posterior", parameters=[GROUP]),
    }
    for method, table in wanted.items():
        row = _row(whole, condition, replicate, method)
        for side in ("lower", "upper"):
            assert row[side] == pytest.approx(table.loc[GROUP, side], rel=1e-6, abs=1e-9, nan_ok=True), method
        assert row["estimate"] == pytest.approx(fit.theta[GROUP], rel=1e-7, abs=1e-12)
        assert row["level"] == 0.95 or np.isnan(row["lower"])


def test_limits__of_the_parameters_that_were_named_alone(whole) -> None:
    rows = whole.rows
    named = {
        "wald, sd": "wald-sd", "profile": "profile", "percentile": "bootstrap-percentile", "basic": "bootstrap-basic",
        "posterior": "eti",
    }  # fmt: skip
    for method, kind in named.items():
        mine = rows[rows["method"] == method]
        assert set(mine.loc[mine["lower"].notna(), "parameter"]) == {GROUP}
        assert set(mine["interval"].dropna()) == {kind}
    every = rows[(rows["method"] == "wald, log") & (rows["status"] == "CONVERGED")]
    assert every.groupby("parameter")["lower"].count().nunique() == 1
    assert set(every["interval"]) == {"wald-log"}


def test_limits__wald_has_none_on_the_boundary_where_the_others_do(whole) -> None:
    rows = whole.rows[(whole.rows["status"] == "AT_BOUNDARY") & (whole.rows["parameter"] == GROUP)]
    assert len(rows) > 20
    has = rows.groupby("method")["upper"].count() / rows.groupby("method").size()
    assert (has[["wald", "wald, sd", "wald, log"]] == 0).all()
    assert (has[["profile", "percentile", "basic", "posterior"]] == 1).all()
    assert (rows.loc[rows["method"] == "profile", "lower"] == 0.0).all()


def test_limits__wald_has_none_for_a_singular_block_of_effects(tmp_path: Path) -> None:
    """A slope's variance near 0: Ω ends singular with both variances above 0, where `confint` gives none either."""
    settings = {"n_groups": 6, "times": [0.0, 1.0, 2.0], "Omega": [[4.0, 0.0], [0.0, 0.05]], "sigma2_e": 1.0}
    entry = "".join(f"{name} = {value}\n" for name, value in settings.items())
    text = HEAD.replace("= 8", "= 12") + '[[methods]]\nname = "ai"\ninterval = "wald"\n'
    rows = _run(tmp_path / "run", text + '[[data]]\ngenerator = "random_slope"\n' + entry).rows
    key = condition_key({"generator": "random_slope", **settings})
    simulator = RandomSlope(**settings).build(generator(11, key, DESIGN))
    seen = 0
    for replicate in rows.loc[rows["status"] == "AT_BOUNDARY", "replicate"].unique():
        y = simulator.draw([generator(11, key, replicate, DATA)])[:, 0]
        by_hand = vc.fit(simulator.model.replace(y=y), "ai", "reml").confint("wald")
        row = rows[rows["replicate"] == replicate].set_index("parameter")
        assert row["lower"].isna().to_dict() == by_hand["lower"].isna().loc[row.index].to_dict()
        seen += bool(row["se"].notna()[row["lower"].isna()].any())
    assert seen > 0


@pytest.mark.parametrize("icc", [0.0, 0.4])
def test_p_values__are_those_of_lrt_by_hand(whole, icc: float) -> None:
    for replicate in range(4):
        fit, key, condition = _by_hand(replicate, icc)
        null = vc.fit(without(fit.model, "group"), "ai", "reml")
        for kind in ("chi2", "mixture", "exact", "boot"):
            seed = seed_sequence(11, key, replicate if kind == "boot" else DESIGN, method_stream(kind))
            n = {"exact": 2000, "boot": 100}.get(kind)
            whole_seed = int(seed.generate_state(1, np.uint64)[0] >> np.uint64(1))
            by_hand = lrt(null, fit, "bootstrap" if kind == "boot" else kind, n, whole_seed)
            row = _row(whole, condition, replicate, kind)
            assert row["p_value"] == pytest.approx(by_hand.p, rel=1e-6), kind
            assert np.isnan(row["lower"])
            assert row["se"] == pytest.approx(fit.theta_se[GROUP], rel=1e-6, nan_ok=True)


def test_p_values__stand_in_the_rows_of_the_component_alone(whole) -> None:
    tested = whole.rows[whole.rows["p_value"].notna()]
    assert set(tested["parameter"]) == {GROUP}
    assert set(tested["method"]) == {"chi2", "mixture", "exact", "boot"}


def test_resume_and_workers__give_the_same_bits(tmp_path: Path, whole) -> None:
    """A block of five replicates, then all eight, by two workers who got the specification as bytes."""
    _run(tmp_path / "run", reps=5)
    assert pickle.loads(pickle.dumps(whole.spec)) == whole.spec
    with ThreadPoolExecutor(2) as executor:
        again = _run(tmp_path / "run", executor=executor, workers=None)
    pd.testing.assert_frame_equal(_bits(again), _bits(whole), check_exact=True)
    for method in ("percentile", "boot", "posterior"):
        assert replay(tmp_path / "run", f"001/6/{method}").identical


def test_bootstrap__types_are_read_off_the_same_refits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def spy(*args, **options):
        made.append(args)
        return bootstrap(*args, **options)

    monkeypatch.setattr(limits, "bootstrap", spy)
    entries = "".join(
        f'[[methods]]\nname = "ai"\nlabel = "{kind}"\n'
        f'interval = {{ kind = "bootstrap", n = 40, type = "{kind}", parameters = "{GROUP}" }}\n'
        for kind in ("percentile", "basic", "bca")
    )
    run = _run(tmp_path / "run", HEAD.replace("= 8", "= 4") + entries + DATA_ENTRY)
    assert len(made) == 2 * 4
    rows = run.rows[(run.rows["parameter"] == GROUP) & (run.rows["estimate"] > 0)].set_index(
        ["condition", "replicate", "method"]
    )
    one, two = (rows.xs(kind, level="method") for kind in ("percentile", "basic"))
    assert two["upper"].to_numpy() == pytest.approx((2 * one["estimate"] - one["lower"]).to_numpy())
    assert (run.rows.groupby("method")["cpu_seconds"].mean() > 1e-3).all()  # each is charged for the refits


def test_bootstrap__of_a_negative_variance_is_none_and_the_estimate_stays(tmp_path: Path) -> None:
    text = HEAD + '[[methods]]\nname = "moments"\ninterval = { kind = "bootstrap", n = 30 }\n' + DATA_ENTRY
    rows = _run(tmp_path / "run", text).rows
    rows = rows[rows["parameter"] == GROUP]
    negative = rows["estimate"] < 0
    assert 0 < negative.sum() < len(rows)
    assert (rows["upper"].isna() == negative).all()
    assert rows.loc[negative, "message"].str.contains("no bootstrap interval for group").all()


def test_redrawn_designs__are_tested_and_bootstrapped_one_by_one(tmp_path: Path) -> None:
    text = HEAD.replace("= 8", "= 2") + (
        '[[methods]]\nname = "ai"\nlabel = "exact"\ntest = { kind = "exact", drop = "x1", n = 200 }\n'
        '[[methods]]\nname = "ai"\nlabel = "percentile"\n'
        'interval = { kind = "bootstrap", n = 30, parameters = "x1:var" }\n'
        '[[data]]\ngenerator = "variance_components"\nn = 30\nq = [8]\nsigma2 = [0.5]\nredraw = true\n'
    )
    rows = _run(tmp_path / "run", text).rows
    at = rows[rows["parameter"] == "x1:var"].set_index("method")
    assert at.loc["exact", "p_value"].between(0, 1).all()
    assert at.loc["percentile", "upper"].gt(0).all()


def test_component__that_is_not_there_is_skipped_by_name(tmp_path: Path) -> None:
    text = HEAD + '[[methods]]\nname = "ai"\ntest = { kind = "chi2", drop = "groups" }\n' + DATA_ENTRY
    rows = _run(tmp_path / "run", text, reps=1).rows
    assert set(rows["status"]) == {"SKIPPED"}
    assert rows["message"].str.contains("Did you mean `group`").all()


def test_store__reads_shards_without_p_values(tmp_path: Path, whole) -> None:
    """Those of before there were tests."""
    run = _run(tmp_path / "run", reps=2)
    for path in (tmp_path / "run" / "rows").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["p_value"]), path)
    rows = run.rows
    assert rows["p_value"].isna().all()
    assert list(rows.columns) == list(whole.rows.columns)
    assert run.measures(only=["coverage"])["value"].notna().any()
    assert isinstance(pa.Table.from_pandas(rows), pa.Table)


def test_coverage__profiles_hold_the_truth_where_wald_does_not(tmp_path: Path) -> None:
    """Six groups, half of the variance between them. Gated by the Monte Carlo error: 3 MCSE beside 2 points."""
    methods = "".join(
        f'[[methods]]\nname = "ai"\nlabel = "{k}"\ninterval = {{ kind = "{k}", parameters = "{GROUP}" }}\n'
        for k in ("wald", "profile")
    )
    text = HEAD.replace("= 8", "= 500").replace("block_size = 5", "block_size = 100") + methods
    text += '[[data]]\ngenerator = "one_way"\nn_groups = 6\ngroup_size = 5\nbalance = 0.4\nicc = 0.5\n'
    found = _run(tmp_path / "run", text).measures(only=["coverage"])
    found = found[found["parameter"] == GROUP].set_index("method")
    assert abs(found.loc["profile", "value"] - 0.95) <= 0.02 + 3 * found.loc["profile", "mcse"]
    assert found.loc["wald", "value"] < 0.95 - 0.02 - 3 * found.loc["wald", "mcse"]


def test_size__the_exact_test_keeps_it_and_chi2_does_not(tmp_path: Path) -> None:
    methods = "".join(
        f'[[methods]]\nname = "ai"\nlabel = "{kind}"\ntest = {{ kind = "{kind}", drop = "group" }}\n'
        for kind in ("chi2", "mixture", "exact")
    )
    text = HEAD.replace("= 8", "= 600").replace("block_size = 5", "block_size = 200") + methods
    text += '[[data]]\ngenerator = "one_way"\nn_groups = 6\ngroup_size = 5\nicc = 0.0\n'
    found = _run(tmp_path / "run", text).measures(only=["rejection"])
    rate = found[found["parameter"] == GROUP].set_index("method")["value"]
    nominal = np.sqrt(0.05 * 0.95 / 600)
    assert abs(rate["exact"] - 0.05) <= 3 * nominal
    assert rate["chi2"] < 0.05 - 3 * nominal
    assert rate["chi2"] <= rate["mixture"] <= rate["exact"]  # on the same data, p-values are ordered here


def test_spec__a_kind_alone_is_short_for_a_table_and_counts_in_the_hash() -> None:
    short, long, none = (
        read_spec(HEAD + f'[[methods]]\nname = "ai"\n{asked}\n' + DATA_ENTRY, "a.toml")
        for asked in ('interval = "profile"', 'interval = { kind = "profile" }', "")
    )
    assert short.methods[0].interval == long.methods[0].interval
    assert short.spec_hash == long.spec_hash != none.spec_hash
    assert none.methods[0].asks == {}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('interval = "walld"', "must be one of wald, profile, bootstrap, posterior"),
        ('interval = { kind = "profile", n = 50 }', 'kind "profile" takes no `n`; it takes `criterion`'),
        ('interval = { kind = "posterior", symmetric_on = "log" }', 'kind "posterior" takes no `symmetric_on`'),
        ('interval = { kind = "bootstrap", n = 5 }', "`methods[0].interval.n` must be at least 20, not 5"),
        ('interval = { kind = "wald", symetric_on = "log" }', "Did you mean `symmetric_on`?"),
        ('interval = { symmetric_on = "log" }', "`kind` is missing"),
        ('test = "exact"', "`drop` is missing"),
        ('test = { kind = "mixture", drop = "group", n = 500 }', 'kind "mixture" takes no `n`'),
        ('test = { kind = "mixtur", drop = "group" }', "Did you mean `mixture`?"),
    ],
)
def test_spec__what_is_asked_wrongly_is_said_at_its_place(entry: str, said: str) -> None:
    text = HEAD.lstrip() + f'[[methods]]\nname = "ai"\n{entry}\n' + DATA_ENTRY
    with pytest.raises(SpecError) as raised:
        read_spec(text, "a.toml")
    problems = raised.value.problems
    assert len(problems) == 1, problems
    assert problems[0][0] == 10
    assert said in problems[0][2]


@pytest.mark.parametrize(
    ("method", "entry", "said"),
    [
        ("quadrature", 'interval = "wald"', 'limits of its own: it has no "wald" interval'),
        ("moments", 'interval = "profile"', "maximises no likelihood"),
        ("moments", 'test = { kind = "chi2", drop = "group" }', "no ratio of two to test"),
    ],
)
def test_spec__methods_without_a_likelihood_are_not_asked_for_one(method: str, entry: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        read_spec(HEAD + f'[[methods]]\nname = "{method}"\n{entry}\n' + DATA_ENTRY, "a.toml")


def test_where__restricts_a_check_to_levels_of_a_factor(whole) -> None:
    check = '[[acceptance]]\nmeasure = "no_interval_rate"\nmethod = "profile"\ntolerance = 0.3\nwhere = { icc = 0.4 }\n'
    study = Study.from_text(TEXT + check.replace("tolerance", f'parameter = "{GROUP}"\ntolerance'), "asked")
    assert [(v.condition, v.method, v.value) for v in study.check(whole.folder)] == [("001", "profile", 0.0)]
    for wrong, said in (("{ ic = 0.4 }", "Did you mean `icc`?"), ("{ icc = [0.4, 0.3] }", "icc = 0.3, which no")):
        with pytest.raises(SpecError, match=said):
            Study.from_text(TEXT + check.replace("{ icc = 0.4 }", wrong), "asked")
