"""The rows of a run folder, a condition at a time, so that a report of any number of conditions fits in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from vcbench.errors import StoreError

NUMBERS = (
    "truth", "estimate", "se", "lower", "upper", "level", "p_value", "loglik", "n_iter", "n_eval", "seconds",
    "cpu_seconds",
)  # fmt: skip
WORDS = ("condition", "method", "parameter", "status")
REMARKS = ("criterion", "message", "code", "interval")
OF_PARAMETERS = ("parameter", "truth", "estimate", "se", "lower", "upper", "interval", "level", "p_value")
FIT = ["replicate", "method"]
UNUSED = ("study", "spec_hash", "seed_key")  # of rows; factors are those of `heads`


@dataclass(frozen=True, slots=True)
class Stored:
    """Reads a condition's rows when they are asked for, and keeps those of the last one asked for. See `open_rows`."""

    folder: Path
    conditions: tuple[str, ...]
    last: dict[str, pd.DataFrame] = field(default_factory=dict)

    def rows(self, condition: str) -> pd.DataFrame:
        """All rows of a condition, sorted by (replicate, method, parameter), absent words as ""."""
        if condition not in self.last:
            self.last.clear()
            pa.default_memory_pool().release_unused()
            table = pa.concat_tables(map(_used, self._tables(condition)), promote_options="default")
            table = table.sort_by([(name, "ascending") for name in (*FIT, "parameter")])
            frame = table.to_pandas(self_destruct=True, split_blocks=True)
            del table
            pa.default_memory_pool().release_unused()
            self.last[condition] = _tidy(frame)
        return self.last[condition]

    def fits(self, condition: str) -> pd.DataFrame:
        """One row a (replicate, method) of a condition, without what is of a parameter."""
        rows = self.rows(condition)
        columns = [c for c in rows.columns if c not in OF_PARAMETERS]
        return rows.drop_duplicates(FIT)[columns].reset_index(drop=True)

    def heads(self) -> pd.DataFrame:
        """One row of each condition, in their order, all columns in common types."""
        first = [next(self._tables(condition)).slice(0, 1) for condition in self.conditions]
        return pa.concat_tables(first, promote_options="default").to_pandas()

    def _tables(self, condition: str) -> Iterator[pa.Table]:
        from vcbench.study.shards import ROWS, list_shards
        from vcbench.study.store import read_shard

        names = [shard.name for shard in list_shards(self.folder) if shard.condition == condition]
        return (read_shard(self.folder / ROWS / name) for name in names)


def _used(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in table.column_names if name in UNUSED or name.startswith("factor_")])


def open_rows(folder: Path | str) -> Stored:
    """The rows of a run folder. Raises StoreError for one that is none, or that has no rows yet."""
    from vcbench.study.shards import list_shards
    from vcbench.study.store import read_run

    folder = Path(folder)
    read_run(folder)
    conditions = tuple(sorted({shard.condition for shard in list_shards(folder)}))
    if not conditions:
        raise StoreError(f"`{folder}` holds no rows yet: there is nothing to report. Run the study first.")
    return Stored(folder, conditions)


def _tidy(rows: pd.DataFrame) -> pd.DataFrame:
    for name in NUMBERS:
        rows[name] = pd.to_numeric(rows[name], errors="coerce").astype(float) if name in rows else np.nan
    for name in WORDS:
        rows[name] = rows[name].astype(str)
    for name in REMARKS:
        rows[name] = rows[name].fillna("").astype(str) if name in rows else ""
    return rows


def concat(frames: Iterable[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """The frames that have rows, one below the other; an empty frame with these columns where none has."""
    some = [frame for frame in frames if len(frame)]
    return pd.concat(some, ignore_index=True) if some else pd.DataFrame(columns=columns)
