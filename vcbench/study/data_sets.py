"""Data sets by path or by name: those beside the model cards, and shared ones where they are there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vcbench.cards import data_folders
from vcbench.errors import CardError, did_you_mean

ENDINGS = (".csv", ".csv.gz")


def find_data(name: str) -> Path:
    """The file of a data set: a path to a CSV file, or a name. CardError, with the nearest name, if it is absent."""
    path = Path(name)
    if path.suffix or len(path.parts) > 1:
        if path.is_file():
            return path
        raise CardError(f"there is no data file `{name}`. Paths are from the working directory, {Path.cwd()}.")
    known = dict(_data_sets())
    if name not in known:
        hint = did_you_mean(name, known) or f" It is none of the {len(known)} that are there."
        raise CardError(
            f"there is no data set `{name}`.{hint} Shared data are looked for in the folder that VCBENCH_DATA names."
        )
    return known[name]


def read_data(name: str, dtype: Any = None) -> Any:
    """The data frame of a data set, its columns of `dtype` where one is said. Raises CardError if it is absent."""
    import pandas as pd

    return pd.read_csv(find_data(name), dtype=dtype)


def _data_sets() -> Iterator[tuple[str, Path]]:
    for folder in reversed(data_folders()):  # the first folder's file is the one that stands
        for ending in reversed(ENDINGS):
            for path in sorted(folder.glob(f"*{ending}")):
                yield path.name.removesuffix(ending), path
