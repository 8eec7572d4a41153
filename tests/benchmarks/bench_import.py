"""Processor time of `import vcbench` against that of `import numpy, scipy, pandas`: the ratio is to be at most 1.3.

uv run python tests/benchmarks/bench_import.py

Each statement runs in fresh interpreters, in turns; the smallest time of each counts, for noise only adds.
"""

import resource
import subprocess
import sys

STATEMENTS = {
    "nothing": "pass",
    "numpy, scipy, pandas": "import numpy, scipy, pandas",
    "vcbench": "import vcbench",
    "vcbench and a Model": "import vcbench; vcbench.Model",
}
TURNS, TARGET = 7, 1.3


def processor_seconds(statement: str) -> float:
    """User and system seconds of an interpreter that runs a statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    best = dict.fromkeys(STATEMENTS, float("inf"))
    for _ in range(TURNS):
        for name, statement in STATEMENTS.items():
            best[name] = min(best[name], processor_seconds(statement))
    base = best["numpy, scipy, pandas"]
    for name, seconds in best.items():
        print(f"{name:<22} {1e3 * seconds:7.0f} ms   {seconds / base:5.2f}")
    return 0 if max(best["vcbench"], best["vcbench and a Model"]) <= TARGET * base else 1


if __name__ == "__main__":
    raise SystemExit(main())
