"""One fit of a stored run, made again from its seed and compared with what was stored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vcbench.errors import StoreError, did_you_mean
from vcbench.study.rows import PER_PARAMETER
from vcbench.study.shards import ROWS
from vcbench.study.spec import Spec
from vcbench.study.store import SPEC, find_shard, read_run, read_shard
from vcbench.study.work import Task, run_task

NUMBERS = (*PER_PARAMETER, "loglik", "n_iter", "n_eval")
WORDS = ("status", "message", "criterion", "interval")


@dataclass(frozen=True, slots=True)
class Replay:
    """The stored rows of a fit, the rows made again, and where they differ (times never count)."""

    row: str
    stored: pd.DataFrame
    again: pd.DataFrame
    differences: tuple[str, ...]
    largest: float

    @property
    def identical(self) -> bool:
        """True if every number and word is the same to the last bit."""
        return not self.differences


def replay(folder: Path | str, row: str) -> Replay:
    """Fit CONDITION/REPLICATE/METHOD of a run again, in the block it was fitted in, and compare.

    Raises StoreError for a row that the folder does not hold, and SpecError if its specification cannot be read.
    """
    folder = Path(folder)
    spec = read_stored_spec(folder)
    condition, replicate, label = _split(row)
    ids = [c.id for c in spec.conditions]
    labels = [m.label for m in spec.methods]
    condition = condition.zfill(len(ids[0]))
    for name, value, known in (("condition", condition, ids), ("method", label, labels)):
        if value not in known:
            raise StoreError(f"row `{row}`: there is no {name} `{value}` in this run.{did_you_mean(value, known)}")
    method = spec.methods[labels.index(label)]
    shard = find_shard(folder, spec.conditions[ids.index(condition)], method, replicate)
    if shard is None:
        raise StoreError(
            f"row `{row}`: replicate {replicate} is not stored (not run yet, or beyond the method's replicates)."
        )
    first, last = shard.first, shard.last
    rows = read_shard(folder / ROWS / shard.name).to_pandas()
    if "p_value" not in rows:  # a shard of before tests
        rows["p_value"] = np.nan
    stored = rows[rows["replicate"] == replicate].sort_values("parameter")
    if method.long:
        first, last = replicate, replicate
    task = Task(ids.index(condition), (labels.index(label),), first, last - first + 1)
    made = run_task(spec, str(read_run(folder)["study"]), task).parts[0].rows.to_pandas()
    again = made[made["replicate"] == replicate].sort_values("parameter")
    stored, again = stored.reset_index(drop=True), again.reset_index(drop=True)
    differences, largest = _compare(stored, again)
    return Replay(row, stored, again, differences, largest)


def read_stored_spec(folder: Path | str) -> Spec:
    """The Spec a run folder was made from. Raises StoreError if run.json and spec.toml do not belong together."""
    from vcbench.study.spec import read_spec

    run, path = read_run(folder), Path(folder) / SPEC
    if not path.is_file():
        raise StoreError(f"`{folder}` has no {SPEC}: its specification is not known.")
    spec = read_spec(path.read_text(encoding="utf-8"), str(path))
    if spec.spec_hash != run.get("spec_hash"):
        raise StoreError(
            f"`{path}` has hash {spec.spec_hash}, the run {run.get('spec_hash')}: it was changed after the run, or"
            " another version of vcbench made it."
        )
    return spec


def _split(row: str) -> tuple[str, int, str]:
    """Labels may hold slashes: the first two part the row."""
    parts = row.split("/", 2)
    if len(parts) != 3 or not parts[0].isdigit() or not parts[1].isdigit():
        raise StoreError(f"row `{row}` must be CONDITION/REPLICATE/METHOD, e.g. 000/12/em.")
    return parts[0], int(parts[1]), parts[2]


def _compare(stored: pd.DataFrame, again: pd.DataFrame) -> tuple[tuple[str, ...], float]:
    """What differs, in words, and the largest relative difference of an estimate."""
    if list(stored["parameter"]) != list(again["parameter"]):
        return ("the parameters differ",), float("inf")
    said, largest = [], 0.0
    for column in (*NUMBERS, *WORDS):
        for parameter, one, two in zip(stored["parameter"], stored[column], again[column], strict=True):
            if (pd.isna(one) and pd.isna(two)) or one == two:
                continue
            said.append(f"{column} of {parameter}: stored {one!r}, now {two!r}")
            if column in PER_PARAMETER and not pd.isna(one) and not pd.isna(two):
                largest = max(largest, abs(one - two) / max(abs(one), abs(two), np.finfo(float).tiny))
    return tuple(said), largest
