"""The run folder: Parquet shards that appear whole or not at all, and what is already in them.

    run.json   what the study is, and when it ran      spec.toml   its specification, as run
    rows/      <condition>-<key>-<method>-<first>-<last>.parquet, one a (condition, method, block of replicates)
    traces/    the same names: log-likelihood against iteration

A shard is written under a temporary name, flushed to the disk and renamed, so that a run killed at any moment, or a
full disk, leaves whole shards only. Shards say in their names what they hold (`shards`): resuming is a listing of
names. One runner at a time holds `lock`.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vcbench.errors import RunStopped, StoreError
from vcbench.study.conditions import Condition
from vcbench.study.entries import MethodEntry
from vcbench.study.lock import LOCK, locked
from vcbench.study.rows import KEYS
from vcbench.study.seeds import method_stream
from vcbench.study.shards import ROWS, TRACES, Shard, list_shards, sweep
from vcbench.study.spec import Spec

RUN, SPEC = "run.json", "spec.toml"
OWN = {ROWS, TRACES, SPEC, LOCK, "shards", f"{SPEC}.tmp", f"{RUN}.tmp"}  # what a run killed in its first instant leaves


@dataclass(frozen=True, slots=True)
class Store:
    """An open run folder; use `open_store`."""

    folder: Path
    spec: Spec

    def done(self) -> dict[tuple[str, int], set[int]]:
        """The replicates in hand, by (condition id, method stream)."""
        found: dict[tuple[str, int], set[int]] = {}
        for shard in list_shards(self.folder):
            found.setdefault((shard.condition, shard.method), set()).update(shard.replicates)
        return found

    def write(
        self, condition: Condition, method: MethodEntry, first: int, rows: pa.Table, n: int, trace: pa.Table | None
    ) -> None:
        """A shard of n replicates from `first`; the trace goes first, so that rows without their trace cannot stay.

        What is there stays: a task that was finished twice gives the same rows. Raises RunStopped where the disk is
        full, or cannot be written for another reason.
        """
        k0, k1 = condition.key
        shard = Shard(condition.id, f"{k0:08x}{k1:08x}", method_stream(method.label), first, first + n - 1)
        if (self.folder / ROWS / shard.name).exists():
            return
        if trace is not None and trace.num_rows:
            _write_table(trace, self.folder / TRACES / shard.name)
        _write_table(rows, self.folder / ROWS / shard.name)

    def known(self) -> dict[str, Any]:
        """run.json, empty where there is none yet."""
        return read_run(self.folder) if (self.folder / RUN).is_file() else {}

    def note(self, **values: Any) -> dict[str, Any]:
        """Add to run.json, and return it."""
        known = self.known() | values
        _write_bytes((json.dumps(known, indent=1, ensure_ascii=False) + "\n").encode(), self.folder / RUN)
        return known


@contextlib.contextmanager
def open_store(folder: Path, spec: Spec) -> Iterator[Store]:
    """The store of a study's run, made or continued, held by this process alone.

    Raises StoreError for a folder of another spec, one that is no run folder, and one that another process is running.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"`{folder}` is a file. Name a folder for the results.")
    known = folder / RUN
    if folder.is_dir() and not known.is_file() and not set(os.listdir(folder)) <= OWN:
        raise StoreError(
            f"`{folder}` holds other files and no {RUN}: it is no results folder. Name a new or empty one."
        )
    (folder / ROWS).mkdir(parents=True, exist_ok=True)
    (folder / TRACES).mkdir(exist_ok=True)
    with locked(folder):
        if known.is_file():
            stored = str(read_run(folder).get("spec_hash"))
            if stored != spec.spec_hash:
                raise StoreError(
                    f"`{folder}` holds results of another specification: its hash is {stored}, that of {spec.name} is"
                    f" {spec.spec_hash}. Give another folder with --out, or remove this one."
                )
        sweep(folder)
        _write_bytes(spec.text.encode(), folder / SPEC)
        yield Store(folder, spec)


def _write_table(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    _write_bytes(sink.getvalue(), path)


def _write_bytes(data: Any, path: Path) -> None:
    """Written aside, flushed to the disk, then renamed: the file is whole or absent."""
    aside = path.with_name(path.name + ".tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        free = shutil.disk_usage(path.parent).free
        raise RunStopped(
            f"`{path}` cannot be written: {error.strerror or error} ({len(memoryview(data)):,} bytes wanted, {free:,}"
            " free). What was finished is kept; the same command continues once there is room."
        ) from error


def copy_shard(source: Path, target: Path) -> None:
    """A shard of another folder, whole or not at all; what is there stays."""
    if not target.exists():
        _write_bytes(source.read_bytes(), target)


def find_shard(folder: Path, condition: Condition, method: MethodEntry, replicate: int) -> Shard | None:
    """The shard that holds a replicate, None if there is none."""
    for shard in list_shards(folder):
        of_it = shard.condition == condition.id and shard.method == method_stream(method.label)
        if of_it and replicate in shard.replicates:
            return shard
    return None


def read_run(folder: Path | str) -> dict[str, Any]:
    """run.json. Raises StoreError where there is none or it cannot be read."""
    path = Path(folder) / RUN
    if not path.is_file():
        raise StoreError(f"`{folder}` is no results folder: it has no {RUN}. Run a study into it first.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"`{path}` cannot be read: {error}. Remove the folder and run the study again.") from error


def read_rows(folder: Path | str) -> pd.DataFrame:
    """All rows, sorted by (condition, replicate, method, parameter). Shards of before tests have no `p_value`."""
    frame = _read(Path(folder), ROWS)
    if frame.empty:
        return frame
    if "p_value" not in frame:
        frame.insert(frame.columns.get_loc("level") + 1, "p_value", np.nan)  # type: ignore[operator]
    return frame.sort_values(list(KEYS), kind="stable", ignore_index=True)


def read_traces(folder: Path | str) -> pd.DataFrame:
    """All trace rows: condition, replicate, method, iteration, loglik, seconds."""
    frame = _read(Path(folder), TRACES)
    if frame.empty:
        return pd.DataFrame(columns=["condition", "replicate", "method", "iteration", "loglik", "seconds"])
    return frame.sort_values(["condition", "replicate", "method", "iteration"], kind="stable", ignore_index=True)


def _read(folder: Path, part: str) -> pd.DataFrame:
    read_run(folder)
    tables = [read_shard(folder / part / shard.name) for shard in list_shards(folder, part)]
    if not tables:
        return pd.DataFrame()
    return pa.concat_tables(tables, promote_options="default").to_pandas()


def read_shard(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a shard, or those of its columns that it has. Raises StoreError where it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            known = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
            return file.read(known, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"`{path}` cannot be read: {error}. Remove it and run the study again.") from error


def read_provenance(folder: Path | str) -> list[Mapping[str, str]]:
    """Who made each shard: the distinct provenances kept in the shards' metadata."""
    found: dict[str, Mapping[str, str]] = {}
    for shard in list_shards(folder):
        metadata = pq.read_schema(Path(folder) / ROWS / shard.name).metadata or {}
        text = metadata.get(b"vcbench", b"{}").decode()
        found.setdefault(text, json.loads(text))
    return list(found.values())
