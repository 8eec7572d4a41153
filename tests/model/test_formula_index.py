"""Every lme4 formula of the shared reference data parses, with the names of the coefficients lme4 gave.

The data lie beside the checkout (`../shared/data`) or where VCBENCH_DATA says; without them these tests are skipped.
"""

import csv
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vcbench.model.formula import parse_formula

DATA = Path(os.environ.get("VCBENCH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))

# What the notes of the index say was done to the columns before lme4 saw them; a CSV file keeps no order of levels.
NUMBERS_AS_FACTORS = {
    "agridat_harville_lamb": ["line", "damage"],
    "hemmerle_hartley": ["a", "b"],
    **{f"be_rds{i:02d}": ["sequence", "period", "treatment", "subject"] for i in range(1, 16)},
}
LEVELS = {
    "exam": {"schgend": ["mixed", "boys", "girls"]},
    "orthodont": {"Sex": ["Male", "Female"]},
    "insteval": {"dept": ["15", "5", "10", "12", "6", "7", "4", "8", "9", "14", "1", "3", "11", "2"]},
}
NUMERIC_LEVELS = {"assay": ["dilut"], "sasmixed_avgdailygain": ["Treatment"], "cake": ["temperature"]}
DERIVED = {
    "agridat_yates_oats": {"nf": "factor(nitro)"},
    "oats": {"nf": "factor(nitro)", "no": "ordered(nitro)"},
    "sleepstudy": {"DayF": "factor(Days)"},
    "pedigreemm_milk": {"l": "factor(lact)"},
}


def lme4_fits() -> list[Any]:
    if not (DATA / "INDEX.toml").exists():
        return []
    index = tomllib.loads((DATA / "INDEX.toml").read_text())
    fits = {}
    for dataset in index["dataset"]:
        for fit in dataset.get("fit", []):
            if fit["software"].startswith("lme4"):
                key = dataset["name"], fit["formula"], fit.get("note", "")  # one of ML and REML is enough
                fits[key] = (dataset["file"], fit["beta"], fit["nobs"])
    return [pytest.param(*key, *rest, id=": ".join(key)) for key, rest in fits.items()]


def read(name: str, file: str) -> pd.DataFrame:
    """The file as R reads it with factors: what stands in quotes is text, whatever it looks like."""
    with open(DATA / file, newline="") as lines:
        header = next(csv.reader(lines))
        first = lines.readline().rstrip("\r\n")
    quoted = [cell.startswith('"') for cell in _cells(first)]
    texts = {column: str for column, is_text in zip(header, quoted, strict=True) if is_text}
    data = pd.read_csv(DATA / file, dtype=texts, na_values=["NA", ""], keep_default_na=False)
    for column in NUMBERS_AS_FACTORS.get(name, []):
        data[column] = pd.Categorical(data[column])
    for column in NUMERIC_LEVELS.get(name, []):
        data[column] = pd.Categorical(data[column], categories=sorted(data[column].unique(), key=float))
    for column, levels in LEVELS.get(name, {}).items():
        data[column] = pd.Categorical(data[column], categories=levels)
    if "Time" in data and "follicles" in data:
        data["s"], data["c"] = np.sin(2 * np.pi * data["Time"]), np.cos(2 * np.pi * data["Time"])
    if "week" in data:
        data["week2"] = data["week"] ** 2
    if "PK" in data:
        data["lnpk"] = np.log(data["PK"])
    for column, how in DERIVED.get(name, {}).items():
        source = how[how.index("(") + 1 : -1]
        data[column] = pd.Categorical(data[source], ordered=how.startswith("ordered"))
    return data


def _cells(line: str) -> list[str]:
    """The cells of a CSV line with their quotes."""
    cells, inside = [""], False
    for char in line:
        inside ^= char == '"'
        if char == "," and not inside:
            cells.append("")
        else:
            cells[-1] += char
    return cells


FITS = lme4_fits()


@pytest.mark.skipif(not FITS, reason="the shared reference data are not here")
@pytest.mark.parametrize(("name", "formula", "note", "file", "beta", "nobs"), FITS)
def test_index__formula_gives_the_names_of_lme4(
    name: str, formula: str, note: str, file: str, beta: dict[str, float], nobs: int
) -> None:
    data = read(name, file)
    if subset := re.search(r"subset (\w+)==(\w+)", note):
        data = data[data[subset[1]] == subset[2]]
    if "deleted" in note:
        data = data.drop(index=[int(row) - 1 for row in re.findall(r"\b\d+\b(?!-based)", note)])
    parsed = parse_formula(formula, data)
    assert list(parsed.X_names) == list(beta)
    assert parsed.y.size == nobs
    assert parsed.dropped_columns == ()
    assert parsed.random


@pytest.mark.skipif(not FITS, reason="the shared reference data are not here")
def test_index__has_the_formulas_it_is_known_to_have() -> None:
    assert len(FITS) >= 50
