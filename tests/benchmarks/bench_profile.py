"""Processor time of all profile-likelihood intervals of a model against lme4's `confint(profile(m))`, in the same run.

    uv run python tests/benchmarks/bench_profile.py

Needs R with lme4. Both sides use one processor and one BLAS thread, profile the same ML fit under the same level, SDs,
correlations and fixed effects. lme4's is its default `profile` (delta.cutoff = 1/8), the coarser and faster one; the
finer one that the tests compare digits with (1/40) is timed beside it. Ours gives the limits at the root itself, and
pays for nothing before: each call profiles a fit whose kernel is built but which was never profiled.

Prints both times, their ratio, the evaluations of the likelihood, and how far the limits are apart.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import vcbench as vc
from vcbench.inference.profile import profile_interval
from vcbench.inference.variances import rows_of

DATA = Path(__file__).resolve().parents[2] / "models" / "data"
CALLS = 20
TARGET = 10
MODELS = {  # the order of lme4's rows: SDs by its own order of terms, σ, fixed effects
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", None),
    "dyestuff": ("Yield ~ 1 + (1 | Batch)", None),
    "penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", None),
    "pastes": ("strength ~ 1 + (1 | batch/cask)", None),
}

R_CODE = """
suppressPackageStartupMessages(library(lme4))
args <- commandArgs(TRUE)
quiet <- function(x) suppressMessages(suppressWarnings(x))
out <- NULL
for (i in seq(2, length(args), by = 2)) {
  d <- read.csv(args[i], stringsAsFactors = TRUE)
  if ("Subject" %in% names(d)) d$Subject <- factor(d$Subject)
  m <- quiet(lmer(as.formula(args[i + 1]), d, REML = FALSE))
  cpu <- function(expr) { t <- proc.time(); force(expr); t <- proc.time() - t; t[["user.self"]] + t[["sys.self"]] }
  coarse <- cpu(quiet(confint(profile(m, signames = FALSE))))
  fine <- cpu(limits <- quiet(confint(profile(m, delta.cutoff = 1 / 40, signames = FALSE))))
  out <- rbind(out, data.frame(model = i, coarse = coarse, fine = fine, lower = limits[, 1], upper = limits[, 2]))
}
write.csv(format(out, digits = 15), args[1], row.names = FALSE)
"""


def ours(name: str) -> tuple[float, int, np.ndarray]:
    """Processor seconds of all intervals, evaluations of the likelihood, limits (m, 2) in lme4's order."""
    formula, _ = MODELS[name]
    fit = vc.fit(vc.Model.from_formula(formula, pd.read_csv(DATA / f"{name}.csv")), criterion="ml")
    names = [r.name for r in rows_of(fit.facts.theta_names, fit.facts.is_variance, "sd")] + list(fit.facts.beta_names)

    def all_of(fit: vc.Fit) -> list:
        return [profile_interval(fit, n) for n in names]

    all_of(replace(fit, cache={}))  # compiles
    fits = [replace(fit, cache={}) for _ in range(CALLS)]
    began = time.process_time()
    for each in fits:
        found = all_of(each)
    seconds = (time.process_time() - began) / CALLS
    return seconds, sum(i.n_eval for i in found), np.array([(i.lower, i.upper) for i in found])


def lme4(folder: Path) -> pd.DataFrame:
    """model, coarse, fine, lower, upper: a row a parameter."""
    (folder / "bench.R").write_text(R_CODE)
    arguments = [a for name, (formula, _) in MODELS.items() for a in (str(DATA / f"{name}.csv"), formula)]
    one_thread = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = ["Rscript", "bench.R", "out.csv", *arguments]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, **one_thread})
    return pd.read_csv(folder / "out.csv")


def main() -> int:
    if shutil.which("Rscript") is None:
        print("Rscript is not here: nothing to compare with", file=sys.stderr)
        return 2
    with threadpool_limits(1), tempfile.TemporaryDirectory() as name:
        theirs = lme4(Path(name))
        reached = True
        for (model, rows), key in zip(theirs.groupby("model"), MODELS, strict=True):
            assert isinstance(model, int)
            seconds, n_eval, limits = ours(key)
            want = rows[["lower", "upper"]].to_numpy(float)
            apart = np.abs(limits - want) / np.maximum(np.abs(want), 1e-300) * (limits != want)
            coarse, fine = (1e3 * float(rows[c].iloc[0]) for c in ("coarse", "fine"))
            ratio = coarse / (1e3 * seconds)
            reached &= ratio >= TARGET
            print(
                f"{key:<11} {len(rows)} intervals   vcbench {1e3 * seconds:7.2f} ms ({n_eval} evaluations)   "
                f"lme4 {coarse:8.0f} ms (delta 1/40: {fine:6.0f} ms)   ratio {ratio:6.1f}   (target {TARGET})   "
                f"limits apart: {apart.max():.1e}"
            )
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
