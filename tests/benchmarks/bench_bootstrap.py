"""Processor time of a parametric bootstrap against lme4's `bootMer` in the same run: sleepstudy, ML.

    uv run python tests/benchmarks/bench_bootstrap.py [--replicates 1000]

Needs R with lme4. Both sides draw responses from the fitted model and refit by ML on one processor with one BLAS
thread; the fit itself is made before the clock starts, and a first small bootstrap, which compiles or loads, is not
counted.
Ours draws, refits and gives percentile intervals of all parameters; `bootMer` returns fixed effects, SDs and the
correlation of each refit. Prints both times, their ratio, and both sides' standard errors: they differ by Monte Carlo
error alone.
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

SLEEPSTUDY = Path(__file__).resolve().parents[2] / "models" / "data" / "sleepstudy.csv"
FORMULA = "Reaction ~ Days + (Days | Subject)"
QUANTITIES = ["(Intercept)", "Days", "Subject:sd((Intercept))", "Subject:cor((Intercept),Days)", "Subject:sd(Days)",
              "residual:sd"]  # fmt: skip
TARGET = 30

R_CODE = """
suppressPackageStartupMessages(library(lme4))
args <- commandArgs(TRUE); n <- as.integer(args[2])
d <- read.csv(args[1]); d$Subject <- factor(d$Subject)
quiet <- function(x) suppressMessages(suppressWarnings(x))
m <- lmer(Reaction ~ Days + (Days | Subject), d, REML = FALSE)
stat <- function(fit) {
  v <- VarCorr(fit)$Subject
  c(fixef(fit), attr(v, "stddev")[1], attr(v, "correlation")[2, 1], attr(v, "stddev")[2], sigma(fit))
}
invisible(quiet(bootMer(m, stat, nsim = 10, seed = 1)))
t <- proc.time()
b <- quiet(bootMer(m, stat, nsim = n, seed = 2))
t <- proc.time() - t
write.csv(data.frame(cpu = t[["user.self"]] + t[["sys.self"]], se = apply(b$t, 2, sd, na.rm = TRUE)), args[3],
          row.names = FALSE)
"""


def ours(n: int) -> tuple[float, np.ndarray]:
    """Processor seconds of n refits with the table of their intervals, and the standard errors."""
    fit = vc.fit(vc.Model.from_formula(FORMULA, pd.read_csv(SLEEPSTUDY)), criterion="ml")
    fit.bootstrap(20).table(QUANTITIES)
    began = time.process_time()
    table = fit.bootstrap(n, seed=2).table(QUANTITIES)
    return time.process_time() - began, table["se"].to_numpy()


def boot_mer(n: int, folder: Path) -> tuple[float, np.ndarray]:
    """Processor seconds of `bootMer`, and the standard errors."""
    (folder / "bench.R").write_text(R_CODE)
    one_thread = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = ["Rscript", "bench.R", str(SLEEPSTUDY), str(n), "out.csv"]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, **one_thread})
    out = pd.read_csv(folder / "out.csv")
    return float(out["cpu"][0]), out["se"].to_numpy()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--replicates", type=int, default=1000)
    n = arguments.parse_args().replicates
    if shutil.which("Rscript") is None:
        print("Rscript is not here: nothing to compare with", file=sys.stderr)
        return 2
    with threadpool_limits(1), tempfile.TemporaryDirectory() as name:
        mine, se = ours(n)
        theirs, se_r = boot_mer(n, Path(name))
    print(f"{n} refits of sleepstudy (ML): vcbench {mine:.3f} s, bootMer {theirs:.1f} s of processor time;", end=" ")
    print(f"ratio {theirs / mine:.0f} (target {TARGET})")
    for quantity, a, b in zip(QUANTITIES, se, se_r, strict=True):
        print(f"  {quantity:<32} se {a:9.4f}   bootMer {b:9.4f}   ratio {a / b:.3f} ± {1 / np.sqrt(n):.3f}")
    return 0 if theirs / mine >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
