"""What is packed into the page: aggregates that hold, small, the same text again, and no rows."""

import gzip
import json
from base64 import b64decode

import numpy as np
import pandas as pd
import pytest

from vcbench import numbers as num
from vcbench.report.explore import collect, pack
from vcbench.report.explore.numbers import short
from vcbench.report.messages import pattern, together


@pytest.fixture(scope="module")
def data(found):
    return collect(found)


def test_pack__is_the_data_and_the_same_text_again(data, found):
    text = pack(data)
    assert json.loads(gzip.decompress(b64decode(text))) == data
    assert pack(collect(found)) == text


def test_measures__have_the_values_texts_and_flags_of_the_tables(data, found):
    measure = next(m for m in data["measures"] if m["key"] == "coverage")
    cells = found.cells[found.cells["coverage"].notna()].set_index(["condition", "parameter", "method"])
    assert len(measure["x"]) == len(cells)
    for i in range(0, len(measure["x"]), 7):
        key = (
            data["conditions"][measure["c"][i]]["id"],
            data["parameters"][measure["p"][i]],
            data["methods"][measure["m"][i]]["label"],
        )
        row = cells.loc[key]
        assert measure["x"][i] == pytest.approx(100 * row["coverage"], rel=1e-4)
        assert measure["e"][i] == pytest.approx(100 * row["coverage_mcse"], rel=1e-4)
        assert measure["t"][i] == f"{num.plus_minus(100 * row['coverage'], 100 * row['coverage_mcse'])}\u202f%"
        assert measure["off"][i] == int(row["coverage_off"])
        assert measure["n"][i] == row["n_valid"]


def test_zips__have_each_interval_once_and_the_misses_of_its_coverage(data, found):
    """40 replicates are fewer than the lines of a plot, so that none is left out."""
    cells = found.cells.set_index(["condition", "parameter", "method"])
    assert data["zips"]
    for entry in data["zips"]:
        key = (
            data["conditions"][entry["c"]]["id"],
            data["parameters"][entry["p"]],
            data["methods"][entry["m"]]["label"],
        )
        lines = len(entry["lower"])
        assert lines == len(entry["upper"]) <= 40
        assert 1 - len(entry["miss"]) / lines == pytest.approx(cells.loc[key, "coverage"])


def test_pairs__are_the_differences_on_the_same_data(data, found):
    """Oracle: the rows, paired by hand."""
    entry = next(e for e in data["pairs"]["cells"] if data["methods"][e["m"]]["label"] == "moments")
    condition, parameter = data["conditions"][entry["c"]]["id"], data["parameters"][entry["p"]]
    reference = data["methods"][data["pairs"]["reference"]]["label"]
    rows = found.evidence.rows(condition)
    mine = rows[rows["parameter"] == parameter].set_index("replicate")
    a = mine.loc[mine["method"] == reference, "estimate"]
    b = mine.loc[mine["method"] == "moments", "estimate"]
    d = (b - a).dropna()
    assert entry["n"] == len(d) == 38  # moments fails twice
    assert entry["mean"] == pytest.approx(d.mean(), rel=1e-4)
    assert entry["sd"] == pytest.approx(d.std(), rel=1e-4)
    worst = (d - d.mean()).abs().idxmax()
    assert entry["far"][0][0] == worst
    assert entry["far"][0][2] == pytest.approx(d[worst], rel=1e-3)
    assert min(entry["low"]) == pytest.approx(d.min(), rel=1e-3)
    assert max(entry["high"]) == pytest.approx(d.max(), rel=1e-3)
    assert len(entry["x"]) == 10
    assert entry["x"] == sorted(entry["x"])


def test_paths__fall_to_the_best_of_their_criterion(data):
    assert {entry["criterion"] for entry in data["paths"]} == {"ML", "REML"}
    for entry in data["paths"]:
        assert min(min(line["d"]) for line in entry["lines"]) == 0
        for line in entry["lines"]:
            assert len(line["i"]) == len(line["d"]) <= 62
            assert line["i"][0] == 0


def test_missing__counts_every_fit_without_an_answer(data, found):
    status = pd.concat([found.evidence.fits(c.id) for c in found.evidence.conditions])["status"]
    assert sum(m["n"] for m in data["missing"]) == (~status.isin(["CONVERGED", "AT_BOUNDARY", "SKIPPED"])).sum()
    assert sum(data["endings"]["n"]) == found.evidence.n_fits == len(status)


def test_messages__that_differ_in_numbers_are_said_once():
    said = ["stopped after 2000 iterations, 1e-07 SEs away", "stopped after 2000 iterations, 0.0056 SEs away"]
    assert pattern(said[0]) == pattern(said[1]) != pattern("no answer after 30 s")
    assert together(said) == "stopped after 2000 iterations, 1e-07 to 0.0056 SEs away"
    assert together(said[:1]) == said[0]


@pytest.mark.parametrize(("value", "told"), [(np.nan, None), (np.inf, None), (1 / 3, 0.33333), (200.0, 200), (0, 0)])
def test_short__keeps_five_digits(value, told):
    assert short(value) == told


def test_rows__of_one_condition_are_held_at_a_time(found):
    for condition in found.evidence.conditions:
        rows = found.evidence.rows(condition.id)
        assert set(rows["condition"]) == {condition.id}
        assert list(found.evidence.stored.last) == [condition.id]
        assert found.evidence.rows(condition.id) is rows
