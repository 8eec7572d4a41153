"""The index of published answers beside the shared data: which of its fits vcbench can say, and with which data.

Not a test: `test_published.py` runs what this module reads. A fit is used if its formula is lme4's, of columns that the
file has or `DERIVED` makes. The rest (known relationship matrices, residual structures) belongs to tests of its own.
"""

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CHECKOUT = Path(__file__).resolve().parents[2]

# Columns that the index's fits treat as factors, where the file holds numbers.
FACTORS = {
    "assay": ["dilut"],
    "agridat_harville_lamb": ["line", "damage", "sire"],
    "agridat_stroup_nin": ["rep"],
    "cake": ["temperature", "replicate"],
    "hemmerle_hartley": ["a", "b"],
    "insteval": ["service"],
    "sas_heights": ["Family"],
    "sasmixed_avgdailygain": ["Treatment", "Block"],
    "sasmixed_bib": ["Treatment", "Block", "Grp"],
    "sasmixed_mississippi": ["influent", "Type"],
    **{f"be_rds{i:02d}": ["sequence", "period", "treatment", "subject"] for i in range(1, 16)},
}

# Levels in the order of the R factor, where that is not the order of the alphabet (REML depends on the coding).
LEVELS = {
    "exam": {"schgend": ["mixed", "boys", "girls"]},
    "insteval": {"dept": [15, 5, 10, 12, 6, 7, 4, 8, 9, 14, 1, 3, 11, 2]},
    "orthodont": {"Sex": ["Male", "Female"]},
    "oats": {"Variety": ["Golden Rain", "Marvellous", "Victory"]},
}


def _factor(column: pd.Series, ordered: bool = False) -> pd.Series:
    return column.astype(pd.CategoricalDtype(sorted(column.dropna().unique()), ordered=ordered))


# New columns, said in the index's notes.
DERIVED: dict[str, Any] = {
    "DayF": lambda d: _factor(d["Days"]),
    "nf": lambda d: _factor(d["nitro"]),
    "no": lambda d: _factor(d["nitro"], ordered=True),
    "week2": lambda d: d["week"] ** 2,
    "s": lambda d: np.sin(2 * np.pi * d["Time"]),
    "c": lambda d: np.cos(2 * np.pi * d["Time"]),
    "l": lambda d: _factor(d["lact"]),
    "lnpk": lambda d: np.log(d["PK"]),
}
FUNCTIONS = {"I", "log", "exp", "sqrt"}


@dataclass(frozen=True)
class Reference:
    """One fit of the index: `fit` is its table, `data` the name of its data set."""

    data: str
    fit: dict[str, Any]

    @property
    def id(self) -> str:
        return self.fit["id"]

    @property
    def criterion(self) -> str:
        return self.fit["method"].lower()

    @property
    def published(self) -> list[dict[str, Any]]:
        """Published numbers that agree with the index's own re-fit (the others are errors of the publication)."""
        return [entry for entry in self.fit.get("published", []) if entry["agrees"]]

    def frame(self, folder: Path) -> pd.DataFrame:
        """The rows and columns of this fit."""
        frame = pd.read_csv(folder / f"{self.data}.csv")
        for column in FACTORS.get(self.data, ()):
            frame[column] = _factor(frame[column])
        for column, levels in LEVELS.get(self.data, {}).items():
            frame[column] = pd.Categorical(frame[column], categories=levels)
        note = self.fit.get("note", "")
        if match := re.search(r"subset (\w+)==(\w+)", note):
            frame = frame[frame[match[1]] == match[2]]
        if match := re.search(r"(?:rows ([\d,]+) \(1-based\) deleted|1-based rows deleted: ([\d,]+))", note):
            frame = frame.drop(index=[int(row) - 1 for row in (match[1] or match[2]).split(",")])
        for column in words(self.fit["formula"]) & set(DERIVED) - set(frame.columns):
            frame[column] = DERIVED[column](frame)
        return frame.reset_index(drop=True)


def words(formula: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_][\w.]*", formula))


def shared_folder() -> Path | None:
    """The folder of shared data, or None."""
    folders = [Path(os.environ["VCBENCH_DATA"])] if "VCBENCH_DATA" in os.environ else []
    folders.append(CHECKOUT.parent / "shared" / "data")
    return next((folder for folder in folders if (folder / "INDEX.toml").is_file()), None)


def references() -> list[Reference]:
    """Every fit of the index that an lme4 formula with an iid residual can say."""
    folder = shared_folder()
    if folder is None:
        return []
    index = tomllib.loads((folder / "INDEX.toml").read_text(encoding="utf-8"))
    found = []
    for dataset in index["dataset"]:
        known = set(dataset["columns"]) | set(DERIVED) | FUNCTIONS
        for fit in dataset.get("fit", []):
            formula = fit["formula"]
            said = re.fullmatch(r"[\w()]+ ~ [^,;]+", formula) and words(formula) <= known and "|" in formula
            if said and fit["method"] in ("ML", "REML"):
                found.append(Reference(dataset["name"], fit))
    return found
