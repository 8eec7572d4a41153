"""Running a calibration: blocks of replicates as tasks of the study's runner, rows in the study's store.

A block belongs to the plan: replicates k·block_size … (k + 1)·block_size − 1. Truth and data come from the replicate's
own stream, draws, ties and cells from streams of the method's label, so that the rows do not depend on where, when and
beside what they were made; a run that was stopped continues, and one of 500 replicates grows to 1000 by 500.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import vcbench
from vcbench.errors import VcbenchError
from vcbench.status import Status
from vcbench.study import pool, store
from vcbench.study.plan import gaps
from vcbench.study.progress import now
from vcbench.study.rows import numbers
from vcbench.study.sbc_draw import draw_truth
from vcbench.study.sbc_methods import Judge, Placed
from vcbench.study.sbc_plan import Judged, Plan
from vcbench.study.seeds import canonical_json, generator, method_stream, seed_sequence
from vcbench.study.work import provenance, use_one_thread

KIND = "sbc"
KEPT_JUDGES = 4


@dataclass(frozen=True, slots=True)
class Block:
    """Replicates `first` … `first` + `n` − 1 by one method."""

    judged: Judged
    first: int
    n: int
    methods: tuple[int, ...] = ()  # of a study's task: none is long


@dataclass(frozen=True, slots=True)
class Done:
    """The rows of a block."""

    task: Block
    rows: pa.Table


_judges: dict[tuple[str, str], Judge] = {}


def run_block(plan: Plan, stem: str, block: Block) -> Done:
    """Draw the truths and data of a block, and place them by its method. A judge is built once a process."""
    use_one_thread()
    label, key = block.judged.label, plan.condition.key
    where = plan.spec_hash, label
    if where not in _judges:
        while len(_judges) >= KEPT_JUDGES:
            _judges.pop(next(iter(_judges)))
        _judges[where] = Judge.of(plan, block.judged)
    judge = _judges[where]
    replicates = range(block.first, block.first + block.n)
    truths = [draw_truth(plan, r) for r in replicates]
    seeds = [seed_sequence(plan.seed, key, r, method_stream(label)) for r in replicates]
    rngs = [generator(plan.seed, key, r, method_stream(f"{label}: ranks")) for r in replicates]
    try:
        placed = judge.place_all(truths, seeds, rngs)
    except VcbenchError as error:
        placed = [_lost(judge, Status.SKIPPED, str(error))] * block.n
    return Done(block, _table(plan, label, block.first, placed))


def lose_block(plan: Plan, stem: str, block: Block, status: Status, why: str) -> Done:
    """The rows of a block that could not be run."""
    judge = Judge.of(plan, block.judged)
    return Done(block, _table(plan, block.judged.label, block.first, [_lost(judge, status, why)] * block.n))


def _lost(judge: Judge, status: Status, why: str) -> Placed:
    names = tuple(q.name for q in judge.quantities)
    truth, pit, rank = np.full((3, len(names)), np.nan)
    return Placed(names, truth, pit, rank, 0, status, why)


def _table(plan: Plan, label: str, first: int, placed: list[Placed]) -> pa.Table:
    """One row a (replicate, quantity)."""
    names = [name for one in placed for name in one.names]
    size = [len(one.names) for one in placed]

    def each(values: list[Any]) -> list[Any]:
        return [value for value, k in zip(values, size, strict=True) for _ in range(k)]

    table = pa.table({
        "condition": pa.repeat(plan.condition.id, len(names)),
        "replicate": pa.array(each(list(range(first, first + len(placed)))), pa.int64()),
        "method": pa.repeat(label, len(names)), "parameter": pa.array(names, pa.string()),
        **{key: numbers(np.concatenate([getattr(one, key) for one in placed])) for key in ("truth", "pit", "rank")},
        "n_draws": pa.array(each([one.n_draws for one in placed]), pa.int64()),
        "ess": numbers(np.array(each([one.ess for one in placed]), float)),
        "rhat": numbers(np.array(each([one.rhat for one in placed]), float)),
        "divergences": pa.array(each([one.divergences for one in placed]), pa.int64()),
        "runs": pa.array(each([one.runs for one in placed]), pa.int64()),
        "status": pa.array(each([str(one.status) for one in placed]), pa.string()),
        "message": pa.array(each([one.message for one in placed]), pa.string()),
        "seconds": numbers(np.array(each([one.seconds for one in placed]), float)),
        "cpu_seconds": numbers(np.array(each([one.cpu_seconds for one in placed]), float)),
    })  # fmt: skip
    return table.replace_schema_metadata({"vcbench": canonical_json(provenance())})


def run_plan(
    plan: Plan,
    judged: Judged,
    n: int,
    out: Path | None,
    executor: Executor | None = None,
    workers: int = 1,
    progress: bool = False,
    enough: Any = None,
) -> pd.DataFrame:
    """The rows of replicates 0 … n − 1 by a method: what `out` lacks is run and written there.

    enough(rows) is asked after each block; True ends the run early. Raises StoreError for a folder of another plan, and
    KeyboardInterrupt on Ctrl-C or SIGTERM, with every finished block in the folder.
    """
    from vcbench.study.study import _interrupts

    with contextlib.ExitStack() as stack:
        held = None if out is None else stack.enter_context(store.open_store(out, plan))  # type: ignore[arg-type]
        have: set[int] = set()
        tables: list[pa.Table] = []
        if held is not None:
            have = held.done().get((plan.condition.id, method_stream(judged.label)), set())
            note(held, plan, judged, n)
        blocks = [Block(judged, first, k) for first, k in gaps(n, plan.block_size, have)]
        results = _results(plan, blocks, executor, workers)
        began, finished = time.monotonic(), 0
        asked = stack.enter_context(_interrupts())
        stack.enter_context(contextlib.closing(results))  # type: ignore[type-var]
        for done in results:
            if asked.is_set():
                raise KeyboardInterrupt
            if done is None:
                continue
            finished += done.task.n
            if held is None:
                tables.append(done.rows)
            else:
                if finished == done.task.n:
                    note(held, plan, judged, n, _quantities(done.rows))
                held.write(plan.condition, judged.entry, done.task.first, done.rows, done.task.n, None)
            if progress:
                _say(judged.label, len(have) + finished, n, finished, began, sum(b.n for b in blocks))
            if enough is not None and enough(_rows(out, tables, judged.label, n)):
                break
        if held is not None:
            held.note(finished=now())
    return _rows(out, tables, judged.label, n)


def _results(plan: Plan, blocks: list[Block], executor: Executor | None, workers: int) -> Iterator[Done | None]:
    if executor is not None:
        return pool.run_on(plan, plan.name, blocks, executor, workers, run_block)
    if workers == 1 or len(blocks) < 2:
        return pool.run_here(plan, plan.name, blocks, run_block)
    return pool.run_pool(plan, plan.name, blocks, min(workers, len(blocks)), run_block, lose_block)


def _rows(out: Path | None, tables: list[pa.Table], label: str, n: int) -> pd.DataFrame:
    if out is not None:
        return read_method(out, label, n)
    frame = pa.concat_tables(tables).to_pandas()
    return frame.sort_values("replicate", kind="stable", ignore_index=True)


def read_method(folder: Path | str, label: str, n: int | None = None) -> pd.DataFrame:
    """A method's rows of a run folder (of replicates below n), by replicate, quantities in their own order."""
    frame = store._read(Path(folder), store.ROWS)  # whose columns are not those of a study
    frame = frame[frame["method"] == label] if len(frame) else frame
    if n is not None and len(frame):
        frame = frame[frame["replicate"] < n]
    order = store.read_run(folder)["methods"][label].get("quantities", [])
    place = {name: i for i, name in enumerate(order)}
    by = frame["parameter"].map(place).fillna(len(order)) if len(frame) else pd.Series(dtype=float)
    return frame.assign(by=by).sort_values(["replicate", "by"], kind="stable", ignore_index=True).drop(columns="by")


def _quantities(rows: pa.Table) -> list[str]:
    """The quantities of a block, in their order."""
    return list(dict.fromkeys(rows["parameter"].to_pylist()))


def note(held: store.Store, plan: Plan, judged: Judged, n: int, quantities: list[str] | None = None) -> None:
    """run.json: what a report needs to know."""
    known = store.read_run(held.folder) if (held.folder / store.RUN).is_file() else {}
    methods = dict(known.get("methods", {}))
    before = methods.get(judged.label, {})
    methods[judged.label] = {
        "name": judged.name, "criterion": judged.criterion, "kind": judged.kind, "options": dict(judged.options),
        "scales": list(judged.scales), "mutant": judged.mutant, "n": max(n, before.get("n", 0)),
        "quantities": quantities or before.get("quantities", []),
    }  # fmt: skip
    held.note(
        kind=KIND,
        name=plan.name,
        spec_hash=plan.spec_hash,
        seed=plan.seed,
        priors=plan.priors.explain(),
        beta=None if plan.beta is None else [float(b) for b in plan.beta],
        version=vcbench.__version__,
        methods=methods,
        started=known.get("started") or now(),
        finished=None,
        provenance=provenance(),
    )


def _say(label: str, done: int, n: int, finished: int, began: float, todo: int) -> None:
    """A line on stderr every tenth of the way."""
    if finished == todo or (10 * done) // n != (10 * (done - 1)) // n:
        left = (time.monotonic() - began) / finished * (todo - finished)
        print(f"{now()} {label} {done}/{n} eta={left:.0f}s", file=sys.stderr, flush=True)
