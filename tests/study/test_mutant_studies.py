"""Mutants switched in by a study: each changes the numbers it is to change, in that study alone, and is found."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import vcbench as vc
from vcbench.errors import MethodError, SpecError
from vcbench.methods import METHODS
from vcbench.report import publish, render
from vcbench.report.mutants import is_mutants
from vcbench.study import harness_checks
from vcbench.study.acceptance import check_rows
from vcbench.study.mutant_runs import Trial, read_trials, run_mutants, run_trial, trials_of
from vcbench.study.mutants import MUTANTS, switched_in, wrong_in
from vcbench.study.mutants_solvers import SOLVERS
from vcbench.study.mutants_steps import STEPS
from vcbench.study.spec import Spec, read_spec
from vcbench.study.study import Study
from vcbench.study.verdicts import run_verdicts
from vcbench.study.work import Task, run_task

ROOT = Path(__file__).parents[2]
STUDY = Study.from_toml(ROOT / "simulations" / "mutants.toml")
SEED = 1001  # none of the committed runs'
OF_ONE_METHOD = {  # data, method, and the columns that the mutant changes
    "M7": ("groups", "ai", "se lower upper"), "M9": ("traits", "correlation-moments", "estimate"),
    "M10": ("genotypes", "ai", "estimate"), "M11": ("groups", "ai", "estimate"),
    "M14a": ("covariates", "ai", "estimate"), "M14b": ("genotypes", "ai", "estimate se"),
    "M14c": ("groups", "anova", "estimate"), "M16": ("few causes", "scaled-lasso", "estimate"),
    "M21": ("groups", "em-henderson", "estimate"), "M22": ("groups", "fisher", "estimate"),
    "O4": ("groups", "ai", "se lower upper"), "O5": ("groups", "ai", "lower upper"),
    "O6": ("groups", "ai", "estimate se"), "O7": ("groups", "ai", "lower upper"),
    "O13": ("groups", "ai", "lower upper"), "O17": ("covariates", "moments", "estimate"),
}  # fmt: skip
IDENTITIES = {  # the identity that does not hold, and the data on which it does not
    "M1": ("ascent", "predictors"), "M2": ("one-step map", "predictors"), "M3": ("one-step map", "predictors"),
    "M4": ("ascent", "predictors"), "M6": ("ascent", "predictors"), "M8": ("ELBO", "predictors"),
    "M15": ("ELBO", "predictors"), "M17": ("ascent", "predictors"), "M18": ("ascent", "crossed"),
    "M19": ("log-density", "small units"), "M20": ("one-step map", "predictors"), "O1": ("one-step map", "predictors"),
    "O2": ("one-step map", "predictors"), "O3": ("one-step map", "predictors"), "O10": ("one-step map", "predictors"),
    "O16": ("log-density", "predictors"),
}  # fmt: skip
HARNESS = ("M24", "O8", "O9", "O11", "O12", "O14", "O15")


SMALL = """
title = "Small"
question = "Is it found?"
seed = 5
rule = "sequential"
n_max = 200
block_size = 25
trace = false
methods = [{methods}]
{more}
[[data]]
generator = "one_way"
n_groups = 30
group_size = 4

[[acceptance]]
measure = "coverage"
parameter = "residual:var"
tolerance = 0.2
"""


def _with(spec: Spec, mutant: str) -> Spec:
    return replace(spec, table=spec.table.model_copy(update={"mutant": mutant or None}))


SPEC = STUDY.with_seed(SEED).spec


def _rows(mutant: str, data: str, method: str, n: int, first: int = 0) -> pd.DataFrame:
    """The rows of one condition and method of the committed study, with a mutant at its level or without."""
    at = next(i for i, c in enumerate(SPEC.conditions) if c.entry == data)
    by = next(i for i, m in enumerate(SPEC.methods) if m.label == method)
    return run_task(_with(SPEC, mutant), "t", Task(at, (by,), first, n)).parts[0].rows.to_pandas()


def test_mutants__are_all_in_one_of_these_tests() -> None:
    assert {*OF_ONE_METHOD, *IDENTITIES, *HARNESS} == set(MUTANTS)
    assert {*STEPS, *SOLVERS} <= set(MUTANTS)


@pytest.mark.parametrize("mutant", OF_ONE_METHOD)
def test_mutant__changes_the_numbers_it_is_to_change_and_only_while_it_is_open(mutant: str) -> None:
    """A sixth of what the median changes by is far beyond rounding; afterwards the bits are the right ones again."""
    data, method, columns = OF_ONE_METHOD[mutant]
    right, wrong, again = (_rows(m, data, method, 4) for m in ("", mutant, ""))
    for column in columns.split():
        moved = (wrong[column] - right[column]).abs() > 1e-3 * right["estimate"].abs()
        assert moved.any(), column
    same = ["parameter", "estimate", "se", "lower", "upper", "loglik", "status"]
    pd.testing.assert_frame_equal(right[same], again[same], check_exact=True)


@pytest.mark.parametrize("mutant", IDENTITIES)
def test_identities__miss_what_the_mutant_breaks_and_hold_without_it(mutant: str) -> None:
    name, data = IDENTITIES[mutant]
    label = "identities of em" if mutant == "M20" else "identities of px-em"
    right, wrong = (_rows(m, data, label, 3) for m in ("", mutant))
    assert (right["p_value"] == 1).all()
    assert (wrong.loc[wrong["parameter"] == name, "p_value"] == 0).all()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ('generator = "snp"\nn = 30\np = 12\nh2 = 0.5', "CONVERGED"),
        ('generator = "random_slope"\nn_groups = 6', "SKIPPED"),
    ],
)
def test_identities__hold_with_a_known_relationship_and_refuse_correlated_effects(data: str, status: str) -> None:
    text = SMALL.format(methods='{ name = "identities", of = "em" }', more="").partition("[[data]]")[0]
    spec = read_spec(f"{text}[[data]]\n{data}\n", "small.toml")
    rows = run_task(spec, "t", Task(0, (0,), 0, 3)).parts[0].rows.to_pandas()
    assert set(rows["status"]) == {status}
    if status == "CONVERGED":
        assert (rows["p_value"] == 1).all(), rows[["parameter", "estimate"]]
    else:
        assert rows["message"].str.contains("components of one variance each").all()


def _frame(mutant: str, data: tuple[str, ...], method: str, n: int) -> pd.DataFrame:
    with switched_in(mutant):
        parts = [_rows(mutant, one, method, 25, first) for one in data for first in range(0, n, 25)]
    return pd.concat(parts).sort_values(["condition", "replicate", "method", "parameter"], ignore_index=True)


@pytest.mark.parametrize("mutant", ["", "O8", "O15"])
def test_independence__finds_seeds_that_conditions_or_blocks_share(mutant: str) -> None:
    rows = _frame(mutant, ("groups", "other groups"), "ai", 100)
    assert bool(harness_checks.independence(SPEC, rows)) == bool(mutant)


@pytest.mark.parametrize("mutant", ["", "O11"])
def test_rows__finds_fits_that_are_left_out(mutant: str) -> None:
    rows = _frame(mutant, ("slow fits",), "em", 25)
    own = replace(SPEC, methods=tuple(m for m in SPEC.methods if m.label == "em"))
    said = harness_checks.missing_rows(own, rows, {c.id: 25 for c in SPEC.conditions})
    assert bool(said) == bool(mutant), said


@pytest.mark.parametrize("mutant", ["", "O9"])
def test_resuming__finds_rows_that_are_lost(mutant: str) -> None:
    assert bool(harness_checks.resuming(SEED, mutant)) == bool(mutant)


@pytest.mark.parametrize("mutant", ["", "O14"])
def test_reference__finds_n_for_n_minus_1(mutant: str) -> None:
    rows = _frame("", ("groups",), "ai", 25)
    with switched_in(mutant):
        assert bool(harness_checks.reference(rows, 0.9)) == bool(mutant)


@pytest.mark.parametrize("mutant", ["", "M24"])
def test_range__finds_free_autocorrelations(mutant: str) -> None:
    with switched_in(mutant):
        assert bool(harness_checks.structure_range(SEED)) == bool(mutant)


def _small(methods: str = '"ai"', more: str = "") -> Study:
    return Study(read_spec(SMALL.format(methods=methods, more=more), "small.toml"), "small")


def test_unaligned_pairs__are_found_by_agreement() -> None:
    text = SMALL.format(methods='"ai", "fisher"', more="").replace('"coverage"', '"share_equal"')
    spec = read_spec(text, "small.toml")
    rows = pd.concat([part.rows.to_pandas() for part in run_task(spec, "t", Task(0, (0, 1), 0, 25)).parts])
    value = {m: check_rows(_with(spec, m), rows)[1].value for m in ("", "O12")}
    assert value == {"": 1.0, "O12": 0.0}


def test_spec_hash__changes_with_a_mutant_and_is_that_of_before_without() -> None:
    """The hash of the committed quickstart was worked out before there were mutants."""
    published = json.loads((ROOT / "reports" / "quickstart" / "provenance.json").read_text(encoding="utf-8"))
    assert Study.from_toml(ROOT / "simulations" / "quickstart.toml").spec.spec_hash == published["spec_hash"]
    said = [
        _small(),
        _small('{ name = "ai", mutant = "M7" }'),
        _small(more='mutant = "M7"'),
        _small(more='mutant = "O6"'),
    ]
    assert len({study.spec.spec_hash for study in said}) == 4
    runs = _small(more="mutants = { seeds = 2 }")
    assert runs.spec.spec_hash == said[0].spec.spec_hash


@pytest.mark.parametrize(
    ("methods", "more", "words"),
    [
        ('{ name = "ai", mutant = "M77" }', "", "unknown mutant `M77`. Did you mean `M7`?"),
        ('"ai"', 'mutant = "O99"', "unknown mutant `O99`"),
        ('{ name = "ai", mutant = "O9" }', "", "no single one of them can have it"),
        ('"ai"', "mutants = { seeds = 0 }", "seeds"),
    ],
)
def test_spec__says_what_is_wrong_with_a_mutant(methods: str, more: str, words: str) -> None:
    with pytest.raises(SpecError) as said:
        _small(methods, more)
    assert words in str(said.value)


def test_a_wrong_method__stands_beside_the_right_one_and_is_said_to_be_wrong(tmp_path: Path) -> None:
    study = _small('"ai", { name = "ai", label = "wrong", mutant = "O13" }')
    run = study.run(tmp_path, workers=1, progress="none", report=False)
    rows = run.rows.set_index(["method", "replicate", "parameter"])
    right, wrong = rows.loc["ai"], rows.loc["wrong"]
    assert (right["lower"] < right["upper"]).all()
    pd.testing.assert_series_equal(right["lower"], wrong["upper"], check_names=False)
    words = "deliberately wrong: O13 (θ̂ + z·se as the lower limit, θ̂ − z·se as the upper)"
    verdicts = {v["numbers"]["method"]: v for v in run_verdicts(tmp_path)}
    assert verdicts["ai"]["verdict"] != "FAIL"
    assert "deliberately" not in verdicts["ai"]["detail"]
    assert verdicts["wrong"]["verdict"] == "FAIL"
    assert verdicts["wrong"]["detail"].endswith(words)
    assert f"{words} in `wrong`" == wrong_in(study.spec)
    assert words in json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["title"]


@pytest.mark.slow
@pytest.mark.parametrize("said", ['{ name = "ai", mutant = "O6" }', '"ai"'], ids=["method", "study"])
def test_worker_processes__are_as_wrong_as_this_one(tmp_path: Path, said: str) -> None:
    study = _small(said, "" if "mutant" in said else 'mutant = "O6"')
    one, two, right = (
        s.run(tmp_path / name, workers=n, progress="none", report=False, reps=50).rows["estimate"].to_numpy()
        for s, name, n in ((study, "one", 1), (study, "two", 2), (_small(), "right", 1))
    )
    np.testing.assert_array_equal(one, two)
    assert (one != right).any()


def test_mutants__are_out_of_reach_of_fits() -> None:
    model = vc.Model(np.arange(8.0), None, [vc.Component(np.ones((8, 1)), name="g", group=np.repeat([0, 1, 2, 3], 2))])
    assert not (set(MUTANTS) | {"identities"}) & set(METHODS)
    with pytest.raises(MethodError, match="mutant"):
        vc.fit(model, "ai", mutant="M7")
    with pytest.raises(MethodError, match="M7"):
        vc.fit(model, "M7")


def test_trial__finds_its_mutant_by_the_named_check_and_nothing_without(tmp_path: Path) -> None:
    """The runs of a small study: resumed, nothing is run again; the same trials give the same report."""
    study = _small(more='mutants = { names = ["O13", "M24", "O16"], seeds = 1, clean = 2 }')
    assert [(t.mutant, t.seed) for t in trials_of(study.spec)] == [("O13", 1), ("M24", 1), ("O16", 1), ("", 1), ("", 2)]
    run_mutants(study.spec, "small", tmp_path, progress=False)
    found = read_trials(tmp_path)
    assert [(t["mutant"], t["caught"] and t["caught"]["n"]) for t in found] == [
        ("M24", 20), ("O13", 50), ("O16", None), ("", None), ("", None),
    ]  # fmt: skip
    assert not any(t["first"] for t in found if not t["mutant"])
    before = (tmp_path / "trials.jsonl").read_bytes()
    run_mutants(study.spec, "small", tmp_path, progress=False)
    assert (tmp_path / "trials.jsonl").read_bytes() == before
    assert is_mutants(tmp_path)
    first = {p.name: p.read_bytes() for p in render(tmp_path).parent.rglob("*") if p.is_file()}
    out = publish(tmp_path, tmp_path / "reports")
    assert first == {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    answer = first["README.md"].decode().splitlines()[2]
    assert answer.startswith("**2 of 3 mutants were found, each in all of its 1 runs")
    assert "Not found in every run: O16 (found in 0 of 1)." in answer
    assert "**0 alarms in 2 runs without a mutant**" in answer
    words = {v["check"].partition(" (")[0]: v["verdict"] for v in run_verdicts(tmp_path)}
    assert words == {"mutant M24": "PASS", "mutant O13": "PASS", "mutant O16": "FAIL", "runs without a mutant": "PASS"}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_committed_study__finds_every_mutant(mutant: str) -> None:
    """All of `simulations/mutants.toml` with each mutant, at a seed that is none of the committed runs'."""
    found = run_trial(STUDY.spec, "mutants", Trial(mutant, SEED))
    assert found.caught is not None, found


def test_committed_report__is_of_this_study_and_of_all_its_runs() -> None:
    folder = ROOT / "reports" / "mutants"
    record: dict[str, Any] = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert record["spec_hash"] == STUDY.spec.spec_hash
    runs = pd.read_csv(folder / "summary.csv", keep_default_na=False)
    wanted = {(t.mutant, t.seed) for t in trials_of(STUDY.spec)}
    assert set(zip(runs["mutant"], runs["seed"], strict=True)) == wanted
    clean = runs[runs["mutant"] == ""]
    assert sorted(clean["seed"]) == list(range(1, 201))
    assert (clean["first_check"] != "").sum() <= 2
    assert (runs.loc[runs["mutant"] != "", "check"] != "").all()
