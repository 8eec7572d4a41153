"""The harness's own price: overhead a fit beside a bare loop of the same fits, and memory for a folder of 10⁷ rows.

    uv run python tests/benchmarks/bench_harness.py overhead                # 1 ms a fit, here and on two processes
    uv run python tests/benchmarks/bench_harness.py rows FOLDER             # make a run folder of 10⁷ rows
    uv run python tests/benchmarks/bench_harness.py memory FOLDER           # what reads it: seconds, peak memory
    uv run python tests/benchmarks/bench_harness.py equal FOLDER            # measures by condition = measures in memory

overhead: 40 rows of two random components, a design of its own for every replicate, so that nothing is fitted in
blocks; `moments` takes about 1 ms a fit. The bare loop draws the same data from the same seeds, fits each by
`vcbench.fit_many` as a study does, reads estimates and standard errors, and keeps nothing. Processor seconds, workers
included, the best of `--rounds`, bare and harness in turn, in a process that has fitted before, so that neither pays
for imports and compiling. Two processes: studies of n and of 3 n fits, so that their start is told from the fits.

rows: a study of 20 conditions, 5 methods and 3 parameters is run for a block of 1000 replicates; its shards are
replicated 34 times as other blocks, estimates moved by a normal error of a tenth of their spread, so that no two
blocks are alike. memory: each command in a process of its own; peak resident memory as the kernel counts it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HEAD = """
title = "The harness's own price"
question = "What does it cost?"
seed = 1
trace = false
"""
ONE_MS = (
    HEAD
    + """
replicates = {n}
block_size = 250
methods = ["moments"]
[[data]]
generator = "variance_components"
n = 40
q = [8, 12]
redraw = true
"""
)
LARGE = (
    HEAD
    + """
replicates = {n}
block_size = 1000
methods = ["ai", "px-em", "moments", {{ name = "ai", label = "ai (ML)", criterion = "ml" }}, "fisher"]
reference = "ai"
rule = "{rule}"
n_max = 100000
[[data]]
generator = "one_way"
n_groups = [6, 10, 15, 20, 30]
group_size = 3
icc = [0.0, 0.1, 0.3, 0.6]
[[acceptance]]
measure = "coverage"
method = ["ai", "fisher"]
parameter = "(Intercept)"
tolerance = 0.04
[[acceptance]]
measure = "bias"
method = ["ai", "ai (ML)"]
"""
)
BLOCK, COPIES = 1000, 34


def cpu() -> float:
    """Processor seconds of this process and of those it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def bare(spec, n: int) -> None:
    """Draw and fit, estimates and standard errors, and nothing else."""
    from vcbench.fit import fit_many
    from vcbench.study.seeds import DATA, generator

    condition = spec.conditions[0]
    for r in range(n):
        rng = generator(spec.table.seed, condition.key, r, DATA)
        one = condition.generator.build(rng)
        model = one.model.replace(y=one.draw([rng])[:, 0])
        found = fit_many(model, model.y[:, None], "moments")
        _ = found.theta, found.beta, found.theta_se, found.beta_se


def overhead(n: int, rounds: int) -> None:
    """Processor seconds a fit: of the bare loop, of the harness here, and of two processes beyond their start."""
    from vcbench.study.study import Study

    made, more = (Study.from_text(ONE_MS.format(n=k), "one ms") for k in (n, 3 * n))
    times: dict[str, list[float]] = {"bare": [], "here": [], "two": [], "two, more": []}
    with tempfile.TemporaryDirectory() as folder:

        def timed(name: str, call) -> None:
            began = cpu()
            call()
            times[name].append(cpu() - began)

        def harness(study: Study, workers: int) -> None:
            out = Path(folder) / str(time.monotonic_ns())
            study.run(out, workers=workers, progress="none", report=False)

        bare(made.spec, 50)
        for i in range(rounds):
            timed("bare", lambda: bare(made.spec, n))
            timed("here", lambda: harness(made, 1))
            if i < 2:
                timed("two", lambda: harness(made, 2))
                timed("two, more", lambda: harness(more, 2))
    best = {name: min(found) for name, found in times.items()}
    each = best["bare"] / n
    print(f"bare loop               {1e3 * each:.3f} ms a fit, {n} fits")
    print(f"harness, this process   {1e3 * best['here'] / n:.3f} ms a fit  {best['here'] / best['bare'] - 1:+.1%}")
    slope = (best["two, more"] - best["two"]) / (2 * n)
    print(f"harness, two processes  {1e3 * slope:.3f} ms a fit  {slope / each - 1:+.1%}, and their start"
          f" {best['two'] - slope * n:.2f} s")  # fmt: skip


def make_rows(folder: Path) -> None:
    """A run folder of 20 × 5 × 3 × 34,000 rows."""
    from vcbench.study.shards import list_shards
    from vcbench.study.store import open_store
    from vcbench.study.study import Study

    made = Study.from_text(LARGE.format(n=BLOCK, rule="fixed"), "large")
    run = made.run(folder, progress="plain", report=False)
    rng = np.random.default_rng(1)
    with open_store(folder, made.spec) as held:
        for shard in list_shards(folder):
            table = pq.read_table(run.folder / "rows" / shard.name)
            estimate = table["estimate"].to_numpy()
            condition = next(c for c in made.spec.conditions if c.id == shard.condition)
            method = next(m for m in made.spec.methods if m.stream == shard.method)
            for k in range(1, COPIES):
                moved = estimate + 0.1 * np.nanstd(estimate) * rng.standard_normal(len(estimate))
                columns = {"estimate": moved, "replicate": table["replicate"].to_numpy() + k * BLOCK}
                copy = table
                for name, values in columns.items():
                    at = copy.schema.get_field_index(name)
                    values = pa.array(values, copy.schema.field(name).type, mask=np.isnan(values))
                    copy = copy.set_column(at, name, values)
                held.write(condition, method, k * BLOCK, copy, BLOCK, None)
        held.note(n_planned=len(made.spec.conditions) * len(made.spec.methods) * BLOCK * COPIES)
    n = sum(pq.read_metadata(folder / "rows" / shard.name).num_rows for shard in list_shards(folder))
    print(f"{n:,} rows in {len(list_shards(folder)):,} shards")


COMMANDS = {
    "import vcbench.cli.app": "import vcbench.cli.app, vcbench.study.study, vcbench.report",
    "study status": "from vcbench.cli.app import run; run(['study', 'status', folder])",
    "check": "from vcbench.cli.app import run; run(['check', folder])",
    "run.measures(), all measures": "from bench_harness import large; print(len(large(folder).measures()))",
    "look of a sequential run": "from bench_harness import look; print(look(folder))",
    "measures FOLDER": "from vcbench.cli.app import run; run(['measures', folder, '--out', folder + '.csv'])",
    "report": "from vcbench.cli.app import run; run(['report', folder, '--out', folder + '.report'])",
}
CHILD = """
import resource, sys, time
folder = sys.argv[1]
began = time.process_time()
{code}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"@ {{peak:.0f}} {{time.process_time() - began:.1f}}")
"""


def large(folder: str):
    """The large run."""
    from vcbench.study.study import Run, Study

    return Run(Path(folder), Study.from_text(LARGE.format(n=BLOCK * COPIES, rule="fixed"), "large").spec)


def look(folder: str) -> dict[str, int]:
    """What a sequential run of the large study does next."""
    from vcbench.study.parts import read_parts
    from vcbench.study.stopping import next_sizes
    from vcbench.study.study import Study

    spec = Study.from_text(LARGE.format(n=BLOCK * COPIES, rule="sequential"), "large").spec
    return next_sizes(spec, read_parts(folder), {c.id: BLOCK * COPIES for c in spec.conditions})


def memory(folder: Path, only: str) -> None:
    """Peak memory and processor seconds of what reads a run folder."""
    print(f"{'command':<32} {'peak MiB':>9} {'cpu s':>8}")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    for name, code in COMMANDS.items():
        if only not in name:
            continue
        done = subprocess.run(
            [sys.executable, "-c", CHILD.format(code=code), str(folder)],
            env=environment,
            capture_output=True,
            text=True,
        )
        said = [line for line in done.stdout.splitlines() if line.startswith("@ ")]
        if not said:
            print(f"{name:<32} failed: {done.stderr[-300:]}")
            continue
        peak, seconds = said[0][2:].split()
        print(f"{name:<32} {peak:>9} {seconds:>8}", flush=True)


def equal(folder: Path) -> None:
    """Measures made condition by condition beside those of all rows in memory."""
    from vcbench.study.measures import measures
    from vcbench.study.store import read_rows

    one = large(str(folder)).measures(only=None)
    rows = read_rows(folder)
    two = measures(rows, reference="ai")
    worst = {}
    for column in ("value", "mcse", "n", "lower", "upper"):
        a, b = one[column].to_numpy(float), two[column].to_numpy(float)
        assert (np.isnan(a) == np.isnan(b)).all()
        worst[column] = float(np.nanmax(np.abs(a - b) / np.maximum(np.abs(b), 1e-300)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {"rows": len(rows), "cells": len(one), "largest relative difference": worst, "peak MiB": round(peak)}
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "rows", "memory", "equal"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--n", type=int, default=5000, help="fits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="the commands whose name holds this")
    asked = parser.parse_args()
    if asked.what == "overhead":
        overhead(asked.n, asked.rounds)
    elif asked.what == "rows":
        make_rows(asked.folder)
    elif asked.what == "equal":
        equal(asked.folder)
    else:
        memory(asked.folder, asked.only)
