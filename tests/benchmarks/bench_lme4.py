"""Processor time against lme4 in the same run: one sleepstudy REML fit, and a study of 1000 replicates of one design.

    uv run python tests/benchmarks/bench_lme4.py [--replicates 1000]

Needs R with lme4. Both sides use one processor and one BLAS thread, and fit the same data. What is timed:

* one fit: `vcbench.fit(model)` from a built Model against `lmer(formula, data)`, means over many calls after a first;
* a study: `vcbench study run` of one design and method in this process, rows and run folder written, against a loop of
  `lmer` (not `refit`: under REML it is wrong in lme4 1.1-31) over the same responses. The study's first run, which
  compiles, is not counted: the second, of another seed, is.

Prints both times, their ratio, and how far the estimates are apart.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import vcbench as vc
from vcbench.study.seeds import DATA, DESIGN, generator
from vcbench.study.spec import Spec

SLEEPSTUDY = Path(__file__).resolve().parents[2] / "models" / "data" / "sleepstudy.csv"
FORMULA = "Reaction ~ Days + (Days | Subject)"
ONE_FIT_TARGET, STUDY_TARGET = 20, 50

STUDY = """
title = "Benchmark: the sleepstudy design"
question = "What does a replicate cost?"
seed = {seed}
replicates = {replicates}
block_size = {replicates}
trace = false
methods = ["auto"]
[[data]]
card = "random_slope"
theta = {{ "Subject:var((Intercept))" = 612.0, "Subject:cov((Intercept),Days)" = 9.6, "Subject:var(Days)" = 35.1, "residual:var" = 655.0 }}
beta = {{ "(Intercept)" = 251.4, "Days" = 10.5 }}
"""  # noqa: E501

R_CODE = """
suppressPackageStartupMessages(library(lme4))
args <- commandArgs(TRUE)
d <- read.csv(args[1]); d$Subject <- factor(d$Subject)
Y <- as.matrix(read.csv(args[2], header = FALSE))
quiet <- function(x) suppressMessages(suppressWarnings(x))
cpu <- function(expr) { t <- proc.time(); force(expr); t <- proc.time() - t; t[["user.self"]] + t[["sys.self"]] }
invisible(quiet(lmer(Reaction ~ Days + (Days | Subject), d)))
one <- cpu(for (i in 1:50) lmer(Reaction ~ Days + (Days | Subject), d)) / 50
sigma2 <- numeric(ncol(Y))
loop <- cpu(quiet(for (i in seq_len(ncol(Y))) {
  d$Reaction <- Y[, i]
  sigma2[i] <- sigma(lmer(Reaction ~ Days + (Days | Subject), d))^2
}))
write.csv(data.frame(one = one, loop = loop, sigma2 = sigma2), args[3], row.names = FALSE)
"""


def one_fit(calls: int = 500) -> float:
    """Processor seconds of one REML fit from a built model."""
    model = vc.Model.from_formula(FORMULA, pd.read_csv(SLEEPSTUDY))
    vc.fit(model)
    models = [vc.Model.from_formula(FORMULA, pd.read_csv(SLEEPSTUDY)) for _ in range(calls)]  # no kernel is there yet
    began = time.process_time()
    for each in models:
        vc.fit(each)
    return (time.process_time() - began) / calls


def one_study(replicates: int, folder: Path) -> tuple[float, np.ndarray, np.ndarray]:
    """Processor seconds of a study in this process, its responses (n, R), and its estimates of σ² (R,)."""
    run = None
    for seed in (1, 2):
        study = vc.Study.from_text(STUDY.format(seed=seed, replicates=replicates), stem=f"bench{seed}")
        began = time.process_time()
        run = study.run(folder / f"run{seed}", workers=1, progress="none", report=False)
        seconds = time.process_time() - began
    assert run is not None
    rows = run.rows
    estimates = rows[rows["parameter"] == "residual:var"].sort_values("replicate")["estimate"].to_numpy()
    return seconds, responses(run.spec, replicates), estimates


def responses(spec: Spec, replicates: int) -> np.ndarray:
    """The study's data (n, R), drawn again from its seed."""
    condition, seed = spec.conditions[0], spec.table.seed
    assert condition.generator is not None
    simulator = condition.generator.build(generator(seed, condition.key, DESIGN))
    return simulator.draw([generator(seed, condition.key, r, DATA) for r in range(replicates)])


def lme4(Y: np.ndarray, folder: Path) -> tuple[float, float, np.ndarray]:
    """Processor seconds of one `lmer` and of a loop over the columns of Y, and the loop's σ²."""
    np.savetxt(folder / "Y.csv", Y, delimiter=",", fmt="%.17g")
    (folder / "bench.R").write_text(R_CODE)
    one_thread = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = ["Rscript", "bench.R", str(SLEEPSTUDY), "Y.csv", "out.csv"]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, **one_thread})
    out = pd.read_csv(folder / "out.csv")
    return float(out["one"][0]), float(out["loop"][0]), out["sigma2"].to_numpy()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--replicates", type=int, default=1000)
    replicates = arguments.parse_args().replicates
    if shutil.which("Rscript") is None:
        print("Rscript is not here: nothing to compare with", file=sys.stderr)
        return 2
    with threadpool_limits(1), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = one_fit()
        study, Y, sigma2 = one_study(replicates, folder)
        theirs, loop, sigma2_r = lme4(Y, folder)
    apart = np.abs(sigma2 / sigma2_r - 1)
    for what, mine, other, target in (
        ("one REML fit", ours, theirs, ONE_FIT_TARGET),
        (f"{replicates} replicates", study, loop, STUDY_TARGET),
    ):
        ratio = f"ratio {other / mine:6.1f}   (target {target})"
        print(f"{what:<16} vcbench {1e3 * mine:9.3f} ms   lmer {1e3 * other:11.3f} ms   {ratio}")
    print(f"relative difference of the residual variance: median {np.median(apart):.1e}, largest {apart.max():.1e}")
    return 0 if theirs / ours >= ONE_FIT_TARGET and loop / study >= STUDY_TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
