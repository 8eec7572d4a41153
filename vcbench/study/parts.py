"""Rows in pieces that fit in memory: a condition at a time, or a condition and parameter where that is a million rows.

Measures, verdicts and precision targets are of one condition and parameter, and a shard holds one condition: nothing
has to see all rows at once. What is kept of a condition is its measures. With a million rows a piece, some 0.2 kB a
row, memory does not grow with the number of conditions; the rows of one condition and parameter are always together,
because the median and the jackknife need them all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vcbench.errors import DataError
from vcbench.study.groups import COSTS, NUMBERS, Group, build_group
from vcbench.study.measures import measure_pieces
from vcbench.study.seeds import method_stream
from vcbench.study.shards import ROWS, Shard, list_shards
from vcbench.study.store import read_run, read_shard

PIECE = 1_000_000  # rows
MEASURED = ["condition", "replicate", "method", "criterion", "parameter", "status", "interval", *NUMBERS]


class Rows(Protocol):
    """Rows by condition. `methods` are all there are, as they first appear in the order (condition, replicate, label);
    `kept` holds what was worked out from rows that do not change any more, under keys of the caller's making."""

    @property
    def methods(self) -> tuple[str, ...]: ...

    @property
    def conditions(self) -> tuple[str, ...]: ...

    @property
    def kept(self) -> dict[Any, Any]: ...

    def of(self, condition: str) -> Iterator[pd.DataFrame]:
        """The rows of a condition, sorted by (replicate, method): all of them, or those of a parameter at a time."""

    def below(self, sizes: Mapping[str, int]) -> "Rows":
        """The first replicates only, so many of each condition."""

    def size(self, condition: str) -> Any:
        """What tells how many of its replicates are looked at."""


@dataclass(frozen=True, slots=True)
class FrameRows:
    """Rows that are a data frame already, sorted as `read_rows` has them."""

    frame: pd.DataFrame
    kept: dict[Any, Any] = field(default_factory=dict)
    limits: tuple[tuple[str, int], ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(map(str, self.frame["method"].unique()))

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(sorted(self.frame["condition"].unique()))

    def of(self, condition: str) -> Iterator[pd.DataFrame]:
        yield self.frame[self.frame["condition"] == condition]

    def below(self, sizes: Mapping[str, int]) -> "FrameRows":
        here = self.frame[self.frame["replicate"] < self.frame["condition"].map(sizes)]
        return replace(self, frame=here, limits=tuple(sizes.items()))

    def size(self, condition: str) -> Any:
        return dict(self.limits).get(condition)


@dataclass(frozen=True, slots=True)
class FolderRows:
    """Rows of a run folder, read when asked for. Use `read_parts`."""

    folder: Path
    shards: Mapping[str, tuple[tuple[str, Shard], ...]]  # by condition: (label, shard), by label and replicate
    methods: tuple[str, ...]
    kept: dict[Any, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(sorted(self.shards))

    def of(self, condition: str) -> Iterator[pd.DataFrame]:
        most = self.sizes.get(condition)
        paths = [
            self.folder / ROWS / shard.name for _, shard in self.shards[condition] if most is None or shard.first < most
        ]
        if self._n_rows(condition) <= PIECE:
            yield _frame([_below(read_shard(path, MEASURED), most) for path in paths])
            return
        found = pa.chunked_array([c for path in paths for c in read_shard(path, ["parameter"])["parameter"].chunks])
        for parameter in sorted(pc.unique(found).to_pylist()):
            tables = (_below(read_shard(path, MEASURED), most) for path in paths)
            yield _frame([table.filter(pc.equal(table["parameter"], parameter)) for table in tables])

    def below(self, sizes: Mapping[str, int]) -> "FolderRows":
        return replace(self, sizes=dict(sizes))

    def size(self, condition: str) -> Any:
        last = tuple((label, shard.last) for label, shard in self.shards[condition])
        most = self.sizes.get(condition)
        return last if most is None else most

    def _n_rows(self, condition: str) -> int:
        """About how many rows a condition has: those of a replicate, times the replicates, method by method."""
        each: dict[str, float] = {}
        total = 0.0
        for label, shard in self.shards[condition]:
            if label not in each:
                table = read_shard(self.folder / ROWS / shard.name, ["replicate"])
                each[label] = table.num_rows / len(shard.replicates)
            total += each[label] * len(shard.replicates)
        return int(total)


def read_parts(folder: Path | str, kept: dict[Any, Any] | None = None) -> FolderRows:
    """The rows of a run folder, by condition. Raises StoreError where it is none."""
    folder = Path(folder)
    labels = labels_of(folder)
    shards: dict[str, list[tuple[str, Shard]]] = {}
    first: dict[str, tuple[str, int, str]] = {}
    for shard in list_shards(folder):
        label = labels.get(shard.method) or _label(folder, shard)
        shards.setdefault(shard.condition, []).append((label, shard))
        place = shard.condition, shard.first, label
        first[label] = min(first.get(label, place), place)
    ordered = {c: tuple(sorted(found, key=lambda one: (one[0], one[1].first))) for c, found in shards.items()}
    return FolderRows(folder, ordered, tuple(sorted(first, key=first.__getitem__)), {} if kept is None else kept)


def as_parts(rows: Any) -> Rows:
    """Rows in pieces, of a data frame or of what is that already."""
    return FrameRows(rows) if isinstance(rows, pd.DataFrame) else rows


def measure_parts(rows: Rows, *, only: Iterable[str] | None = None, **options: Any) -> pd.DataFrame:
    """`vcbench.measures` of all rows, made piece by piece: the same numbers in the same order. Its `by` is fixed."""
    wanted = None if only is None else tuple(sorted(only))
    if not rows.conditions:
        raise DataError("the rows are empty: there is nothing to measure.")
    tables = []
    for condition in rows.conditions:
        key = "measures", condition, rows.size(condition), rows.methods, wanted, repr(sorted(options.items()))
        if key not in rows.kept:
            keys = ["condition", "parameter"]
            rows.kept[key] = measure_pieces(rows.of(condition), rows.methods, keys, only=wanted, **options)
        tables.append(rows.kept[key])
    return pd.concat(tables, ignore_index=True)


def iter_groups(rows: Rows, wanted: Iterable[tuple[str, str]], level: float) -> Iterator[tuple[tuple[str, str], Group]]:
    """((condition, parameter), its Group) of those wanted, reading each condition once."""
    by_condition: dict[str, set[str]] = {}
    for condition, parameter in wanted:
        by_condition.setdefault(condition, set()).add(parameter)
    for condition, parameters in by_condition.items():
        for frame in rows.of(condition):
            for parameter, part in frame.groupby("parameter", sort=True):
                if parameter in parameters:
                    yield (condition, str(parameter)), build_group(part, list(rows.methods), level, "available")


def iter_fits(folder: Path | str, columns: Sequence[str]) -> Iterator[tuple[Shard, str, pd.DataFrame]]:
    """(shard, method's label, one row a fit), shard by shard, by condition, method and replicate.

    `estimated` is true of a fit that gave any estimate.
    """
    folder = Path(folder)
    labels = labels_of(folder)
    for shard in list_shards(folder):
        table = read_shard(folder / ROWS / shard.name, ["replicate", "estimate", *columns])
        found, first, place = np.unique(table["replicate"].to_numpy(), return_index=True, return_inverse=True)
        has = np.bincount(place, table["estimate"].is_valid().to_numpy(), len(found)) > 0
        fits = table.take(pa.array(first)).select(["replicate", *columns]).to_pandas()
        yield shard, labels.get(shard.method) or _label(folder, shard), fits.assign(estimated=has)


def labels_of(folder: Path | str) -> dict[int, str]:
    """The labels of a run's methods by their stream, which names their shards."""
    known = read_run(folder).get("methods", [])
    labels = [entry["label"] for entry in known] if isinstance(known, list) else list(known)
    return {method_stream(label): label for label in labels}


def _label(folder: Path, shard: Shard) -> str:
    """The label of a method that run.json does not name."""
    return str(read_shard(folder / ROWS / shard.name, ["method"])["method"][0])


def _below(table: pa.Table, most: int | None) -> pa.Table:
    return table if most is None else table.filter(pc.less(table["replicate"], most))


def _frame(tables: list[pa.Table]) -> pd.DataFrame:
    """The tables one below the other, by replicate, then as they come: by method."""
    table = pa.concat_tables(tables, promote_options="default")
    del tables
    order = np.argsort(table["replicate"].to_numpy(), kind="stable")
    frame = table.take(pa.array(order)).to_pandas(self_destruct=True, split_blocks=True)
    if "p_value" not in frame:
        frame["p_value"] = np.nan
    for name in COSTS:
        frame[name] = frame[name].astype(np.float64)
    return frame
