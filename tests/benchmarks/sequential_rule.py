"""What the sequential rule of acceptance does, by simulation: verdicts and replicates needed.

    uv run python tests/benchmarks/sequential_rule.py [--runs 10000] [--out reports/sequential_rule]

A run looks after each batch of 100 replicates and stops at FAIL or PASS, or at n_max: 2000, the default, and 10,000.
Coverage: the tolerance region is .95 ± .02, bias: 0 ± .1 empirical SE (the defaults), the estimates normal; α is the
share of one check in the alarm budget of a run. The rows where the truth lies inside the region show false alarms,
which must stay below α.
"""

import argparse
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd

from vcbench.study.sequences import LEAST, mean_bounds, proportion_bounds

BATCH = 100
TRUTHS = {"coverage": (0.95, 0.94, 0.93, 0.90), "bias": (0.0, 0.05, 0.1, 0.2)}


def ends(
    lower: np.ndarray, upper: np.ndarray, low: float, high: float, looks: np.ndarray, first: int
) -> tuple[np.ndarray, np.ndarray]:
    """(verdict, n) of each run (row) from the sequences at every look (column)."""
    may = first <= looks
    fails = ((upper < low) | (lower > high)) & may
    passes = (low <= lower) & (upper <= high) & may
    done = fails | passes
    at = np.where(done.any(axis=1), done.argmax(axis=1), len(looks) - 1)
    run = np.arange(len(at))
    word = np.where(fails[run, at], "FAIL", np.where(passes[run, at], "PASS", "INCONCLUSIVE"))
    return word, looks[at]


def coverage(
    truth: float, alpha: float, runs: int, looks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    hits = np.cumsum(rng.binomial(BATCH, truth, (runs, len(looks))), axis=1)
    return ends(*proportion_bounds(hits, looks, 0.95, alpha), 0.93, 0.97, looks, 0)


def bias(
    truth: float, alpha: float, runs: int, looks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    total = np.cumsum(rng.normal(truth * BATCH, math.sqrt(BATCH), (runs, len(looks))), axis=1)
    squares = np.cumsum(rng.chisquare(BATCH - 1, (runs, len(looks))), axis=1)
    sd = np.sqrt(squares / (looks - looks / BATCH))  # within batches
    lower, upper = mean_bounds(total / looks, sd, looks, alpha, looks[-1])
    return ends(lower / sd, upper / sd, -0.1, 0.1, looks, LEAST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rng, rows = np.random.default_rng(20261121), []
    for n_max, alpha, measure in itertools.product((2000, 10_000), (1e-2, 1e-4), TRUTHS):
        looks = np.arange(BATCH, n_max + 1, BATCH)
        for truth in TRUTHS[measure]:
            word, n = {"coverage": coverage, "bias": bias}[measure](truth, alpha, arguments.runs, looks, rng)
            share = {w: float((word == w).mean()) for w in ("FAIL", "PASS", "INCONCLUSIVE")}
            rows.append({"n_max": n_max, "alpha": alpha, "measure": measure, "truth": truth, **share})
            rows[-1]["median n"] = int(np.median(n))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    if arguments.out:
        table.to_csv(arguments.out / "summary.csv", index=False)


if __name__ == "__main__":
    main()
