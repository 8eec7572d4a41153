"""Rows a condition at a time: the same numbers as of all rows at once, and no more in memory than one condition."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vcbench.errors import DataError
from vcbench.study import parts
from vcbench.study.acceptance import check_rows
from vcbench.study.measures import measures
from vcbench.study.parts import FrameRows, measure_parts, read_parts
from vcbench.study.stopping import next_sizes
from vcbench.study.store import read_rows
from vcbench.study.study import Run, Study
from vcbench.study.summary import summarise

TEXT = """
title = "Parts"
question = "Is it the same?"
seed = 3
replicates = 60
block_size = 20
rule = "{rule}"
methods = ["moments", "ai", {{ name = "em", criterion = "ml", replicates = 30, max_iter = 3 }}]
reference = "ai"
[[data]]
generator = "one_way"
n_groups = [4, 9]
group_size = 3
icc = [0.0, 0.4]
[[data]]
card = "one_way"
real = true
[[acceptance]]
measure = "coverage"
method = "ai"
parameter = "(Intercept)"
tolerance = 0.1
[[acceptance]]
measure = "bias"
method = ["ai", "moments"]
[[acceptance]]
measure = "paired_difference"
tolerance = 0.2
unit = "empirical_se"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    study = Study.from_text(TEXT.format(rule="fixed"), "parts")
    return study.run(tmp_path_factory.mktemp("run") / "run", workers=1, progress="none", report=False)


@pytest.mark.parametrize("piece", [1_000_000, 10], ids=["by condition", "by parameter"])
@pytest.mark.parametrize("failures", ["available", "penalised", "complete"])
def test_measures__by_parts_are_those_of_all_rows(run, monkeypatch, piece, failures):
    monkeypatch.setattr(parts, "PIECE", piece)
    rows = read_rows(run.folder)
    whole = measures(rows, failures=failures)
    for found in (read_parts(run.folder), FrameRows(rows)):
        pd.testing.assert_frame_equal(measure_parts(found, failures=failures), whole, check_exact=True)
    assert run.measures(mcse="normal").equals(measures(rows, reference="ai", mcse="normal"))
    with pytest.raises(DataError, match="reference `aii` is no method"):
        run.measures(reference="aii")


@pytest.mark.parametrize("rule", ["fixed", "sequential"])
def test_verdicts__and_looks_by_parts_are_those_of_all_rows(run, rule):
    spec, rows = Study.from_text(TEXT.format(rule=rule), "parts").spec, read_rows(run.folder)
    assert repr(check_rows(spec, read_parts(run.folder))) == repr(check_rows(spec, rows))
    kept: dict = {}
    for n in (20, 40, 60):
        at = {c.id: 1 if c.real else n for c in spec.conditions}
        assert next_sizes(spec, read_parts(run.folder, kept), at) == next_sizes(spec, rows, at)
    some = {c.id: 40 if c.id == "001" else 20 for c in spec.conditions}
    assert next_sizes(spec, read_parts(run.folder, kept), some) == next_sizes(spec, rows, some)


def test_looks__at_a_condition_that_has_not_grown_read_nothing(run, monkeypatch):
    spec = Study.from_text(TEXT.format(rule="sequential"), "parts").spec
    at = {c.id: 1 if c.real else 20 for c in spec.conditions}
    kept: dict = {}
    next_sizes(spec, read_parts(run.folder, kept), at)
    read: list[Path] = []
    real = parts.read_shard
    monkeypatch.setattr(parts, "read_shard", lambda path, *columns: (read.append(path), real(path, *columns))[1])
    next_sizes(spec, read_parts(run.folder, kept), at | {"001": 40})
    assert {path.name[:3] for path in read} == {"001"}


def test_summary__counts_what_the_rows_say(run):
    rows = read_rows(run.folder)
    fits = rows.drop_duplicates(["condition", "replicate", "method"])
    found = summarise(run.folder)
    assert found.done == len(fits) == 4 * 150 + 3
    assert found.missing == int((rows.groupby(["condition", "replicate", "method"])["estimate"].count() == 0).sum())
    for label, part in fits.groupby("method"):
        row = found.methods.loc[label]
        assert row["fits"] == len(part)
        assert row["boundary"] == (part["status"] == "AT_BOUNDARY").sum()
        assert row["max_iter"] == (part["status"] == "MAX_ITER").sum()
        assert row["seconds"] == pytest.approx(np.median(part["seconds"]), rel=1e-12)
    assert list(found.methods.index) == ["moments", "ai", "em"]


def test_parts__hold_one_condition_at_a_time(run):
    """What is read at once is as large as the largest condition, whatever the folder holds."""
    rows = read_rows(run.folder)
    found = read_parts(run.folder)
    largest = rows.groupby("condition").size().max()
    sizes = [len(frame) for condition in found.conditions for frame in found.of(condition)]
    assert max(sizes) == largest
    assert sum(sizes) == len(rows)
    assert found.methods == tuple(dict.fromkeys(rows["method"]))
